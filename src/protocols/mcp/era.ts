/**
 * Which protocol generation a request speaks, and whether its headers agree with its body. Legacy revisions are
 * stateful (initialize, session id); from 2026-07-28 on every request stands alone. Source: mcp 1.1, 1.3, 1.4, 1.5.
 */
import { GatewayError } from '../../core/errors.ts';
import type { JsonValue } from '../../core/json.ts';
import { isJsonObject } from '../../core/json.ts';
import type { RpcCall, RpcId } from './envelope.ts';
import { badRequest, RPC, withDetail } from './envelope.ts';

export type Era = 'legacy' | 'modern';

export const MODERN_VERSION = '2026-07-28';
export const LEGACY_VERSIONS: readonly string[] = ['2024-11-05', '2025-03-26', '2025-06-18', '2025-11-25'];
/** Legacy revisions are negotiated by `initialize`, never by this error. */
const SUPPORTED: readonly string[] = [MODERN_VERSION];

export const META_VERSION = 'io.modelcontextprotocol/protocolVersion';
export const META_CAPABILITIES = 'io.modelcontextprotocol/clientCapabilities';

type Headers = Readonly<Record<string, string>>;

/** The era the header alone claims; only good enough for requests without a body. Throws for a version nobody knows. */
export function headerEra(headers: Headers): Era {
  const version = headers['mcp-protocol-version'];
  // A missing header means 2025-03-26.
  if (version === undefined || LEGACY_VERSIONS.includes(version)) return 'legacy';
  if (version === MODERN_VERSION) return 'modern';
  throw unsupported(version, null);
}

/** True when an error has to be told in the modern way: never throws. */
export function looksModern(headers: Headers): boolean {
  const version = headers['mcp-protocol-version'];
  return version !== undefined && !LEGACY_VERSIONS.includes(version);
}

function unsupported(requested: string, id: RpcId | null): GatewayError {
  const error = new GatewayError('UNSUPPORTED_PROTOCOL_VERSION', { details: { supported: SUPPORTED } });
  return withDetail(error, { code: RPC.unsupportedVersion, id, data: { supported: SUPPORTED, requested } });
}

/** HEADER_MISMATCH for a request with this id. */
export function mismatch(message: string, id: RpcId | undefined): GatewayError {
  return withDetail(new GatewayError('HEADER_MISMATCH', { message }), { code: RPC.headerMismatch, id: id ?? null });
}

/**
 * The era of a message with a body. A message claims to be modern by its header or by its `_meta`; then both must be
 * there and equal, because one of them is what another component on the way believes.
 */
export function callEra(headers: Headers, call: RpcCall): Era {
  const header = headers['mcp-protocol-version'];
  const meta = call.params._meta;
  if (meta !== undefined && !isJsonObject(meta)) throw invalidMeta('_meta must be an object', call);
  const claimed = meta?.[META_VERSION];
  if (claimed === undefined) return headerOnlyEra(header, call);
  if (typeof claimed !== 'string') throw invalidMeta(`_meta ${META_VERSION} must be a string`, call);
  if (header === undefined) throw mismatch('MCP-Protocol-Version is missing', call.id);
  if (header !== claimed) throw mismatch('MCP-Protocol-Version differs from _meta', call.id);
  if (claimed !== MODERN_VERSION) throw unsupported(claimed, call.id ?? null);
  if (call.id !== undefined && !isJsonObject(meta?.[META_CAPABILITIES])) {
    throw invalidMeta(`_meta ${META_CAPABILITIES} is required`, call);
  }
  return 'modern';
}

function headerOnlyEra(header: string | undefined, call: RpcCall): Era {
  if (header === undefined || LEGACY_VERSIONS.includes(header)) return 'legacy';
  if (header !== MODERN_VERSION) throw unsupported(header, call.id ?? null);
  if (call.id !== undefined) throw invalidMeta(`_meta ${META_VERSION} is required`, call);
  return 'modern';
}

function invalidMeta(message: string, call: RpcCall): GatewayError {
  return badRequest(message, RPC.invalidParams, call.id ?? null);
}

/** The member of params that `Mcp-Name` repeats. */
const NAMED_BY: ReadonlyMap<string, string> = new Map([
  ['tools/call', 'name'],
  ['prompts/get', 'name'],
  ['resources/read', 'uri'],
  ['tasks/get', 'taskId'],
  ['tasks/update', 'taskId'],
  ['tasks/cancel', 'taskId'],
]);

/** Modern only: `Mcp-Method` and `Mcp-Name` must say what the body says. Throws HEADER_MISMATCH. */
export function checkMirrors(headers: Headers, call: RpcCall): void {
  const method = headers['mcp-method'];
  if (method === undefined) {
    if (call.id !== undefined) throw mismatch('Mcp-Method is missing', call.id);
  } else if (method !== call.method) {
    throw mismatch('Mcp-Method differs from the body', call.id);
  }
  checkName(headers['mcp-name'], call);
}

function checkName(header: string | undefined, call: RpcCall): void {
  const member = NAMED_BY.get(call.method);
  if (member === undefined) {
    // Nothing in the body backs it, and a router on the way could act on it.
    if (header !== undefined) throw mismatch('Mcp-Name is not used with this method', call.id);
    return;
  }
  const value = call.params[member];
  if (header === undefined) throw mismatch('Mcp-Name is missing', call.id);
  if (typeof value !== 'string' || decodeMirror(header) !== value) {
    throw mismatch('Mcp-Name differs from the body', call.id);
  }
}

const SENTINEL_START = '=?base64?';
const SENTINEL_END = '?=';

/**
 * The text a mirrored header stands for, or null when it cannot be one: plain printable ASCII as it is, anything else as
 * `=?base64?…?=` over UTF-8 (canonical base64, padded). Source: mcp 1.4 (SEP-2243).
 */
export function decodeMirror(header: string): string | null {
  if (header.startsWith(SENTINEL_START) && header.endsWith(SENTINEL_END)) return decodeSentinel(header);
  for (let i = 0; i < header.length; i++) {
    const code = header.charCodeAt(i);
    if (code !== 0x09 && (code < 0x20 || code > 0x7e)) return null;
  }
  return header;
}

function decodeSentinel(header: string): string | null {
  if (header.length < SENTINEL_START.length + SENTINEL_END.length) return null;
  const encoded = header.slice(SENTINEL_START.length, -SENTINEL_END.length);
  const bytes = Buffer.from(encoded, 'base64');
  // Buffer skips what is not base64; only what it would write itself was really read.
  if (bytes.toString('base64') !== encoded) return null;
  const text = bytes.toString('utf8');
  return Buffer.byteLength(text) === bytes.length && Buffer.from(text, 'utf8').equals(bytes) ? text : null;
}

/** The header form of a text; the reverse of `decodeMirror`. */
export function encodeMirror(text: string): string {
  const isPlain = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(text);
  const looksEncoded = text.startsWith(SENTINEL_START) && text.endsWith(SENTINEL_END);
  if (isPlain && !looksEncoded) return text;
  return SENTINEL_START + Buffer.from(text, 'utf8').toString('base64') + SENTINEL_END;
}

/** Where a tool's schema says that a header repeats an argument (`x-mcp-header`). */
export interface MirroredParam {
  /** Lower-case header name, `mcp-param-…`. */
  readonly header: string;
  /** Member names from the arguments down. */
  readonly path: readonly string[];
  readonly type: 'string' | 'integer' | 'boolean';
}

/** Modern only: each argument the schema mirrors must have an equal header, and an absent one none. */
export function checkParams(headers: Headers, call: RpcCall, mirrored: readonly MirroredParam[]): void {
  for (const param of mirrored) {
    const value = valueAt(call.params.arguments, param.path);
    const header = headers[param.header];
    if (value === undefined || value === null) {
      if (header !== undefined) throw mismatch(`${param.header} repeats an argument that is absent`, call.id);
    } else if (header === undefined) {
      throw mismatch(`${param.header} is missing`, call.id);
    } else if (!isEqual(decodeMirror(header), value)) {
      throw mismatch(`${param.header} differs from the body`, call.id);
    }
  }
}

/** The value at a path of own members, or undefined. */
export function valueAt(root: JsonValue | undefined, path: readonly string[]): JsonValue | undefined {
  let value = root;
  for (const name of path) {
    if (!isJsonObject(value) || !Object.hasOwn(value, name)) return undefined;
    value = value[name];
  }
  return value;
}

const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

/** Integers are compared as numbers (42 and 42.0 are equal), everything else as text. */
function isEqual(header: string | null, value: JsonValue): boolean {
  if (header === null) return false;
  if (typeof value === 'string') return header === value;
  if (typeof value === 'boolean') return header === String(value);
  return typeof value === 'number' && NUMBER.test(header) && Number(header) === value;
}
