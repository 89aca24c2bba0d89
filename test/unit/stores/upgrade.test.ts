/**
 * A database of every older release, opened by this one: what was in it is kept, and a program of the older release that
 * still runs goes on reading and writing as it did (expand first, contract in a later release).
 */
import { join } from 'node:path';
import { type ColumnMetadata, Kysely } from 'kysely';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Passwords } from '../../../src/accounts/passwords.ts';
import type { Backend } from '../../../src/stores/database.ts';
import { openDatabase } from '../../../src/stores/database.ts';
import { MIGRATIONS, migrate } from '../../../src/stores/migrations/migrate.ts';
import { openPostgres } from '../../../src/stores/postgres.ts';
import { openSqlite } from '../../../src/stores/sqlite.ts';
import type { Tables } from '../../../src/stores/tables.ts';
import { ACCOUNTS, authClient, bearer, IDENTITY, PASSWORD } from '../../helpers/accounts.ts';
import { startGateway } from '../../helpers/gateway.ts';
import { temporaryDirectory } from '../../helpers/processes.ts';
import { NO_POSTGRES, type StoreServer, startPostgres } from '../../helpers/processes-stores.ts';
import { verifies } from '../../helpers/verifies.ts';

const clock = { now: () => 1_900_000_000_000 };
const directory = temporaryDirectory('portcullis-upgrade-');
afterAll(() => directory[Symbol.dispose]());

type Row = Record<string, unknown>;
/** Any table of any release. */
// biome-ignore lint/suspicious/noExplicitAny: older releases have other tables than the types of this one
type Loose = Kysely<any>;

/** A program that knows the first `level` changes of the schema and has brought the database there. */
async function olderProgram(backend: Backend, level: number) {
  const queries = new Kysely<Tables>({ dialect: backend.dialect });
  await migrate(queries, clock, {
    ...{ migrations: MIGRATIONS.slice(0, level), before: backend.lockSchema, after: backend.started },
  });
  return {
    queries: queries as Loose,
    async [Symbol.asyncDispose]() {
      await queries.destroy();
      await backend.close();
    },
  };
}

/** A value that fits the column and is in no other row. */
function valueFor({ name, dataType }: ColumnMetadata, seed: number): unknown {
  if (name === 'facts') return '{}';
  return /int/i.test(dataType) ? seed : `${name}-${seed}`;
}

/** `schema`: the only one that counts, where the server has several. */
async function tablesOf(queries: Loose, schema?: string) {
  const all = await queries.introspection.getTables();
  return all.filter(
    (table) => !table.isView && table.name !== 'portcullis_migrations' && (schema ?? table.schema) === table.schema,
  );
}

type Known = Awaited<ReturnType<typeof tablesOf>>;

async function writeRows(queries: Loose, tables: Known, seed: number): Promise<void> {
  for (const { name, columns } of tables) {
    const row = Object.fromEntries(columns.map((column) => [column.name, valueFor(column, seed)]));
    await queries.insertInto(name).values(row).execute();
  }
}

async function readRows(queries: Loose, tables: Known): Promise<Record<string, Row[]>> {
  const found: Record<string, Row[]> = {};
  for (const { name, columns } of tables) {
    const names = columns.map((column) => column.name);
    const rows = (await queries.selectFrom(name).select(names).execute()) as Row[];
    found[name] = rows.toSorted((a, b) => JSON.stringify(a).localeCompare(JSON.stringify(b)));
  }
  return found;
}

async function upgrade(backend: Backend, url: string, level: number, schema?: string): Promise<void> {
  await using older = await olderProgram(backend, level);
  const tables = await tablesOf(older.queries, schema);
  await writeRows(older.queries, tables, 1);
  const before = await readRows(older.queries, tables);
  // The new program starts while the older one runs.
  await using newer = await openDatabase(url, { baseDir: directory.path, clock });
  expect(await readRows(newer.queries as Loose, tables)).toEqual(before);
  await writeRows(older.queries, tables, 2);
  const after = await readRows(older.queries, tables);
  for (const { name } of tables) expect(after[name]).toHaveLength((before[name] ?? []).length + 1);
  expect(await readRows(newer.queries as Loose, tables)).toEqual(after);
}

const LEVELS = MIGRATIONS.slice(0, -1).map(({ version, name }, index) => [version, name, index + 1] as const);

describe('a database of an older release', () => {
  test.each(LEVELS)(
    'in SQLite at version %i (%s) keeps its rows, and programs that know it go on',
    async (version, _name, level) => {
      verifies('V-39');
      const file = join(directory.path, `level-${version}.db`);
      await upgrade(openSqlite(file, 5000), `sqlite:${file}`, level);
    },
  );

  test('has accounts whose people log in as before', async () => {
    verifies('V-39');
    const file = join(directory.path, 'people.db');
    {
      await using older = await olderProgram(openSqlite(file, 5000), 4);
      const hash = await new Passwords({ rule: 'nist', history: 5, memory_kib: 8192, passes: 1 } as never).hash(
        PASSWORD,
      );
      const times = { created_at: 1, updated_at: 1, last_login_at: null };
      await older.queries
        .insertInto('accounts')
        .values({
          ...{ id: 'usr_01JD0000000000000000000000', tenant_id: 'default', username: 'Jane', username_key: 'jane' },
          ...{ email: 'jane@example.com', email_key: 'jane@example.com', password_hash: hash, full_name: null },
          ...{ role: 'user', is_active: 1, is_verified: 0, ...times },
        })
        .execute();
    }
    await using next = await startGateway({
      ...{ accounts: ACCOUNTS, identity: IDENTITY },
      stores: { database: `sqlite:${file}`, pepper: 'kq7Qw3rTz9KpL2xV8nYb4Hs6Jd1Mf5Gc' },
    });
    const call = authClient(next.url);
    const login = await call('POST', '/auth/login', { username: 'jane', password: PASSWORD });
    expect(login.status).toBe(200);
    const me = await call('GET', '/auth/me', undefined, bearer(login.body.access_token));
    expect(me.body).toMatchObject({ id: 'usr_01JD0000000000000000000000', username: 'Jane', role: 'user' });
  });
});

// The same changes: the first, the one with most tables, the newest.
const SOME = LEVELS.filter(([, , level]) => level === 1 || level === 4 || level === LEVELS.length);

describe.skipIf(NO_POSTGRES !== null)('a database of an older release in Postgres', () => {
  let server: StoreServer;
  beforeAll(async () => {
    server = await startPostgres();
  }, 60_000);
  afterAll(() => server?.[Symbol.asyncDispose]());

  test.each(SOME)(
    'at version %i (%s) keeps its rows, and programs that know it go on',
    async (version, _name, level) => {
      verifies('V-39');
      const { default: pg } = await import('pg');
      const client = new pg.Client(server.url);
      await client.connect();
      await client.query(`create schema level_${version}`);
      await client.end();
      const url = `${server.url}?options=-c%20search_path%3Dlevel_${version}`;
      await upgrade(
        await openPostgres(url, { patience: 5000, onConnectionError: () => {} }),
        url,
        level,
        `level_${version}`,
      );
    },
  );
});
