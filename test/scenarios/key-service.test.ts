/** A gateway that issues keys, and another that asks it about them. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ADMIN_TOKEN, startGateway, type TestGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import { startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

interface Issued {
  readonly api_key: string;
  readonly key_id: string;
  readonly expires_at: string | null;
}

let service: TestGateway;
let admin: string;
beforeAll(async () => {
  service = await startGateway({ identity: { keys: { kind: 'api-key', prefixes: ['pc', 'hok'] } } });
  admin = await service.key('ops', { permissions: ['keys:*'], roles: [] });
});
afterAll(() => service[Symbol.asyncDispose]());

const manage = (method: string, path: string, key: string, json?: unknown) =>
  call(`${service.url}/api/v1/keys${path}`, {
    key,
    method,
    ...(json === undefined ? {} : { json }),
  });
const issue = async (json: object, key = admin): Promise<Issued> => {
  const answer = await manage('POST', '', key, { environment: 'development', ...json });
  expect(answer.status, answer.text).toBe(201);
  return answer.body as Issued;
};
const validate = (key: string, json: object = {}) =>
  call(`${service.url}/api/v1/keys/validate`, { headers: { authorization: `Bearer ${key}` }, json });

describe('managing keys', () => {
  test('a key is made with the defaults of the service, shown once, and good at once', async () => {
    verifies('H-12', 'HW-07', 'HW-08', 'H-04', 'HW-02');
    const answer = await manage('POST', '', admin, {
      name: 'ci',
      service_id: 'ml-platform',
      environment: 'production',
      scopes: ['model:read', 'model:write', 'mlflow:access'],
    });
    expect(answer.status).toBe(201);
    expect(answer.body).toMatchObject({
      api_key: expect.stringMatching(/^hok_live_[0-9A-Za-z]{16}_[0-9A-Za-z]{36}$/),
      name: 'ci',
      service_id: 'ml-platform',
      environment: 'production',
      scopes: ['model:read', 'model:write', 'mlflow:access'],
      rate_limit_per_hour: 1000,
      owner_id: 'key:ci',
      expires_at: null,
    });
    const { api_key, key_id } = answer.body as Issued;
    expect((await validate(api_key, { service_id: 'ml-platform', client_ip: '203.0.113.1' })).body).toEqual({
      is_valid: true,
      user_id: 'key:ci',
      email: null,
      key_id,
      service_id: 'ml-platform',
      scopes: ['model:read', 'model:write', 'mlflow:access'],
      roles: [],
      is_admin: false,
      rate_limit_per_hour: 1000,
      error: null,
      has_sufficient_balance: true,
      balance: null,
      error_type: null,
      expires_at: null,
    });
    const listed = await manage('GET', '', admin);
    expect(listed.text).not.toContain(api_key);
    expect(listed.body).toMatchObject({ items: expect.arrayContaining([expect.objectContaining({ key_id })]) });
  });

  test('each operation needs its permission, and a role alone brings none', async () => {
    const nobody = await service.key('admin');
    const { key_id } = await issue({ name: 'guarded' });
    for (const [method, path, json] of [
      ['POST', '', { name: 'x' }],
      ['GET', '', undefined],
      ['DELETE', `/${key_id}`, undefined],
      ['POST', `/${key_id}/rotate`, {}],
      ['GET', `/${key_id}/usage`, undefined],
    ] as const) {
      expect([method, path, (await manage(method, path, nobody, json)).status]).toEqual([method, path, 403]);
    }
    expect((await call(`${service.url}/api/v1/keys`)).status).toBe(401);
  });

  test('who may make keys gives no more than he has, and is given no more by a rotation', async () => {
    const own = ['keys:create', 'keys:list', 'keys:rotate', 'keys:revoke', 'model:*'];
    const dev = await service.key('dev', { permissions: own, roles: ['developer'], owner_id: 'dev' });
    const make = (json: object) => manage('POST', '', dev, { environment: 'development', name: 'x', ...json });
    expect((await make({ scopes: ['model:read'], roles: ['developer'] })).body).toMatchObject({ owner_id: 'dev' });
    for (const wanted of [
      { scopes: ['mlflow:access'] },
      { permissions: ['keys:*'] },
      { permissions: ['*'] },
      { scopes: ['model:read', 'other'] },
      { roles: ['admin'] },
      { owner_id: 'somebody' },
    ]) {
      expect([wanted, (await make(wanted)).status]).toEqual([wanted, 403]);
    }
    const strong = await service.key('strong', { permissions: ['everything'], owner_id: 'dev' });
    const listed = (await manage('GET', '', dev)).body as { items: { key_id: string; name: string }[] };
    const other = listed.items.find(({ name }) => name === 'strong');
    expect((await manage('POST', `/${other?.key_id}/rotate`, dev, {})).status).toBe(403);
    expect((await manage('DELETE', `/${other?.key_id}`, dev)).status).toBe(204);
    expect((await manage('GET', '', strong)).status).toBe(401);
  });

  test('a key that is bound makes none that is not', async () => {
    const bound = await service.key('bound', {
      permissions: ['keys:create', 'a'],
      allowed_ips: ['127.0.0.0/8'],
      rate_limit_per_hour: 50,
    });
    const make = (json: object) => manage('POST', '', bound, { name: 'x', ...json });
    expect((await make({})).body).toMatchObject({ allowed_ips: ['127.0.0.0/8'], rate_limit_per_hour: 50 });
    expect((await make({ allowed_ips: ['0.0.0.0/0'] })).status).toBe(403);
    expect((await make({ rate_limit_per_hour: 51 })).status).toBe(403);
  });

  test('a key that ends makes none that stays', async () => {
    const maker = await issue({ name: 'for a day', permissions: ['keys:create'], expires_in_days: 1 });
    const eternal = await issue({ name: 'eternal' }, maker.api_key);
    const long = await issue({ name: 'long', expires_in_days: 300 }, maker.api_key);
    expect([eternal.expires_at, long.expires_at]).toEqual([maker.expires_at, maker.expires_at]);
    const short = new Date(Date.now() + 60_000).toISOString();
    expect((await issue({ name: 'short', expires_at: short }, maker.api_key)).expires_at).toBe(short);
  });

  test('keys of others are not there', async () => {
    const dev = await service.key('dev2', {
      permissions: ['keys:list', 'keys:revoke', 'keys:rotate'],
      owner_id: 'dev2',
    });
    const elsewhere = await service.key('ops2', { permissions: ['keys:*'], tenant_id: 'acme' });
    const { key_id } = await issue({ name: 'hidden' });
    for (const key of [dev, elsewhere]) {
      expect((await manage('DELETE', `/${key_id}`, key)).status).toBe(404);
      expect((await manage('POST', `/${key_id}/rotate`, key, {})).status).toBe(404);
      expect((await manage('GET', `/${key_id}/usage`, key)).status).toBe(404);
      expect((await manage('GET', '', key)).text).not.toContain(key_id);
    }
  });

  test('after a rotation both are good for a day; after a revocation none', async () => {
    verifies('HW-07', 'HW-08');
    const first = await issue({ name: 'turning', scopes: ['model:read'], expires_in_days: 30 });
    expect(Date.parse(first.expires_at ?? '')).toBeGreaterThan(Date.now() + 29 * 86_400_000);
    const next = (await manage('POST', `/${first.key_id}/rotate`, admin, {})).body as Issued;
    expect(next).toMatchObject({ scopes: ['model:read'], name: 'turning', replaces: first.key_id });
    const old = await validate(first.api_key);
    expect(old.status).toBe(200);
    const left = Date.parse((old.body as Issued).expires_at ?? '') - Date.now();
    expect(left / 3_600_000).toBeCloseTo(24, 1);
    expect((await manage('POST', `/${first.key_id}/rotate`, admin, {})).status).toBe(409);
    expect((await manage('DELETE', `/${next.key_id}`, admin)).status).toBe(204);
    const refused = await validate(next.api_key);
    expect([refused.status, (refused.body as { error: { code: string } }).error.code]).toEqual([401, 'TOKEN_REVOKED']);
  });

  test('uses are counted', async () => {
    verifies('HW-08');
    const { api_key, key_id } = await issue({ name: 'counted' });
    for (let i = 0; i < 3; i++) await validate(api_key);
    const usage = async () => (await manage('GET', `/${key_id}/usage`, admin)).body as { uses: object };
    await expect.poll(async () => (await usage()).uses).toEqual({ total: 3, last_24_hours: 3 });
    expect(await usage()).toMatchObject({ key_id, last_used_at: expect.stringMatching(/^\d{4}-/) });
  });

  test.each([
    [{}, 'name'],
    [{ name: 'x', environment: 'moon' }, 'environment'],
    [{ name: 'x', expires_at: '2020-01-01T00:00:00Z' }, 'expires_at'],
    [{ name: 'x', expires_at: '2024-01-01T00:00:00+30d' }, 'expires_at'],
    [{ name: 'x', allowed_ips: ['10.0.0.0/99'] }, 'allowed_ips'],
    [{ name: 'x', is_admin: true }, 'is_admin'],
  ])('%j is refused with the member named', async (json, member) => {
    verifies('HF-16');
    const answer = await manage('POST', '', admin, json);
    expect([answer.status, answer.text]).toEqual([422, expect.stringContaining(member)]);
  });
});

describe('asking about keys', () => {
  test('in the older form the key stands in the body', async () => {
    verifies('H-03');
    const { api_key, key_id } = await issue({ name: 'older' });
    const answer = await call(`${service.url}/api/v1/keys/validate`, { json: { api_key } });
    expect([answer.status, answer.body]).toEqual([200, expect.objectContaining({ is_valid: true, key_id })]);
    const both = await validate(api_key, { api_key: `${api_key}x` });
    expect(both.status).toBe(400);
  });

  test('a key that is unknown, changed or absent is refused, and the answer holds no key', async () => {
    const { api_key } = await issue({ name: 'tampered' });
    for (const text of ['hok_dev_bad', `${api_key.slice(0, -1)}_`, api_key.replace('hok_dev', 'hok_live')]) {
      const answer = await validate(text);
      expect(answer.status).toBe(401);
      expect(answer.text).not.toContain(text);
    }
    expect((await call(`${service.url}/api/v1/keys/validate`, { json: {} })).status).toBe(401);
  });

  test('keys that were made otherwise are known as well', async () => {
    const local = await service.key('developer', { permissions: ['tasks.read'], scopes: ['model:read'] });
    expect((await validate(local)).body).toMatchObject({
      ...{ is_valid: true, user_id: 'user-developer', roles: ['developer'], scopes: ['model:read', 'tasks.read'] },
      service_id: null,
    });
  });

  test('a key is good for its service and from its addresses', async () => {
    const { api_key } = await issue({ name: 'bound', service_id: 'billing', allowed_ips: ['203.0.113.0/24'] });
    const at = (service_id: string, client_ip: string) => validate(api_key, { service_id, client_ip });
    expect((await at('billing', '203.0.113.9')).status).toBe(200);
    expect((await at('billing', '198.51.100.1')).status).toBe(403);
    expect((await at('ml-platform', '203.0.113.9')).status).toBe(403);
  });
});

describe('a key that is switched off', () => {
  const switched = (path: string, method: string, json?: object) =>
    call(`${service.admin}/switches${path}`, {
      method,
      headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
      ...(json === undefined ? {} : { json }),
    });

  test.each([
    ['key', (id: string) => ({ name: id })],
    ['principal', () => ({ name: 'key:off', tenant: 'default' })],
    ['tenant', () => ({ name: 'default' })],
  ])('by its %s is good for nobody who asks about it', async (kind, named) => {
    const { api_key, key_id } = await issue({ name: 'off' });
    const asked = () => [
      validate(api_key),
      call(`${service.url}/api/v1/keys/validate`, { json: { api_key } }),
      call(`${service.url}/auth/verify-api-key`, { json: { api_key } }),
    ];
    const statuses = async () => (await Promise.all(asked())).map(({ status }) => status);
    expect(await statuses()).toEqual([200, 200, 200]);
    const off = await switched('', 'POST', { kind, ...named(key_id) });
    expect(off.status, off.text).toBe(201);
    expect(await statuses()).toEqual([403, 403, 403]);
    expect((await asked()[2])?.text).toContain('SWITCHED_OFF');
    expect((await switched(`/${(off.body as { id: string }).id}`, 'DELETE')).status).toBe(204);
    expect(await statuses()).toEqual([200, 200, 200]);
  });
});

describe('two gateways', () => {
  test('keys of one open the other; a withdrawn one is forgotten when that is told', async () => {
    verifies('H-01', 'H-13', 'H-20', 'HW-01', 'HF-02', 'H-22');
    const seen: string[] = [];
    await using echo = await startService((request, response) => {
      seen.push(JSON.stringify(request.headers));
      response.end('[]');
    });
    await using edge = await startGateway({
      identity: {
        local: { kind: 'api-key' },
        service: { kind: 'remote-key', url: service.url, default_roles: ['user'] },
      },
      routes: [
        {
          ...{ match: '/api/models', protocol: 'http', url: echo.url, identity: ['local', 'service'] },
          permissions: { GET: ['model:read'], POST: ['model:write'] },
        },
      ],
    });
    const { api_key, key_id } = await issue({ name: 'edge', scopes: ['model:read'] });
    const local = await edge.key('someone', { permissions: ['model:read'] });
    const ask = (headers: Record<string, string>, method = 'GET') =>
      call(`${edge.url}/api/models`, { headers, method });
    const ways = [
      { 'x-api-key': api_key },
      { authorization: `Bearer ${api_key}` },
      { authorization: `ApiKey ${api_key}` },
      { 'x-api-key': local },
    ];
    for (const way of ways) expect((await ask(way)).status).toBe(200);
    expect([seen.length, seen.join('').includes(api_key)]).toEqual([4, false]);
    expect((await ask({ 'x-api-key': api_key }, 'POST')).status).toBe(403);
    expect((await call(`${edge.url}/api/models?api_key=${api_key}`)).status).toBe(401);
    const isEnd = (event: object) => 'route' in event && event.route === '/api/models';
    const events = await edge.audited((all) => all.filter(isEnd).length >= 6);
    const good = events.filter((event) => 'status' in event && event.status === 200);
    const answered = good.map(({ auth_provider }) => auth_provider);
    expect(answered).toEqual(['service', 'service', 'service', 'local']);
    expect(JSON.stringify(events) + edge.logs.join('') + (await edge.decisions())).not.toContain(api_key);

    expect((await manage('DELETE', `/${key_id}`, admin)).status).toBe(204);
    expect((await ask({ 'x-api-key': api_key })).status).toBe(200);
    const told = await fetch(`${edge.admin}/cache/keys/${key_id}`, {
      method: 'DELETE',
      headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
    });
    expect(told.status).toBe(204);
    expect((await ask({ 'x-api-key': api_key })).status).toBe(401);
    expect((await fetch(`${edge.admin}/cache/keys/x`, { method: 'DELETE' })).status).toBe(401);
    const database = await readFile(join(edge.home, 'portcullis.db'));
    expect(database.includes(key_id)).toBe(false);
  });

  test('many bad keys through one gateway do not make the service deaf to it', async () => {
    await using guarded = await startGateway({
      rate_limit: { refused_per_address: { limit: 3, window_seconds: 60 } },
    });
    const ops = await guarded.key('ops', { permissions: ['keys:*'] });
    const made = await call(`${guarded.url}/api/v1/keys`, { key: ops, json: { name: 'x' } });
    const { api_key } = made.body as Issued;
    const ask = (key: string) =>
      call(`${guarded.url}/api/v1/keys/validate`, { headers: { authorization: `Bearer ${key}` }, json: {} });
    for (let i = 0; i < 10; i++) expect((await ask(`hok_live_${i}`)).status).toBe(401);
    expect((await ask(api_key)).status).toBe(200);
  });

  test('a gateway without the service answers none of it', async () => {
    await using plain = await startGateway({ key_service: { enabled: false } });
    const key = await plain.key('ops', { permissions: ['keys:*'] });
    expect((await call(`${plain.url}/api/v1/keys`, { key })).status).toBe(404);
    expect((await call(`${plain.url}/api/v1/keys/validate`, { json: { api_key: 'hok_dev_x' } })).status).toBe(404);
  });
});
