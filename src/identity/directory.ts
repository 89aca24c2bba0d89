/**
 * Who is known without being here: principals by their id within a tenant. Today these are the owners of API keys.
 * Source: design 2.3 (`target_user` is resolved by the directory), acceptance SF-35.
 */
import { makePrincipal, type Principal } from '../core/principal.ts';
import type { ApiKeyRecord, ApiKeyStore } from '../stores/api-keys.ts';

export interface Directory {
  /** The principal with this id in the tenant, or null. A technical failure throws. `now`: epoch milliseconds. */
  find(tenant: string, id: string, now: number): Promise<Principal | null>;
}

const PAGE = 1000;

/** True when a key may be used now. */
export function isLive(record: ApiKeyRecord, now: number): boolean {
  return record.revoked_at === null && (record.expires_at === null || record.expires_at > now);
}

/**
 * The owners of live keys. One who has several keys is taken for the most trusted that one of them makes: who lends
 * rights must be trusted at least as much as that.
 */
export function keyOwners(keys: Pick<ApiKeyStore, 'list'>): Directory {
  return {
    async find(tenant, id, now) {
      const records = await keys.list(tenant, { owner_id: id, limit: PAGE });
      const live = records.filter((record) => record.owner_id === id && isLive(record, now));
      return live.length === 0 ? null : ownerOf(tenant, id, live);
    },
  };
}

function ownerOf(tenant_id: string, id: string, records: readonly ApiKeyRecord[]): Principal {
  const facts = records.map((record) => record.facts);
  const [first] = facts;
  const all = (name: 'roles' | 'teams' | 'groups' | 'permissions' | 'scopes') =>
    [...new Set(facts.flatMap((one) => one[name]))].sort();
  const tenures = facts.flatMap(({ tenure_months }) => (tenure_months === null ? [] : [tenure_months]));
  return makePrincipal(
    {
      ...{ id, tenant_id, username: first?.username ?? null, email: first?.email ?? null },
      type: first?.type ?? 'service',
      ...{ roles: all('roles'), teams: all('teams'), groups: all('groups') },
      ...{ permissions: all('permissions'), scopes: all('scopes') },
      tenure_months: tenures.length === 0 ? null : Math.max(...tenures),
      device_compliant: facts.some(({ device_compliant }) => device_compliant),
      auth: { mfa_verified: facts.some(({ mfa_verified }) => mfa_verified) },
    },
    'directory',
    'none',
  );
}
