/** Two gateways with nothing in common but a Postgres and a Redis act as one. */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { openRedisShared } from '../../src/stores/redis-shared.ts';
import type { Shared } from '../../src/stores/shared.ts';
import type { PartialConfig, TestGateway } from '../helpers/gateway.ts';
import { ADMIN_TOKEN, startGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import type { StoreServer } from '../helpers/processes-stores.ts';
import { NO_POSTGRES, NO_REDIS, startPostgres, startRedis } from '../helpers/processes-stores.ts';
import { startTasks } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

describe.skipIf(NO_POSTGRES !== null || NO_REDIS !== null)('two gateways over one database and one Redis', () => {
  let postgres: StoreServer;
  let redis: Awaited<ReturnType<typeof startRedis>>;
  let tasks: Awaited<ReturnType<typeof startTasks>>;
  let one: TestGateway;
  let two: TestGateway;
  let shared: [Shared, Shared];

  beforeAll(async () => {
    [postgres, redis, tasks] = await Promise.all([startPostgres(), startRedis(), startTasks()]);
    const config: PartialConfig = {
      routes: [{ match: '/api', protocol: 'http', url: tasks.url, rewrite: '/tasks', identity: ['keys'] }],
      stores: { database: postgres.url, pepper: randomBytes(32).toString('base64url') },
      // Long enough that no window ends while a test counts.
      rate_limit: {
        window_ms: 3_600_000,
        limits: [{ name: 'crowd', limit: 200, window_seconds: 36_000, roles: ['crowd'], routes: ['/api'] }],
      },
    };
    // A limit is as exact as Redis answers in time, and a test may have to wait for its turn on the processor.
    const patient = { url: redis.url, timeoutMs: 30_000 };
    shared = await Promise.all([openRedisShared(patient), openRedisShared(patient)]);
    const start = (own: Shared) => startGateway(config, { storage: { shared: own } });
    [one, two] = await Promise.all([start(shared[0]), start(shared[1])]);
  }, 60_000);

  afterAll(async () => {
    await Promise.all([one, two].map((gateway) => gateway?.[Symbol.asyncDispose]()));
    await Promise.all([postgres, redis, tasks, ...(shared ?? [])].map((server) => server?.[Symbol.asyncDispose]()));
  });

  const admin = async (gateway: TestGateway, method: string, path: string, body?: object) => {
    const answer = await fetch(`${gateway.admin}${path}`, {
      method,
      headers: { authorization: `Bearer ${ADMIN_TOKEN}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    expect(answer.ok).toBe(true);
    return answer;
  };

  test('a key made by one is good at the other, and revoked by one it is refused by the other within a second', async () => {
    const key = await one.key('developer');
    expect((await call(`${two.url}/api`, { key })).status).toBe(200);
    expect((await call(`${one.url}/api`, { key })).status).toBe(200);
    const [id] = /[0-9a-zA-Z]+(?=_[^_]+$)/.exec(key) ?? [''];
    await admin(one, 'DELETE', `/keys/${id}`);
    const revoked = performance.now();
    await vi.waitFor(async () => expect((await call(`${two.url}/api`, { key })).status).toBe(401), { interval: 5 });
    expect(performance.now() - revoked).toBeLessThan(1000);
    expect((await call(`${one.url}/api`, { key })).status).toBe(401);
  });

  test('of a thousand requests to both, as many are let through as the limit says and not one more', async () => {
    const key = await one.key('data_engineer');
    const statuses = await Promise.all(
      Array.from(
        { length: 1000 },
        async (_, i) => (await call(`${(i % 2 === 0 ? one : two).url}/api`, { key })).status,
      ),
    );
    const limit = 500;
    expect(statuses.filter((status) => status === 200)).toHaveLength(limit);
    expect(statuses.filter((status) => status === 429)).toHaveLength(1000 - limit);
  });

  test('a limit of the configuration is exact over both, and both tell what is left', async () => {
    verifies('HF-13', 'VF-19');
    const key = await one.key('crowd', { roles: ['crowd', 'admin'] });
    const answers = await Promise.all(
      Array.from({ length: 1000 }, (_, i) => call(`${(i % 2 === 0 ? one : two).url}/api`, { key })),
    );
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(200);
    const refused = answers.filter(({ status }) => status === 429);
    expect(refused).toHaveLength(800);
    for (const { headers } of refused) {
      expect(Number(headers.get('retry-after'))).toBeGreaterThan(0);
      expect(headers.get('ratelimit-policy')).toBe('"crowd";q=200;w=36000');
      expect(headers.get('ratelimit')).toMatch(/^"crowd";r=0;t=\d+$/);
    }
    const left = new Set(
      answers.filter(({ status }) => status === 200).map(({ headers }) => headers.get('x-ratelimit-remaining')),
    );
    expect(left.size).toBe(200);
  });

  test('a key’s own limit is exact over both', async () => {
    verifies('H-09');
    const key = await one.key('viewer', { owner_id: 'limited', rate_limit_per_hour: 50 });
    const answers = await Promise.all(
      Array.from({ length: 120 }, (_, i) => call(`${(i % 2 === 0 ? one : two).url}/api`, { key })),
    );
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(50);
  });

  test('what one switches off is off at the other within a second', async () => {
    const key = await one.key('viewer');
    expect((await call(`${two.url}/api`, { key })).status).toBe(200);
    await admin(one, 'POST', '/switches', { kind: 'principal', name: 'user-viewer', reason: 'leaving' });
    const off = performance.now();
    await vi.waitFor(async () => expect((await call(`${two.url}/api`, { key })).status).toBe(403), { interval: 5 });
    expect(performance.now() - off).toBeLessThan(1000);
  });

  test('while Redis is away requests go on and are counted by each, and what happens once is refused', async () => {
    const key = await one.key('developer');
    expect((await call(`${one.url}/api`, { key })).status).toBe(200);
    await redis.kill();
    expect((await call(`${one.url}/api`, { key })).status).toBe(200);
    expect((await call(`${two.url}/api`, { key })).status).toBe(200);
  });
});
