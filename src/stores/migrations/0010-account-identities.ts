import type { Migration } from './migration.ts';

/** Who an account is at another provider: its issuer and the subject there, and nothing else. */
export const accountIdentities: Migration = {
  version: 10,
  name: 'account-identities',
  async up({ schema }) {
    await schema
      .createTable('account_identities')
      .addColumn('issuer', 'text', (column) => column.notNull())
      .addColumn('subject', 'text', (column) => column.notNull())
      .addColumn('account_id', 'text', (column) => column.notNull())
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .addPrimaryKeyConstraint('account_identities_pk', ['issuer', 'subject'])
      .execute();
    await schema
      .createIndex('account_identities_by_account')
      .on('account_identities')
      .columns(['account_id'])
      .execute();
  },
};
