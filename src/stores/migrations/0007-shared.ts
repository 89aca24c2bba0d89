import type { Migration } from './migration.ts';

/** What processes over one database share without a Redis: values that have to outlive them, and messages. */
export const sharedState: Migration = {
  version: 7,
  name: 'shared',
  async up(database) {
    await database.schema
      .createTable('shared_values')
      .addColumn('key', 'text', (column) => column.primaryKey())
      .addColumn('value', 'text', (column) => column.notNull())
      .addColumn('until', 'bigint', (column) => column.notNull())
      .execute();
    await database.schema
      .createTable('shared_messages')
      .addColumn('id', 'text', (column) => column.primaryKey())
      .addColumn('channel', 'text', (column) => column.notNull())
      .addColumn('message', 'text', (column) => column.notNull())
      .addColumn('sent_at', 'bigint', (column) => column.notNull())
      .execute();
    await database.schema.createIndex('shared_messages_by_time').on('shared_messages').columns(['sent_at']).execute();
  },
};
