/** Which headers cross the connection to an upstream, in either direction. Source: RFC 9110 7.6.1, security 2.2. */

type ResponseHeaders = Readonly<Record<string, string | readonly string[]>>;

/** Belong to one connection, or would let the response speak of another way around the gateway (`alt-svc`). */
const NOT_FORWARDED = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-authentication-info',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'alt-svc',
]);

/** The HTTP client writes these itself, or they must not leave at all. */
const NOT_SENT = new Set([...NOT_FORWARDED, 'host', 'expect', 'accept-encoding']);

/**
 * What an upstream could say to others in the gateway's name: orders to a web server in front of it (which would then
 * send a file of the upstream's choice), and how browsers have to reach this host.
 */
const NOT_SAID = new Set([
  ...NOT_FORWARDED,
  'x-accel-redirect',
  'x-sendfile',
  'x-lighttpd-send-file',
  'x-reproxy-url',
  'strict-transport-security',
]);

/**
 * Request headers as a flat list. `Accept-Encoding: identity` always: a compressed answer could not be filtered, and
 * its decoder is attack surface. `keepLength` for a streamed body, whose length only the client knows.
 */
export function requestHeaders(headers: Readonly<Record<string, string>>, keepLength: boolean): string[] {
  const flat: string[] = ['accept-encoding', 'identity'];
  for (const name in headers) {
    if (NOT_SENT.has(name) || (name === 'content-length' && !keepLength)) continue;
    const value = headers[name];
    if (value !== undefined) flat.push(name, value);
  }
  return flat;
}

/** Response headers without those of the hop, those its Connection header names, and orders to others than the client. */
export function responseHeaders(
  headers: Readonly<Record<string, string | readonly string[] | undefined>>,
): ResponseHeaders {
  const connection = headers.connection;
  const nominated = connection === undefined || connection === 'keep-alive' ? null : namesIn(connection);
  const kept: Record<string, string | readonly string[]> = {};
  for (const name in headers) {
    const value = headers[name];
    if (value === undefined || name === '__proto__' || NOT_SAID.has(name) || nominated?.has(name)) continue;
    kept[name] = value;
  }
  return kept;
}

function namesIn(connection: string | readonly string[]): Set<string> {
  const text = typeof connection === 'string' ? connection : connection.join(',');
  return new Set(text.split(',').map((name) => name.trim().toLowerCase()));
}
