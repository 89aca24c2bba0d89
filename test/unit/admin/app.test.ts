import { describe, expect, test } from 'vitest';
import type { AdminAction, AdminParts } from '../../../src/admin/app.ts';
import { createAdminApp } from '../../../src/admin/app.ts';
import type { KeyAdmin } from '../../../src/admin/keys.ts';
import { GatewayError } from '../../../src/core/errors.ts';
import type { Received } from '../../../src/core/exchange.ts';
import { Secret } from '../../../src/core/secret.ts';
import type { PolicyStatus } from '../../../src/policy/engine.ts';
import { verifies } from '../../helpers/verifies.ts';

const TOKEN = 'a-token-of-the-administration-listener';

const status = (last_error: string | null): PolicyStatus => ({
  revision: 'sha256:1',
  activated_at: 1,
  last_error,
  entrypoints: ['portcullis/main/decision'],
});

/** Keys in memory, in the shape the store gives them. */
function memoryKeys(): KeyAdmin & { readonly rows: Map<string, object> } {
  const rows = new Map<string, object>();
  const make = (facts: object) => {
    const key_id = `k${rows.size + 1}`;
    rows.set(key_id, { key_id, ...facts });
    return { api_key: `pc_dev_${key_id}`, key_id };
  };
  return {
    rows,
    create: (wanted) => Promise.resolve(make(wanted)),
    list: ({ limit }) => Promise.resolve([...rows.values()].slice(0, limit)),
    revoke: (id) => Promise.resolve(rows.delete(id)),
    rotate: (id, graceMs) => Promise.resolve(rows.has(id) ? make({ graceMs }) : null),
  };
}

function open(change: Partial<AdminParts> = {}) {
  const actions: AdminAction[] = [];
  const resets: string[] = [];
  const parts: AdminParts = {
    token: new Secret(TOKEN),
    health: () => new Response('health'),
    metrics: { contentType: 'text/plain; version=0.0.4', text: () => Promise.resolve('up 1\n') },
    details: () => Promise.resolve({ policy: 'ok' }),
    cache: { invalidate: (what) => Object.keys(what).length, size: () => 7 },
    policy: { status: () => status(null), reload: () => Promise.resolve(status(null)) },
    upstreams: {
      states: () => ({ orders: { state: 'open', active: 0, idle: 0, waiting: 0 } }),
      reset: (name) => resets.push(name) > 0 && name === 'orders',
    },
    config: () => ({ listen: 'x', secret: new Secret('hidden') }),
    version: { version: '0.1.0', node: '24' },
    reloadConfig: null,
    keys: null,
    switches: null,
    onAction: (action) => actions.push(action),
    renderError: (error, id) => ({
      status: error.status,
      headers: { 'content-type': 'application/problem+json', 'www-authenticate': error.extras.challenge ?? '' },
      body: JSON.stringify({ error: { code: error.code }, request_id: id }),
    }),
    onDefect: () => {},
    ...change,
  };
  const app = createAdminApp(parts);
  const ask = async (
    method: string,
    path: string,
    authorization: string | null = `Bearer ${TOKEN}`,
    body?: unknown,
  ) => {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const headers: Record<string, string> = {};
    if (authorization !== null) headers.authorization = authorization;
    if (text !== undefined) headers['content-length'] = String(text.length);
    const request = new Request(`http://127.0.0.1${path}`, {
      method,
      headers,
      ...(text === undefined ? {} : { body: text }),
    });
    const received = { id: 'req_1', method, path: path.split('?')[0], headers } as unknown as Received;
    const answer = await app.fetch(request, { received });
    return { status: answer.status, headers: answer.headers, text: await answer.text() };
  };
  return { ask, actions, resets };
}

const PROTECTED = [
  ['GET', '/metrics'],
  ['GET', '/health/detailed'],
  ['POST', '/policy/reload'],
  ['POST', '/cache/invalidate'],
  ['GET', '/policy/status'],
  ['GET', '/breakers'],
  ['POST', '/breakers/orders/reset'],
  ['GET', '/config'],
  ['GET', '/version'],
  ['GET', '/keys'],
  ['POST', '/keys'],
  ['DELETE', '/keys/k1'],
  ['POST', '/keys/k1/rotate'],
] as const;

describe('the administration listener', () => {
  test.each(PROTECTED)('%s %s needs the token', async (method, path) => {
    const { ask, resets } = open({ keys: memoryKeys() });
    expect(await ask(method, path, null)).toMatchObject({ status: 401 });
    for (const wrong of ['Bearer wrong', `Basic ${TOKEN}`, TOKEN, 'Bearer', `Bearer ${TOKEN} x`, `Bearer ${TOKEN}x`]) {
      const answer = await ask(method, path, wrong);
      expect([answer.status, answer.headers.get('content-type')]).toEqual([401, 'application/problem+json']);
    }
    expect(resets).toEqual([]);
  });

  test('a caller without the token cannot tell which paths exist', async () => {
    const { ask } = open();
    const [real, made] = [await ask('GET', '/config', null), await ask('GET', '/nothing', null)];
    expect([made.status, made.text]).toEqual([real.status, real.text]);
    expect(real.headers.get('www-authenticate')).toContain('Bearer');
  });

  test('a wrong token is recorded, without the token', async () => {
    const { ask, actions } = open();
    await ask('GET', '/config', 'Bearer guess-of-a-token');
    expect(actions).toMatchObject([{ operation: 'authenticate', outcome: 'denied' }]);
    expect(JSON.stringify(actions[0]?.details)).not.toContain('guess');
  });

  test('without a configured token only health and metrics exist', async () => {
    const { ask } = open({ token: null, keys: memoryKeys() });
    for (const [method, path] of PROTECTED) {
      if (path !== '/metrics') expect((await ask(method, path)).text).toBe('health');
    }
    expect((await ask('GET', '/metrics', null)).status).toBe(200);
  });

  test('health needs no token', async () => {
    const { ask } = open();
    for (const path of ['/livez', '/readyz', '/live', '/ready', '/health'])
      expect((await ask('GET', path, null)).text).toBe('health');
  });

  test('gives metrics, version, details, policy status and the redacted configuration', async () => {
    const { ask } = open();
    const metrics = await ask('GET', '/metrics');
    expect([metrics.text, metrics.headers.get('content-type')]).toEqual(['up 1\n', 'text/plain; version=0.0.4']);
    expect(JSON.parse((await ask('GET', '/version')).text)).toEqual({ version: '0.1.0', node: '24' });
    expect(JSON.parse((await ask('GET', '/health/detailed')).text)).toEqual({ policy: 'ok' });
    expect(JSON.parse((await ask('GET', '/policy/status')).text)).toEqual(status(null));
    const config = await ask('GET', '/config');
    expect(config.text).not.toContain('hidden');
    expect(config.headers.get('cache-control')).toBe('no-store');
  });

  test('reads the configuration again where there is a file to read, and says why it was refused', async () => {
    const calls: string[] = [];
    const good = open({ reloadConfig: async () => void calls.push('reload') });
    const answer = await good.ask('POST', '/reload');
    expect([answer.status, JSON.parse(answer.text)]).toEqual([200, { reloaded: true, error: null }]);
    expect(good.actions).toMatchObject([{ operation: 'config:reload', outcome: 'allowed', details: { error: null } }]);
    expect((await good.ask('POST', '/reload', null)).status).toBe(401);
    expect(calls).toEqual(['reload']);
    const bad = open({ reloadConfig: () => Promise.reject(new Error('portcullis.yaml:4: no such key')) });
    const refused = await bad.ask('POST', '/reload');
    expect([refused.status, JSON.parse(refused.text)]).toEqual([
      422,
      { reloaded: false, error: 'portcullis.yaml:4: no such key' },
    ]);
    expect(bad.actions).toMatchObject([{ operation: 'config:reload', outcome: 'failed' }]);
    expect((await open().ask('POST', '/reload')).text).toBe('health');
  });

  test('a reload says what is in force, and a refused candidate is a failure', async () => {
    const good = open();
    expect((await good.ask('POST', '/policy/reload')).status).toBe(200);
    expect(good.actions).toMatchObject([{ operation: 'policy:reload', outcome: 'allowed' }]);
    const bad = open({
      policy: { status: () => status(null), reload: () => Promise.resolve(status('main.rego:3: no')) },
    });
    const answer = await bad.ask('POST', '/policy/reload');
    expect([answer.status, JSON.parse(answer.text)]).toEqual([422, status('main.rego:3: no')]);
    expect(bad.actions).toMatchObject([{ outcome: 'failed' }]);
    expect((await good.ask('GET', '/policy/reload')).text).toBe('health');
  });

  test('remembered decisions are forgotten by user, tool, server, tenant or all, and it is recorded', async () => {
    verifies('SF-62');
    const { ask, actions } = open();
    const forget = async (body?: unknown) => ask('POST', '/cache/invalidate', undefined, body);
    expect(JSON.parse((await forget({ user: 'alice', tool: 'echo' })).text)).toEqual({ invalidated: 2, remaining: 7 });
    expect((await forget({ server: 'orders', tenant: 'acme' })).status).toBe(200);
    expect(JSON.parse((await forget()).text)).toEqual({ invalidated: 0, remaining: 7 });
    for (const wrong of [{ usr: 'alice' }, { user: '' }, { user: 1 }, []])
      expect((await forget(wrong)).status).toBe(422);
    expect(actions.map(({ operation, details }) => [operation, details])).toEqual([
      ['cache:invalidate', { user: 'alice', tool: 'echo', invalidated: 2 }],
      ['cache:invalidate', { tenant: 'acme', server: 'orders', invalidated: 2 }],
      ['cache:invalidate', { invalidated: 0 }],
    ]);
  });

  test('a breaker is shown and closed by hand', async () => {
    const { ask, actions, resets } = open();
    expect(JSON.parse((await ask('GET', '/breakers')).text)).toMatchObject({
      items: [{ name: 'orders', state: 'open' }],
    });
    expect((await ask('POST', '/breakers/orders/reset')).status).toBe(200);
    expect((await ask('POST', '/breakers/other/reset')).status).toBe(404);
    expect((await ask('POST', '/breakers/reset', undefined, { name: 'http:/api/tasks' })).status).toBe(404);
    expect((await ask('POST', '/breakers/reset', undefined, { name: 'orders' })).status).toBe(200);
    expect((await ask('POST', '/breakers/reset', undefined, {})).status).toBe(422);
    expect(resets).toEqual(['orders', 'other', 'http:/api/tasks', 'orders']);
    expect(actions.map(({ outcome }) => outcome)).toEqual(['allowed', 'failed', 'failed', 'allowed']);
  });

  test('a defect is answered without its message', async () => {
    const { ask } = open({ details: () => Promise.reject(new Error('secret detail')) });
    const answer = await ask('GET', '/health/detailed');
    expect([answer.status, answer.text.includes('secret')]).toEqual([500, false]);
  });
});

describe('key administration', () => {
  test('makes, lists, rotates and revokes keys, and records each', async () => {
    const keys = memoryKeys();
    const { ask, actions } = open({ keys });
    const made = await ask('POST', '/keys', undefined, { name: 'ci', roles: ['developer'] });
    expect([made.status, JSON.parse(made.text)]).toEqual([201, { api_key: 'pc_dev_k1', key_id: 'k1' }]);
    expect(keys.rows.get('k1')).toMatchObject({ name: 'ci', tenant_id: 'default', type: 'service', expires_at: null });
    expect(JSON.parse((await ask('GET', '/keys?limit=10')).text)).toMatchObject({ items: [{ key_id: 'k1' }] });
    expect((await ask('POST', '/keys/k1/rotate', undefined, { grace_hours: 1 })).status).toBe(201);
    expect(keys.rows.get('k2')).toMatchObject({ graceMs: 3_600_000 });
    expect((await ask('POST', '/keys/k1/rotate')).status).toBe(201);
    expect((await ask('DELETE', '/keys/k1')).status).toBe(204);
    expect((await ask('DELETE', '/keys/k1')).status).toBe(404);
    expect((await ask('POST', '/keys/none/rotate')).status).toBe(404);
    expect(actions.map(({ operation, outcome }) => `${operation} ${outcome}`)).toEqual([
      'keys:create allowed',
      'keys:rotate allowed',
      'keys:rotate allowed',
      'keys:revoke allowed',
      'keys:revoke failed',
      'keys:rotate failed',
    ]);
    expect(JSON.stringify(actions.map(({ details }) => details))).not.toContain('pc_dev');
  });

  test.each([
    [{}, 422],
    [{ name: '' }, 422],
    [{ name: 'a', unknown: 1 }, 422],
    [{ name: 'a', type: 'root' }, 422],
    [{ name: 'a', expires_at: 'tomorrow' }, 422],
    [{ name: 'a', rate_limit_per_hour: 0 }, 422],
    [{ name: 'a\u001b[2J' }, 422],
    [{ name: 'a', owner_id: 'b\nc' }, 422],
    [{ name: 'a', roles: ['c\u0085'] }, 422],
    ['text', 422],
    [{ name: 'x'.repeat(70_000) }, 413],
  ])('%j is refused with %i', async (body, expected) => {
    const keys = memoryKeys();
    const { ask } = open({ keys });
    expect((await ask('POST', '/keys', undefined, body)).status).toBe(expected);
    expect(keys.rows.size).toBe(0);
  });

  test('a page size out of range is refused', async () => {
    const { ask } = open({ keys: memoryKeys() });
    for (const limit of ['0', '-1', '1001', 'x', '1.5'])
      expect((await ask('GET', `/keys?limit=${limit}`)).status).toBe(422);
  });

  test('what the key service refuses is told', async () => {
    const keys = { ...memoryKeys(), create: () => Promise.reject(new GatewayError('UNPROCESSABLE')) };
    const { ask } = open({ keys });
    expect((await ask('POST', '/keys', undefined, { name: 'a' })).status).toBe(422);
  });
});
