/** The stores on real servers: the same contracts as the embedded ones, and what only servers can do wrong. */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createApiKeyStore, EVERY_TENANT } from '../../../src/stores/api-keys.ts';
import { createApprovalStore } from '../../../src/stores/approvals.ts';
import { type Database, openDatabase } from '../../../src/stores/database.ts';
import { openRedisShared } from '../../../src/stores/redis-shared.ts';
import { accountIdentitiesContract } from '../../contract/account-identities.ts';
import { apiKeyRecord, apiKeysContract } from '../../contract/api-keys.ts';
import { sharedContract } from '../../contract/shared.ts';
import type { StoreServer } from '../../helpers/processes-stores.ts';
import { NO_POSTGRES, NO_REDIS, startPostgres, startRedis } from '../../helpers/processes-stores.ts';
import { approvalRecord } from '../approvals/records.ts';

const options = { baseDir: '/' };
let count = 0;

describe.skipIf(NO_POSTGRES !== null)('Postgres', () => {
  let server: StoreServer;
  beforeAll(async () => {
    server = await startPostgres();
  }, 60_000);
  afterAll(() => server?.[Symbol.asyncDispose]());

  /** A schema of its own for each test: one server is enough. */
  async function fresh(): Promise<string> {
    const name = `test_${count++}`;
    const { default: pg } = await import('pg');
    const client = new pg.Client(server.url);
    await client.connect();
    await client.query(`create schema ${name}`);
    await client.end();
    return `${server.url}?options=-c%20search_path%3D${name}`;
  }

  apiKeysContract('Postgres', async () => {
    const database = await openDatabase(await fresh(), options);
    return { store: createApiKeyStore(database), [Symbol.asyncDispose]: () => database[Symbol.asyncDispose]() };
  });

  accountIdentitiesContract('Postgres', fresh);

  test('gateways that start together bring the schema up to date once', async () => {
    const url = await fresh();
    const opened = await Promise.all(Array.from({ length: 6 }, () => openDatabase(url, options)));
    await createApiKeyStore(opened[0] as Database).insert(apiKeyRecord({ id: 'k1' }));
    expect((await createApiKeyStore(opened[5] as Database).find('k1'))?.id).toBe('k1');
    await Promise.all(opened.map((database) => database[Symbol.asyncDispose]()));
  });

  test('a write of another gateway is noticed, an own one is not', async () => {
    const url = await fresh();
    await using mine = await openDatabase(url, options);
    await using theirs = await openDatabase(url, options);
    const before = mine.externalVersion();
    await createApiKeyStore(mine).insert(apiKeyRecord({ id: 'mine' }));
    await createApiKeyStore(theirs).find('mine');
    expect(mine.externalVersion()).toBe(before);
    await createApiKeyStore(theirs).insert(apiKeyRecord({ id: 'theirs' }));
    await vi.waitFor(() => expect(mine.externalVersion()).not.toBe(before), { interval: 5 });
  });

  test('of two rotations of one key at the same time one wins', async () => {
    const url = await fresh();
    await using one = await openDatabase(url, options);
    await using two = await openDatabase(url, options);
    await createApiKeyStore(one).insert(apiKeyRecord({ id: 'k1' }));
    const won = await Promise.all(
      Array.from({ length: 12 }, (_, i) =>
        createApiKeyStore(i % 2 === 0 ? one : two).rotate('acme', 'k1', apiKeyRecord({ id: `next-${i}` }), 10),
      ),
    );
    expect(won.filter(Boolean)).toHaveLength(1);
    expect(await createApiKeyStore(one).list('acme')).toHaveLength(2);
  });

  test('no requester waits for more approvals than may be, and each end is told once', async () => {
    const url = await fresh();
    await using one = await openDatabase(url, options);
    await using two = await openDatabase(url, options);
    const stores = [createApprovalStore(one), createApprovalStore(two)] as const;
    const at = (i: number) => stores[i % 2 === 0 ? 0 : 1];
    const outcomes = await Promise.all(
      Array.from({ length: 24 }, (_, i) =>
        at(i).insert(approvalRecord({ id: `a${i}`, open_key: `k${i}`, state: 'pending' }), 5),
      ),
    );
    expect(outcomes.filter((outcome) => outcome === 'inserted')).toHaveLength(5);
    expect(outcomes.filter((outcome) => outcome === 'too-many')).toHaveLength(19);
    const due = (await stores[0].list('default'))[0]?.expires_at ?? 0;
    expect(await stores[0].countPending('default', due - 1)).toBe(5);
    const ends = await Promise.all(Array.from({ length: 8 }, (_, i) => at(i).expire(EVERY_TENANT, due)));
    expect(ends.flat()).toHaveLength(5);
  });

  test('a table of somebody else is left alone', async () => {
    const url = await fresh();
    const { default: pg } = await import('pg');
    const client = new pg.Client(url);
    await client.connect();
    await client.query('create table foreigners (id int)');
    await using _database = await openDatabase(url, options);
    const { rows } = await client.query(
      `select c.relname from pg_trigger t join pg_class c on c.oid = t.tgrelid
       where t.tgname = 'portcullis_written' and c.relnamespace = current_schema()::regnamespace`,
    );
    await client.end();
    expect(rows.map(({ relname }) => relname)).toContain('api_keys');
    expect(rows.map(({ relname }) => relname)).not.toContain('foreigners');
  });

  test('while it cannot hear of writes, every look may be a change; an outage is an error and not an empty answer', async () => {
    await using lonely = await startPostgres();
    const told: Error[] = [];
    const database = await openDatabase(lonely.url, { ...options, onConnectionError: (error) => told.push(error) });
    await lonely.kill();
    await vi.waitFor(() => expect(told.length).toBeGreaterThan(0));
    expect(database.externalVersion()).not.toBe(database.externalVersion());
    await expect(createApiKeyStore(database).find('k1')).rejects.toThrow();
    await database[Symbol.asyncDispose]();
    await expect(openDatabase(lonely.url, options)).rejects.toThrow('the database cannot be reached');
  }, 30_000);
});

describe.skipIf(NO_REDIS !== null)('Redis', () => {
  let server: Awaited<ReturnType<typeof startRedis>>;
  beforeAll(async () => {
    server = await startRedis();
  }, 30_000);
  afterAll(() => server?.[Symbol.asyncDispose]());

  sharedContract('Redis', async () => {
    let time = 1_900_000_000_000;
    const clock = { now: () => time };
    const shared = await openRedisShared({ url: server.url, prefix: `t${count++}:`, clock });
    return {
      shared,
      advance: (ms) => {
        time += ms;
      },
    };
  });

  test('two gateways count, claim and talk as one, by the time of Redis', async () => {
    await using one = await openRedisShared({ url: server.url });
    await using two = await openRedisShared({ url: server.url });
    const hits = await Promise.all(
      Array.from({ length: 1000 }, (_, i) => (i % 2 === 0 ? one : two).hit('everybody', 3_600_000)),
    );
    expect(new Set(hits.map((hit) => hit.count)).size).toBe(1000);
    expect(Math.max(...hits.map((hit) => hit.count))).toBe(1000);
    const won = await Promise.all(
      Array.from({ length: 40 }, (_, i) => (i % 2 === 0 ? one : two).claim('once', String(i), 60_000)),
    );
    expect(won.filter(Boolean)).toHaveLength(1);
    const heard = Promise.withResolvers<string>();
    two.subscribe('news', heard.resolve);
    await vi.waitFor(async () => {
      await one.publish('news', 'hello');
      expect(await Promise.race([heard.promise, Promise.resolve(null)])).toBe('hello');
    });
  });

  test('an answer that came while this process was busy is an answer; none that comes in time is an outage', async () => {
    await using shared = await openRedisShared({ url: server.url, prefix: 'busy:', timeoutMs: 20 });
    await shared.hit('h', 3_600_000);
    const hits = [shared.hit('h', 3_600_000), shared.hit('h', 3_600_000)];
    for (const started = performance.now(); performance.now() - started < 60; );
    expect(await Promise.all(hits)).toMatchObject([{ count: 2 }, { count: 3 }]);
    const { Redis } = await import('ioredis');
    const other = new Redis(server.url);
    await other.call('CLIENT', 'PAUSE', '200', 'ALL');
    await expect(shared.hit('h', 3_600_000)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    other.disconnect();
  });

  test('every key has an end', async () => {
    const { Redis } = await import('ioredis');
    await using shared = await openRedisShared({ url: server.url, prefix: 'ending:' });
    await shared.hit('h', 60_000);
    await shared.set('s', 'v', 60_000);
    await shared.claim('c', 'v', 60_000);
    const redis = new Redis(server.url);
    const keys = await redis.keys('ending:*');
    const left = await Promise.all(keys.map((key) => redis.pttl(key)));
    redis.disconnect();
    expect(keys).toHaveLength(3);
    for (const ms of left) expect(ms).toBeGreaterThan(0);
  });

  test('an outage is told at once, and over when Redis is back', async () => {
    const first = await startRedis();
    const shared = await openRedisShared({ url: first.url });
    expect(await shared.claim('k', 'v', 60_000)).toBe(true);
    await first.kill();
    const started = performance.now();
    await expect(shared.claim('k', 'v', 60_000)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    await expect(shared.hit('k', 60_000)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    expect(performance.now() - started).toBeLessThan(2000);
    await using _second = await startRedis(first.port);
    await vi.waitFor(async () => expect(await shared.claim('k', 'v', 60_000)).toBe(true), { timeout: 10_000 });
    const heard = Promise.withResolvers<string>();
    shared.subscribe('news', heard.resolve);
    await vi.waitFor(async () => {
      await shared.publish('news', 'again');
      expect(await Promise.race([heard.promise, Promise.resolve(null)])).toBe('again');
    });
    await shared[Symbol.asyncDispose]();
  }, 30_000);

  test('a Redis that is not there is a sentence at start', async () => {
    await expect(openRedisShared({ url: 'redis://127.0.0.1:1' })).rejects.toThrow('Redis cannot be reached');
  });
});
