/** Which request headers matter to MCP, and which go upstream: a closed list, so no credential of the caller can. */

type Headers = Readonly<Record<string, string>>;

const COMMON: ReadonlySet<string> = new Set([
  'content-type',
  'accept',
  'user-agent',
  'mcp-protocol-version',
  'traceparent',
  'tracestate',
  'baggage',
]);
const LEGACY: ReadonlySet<string> = new Set(['mcp-session-id', 'last-event-id']);
/** Checked against the body; in the legacy era nothing checks them, so a server must not come to trust them. */
const MODERN: ReadonlySet<string> = new Set(['mcp-method', 'mcp-name']);

/** The headers of a request that go upstream. Unknown `Mcp-Param-*` are kept, as the specification demands. */
export function upstreamHeaders(headers: Headers, isModern: boolean): Record<string, string> {
  const era = isModern ? MODERN : LEGACY;
  const out: Record<string, string> = {};
  for (const name in headers) {
    const goes = COMMON.has(name) || era.has(name) || (isModern && name.startsWith('mcp-param-'));
    const value = headers[name];
    if (goes && value !== undefined) out[name] = value;
  }
  return out;
}

/** What nearly every client sends. */
const USUAL = 'application/json, text/event-stream';

/** Which of the two answers of Streamable HTTP an `Accept` header allows. Absent: both. */
export function acceptedTypes(accept: string | undefined): { readonly json: boolean; readonly stream: boolean } {
  if (accept === undefined || accept === USUAL) return { json: true, stream: true };
  let json = false;
  let stream = false;
  for (const part of accept.toLowerCase().split(',')) {
    const [range = '', ...params] = part.split(';').map((text) => text.trim());
    if (params.some((param) => /^q=0(?:\.0{0,3})?$/.test(param))) continue;
    const isAny = range === '*/*';
    json ||= isAny || range === 'application/json' || range === 'application/*';
    stream ||= isAny || range === 'text/event-stream' || range === 'text/*';
  }
  return { json, stream };
}

/** True for `application/json`, with no charset or UTF-8. */
export function isJsonType(contentType: string | undefined): boolean {
  if (contentType === 'application/json') return true;
  return contentType !== undefined && /^application\/json\s*(?:;\s*charset="?utf-8"?\s*)?$/i.test(contentType);
}
