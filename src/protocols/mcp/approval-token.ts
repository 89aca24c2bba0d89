/**
 * The approval token in a message. It is for the gateway alone: it is taken out, and nothing else of the message changes
 * its meaning to the digit. Source: contracts 3 (Bytes) and 7.
 */
import { GatewayError } from '../../core/errors.ts';
import type { JsonObject, JsonValue } from '../../core/json.ts';
import { isJsonObject } from '../../core/json.ts';
import { parseExact } from '../redaction.ts';
import type { RpcCall } from './envelope.ts';
import { RPC, withDetail } from './envelope.ts';

/** The member of `_meta` that holds it. */
export const APPROVAL_META = 'portcullis/approval';

/** The token, or null when the message has none. Throws APPROVAL_INVALID for something else in its place. */
export function approvalTokenIn({ params, id }: RpcCall): string | null {
  const token = tokenIn(params);
  if (token !== undefined) return token;
  const message = 'The approval token must be a text';
  const error = new GatewayError('APPROVAL_INVALID', { message, data: { why: 'malformed' } });
  throw withDetail(error, { code: RPC.approvalRequired, id: id ?? null });
}

/** The token below `_meta` of any object: null without one, undefined when it is no text. */
export function tokenIn({ _meta: meta }: JsonObject): string | null | undefined {
  if (!isJsonObject(meta) || !Object.hasOwn(meta, APPROVAL_META)) return null;
  const token = meta[APPROVAL_META];
  return typeof token === 'string' && token !== '' ? token : undefined;
}

/** The same message without the token; `_meta` goes too when it held nothing else. */
export function withoutApprovalToken(body: Buffer): Buffer {
  // The bytes were read as a call with this member before.
  const message = parseExact(body.toString('utf8')) as JsonObject;
  const { _meta, ...params } = message.params as JsonObject;
  const { [APPROVAL_META]: _token, ...meta } = _meta as JsonObject;
  const kept: JsonObject = Object.keys(meta).length === 0 ? params : { ...params, _meta: meta };
  return Buffer.from(JSON.stringify({ ...message, params: kept } satisfies Record<string, JsonValue>));
}
