/**
 * The SQL database behind the domain stores, reached through one query builder: SQLite (Node's own) or Postgres. The
 * stores are written once, in SQL that both speak. Source: architecture 7.
 */
import { resolve } from 'node:path';
import { type Dialect, Kysely, type LogEvent } from 'kysely';
import { type Clock, systemClock } from '../core/clock.ts';
import { migrate } from './migrations/migrate.ts';
import type { Tables } from './tables.ts';

export type Queries = Kysely<Tables>;

/** An open database with its schema up to date. Disposing closes it. */
export interface Database extends AsyncDisposable {
  readonly queries: Queries;
  /**
   * A figure that changes when *another* connection has written, or null when the backend cannot tell. Lets caches
   * notice a revocation made by a command line beside the gateway. Costs a few microseconds.
   */
  externalVersion(): number | null;
  /**
   * Waits until no other transaction, of any process, holds this name, and holds it until the given one ends: for rules
   * over several rows, such as a highest count. One name per transaction, so that none waits for another for ever.
   */
  inTurn(transaction: Queries, name: string): Promise<void>;
}

/** What a kind of database has to give. */
export interface Backend {
  readonly dialect: Dialect;
  externalVersion(): number | null;
  inTurn(transaction: Queries, name: string): Promise<void>;
  /** Called first in the transaction that changes the schema: of processes that start together one goes first. */
  lockSchema(transaction: Queries): Promise<void>;
  /** Called last in that transaction. */
  started(transaction: Queries): Promise<void>;
  /** Called when the query builder was never used or is already closed. */
  close(): Promise<void>;
}

export interface DatabaseOptions {
  /** Directory that a relative file name is relative to. */
  readonly baseDir: string;
  readonly clock?: Clock;
  /** Instead of what the URL names. */
  readonly backend?: Backend | undefined;
  /** Milliseconds to wait for another process's write lock, or for a connection. */
  readonly busyTimeoutMs?: number;
  /** Told of every query after it ended: its kind, the seconds it took, and whether it succeeded. */
  readonly onQuery?: (operation: Operation, seconds: number, ok: boolean) => void;
  /** Told of a connection that broke outside a query. */
  readonly onConnectionError?: (error: Error) => void;
}

/** Kinds of queries, for figures. */
export type Operation = 'select' | 'insert' | 'update' | 'delete' | 'other';

const OPERATIONS: Readonly<Record<string, Operation>> = {
  SelectQueryNode: 'select',
  InsertQueryNode: 'insert',
  UpdateQueryNode: 'update',
  DeleteQueryNode: 'delete',
};

/** True for a database that several machines can share. */
export function isServerDatabase(url: string): boolean {
  return /^postgres(ql)?:\/\//.test(url);
}

/** The file a database URL names; null for one in memory and for a server. Throws on an unknown scheme. */
export function databaseFile(url: string, baseDir: string): string | null {
  if (isServerDatabase(url)) return null;
  if (!url.startsWith('sqlite:'))
    throw new Error('the database must be "sqlite:FILE", "sqlite::memory:" or "postgres://…"');
  const name = url.slice('sqlite:'.length);
  if (name === ':memory:') return null;
  if (name === '' || name.includes('\0')) throw new Error('the database URL names no file');
  return resolve(baseDir, name);
}

/** Opens the database a URL names and brings its schema up to date. Throws when it cannot, or when it is newer than this program. */
export async function openDatabase(url: string, options: DatabaseOptions): Promise<Database> {
  const backend = options.backend ?? (await openBackend(url, options));
  const { onQuery } = options;
  const log = ({ level, query, queryDurationMillis }: LogEvent) =>
    onQuery?.(OPERATIONS[query.query.kind] ?? 'other', queryDurationMillis / 1000, level === 'query');
  const queries: Queries = new Kysely<Tables>({
    dialect: backend.dialect,
    ...(onQuery === undefined ? {} : { log }),
  });
  try {
    await migrate(queries, options.clock ?? systemClock, { before: backend.lockSchema, after: backend.started });
  } catch (error) {
    await backend.close();
    throw error;
  }
  return {
    queries,
    externalVersion: () => backend.externalVersion(),
    inTurn: (transaction, name) => backend.inTurn(transaction, name),
    async [Symbol.asyncDispose]() {
      await queries.destroy();
      await backend.close();
    },
  };
}

async function openBackend(url: string, options: DatabaseOptions): Promise<Backend> {
  const patience = options.busyTimeoutMs ?? 5000;
  if (!isServerDatabase(url)) {
    const { openSqlite } = await import('./sqlite.ts');
    return openSqlite(databaseFile(url, options.baseDir), patience);
  }
  // The driver is loaded only where it is used.
  const { openPostgres } = await import('./postgres.ts');
  return openPostgres(url, { patience, onConnectionError: options.onConnectionError ?? (() => {}) });
}
