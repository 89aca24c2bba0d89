/**
 * The SQL database behind the domain stores, reached through one query builder. SQLite (Node's own) today; the
 * interface is asynchronous and the SQL portable, so that another backend is another dialect. Source: architecture 7.
 */
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { setTimeout } from 'node:timers/promises';
import {
  CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  Kysely,
  type LogEvent,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely';
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
}

export interface DatabaseOptions {
  /** Directory that a relative file name is relative to. */
  readonly baseDir: string;
  readonly clock?: Clock;
  /** Milliseconds to wait for another process's write lock. */
  readonly busyTimeoutMs?: number;
  /** Told of every query after it ended: its kind, the seconds it took, and whether it succeeded. */
  readonly onQuery?: (operation: Operation, seconds: number, ok: boolean) => void;
}

/** Kinds of queries, for figures. */
export type Operation = 'select' | 'insert' | 'update' | 'delete' | 'other';

const OPERATIONS: Readonly<Record<string, Operation>> = {
  SelectQueryNode: 'select',
  InsertQueryNode: 'insert',
  UpdateQueryNode: 'update',
  DeleteQueryNode: 'delete',
};

/** The file a database URL names; null for one in memory. Throws on an unknown scheme. */
export function databaseFile(url: string, baseDir: string): string | null {
  if (!url.startsWith('sqlite:')) throw new Error('the database must be "sqlite:FILE" or "sqlite::memory:"');
  const name = url.slice('sqlite:'.length);
  if (name === ':memory:') return null;
  if (name === '' || name.includes('\0')) throw new Error('the database URL names no file');
  return resolve(baseDir, name);
}

/** Opens the database a URL names and brings its schema up to date. Throws when it cannot, or when it is newer than this program. */
export async function openDatabase(url: string, options: DatabaseOptions): Promise<Database> {
  const file = databaseFile(url, options.baseDir);
  if (file !== null) createPrivately(file);
  const patience = options.busyTimeoutMs ?? 5000;
  const connection = new DatabaseSync(file ?? ':memory:', { timeout: patience });
  const { onQuery } = options;
  const log = ({ level, query, queryDurationMillis }: LogEvent) =>
    onQuery?.(OPERATIONS[query.query.kind] ?? 'other', queryDurationMillis / 1000, level === 'query');
  const queries: Queries = new Kysely<Tables>({
    dialect: sqliteDialect(connection, patience),
    ...(onQuery === undefined ? {} : { log }),
  });
  try {
    connection.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON');
    // From here on a locked database is waited for without stopping the event loop; see SqliteConnection.
    connection.exec('PRAGMA busy_timeout = 0');
    await migrate(queries, options.clock ?? systemClock);
  } catch (error) {
    connection.close();
    throw error;
  }
  const version = connection.prepare('PRAGMA data_version');
  return {
    queries,
    externalVersion: () => Number(version.get()?.data_version ?? 0),
    [Symbol.asyncDispose]: () => queries.destroy(),
  };
}

/** SQLite would make the file readable by everyone; its journal files take the mode of the database. */
function createPrivately(file: string): void {
  mkdirSync(dirname(file), { recursive: true });
  closeSync(openSync(file, 'a', 0o600));
}

/** How Kysely talks to Node's SQLite: one connection, which Kysely guards with a mutex. */
function sqliteDialect(database: DatabaseSync, patience: number): Dialect {
  return {
    createAdapter: () => new SqliteAdapter(),
    createIntrospector: (db) => new SqliteIntrospector(db),
    createQueryCompiler: () => new SqliteQueryCompiler(),
    createDriver: () => sqliteDriver(database, patience),
  };
}

function sqliteDriver(database: DatabaseSync, patience: number): Driver {
  const connection = new SqliteConnection(database, patience);
  const run = async (sql: string) => {
    await connection.executeQuery(CompiledQuery.raw(sql));
  };
  return {
    init: async () => {},
    acquireConnection: async () => connection,
    // IMMEDIATE: a transaction that reads first and writes later would otherwise fail when another process wrote between.
    beginTransaction: () => run('begin immediate'),
    commitTransaction: () => run('commit'),
    rollbackTransaction: () => run('rollback'),
    releaseConnection: async () => {},
    destroy: async () => {
      connection.forget();
      if (database.isOpen) database.close();
    },
  };
}

/** Compiled statements that are kept; the stores have a few dozen different ones. */
const STATEMENTS = 200;

/** Milliseconds between two tries to get a lock; writes take far less than one. */
const BUSY_PAUSE_MS = 3;

/** SQLITE_BUSY in any of its extended forms. */
function isBusy(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && (Number(error.errcode) & 0xff) === 5;
}

class SqliteConnection implements DatabaseConnection {
  readonly #database: DatabaseSync;
  /** Milliseconds to wait for another process's lock. */
  readonly #patience: number;
  readonly #statements = new Map<string, StatementSync>();

  constructor(database: DatabaseSync, patience: number) {
    this.#database = database;
    this.#patience = patience;
  }

  forget(): void {
    this.#statements.clear();
  }

  #prepare(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    if (this.#statements.size >= STATEMENTS) this.#statements.clear();
    const made = this.#database.prepare(sql);
    this.#statements.set(sql, made);
    return made;
  }

  /** SQLite's own waiting would hold up every request; and the lock's owner may be in this very process. */
  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    const deadline = performance.now() + this.#patience;
    for (;;) {
      try {
        return this.#run<R>(query);
      } catch (error) {
        if (!isBusy(error) || performance.now() >= deadline) throw error;
        await setTimeout(BUSY_PAUSE_MS);
      }
    }
  }

  #run<R>(query: CompiledQuery): QueryResult<R> {
    const statement = this.#prepare(query.sql);
    const parameters = query.parameters as readonly SQLInputValue[];
    if (statement.columns().length > 0) return { rows: statement.all(...parameters) as R[] };
    const { changes, lastInsertRowid } = statement.run(...parameters);
    return { rows: [], numAffectedRows: BigInt(changes), insertId: BigInt(lastInsertRowid) };
  }

  async *streamQuery<R>(query: CompiledQuery): AsyncIterableIterator<QueryResult<R>> {
    const statement = this.#prepare(query.sql);
    for (const row of statement.iterate(...(query.parameters as readonly SQLInputValue[]))) yield { rows: [row as R] };
  }
}
