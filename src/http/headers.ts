/**
 * What each request header is to a gateway: framing, a credential, a claim of identity, or just a header.
 * Source: RFC 9110 sections 5.3 and 7.6.1, RFC 9440 section 3, contracts 4.
 */

/** May occur once: two of them could be read as either by different parties. */
export const SINGLE = 1;
/** Meant for this connection only. */
export const HOP = 2;
/** Says who the caller is or where the call came from; from a client it is a forgery. */
export const IDENTITY = 4;
/** As IDENTITY, but a trusted proxy's word is taken and used up by hygiene. */
export const FORWARDED = 8;
/** As IDENTITY, but kept for identity providers when a trusted proxy sent it. */
export const CLIENT_CERT = 16;
/** Proves the caller to the gateway: read here, never sent on. */
export const CREDENTIAL = 32;
/** The gateway speaks for itself here, upstream never sees the client's. */
export const OURS = 64;
/** The name has a character that some servers fold into `-`: it could become one of the names above. */
export const FOLDABLE = 128;
/** Must not be taken away by a `Connection` header although it is otherwise ordinary. */
export const KEPT = 256;

/** A header name's one spelling and its flags. */
export interface HeaderKind {
  readonly name: string;
  readonly flags: number;
}

const table: Readonly<Record<string, number>> = {
  __proto__: null as never,
  connection: HOP,
  'keep-alive': HOP,
  'proxy-authenticate': HOP,
  'proxy-authorization': HOP | SINGLE,
  'proxy-connection': HOP,
  te: HOP,
  trailer: HOP,
  // Stays visible, for it tells that there is a body; `upstreamHeaders` takes it off.
  'transfer-encoding': SINGLE | OURS | KEPT,
  upgrade: HOP,
  'http2-settings': HOP | SINGLE,
  host: SINGLE | OURS | KEPT,
  // Goes on: not every upstream reads chunked bodies. Whoever changes a body sets its new length.
  'content-length': SINGLE | KEPT,
  'content-type': SINGLE | KEPT,
  'content-encoding': SINGLE | KEPT,
  'content-language': KEPT,
  'content-location': SINGLE,
  'content-range': SINGLE | KEPT,
  'content-disposition': SINGLE,
  expect: SINGLE | OURS | KEPT,
  date: SINGLE,
  from: SINGLE,
  'max-forwards': SINGLE | OURS,
  'if-modified-since': SINGLE,
  'if-unmodified-since': SINGLE,
  'if-range': SINGLE,
  range: SINGLE,
  referer: SINGLE,
  origin: SINGLE | KEPT,
  'user-agent': SINGLE,
  'last-event-id': SINGLE | KEPT,
  'idempotency-key': SINGLE | KEPT,
  traceparent: SINGLE,
  accept: KEPT,
  // Responses are read and filtered, so they must arrive uncompressed.
  'accept-encoding': OURS,
  authorization: SINGLE | CREDENTIAL | KEPT,
  cookie: SINGLE | CREDENTIAL | KEPT,
  cookie2: SINGLE | CREDENTIAL | KEPT,
  'x-api-key': SINGLE | CREDENTIAL | KEPT,
  'api-key': SINGLE | CREDENTIAL | KEPT,
  'x-goog-api-key': SINGLE | CREDENTIAL | KEPT,
  'x-access-token': SINGLE | CREDENTIAL | KEPT,
  'private-token': SINGLE | CREDENTIAL | KEPT,
  dpop: SINGLE | CREDENTIAL | KEPT,
  'x-approval-token': SINGLE | CREDENTIAL | KEPT,
  'x-delegation-token': SINGLE | CREDENTIAL | KEPT,
  'sec-websocket-key': SINGLE | KEPT,
  'sec-websocket-version': SINGLE | KEPT,
  'sec-websocket-accept': SINGLE | OURS,
  'openai-organization': SINGLE,
  'openai-project': SINGLE,
  'anthropic-version': SINGLE,
  'x-request-id': FORWARDED,
  'x-correlation-id': SINGLE,
  'x-decision-id': IDENTITY,
  'x-tenant-id': IDENTITY,
  'x-tenant': IDENTITY,
  'x-org-id': IDENTITY,
  'x-organization-id': IDENTITY,
  'x-account-id': IDENTITY,
  'x-service-id': IDENTITY,
  'x-agent-id': IDENTITY,
  'x-principal': IDENTITY,
  'x-principal-id': IDENTITY,
  'x-subject': IDENTITY,
  'x-role': IDENTITY,
  'x-roles': IDENTITY,
  'x-scope': IDENTITY,
  'x-scopes': IDENTITY,
  'x-permissions': IDENTITY,
  'x-groups': IDENTITY,
  'x-group': IDENTITY,
  'x-username': IDENTITY,
  'x-email': IDENTITY,
  'x-admin': IDENTITY,
  'x-userid': IDENTITY,
  'x-uid': IDENTITY,
  'x-org': IDENTITY,
  'x-spiffe-id': IDENTITY,
  'x-act-as': IDENTITY,
  'x-on-behalf-of': IDENTITY,
  sudo: IDENTITY,
  'x-sudo': IDENTITY,
  'x-internal': IDENTITY,
  'x-credential-identifier': IDENTITY,
  'x-anonymous-consumer': IDENTITY,
  'x-authenticated-user': IDENTITY,
  'x-authenticated-userid': IDENTITY,
  'x-authenticated-groups': IDENTITY,
  'x-authenticated-scope': IDENTITY,
  'x-remote-user': IDENTITY,
  'remote-user': IDENTITY,
  'auth-user': IDENTITY,
  'authenticated-user': IDENTITY,
  'remote-groups': IDENTITY,
  'remote-email': IDENTITY,
  'remote-name': IDENTITY,
  'remote-addr': IDENTITY,
  'x-remote-addr': IDENTITY,
  'x-remote-ip': IDENTITY,
  'x-webauth-user': IDENTITY,
  'x-id-token': IDENTITY,
  'x-userinfo': IDENTITY,
  'x-real-ip': IDENTITY,
  'x-client-ip': IDENTITY,
  'client-ip': IDENTITY,
  'x-cluster-client-ip': IDENTITY,
  'true-client-ip': IDENTITY,
  'cf-connecting-ip': IDENTITY,
  'cf-connecting-ipv6': IDENTITY,
  'fastly-client-ip': IDENTITY,
  'x-azure-clientip': IDENTITY,
  'x-appengine-user-ip': IDENTITY,
  'x-originating-ip': IDENTITY,
  'x-original-url': IDENTITY,
  'x-original-uri': IDENTITY,
  'x-original-host': IDENTITY,
  'x-original-method': IDENTITY,
  'x-original-forwarded-for': IDENTITY,
  'x-rewrite-url': IDENTITY,
  'x-http-method': IDENTITY,
  'x-http-method-override': IDENTITY,
  'x-method-override': IDENTITY,
  'x-host': IDENTITY,
  'x-http-host-override': IDENTITY,
  'x-accel-redirect': IDENTITY,
  'x-sendfile': IDENTITY,
  'x-scheme': IDENTITY,
  'x-url-scheme': IDENTITY,
  'x-script-name': IDENTITY,
  'front-end-https': IDENTITY,
  proxy: IDENTITY,
  forwarded: FORWARDED,
  'x-forwarded-for': FORWARDED,
  'x-forwarded-proto': FORWARDED,
  'x-forwarded-host': FORWARDED,
  'x-forwarded-client-cert': CLIENT_CERT | SINGLE,
  'client-cert': CLIENT_CERT | SINGLE,
  'client-cert-chain': CLIENT_CERT,
};

/** Families: a new member of one is as dangerous as the known ones. */
const families: readonly (readonly [string, number])[] = [
  ['x-forwarded', IDENTITY],
  ['x-auth-', IDENTITY],
  ['x-authenticated-', IDENTITY],
  ['x-remote-', IDENTITY],
  ['x-webauth-', IDENTITY],
  ['x-user-', IDENTITY],
  ['x-portcullis-', IDENTITY],
  ['x-gateway-', IDENTITY],
  ['x-tenant-', IDENTITY],
  ['x-principal-', IDENTITY],
  ['x-goog-authenticated-', IDENTITY],
  ['x-goog-iap-', IDENTITY],
  ['x-ms-client-principal', IDENTITY],
  ['x-ms-token-', IDENTITY],
  ['x-amzn-oidc-', IDENTITY],
  ['cf-access-', IDENTITY],
  ['x-pomerium-', IDENTITY],
  ['x-consumer-', IDENTITY],
  ['x-jwt-', IDENTITY],
  ['x-actor', IDENTITY],
  ['x-endpoint-api-', IDENTITY],
  ['x-apigateway-api-', IDENTITY],
  // Where the next hop is Envoy: among others to which address it sends.
  ['x-envoy-', IDENTITY],
  ['x-hasura-', IDENTITY],
  // Whoever has the gateway's credential may be allowed to speak for others: Kubernetes, GitLab.
  ['impersonate-', IDENTITY],
  ['x-impersonate-', IDENTITY],
  ['oidc-', IDENTITY],
  ['shib-', IDENTITY],
  ['iv-', IDENTITY],
  ['sm-', IDENTITY],
  ['tailscale-user-', IDENTITY],
  ['x-vouch-', IDENTITY],
  ['x-ssl-', CLIENT_CERT],
  ['ssl-client-', CLIENT_CERT],
  ['x-client-cert', CLIENT_CERT],
  ['x-client-verify', CLIENT_CERT],
  ['x-client-dn', CLIENT_CERT],
  ['x-amzn-mtls-', CLIENT_CERT],
  ['x-arr-clientcert', CLIENT_CERT],
  ['x-tls-client-', CLIENT_CERT],
  ['mcp-', SINGLE | KEPT],
  ['sec-websocket-', KEPT],
];

function flagsOf(name: string): number {
  const listed = table[name];
  if (listed !== undefined) return listed;
  if (name === 'x-user') return IDENTITY;
  for (const [prefix, flags] of families) if (name.startsWith(prefix)) return flags;
  return 0;
}

/** Only letters, digits and `-` are the same name to every server: CGI, WSGI and PHP fold other characters into `_`. */
function hasFoldable(name: string): boolean {
  for (let i = 0; i < name.length; i++) {
    const code = name.charCodeAt(i);
    const plain = code === 0x2d || (code >= 0x30 && code <= 0x39) || (code >= 0x61 && code <= 0x7a);
    if (!plain) return true;
  }
  return false;
}

/** Spellings seen so far. Clients use a few dozen; a flood of invented names only makes the map start afresh. */
const seen = new Map<string, HeaderKind>();
const SEEN_LIMIT = 1000;
const SEEN_NAME_LENGTH = 64;

/** @param raw a header name as received, in any case */
export function headerKind(raw: string): HeaderKind {
  const known = seen.get(raw);
  if (known !== undefined) return known;
  const name = raw.toLowerCase();
  const kind = { name, flags: hasFoldable(name) ? FOLDABLE : flagsOf(name) };
  if (raw.length <= SEEN_NAME_LENGTH) {
    if (seen.size >= SEEN_LIMIT) seen.clear();
    seen.set(raw, kind);
  }
  return kind;
}

const NOT_UPSTREAM = HOP | IDENTITY | FORWARDED | CLIENT_CERT | CREDENTIAL | OURS | FOLDABLE;

/**
 * The caller's headers that may go to an upstream of any kind: all but framing, hop-by-hop ones, credentials, claims of
 * identity and CORS questions. Compression is declined, for answers have to be readable on the way.
 * @param headers of a `Received`, lower-case names
 */
export function upstreamHeaders(headers: Readonly<Record<string, string>>): Record<string, string> {
  const kept: Record<string, string> = { 'accept-encoding': 'identity' };
  for (const name in headers) {
    const value = headers[name];
    if (value === undefined || name.startsWith('access-control-')) continue;
    if ((headerKind(name).flags & NOT_UPSTREAM) === 0) kept[name] = value;
  }
  return kept;
}

/** The lower-case options of a `Connection` header. */
export function connectionNames(value: string): string[] {
  if (value === '') return [];
  return value
    .toLowerCase()
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}
