/**
 * The gateway as an OAuth resource server: what it says of itself, and how it tells a client what is missing.
 * Source: RFC 9728, RFC 6750 3, MCP authorization (2026-07-28).
 */
import { GatewayError } from '../../core/errors.ts';
import type { Principal } from '../../core/principal.ts';
import type { Endpoint } from '../../protocols/endpoint.ts';
import { metadataUrl, resourceUri } from './resource.ts';

/** A route that takes tokens of authorization servers. */
export interface ProtectedRoute {
  readonly match: string;
  /** Issuers whose tokens are accepted there; never empty. */
  readonly issuers: readonly string[];
  /** All of these must be granted. */
  readonly scopes: readonly string[];
}

/** RFC 9728 2. */
export interface ResourceMetadata {
  readonly resource: string;
  readonly authorization_servers: readonly string[];
  readonly bearer_methods_supported: readonly ['header'];
  readonly scopes_supported?: readonly string[];
}

const WELL_KNOWN = '/.well-known/oauth-protected-resource';

/** Public and the same for everyone. Which pages in browsers may read it, `cors` says, as of everything. */
const OPEN = { 'cache-control': 'public, max-age=60' };

/**
 * One document per route, and one for the gateway as a whole where clients look that know no more than its host.
 * Below a prefix of `public_url` each is served with and without it: proxies differ in what they leave.
 */
export function metadataEndpoints(routes: readonly ProtectedRoute[], publicUrl: string): readonly Endpoint[] {
  if (routes.length === 0) return [];
  const issuers = [...new Set(routes.flatMap((route) => route.issuers))];
  const scopes = [...new Set(routes.flatMap((route) => route.scopes))];
  const whole = { match: '', issuers, scopes };
  const byPath = new Map<string, Endpoint>();
  for (const route of [whole, ...routes]) {
    const metadata = metadataOf(route, publicUrl);
    const paths = [
      `${WELL_KNOWN}${route.match === '/' ? '' : route.match}`,
      new URL(metadataUrl(publicUrl, route.match)).pathname,
    ];
    for (const path of paths) {
      byPath.set(path, {
        method: 'GET',
        path,
        access: 'anyone',
        body: null,
        answer: () => ({ status: 200, body: metadata, headers: OPEN }),
      });
    }
  }
  return [...byPath.values()];
}

/** What is said of one route. */
export function metadataOf({ match, issuers, scopes }: ProtectedRoute, publicUrl: string): ResourceMetadata {
  return {
    resource: resourceUri(publicUrl, match),
    authorization_servers: issuers,
    bearer_methods_supported: ['header'],
    ...(scopes.length === 0 ? {} : { scopes_supported: scopes }),
  };
}

/** Parameters of the Bearer challenge of a route: where to find out more, and everything a token needs there. */
export function challengeOf({ match, scopes }: Pick<ProtectedRoute, 'match' | 'scopes'>, publicUrl: string): string {
  const scope = scopes.length === 0 ? '' : `, scope="${scopes.join(' ')}"`;
  return `resource_metadata="${metadataUrl(publicUrl, match)}"${scope}`;
}

/**
 * The principal when everything was granted, compared word by word; else FORBIDDEN with the challenge of RFC 6750 3.1.
 * @param challenge parameters besides `error`, or null
 */
export function requireScopes(
  principal: Principal,
  scopes: readonly string[],
  challenge: string | null,
): Principal | GatewayError {
  if (principal.type === 'anonymous')
    return new GatewayError('MISSING_CREDENTIALS', { challenge: bearer(challenge, '') });
  if (scopes.every((scope) => principal.scopes.includes(scope))) return principal;
  const more = challenge ?? `scope="${scopes.join(' ')}"`;
  const error = ', error="insufficient_scope", error_description="The credentials do not cover this"';
  return new GatewayError('FORBIDDEN', {
    message: `The credentials need the scope ${scopes.join(' ')}`,
    challenge: bearer(more, error),
  });
}

const bearer = (parameters: string | null, error: string): string =>
  `Bearer realm="portcullis"${parameters === null ? '' : `, ${parameters}`}${error}`;
