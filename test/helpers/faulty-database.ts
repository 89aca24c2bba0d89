/** A database whose rows about one thing cannot be had, or are not what they should be. */
import type { CompiledQuery, DatabaseConnection, QueryResult } from 'kysely';
import type { Backend } from '../../src/gateway.ts';

export type Fault = 'throws' | 'times out' | 'malformed answer' | 'wrong type';

export interface FaultyDatabase {
  readonly backend: Backend;
  /** What happens from now on to queries with this value among their parameters. */
  readonly faults: Map<string, Fault>;
  /** Lets those go that wait for an answer. */
  release(): void;
}

export function faultyDatabase(backend: Backend): FaultyDatabase {
  const faults = new Map<string, Fault>();
  const released = Promise.withResolvers<void>();
  const { dialect } = backend;
  const ask = async <R>(connection: DatabaseConnection, query: CompiledQuery): Promise<QueryResult<R>> => {
    const fault = query.parameters.map((value) => faults.get(String(value))).find((one) => one !== undefined);
    if (fault === undefined || !/^select/i.test(query.sql)) return connection.executeQuery<R>(query);
    if (fault === 'throws') throw new Error('the database is away');
    if (fault === 'times out') await released.promise;
    const { rows } = await connection.executeQuery<Record<string, unknown>>(query);
    return { rows: rows.map((row) => spoiled(row, fault) as R) };
  };
  return {
    faults,
    release: released.resolve,
    backend: {
      ...backend,
      dialect: {
        createAdapter: () => dialect.createAdapter(),
        createIntrospector: (db) => dialect.createIntrospector(db),
        createQueryCompiler: () => dialect.createQueryCompiler(),
        createDriver() {
          const driver = dialect.createDriver();
          return {
            init: () => driver.init(),
            async acquireConnection() {
              const connection = await driver.acquireConnection();
              return {
                executeQuery: <R>(query: CompiledQuery) => ask<R>(connection, query),
                streamQuery: <R>(query: CompiledQuery, size: number) => connection.streamQuery<R>(query, size),
              };
            },
            beginTransaction: (connection, settings) => driver.beginTransaction(connection, settings),
            commitTransaction: (connection) => driver.commitTransaction(connection),
            rollbackTransaction: (connection) => driver.rollbackTransaction(connection),
            releaseConnection: async () => {},
            destroy: () => driver.destroy(),
          };
        },
      },
    },
  };
}

function spoiled(row: Record<string, unknown>, fault: Fault): Record<string, unknown> {
  const change = (value: unknown) => {
    if (fault === 'malformed answer') return typeof value === 'string' ? `{"${value}` : value;
    return typeof value === 'number' ? String(value) : typeof value === 'string' ? 7 : value;
  };
  return Object.fromEntries(Object.entries(row).map(([name, value]) => [name, change(value)]));
}
