/**
 * Whether those who lent rights still have them. Where the gateway knows the key or the account behind a delegation it is
 * looked at again: a revoked key, a login that ended and an account that was switched off end what was lent with them,
 * what grants less now narrows it, and what grants more changes nothing.
 */
import type { Principal } from '../core/principal.ts';
import type { ApiKeyStore } from '../stores/api-keys.ts';
import type { Shared } from '../stores/shared.ts';
import { limited, sharedWords } from './delegation-rights.ts';
import type { Hop } from './delegation-token.ts';
import { isLive } from './directory.ts';
import { isTokenRevoked } from './revocations.ts';

/** Milliseconds between two looks whether another process changed the database. */
const CHANGE_CHECK_MS = 1000;

/** What is asked of an account that lent. */
export interface LendingAccounts {
  /** Names of the providers whose principals are accounts of ours. */
  readonly providers: ReadonlySet<string>;
  /** The login with the account behind it, as both are now; null when one of them is gone. */
  session(id: string): Promise<LendingSession | null>;
  /** What the role grants now; null for one that is not configured any more. */
  permissionsOf(role: string): readonly string[] | null;
  /** True for a role that may do nothing before a second factor was shown. */
  needsSecondFactor(role: string): boolean;
}

export interface LendingSession {
  readonly account_id: string;
  readonly role: string;
  readonly is_active: boolean;
  /** Epoch milliseconds. */
  readonly expires_at: number;
  readonly revoked_at: number | null;
  /** When a second factor was shown, epoch milliseconds, or null. */
  readonly mfa_at: number | null;
}

export interface StandingOptions {
  readonly keys: Pick<ApiKeyStore, 'find' | 'externalVersion'>;
  readonly shared: Shared;
  /** Issuer by the name of the provider. */
  readonly issuers: ReadonlyMap<string, string>;
  /** Absent: there are no accounts. */
  readonly accounts?: LendingAccounts | undefined;
}

/** Where a hop's lender had shown its credential. */
type Shown = Pick<Hop, 'provider' | 'key_id' | 'token_id' | 'session_id'>;

export interface Standing {
  /** The lender with what it still has, or null when its credential is gone. Rejects when that cannot be found out. */
  narrow(lender: Principal, hop: Shown, now: number): Promise<Principal | null>;
  /** True when what was found before may not hold any more, for another process has written. */
  isStale(now: number): boolean;
}

export function createStanding({ keys, shared, issuers, accounts }: StandingOptions): Standing {
  let version = keys.externalVersion();
  let lookedAt = Number.NEGATIVE_INFINITY;
  return {
    async narrow(lender, { provider, key_id, token_id, session_id = null }, now) {
      const issuer = issuers.get(provider);
      if (issuer !== undefined && token_id !== null && (await isTokenRevoked(shared, issuer, token_id))) return null;
      if (accounts?.providers.has(provider) === true) return await accountNow(accounts, lender, session_id, now);
      if (key_id === null) return lender;
      const record = await keys.find(key_id);
      if (record === null || !isLive(record, now)) return null;
      if (record.tenant_id !== lender.tenant_id || record.owner_id !== lender.id) return null;
      const { roles, permissions, scopes, teams, groups, mfa_verified, device_compliant } = record.facts;
      const left = limited(lender, { roles, permissions, scopes });
      return {
        ...left,
        teams: sharedWords(left.teams, teams),
        groups: sharedWords(left.groups, groups),
        device_compliant: left.device_compliant && device_compliant,
        auth: { ...left.auth, mfa_verified: left.auth.mfa_verified && mfa_verified },
      };
    },
    isStale(now) {
      if (Math.abs(now - lookedAt) < CHANGE_CHECK_MS) return false;
      lookedAt = now;
      const current = keys.externalVersion();
      if (current === version) return false;
      version = current;
      return true;
    },
  };
}

async function accountNow(
  { session, permissionsOf, needsSecondFactor }: LendingAccounts,
  lender: Principal,
  sessionId: string | null,
  now: number,
): Promise<Principal | null> {
  const login = sessionId === null ? null : await session(sessionId);
  if (login === null || login.account_id !== lender.id || !login.is_active) return null;
  if (login.revoked_at !== null || login.expires_at <= now) return null;
  // Who may not act itself has nobody act for it.
  if (login.mfa_at === null && needsSecondFactor(login.role)) return null;
  const permissions = permissionsOf(login.role);
  if (permissions === null) return null;
  const left = limited(lender, { roles: [login.role], permissions });
  return login.mfa_at === null ? { ...left, auth: { ...left.auth, mfa_verified: false, mfa_at: null } } : left;
}
