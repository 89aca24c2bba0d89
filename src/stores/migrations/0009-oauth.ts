import type { Migration } from './migration.ts';

/** What the authorization server keeps: clients, grants, codes, refresh tokens, logins under way. Each is sealed. */
export const oauthEntries: Migration = {
  version: 9,
  name: 'oauth-entries',
  async up({ schema }) {
    await schema
      .createTable('oauth_entries')
      .addColumn('kind', 'text', (column) => column.notNull())
      .addColumn('id', 'text', (column) => column.notNull())
      .addColumn('sealed', 'text', (column) => column.notNull())
      .addColumn('grant_id', 'text')
      .addColumn('uid', 'text')
      .addColumn('consumed_at', 'bigint')
      .addColumn('expires_at', 'bigint', (column) => column.notNull())
      .addPrimaryKeyConstraint('oauth_entries_pk', ['kind', 'id'])
      .execute();
    const index = (name: string, columns: string[]) =>
      schema.createIndex(name).on('oauth_entries').columns(columns).execute();
    await index('oauth_entries_by_grant', ['grant_id']);
    await index('oauth_entries_by_uid', ['kind', 'uid']);
    await index('oauth_entries_by_end', ['expires_at']);
  },
};
