import type { Migration } from './migration.ts';

/** API keys: only hashes, found by id. */
export const apiKeys: Migration = {
  version: 1,
  name: 'api-keys',
  async up(database) {
    await database.schema
      .createTable('api_keys')
      .addColumn('id', 'text', (column) => column.primaryKey())
      .addColumn('tenant_id', 'text', (column) => column.notNull())
      .addColumn('owner_id', 'text', (column) => column.notNull())
      .addColumn('name', 'text', (column) => column.notNull())
      .addColumn('prefix', 'text', (column) => column.notNull())
      .addColumn('environment', 'text', (column) => column.notNull())
      .addColumn('hash', 'text', (column) => column.notNull())
      .addColumn('facts', 'text', (column) => column.notNull())
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .addColumn('expires_at', 'bigint')
      .addColumn('revoked_at', 'bigint')
      .addColumn('last_used_at', 'bigint')
      .addColumn('replaced_by', 'text')
      .execute();
    await database.schema
      .createIndex('api_keys_by_owner')
      .on('api_keys')
      .columns(['tenant_id', 'owner_id', 'created_at'])
      .execute();
  },
};
