/**
 * Sessions of accounts. A refresh token is a name and a generation of its session, so that nothing secret is kept and a
 * token that was used before is known for ever. Source: acceptance V-10, V-28, VF-05.
 */
import type { Database, Queries } from './database.ts';
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
  /** When a second factor was shown last, or null. */
  readonly mfa_at: number | null;
  /** When the session of a browser ends unless it is used; null for the others. */
  readonly idle_until: number | null;
}

/** A session that ended, with its access tokens that would still be good for others. */
export interface EndedSession {
  readonly id: string;
  readonly tokens: readonly { readonly token_id: string; readonly until: number }[];
}

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
  /** Notes one more token of a generation. False when the session has gone on from there, or ended. */
  noteIssued(id: string, generation: number, token: Pick<SessionRecord, 'token_id' | 'token_until'>): Promise<boolean>;
  /** Gives the session when it ended by this very call. */
  revoke(id: string, at: number): Promise<EndedSession | null>;
  /** All of an account but one; gives those that ended by this call. */
  revokeAll(accountId: string, except: string | null, at: number): Promise<EndedSession[]>;
  /** Those of browsers. */
  revokeCookies(accountId: string, at: number): Promise<EndedSession[]>;
  /** The session of a browser, by the digest of its cookie. */
  byCookie(digest: string): Promise<SessionStanding | null>;
  /** Something was given out in a session that goes on without refresh tokens of ours. */
  noteUse(id: string, at: number): Promise<void>;
  /** Puts the end of a session that is not used further off. */
  keepAwake(id: string, idleUntil: number): Promise<void>;
  /** A second factor was shown in this session; nothing happens where the account has none any more. */
  noteFactor(id: string, at: number): Promise<void>;
  /** What was shown is worth nothing any more. */
  forgetFactor(accountId: string): Promise<void>;
  /** Whether this account has logged in from there. Sessions that ended count until they are purged. */
  isKnownSource(accountId: string, source: string): Promise<boolean>;
  /** From where an account has logged in. */
  sources(accountId: string): Promise<string[]>;
  purge(before: number): Promise<void>;
  externalVersion(): number | null;
}

/** Sessions in the SQL database. */
export function createSessionStore(database: Database): SessionStore {
  const { queries } = database;
  return {
    insert: (record) =>
      queries.transaction().execute(async (transaction) => {
        await transaction.insertInto('account_sessions').values(record).execute();
        await noteToken(transaction, record.id, record);
      }),
    standing: (id) => standing(database, 'id', id),
    byCookie: (digest) => standing(database, 'cookie', digest),
    rotate: (id, generation, token, at) =>
      queries.transaction().execute(async (transaction) => {
        const result = await transaction
          .updateTable('account_sessions')
          .set({ ...token, generation: generation + 1, rotated_at: at })
          .where('id', '=', id)
          .where('generation', '=', generation)
          .where('revoked_at', 'is', null)
          .where('expires_at', '>', at)
          .executeTakeFirst();
        if (result.numUpdatedRows !== 1n) return false;
        await noteToken(transaction, id, token);
        return true;
      }),
    noteIssued: (id, generation, token) =>
      queries.transaction().execute(async (transaction) => {
        // Written to, though nothing new: whoever ends the session waits, and then finds the token.
        const result = await transaction
          .updateTable('account_sessions')
          .set({ generation })
          .where('id', '=', id)
          .where('generation', '=', generation)
          .where('revoked_at', 'is', null)
          .executeTakeFirst();
        if (result.numUpdatedRows !== 1n) return false;
        await noteToken(transaction, id, token);
        return true;
      }),
    async isKnownSource(accountId, source) {
      const query = queries.selectFrom('account_sessions').select('id').where('account_id', '=', accountId);
      return (await query.where('source', '=', source).limit(1).executeTakeFirst()) !== undefined;
    },
    async sources(accountId) {
      const query = queries.selectFrom('account_sessions').select('source').distinct();
      return (await query.where('account_id', '=', accountId).execute()).map((row) => row.source);
    },
    async purge(before) {
      await queries.deleteFrom('account_tokens').where('until', '<', before).execute();
      await queries.deleteFrom('account_sessions').where('expires_at', '<', before).execute();
    },
    externalVersion: () => database.externalVersion(),
    ...ends(queries),
    ...uses(queries),
  };
}

type NewestToken = Pick<SessionRecord, 'token_id' | 'token_until'>;

async function noteToken(queries: Pick<Queries, 'insertInto'>, session_id: string, token: NewestToken): Promise<void> {
  if (token.token_id === '') return;
  const row = { token_id: token.token_id, session_id, until: token.token_until };
  await queries.insertInto('account_tokens').values(row).execute();
}

const ENDED = ['id', 'token_id', 'token_until', 'cookie', 'expires_at'] as const;

function ends(queries: Queries): Pick<SessionStore, 'revoke' | 'revokeAll' | 'revokeCookies'> {
  return {
    async revoke(id, at) {
      const query = queries.updateTable('account_sessions').set({ revoked_at: at }).where('id', '=', id);
      const row = await query.where('revoked_at', 'is', null).returning(ENDED).executeTakeFirst();
      return row === undefined ? null : ended(queries, row, at);
    },
    async revokeAll(accountId, except, at) {
      let query = queries
        .updateTable('account_sessions')
        .set({ revoked_at: at })
        .where('account_id', '=', accountId)
        .where('revoked_at', 'is', null);
      if (except !== null) query = query.where('id', '!=', except);
      const rows = await query.returning(ENDED).execute();
      return Promise.all(rows.map((row) => ended(queries, row, at)));
    },
    async revokeCookies(accountId, at) {
      const query = queries.updateTable('account_sessions').set({ revoked_at: at }).where('account_id', '=', accountId);
      const browsers = query.where('cookie', 'is not', null).where('revoked_at', 'is', null);
      return Promise.all((await browsers.returning(ENDED).execute()).map((row) => ended(queries, row, at)));
    },
  };
}

/** The newest one stands in the session itself too: a program of before may have gone on with it. */
async function ended(
  queries: Queries,
  { id, token_id, token_until, cookie, expires_at }: Pick<SessionRecord, (typeof ENDED)[number]>,
  at: number,
): Promise<EndedSession> {
  // What a browser's session is called stands for a token: streams that run in it are found by that.
  if (cookie !== null) return { id, tokens: [{ token_id: id, until: expires_at }] };
  const alive = queries.selectFrom('account_tokens').select(['token_id', 'until']).where('session_id', '=', id);
  const tokens = new Map((await alive.where('until', '>', at).execute()).map((row) => [row.token_id, row]));
  if (token_until > at) tokens.set(token_id, { token_id, until: token_until });
  return { id, tokens: [...tokens.values()] };
}

function uses(queries: Queries): Pick<SessionStore, 'keepAwake' | 'noteUse' | 'noteFactor' | 'forgetFactor'> {
  return {
    async noteUse(id, rotated_at) {
      const update = queries.updateTable('account_sessions').set({ rotated_at }).where('id', '=', id);
      await update.where('rotated_at', '<', rotated_at).where('revoked_at', 'is', null).execute();
    },
    async keepAwake(id, idle_until) {
      const update = queries.updateTable('account_sessions').set({ idle_until }).where('id', '=', id);
      // Never nearer: another gateway may have seen the browser later.
      await update.where('idle_until', '<', idle_until).where('revoked_at', 'is', null).execute();
    },
    async noteFactor(id, mfa_at) {
      const update = queries.updateTable('account_sessions').set({ mfa_at }).where('id', '=', id);
      // It may have been taken away while its code was looked at.
      const enrolled = queries.selectFrom('account_totp').select('account_id').where('confirmed_at', 'is not', null);
      await update.where('revoked_at', 'is', null).where('account_id', 'in', enrolled).execute();
    },
    async forgetFactor(accountId) {
      const update = queries.updateTable('account_sessions').set({ mfa_at: null });
      await update.where('account_id', '=', accountId).execute();
    },
  };
}

async function standing({ queries }: Database, by: 'id' | 'cookie', value: string): Promise<SessionStanding | null> {
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
      'account_sessions.mfa_at',
      'account_sessions.idle_until',
    ])
    .where(`account_sessions.${by}`, '=', value)
    .executeTakeFirst();
  return row === undefined ? null : { ...row, is_active: row.is_active === 1 };
}
