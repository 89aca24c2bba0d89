/** Puts OAuth together for one generation: what routes say of themselves as protected resources, and what they require. */
import type { Config } from './config/schema.ts';
import { GatewayError } from './core/errors.ts';
import type { Route } from './core/route.ts';
import { isFetchable } from './identity/key-fetch.ts';
import type { ProtectedRoute } from './identity/oauth/protected-resource.ts';
import { challengeOf, metadataEndpoints, requireScopes } from './identity/oauth/protected-resource.ts';
import type { Authenticator } from './pipeline/stages/authenticate.ts';
import type { Endpoint } from './protocols/endpoint.ts';

const OAUTH_KINDS = new Set(['jwt', 'oidc', 'introspection']);

/** The routes that take tokens of authorization servers a client can find: their issuer is an address. */
export function protectedRoutes(config: Config, routes: readonly Route[]): ProtectedRoute[] {
  const issuers = new Map<string, string>();
  for (const [name, entry] of Object.entries(config.identity)) {
    const issuer: unknown = OAUTH_KINDS.has(entry.kind) && 'issuer' in entry ? entry.issuer : undefined;
    if (typeof issuer === 'string' && isFetchable(issuer)) issuers.set(name, issuer);
  }
  return routes.flatMap((route) => {
    const known = new Set(route.identity.flatMap((name) => issuers.get(name) ?? []));
    if (route.protocol === 'api' || known.size === 0) return [];
    return [{ match: route.match, issuers: [...known], scopes: route.scopes ?? [] }];
  });
}

/** Without `public_url` nobody knows what to call the resources, so nothing is said. */
export function resourceEndpoints(config: Config, routes: readonly Route[]): readonly Endpoint[] {
  return config.public_url === undefined ? [] : metadataEndpoints(protectedRoutes(config, routes), config.public_url);
}

/** Parameters of each route's Bearer challenge, by its match. */
export function routeChallenges(config: Config, routes: readonly Route[]): ReadonlyMap<string, string> {
  const { public_url } = config;
  if (public_url === undefined) return new Map();
  return new Map(protectedRoutes(config, routes).map((route) => [route.match, challengeOf(route, public_url)]));
}

/** The same authenticator where nothing is required; else one that lets in who was granted every scope of the route. */
export function withScopes(authenticator: Authenticator, route: Route, challenge: string | null): Authenticator {
  const scopes = route.scopes ?? [];
  if (scopes.length === 0) return authenticator;
  const check = (identified: Awaited<ReturnType<Authenticator['authenticate']>>) =>
    identified instanceof GatewayError ? identified : requireScopes(identified, scopes, challenge);
  return {
    authenticate(received, facts) {
      const identified = authenticator.authenticate(received, facts);
      return identified instanceof Promise ? identified.then(check) : check(identified);
    },
  };
}
