/** A gateway inside a program: providers and stores are objects, and there is no file. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import {
  type Backend,
  ConfigError,
  checkConfig,
  createGateway,
  type Gateway,
  type GatewaySetup,
  type OwnProvider,
  type Shared,
} from '../../src/gateway.ts';
import { createMemoryShared } from '../../src/stores/memory-shared.ts';
import { openSqlite } from '../../src/stores/sqlite.ts';
import { POLICIES } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import { temporaryDirectory } from '../helpers/processes.ts';
import { startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

/** As a program has one: it knows its own sessions, and says who is behind them. */
class Sessions implements OwnProvider {
  readonly asked: string[] = [];
  closed = false;

  authenticate({ kind, value }: Parameters<OwnProvider['authenticate']>[0]) {
    this.asked.push(value);
    if (kind !== 'bearer') return { kind: 'not-applicable' };
    if (value === 'broken') throw new Error('the session store is away');
    if (value === 'with_facts') {
      const auth = { session_id: 's1', key_id: 'k1' };
      const facts = { permissions: ['api.read'], metadata: { plan: 'gold' }, auth };
      return { kind: 'authenticated', principal: { id: 'u2', tenant_id: 'test-tenant', ...facts } };
    }
    if (value !== 'valid_token') return { kind: 'rejected', reason: 'invalid' };
    return { kind: 'authenticated', principal: { id: 'u1', tenant_id: 'test-tenant', roles: ['developer'] } };
  }

  async close() {
    this.closed = true;
  }
}

/** Counts what is asked of it. */
class Counting {
  readonly hits = new Map<string, number>();
  disposed = false;
  readonly shared: Shared;

  constructor() {
    const memory = createMemoryShared({ clock: { now: () => Date.now() } });
    this.shared = new Proxy(memory, {
      get: (target, name) => {
        if (name === Symbol.asyncDispose) this.disposed = true;
        const value: unknown = Reflect.get(target, name);
        if (typeof value !== 'function') return value;
        this.hits.set(String(name), (this.hits.get(String(name)) ?? 0) + 1);
        return value.bind(target);
      },
    });
  }
}

const PEPPER = 'a pepper of this program that is long enough 7Hq2';

describe('createGateway({ config, auth, storage })', () => {
  const folder = temporaryDirectory('portcullis-program-');
  const sessions = new Sessions();
  const counting = new Counting();
  const file = `${folder.path}/of-the-program.db`;
  const database: Backend = openSqlite(file, 1000);
  let upstream: Awaited<ReturnType<typeof startService>>;
  let gateway: Gateway;
  let setup: GatewaySetup;

  beforeAll(async () => {
    upstream = await startService((request, response) => response.end(JSON.stringify(request.headers)));
    setup = {
      config: {
        listen: { data: '127.0.0.1:0', admin: { address: '127.0.0.1:0' } },
        routes: [{ match: '/api', protocol: 'http', url: upstream.url, permissions: { GET: [] }, tenant_header: true }],
        policy: { bundle: POLICIES, watch: false, decision_log: { file: './decisions.jsonl' } },
        limits: { drain_ms: 100 },
        stores: { pepper: PEPPER },
        rate_limit: { limits: [{ name: 'all', limit: 1000, window_seconds: 60, per: 'principal' }] },
      },
      auth: [{ name: 'sessions', provider: sessions }],
      storage: { shared: counting.shared, database },
      baseDir: folder.path,
      writeLog: () => undefined,
    };
    gateway = await createGateway(setup);
    await gateway.start();
  });
  afterAll(async () => {
    await gateway?.close();
    await upstream?.[Symbol.asyncDispose]();
    folder[Symbol.dispose]();
  });

  const ask = (authorization?: string, path = '/api') =>
    call(`${gateway.urls.data}${path}`, authorization === undefined ? {} : { headers: { authorization } });

  test('asks the provider it was given, on every route that names none', async () => {
    verifies('D-18', 'D-01', 'D-02', 'D-42', 'D-43');
    const good = await ask('Bearer valid_token');
    expect([good.status, good.body]).toEqual([
      200,
      expect.objectContaining({ 'x-auth-user': 'u1', 'x-tenant-id': 'test-tenant', 'x-auth-roles': 'developer' }),
    ]);
    expect((await ask('Bearer valid_token', '/auth/me')).body).toMatchObject({
      ...{ id: 'u1', tenant_id: 'test-tenant', type: 'user' },
      auth: { provider: 'sessions', method: 'bearer' },
    });
    const bad = await ask('Bearer invalid_token');
    expect([bad.status, (bad.body as { error: { code: string } }).error.code]).toEqual([401, 'INVALID_CREDENTIALS']);
    expect((await ask()).status).toBe(401);
    expect(sessions.asked).toContain('invalid_token');
  });

  test('the policy is told how, from where and with what somebody came', async () => {
    verifies('D-15', 'D-10', 'D-11', 'D-12', 'D-14');
    const headers = { authorization: 'Bearer with_facts', 'user-agent': 'agent/1.0' };
    const answer = await call(`${gateway.urls.data}/api`, { headers });
    expect(answer.status).toBe(200);
    const id = answer.headers.get('x-decision-id') ?? 'none';
    const lines = () => readFileSync(join(folder.path, 'decisions.jsonl'), 'utf8').split('\n');
    await expect.poll(() => lines().some((line) => line.includes(id))).toBe(true);
    const { input } = JSON.parse(lines().find((line) => line.includes(id)) ?? '{}') as { input: object };
    expect(input).toMatchObject({
      gateway_metadata: { source_ip: '127.0.0.1', user_agent: 'agent/1.0' },
      user: {
        ...{ id: 'u2', tenant_id: 'test-tenant', permissions: ['api.read'], auth_provider: 'sessions' },
        ...{ auth_method: 'bearer', session_id: 's1', key_id: 'k1', metadata: { plan: 'gold' } },
      },
    });
  });

  test('takes its failure for an outage', async () => {
    verifies('DF-03');
    const answer = await ask('Bearer broken');
    expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, '1']);
    expect(answer.text).not.toContain('session store');
  });

  test('uses the stores it was given', async () => {
    verifies('D-18');
    expect(counting.hits.get('take')).toBeGreaterThan(0);
    const key = await gateway.keys.create({ name: 'ci', tenant_id: 'acme' });
    expect(await gateway.keys.isGood(key)).toBe(true);
    using reading = new DatabaseSync(file, { readOnly: true });
    expect(reading.prepare('SELECT name, tenant_id FROM api_keys').all()).toEqual([{ name: 'ci', tenant_id: 'acme' }]);
  });

  test('asks the policy whether somebody may do something to what belongs to somebody', async () => {
    verifies('D-16', 'DF-02');
    const alice = { id: 'alice', tenant_id: 'acme', roles: ['developer'] };
    const of = (tenant_id: string | null, owner_id: string | null) =>
      ({ type: 'response', id: 'resp_1', tenant_id, owner_id }) as const;
    const may = (resource: Parameters<Gateway['authorize']>[1], principal: object = alice) =>
      gateway.authorize(principal as typeof alice, resource, 'responses:delete');
    expect(may(of('acme', 'alice'))).toBe(true);
    expect(may(of('acme', 'bob'))).toBe(false);
    expect(may(of('globex', 'alice'))).toBe(false);
    expect(may(of(null, 'alice'))).toBe(false);
    expect(may(of('acme', null))).toBe(false);
    // An administrator of the tenant may, of another one may not.
    expect(may(of('acme', 'bob'), { ...alice, id: 'root', roles: ['admin'] })).toBe(true);
    expect(may(of('globex', 'bob'), { ...alice, id: 'root', roles: ['admin'] })).toBe(false);
    // The policy was asked, with the whole resource: its log says so.
    await expect
      .poll(() => readFileSync(join(folder.path, 'decisions.jsonl'), 'utf8'))
      .toContain('"resource":{"type":"response","id":"resp_1","tenant_id":"globex","owner_id":"bob"');
  });

  test.each<[string, object, string]>([
    ['an action that no policy knows', { id: 'alice', roles: ['admin'] }, 'responses:steal'],
    ['a principal that is none', { roles: ['admin'] }, 'responses:delete'],
    ['a principal with roles that are a text', { id: 'alice', roles: 'admin' }, 'responses:delete'],
    ['nobody', { id: 'anonymous', type: 'anonymous' }, 'responses:delete'],
    ['somebody without a role', { id: 'alice', tenant_id: 'acme' }, 'responses:list'],
  ])('answers no to %s', (_what, principal, action) => {
    verifies('DF-02');
    const resource = { type: 'response', id: 'resp_1', tenant_id: 'acme', owner_id: 'alice' } as const;
    expect(gateway.authorize(principal as never, resource, action as never)).toBe(false);
  });

  test('reloads what was checked in the same way', async () => {
    const other = await startService((_request, response) => response.end('"other"'));
    await using _other = other;
    const routes = [{ match: '/other', protocol: 'http' as const, url: other.url, permissions: { GET: [] } }];
    const { config } = setup;
    await gateway.reload(checkConfig({ ...setup, config: { ...config, routes } }));
    expect((await ask('Bearer valid_token', '/other')).body).toBe('other');
    expect((await ask('Bearer valid_token')).status).toBe(404);
    expect(sessions.closed).toBe(false);
  });

  test('leaves providers and shared state open: they are the program’s', async () => {
    await gateway.close();
    expect([sessions.closed, counting.disposed]).toEqual([false, false]);
  });
});

describe('a setup that is of no use', () => {
  const auth = [{ name: 'own', provider: new Sessions() }];
  const refusal = (setup: GatewaySetup) => {
    try {
      checkConfig(setup);
    } catch (error) {
      if (error instanceof ConfigError) return error.problems.join('\n');
    }
    return null;
  };

  test('is refused with every problem at once', async () => {
    verifies('D-18');
    const config = {
      routes: [{ match: '/a', protocol: 'http', url: 'http://127.0.0.1:1', identity: ['absent'] }],
      liste: {},
    };
    const said = refusal({ config: config as never, auth });
    expect(said).toContain('routes[0].identity[0]');
    expect(said).toContain('liste');
    await expect(createGateway({ config: config as never, auth })).rejects.toBeInstanceOf(ConfigError);
  });

  test('is refused when two providers have one name', () => {
    verifies('S-76');
    expect(refusal({ config: {}, auth: [...auth, ...auth] })).toContain('two providers "own"');
    expect(refusal({ config: { identity: { own: { kind: 'api-key' } } }, auth })).toContain('two providers "own"');
  });

  test('is refused when a route would be open by mistake', () => {
    const routes = [{ match: '/a', protocol: 'http' as const, url: 'http://127.0.0.1:1' }];
    expect(refusal({ config: { routes } })).toContain('it would refuse everyone');
    expect(refusal({ config: { routes }, auth })).toBeNull();
  });

  test('reads no variable unless it is given them', () => {
    const config = { listen: { admin: { address: '127.0.0.1:0', token: '$' + '{env:ADMIN}' } } };
    expect(refusal({ config })).toContain('ADMIN');
    expect(refusal({ config, env: { ADMIN: 'an administration token of this test 8Kx' } })).toBeNull();
  });

  test('is refused when it brings a database without a pepper', async () => {
    using folder = temporaryDirectory();
    const database = openSqlite(null, 1000);
    await expect(createGateway({ config: {}, storage: { database }, baseDir: folder.path })).rejects.toThrow('pepper');
  });

  test('cannot name a provider that the program does not bring', () => {
    const config = { identity: { ghost: { kind: 'given' } } };
    expect(refusal({ config: config as never })).not.toBeNull();
  });
});

describe('a store of one’s own, by its path', () => {
  const STORE = `
    import { appendFileSync } from 'node:fs';
    import { join } from 'node:path';
    /** Keeps everything in maps, and writes down what it was asked. */
    export class Kept {
      constructor(options, { baseDir, clock }) {
        this.say = (text) => appendFileSync(join(baseDir, 'asked.txt'), text + '\\n');
        this.values = new Map();
        this.clock = clock;
      }
      hit(key, windowMs) { return { count: 1, resetAt: this.clock.now() + windowMs } }
      take(key, { limit, windowMs }) {
        const used = (this.values.get(key) ?? 0) + 1;
        this.values.set(key, used);
        this.say('take');
        if (process.env.STORE_OF_THE_TEST === 'broken') throw new Error('the store is away');
        return { isAllowed: used <= limit, remaining: Math.max(0, limit - used), fullInMs: windowMs, retryInMs: used <= limit ? 0 : windowMs };
      }
      async get(key) { return this.values.get(key) ?? null }
      async set(key, value) { this.values.set(key, value) }
      async claim(key, value) { if (this.values.has(key)) return false; this.values.set(key, value); return true }
      async delete(key) { this.values.delete(key) }
      async publish() {}
      subscribe() { return () => undefined }
      async close() { this.say('close') }
    }
    export class Half { async get() { return null } }
  `;

  const folder = temporaryDirectory('portcullis-store-');
  afterAll(() => folder[Symbol.dispose]());
  writeFileSync(join(folder.path, 'my-store.mjs'), STORE);

  const configured = (env: Readonly<Record<string, string>>, stores: object = {}) =>
    checkConfig({
      config: {
        listen: { data: '127.0.0.1:0', admin: { address: '127.0.0.1:0' } },
        identity: { keys: { kind: 'api-key' } },
        routes: [{ match: '/api', protocol: 'http', url: 'http://127.0.0.1:1', identity: ['keys'] }],
        policy: { bundle: POLICIES, watch: false },
        limits: { drain_ms: 100 },
        stores: { database: 'sqlite::memory:', ...stores },
        rate_limit: { limits: [{ name: 'two', limit: 2, window_seconds: 60, per: 'principal' }] },
      },
      env,
      baseDir: folder.path,
    });
  const options = { baseDir: folder.path, writeLog: () => undefined };

  test('is loaded from where PORTCULLIS_STORAGE_MODULE says, counts, and is closed with the gateway', async () => {
    verifies('D-01');
    const env = { PORTCULLIS_STORAGE_MODULE: './my-store.mjs', PORTCULLIS_STORAGE_MODULE_CLASS: 'Kept' };
    const gateway = await createGateway(configured(env), options);
    await using _gateway = gateway;
    await gateway.start();
    const key = await gateway.keys.create({ name: 'ci', tenant_id: 'acme' });
    const ask = async () => (await call(`${gateway.urls.data}/api`, { key })).status;
    expect([await ask(), await ask(), await ask()]).toEqual([502, 502, 429]);
    // While it is away this process counts for itself, from the beginning.
    vi.stubEnv('STORE_OF_THE_TEST', 'broken');
    expect([await ask(), await ask(), await ask()]).toEqual([502, 502, 429]);
    vi.unstubAllEnvs();
    await gateway.close();
    expect(readFileSync(join(folder.path, 'asked.txt'), 'utf8')).toMatch(/^(take\n)+close\n$/);
  });

  test.each<[string, object, string]>([
    ['is not there', { module: './absent.mjs' }, 'stores.shared.module: there is no file'],
    ['lacks a method', { module: './my-store.mjs', class: 'Half' }, 'no method "hit"'],
    ['is not named', { module: './my-store.mjs' }, 'name one of its exports'],
  ])('that %s is refused at start with a sentence', async (_what, shared, text) => {
    await expect(createGateway(configured({}, { shared }), options)).rejects.toThrow(text);
  });

  test('is no address, and its class goes with it', () => {
    expect(() => configured({}, { shared: { module: 'https://example.com/store.js' } })).toThrow(ConfigError);
    expect(() => configured({ PORTCULLIS_STORAGE_MODULE_CLASS: 'Kept' })).toThrow('PORTCULLIS_STORAGE_MODULE');
  });
});
