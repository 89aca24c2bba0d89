/**
 * The gateway as an OAuth resource server: what it says of itself, and how it tells a client what is missing.
 * Source: RFC 9728, RFC 6750 3, MCP authorization (2026-07-28).
 */
import { GatewayError } from '../../core/errors.ts';
import { holdsScopes, type Principal } from '../../core/principal.ts';
import type { Endpoint } from '../../protocols/endpoint.ts';
import { metadataUrl, resourceUri } from './resource.ts';

/** A route that takes tokens of authorization servers. */
export interface ProtectedRoute {
  readonly match: string;
  /** Issuers whose tokens are accepted there; never empty. */
  readonly issuers: readonly string[];
  /** What everybody asks for: all of these must be granted. */
  readonly scopes: readonly string[];
  /** What single tools there need besides. */
  readonly optional: readonly string[];
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
  const all = (of: (route: ProtectedRoute) => readonly string[]) => [...new Set(routes.flatMap(of))];
  const whole = { match: '', issuers, scopes: all(({ scopes }) => scopes), optional: all(({ optional }) => optional) };
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
export function metadataOf({ match, issuers, scopes, optional }: ProtectedRoute, publicUrl: string): ResourceMetadata {
  const supported = [...new Set([...scopes, ...optional])];
  return {
    resource: resourceUri(publicUrl, match),
    authorization_servers: issuers,
    bearer_methods_supported: ['header'],
    ...(supported.length === 0 ? {} : { scopes_supported: supported }),
  };
}

/** Parameters of the Bearer challenge of a route: where to find out more, and everything a token needs there. */
export function challengeOf({ match, scopes }: Pick<ProtectedRoute, 'match' | 'scopes'>, publicUrl: string): string {
  const scope = scopes.length === 0 ? '' : `, scope="${scopes.join(' ')}"`;
  return `resource_metadata="${metadataUrl(publicUrl, match)}"${scope}`;
}

/** What it takes to tell somebody which scopes are missing on a route. */
export interface ScopeTerms extends Pick<ProtectedRoute, 'scopes' | 'optional'> {
  /** Address of the route's metadata; null where nothing is said of it. */
  readonly metadata: string | null;
  /** Whether whoever shows this credential can come back with one of the same kind that covers these. */
  canStepUp(principal: Principal, scopes: readonly string[]): boolean;
}

/** The principal when every scope of the route was granted, to each party of a delegation; else how that is refused. */
export function requireScopes(principal: Principal, terms: ScopeTerms): Principal | GatewayError {
  const isGranted = principal.type !== 'anonymous' && holdsScopes(principal, terms.scopes);
  return isGranted ? principal : scopesLacking(principal, terms.scopes, terms);
}

/**
 * The refusal of somebody who lacks scopes. One challenge names all that is needed and what is held already, so that a
 * client that asks for just this loses nothing. Source: RFC 6750 3 and 3.1, MCP authorization (2026-07-28).
 * @param needed for this request, whatever of it is held
 */
export function scopesLacking(principal: Principal, needed: readonly string[], terms: ScopeTerms): GatewayError {
  const wanted = new Set([...terms.scopes, ...needed]);
  const known = [...new Set([...terms.scopes, ...terms.optional, ...needed])];
  const scope = known.filter((one) => wanted.has(one) || principal.scopes.includes(one)).join(' ');
  const where = terms.metadata === null ? '' : `resource_metadata="${terms.metadata}", `;
  if (principal.type === 'anonymous')
    return new GatewayError('MISSING_CREDENTIALS', { challenge: bearer(`${where}scope="${scope}"`) });
  const message = `The credentials need the scope ${needed.join(' ')}`;
  const data = { scopes: needed };
  if (!terms.canStepUp(principal, [...wanted])) {
    const why = principal.parties === undefined ? NOT_THESE : NOT_ALL;
    return new GatewayError('INSUFFICIENT_SCOPE', { message: `${message}${why}`, data });
  }
  const error = `error="insufficient_scope", ${where}scope="${scope}", error_description="${message}"`;
  return new GatewayError('INSUFFICIENT_SCOPE', { message, data, challenge: bearer(error) });
}

const NOT_THESE = ', which credentials of this kind have from the beginning or never';
const NOT_ALL = ', each party of the delegation by itself';

const bearer = (parameters: string): string => `Bearer realm="portcullis", ${parameters}`;
