/**
 * Whether those who lent rights still have them. Where the directory knows the credential behind a delegation it is
 * looked at again: a revoked one ends what was lent with it, one that grants less now narrows it, and one that grants
 * more changes nothing.
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

export interface StandingOptions {
  readonly keys: Pick<ApiKeyStore, 'find' | 'externalVersion'>;
  readonly shared: Shared;
  /** Issuer by the name of the provider. */
  readonly issuers: ReadonlyMap<string, string>;
}

export interface Standing {
  /** The lender with what it still has, or null when its credential is gone. Rejects when that cannot be found out. */
  narrow(lender: Principal, hop: Pick<Hop, 'provider' | 'key_id' | 'token_id'>, now: number): Promise<Principal | null>;
  /** True when what was found before may not hold any more, for another process has written. */
  isStale(now: number): boolean;
}

export function createStanding({ keys, shared, issuers }: StandingOptions): Standing {
  let version = keys.externalVersion();
  let lookedAt = Number.NEGATIVE_INFINITY;
  return {
    async narrow(lender, { provider, key_id, token_id }, now) {
      const issuer = issuers.get(provider);
      if (issuer !== undefined && token_id !== null && (await isTokenRevoked(shared, issuer, token_id))) return null;
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
