/** Where accounts are kept, with their former passwords, locks and one-time tokens. Source: acceptance V-06, V-24, V-25, VW-01. */
import type { Database, Queries } from './database.ts';
import { LOOKS, lookOf } from './look-alikes.ts';
import { removeFactor } from './second-factors.ts';
import type { AccountLockRow, AccountRow } from './tables.ts';

/** One account. Times are epoch milliseconds. The hash goes nowhere but to the check. */
export interface AccountRecord {
  readonly id: string;
  readonly tenant_id: string;
  readonly username: string;
  readonly email: string;
  readonly password_hash: string;
  readonly full_name: string | null;
  readonly role: string;
  readonly is_active: boolean;
  readonly is_verified: boolean;
  readonly created_at: number;
  readonly updated_at: number;
  readonly last_login_at: number | null;
}

/** How a name stands after wrong guesses. `locked_until` is epoch milliseconds, 0 for never. */
export type AccountLock = Pick<AccountLockRow, 'failures' | 'strikes' | 'locked_until'>;

export interface LockRule {
  /** Failures that lock. */
  readonly failures: number;
  /** Milliseconds of the first lock; each further one is twice as long. */
  readonly lockMs: number;
  readonly maxLockMs: number;
}

export type AccountChange = Partial<Pick<AccountRecord, 'role' | 'is_active' | 'is_verified' | 'full_name'>>;

/** A technical failure throws. Names are compared without regard to case. */
export interface AccountStore {
  find(id: string): Promise<AccountRecord | null>;
  findByName(username: string): Promise<AccountRecord | null>;
  /** False when the name, one that looks like it, or the address is taken. */
  insert(record: AccountRecord): Promise<boolean>;
  /** By creation, oldest first. */
  list(page?: { readonly limit?: number; readonly after?: string }): Promise<AccountRecord[]>;
  /** False when there is no such account. */
  update(id: string, change: AccountChange, at: number): Promise<boolean>;
  noteLogin(id: string, at: number): Promise<void>;
  /** Puts a new hash in the place of this one; false when it was changed meanwhile. Keeps `history` former ones. */
  replacePassword(id: string, from: string, to: string, at: number, history: number): Promise<boolean>;
  /** The same password in a stronger hash: no change that anybody need know. */
  rehash(id: string, from: string, to: string): Promise<void>;
  /** Former hashes, newest first. */
  formerPasswords(id: string, limit: number): Promise<string[]>;
  /** The account with its sessions, former passwords and identities elsewhere. False when there is none. */
  delete(id: string): Promise<boolean>;
  hasRole(role: string): Promise<boolean>;

  /** Null for a name without failures. `name` is a digest: what people type by mistake into that field is not kept. */
  lock(name: string): Promise<AccountLock | null>;
  /** Counts one failure, atomically over all processes, and locks where the rule says so. */
  fail(name: string, rule: LockRule, at: number): Promise<AccountLock>;
  /** Forgets failures and lifts the lock of these names. */
  clearLocks(names: readonly string[]): Promise<void>;
  /** Forgets names that are not locked and had no failure since. */
  purgeLocks(before: number): Promise<void>;

  addBootstrap(digest: string, at: number, until: number): Promise<void>;
  /** Inserts the first administrator and burns the token; both or neither. */
  bootstrap(digest: string, record: AccountRecord, at: number): Promise<'done' | 'refused' | 'taken'>;
}

/** As names and addresses are compared. */
export const nameKey = (name: string): string => name.normalize('NFKC').toLowerCase();

function toRow({ is_active, is_verified, ...rest }: AccountRecord): AccountRow {
  return {
    ...rest,
    username_key: nameKey(rest.username),
    email_key: nameKey(rest.email),
    is_active: Number(is_active),
    is_verified: Number(is_verified),
  };
}

function fromRow({
  username_key: _name,
  email_key: _email,
  is_active,
  is_verified,
  ...rest
}: AccountRow): AccountRecord {
  return { ...rest, is_active: is_active === 1, is_verified: is_verified === 1 };
}

/** Accounts in the SQL database. */
export function createAccountStore(database: Database): AccountStore {
  const { queries } = database;
  return {
    async find(id) {
      const row = await queries.selectFrom('accounts').selectAll().where('id', '=', id).executeTakeFirst();
      return row === undefined ? null : fromRow(row);
    },
    async findByName(username) {
      const key = nameKey(username);
      // A character that not every database takes, and no name has.
      if (key.includes('\0')) return null;
      const row = await queries.selectFrom('accounts').selectAll().where('username_key', '=', key).executeTakeFirst();
      return row === undefined ? null : fromRow(row);
    },
    insert: (record) => queries.transaction().execute((transaction) => insertAccount(database, transaction, record)),
    async list({ limit = 100, after } = {}) {
      let query = queries
        .selectFrom('accounts')
        .selectAll()
        .orderBy('id')
        .limit(Math.min(Math.max(limit, 1), 1000));
      if (after !== undefined) query = query.where('id', '>', after);
      return (await query.execute()).map(fromRow);
    },
    async update(id, { is_active, is_verified, ...change }, at) {
      const flags = {
        ...(is_active === undefined ? {} : { is_active: Number(is_active) }),
        ...(is_verified === undefined ? {} : { is_verified: Number(is_verified) }),
      };
      const set = { ...change, ...flags, updated_at: at };
      const result = await queries.updateTable('accounts').set(set).where('id', '=', id).executeTakeFirst();
      return result.numUpdatedRows > 0n;
    },
    async noteLogin(id, at) {
      await queries.updateTable('accounts').set({ last_login_at: at }).where('id', '=', id).execute();
    },
    replacePassword: (id, from, to, at, history) => replacePassword(queries, { id, from, to, at, history }),
    async rehash(id, from, to) {
      const update = queries.updateTable('accounts').set({ password_hash: to });
      await update.where('id', '=', id).where('password_hash', '=', from).execute();
    },
    async formerPasswords(id, limit) {
      const query = queries.selectFrom('account_passwords').select('password_hash').where('account_id', '=', id);
      const rows = await query.orderBy('replaced_at', 'desc').orderBy('id', 'desc').limit(limit).execute();
      return rows.map((row) => row.password_hash);
    },
    delete: (id) => deleteAccount(queries, id),
    async hasRole(role) {
      const row = await queries.selectFrom('accounts').select('id').where('role', '=', role).executeTakeFirst();
      return row !== undefined;
    },
    ...locks(queries),
    ...bootstraps(database),
  };
}

/**
 * Writes an account, within a transaction of the caller's: of two that look alike and come at the same moment one is there.
 * False when the name, one like it or the address is taken.
 */
export async function insertAccount(
  { inTurn }: Pick<Database, 'inTurn'>,
  transaction: Queries,
  record: AccountRecord,
): Promise<boolean> {
  const look = lookOf(record.username);
  await inTurn(transaction, `account:${look}`);
  const alike = transaction.selectFrom('accounts').select('id').where(LOOKS, '=', look).limit(1);
  if ((await alike.executeTakeFirst()) !== undefined) return false;
  const result = await transaction
    .insertInto('accounts')
    .values(toRow(record))
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  return result.numInsertedOrUpdatedRows === 1n;
}

interface PasswordChange {
  readonly id: string;
  readonly from: string;
  readonly to: string;
  readonly at: number;
  readonly history: number;
}

async function replacePassword(queries: Queries, { id, from, to, at, history }: PasswordChange): Promise<boolean> {
  return queries.transaction().execute(async (transaction) => {
    const result = await transaction
      .updateTable('accounts')
      .set({ password_hash: to, updated_at: at })
      .where('id', '=', id)
      .where('password_hash', '=', from)
      .executeTakeFirst();
    if (result.numUpdatedRows === 0n) return false;
    await transaction
      .insertInto('account_passwords')
      .values({ id: `${id}.${at}.${from.slice(-8)}`, account_id: id, password_hash: from, replaced_at: at })
      .execute();
    const kept = await transaction
      .selectFrom('account_passwords')
      .select('id')
      .where('account_id', '=', id)
      .orderBy('replaced_at', 'desc')
      .orderBy('id', 'desc')
      .limit(Math.max(history, 1))
      .execute();
    const ids = kept.map((row) => row.id);
    await transaction.deleteFrom('account_passwords').where('account_id', '=', id).where('id', 'not in', ids).execute();
    return true;
  });
}

function deleteAccount(queries: Queries, id: string): Promise<boolean> {
  return queries.transaction().execute(async (transaction) => {
    const sessions = transaction.selectFrom('account_sessions').select('id').where('account_id', '=', id);
    await transaction.deleteFrom('account_tokens').where('session_id', 'in', sessions).execute();
    await transaction.deleteFrom('account_sessions').where('account_id', '=', id).execute();
    await removeFactor(transaction, id);
    await transaction.deleteFrom('account_passwords').where('account_id', '=', id).execute();
    await transaction.deleteFrom('account_identities').where('account_id', '=', id).execute();
    const result = await transaction.deleteFrom('accounts').where('id', '=', id).executeTakeFirst();
    return result.numDeletedRows > 0n;
  });
}

type Locks = Pick<AccountStore, 'lock' | 'fail' | 'clearLocks' | 'purgeLocks'>;

function locks(queries: Queries): Locks {
  const columns = ['failures', 'strikes', 'locked_until'] as const;
  return {
    async lock(name) {
      const query = queries.selectFrom('account_locks').select(columns).where('name', '=', name);
      return (await query.executeTakeFirst()) ?? null;
    },
    fail: (name, rule, at) => fail(queries, name, rule, at),
    async clearLocks(names) {
      if (names.length > 0) await queries.deleteFrom('account_locks').where('name', 'in', names).execute();
    },
    async purgeLocks(before) {
      const old = queries.deleteFrom('account_locks').where('updated_at', '<', before);
      await old.where('locked_until', '<', before).execute();
    },
  };
}

async function fail(queries: Queries, name: string, rule: LockRule, at: number): Promise<AccountLock> {
  return queries.transaction().execute(async (transaction) => {
    // One statement counts: of a hundred wrong guesses at once none is lost.
    const counted = await transaction
      .insertInto('account_locks')
      .values({ name, failures: 1, strikes: 0, locked_until: 0, updated_at: at })
      .onConflict((conflict) =>
        conflict.column('name').doUpdateSet((e) => ({
          failures: e('account_locks.failures', '+', 1),
          updated_at: at,
        })),
      )
      .returning(['failures', 'strikes', 'locked_until'])
      .executeTakeFirstOrThrow();
    if (counted.failures < rule.failures) return counted;
    const strikes = counted.strikes + 1;
    const length = Math.min(rule.lockMs * 2 ** Math.min(strikes - 1, 30), rule.maxLockMs);
    const locked = { failures: 0, strikes, locked_until: Math.max(at + length, counted.locked_until) };
    await transaction.updateTable('account_locks').set(locked).where('name', '=', name).execute();
    return { ...locked, failures: counted.failures };
  });
}

type Bootstraps = Pick<AccountStore, 'addBootstrap' | 'bootstrap'>;

/** Undoes the transaction: the token stays good. */
class Undone extends Error {}

function bootstraps(database: Database): Bootstraps {
  const { queries } = database;
  return {
    async addBootstrap(digest, at, until) {
      await queries
        .insertInto('account_bootstraps')
        .values({ digest, created_at: at, expires_at: until, used_at: null })
        // A token of the configuration: it was announced before.
        .onConflict((conflict) => conflict.column('digest').doNothing())
        .execute();
    },
    async bootstrap(digest, record, at) {
      try {
        return await queries.transaction().execute(async (transaction) => {
          const burnt = await transaction
            .updateTable('account_bootstraps')
            .set({ used_at: at })
            .where('digest', '=', digest)
            .where('used_at', 'is', null)
            .where('expires_at', '>', at)
            .executeTakeFirst();
          if (burnt.numUpdatedRows === 0n) return 'refused';
          const admin = transaction.selectFrom('accounts').select('id').where('role', '=', record.role);
          if ((await admin.executeTakeFirst()) !== undefined) return 'refused';
          if (!(await insertAccount(database, transaction, record))) throw new Undone();
          return 'done';
        });
      } catch (error) {
        if (error instanceof Undone) return 'taken';
        throw error;
      }
    },
  };
}
