/** JSON-RPC 2.0 as MCP uses it: exactly one message, no arrays. Source: contracts 3 (Bytes), mcp 1.4, security 2.5. */
import { GatewayError } from '../../core/errors.ts';
import type { JsonObject, JsonValue } from '../../core/json.ts';
import { isJsonObject } from '../../core/json.ts';

export type RpcId = string | number;

/** A request (`id` set) or a notification (`id` undefined). */
export interface RpcCall {
  readonly kind: 'call';
  readonly id: RpcId | undefined;
  readonly method: string;
  readonly params: JsonObject;
}

/** An answer to a request of the other side. */
export interface RpcAnswer {
  readonly kind: 'answer';
  readonly id: RpcId;
}

export type Envelope = RpcCall | RpcAnswer;

/** JSON-RPC and MCP error codes: those of the specifications, and our own outside -32768..-32000. Source: contracts 4, mcp 1.3. */
export const RPC = {
  parse: -32700,
  invalidRequest: -32600,
  methodNotFound: -32601,
  invalidParams: -32602,
  internal: -32603,
  headerMismatch: -32020,
  unsupportedVersion: -32022,
  unauthenticated: -31401,
  denied: -31403,
  notFound: -31404,
  approvalRequired: -31410,
  limited: -31429,
  unavailable: -31503,
} as const;

/** What an error answer needs besides the GatewayError. */
export interface RpcDetail {
  readonly code: number;
  /** Null: the id could not be read. */
  readonly id: RpcId | null;
  readonly data?: JsonObject;
}

const details = new WeakMap<GatewayError, RpcDetail>();

/** Remembers how JSON-RPC says this error. */
export function withDetail(error: GatewayError, detail: RpcDetail): GatewayError {
  details.set(error, detail);
  return error;
}

export function detailOf(error: GatewayError): RpcDetail | undefined {
  return details.get(error);
}

/** INVALID_REQUEST with a JSON-RPC code. `message` is shown to the caller. */
export function badRequest(message: string, code: number, id: RpcId | null = null): GatewayError {
  return withDetail(new GatewayError('INVALID_REQUEST', { message }), { code, id });
}

/** A string or a number that every JSON parser reads alike; the specification forbids null for requests. */
function readId(value: JsonValue): RpcId | null {
  if (typeof value === 'string') return value.length <= 1024 ? value : null;
  return typeof value === 'number' && Number.isSafeInteger(value) && !Object.is(value, -0) ? value : null;
}

const MEMBERS = names('jsonrpc', 'id', 'method', 'params', 'result', 'error');
/** Members of `params`, and of the objects in it, that a decision rests on. */
const DECISIVE = names('name', 'arguments', 'uri', 'taskId', 'ref', 'notifications', 'resourceSubscriptions', '_meta');
const NESTED = names('type', 'name', 'uri', 'resourceSubscriptions');

interface Names {
  readonly exact: ReadonlySet<string>;
  readonly folded: ReadonlySet<string>;
}

function names(...exact: readonly string[]): Names {
  return { exact: new Set(exact), folded: new Set(exact.map((name) => name.toLowerCase())) };
}

/** Some JSON readers ignore case and fold a few letters (U+017F, U+212A): a key that only they would see is ambiguous. */
export function hasTwinKey(message: JsonObject, { exact, folded }: Names = MEMBERS): boolean {
  for (const key in message) {
    if (exact.has(key)) continue;
    // NFKC turns U+017F into s and U+212A into K, as case folding does.
    if (folded.has(key.normalize('NFKC').toLowerCase())) return true;
  }
  return false;
}

/** The same for what a request asks: the server must not read another name or other arguments than were decided on. */
function hasTwinParameter(params: JsonObject): boolean {
  if (hasTwinKey(params, DECISIVE)) return true;
  const { ref, notifications } = params;
  return (
    (isJsonObject(ref) && hasTwinKey(ref, NESTED)) || (isJsonObject(notifications) && hasTwinKey(notifications, NESTED))
  );
}

/** Reads the one message of a request body. Throws INVALID_REQUEST with the JSON-RPC code and, if it has one, the id. */
export function readEnvelope(value: JsonValue): Envelope {
  if (Array.isArray(value)) throw badRequest('Batches are not supported', RPC.invalidRequest);
  if (!isJsonObject(value)) throw badRequest('The body must be one JSON-RPC message', RPC.invalidRequest);
  const id = value.id === undefined ? undefined : readId(value.id);
  const echo = id ?? null;
  if (value.jsonrpc !== '2.0') throw badRequest('jsonrpc must be "2.0"', RPC.invalidRequest, echo);
  if (hasTwinKey(value)) throw badRequest('A member name differs only by case', RPC.invalidRequest, echo);
  if (id === null) throw badRequest('id must be a string or an integer', RPC.invalidRequest);
  return 'method' in value ? readCall(value, id) : readAnswer(value, id);
}

function readCall(value: JsonObject, id: RpcId | undefined): RpcCall {
  const { method, params } = value;
  const echo = id ?? null;
  if (typeof method !== 'string' || method === '' || method.length > 256) {
    throw badRequest('method must be a name', RPC.invalidRequest, echo);
  }
  if ('result' in value || 'error' in value) {
    throw badRequest('A request has neither result nor error', RPC.invalidRequest, echo);
  }
  if (params !== undefined && !isJsonObject(params)) {
    throw badRequest('params must be an object', RPC.invalidParams, echo);
  }
  if (params !== undefined && hasTwinParameter(params)) {
    throw badRequest('A parameter name differs only by case', RPC.invalidParams, echo);
  }
  return { kind: 'call', id, method, params: params ?? EMPTY };
}

function readAnswer(value: JsonObject, id: RpcId | undefined): RpcAnswer {
  const oneOfTwo = 'result' in value !== 'error' in value;
  if (id === undefined || !oneOfTwo) throw badRequest('The body must be one JSON-RPC message', RPC.invalidRequest);
  return { kind: 'answer', id };
}

export const EMPTY: JsonObject = Object.freeze(Object.create(null) as JsonObject);
