import type { Migration } from './migration.ts';

/** Requests for approval. `open_key` lets one answer stand for each call of each requester. */
export const approvals: Migration = {
  version: 2,
  name: 'approvals',
  async up(database) {
    await database.schema
      .createTable('approvals')
      .addColumn('id', 'text', (column) => column.primaryKey())
      .addColumn('tenant_id', 'text', (column) => column.notNull())
      .addColumn('state', 'text', (column) => column.notNull())
      .addColumn('open_key', 'text', (column) => column.unique())
      .addColumn('requester_id', 'text', (column) => column.notNull())
      .addColumn('facts', 'text', (column) => column.notNull())
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .addColumn('expires_at', 'bigint', (column) => column.notNull())
      .addColumn('decided_at', 'bigint')
      .addColumn('decided_by', 'text')
      .addColumn('decision_reason', 'text')
      .addColumn('token_id', 'text')
      .addColumn('used_at', 'bigint')
      .execute();
    await database.schema
      .createIndex('approvals_by_requester')
      .on('approvals')
      .columns(['tenant_id', 'requester_id', 'state'])
      .execute();
    await database.schema.createIndex('approvals_by_expiry').on('approvals').columns(['expires_at']).execute();
  },
};
