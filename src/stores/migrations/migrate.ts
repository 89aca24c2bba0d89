/** Versioned schema changes, run at start, each recorded. Never edit one that was released: add the next. */
import type { Kysely } from 'kysely';
import type { Clock } from '../../core/clock.ts';
import type { Tables } from '../tables.ts';
import { apiKeys } from './0001-api-keys.ts';
import { approvals } from './0002-approvals.ts';
import { switches } from './0003-switches.ts';
import { accounts } from './0004-accounts.ts';
import { keyUsage } from './0005-key-usage.ts';
import { approvalIndexes } from './0006-approval-indexes.ts';
import { sharedState } from './0007-shared.ts';
import { secondFactor } from './0008-second-factor.ts';
import { oauthEntries } from './0009-oauth.ts';
import { accountIdentities } from './0010-account-identities.ts';
import { lookAlikes } from './0011-look-alikes.ts';
import type { Migration } from './migration.ts';

/** All of them, ascending. */
export const MIGRATIONS: readonly Migration[] = [
  apiKeys,
  approvals,
  switches,
  accounts,
  keyUsage,
  approvalIndexes,
  sharedState,
  secondFactor,
  oauthEntries,
  accountIdentities,
  lookAlikes,
];

export interface MigrateOptions {
  /** Run first and last in the transaction: what a kind of database needs besides. */
  readonly before?: (transaction: Kysely<Tables>) => Promise<void>;
  readonly after?: (transaction: Kysely<Tables>) => Promise<void>;
  readonly migrations?: readonly Migration[];
}

/**
 * Brings the schema up to date in one transaction, so that two processes starting together run each change once.
 * Throws when the database was written by a newer program: its rows could be misread.
 */
export async function migrate(
  database: Kysely<Tables>,
  clock: Clock,
  { before = nothing, after = nothing, migrations = MIGRATIONS }: MigrateOptions = {},
): Promise<void> {
  await database.transaction().execute(async (transaction) => {
    await before(transaction);
    await transaction.schema
      .createTable('portcullis_migrations')
      .ifNotExists()
      .addColumn('version', 'integer', (column) => column.primaryKey())
      .addColumn('name', 'text', (column) => column.notNull())
      .addColumn('applied_at', 'bigint', (column) => column.notNull())
      .execute();
    const rows = await transaction.selectFrom('portcullis_migrations').select('version').execute();
    const applied = new Set(rows.map((row) => row.version));
    const known = new Set(migrations.map((migration) => migration.version));
    for (const version of applied) {
      if (!known.has(version))
        throw new Error(`the database has schema version ${version}, which is newer than this program`);
    }
    for (const migration of migrations) {
      if (applied.has(migration.version)) continue;
      await migration.up(transaction);
      const { version, name } = migration;
      await transaction
        .insertInto('portcullis_migrations')
        .values({ version, name, applied_at: clock.now() })
        .execute();
    }
    await after(transaction);
  });
}

const nothing = async () => {};
