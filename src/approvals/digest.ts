/** What makes two calls the same call: digests over canonical JSON. Source: design 2.4, RFC 8785 (order of members). */
import { hash } from 'node:crypto';
import type { Classified } from '../core/exchange.ts';
import type { JsonObject, JsonValue } from '../core/json.ts';
import { isJsonObject } from '../core/json.ts';
import { canBeShown } from './showable.ts';

/**
 * JSON with the members of each object in the order of their names' UTF-16 units and no white space. Numbers keep the
 * spelling they were sent in where JavaScript would write another one: what two readers could round differently differs.
 */
export function canonicalJson(value: JsonValue): string {
  if (typeof value !== 'object' || value === null || JSON.isRawJSON(value)) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map((item: JsonValue) => canonicalJson(item)).join(',')}]`;
  const object = value as JsonObject;
  const members = Object.keys(object)
    .sort()
    .map((name) => `${JSON.stringify(name)}:${canonicalJson(object[name] ?? null)}`);
  return `{${members.join(',')}}`;
}

/** `sha256:<hex>` of the canonical form. */
export function digestOf(value: JsonValue): string {
  return `sha256:${hash('sha256', canonicalJson(value))}`;
}

/** What an approval of a call is about. */
export interface Arguments {
  readonly digest: string;
  /** What an approver has to see; secrets are not out yet. */
  readonly shown: JsonValue;
}

/** Members of `_meta` that differ from one try to the next and say nothing about what is done. */
const VOLATILE_META = new Set(['progressToken', 'traceparent', 'tracestate', 'baggage', 'portcullis/approval']);

/** Members of `_meta` by which the era describes the client, and not the call. */
const CLIENT_META: ReadonlySet<string> = new Set(
  ['protocolVersion', 'clientInfo', 'clientCapabilities', 'logLevel'].map((name) => `io.modelcontextprotocol/${name}`),
);

/**
 * All that a request asks for besides the names in its call. Null where the call does not hold it (the body of a plain
 * HTTP request, the body and path of an endpoint) or it is too large to be shown whole: nobody can say yes to what
 * nobody has seen.
 */
export function argumentsOf(classified: Classified): Arguments | null {
  const asked = allOf(classified);
  return asked === null || !canBeShown(asked.shown) ? null : asked;
}

function allOf({ message, calls, received, route }: Classified): Arguments | null {
  // An endpoint's call is the same whatever its body, its query or an id in its path says.
  if (route.protocol === 'api') return null;
  const parameters = calls[0]?.parameters ?? null;
  if (message.dialect === 'jsonrpc' && message.body !== null) return rpcArguments(message.body);
  if (message.body !== null) {
    const body = parse(message.body);
    return { digest: digestOf([parameters, body]), shown: body };
  }
  // The tools API sends on what it read; everything else without a buffer is streamed past.
  const isUnread = message.plan.kind === 'upstream' && hasBody(received.headers);
  return isUnread ? null : { digest: digestOf({ arguments: parameters ?? {} }), shown: parameters };
}

function hasBody(headers: Readonly<Record<string, string>>): boolean {
  return headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0';
}

/** Arguments, and every other member a server could act on: task options, answers to its questions, foreign `_meta`. */
function rpcArguments(bytes: Buffer): Arguments | null {
  const body = parse(bytes);
  if (!isJsonObject(body) || !isJsonObject(body.params)) return null;
  const { name: _name, arguments: given, _meta, ...rest } = body.params;
  const meta = isJsonObject(_meta) ? stableMeta(_meta) : {};
  const extra: Record<string, JsonValue> = { ...rest, ...(Object.keys(meta).length === 0 ? {} : { _meta: meta }) };
  const parts: JsonObject = { arguments: given ?? {}, ...(Object.keys(extra).length === 0 ? {} : { extra }) };
  return {
    digest: digestOf(parts),
    shown: Object.keys(extra).length === 0 ? (given ?? {}) : { ...extra, arguments: given ?? {} },
  };
}

function stableMeta(meta: JsonObject): JsonObject {
  const kept: Record<string, JsonValue> = {};
  for (const [name, value] of Object.entries(meta)) {
    if (!VOLATILE_META.has(name) && !CLIENT_META.has(name)) kept[name] = value;
  }
  return kept;
}

/** The bytes passed the strict parser before. */
function parse(bytes: Buffer): JsonValue {
  return JSON.parse(bytes.toString('utf8'), (_key, value: unknown, context?: { readonly source?: string }) =>
    typeof value === 'number' && context?.source !== undefined && String(value) !== context.source
      ? JSON.rawJSON(context.source)
      : value,
  ) as JsonValue;
}
