/**
 * Sessions of accounts. A refresh token is a name and a generation of its session, so that nothing secret is kept and a
 * token that was used before is known for ever. Source: acceptance V-10, V-28, VF-05.
 */
import type { Database } from './database.ts';
import type { AccountSessionRow } from './tables.ts';

/** One login until its end. Times are epoch milliseconds. */
export type SessionRecord = Readonly<AccountSessionRow>;

/** A session with the account behind it as it is now. */
export interface SessionStanding {
  readonly session_id: string;
  readonly account_id: string;
  readonly generation: number;
  readonly rotated_at: number;
  readonly expires_at: number;
  readonly revoked_at: number | null;
  readonly tenant_id: string;
  readonly username: string;
  readonly email: string;
  readonly role: string;
  readonly is_active: boolean;
}

/** The newest access token of a session that ended. */
export type EndedSession = Pick<SessionRecord, 'id' | 'token_id' | 'token_until'>;

/** A technical failure throws. */
export interface SessionStore {
  insert(record: SessionRecord): Promise<void>;
  /** Null when there is no such session, or its account is gone. */
  standing(id: string): Promise<SessionStanding | null>;
  /** Goes on from this generation to the next. Of several at once one wins, over all processes. */
  rotate(
    id: string,
    generation: number,
    token: Pick<SessionRecord, 'token_id' | 'token_until'>,
    at: number,
  ): Promise<boolean>;
  /** Gives the session when it ended by this very call. */
  revoke(id: string, at: number): Promise<EndedSession | null>;
  /** All of an account but one; gives those that ended by this call. */
  revokeAll(accountId: string, except: string | null, at: number): Promise<EndedSession[]>;
  /** Whether this account has logged in from there. Sessions that ended count until they are purged. */
  isKnownSource(accountId: string, source: string): Promise<boolean>;
  /** From where an account has logged in. */
  sources(accountId: string): Promise<string[]>;
  purge(before: number): Promise<void>;
  externalVersion(): number | null;
}

const ENDED = ['id', 'token_id', 'token_until'] as const;

/** Sessions in the SQL database. */
export function createSessionStore(database: Database): SessionStore {
  const { queries } = database;
  return {
    async insert(record) {
      await queries.insertInto('account_sessions').values(record).execute();
    },
    standing: (id) => standing(database, id),
    async rotate(id, generation, token, at) {
      const result = await queries
        .updateTable('account_sessions')
        .set({ ...token, generation: generation + 1, rotated_at: at })
        .where('id', '=', id)
        .where('generation', '=', generation)
        .where('revoked_at', 'is', null)
        .where('expires_at', '>', at)
        .executeTakeFirst();
      return result.numUpdatedRows === 1n;
    },
    async revoke(id, at) {
      const query = queries.updateTable('account_sessions').set({ revoked_at: at }).where('id', '=', id);
      return (await query.where('revoked_at', 'is', null).returning(ENDED).executeTakeFirst()) ?? null;
    },
    async revokeAll(accountId, except, at) {
      let query = queries
        .updateTable('account_sessions')
        .set({ revoked_at: at })
        .where('account_id', '=', accountId)
        .where('revoked_at', 'is', null);
      if (except !== null) query = query.where('id', '!=', except);
      return query.returning(ENDED).execute();
    },
    async isKnownSource(accountId, source) {
      const query = queries.selectFrom('account_sessions').select('id').where('account_id', '=', accountId);
      return (await query.where('source', '=', source).limit(1).executeTakeFirst()) !== undefined;
    },
    async sources(accountId) {
      const query = queries.selectFrom('account_sessions').select('source').distinct();
      return (await query.where('account_id', '=', accountId).execute()).map((row) => row.source);
    },
    async purge(before) {
      await queries.deleteFrom('account_sessions').where('expires_at', '<', before).execute();
    },
    externalVersion: () => database.externalVersion(),
  };
}

async function standing({ queries }: Database, id: string): Promise<SessionStanding | null> {
  const row = await queries
    .selectFrom('account_sessions')
    .innerJoin('accounts', 'accounts.id', 'account_sessions.account_id')
    .select([
      'account_sessions.id as session_id',
      'account_sessions.account_id',
      'account_sessions.generation',
      'account_sessions.rotated_at',
      'account_sessions.expires_at',
      'account_sessions.revoked_at',
      'accounts.tenant_id',
      'accounts.username',
      'accounts.email',
      'accounts.role',
      'accounts.is_active',
    ])
    .where('account_sessions.id', '=', id)
    .executeTakeFirst();
  return row === undefined ? null : { ...row, is_active: row.is_active === 1 };
}
