import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { Secret } from '../../../src/core/secret.ts';
import { createApiKeyStore } from '../../../src/stores/api-keys.ts';
import { databaseFile, openDatabase } from '../../../src/stores/database.ts';
import { MIGRATIONS, migrate } from '../../../src/stores/migrations/migrate.ts';
import { loadPepper } from '../../../src/stores/pepper.ts';
import { apiKeyRecord, apiKeysContract } from '../../contract/api-keys.ts';

const folder = mkdtempSync(join(tmpdir(), 'portcullis-stores-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let count = 0;
const fresh = () => `sqlite:./nested/${count++}.db`;
const clock = { now: () => 1_900_000_000_000 };

for (const [name, url] of [
  ['SQLite in memory', () => 'sqlite::memory:'],
  ['SQLite in a file', fresh],
] as const) {
  apiKeysContract(name, async () => {
    const database = await openDatabase(url(), { baseDir: folder });
    return { store: createApiKeyStore(database), [Symbol.asyncDispose]: () => database[Symbol.asyncDispose]() };
  });
}

describe('the database', () => {
  test('tells of every query what it was, how long it took and whether it succeeded', async () => {
    const told: [string, boolean][] = [];
    const onQuery = (operation: string, seconds: number, ok: boolean) => {
      expect(seconds).toBeGreaterThanOrEqual(0);
      expect(seconds).toBeLessThan(5);
      told.push([operation, ok]);
    };
    await using database = await openDatabase('sqlite::memory:', { baseDir: folder, onQuery });
    told.length = 0;
    const store = createApiKeyStore(database);
    await store.insert(apiKeyRecord({ id: 'k1' }));
    await expect(store.insert(apiKeyRecord({ id: 'k1' }))).rejects.toThrow();
    await store.find('k1');
    await store.revoke('default', 'k1', 1);
    expect(told).toEqual([
      ['insert', true],
      ['insert', false],
      ['select', true],
      ['update', true],
    ]);
  });

  test('a file is relative to the configuration, private, and in WAL mode with foreign keys', async () => {
    const url = fresh();
    await using database = await openDatabase(url, { baseDir: folder });
    const file = databaseFile(url, folder) ?? '';
    expect(file.startsWith(folder)).toBe(true);
    expect(statSync(file).mode & 0o077).toBe(0);
    const { rows } = await database.queries
      .getExecutor()
      .executeQuery<{ journal_mode: string }>((await import('kysely')).CompiledQuery.raw('PRAGMA journal_mode'));
    expect(rows).toEqual([{ journal_mode: 'wal' }]);
  });

  test('other URLs are refused with what is possible', async () => {
    for (const url of ['mysql://localhost/x', 'sqlite:', 'x', '']) {
      await expect(openDatabase(url, { baseDir: folder })).rejects.toThrow(/sqlite|names no file/);
    }
  });

  test('opening twice migrates once and records when', async () => {
    const url = fresh();
    for (let i = 0; i < 2; i++) {
      await using database = await openDatabase(url, { baseDir: folder, clock });
      expect(await database.queries.selectFrom('portcullis_migrations').selectAll().execute()).toEqual(
        MIGRATIONS.map(({ version, name }) => ({ version, name, applied_at: clock.now() })),
      );
    }
  });

  test('two processes that open a new database together both succeed', async () => {
    const url = fresh();
    const both = await Promise.all([1, 2].map(() => openDatabase(url, { baseDir: folder })));
    for (const database of both) await database[Symbol.asyncDispose]();
  });

  test('a database of a newer program is refused', async () => {
    await using database = await openDatabase('sqlite::memory:', { baseDir: folder });
    await database.queries
      .insertInto('portcullis_migrations')
      .values({ version: 999, name: 'x', applied_at: 0 })
      .execute();
    await expect(migrate(database.queries, clock)).rejects.toThrow('999');
  });

  test('a migration that fails leaves no trace', async () => {
    await using database = await openDatabase('sqlite::memory:', { baseDir: folder });
    const up = async (queries: typeof database.queries) => {
      await queries.schema.createTable('half').addColumn('id', 'text').execute();
      throw new Error('stopped half way');
    };
    const next = { version: 998, name: 'half', up };
    await expect(migrate(database.queries, clock, { migrations: [...MIGRATIONS, next] })).rejects.toThrow('half way');
    expect((await database.queries.introspection.getTables()).map((table) => table.name)).not.toContain('half');
  });

  test('a transaction of another request does not see or break into this one', async () => {
    await using database = await openDatabase('sqlite::memory:', { baseDir: folder });
    const store = createApiKeyStore(database);
    const failing = database.queries.transaction().execute(async (transaction) => {
      const { facts, ...record } = apiKeyRecord();
      await transaction
        .insertInto('api_keys')
        .values({ ...record, facts: JSON.stringify(facts) })
        .execute();
      throw new Error('rolled back');
    });
    const other = store.insert(apiKeyRecord({ id: 'key2' }));
    await expect(failing).rejects.toThrow('rolled back');
    await other;
    expect((await store.list('acme')).map((key) => key.id)).toEqual(['key2']);
  });

  test('the external version changes when another connection writes, and not by own writes', async () => {
    const url = fresh();
    await using mine = await openDatabase(url, { baseDir: folder });
    await using theirs = await openDatabase(url, { baseDir: folder });
    const before = mine.externalVersion();
    await createApiKeyStore(mine).insert(apiKeyRecord());
    expect(mine.externalVersion()).toBe(before);
    await createApiKeyStore(theirs).revoke('acme', 'key1', 5);
    expect(mine.externalVersion()).not.toBe(before);
  });

  test('many queries run while iterating a stream of rows', async () => {
    await using database = await openDatabase('sqlite::memory:', { baseDir: folder });
    const store = createApiKeyStore(database);
    for (const id of ['a', 'b']) await store.insert(apiKeyRecord({ id }));
    const ids: string[] = [];
    for await (const row of database.queries.selectFrom('api_keys').select('id').orderBy('id').stream())
      ids.push(row.id);
    expect(ids).toEqual(['a', 'b']);
  });
});

describe('the pepper', () => {
  test('is made once beside the database and only its owner reads it', async () => {
    const url = fresh();
    const first = loadPepper(url, folder);
    expect(loadPepper(url, folder).reveal()).toBe(first.reveal());
    const file = `${databaseFile(url, folder)}.pepper`;
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readFileSync(file, 'utf8').trim()).toHaveLength(43);
  });

  test('of a database in memory is new each time', () => {
    expect(loadPepper('sqlite::memory:', folder).reveal()).not.toBe(loadPepper('sqlite::memory:', folder).reveal());
  });

  test('that was configured is taken, unless it is too short', () => {
    const configured = new Secret('x'.repeat(22));
    expect(loadPepper('sqlite::memory:', folder, configured).reveal()).toBe(configured.reveal());
    expect(() => loadPepper('sqlite::memory:', folder, new Secret('short'))).toThrow('128 bits');
  });
});
