/**
 * Access tokens of the gateway's own accounts, and the cookies of their browser sessions. The signature says who it was; whether the session still stands, and what
 * the account may do, is what the database says now. Source: acceptance V-01, VF-03, VF-04, VF-13, VF-17.
 */
import { z } from 'zod';
import type { Module } from '../../core/module.ts';
import { makePrincipal, type Principal } from '../../core/principal.ts';
import type { SessionStanding } from '../../stores/sessions.ts';
import { onAccountChange } from '../account-changes.ts';
import { isAccountCookie } from '../account-tokens.ts';
import type { AgentClaims } from '../agent-tokens.ts';
import { CredentialCache, freezePrincipal } from '../credential-cache.ts';
import type { IdentityEnv, LocalAccounts } from '../env.ts';
import type { AuthResult, Credential, IdentityFacts, IdentityProvider, ProviderHealth } from '../provider.ts';

const schema = z.strictObject({
  kind: z.literal('local'),
  cache_entries: z.int().min(1).max(1_000_000).default(10_000),
  cache_seconds: z.int().min(1).max(60).default(30).describe('how long a checked token is remembered at most'),
  cookies: z
    .boolean()
    .default(false)
    .describe('routes of this provider take the cookie of POST /auth/session; needs public_url'),
});

/** Checked options of the `local` provider. */
export type LocalOptions = z.output<typeof schema>;

const NOT_APPLICABLE: AuthResult = Object.freeze({ kind: 'not-applicable' });
const invalid = (detail: string): AuthResult => Object.freeze({ kind: 'rejected', reason: 'invalid', detail });
const EXPIRED: AuthResult = Object.freeze({ kind: 'rejected', reason: 'expired' });
const ENDED = invalid('the session has ended');
const INACTIVE = invalid('the account is not active');
const HELD_BACK: AuthResult = Object.freeze({
  ...{ kind: 'rejected', reason: 'mfa-required' },
  detail: 'the role needs a second factor, and none was shown in the session',
});

/** What was shown for a session. `until`: epoch milliseconds. */
interface Shown {
  readonly kind: 'bearer' | 'session';
  readonly token_id: string;
  readonly until: number;
  /** Of an agent's token: what is said of the agent. */
  readonly agent: AgentClaims | null;
}

/**
 * What somebody may do who has to enrol a second factor first. Each by its whole path: what else begins like them may be
 * a route to a service.
 */
const FOR_ENROLLING: ReadonlySet<string> = new Set([
  ...['/auth/me', '/auth/logout', '/auth/mfa', '/auth/mfa/totp', '/auth/mfa/totp/confirm'],
  ...['/auth/mfa/totp/disable', '/auth/mfa/recovery-codes', '/auth/mfa/verify'],
]);

/** Milliseconds between two looks whether another process changed the database. */
const CHANGE_CHECK_MS = 500;

/** `kind: local` */
export const local: Module<LocalOptions, IdentityProvider, IdentityEnv> = {
  kind: 'local',
  schema,
  create(options, env) {
    if (env.accounts === undefined || env.accounts === null)
      throw new Error(`identity.${env.name}: a provider of kind "local" needs accounts.enabled: true`);
    if (options.cookies && (env.publicUrl ?? null) === null)
      throw new Error(`identity.${env.name}: cookies needs public_url, by which pages of ours are known`);
    return new LocalProvider(options, env, env.accounts);
  },
};

class LocalProvider implements IdentityProvider {
  readonly #options: LocalOptions;
  readonly #name: string;
  readonly #accounts: LocalAccounts;
  readonly #cache: CredentialCache;
  readonly #unsubscribe: () => void;
  #version: number | null;
  #versionAt = 0;

  constructor(options: LocalOptions, env: IdentityEnv, accounts: LocalAccounts) {
    this.#options = options;
    this.#name = env.name;
    this.#accounts = accounts;
    this.#cache = new CredentialCache(options.cache_entries);
    this.#version = accounts.externalVersion();
    this.#unsubscribe = onAccountChange(env.shared, (id) => this.#cache.drop((principal) => principal.id === id));
  }

  authenticate(credential: Credential, facts: IdentityFacts): AuthResult | Promise<AuthResult> {
    const text = credential.value.reveal();
    if (credential.kind === 'session') {
      if (!this.#options.cookies || !isAccountCookie(text)) return NOT_APPLICABLE;
    } else if (credential.kind !== 'bearer' || !looksLikeJwt(text)) return NOT_APPLICABLE;
    this.#noticeOtherProcesses(facts.now);
    const key = this.#cache.key(this.#accounts.readsByRoute ? `${facts.route}\n${text}` : text);
    const known = this.#cache.get(key, facts.now);
    if (known !== undefined) return known;
    return credential.kind === 'session' ? this.#checkCookie(text, key, facts) : this.#check(text, key, facts);
  }

  /** Another gateway, or a command line beside us, ends sessions in the database. */
  #noticeOtherProcesses(now: number): void {
    if (Math.abs(now - this.#versionAt) < CHANGE_CHECK_MS) return;
    this.#versionAt = now;
    const version = this.#accounts.externalVersion();
    if (version === this.#version) return;
    this.#version = version;
    this.#cache.clear();
  }

  async #check(token: string, cacheKey: string, facts: IdentityFacts): Promise<AuthResult> {
    const { epoch } = this.#cache;
    const { now } = facts;
    const claims = await this.#accounts.read(token, now, facts.route);
    if ('kind' in claims) {
      if (claims.kind === 'foreign') return NOT_APPLICABLE;
      return claims.kind === 'expired' ? EXPIRED : invalid(claims.detail);
    }
    const standing = await this.#accounts.standing(claims.sid);
    if (standing === null || standing.account_id !== claims.sub) return ENDED;
    if (standing.revoked_at !== null || standing.expires_at <= now) return ENDED;
    if (!standing.is_active) return INACTIVE;
    if (await this.#accounts.isRevoked(claims.jti)) return ENDED;
    const agent = 'client_id' in claims ? claims : null;
    const shown = { kind: 'bearer', token_id: claims.jti, until: claims.exp * 1000, agent } as const;
    return this.#accept(standing, shown, { key: cacheKey, epoch }, facts);
  }

  async #checkCookie(text: string, cacheKey: string, facts: IdentityFacts): Promise<AuthResult> {
    const { epoch } = this.#cache;
    const standing = await this.#accounts.byCookie(text, facts.now);
    if (standing === null) return ENDED;
    // Its name in place of a token's: by that it is withdrawn, and what runs in it is cut off.
    const shown = {
      kind: 'session',
      token_id: standing.session_id,
      until: standing.idle_until ?? standing.expires_at,
      agent: null,
    } as const;
    return this.#accept(standing, shown, { key: cacheKey, epoch }, facts);
  }

  #accept(
    standing: SessionStanding,
    shown: Shown,
    { key, epoch }: { readonly key: string; readonly epoch: number },
    { now, path }: IdentityFacts,
  ): AuthResult {
    const isHeldBack = standing.mfa_at === null && this.#accounts.needsSecondFactor(standing.role);
    if (isHeldBack && !FOR_ENROLLING.has(path)) return HELD_BACK;
    const principal = freezePrincipal(this.#principal(standing, shown, isHeldBack));
    const result = Object.freeze({ kind: 'authenticated', principal } as const);
    const until = Math.min(shown.until, now + this.#options.cache_seconds * 1000);
    // What depends on the path is asked again at each.
    if (!isHeldBack) this.#cache.set(key, result, until, epoch);
    return result;
  }

  /** What the token says of role and name is for others; here the database counts. */
  #principal(standing: SessionStanding, { kind, token_id, until, agent }: Shown, isHeldBack: boolean): Principal {
    const { account_id, session_id, tenant_id, username, email, role, mfa_at } = standing;
    // A role that is not configured any more grants nothing, by whatever policy; nor does one that is held back.
    const permissions = isHeldBack ? null : this.#accounts.permissionsOf(role);
    const expires = kind === 'bearer' ? until : standing.expires_at;
    return makePrincipal(
      {
        ...{ id: account_id, tenant_id, type: 'user', username, email },
        roles: permissions === null ? [] : [role],
        permissions: permissions === null ? [] : [...permissions],
        ...(agent === null ? {} : this.#lentTo(agent, role)),
        auth: {
          ...{ session_id, token_id, expires_at: Math.floor(expires / 1000) },
          ...{ mfa_verified: mfa_at !== null, mfa_at: mfa_at === null ? null : Math.floor(mfa_at / 1000) },
        },
      },
      this.#name,
      kind,
    );
  }

  /** What the owner lent to an agent, as far as the owner may still do it, and to which: policies may tell it apart. */
  #lentTo({ scope = '', client_id }: AgentClaims, role: string): Pick<Principal, 'scopes' | 'metadata'> {
    const scopes = scope.split(' ').filter((one) => one !== '');
    return { scopes: [...this.#accounts.lendable(role, scopes)], metadata: { client_id } };
  }

  async health(): Promise<ProviderHealth> {
    try {
      await this.#accounts.standing('health');
      return { state: 'ok' };
    } catch {
      return { state: 'down', detail: 'the account store does not answer' };
    }
  }

  async close(): Promise<void> {
    this.#unsubscribe();
    this.#cache.clear();
  }
}

/** Exactly two dots; refresh tokens and API keys have none. */
function looksLikeJwt(token: string): boolean {
  const first = token.indexOf('.');
  if (first < 1) return false;
  const second = token.indexOf('.', first + 1);
  return second > 0 && token.indexOf('.', second + 1) < 0;
}
