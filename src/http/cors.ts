/** Which pages in browsers may call and read the answers. Source: Fetch standard, "CORS protocol". */
import type { OutgoingHttpHeader, OutgoingHttpHeaders } from 'node:http';

export interface CorsPolicy {
  /** Exact origins; empty switches CORS off: no page of another origin can read anything. */
  readonly origins: readonly string[];
  /** Lets pages send cookies and client certificates. */
  readonly credentials: boolean;
  readonly max_age_seconds: number;
}

/** Name-value pairs for one answer. */
export type Grant = readonly string[];

const EXPOSED =
  'X-Request-ID, X-Decision-ID, Mcp-Session-Id, Mcp-Protocol-Version, Retry-After, WWW-Authenticate, RateLimit, ' +
  'RateLimit-Policy, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-API-Version';
const METHODS = 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS';

export interface Cors {
  readonly enabled: boolean;
  /** For an answer to a page of a listed origin, or to anybody else (`Vary` only). */
  grant(origin: string | undefined): Grant;
  allows(origin: string): boolean;
  /** The whole answer to a preflight of a listed origin. */
  preflight(origin: string, requestedHeaders: string | undefined): Grant;
}

/** @throws RangeError for an origin that no browser would send */
export function createCors(policy: CorsPolicy): Cors {
  for (const origin of policy.origins) {
    if (!URL.canParse(origin) || new URL(origin).origin !== origin) {
      throw new RangeError(`"${origin}" is not an origin; write e.g. https://app.example.com`);
    }
  }
  const credentials = policy.credentials ? ['access-control-allow-credentials', 'true'] : [];
  const grants = new Map<string, Grant>(
    policy.origins.map((origin) => [
      origin,
      [
        'access-control-allow-origin',
        origin,
        'access-control-expose-headers',
        EXPOSED,
        'vary',
        'Origin',
        ...credentials,
      ],
    ]),
  );
  const others: Grant = ['vary', 'Origin'];
  return {
    enabled: grants.size > 0,
    grant: (origin) => (origin === undefined ? others : (grants.get(origin) ?? others)),
    allows: (origin) => grants.has(origin),
    preflight: (origin, requested) => [
      ...['access-control-allow-origin', origin, 'access-control-allow-methods', METHODS],
      ...(requested === undefined ? [] : ['access-control-allow-headers', requested]),
      ...['access-control-max-age', String(policy.max_age_seconds), ...credentials],
      ...['vary', 'Origin, Access-Control-Request-Method, Access-Control-Request-Headers'],
    ],
  };
}

type HeaderList = OutgoingHttpHeaders | OutgoingHttpHeader[];

/** The headers without any CORS statement from behind the door, plus the door's own, `Vary` merged. */
export function withGrant(headers: HeaderList | undefined, grant: Grant | null): OutgoingHttpHeader[] {
  const out: OutgoingHttpHeader[] = [];
  let vary = '';
  for (const [name, value] of pairs(headers)) {
    const lower = name.toLowerCase();
    if (lower.startsWith('access-control-')) continue;
    if (lower === 'vary') vary = vary === '' ? String(value) : `${vary}, ${value}`;
    else if (Array.isArray(value)) for (const each of value) out.push(name, each);
    else out.push(name, value);
  }
  for (let i = 0; grant !== null && i < grant.length; i += 2) {
    const name = grant[i] ?? '';
    const value = grant[i + 1] ?? '';
    if (name === 'vary') vary = vary === '' ? value : `${vary}, ${value}`;
    else out.push(name, value);
  }
  if (vary !== '') out.push('vary', vary);
  return out;
}

function* pairs(headers: HeaderList | undefined): Generator<[string, OutgoingHttpHeader]> {
  if (headers === undefined) return;
  if (Array.isArray(headers)) {
    for (let i = 0; i < headers.length; i += 2) yield [String(headers[i]), headers[i + 1] ?? ''];
  } else {
    for (const [name, value] of Object.entries(headers)) if (value !== undefined) yield [name, value];
  }
}
