import type { Kysely } from 'kysely';
import type { Tables } from '../tables.ts';
import type { Migration } from './migration.ts';

/** Second factors of accounts, sessions of browsers, and every access token of a session instead of the newest alone. */
export const secondFactor: Migration = {
  version: 8,
  name: 'second-factor',
  async up(database) {
    await factorTables(database);
    await sessionColumns(database);
    await tokenTable(database);
  },
};

async function factorTables({ schema }: Kysely<Tables>): Promise<void> {
  await schema
    .createTable('account_totp')
    .addColumn('account_id', 'text', (column) => column.primaryKey())
    .addColumn('secret_box', 'text', (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('confirmed_at', 'bigint')
    .addColumn('last_step', 'bigint', (column) => column.notNull())
    .execute();
  await schema
    .createTable('account_recovery_codes')
    .addColumn('digest', 'text', (column) => column.primaryKey())
    .addColumn('account_id', 'text', (column) => column.notNull())
    .addColumn('used_at', 'bigint')
    .execute();
  await schema
    .createIndex('account_recovery_codes_by_account')
    .on('account_recovery_codes')
    .columns(['account_id'])
    .execute();
}

async function sessionColumns({ schema }: Kysely<Tables>): Promise<void> {
  await schema.alterTable('account_sessions').addColumn('mfa_at', 'bigint').execute();
  await schema.alterTable('account_sessions').addColumn('cookie', 'text').execute();
  await schema.alterTable('account_sessions').addColumn('idle_until', 'bigint').execute();
  await schema.createIndex('account_sessions_by_cookie').unique().on('account_sessions').columns(['cookie']).execute();
}

async function tokenTable(database: Kysely<Tables>): Promise<void> {
  await database.schema
    .createTable('account_tokens')
    .addColumn('token_id', 'text', (column) => column.primaryKey())
    .addColumn('session_id', 'text', (column) => column.notNull())
    .addColumn('until', 'bigint', (column) => column.notNull())
    .execute();
  await database.schema
    .createIndex('account_tokens_by_session')
    .on('account_tokens')
    .columns(['session_id', 'until'])
    .execute();
}
