/** Makes the authorization server of one generation: agents log in with the gateway's own accounts, by browser. */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Origin } from '../accounts/account.ts';
import { Entries } from '../accounts/authorization-server/adapter.ts';
import { agentsEndpoints } from '../accounts/authorization-server/agents-api.ts';
import { createClientFetch } from '../accounts/authorization-server/client-fetch.ts';
import { authorizationServerEndpoints } from '../accounts/authorization-server/endpoints.ts';
import type { EngineOptions, Notes, Resource } from '../accounts/authorization-server/engine-options.ts';
import { LoginPages } from '../accounts/authorization-server/login-pages.ts';
import { People } from '../accounts/authorization-server/people.ts';
import { AuthorizationServer } from '../accounts/authorization-server/server.ts';
import { UpstreamLogins } from '../accounts/authorization-server/upstream-logins.ts';
import { LinkedAccounts } from '../accounts/linked-accounts.ts';
import type { Config } from '../config/schema.ts';
import { GatewayError } from '../core/errors.ts';
import { networkOf } from '../core/network.ts';
import type { Principal } from '../core/principal.ts';
import { announceAccountChange } from '../identity/account-changes.ts';
import { AgentTokens } from '../identity/agent-tokens.ts';
import { LOGIN_SECONDS } from '../identity/oauth/login.ts';
import type { PersonLogin } from '../identity/oauth/person-login.ts';
import { Audiences, resourceUri } from '../identity/oauth/resource.ts';
import { Seal } from '../identity/oauth/seal.ts';
import { SessionCookie } from '../identity/oauth/session-cookie.ts';
import type { IdentityProvider } from '../identity/provider.ts';
import { personLogin } from '../identity/providers/oidc.ts';
import { revokeToken } from '../identity/revocations.ts';
import type { SigningRing } from '../identity/signing-ring.ts';
import type { Endpoint } from '../protocols/endpoint.ts';
import type { AccountService } from './account-set.ts';
import type { Platform } from './assembly.ts';
import { buildRoutes } from './routes.ts';
import { scopesOfTools } from './tool-scope-rules.ts';

/** `iss` of agents' tokens, which is where clients find out the rest; null while it is off. */
export function agentIssuer({ accounts, public_url }: Pick<Config, 'accounts' | 'public_url'>): string | null {
  const { enabled, issuer } = accounts.authorization_server;
  return accounts.enabled && enabled ? (issuer ?? public_url?.replace(/\/$/, '') ?? null) : null;
}

/**
 * Reads agents' tokens; null while nobody gives any out. They are for calls to what is behind the gateway: whoever was lent
 * that makes no keys, changes no password and gives no approvals.
 */
export function agentTokens(config: Config, ring: SigningRing): AgentTokens | null {
  const issuer = agentIssuer(config);
  if (issuer === null) return null;
  const { access_seconds: maxSeconds } = config.accounts.authorization_server;
  const own = new Set(buildRoutes(config).flatMap(({ match, protocol }) => (protocol === 'api' ? [match] : [])));
  const audiences = new Audiences(undefined, config.public_url);
  const of = (route: string) => (own.has(route) ? [] : audiences.of(route));
  return new AgentTokens({ ring, issuer, maxSeconds, audiences: of });
}

/** What is there besides the accounts: keys that sign, and providers at which people may log in. */
export interface Surroundings {
  readonly ring: SigningRing | null;
  readonly providers: ReadonlyMap<string, IdentityProvider>;
}

/** How often entries that have ended are removed. */
const SWEEP_MS = 600_000;

/** `/oauth` and what is said of it. Rejects when the signing keys cannot be read. */
export async function agentEndpoints(
  config: Config,
  platform: Platform,
  service: AccountService | null,
  { ring, providers }: Surroundings,
  cleanup: AsyncDisposableStack,
): Promise<readonly Endpoint[]> {
  const issuer = agentIssuer(config);
  const { public_url: publicUrl } = config;
  const tokens = service?.agents ?? null;
  if (service === null || ring === null || tokens === null || issuer === null || publicUrl === undefined) return [];
  const { clock, shared, pepper } = platform;
  const settings = config.accounts.authorization_server;
  const grantMs = config.accounts.tokens.refresh_seconds * 1000;
  const seal = new Seal(pepper, 'oauth');
  const origins = new AsyncLocalStorage<Origin>();
  const origin = (): Origin =>
    origins.getStore() ?? { request_id: null, source_ip: '', user_agent: null, now: clock.now() };
  const people = peopleOf(config, platform, service);
  const entries: Entries = new Entries({
    ...{ store: platform.accounts.oauthEntries, seal, clock },
    clients: { max: settings.registration.max_clients, unusedMs: settings.registration.unused_hours * 3_600_000 },
    ...{ origin, graceMs: settings.refresh_grace_seconds * 1000 },
    onGrantEnd: (grantId) => people.endGrant(entries, grantId, origin()),
    full: () => new GatewayError('OVERLOADED', { message: 'No more clients can register here', retryAfter: 3600 }),
  });
  const known = knownResources(config, publicUrl);
  const resources = (indicator: string): Resource | null => known.get(canonical(indicator) ?? '') ?? null;
  const publicResource = resourceUri(publicUrl, '');
  const notes = notesOf(platform, service, config.accounts.tenant, origin);
  const common = { issuer, config: settings, resources, publicResource, entries, notes };
  const { max_bytes: maxBytes, timeout_ms: timeoutMs } = settings.client_documents;
  // The library and what it brings along are read by those who use it only.
  const { Engine } = await import('../accounts/authorization-server/engine.ts');
  const engine = await Engine.open({
    ...{ ...common, clock, ring, grantMs, cookieKey: seal.nameOf('cookies') },
    accounts: accountsOf(people, entries, clock.now, service.local.lendable),
    fetch: createClientFetch({ maxBytes, timeoutMs, allowsLoopback: config.mode === 'development' }),
    mayFetch: async () =>
      (await shared.hit(`oauth:fetch:${networkOf(origin().source_ip)}`, 60_000)).count <= FETCHES_PER_MINUTE,
  });
  const readToken = async (token: string, now: number) => {
    const claims = await tokens.read(token, now, null);
    return 'kind' in claims ? null : claims;
  };
  const parts = { engine, people, shared, origins, readToken };
  const server = new AuthorizationServer({ ...common, ...parts, guard: service.guard });
  sweep(platform, cleanup);
  const upstreams = upstreamLogins(issuer, settings.providers, providers);
  const pages = new LoginPages({ server, seal, reports: service.reports, grantMs, upstreams });
  const { tenant } = config.accounts;
  const agents = agentsEndpoints({ server, tenant, accountOf: accountFinder(config, platform) });
  return [...authorizationServerEndpoints(server, pages), ...agents];
}

function upstreamLogins(
  issuer: string,
  names: readonly string[],
  providers: Surroundings['providers'],
): UpstreamLogins {
  const cookie = new SessionCookie(issuer);
  return new UpstreamLogins({ issuer, cookie, seconds: LOGIN_SECONDS, logins: loginsOf(names, providers) });
}

/** Documents of clients that one network may make us fetch. */
const FETCHES_PER_MINUTE = 20;

function sweep({ accounts, clock, logging }: Platform, cleanup: AsyncDisposableStack): void {
  const timer = setInterval(() => {
    accounts.oauthEntries.purge(clock.now()).catch((error: unknown) => {
      logging.component('accounts').warn({ err: error }, 'oauth_sweep_failed');
    });
  }, SWEEP_MS).unref();
  cleanup.defer(() => clearInterval(timer));
}

/** Whose account it is: of ours with a session, or of those who have logged in with a browser where they log in for agents. */
function accountFinder({ identity, accounts }: Config, { accounts: { identities } }: Platform) {
  const issuers = new Map<string, string>();
  for (const name of accounts.authorization_server.providers) {
    const issuer: unknown = Object.entries(identity[name] ?? {}).find(([option]) => option === 'issuer')?.[1];
    if (typeof issuer === 'string') issuers.set(name, issuer);
  }
  return async ({ id, actor, auth }: Principal): Promise<string | null> => {
    if (actor !== null || auth.session_id === null) return null;
    if (identity[auth.provider]?.kind === 'local') return id;
    const issuer = auth.method === 'session' ? issuers.get(auth.provider) : undefined;
    return issuer === undefined ? null : identities.accountOf({ issuer, subject: id });
  };
}

/** Those of the configuration, which has seen to it that they are of a kind that logs people in. */
function loginsOf(names: readonly string[], providers: Surroundings['providers']): PersonLogin[] {
  return names.flatMap((name) => {
    const provider = providers.get(name);
    return provider === undefined ? [] : (personLogin(provider) ?? []);
  });
}

function peopleOf(config: Config, { accounts: stores, shared }: Platform, service: AccountService): People {
  const { accounts, sessions, guard, reports, tokens, passwords, roles } = service;
  const { provision } = config.accounts.authorization_server;
  const linked = new LinkedAccounts({
    ...{ accounts, sessions, passwords, guard, roles, reports, provision, tenant: config.accounts.tenant },
    ...{ store: stores.store, identities: stores.identities },
    changeRole: (id, role, origin) => service.changeRole(id, role, origin),
  });
  return new People({
    ...{ accounts, sessions, guard, reports, linked, sessionStore: stores.sessions },
    async revokeToken({ jti, exp, sub }, now) {
      await revokeToken(shared, tokens.issuer, jti, exp * 1000, now);
      await announceAccountChange(shared, sub);
    },
  });
}

function accountsOf(
  people: People,
  entries: Entries,
  now: () => number,
  lendable: EngineOptions['accounts']['lendable'],
): EngineOptions['accounts'] {
  return {
    lendable,
    sessionOf: async (grantId) => (await people.sessionOf(entries, grantId))?.sid ?? null,
    isGood: async (sessionId, accountId) => (await people.standing(sessionId, accountId, now())) !== null,
    claims: (grantId, accountId) => people.claims(entries, grantId, accountId, now()),
  };
}

/** Routes that take tokens of the gateway's own accounts, and the gateway as a whole. */
function knownResources(config: Config, publicUrl: string): ReadonlyMap<string, Resource> {
  const locals = new Set(
    Object.entries(config.identity).flatMap(([name, { kind }]) => (kind === 'local' ? [name] : [])),
  );
  const known = new Map<string, Resource>();
  const everything = { scopes: new Set<string>(), optional: new Set<string>() };
  for (const route of buildRoutes(config)) {
    const { match, protocol, identity, scopes = [] } = route;
    if (protocol === 'api' || !identity.some((name) => locals.has(name))) continue;
    const audience = resourceUri(publicUrl, match);
    const optional = scopesOfTools(config, route);
    known.set(audience, { audience, scopes, optional });
    for (const scope of scopes) everything.scopes.add(scope);
    for (const scope of optional) everything.optional.add(scope);
  }
  const audience = resourceUri(publicUrl, '');
  return known.set(audience, { audience, scopes: [...everything.scopes], optional: [...everything.optional] });
}

/** One spelling of a resource's name; null for what can be none (RFC 8707 2). */
function canonical(indicator: string): string | null {
  const url = URL.parse(indicator);
  if (url === null || url.search !== '' || url.hash !== '' || url.username !== '' || url.password !== '') return null;
  return `${url.origin}${url.pathname.replace(/\/$/, '')}`;
}

function notesOf(
  { logging }: Platform,
  { reports }: Pick<AccountService, 'reports'>,
  tenant_id: string,
  origin: () => Origin,
): Notes {
  const logger = logging.component('accounts');
  const ownerOf = (id: string | null | undefined) => (id == null ? null : { id, tenant_id });
  const report = (
    type: 'oauth_client_registered' | 'oauth_token_issued',
    account: string | null,
    details: Readonly<Record<string, unknown>>,
  ) =>
    reports.event({
      ...{ type, origin: origin(), session_id: null, key_id: null, details },
      account: ownerOf(account),
    });
  return {
    fault: (error) => logger.error({ err: error }, 'authorization_server_failed'),
    registered: (client_id, name, redirectUris) =>
      report('oauth_client_registered', null, { client_id, client_name: name, redirect_uris: redirectUris }),
    issued: ({ clientId, accountId, grantType }) =>
      report('oauth_token_issued', accountId ?? null, { client_id: clientId, grant_type: grantType }),
    reused(what, accountId, clientId) {
      const [account, details] = [ownerOf(accountId), { client_id: clientId }];
      reports.suspicious(`${what}_reused`, { origin: origin(), account, session_id: null, details });
    },
  };
}
