import type { Migration } from './migration.ts';

/** How often keys of the key service were asked about, by key and hour (hours since 1970). */
export const keyUsage: Migration = {
  version: 5,
  name: 'key-usage',
  async up(database) {
    await database.schema
      .createTable('key_usage')
      .addColumn('key_id', 'text', (column) => column.notNull())
      .addColumn('hour', 'bigint', (column) => column.notNull())
      .addColumn('uses', 'bigint', (column) => column.notNull())
      .addPrimaryKeyConstraint('key_usage_pk', ['key_id', 'hour'])
      .execute();
  },
};
