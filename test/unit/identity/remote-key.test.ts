import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { IdentityEnv } from '../../../src/identity/env.ts';
import { generateKey, hashKey } from '../../../src/identity/key-format.ts';
import type { AuthResult, IdentityProvider } from '../../../src/identity/provider.ts';
import { type RemoteKeyOptions, remoteKey } from '../../../src/identity/providers/remote-key.ts';
import { forgetRemoteKey } from '../../../src/identity/remote-key-cache.ts';
import { Breaker } from '../../../src/upstreams/breaker.ts';
import { goodKey, type KeyService, startKeyService } from '../../helpers/key-service.ts';
import { verifies } from '../../helpers/verifies.ts';
import { bearer, keyHeader, NEVER, type Setting, setting } from './setting.ts';

const module = remoteKey((options) => new Breaker(options));
const KEY = 'hok_dev_aVeryGoodKeyIndeed0123456789';

let service: KeyService;
let around: Setting;
const open: IdentityProvider[] = [];

beforeEach(async () => {
  service = await startKeyService();
  around = await setting({ name: 'hokusai' });
});
afterEach(async () => {
  for (const provider of open.splice(0)) await provider.close?.();
  await around[Symbol.asyncDispose]();
  await service[Symbol.asyncDispose]();
});

async function provider(options: Partial<RemoteKeyOptions> = {}, env: Partial<IdentityEnv> = {}) {
  const config = module.schema.parse({ kind: 'remote-key', url: service.url, ...options });
  const made = await module.create(config, { ...around.env, ...env });
  open.push(made);
  return made;
}

async function ask(made: IdentityProvider, key = KEY, ip = '127.0.0.1'): Promise<AuthResult> {
  return made.authenticate(keyHeader(key), around.facts({ source_ip: ip }), NEVER);
}

const reasonOf = (result: AuthResult) => (result.kind === 'rejected' ? result.reason : result.kind);

describe('what is asked', () => {
  test('the key travels as bearer token, the body says for which service and from where', async () => {
    verifies('H-01', 'HW-01', 'HW-03', 'H-04');
    service.keys.set(KEY, goodKey('k1', { roles: ['developer'], scopes: ['model:read', 'mlflow:access'] }));
    const result = await ask(await provider(), KEY, '203.0.113.9');
    expect(service.calls).toHaveLength(1);
    const [call] = service.calls;
    expect([call?.method, call?.path, call?.headers.authorization]).toEqual([
      'POST',
      '/api/v1/keys/validate',
      `Bearer ${KEY}`,
    ]);
    expect(call?.body).toEqual({ service_id: 'ml-platform', client_ip: '203.0.113.9' });
    expect(result).toMatchObject({
      kind: 'authenticated',
      principal: {
        id: 'user-k1',
        email: 'k1@example.com',
        tenant_id: 'default',
        roles: ['developer'],
        scopes: ['model:read', 'mlflow:access'],
        metadata: { service_id: 'ml-platform', is_admin: 'false', rate_limit_per_hour: '1000' },
        auth: { provider: 'hokusai', method: 'api-key', key_id: 'k1' },
      },
    });
  });

  test('the older form sends the key in the body, and no header', async () => {
    verifies('H-03');
    service.keys.set(KEY, goodKey('k1'));
    const made = await provider({ legacy_body: true, send_client_ip: false });
    expect((await ask(made)).kind).toBe('authenticated');
    expect(service.calls[0]?.body).toEqual({ api_key: KEY, service_id: 'ml-platform' });
    expect(service.calls[0]?.headers.authorization).toBeUndefined();
  });

  test('a key of another environment is refused in each environment and never sent', async () => {
    verifies('H-21');
    service.always = goodKey('k1');
    const words = { development: 'dev', staging: 'test', production: 'live' } as const;
    for (const environment of ['development', 'staging', 'production'] as const) {
      const made = await provider({}, { environment });
      for (const word of Object.values(words)) {
        const before = service.calls.length;
        const result = await ask(made, `hok_${word}_${environment}${word}`);
        const isOwn = words[environment] === word;
        expect([environment, word, reasonOf(result)]).toEqual([environment, word, isOwn ? 'authenticated' : 'invalid']);
        expect(service.calls.length - before).toBe(isOwn ? 1 : 0);
      }
    }
  });

  test('keys of other prefixes and tokens are left to other providers', async () => {
    const made = await provider();
    for (const text of ['pc_dev_x', 'hokx_dev_y', 'eyJhbGciOiJFUzI1NiJ9.e30.c2ln', 'hok']) {
      expect(made.authenticate(bearer(text), around.facts(), NEVER)).toEqual({ kind: 'not-applicable' });
    }
    expect(service.calls).toHaveLength(0);
  });

  test('a key without environment or without an end is refused unasked', async () => {
    const made = await provider();
    for (const text of ['hok_', 'hok_dev', 'hok_dev_', 'hok_prod_x', 'hok__x', `hok_dev_${'x'.repeat(600)}`]) {
      expect([text.slice(0, 12), reasonOf(await ask(made, text))]).toEqual([text.slice(0, 12), 'invalid']);
    }
    expect(service.calls).toHaveLength(0);
  });

  test('there is no default address, and plain HTTP leads to this machine only', () => {
    verifies('HF-07');
    const parse = (url?: string) => module.schema.safeParse({ kind: 'remote-key', url }).success;
    expect(parse(undefined)).toBe(false);
    expect(parse('http://auth.example.com')).toBe(false);
    expect(parse('https://user:pass@auth.example.com')).toBe(false);
    expect(parse('https://auth.example.com/?key=1')).toBe(false);
    expect([parse('https://auth.example.com'), parse('http://127.0.0.1:8000'), parse('http://localhost:8000')]).toEqual(
      [true, true, true],
    );
  });

  test('connections are kept and reused', async () => {
    verifies('HF-05');
    const made = await provider();
    for (let i = 0; i < 20; i++) service.keys.set(`hok_dev_k${i}`, goodKey(`k${i}`));
    for (let i = 0; i < 20; i++) expect((await ask(made, `hok_dev_k${i}`)).kind).toBe('authenticated');
    expect(service.calls).toHaveLength(20);
    expect(service.connections()).toBeLessThanOrEqual(3);
  });
});

describe('what is remembered', () => {
  test('a good key is asked about once in 300 s, and again after', async () => {
    verifies('H-06');
    service.keys.set(KEY, goodKey('k1'));
    const made = await provider();
    await ask(made);
    around.move(299_999);
    const kept = made.authenticate(keyHeader(KEY), around.facts(), NEVER);
    expect(kept).not.toBeInstanceOf(Promise);
    expect(service.calls).toHaveLength(1);
    around.move(1);
    expect((await ask(made)).kind).toBe('authenticated');
    expect(service.calls).toHaveLength(2);
  });

  test('not beyond the end of the key itself', async () => {
    service.keys.set(KEY, goodKey('k1', { expires_at: new Date(around.env.clock.now() + 10_000).toISOString() }));
    const made = await provider();
    expect((await ask(made)).kind).toBe('authenticated');
    around.move(10_000);
    expect(reasonOf(await ask(made))).toBe('expired');
    expect(service.calls).toHaveLength(2);
  });

  test('a thousand requests with ten keys ask ten times, also at the same moment', async () => {
    verifies('H-19', 'HF-08');
    const made = await provider();
    const keys = Array.from({ length: 10 }, (_, i) => `hok_dev_key${i}`);
    for (const key of keys) service.keys.set(key, goodKey(key.slice(8)));
    const results = await Promise.all(Array.from({ length: 1000 }, (_, i) => ask(made, keys[i % 10])));
    expect(results.every(({ kind }) => kind === 'authenticated')).toBe(true);
    expect(service.calls).toHaveLength(10);
    around.move(300_000);
    await Promise.all(Array.from({ length: 1000 }, (_, i) => ask(made, keys[i % 10])));
    expect(service.calls).toHaveLength(20);
  });

  test('a refused key is remembered for a few seconds', async () => {
    verifies('HF-04');
    const made = await provider();
    for (let i = 0; i < 50; i++) expect(reasonOf(await ask(made))).toBe('invalid');
    expect(service.calls).toHaveLength(1);
    around.move(5000);
    expect(reasonOf(await ask(made))).toBe('invalid');
    expect(service.calls).toHaveLength(2);
    expect(module.schema.safeParse({ kind: 'remote-key', url: service.url, negative_seconds: 11 }).success).toBe(false);
  });

  test('an answer for one address is none for another, unless addresses are not told', async () => {
    service.keys.set(KEY, ({ body }) =>
      body.client_ip === '198.51.100.7' ? { status: 403 } : (goodKey('k1') as { body: unknown }),
    );
    const made = await provider();
    expect(reasonOf(await ask(made, KEY, '127.0.0.1'))).toBe('authenticated');
    expect(reasonOf(await ask(made, KEY, '198.51.100.7'))).toBe('forbidden');
    expect(reasonOf(await ask(made, KEY, '127.0.0.1'))).toBe('authenticated');
    const silent = await provider({ send_client_ip: false });
    expect(reasonOf(await ask(silent, KEY, '198.51.100.7'))).toBe('authenticated');
    expect(service.calls.at(-1)?.body).toEqual({ service_id: 'ml-platform' });
  });

  test('a withdrawn key is forgotten by every gateway, and what was under way is not kept', async () => {
    verifies('HF-02');
    service.keys.set(KEY, goodKey('k1'));
    const [one, two] = [await provider(), await provider()];
    await ask(one);
    await ask(two);
    expect(service.calls).toHaveLength(1);
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    const late = await provider({ cache_seconds: 0 });
    service.keys.set(KEY, async () => {
      await released;
      return goodKey('k1');
    });
    const asking = ask(late);
    await service.asked(2);
    service.keys.delete(KEY);
    await forgetRemoteKey(around.shared, 'k1', around.env.clock.now());
    expect(reasonOf(await ask(one))).toBe('invalid');
    expect(reasonOf(await ask(two))).toBe('invalid');
    const after = ask(late);
    release();
    expect(reasonOf(await asking)).toBe('authenticated');
    expect(reasonOf(await after)).toBe('invalid');
  });
});

describe('what is no answer', () => {
  const outages = [
    ['a 500', { status: 500 }],
    ['a 503', { status: 503 }],
    ['a broken connection', { hangUp: true }],
  ] as const;
  test.each(outages)('%s is tried three times and then an outage, not a bad key', async (_name, answer) => {
    verifies('H-15', 'HW-05');
    service.always = answer;
    expect(await ask(await provider())).toMatchObject({ kind: 'rejected', reason: 'unavailable', retryAfter: 1 });
    expect(service.calls).toHaveLength(3);
  });

  test('silence ends each try and the whole in time', async () => {
    verifies('HF-10');
    service.always = { silent: true };
    const started = performance.now();
    const made = await provider({ attempt_ms: 60, timeout_ms: 5000 });
    expect(reasonOf(await ask(made))).toBe('unavailable');
    expect(performance.now() - started).toBeLessThan(2000);
    expect(service.calls).toHaveLength(3);
    expect(module.schema.parse({ kind: 'remote-key', url: service.url }).timeout_ms).toBe(5000);
  });

  test('a second try that succeeds is a success', async () => {
    let tries = 0;
    service.keys.set(KEY, () => (++tries === 1 ? { status: 502 } : goodKey('k1')));
    expect((await ask(await provider())).kind).toBe('authenticated');
    expect(tries).toBe(2);
  });

  const refusals = [
    [401, {}, 'invalid', undefined],
    [402, {}, 'no-balance', undefined],
    [403, {}, 'forbidden', undefined],
    [429, { 'retry-after': '17' }, 'rate-limited', 17],
    [429, {}, 'rate-limited', 60],
    [429, { 'retry-after': 'soon' }, 'rate-limited', 60],
  ] as const;
  test.each(refusals)('status %i %o is %s, asked once', async (status, headers, reason, retryAfter) => {
    verifies('HF-03', 'HW-05');
    service.always = { status, headers };
    const result = await ask(await provider());
    expect(result).toMatchObject({ kind: 'rejected', reason, ...(retryAfter ? { retryAfter } : {}) });
    expect(service.calls).toHaveLength(1);
  });

  test('an outage is never remembered', async () => {
    service.always = { status: 500 };
    const made = await provider({ retries: 0 });
    expect(reasonOf(await ask(made))).toBe('unavailable');
    service.always = goodKey('k1');
    expect(reasonOf(await ask(made))).toBe('authenticated');
  });

  test('a service that fails is left alone for a while', async () => {
    service.always = { status: 500 };
    const made = await provider({
      retries: 0,
      breaker: { volume: 3, error_percentage: 50, window_ms: 60_000, reset_ms: 60_000 },
    });
    for (let i = 0; i < 20; i++) expect(reasonOf(await ask(made, `hok_dev_k${i}`))).toBe('unavailable');
    expect(service.calls).toHaveLength(3);
    expect(await made.health?.()).toMatchObject({ state: 'down' });
  });

  test('a good key that is remembered stays good while the service is away', async () => {
    service.keys.set(KEY, goodKey('k1'));
    const made = await provider();
    await ask(made);
    service.always = { status: 500 };
    expect((await ask(made)).kind).toBe('authenticated');
  });

  test('where nothing is remembered no answer serves a request that came after its question', async () => {
    const answers: (() => void)[] = [];
    let owner = 'before';
    service.keys.set(KEY, async () => {
      const told = goodKey(owner);
      await new Promise<void>((answer) => answers.push(answer));
      return told;
    });
    const made = await provider({ cache_seconds: 0, max_waiting: 2 });
    const first = ask(made);
    await service.asked(1);
    owner = 'after';
    const second = ask(made);
    await service.asked(2);
    expect(await ask(made)).toMatchObject({ reason: 'unavailable' });
    for (const answer of answers) answer();
    expect(await first).toMatchObject({ principal: { id: 'user-before' } });
    expect(await second).toMatchObject({ principal: { id: 'user-after' } });
  });

  test('more questions than are allowed under way are refused at once', async () => {
    service.always = { silent: true };
    const made = await provider({ max_waiting: 2, attempt_ms: 200, retries: 0 });
    const first = [ask(made, 'hok_dev_a'), ask(made, 'hok_dev_b')];
    expect(await ask(made, 'hok_dev_c')).toMatchObject({ reason: 'unavailable', retryAfter: 1 });
    await Promise.all(first);
  });
});

describe('who it is here', () => {
  test('without a map nobody becomes an administrator, whatever the service says', async () => {
    verifies('DF-04', 'SF-55');
    const roles = ['admin', 'developer', 'Admin', 'ml', 'toString', '*'];
    service.keys.set(KEY, goodKey('k1', { roles, scopes: ['model:read', '*'], is_admin: true }));
    const plain = await ask(await provider());
    expect(plain).toMatchObject({ principal: { roles: ['developer'], scopes: ['model:read'], permissions: [] } });
    expect(around.lines.find(({ message }) => message === 'a key names roles that are not mapped')?.fields).toEqual({
      provider: 'hokusai',
      roles: ['admin', 'Admin', 'ml', 'toString', '*'],
    });
    const named = await ask(await provider({ roles: { admin: ['admin'] } }), KEY, '127.0.0.2');
    expect(named).toMatchObject({ principal: { roles: ['admin'] } });
  });

  test('a key of this gateway is not sent, not even with a prefix of the service', async () => {
    service.always = goodKey('k1');
    const made = await provider({ prefixes: ['hok', 'pc', 'pcr'] });
    const { id, text } = generateKey('hok', 'dev');
    await around.env.keys.insert({
      ...{ id, tenant_id: 'default', owner_id: 'dana', name: 'own', prefix: 'hok', environment: 'dev' },
      ...{ hash: hashKey(text, around.env.pepper), facts: {} as never, created_at: 1, expires_at: null },
      ...{ revoked_at: null, last_used_at: null, replaced_by: null },
    });
    expect(await ask(made, text)).toMatchObject({
      reason: 'invalid',
      detail: 'a key of this gateway; it was not sent',
    });
    expect(await ask(made, `pcr_ses_${'0'.repeat(26)}_1_${'A'.repeat(43)}`)).toMatchObject({ reason: 'invalid' });
    expect(service.calls).toHaveLength(0);
    expect((await ask(made, generateKey('hok', 'dev').text)).kind).toBe('authenticated');
  });

  test('roles and scopes are translated, others are dropped, and an admin there is none here unless said', async () => {
    service.keys.set(KEY, goodKey('k1', { roles: ['ml', 'root'], scopes: ['model:read', 'all'], is_admin: true }));
    const mapped = await ask(
      await provider({
        roles: { ml: ['developer', 'user'] },
        scopes: { 'model:read': ['models.read'] },
        default_roles: ['user'],
        admin_roles: ['operator'],
        tenant: 'acme',
        type: 'service',
      }),
    );
    expect(mapped).toMatchObject({
      principal: {
        roles: ['developer', 'user', 'operator'],
        scopes: ['models.read'],
        tenant_id: 'acme',
        type: 'service',
        metadata: { is_admin: 'true' },
      },
    });
  });
});
