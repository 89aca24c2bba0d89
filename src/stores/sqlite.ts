/** SQLite (Node's own) as the database: one file, one connection, no other process needed. Source: architecture 7. */
import { closeSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { setTimeout } from 'node:timers/promises';
import {
  CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely';
import { makeDirectory } from '../config/directories.ts';
import type { Backend } from './database.ts';

/** `file` null: in memory. `patience`: milliseconds to wait for another process's write lock. */
export function openSqlite(file: string | null, patience: number): Backend {
  if (file !== null) createPrivately(file);
  const connection = new DatabaseSync(file ?? ':memory:', { timeout: patience });
  try {
    connection.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON');
    // From here on a locked database is waited for without stopping the event loop; see SqliteConnection.
    connection.exec('PRAGMA busy_timeout = 0');
    const version = connection.prepare('PRAGMA data_version');
    return {
      dialect: sqliteDialect(connection, patience),
      externalVersion: () => Number(version.get()?.data_version ?? 0),
      // A transaction that writes takes the lock at its start: nothing else is needed.
      inTurn: async () => {},
      lockSchema: async () => {},
      started: async () => {},
      close: async () => {
        if (connection.isOpen) connection.close();
      },
    };
  } catch (error) {
    connection.close();
    throw error;
  }
}

/** SQLite would make the file readable by everyone; its journal files take the mode of the database. */
function createPrivately(file: string): void {
  makeDirectory(dirname(file));
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
