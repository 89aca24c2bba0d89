/** Where API keys are kept: only their hashes. Source: contracts 5, acceptance HW-07. */
import type { Principal, PrincipalType } from '../core/principal.ts';
import type { Database } from './database.ts';
import type { ApiKeyRow } from './tables.ts';

/** What a key's principal may do and what is known of it; given when the key is made. */
export interface ApiKeyFacts {
  readonly type: PrincipalType;
  readonly username: string | null;
  readonly email: string | null;
  readonly roles: readonly string[];
  readonly teams: readonly string[];
  readonly groups: readonly string[];
  readonly permissions: readonly string[];
  readonly scopes: readonly string[];
  readonly tenure_months: number | null;
  readonly mfa_verified: boolean;
  readonly device_compliant: boolean;
  readonly metadata: Principal['metadata'];
  /** Addresses or CIDR ranges the key may be used from; empty means any. */
  readonly allowed_ips: readonly string[];
  readonly rate_limit_per_hour: number | null;
}

/** One key without its secret. Times are epoch milliseconds. */
export interface ApiKeyRecord {
  readonly id: string;
  readonly tenant_id: string;
  /** Id of the principal that the key stands for. */
  readonly owner_id: string;
  readonly name: string;
  readonly prefix: string;
  /** The key's environment word: dev, test or live. */
  readonly environment: string;
  /** Hex SHA-256 over pepper and key; made and checked by `identity/key-format.ts`. */
  readonly hash: string;
  readonly facts: ApiKeyFacts;
  readonly created_at: number;
  readonly expires_at: number | null;
  readonly revoked_at: number | null;
  readonly last_used_at: number | null;
  /** The key that a rotation put in its place. */
  readonly replaced_by: string | null;
}

/** Says in so many words that a query crosses tenants; only operators' tools do. */
export const EVERY_TENANT: unique symbol = Symbol('every tenant');

export interface ApiKeyPage {
  readonly owner_id?: string;
  /** 1 to 1000, default 100. */
  readonly limit?: number;
  /** Id of the last key of the page before. */
  readonly after?: string;
}

/** Whether a key is still good, in epoch milliseconds. */
export type KeyStanding = Pick<ApiKeyRecord, 'id' | 'expires_at' | 'revoked_at'>;

/** Every call but `find` names the tenant: at `find` nobody is known yet. A technical failure throws. */
export interface ApiKeyStore {
  find(id: string): Promise<ApiKeyRecord | null>;
  /** Throws when the id exists. */
  insert(record: ApiKeyRecord): Promise<void>;
  /** By id, ascending. */
  list(tenant: string | typeof EVERY_TENANT, page?: ApiKeyPage): Promise<ApiKeyRecord[]>;
  /** False when the tenant has no such key. Revoking twice keeps the first time. */
  revoke(tenant: string, id: string, at: number): Promise<boolean>;
  /**
   * Puts `successor` in the place of a live key, which stays good until `graceEnds` at most. Both or neither happen;
   * false when the tenant has no such key, or it is revoked or was rotated before.
   */
  rotate(tenant: string, id: string, successor: ApiKeyRecord, graceEnds: number): Promise<boolean>;
  /** Notes when keys were last used; older times than the stored ones are ignored. */
  touch(uses: ReadonlyMap<string, number>): Promise<void>;
  /** How those of these keys that exist stand; asked for keys in use, after somebody has written. */
  standing(ids: readonly string[]): Promise<KeyStanding[]>;
  /** Changes when another process has written; null when the backend cannot tell. */
  externalVersion(): number | null;
}

const toRow = (record: ApiKeyRecord): ApiKeyRow => ({ ...record, facts: JSON.stringify(record.facts) });
const fromRow = (row: ApiKeyRow): ApiKeyRecord => ({ ...row, facts: JSON.parse(row.facts) as ApiKeyFacts });

/** API keys in the SQL database. */
export function createApiKeyStore(database: Database): ApiKeyStore {
  const { queries } = database;
  return {
    async find(id) {
      const row = await queries.selectFrom('api_keys').selectAll().where('id', '=', id).executeTakeFirst();
      return row === undefined ? null : fromRow(row);
    },
    async insert(record) {
      await queries.insertInto('api_keys').values(toRow(record)).execute();
    },
    async list(tenant, page = {}) {
      let query = queries.selectFrom('api_keys').selectAll().orderBy('id').limit(pageSize(page.limit));
      if (tenant !== EVERY_TENANT) query = query.where('tenant_id', '=', tenant);
      if (page.owner_id !== undefined) query = query.where('owner_id', '=', page.owner_id);
      if (page.after !== undefined) query = query.where('id', '>', page.after);
      return (await query.execute()).map(fromRow);
    },
    async revoke(tenant, id, at) {
      const result = await queries
        .updateTable('api_keys')
        .set((e) => ({ revoked_at: e.fn.coalesce('revoked_at', e.val(at)) }))
        .where('tenant_id', '=', tenant)
        .where('id', '=', id)
        .executeTakeFirst();
      return result.numUpdatedRows > 0n;
    },
    rotate: (tenant, id, successor, graceEnds) => rotate(database, tenant, id, successor, graceEnds),
    touch: (uses) => touch(database, uses),
    standing: (ids) => standing(database, ids),
    externalVersion: () => database.externalVersion(),
  };
}

/** Parameters of one query; SQLite takes 32,766. */
const STANDING_CHUNK = 1000;

async function standing({ queries }: Database, ids: readonly string[]): Promise<KeyStanding[]> {
  const found: KeyStanding[] = [];
  for (let at = 0; at < ids.length; at += STANDING_CHUNK) {
    const chunk = ids.slice(at, at + STANDING_CHUNK);
    const columns = ['id', 'expires_at', 'revoked_at'] as const;
    found.push(...(await queries.selectFrom('api_keys').select(columns).where('id', 'in', chunk).execute()));
  }
  return found;
}

function pageSize(limit = 100): number {
  return Math.min(Math.max(Math.trunc(limit), 1), 1000);
}

async function rotate(database: Database, tenant: string, id: string, next: ApiKeyRecord, graceEnds: number) {
  return database.queries.transaction().execute(async (transaction) => {
    const old = await transaction
      .selectFrom('api_keys')
      .select('expires_at')
      .where('tenant_id', '=', tenant)
      .where('id', '=', id)
      .where('revoked_at', 'is', null)
      .where('replaced_by', 'is', null)
      .executeTakeFirst();
    if (old === undefined) return false;
    const expires_at = Math.min(old.expires_at ?? graceEnds, graceEnds);
    // Asked again while writing: where transactions run side by side, one of two rotations wins.
    const won = await transaction
      .updateTable('api_keys')
      .set({ expires_at, replaced_by: next.id })
      .where('id', '=', id)
      .where('revoked_at', 'is', null)
      .where('replaced_by', 'is', null)
      .executeTakeFirst();
    if (won.numUpdatedRows === 0n) return false;
    await transaction.insertInto('api_keys').values(toRow(next)).execute();
    return true;
  });
}

async function touch(database: Database, uses: ReadonlyMap<string, number>): Promise<void> {
  if (uses.size === 0) return;
  await database.queries.transaction().execute(async (transaction) => {
    // In one order everywhere: two gateways that touch the same keys would otherwise wait for each other.
    for (const [id, at] of [...uses].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
      await transaction
        .updateTable('api_keys')
        .set({ last_used_at: at })
        .where('id', '=', id)
        .where((e) => e.or([e('last_used_at', 'is', null), e('last_used_at', '<', at)]))
        .execute();
    }
  });
}
