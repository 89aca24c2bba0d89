/**
 * Errors in JSON-RPC words. A refusal by policy is a successful HTTP exchange with an error answer; HTTP status codes
 * speak of authentication, of the transport and of malformed requests. Source: contracts 4, mcp 1.3.
 */
import type { ErrorCode, GatewayError } from '../../core/errors.ts';
import type { Reply } from '../../core/exchange.ts';
import type { JsonValue } from '../../core/json.ts';
import type { ErrorContext } from '../protocol.ts';
import { errorText, resultText } from './answers.ts';
import type { RpcDetail, RpcId } from './envelope.ts';
import { RPC } from './envelope.ts';

/** How the request wants to be refused; noted while decoding. */
export interface DenialNote {
  /** The upstream has no say about this method: a modern client is told that it does not exist. */
  readonly isUnknownMethod: boolean;
  /** A tool call on a route with `denial: result`. */
  readonly asResult: boolean;
  readonly isModern: boolean;
}

const PLAIN: DenialNote = { isUnknownMethod: false, asResult: false, isModern: false };

/** Codes with their own JSON-RPC code; others go by status. */
const BY_CODE: Partial<Record<ErrorCode, number>> = {
  HEADER_MISMATCH: RPC.headerMismatch,
  UNSUPPORTED_PROTOCOL_VERSION: RPC.unsupportedVersion,
  INTERNAL_ERROR: RPC.internal,
  APPROVAL_REQUIRED: RPC.approvalRequired,
  APPROVAL_INVALID: RPC.approvalRequired,
};

/** The JSON-RPC error code of a gateway error. */
export function rpcCode(error: GatewayError): number {
  const own = BY_CODE[error.code];
  if (own !== undefined) return own;
  if (error.status >= 500) return RPC.unavailable;
  switch (error.status) {
    case 401:
      return RPC.unauthenticated;
    case 402:
    case 403:
      return RPC.denied;
    case 404:
      return RPC.notFound;
    case 429:
      return RPC.limited;
    default:
      return RPC.invalidRequest;
  }
}

/** Those that speak of credentials, whatever these can do about it, and of our own faults. */
const NO_ANSWER: ReadonlySet<ErrorCode> = new Set(['INSUFFICIENT_SCOPE', 'INTERNAL_ERROR']);

/** True for ends that are told as an answer (HTTP 200): the request was understood, and a client waits for its id. */
function isAnswer(error: GatewayError): boolean {
  if (error.extras.challenge !== undefined || NO_ANSWER.has(error.code)) return false;
  return error.status === 403 || error.status === 429 || error.status === 402 || error.status >= 500;
}

export function encodeDenial(
  error: GatewayError,
  context: ErrorContext,
  detail: RpcDetail | undefined,
  note: DenialNote = PLAIN,
): Reply {
  const id: RpcId | null = detail?.id ?? rpcIdOf(context.rpcId);
  const data = denialData(error, context, detail);
  const code = detail?.code ?? rpcCode(error);
  const isDenied = code === RPC.denied || code === RPC.approvalRequired || code === RPC.limited;
  if (note.isUnknownMethod && isDenied) {
    return reply(404, error, errorText(id, RPC.methodNotFound, 'Method not found', data));
  }
  const hasAnswer = id !== null && isAnswer(error);
  if (note.asResult && hasAnswer) return reply(200, error, resultText(id, toolResult(error, note, data)));
  return reply(hasAnswer ? 200 : error.status, error, errorText(id, code, error.message, data));
}

function rpcIdOf(id: JsonValue | undefined): RpcId | null {
  return typeof id === 'string' || typeof id === 'number' ? id : null;
}

/** What the caller may know: never a package, a rule or an input. */
function denialData(
  error: GatewayError,
  context: ErrorContext,
  detail: RpcDetail | undefined,
): Readonly<Record<string, unknown>> {
  const { extras } = error;
  return {
    ...extras.data,
    ...detail?.data,
    code: error.code,
    reasons: extras.reasons ?? [],
    request_id: context.requestId,
    ...(context.decisionId === null ? {} : { decision_id: context.decisionId }),
    ...(extras.retryAfter === undefined ? {} : { retry_after: extras.retryAfter }),
    ...(extras.details === undefined ? {} : { details: extras.details }),
  };
}

/** Models read the text of tool results, and few clients show them errors. */
function toolResult(
  error: GatewayError,
  note: DenialNote,
  data: Readonly<Record<string, unknown>>,
): Readonly<Record<string, unknown>> {
  const result = {
    content: [{ type: 'text', text: `${error.code}: ${error.message}` }],
    isError: true,
    _meta: { 'portcullis/denial': data },
  };
  return note.isModern ? { resultType: 'complete', ...result } : result;
}

function reply(status: number, error: GatewayError, body: string): Reply {
  const headers: Record<string, string> = { 'content-type': 'application/json' };
  if (error.extras.challenge !== undefined) headers['www-authenticate'] = error.extras.challenge;
  if (error.extras.retryAfter !== undefined) headers['retry-after'] = String(error.extras.retryAfter);
  return { status, headers, body };
}
