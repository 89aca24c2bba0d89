import type { Migration } from './migration.ts';

/** What operators have switched off, and a figure that tells every process of a change. */
export const switches: Migration = {
  version: 3,
  name: 'switches',
  async up(database) {
    await database.schema
      .createTable('switches')
      .addColumn('id', 'text', (column) => column.primaryKey())
      .addColumn('kind', 'text', (column) => column.notNull())
      .addColumn('name', 'text', (column) => column.notNull())
      .addColumn('within', 'text', (column) => column.notNull())
      .addColumn('reason', 'text', (column) => column.notNull())
      .addColumn('is_public', 'integer', (column) => column.notNull())
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .addColumn('created_by', 'text', (column) => column.notNull())
      .addColumn('until', 'bigint')
      .execute();
    await database.schema
      .createTable('switch_version')
      .addColumn('version', 'bigint', (column) => column.notNull())
      .execute();
    await database.insertInto('switch_version').values({ version: 0 }).execute();
  },
};
