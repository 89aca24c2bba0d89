/**
 * Access tokens of the gateway's own accounts. The signature says who it was; whether the session still stands, and what
 * the account may do, is what the database says now. Source: acceptance V-01, VF-03, VF-04, VF-13, VF-17.
 */
import { z } from 'zod';
import type { Module } from '../../core/module.ts';
import { makePrincipal, type Principal } from '../../core/principal.ts';
import type { SessionStanding } from '../../stores/sessions.ts';
import { onAccountChange } from '../account-changes.ts';
import type { AccessClaims } from '../account-tokens.ts';
import { CredentialCache, freezePrincipal } from '../credential-cache.ts';
import type { IdentityEnv, LocalAccounts } from '../env.ts';
import type { AuthResult, Credential, IdentityFacts, IdentityProvider, ProviderHealth } from '../provider.ts';

const schema = z.strictObject({
  kind: z.literal('local'),
  cache_entries: z.int().min(1).max(1_000_000).default(10_000),
  cache_seconds: z.int().min(1).max(60).default(30).describe('how long a checked token is remembered at most'),
});

/** Checked options of the `local` provider. */
export type LocalOptions = z.output<typeof schema>;

const NOT_APPLICABLE: AuthResult = Object.freeze({ kind: 'not-applicable' });
const invalid = (detail: string): AuthResult => Object.freeze({ kind: 'rejected', reason: 'invalid', detail });
const EXPIRED: AuthResult = Object.freeze({ kind: 'rejected', reason: 'expired' });
const ENDED = invalid('the session has ended');
const INACTIVE = invalid('the account is not active');

/** Milliseconds between two looks whether another process changed the database. */
const CHANGE_CHECK_MS = 500;

/** `kind: local` */
export const local: Module<LocalOptions, IdentityProvider, IdentityEnv> = {
  kind: 'local',
  schema,
  create(options, env) {
    if (env.accounts === undefined || env.accounts === null)
      throw new Error(`identity.${env.name}: a provider of kind "local" needs accounts.enabled: true`);
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
    if (credential.kind !== 'bearer') return NOT_APPLICABLE;
    const token = credential.value.reveal();
    if (!looksLikeJwt(token)) return NOT_APPLICABLE;
    this.#noticeOtherProcesses(facts.now);
    const key = this.#cache.key(token);
    return this.#cache.get(key, facts.now) ?? this.#check(token, key, facts.now);
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

  async #check(token: string, cacheKey: string, now: number): Promise<AuthResult> {
    const epoch = this.#cache.epoch;
    const claims = await this.#accounts.read(token, now);
    if ('kind' in claims) {
      if (claims.kind === 'foreign') return NOT_APPLICABLE;
      return claims.kind === 'expired' ? EXPIRED : invalid(claims.detail);
    }
    const standing = await this.#accounts.standing(claims.sid);
    if (standing === null || standing.account_id !== claims.sub) return ENDED;
    if (standing.revoked_at !== null || standing.expires_at <= now) return ENDED;
    if (!standing.is_active) return INACTIVE;
    if (await this.#accounts.isRevoked(claims.jti)) return ENDED;
    const principal = freezePrincipal(this.#principal(standing, claims));
    const result = Object.freeze({ kind: 'authenticated', principal } as const);
    const until = Math.min(claims.exp * 1000, now + this.#options.cache_seconds * 1000);
    this.#cache.set(cacheKey, result, until, epoch);
    return result;
  }

  /** What the token says of role and name is for others; here the database counts. */
  #principal({ account_id, tenant_id, username, email, role }: SessionStanding, claims: AccessClaims): Principal {
    const permissions = this.#accounts.permissionsOf(role);
    return makePrincipal(
      {
        ...{ id: account_id, tenant_id, type: 'user', username, email },
        // A role that is not configured any more grants nothing, by whatever policy.
        roles: permissions === null ? [] : [role],
        permissions: permissions === null ? [] : [...permissions],
        auth: { session_id: claims.sid, token_id: claims.jti, expires_at: claims.exp },
      },
      this.#name,
      'bearer',
    );
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
