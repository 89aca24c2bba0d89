/** Makes the account service of one generation, its endpoints, and the records of what happens there. */
import type { AccountEvent, AccountReports, Origin } from '../accounts/account.ts';
import { Accounts } from '../accounts/accounts.ts';
import { accountEndpoints } from '../accounts/api.ts';
import { browserEndpoints } from '../accounts/browser-api.ts';
import { checkEndpoints } from '../accounts/checks-api.ts';
import { Guard } from '../accounts/guard.ts';
import { keyEndpoints, keysOf } from '../accounts/keys-api.ts';
import { Passwords } from '../accounts/passwords.ts';
import { coversAll, type Roles, rolesOf } from '../accounts/roles.ts';
import { SecondFactor } from '../accounts/second-factor.ts';
import { factorEndpoints } from '../accounts/second-factor-api.ts';
import { Sessions } from '../accounts/sessions.ts';
import { standingCheck } from '../accounts/standing.ts';
import type { AccountEvent as AuditAccountEvent } from '../audit/event.ts';
import type { Config } from '../config/schema.ts';
import type { Call } from '../core/call.ts';
import type { Admitted } from '../core/exchange.ts';
import type { Principal } from '../core/principal.ts';
import { scrubText } from '../core/redaction.ts';
import { announceAccountChange } from '../identity/account-changes.ts';
import { AccountTokens, isAccountCookie } from '../identity/account-tokens.ts';
import type { AgentTokens } from '../identity/agent-tokens.ts';
import type { LocalAccounts } from '../identity/env.ts';
import { addressList, findGoodKey, issueKey, type KeyIssuing, revokeKey, rotateKey } from '../identity/key-issuing.ts';
import { Seal } from '../identity/oauth/seal.ts';
import { SessionCookie } from '../identity/oauth/session-cookie.ts';
import { BrowserSessions } from '../identity/oauth/sessions.ts';
import { principalOfKey } from '../identity/providers/api-key.ts';
import { isTokenRevoked, revokeToken } from '../identity/revocations.ts';
import type { SigningRing } from '../identity/signing-ring.ts';
import { identityHeaders } from '../pipeline/stages/forward.ts';
import type { Endpoint } from '../protocols/endpoint.ts';
import { ERRORS_PATH } from '../protocols/errors-api.ts';
import { type AccountIdentityStore, createAccountIdentityStore } from '../stores/account-identities.ts';
import { type AccountStore, createAccountStore } from '../stores/accounts.ts';
import type { ApiKeyRecord } from '../stores/api-keys.ts';
import type { Database } from '../stores/database.ts';
import { createOAuthEntryStore, type OAuthEntryStore } from '../stores/oauth-entries.ts';
import { createSecondFactorStore, type SecondFactorStore } from '../stores/second-factors.ts';
import { createSessionStore, type SessionStore } from '../stores/sessions.ts';
import { createSigningKeyStore, type SigningKeyStore } from '../stores/signing-keys.ts';
import { agentTokens } from './agent-logins.ts';
import type { Platform } from './assembly.ts';
import { cookieProviders } from './oauth.ts';
import { guardedScopes } from './tool-scope-rules.ts';

/** Where accounts are kept; outlives generations. */
export interface AccountStores {
  readonly store: AccountStore;
  readonly sessions: SessionStore;
  readonly signingKeys: SigningKeyStore;
  readonly oauthEntries: OAuthEntryStore;
  readonly identities: AccountIdentityStore;
  readonly factors: SecondFactorStore;
}

export function openAccountStores(database: Database): AccountStores {
  return {
    store: createAccountStore(database),
    sessions: createSessionStore(database),
    signingKeys: createSigningKeyStore(database),
    oauthEntries: createOAuthEntryStore(database),
    identities: createAccountIdentityStore(database),
    factors: createSecondFactorStore(database),
  };
}

/** What the rest of a generation uses of the account service. */
export interface AccountService {
  readonly accounts: Accounts;
  readonly factor: SecondFactor;
  readonly sessions: Sessions;
  readonly tokens: AccountTokens;
  /** Null while no agent gets any. */
  readonly agents: AgentTokens | null;
  readonly guard: Guard;
  readonly roles: Roles;
  readonly reports: AccountReports;
  /** For the provider of kind `local`. */
  readonly local: LocalAccounts;
  readonly passwords: Passwords;
  /** Another role: keys that go beyond it are withdrawn, and sessions of browsers end. */
  changeRole(accountId: string, role: string, origin: Origin): Promise<void>;
}

/** How often ended sessions and old failures are removed, and for how long they are kept. */
const SWEEP_MS = 600_000;
const KEPT_MS = 30 * 86_400_000;

const FOREIGN = { kind: 'foreign' } as const;

/** Null without a ring, which is while `accounts.enabled` is false. */
export async function buildAccounts(
  config: Config,
  platform: Platform,
  ring: SigningRing | null,
  cleanup: AsyncDisposableStack,
): Promise<AccountService | null> {
  const { accounts: options } = config;
  if (ring === null) return null;
  const { shared, pepper, clock } = platform;
  const { store, sessions: sessionStore, factors } = platform.accounts;
  const tokens = openTokens(config, ring, pepper);
  const agents = agentTokens(config, ring);
  const reports = createReports(platform);
  const guard = new Guard({ shared, store, pepper, limits: options.limits, lockout: options.lockout });
  const roles = rolesOf(options);
  const sessions = new Sessions({
    ...{ store: sessionStore, tokens, guard, reports, clock, tenant: options.tenant },
    lifeMs: options.tokens.refresh_seconds * 1000,
    browser: { idleMs: options.sessions.idle_seconds * 1000, lifeMs: options.sessions.absolute_seconds * 1000 },
    factorRoles: new Set(options.mfa.required_roles),
    revokeToken: (id, until, now) => revokeToken(shared, tokens.issuer, id, until, now),
    announce: (id) => announceAccountChange(shared, id),
  });
  const passwords = new Passwords(options.password);
  const seal = new Seal(pepper, 'second factor');
  const factor = new SecondFactor({ store: factors, guard, seal, issuer: options.mfa.issuer });
  const parts = { store, sessionStore, sessions, passwords, guard, factor, roles, reports };
  const accounts = new Accounts({ config: options, ...parts });
  const sweep = setInterval(() => {
    const before = clock.now() - KEPT_MS;
    Promise.all([sessionStore.purge(before), store.purgeLocks(before)]).catch((error: unknown) =>
      platform.logging.component('accounts').warn({ err: error }, 'account_sweep_failed'),
    );
  }, SWEEP_MS).unref();
  cleanup.defer(() => clearInterval(sweep));
  const local: LocalAccounts = {
    async read(token, now, route) {
      const read = agents === null ? FOREIGN : await agents.read(token, now, route);
      return 'kind' in read && read.kind === 'foreign' ? tokens.read(token, now) : read;
    },
    readsByRoute: agents !== null,
    standing: (id) => sessionStore.standing(id),
    async isRevoked(id) {
      const isRevoked = await isTokenRevoked(shared, tokens.issuer, id);
      platform.metrics.sharedLookup(isRevoked ? 'hit' : 'miss');
      return isRevoked;
    },
    ...rightsOf(roles, guardedScopes(config)),
    externalVersion: () => sessionStore.externalVersion(),
    byCookie: (text, now) => sessions.byCookie(text, now),
    needsSecondFactor: (role) => options.mfa.required_roles.includes(role),
  };
  const issuing = { keys: platform.keys, clock, shared };
  const changeRole = async (id: string, role: string, origin: Origin): Promise<void> => {
    await store.update(id, { role }, origin.now);
    await sessions.endBrowsers(id, origin, 'another role');
    await revokeKeysOf(issuing, options.tenant, id, exceeds(roles, role));
  };
  return { accounts, factor, sessions, tokens, agents, guard, roles, reports, local, passwords, changeRole };
}

/** @param guarded scopes that tools need: to lend one takes a permission that covers it, as for the keys an account makes */
function rightsOf(roles: Roles, guarded: ReadonlySet<string>): Pick<LocalAccounts, 'permissionsOf' | 'lendable'> {
  const permissionsOf = (role: string) => roles.get(role)?.permissions ?? null;
  return {
    permissionsOf,
    lendable: (role, scopes) =>
      scopes.filter((scope) => !guarded.has(scope) || coversAll(permissionsOf(role) ?? [], [scope])),
  };
}

function openTokens(config: Config, ring: SigningRing, pepper: Platform['pepper']): AccountTokens {
  const { access_seconds, audience } = config.accounts.tokens;
  const issuer = accountIssuer(config);
  return new AccountTokens({ ring, pepper, issuer, audience: audience ?? issuer, accessSeconds: access_seconds });
}

/** `iss` of the access tokens. */
export function accountIssuer({ accounts, public_url }: Pick<Config, 'accounts' | 'public_url'>): string {
  return accounts.tokens.issuer ?? public_url ?? 'urn:portcullis:accounts';
}

/** What a listener for accounts only serves. */
export function isAuthPath(path: string): boolean {
  return (
    /^\/(auth|oauth)\//.test(path) ||
    path.startsWith(ERRORS_PATH) ||
    /^\/\.well-known\/(jwks\.json|o[^/]+-(configuration|server)(\/|$))/.test(path)
  );
}

/** Names of the providers whose principals are our own accounts. */
export function localProviders({ identity }: Config): ReadonlySet<string> {
  return new Set(Object.entries(identity).flatMap(([name, { kind }]) => (kind === 'local' ? [name] : [])));
}

export interface AuthEndpointParts {
  readonly config: Config;
  readonly platform: Platform;
  readonly service: AccountService | null;
  isPermitted(exchange: Admitted, call: Call): boolean;
}

/** Everything below `/auth` but the public keys. */
export function authEndpoints({ config, platform, service, isPermitted }: AuthEndpointParts): readonly Endpoint[] {
  const { keys, pepper, clock, shared } = platform;
  const accountStore = platform.accounts.store;
  const issuing: KeyIssuing = { keys, pepper, clock, shared, environment: config.environment };
  const providers = localProviders(config);
  const checks = checkEndpoints({
    roles: service?.roles ?? rolesOf(config.accounts),
    reports: service?.reports ?? null,
    guard: service?.guard ?? null,
    account: async ({ id, auth }: Principal) => (providers.has(auth.provider) ? accountStore.find(id) : null),
    isPermitted,
    findGoodKey: (text) => findGoodKey(issuing, text),
    refusalOf: (record) => platform.switches.refusalOf(principalOfKey(record, 'keys')),
    isAllowedFrom: ({ facts }, address) =>
      addressList(facts.allowed_ips)?.check(address, address.includes(':') ? 'ipv6' : 'ipv4') ?? true,
    identityHeaders,
  });
  if (service === null) return checks;
  const { accounts, factor, sessions, reports } = service;
  const isRequired = (role: string) => config.accounts.mfa.required_roles.includes(role);
  const requireStanding = standingCheck({
    ...{ sessions: platform.accounts.sessions, keys, needsSecondFactor: isRequired },
    kindOf: (name) => config.identity[name]?.kind,
  });
  return [
    ...checks,
    ...factorEndpoints({ accounts, factor, sessions, reports, providers, isRequired }),
    ...browserLogin(config, platform, service),
    ...accountEndpoints({
      ...{ accounts, sessions, providers, defaultRole: config.accounts.default_role, tenant: config.accounts.tenant },
      requireStanding,
      async remove(id, origin) {
        // From here on nobody logs in any more, nor makes keys.
        await accountStore.update(id, { is_active: false }, origin.now);
        await sessions.endAll(id, null, origin, 'account deleted');
        await revokeKeysOf(issuing, config.accounts.tenant, id, () => true);
        await accountStore.delete(id);
      },
    }),
    ...keyEndpoints({
      ...{ keys, reports, maxDays: config.accounts.key_max_days, requireStanding },
      issue: (request) => issueKey(issuing, request),
      rotate: (tenant, id) => rotateKey(issuing, tenant, id),
      revoke: (tenant, id) => revokeKey(issuing, tenant, id),
    }),
  ];
}

/** Where a route takes cookies, there is a place to get one. */
function browserLogin(config: Config, { shared, pepper }: Platform, service: AccountService): readonly Endpoint[] {
  if (config.public_url === undefined || cookieProviders(config).length === 0) return [];
  const elsewhere = new BrowserSessions(shared, pepper);
  return browserEndpoints({
    accounts: service.accounts,
    cookie: new SessionCookie(config.public_url),
    end: (text, origin) => (isAccountCookie(text) ? service.sessions.endCookie(text, origin) : elsewhere.end(text)),
  });
}

/** What a key may do, as far as its owner gave it. */
type KeyRights = Pick<ApiKeyRecord['facts'], 'permissions' | 'scopes' | 'roles'>;

/** Withdraws keys of an owner that go beyond `isOver`; gives how many. */
export async function revokeKeysOf(
  issuing: Omit<KeyIssuing, 'pepper' | 'environment'>,
  tenant: string,
  owner: string,
  isOver: (rights: KeyRights) => boolean,
): Promise<number> {
  let count = 0;
  // Page by page: who has made and withdrawn a thousand keys must not keep the next one.
  for await (const { id, facts, revoked_at } of keysOf(issuing.keys, tenant, owner)) {
    if (revoked_at === null && isOver(facts) && (await revokeKey(issuing, tenant, id))) count += 1;
  }
  // Again until there is none: a key that was about to be withdrawn may have been replaced meanwhile.
  return count === 0 ? 0 : count + (await revokeKeysOf(issuing, tenant, owner, isOver));
}

/** Whether a key goes beyond what a role may: by what it may do, or by a role its owner does not have any more. */
export function exceeds(roles: Roles, role: string): (rights: KeyRights) => boolean {
  const held = roles.get(role)?.permissions ?? [];
  return ({ permissions, scopes, roles: given }) =>
    !coversAll(held, [...permissions, ...scopes]) || given.some((one) => one !== role);
}

function createReports({ audit, metrics }: Platform): AccountReports {
  return {
    event(event) {
      metrics.accountEvent(event.type);
      audit.record({ event_type: event.type, ...baseOf(event, event.key_id), details: event.details });
    },
    suspicious(pattern, event) {
      metrics.suspicious(pattern);
      audit.record({
        ...{ event_type: 'suspicious_activity', ...baseOf(event, null), activity_type: pattern },
        indicators: Object.keys(event.details),
        risk_score: 80,
        automated_response: pattern === 'account_locked' ? 'locked for a time' : 'session ended',
      });
    },
    refreshed: (outcome) => metrics.tokenRefresh(outcome),
  };
}

type Base = Omit<AuditAccountEvent, 'event_id' | 'timestamp' | 'event_type' | 'details'>;

function baseOf({ origin, account, session_id }: Omit<AccountEvent, 'type' | 'key_id'>, key_id: string | null): Base {
  const agent = origin?.user_agent ?? null;
  return {
    request_id: origin?.request_id ?? null,
    tenant_id: account?.tenant_id ?? null,
    user_id: account?.id ?? null,
    principal_type: account === null ? null : 'user',
    auth_provider: 'local',
    key_id,
    source_ip: origin?.source_ip ?? null,
    user_agent: agent === null ? null : scrubText(agent.slice(0, 256)),
    session_id,
  };
}
