/**
 * What the authorization server keeps, one row each: the database is what all gateways agree on, so that a code or a
 * refresh token is used once over all of them. Ids are digests and contents are sealed before they come here: a copy of
 * the database opens nothing.
 */
import type { Database } from './database.ts';
import type { OAuthEntryRow } from './tables.ts';

/** One entry. Times are epoch milliseconds. */
export type OAuthEntry = Readonly<OAuthEntryRow>;

/** A technical failure throws. */
export interface OAuthEntryStore {
  /** Writes the entry, in place of one that has the same kind and id. */
  put(entry: OAuthEntry): Promise<void>;
  /** The same while fewer than `max` of this kind are there, over all processes; false, and nothing written, otherwise. */
  putBounded(entry: OAuthEntry, max: number, now: number): Promise<boolean>;
  /** Null when there is none, or it has ended. */
  find(kind: string, id: string, now: number): Promise<OAuthEntry | null>;
  findByUid(kind: string, uid: string, now: number): Promise<OAuthEntry | null>;
  /** All of this kind and uid, at most a thousand; the last to end first. */
  listByUid(kind: string, uid: string, now: number): Promise<OAuthEntry[]>;
  /** True for the one caller that uses it up. */
  consume(kind: string, id: string, at: number): Promise<boolean>;
  /** Lets an entry live until then at least. */
  prolong(kind: string, id: string, until: number): Promise<void>;
  remove(kind: string, id: string): Promise<void>;
  removeByGrant(kind: string, grantId: string): Promise<void>;
  /** Removes what has ended. */
  purge(now: number): Promise<void>;
}

/** Entries in the SQL database. */
export function createOAuthEntryStore(database: Database): OAuthEntryStore {
  const { queries } = database;
  const ofKind = (kind: string, now: number) =>
    queries.selectFrom('oauth_entries').selectAll().where('kind', '=', kind).where('expires_at', '>', now);
  return {
    async put(entry) {
      await write(database, entry);
    },
    putBounded: (entry, max, now) =>
      queries.transaction().execute(async (transaction) => {
        await database.inTurn(transaction, `oauth:${entry.kind}`);
        await transaction
          .deleteFrom('oauth_entries')
          .where('kind', '=', entry.kind)
          .where('expires_at', '<=', now)
          .execute();
        const { count } = await transaction
          .selectFrom('oauth_entries')
          .select((select) => select.fn.countAll().as('count'))
          .where('kind', '=', entry.kind)
          .executeTakeFirstOrThrow();
        if (Number(count) >= max) return false;
        await write({ queries: transaction }, entry);
        return true;
      }),
    async find(kind, id, now) {
      // What a client shows may have a character that not every database takes.
      if (id.includes('\0')) return null;
      return (await ofKind(kind, now).where('id', '=', id).executeTakeFirst()) ?? null;
    },
    async findByUid(kind, uid, now) {
      if (uid.includes('\0')) return null;
      return (await ofKind(kind, now).where('uid', '=', uid).executeTakeFirst()) ?? null;
    },
    listByUid: (kind, uid, now) =>
      ofKind(kind, now).where('uid', '=', uid).orderBy('expires_at', 'desc').limit(1000).execute(),
    async consume(kind, id, at) {
      const query = queries.updateTable('oauth_entries').set({ consumed_at: at }).where('kind', '=', kind);
      const result = await query.where('id', '=', id).where('consumed_at', 'is', null).executeTakeFirst();
      return result.numUpdatedRows === 1n;
    },
    async prolong(kind, id, until) {
      const query = queries.updateTable('oauth_entries').set({ expires_at: until }).where('kind', '=', kind);
      await query.where('id', '=', id).where('expires_at', '<', until).execute();
    },
    async remove(kind, id) {
      await queries.deleteFrom('oauth_entries').where('kind', '=', kind).where('id', '=', id).execute();
    },
    async removeByGrant(kind, grantId) {
      await queries.deleteFrom('oauth_entries').where('kind', '=', kind).where('grant_id', '=', grantId).execute();
    },
    async purge(now) {
      await queries.deleteFrom('oauth_entries').where('expires_at', '<=', now).execute();
    },
  };
}

async function write({ queries }: Pick<Database, 'queries'>, entry: OAuthEntry): Promise<void> {
  const { kind, id, ...content } = entry;
  await queries
    .insertInto('oauth_entries')
    .values({ kind, id, ...content })
    .onConflict((conflict) => conflict.columns(['kind', 'id']).doUpdateSet(content))
    .execute();
}
