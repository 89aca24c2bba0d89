/** Puts OAuth together for one generation: what routes say of themselves as protected resources, and what they require. */
import { originOf } from '../accounts/api.ts';
import { SCOPE } from '../accounts/authorization-server/engine-options.ts';
import type { Sessions } from '../accounts/sessions.ts';
import type { Config } from '../config/schema.ts';
import { GatewayError } from '../core/errors.ts';
import type { Route } from '../core/route.ts';
import { isAccountCookie } from '../identity/account-tokens.ts';
import { isFetchable } from '../identity/key-fetch.ts';
import { type BrowserLogin, type EndSession, loginEndpoints } from '../identity/oauth/login-endpoints.ts';
import type { ProtectedRoute, ScopeTerms } from '../identity/oauth/protected-resource.ts';
import { challengeOf, metadataEndpoints, requireScopes } from '../identity/oauth/protected-resource.ts';
import { metadataUrl } from '../identity/oauth/resource.ts';
import { SessionCookie } from '../identity/oauth/session-cookie.ts';
import type { IdentityProvider } from '../identity/provider.ts';
import { browserLogin } from '../identity/providers/oidc.ts';
import type { Admission } from '../pipeline/stages/admit.ts';
import type { Endpoint } from '../protocols/endpoint.ts';
import { agentIssuer } from './agent-logins.ts';
import { scopesOfTools, type TermsOf } from './tool-scope-rules.ts';

const OAUTH_KINDS = new Set(['jwt', 'oidc', 'introspection']);

/** The routes that take tokens of authorization servers a client can find: their issuer is an address. */
export function protectedRoutes(config: Config, routes: readonly Route[]): ProtectedRoute[] {
  const issuers = new Map<string, string>();
  for (const [name, entry] of Object.entries(config.identity)) {
    const issuer: unknown = OAUTH_KINDS.has(entry.kind) && 'issuer' in entry ? entry.issuer : undefined;
    if (typeof issuer === 'string' && isFetchable(issuer)) issuers.set(name, issuer);
    // Accounts of our own: whoever keeps them says where their owners log in.
    const own = entry.kind === 'local' ? agentIssuer(config) : null;
    if (own !== null) issuers.set(name, own);
  }
  return routes.flatMap((route) => {
    const known = new Set(route.identity.flatMap((name) => issuers.get(name) ?? []));
    if (route.protocol === 'api' || known.size === 0) return [];
    const optional = scopesOfTools(config, route);
    const own = agentIssuer(config);
    const isOurs = optional.length > 0 && known.size === 1 && own !== null && known.has(own);
    const { scopes = [] } = route;
    // Clients that are told nothing ask for everything there is: those of ours begin with the least.
    const least = isOurs && scopes.length === 0 ? [SCOPE] : scopes;
    return [{ match: route.match, issuers: [...known], scopes: least, optional }];
  });
}

/** How it is told on a route that scopes are missing. */
export function scopeTerms(config: Config, routes: readonly Route[]): TermsOf {
  const { public_url: publicUrl, identity } = config;
  const described = new Set(publicUrl === undefined ? [] : protectedRoutes(config, routes).map(({ match }) => match));
  const canStepUp: ScopeTerms['canStepUp'] = ({ auth: { provider, method }, parties, metadata }, needed) => {
    const entry = Object.hasOwn(identity, provider) ? identity[provider] : undefined;
    if (method !== 'bearer' || parties !== undefined || entry === undefined) return false;
    // Tokens that accounts get for themselves have no scopes; what is lent to agents has.
    if (!OAUTH_KINDS.has(entry.kind)) return entry.kind === 'local' && metadata.client_id !== undefined;
    const grantable: unknown = 'grantable_scopes' in entry ? entry.grantable_scopes : undefined;
    return !Array.isArray(grantable) || needed.every((scope) => grantable.includes(scope));
  };
  const known = new Map<string, ScopeTerms>();
  for (const route of routes) {
    const isDescribed = publicUrl !== undefined && described.has(route.match);
    const metadata = isDescribed ? metadataUrl(publicUrl, route.match) : null;
    const { match, scopes = [] } = route;
    known.set(match, { scopes, optional: scopesOfTools(config, route), metadata, canStepUp });
  }
  return ({ match }) => known.get(match) ?? NO_TERMS;
}

/** Of a route that another generation has. */
const NO_TERMS: ScopeTerms = { scopes: [], optional: [], metadata: null, canStepUp: () => false };

/** What OAuth adds to the reading of credentials on a route. */
export interface RouteOAuth {
  /** Parameters of the Bearer challenge, or null. */
  readonly challenge: string | null;
  /** The cookie of browser sessions, where one of the route's providers has them. */
  readonly cookie: SessionCookie | null;
}

/** By the route's match. */
export function routeOAuth(
  config: Config,
  routes: readonly Route[],
  providers: ReadonlyMap<string, IdentityProvider>,
): ReadonlyMap<string, RouteOAuth> {
  const { public_url } = config;
  if (public_url === undefined) return new Map();
  const told = new Map(protectedRoutes(config, routes).map((route) => [route.match, challengeOf(route, public_url)]));
  const cookie = new SessionCookie(public_url);
  const logins = new Set([...browserLogins(providers).map(({ provider }) => provider), ...cookieProviders(config)]);
  return new Map(
    routes.map(({ match, identity }) => [
      match,
      { challenge: told.get(match) ?? null, cookie: identity.some((name) => logins.has(name)) ? cookie : null },
    ]),
  );
}

/** Names of the providers of our own accounts that take the cookie. */
export function cookieProviders({ identity }: Pick<Config, 'identity'>): readonly string[] {
  return Object.entries(identity).flatMap(([name, entry]) =>
    entry.kind === 'local' && 'cookies' in entry && entry.cookies === true ? [name] : [],
  );
}

function browserLogins(providers: ReadonlyMap<string, IdentityProvider>): readonly BrowserLogin[] {
  return [...providers.values()].flatMap((provider) => browserLogin(provider) ?? []);
}

/**
 * What routes are as protected resources, and where browsers log in. Without `public_url` nobody knows what to call the
 * resources, so nothing is said.
 * @param accounts ends browser sessions that are not of these providers
 */
export function oauthEndpoints(
  config: Config,
  routes: readonly Route[],
  providers: ReadonlyMap<string, IdentityProvider>,
  accounts: { readonly sessions: Pick<Sessions, 'endCookie'> } | null,
): readonly Endpoint[] {
  const { public_url } = config;
  if (public_url === undefined) return [];
  const endOther: EndSession = async (text, exchange) => {
    if (isAccountCookie(text)) await accounts?.sessions.endCookie(text, originOf(exchange));
  };
  return [
    ...metadataEndpoints(protectedRoutes(config, routes), public_url),
    ...loginEndpoints(browserLogins(providers), new SessionCookie(public_url), public_url, endOther),
  ];
}

/** How somebody is refused who was not granted every scope that the route requires; null who was. */
export function routeScopes(terms: TermsOf): NonNullable<Admission['refusalOf']> {
  return ({ route, principal }) => {
    if (route.scopes === undefined || route.scopes.length === 0) return null;
    const found = requireScopes(principal, terms(route));
    return found instanceof GatewayError ? found : null;
  };
}
