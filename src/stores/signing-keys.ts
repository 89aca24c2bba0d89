/** The keys that sign the gateway's tokens. The private half is encrypted before it comes here. Source: acceptance VF-01, VF-02. */
import type { Database } from './database.ts';
import type { SigningKeyRow } from './tables.ts';

/** One key. Times are epoch milliseconds; it signs from `active_at` until the next one does. */
export type SigningKeyRecord = Readonly<SigningKeyRow>;

export interface SigningKeyStore {
  /** Oldest first. */
  list(algorithm: string): Promise<SigningKeyRecord[]>;
  /** False when another process made this generation. */
  insert(record: SigningKeyRecord): Promise<boolean>;
  delete(kids: readonly string[]): Promise<void>;
}

/** Signing keys in the SQL database. */
export function createSigningKeyStore({ queries }: Database): SigningKeyStore {
  return {
    list: (algorithm) =>
      queries.selectFrom('signing_keys').selectAll().where('algorithm', '=', algorithm).orderBy('generation').execute(),
    async insert(record) {
      const result = await queries
        .insertInto('signing_keys')
        .values(record)
        .onConflict((conflict) => conflict.columns(['algorithm', 'generation']).doNothing())
        .executeTakeFirst();
      return result.numInsertedOrUpdatedRows === 1n;
    },
    async delete(kids) {
      if (kids.length > 0) await queries.deleteFrom('signing_keys').where('kid', 'in', kids).execute();
    },
  };
}
