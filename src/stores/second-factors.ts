/**
 * Second factors of accounts. The secret comes here encrypted, recovery codes as digests. That a code is good once is one
 * statement each, so that it holds over all processes. Source: RFC 6238 5.2, acceptance VW-06.
 */
import type { Database } from './database.ts';
import type { AccountTotpRow } from './tables.ts';

/** An enrolment. Times are epoch milliseconds; it counts once it is confirmed. */
export type TotpRecord = Readonly<AccountTotpRow>;

/** A technical failure throws. */
export interface SecondFactorStore {
  find(accountId: string): Promise<TotpRecord | null>;
  /** Begins an enrolment in the place of one that was not confirmed. False when there is a confirmed one. */
  begin(accountId: string, secretBox: string, at: number): Promise<boolean>;
  /** Confirms this very secret with the step of its first code, with new recovery codes. False when it is not there any more. */
  confirm(record: TotpRecord, step: number, digests: readonly string[], at: number): Promise<boolean>;
  /** Takes a time step. False when it, or a later one, was taken before, by whichever process. */
  takeStep(accountId: string, step: number): Promise<boolean>;
  /** Takes a recovery code. False when there is none, or it was used. */
  takeCode(accountId: string, digest: string, at: number): Promise<boolean>;
  replaceCodes(accountId: string, digests: readonly string[]): Promise<void>;
  codesLeft(accountId: string): Promise<number>;
  /** False when there was none. */
  remove(accountId: string): Promise<boolean>;
}

/** Second factors in the SQL database. */
export function createSecondFactorStore({ queries }: Database): SecondFactorStore {
  return {
    async find(accountId) {
      const query = queries.selectFrom('account_totp').selectAll().where('account_id', '=', accountId);
      return (await query.executeTakeFirst()) ?? null;
    },
    async begin(account_id, secret_box, created_at) {
      const fresh = { secret_box, created_at, confirmed_at: null, last_step: 0 };
      const result = await queries
        .insertInto('account_totp')
        .values({ account_id, ...fresh })
        .onConflict((conflict) =>
          conflict.column('account_id').doUpdateSet(fresh).where('account_totp.confirmed_at', 'is', null),
        )
        .executeTakeFirst();
      return (result.numInsertedOrUpdatedRows ?? 0n) > 0n;
    },
    confirm: (record, step, digests, at) =>
      queries.transaction().execute(async (transaction) => {
        const result = await transaction
          .updateTable('account_totp')
          .set({ confirmed_at: at, last_step: step })
          .where('account_id', '=', record.account_id)
          .where('secret_box', '=', record.secret_box)
          .where('confirmed_at', 'is', null)
          .executeTakeFirst();
        if (result.numUpdatedRows === 0n) return false;
        await putCodes(transaction, record.account_id, digests);
        return true;
      }),
    async takeStep(accountId, step) {
      const result = await queries
        .updateTable('account_totp')
        .set({ last_step: step })
        .where('account_id', '=', accountId)
        .where('confirmed_at', 'is not', null)
        .where('last_step', '<', step)
        .executeTakeFirst();
      return result.numUpdatedRows === 1n;
    },
    async takeCode(accountId, digest, at) {
      const result = await queries
        .updateTable('account_recovery_codes')
        .set({ used_at: at })
        .where('digest', '=', digest)
        .where('account_id', '=', accountId)
        .where('used_at', 'is', null)
        .executeTakeFirst();
      return result.numUpdatedRows === 1n;
    },
    replaceCodes: (accountId, digests) =>
      queries.transaction().execute((transaction) => putCodes(transaction, accountId, digests)),
    async codesLeft(accountId) {
      const codes = queries.selectFrom('account_recovery_codes').select('digest').where('account_id', '=', accountId);
      return (await codes.where('used_at', 'is', null).execute()).length;
    },
    remove: (accountId) => queries.transaction().execute((transaction) => removeFactor(transaction, accountId)),
  };
}

type Writer = Pick<Database['queries'], 'deleteFrom' | 'insertInto'>;

async function putCodes(queries: Writer, account_id: string, digests: readonly string[]): Promise<void> {
  await queries.deleteFrom('account_recovery_codes').where('account_id', '=', account_id).execute();
  const rows = digests.map((digest) => ({ digest, account_id, used_at: null }));
  await queries.insertInto('account_recovery_codes').values(rows).execute();
}

/** Everything of an account's second factor, within a transaction of the caller's. False when there was none. */
export async function removeFactor(queries: Writer, accountId: string): Promise<boolean> {
  await queries.deleteFrom('account_recovery_codes').where('account_id', '=', accountId).execute();
  const result = await queries.deleteFrom('account_totp').where('account_id', '=', accountId).executeTakeFirst();
  return result.numDeletedRows > 0n;
}
