/**
 * Who accounts are at other providers. A subject of an issuer is one account, over all processes, and is compared byte by
 * byte: nothing else that a provider says of somebody finds an account. Source: OpenID Connect Core 5.7.
 */
import { type AccountRecord, insertAccount } from './accounts.ts';
import type { Database } from './database.ts';

/** Somebody, as the provider of this issuer knows them. */
export interface ForeignIdentity {
  readonly issuer: string;
  readonly subject: string;
}

/** A technical failure throws. */
export interface AccountIdentityStore {
  /** The account of a subject, or null. */
  accountOf(identity: ForeignIdentity): Promise<string | null>;
  /**
   * A new account and its identity, both or neither. `taken`: its name or address is; `linked`: the subject has an account
   * already.
   */
  register(record: AccountRecord, identity: ForeignIdentity): Promise<'done' | 'taken' | 'linked'>;
  /** Another identity of an account. False when the subject has an account already, or this one is gone. */
  link(accountId: string, identity: ForeignIdentity, at: number): Promise<boolean>;
  /** Takes the identities of this issuer from an account. False when there was none. */
  unlink(accountId: string, issuer: string): Promise<boolean>;
  /** Every other id of whoever has this one, as an account or at another provider: accounts and their subjects. */
  aliasesOf(id: string): Promise<readonly string[]>;
  /** Issuers by account, of these accounts. */
  issuersOf(accountIds: readonly string[]): Promise<ReadonlyMap<string, string>>;
}

/** Undoes the transaction: the account must not be there without its identity. */
class Undone extends Error {}

/** Identities in the SQL database. */
export function createAccountIdentityStore(database: Database): AccountIdentityStore {
  const { queries } = database;
  return {
    async accountOf({ issuer, subject }) {
      const query = queries.selectFrom('account_identities').select('account_id').where('issuer', '=', issuer);
      return (await query.where('subject', '=', subject).executeTakeFirst())?.account_id ?? null;
    },
    async register(record, { issuer, subject }) {
      const row = { issuer, subject, account_id: record.id, created_at: record.created_at };
      try {
        return await queries.transaction().execute(async (transaction) => {
          if (!(await insertAccount(database, transaction, record))) return 'taken';
          const result = await transaction
            .insertInto('account_identities')
            .values(row)
            .onConflict((conflict) => conflict.columns(['issuer', 'subject']).doNothing())
            .executeTakeFirst();
          if (result.numInsertedOrUpdatedRows !== 1n) throw new Undone();
          return 'done';
        });
      } catch (error) {
        if (error instanceof Undone) return 'linked';
        throw error;
      }
    },
    async aliasesOf(id) {
      const theirs = queries.selectFrom('account_identities').select('account_id').where('subject', '=', id);
      const rows = await queries
        .selectFrom('account_identities')
        .select(['account_id', 'subject'])
        .where((e) => e.or([e('account_id', '=', id), e('account_id', 'in', theirs)]))
        .execute();
      return [...new Set(rows.flatMap(({ account_id, subject }) => [account_id, subject]))].filter((one) => one !== id);
    },
    link: (account_id, { issuer, subject }, created_at) =>
      queries.transaction().execute(async (transaction) => {
        const account = transaction.selectFrom('accounts').select('id').where('id', '=', account_id);
        if ((await account.executeTakeFirst()) === undefined) return false;
        const result = await transaction
          .insertInto('account_identities')
          .values({ issuer, subject, account_id, created_at })
          .onConflict((conflict) => conflict.columns(['issuer', 'subject']).doNothing())
          .executeTakeFirst();
        return result.numInsertedOrUpdatedRows === 1n;
      }),
    async unlink(accountId, issuer) {
      const query = queries.deleteFrom('account_identities').where('account_id', '=', accountId);
      return (await query.where('issuer', '=', issuer).executeTakeFirst()).numDeletedRows > 0n;
    },
    async issuersOf(accountIds) {
      if (accountIds.length === 0) return new Map();
      const query = queries.selectFrom('account_identities').select(['account_id', 'issuer']);
      const rows = await query.where('account_id', 'in', accountIds).execute();
      return new Map(rows.map(({ account_id, issuer }) => [account_id, issuer]));
    },
  };
}
