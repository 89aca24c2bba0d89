/**
 * `POST /api/v1/keys/validate`: whether a key of this service is good, for the gateways that let it in. The key is its own
 * credential; who asks learns nothing but what the key is. Source: acceptance H-03, H-04, HW-01, HW-02.
 */
import { z } from 'zod';
import { GatewayError } from '../core/errors.ts';
import { ANONYMOUS, type Principal } from '../core/principal.ts';
import type { Endpoint, EndpointReply, EndpointRequest } from '../protocols/endpoint.ts';
import type { ApiKeyRecord } from '../stores/api-keys.ts';
import type { KeyUsageStore } from '../stores/key-usage.ts';
import { readCredentials } from './credentials.ts';
import { keyMatches, parseKey } from './key-format.ts';
import { addressList, type KeyIssuing } from './key-issuing.ts';
import { principalOfKey } from './providers/api-key.ts';

export interface KeyValidationOptions {
  readonly issuing: Omit<KeyIssuing, 'environment' | 'shared'>;
  readonly usage: KeyUsageStore;
  /** Why the principal of a key may do nothing now, whatever the key says; null when it may. */
  refusalOf(principal: Principal): GatewayError | null;
  onFailure(error: unknown): void;
}

export const VALIDATE_PATH = '/api/v1/keys/validate';
/** Name of the provider in audit records. */
const PROVIDER = 'key-service';

const body = z.strictObject({
  api_key: z.string().min(1).max(512).optional(),
  service_id: z.string().min(1).max(128).optional(),
  client_ip: z.union([z.ipv4(), z.ipv6()]).nullish(),
});
type Body = z.output<typeof body>;

/** RFC 9110 15.5.2: every 401 says how to do better. */
const CHALLENGE = 'Bearer realm="portcullis", error="invalid_token"';

export function keyValidationEndpoint(options: KeyValidationOptions): Endpoint {
  return {
    method: 'POST',
    path: VALIDATE_PATH,
    access: 'anyone',
    body: { schema: body },
    answer: (request) => validate(options, request as EndpointRequest<Body>),
  };
}

/**
 * Who asks: the key itself, or nobody. Never an error: a bad key is what the question is about, and must not count
 * against the address of the gateway that asks.
 */
export async function validatingPrincipal(
  options: KeyValidationOptions,
  headers: Readonly<Record<string, string>>,
): Promise<Principal> {
  const presented = readCredentials(headers);
  const first = presented instanceof GatewayError ? undefined : presented[0];
  const record = first === undefined ? null : await prove(options, first.value.reveal());
  if (record === null || standing(record, options.issuing.clock.now()) !== null) return ANONYMOUS;
  // Asking whether a key is good uses up nothing of it.
  return principalOfKey({ ...record, facts: { ...record.facts, rate_limit_per_hour: null } }, PROVIDER);
}

/** The record of a key whose text is right, in whatever state it is. */
async function prove({ issuing }: KeyValidationOptions, text: string): Promise<ApiKeyRecord | null> {
  const parsed = parseKey(text);
  if (parsed === null) return null;
  const record = await issuing.keys.find(parsed.id);
  if (record === null || !keyMatches(text, issuing.pepper, record.hash)) return null;
  return record.prefix === parsed.prefix && record.environment === parsed.environment ? record : null;
}

function standing({ revoked_at, expires_at }: ApiKeyRecord, now: number): GatewayError | null {
  if (revoked_at !== null) return new GatewayError('TOKEN_REVOKED', { challenge: CHALLENGE });
  if (expires_at !== null && expires_at <= now) return new GatewayError('TOKEN_EXPIRED', { challenge: CHALLENGE });
  return null;
}

async function validate(options: KeyValidationOptions, request: EndpointRequest<Body>): Promise<EndpointReply> {
  const { exchange, body: asked } = request;
  const { received } = exchange;
  const record = await prove(options, presentedKey(received.headers, asked.api_key));
  if (record === null) throw new GatewayError('INVALID_CREDENTIALS', { challenge: CHALLENGE });
  const now = received.receivedAt;
  const fault = standing(record, now);
  if (fault !== null) throw fault;
  const off = options.refusalOf(principalOfKey(record, PROVIDER));
  if (off !== null) throw off;
  requireUse(record, asked, received.peer.address);
  // Not waited for: whether it is written changes nothing about the key.
  note(options, record.id, now).catch(options.onFailure);
  return { status: 200, body: resultOf(record) };
}

async function note({ issuing, usage }: KeyValidationOptions, id: string, now: number): Promise<void> {
  await issuing.keys.touch(new Map([[id, now]]));
  await usage.count(id, now);
}

/** Header or body, but not two different keys. */
function presentedKey(headers: Readonly<Record<string, string>>, inBody: string | undefined): string {
  const presented = readCredentials(headers);
  if (presented instanceof GatewayError) throw presented;
  const texts = new Set(presented.map(({ value }) => value.reveal()));
  if (inBody !== undefined) texts.add(inBody);
  const [text, more] = texts;
  if (text === undefined) throw new GatewayError('MISSING_CREDENTIALS', { challenge: 'Bearer realm="portcullis"' });
  if (more !== undefined) throw new GatewayError('INVALID_REQUEST', { message: 'One question is about one key' });
  return text;
}

/** Good, but perhaps not for this service or from there. */
function requireUse({ facts }: ApiKeyRecord, { service_id, client_ip }: Body, peer: string): void {
  const own = facts.metadata.service_id;
  if (service_id !== undefined && own !== undefined && own !== service_id) {
    throw new GatewayError('FORBIDDEN', { message: 'The key is for another service' });
  }
  const from = client_ip ?? peer;
  const allowed = addressList(facts.allowed_ips);
  if (allowed !== null && !allowed.check(from, from.includes(':') ? 'ipv6' : 'ipv4')) {
    throw new GatewayError('FORBIDDEN', { message: 'The key may not be used from this address' });
  }
}

/** `ValidationResult`; what one may do is all in the scopes. */
function resultOf({ id, owner_id, facts, expires_at }: ApiKeyRecord) {
  return {
    is_valid: true,
    user_id: owner_id,
    email: facts.email,
    key_id: id,
    service_id: facts.metadata.service_id ?? null,
    scopes: [...new Set([...facts.scopes, ...facts.permissions])],
    roles: facts.roles,
    is_admin: facts.roles.includes('admin'),
    rate_limit_per_hour: facts.rate_limit_per_hour,
    error: null,
    has_sufficient_balance: true,
    balance: null,
    error_type: null,
    expires_at: expires_at === null ? null : new Date(expires_at).toISOString(),
  };
}
