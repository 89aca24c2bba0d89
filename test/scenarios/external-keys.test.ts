/** Keys that an external service keeps: an API protected with them, and their life from the command line. */
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { steppedClock } from '../helpers/accounts.ts';
import { type PartialConfig, startGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import { goodKey, startKeyService } from '../helpers/key-service.ts';
import { cleanEnv, follow, freePorts, MAIN, ROOT, runToEnd, temporaryDirectory } from '../helpers/processes.ts';
import { NO_REDIS, startRedis } from '../helpers/processes-stores.ts';
import { startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

/** The file as it is shipped, with addresses of this test. */
function shippedConfig(home: string, changes: Readonly<Record<string, string>>): string {
  let text = readFileSync(join(ROOT, 'config/hokusai.yaml'), 'utf8');
  for (const [from, to] of Object.entries({ '../policies': join(ROOT, 'policies'), ...changes })) {
    expect(text).toContain(from);
    text = text.replaceAll(from, to);
  }
  const file = join(home, 'hokusai.yaml');
  writeFileSync(file, text);
  return file;
}

/** Every name and value that Redis holds, of whatever kind. */
async function everythingIn(url: string): Promise<string> {
  const redis = new Redis(url);
  try {
    const names = await redis.keys('*');
    const values = await Promise.all(names.map((name) => redis.dump(name)));
    const texts = await Promise.all(names.map((name) => redis.get(name).catch(() => '')));
    return [...names, ...values, ...texts].join('\n');
  } finally {
    redis.disconnect();
  }
}

describe.skipIf(NO_REDIS !== null)(
  `H1, an API behind an external key service${NO_REDIS ? ` (${NO_REDIS})` : ''}`,
  () => {
    test('good keys pass, bad ones do not, fifty at once ask once, and no key is kept anywhere', {
      timeout: 60_000,
    }, async () => {
      verifies('HW-06', 'H-01', 'H-02', 'H-05', 'H-14', 'H-18', 'H-19', 'H-22', 'HF-01', 'HF-08', 'HF-09');
      using place = temporaryDirectory();
      await using redis = await startRedis();
      await using service = await startKeyService();
      await using api = await startService((_request, response) => response.end('[]'));
      service.keys.set('hok_dev_good', goodKey('good', { roles: [] }));
      service.keys.set('hok_dev_reader', goodKey('reader', { roles: [], scopes: ['mlflow:access'] }));
      const file = shippedConfig(place.path, {
        'http://127.0.0.1:7004': api.url,
        'shared: memory': `shared: "${redis.url}"`,
      });
      const [port, admin] = await freePorts(2);
      const env = cleanEnv({
        ...{
          HOKUSAI_AUTH_SERVICE_URL: service.url,
          PORTCULLIS_PORT: String(port),
          PORTCULLIS_ADMIN_PORT: String(admin),
        },
        NO_COLOR: '1',
      });
      await using gateway = follow(
        spawn(process.execPath, [MAIN, 'serve', '-c', file], {
          cwd: place.path,
          env,
          stdio: ['ignore', 'pipe', 'pipe'],
        }),
      );
      const [, url = ''] = await gateway.printed(/"data":"(http[^"]+)"/);
      const models = `${url}/api/models`;
      expect((await call(models)).status).toBe(401);
      const many = Array.from({ length: 50 }, () => call(models, { key: 'hok_dev_good' }));
      expect((await Promise.all(many)).every(({ status }) => status === 200)).toBe(true);
      expect((await call(models, { headers: { authorization: 'ApiKey hok_dev_bad' } })).status).toBe(401);
      expect((await call(models, { headers: { authorization: 'Bearer hok_dev_good' } })).status).toBe(200);
      expect((await call(`${models}?api_key=hok_dev_good`)).status).toBe(401);
      expect((await call(models, { key: 'hok_live_good' })).status).toBe(401);
      // Reading needs a scope, writing another; searches are sent with POST, and read.
      expect((await call(models, { key: 'hok_dev_reader' })).status).toBe(403);
      const write = await call(models, { key: 'hok_dev_good', json: {} });
      const demand = 'Permission denied: model:write is required; held: model:read';
      expect([write.status, write.text]).toEqual([403, expect.stringContaining(demand)]);
      expect((await call(`${models}/search`, { key: 'hok_dev_good', json: {} })).status).toBe(200);
      const calls = (await call(`${service.url}/_calls`)).body as { key_id: string | null; key: string }[];
      expect(calls.filter(({ key_id }) => key_id === 'good')).toHaveLength(1);
      expect(calls.some(({ key }) => key.startsWith('hok_live'))).toBe(false);
      const kept = await everythingIn(redis.url);
      expect(kept).toContain('remote-key:');
      gateway.kill('SIGTERM');
      await gateway.exited;
      const written =
        readFileSync(join(place.path, 'audit.jsonl'), 'utf8') + gateway.stdout() + gateway.stderr() + kept;
      for (const key of ['hok_dev_good', 'hok_dev_bad', 'hok_dev_reader', 'hok_live_good']) {
        expect(written).not.toContain(key);
      }
    });

    test('what one gateway asked another knows, and a withdrawal reaches both within a second', {
      timeout: 60_000,
    }, async () => {
      verifies('H-05', 'HF-02');
      await using redis = await startRedis();
      await using service = await startKeyService();
      await using api = await startService((_request, response) => response.end('[]'));
      service.keys.set('hok_dev_shared', goodKey('shared'));
      const config = {
        identity: { service: { kind: 'remote-key' as const, url: service.url } },
        routes: [
          { match: '/api', protocol: 'http' as const, url: api.url, identity: ['service'], permissions: { GET: [] } },
        ],
        stores: { shared: redis.url, pepper: 'a pepper that both gateways have in common 7Hq2' },
      };
      await using one = await startGateway(config);
      await using two = await startGateway(config);
      const ask = async (url: string) => (await call(`${url}/api`, { key: 'hok_dev_shared' })).status;
      expect(await ask(one.url)).toBe(200);
      await expect.poll(() => everythingIn(redis.url)).toContain('remote-key:');
      expect(await ask(two.url)).toBe(200);
      expect(service.calls).toHaveLength(1);
      service.keys.delete('hok_dev_shared');
      const started = performance.now();
      const told = await fetch(`${one.admin}/cache/keys/shared`, {
        method: 'DELETE',
        headers: { authorization: 'Bearer scenario-admin-token-7Qw3rTz9KpL2xV8n' },
      });
      expect(told.status).toBe(204);
      await expect.poll(() => ask(one.url), { timeout: 1000 }).toBe(401);
      await expect.poll(() => ask(two.url), { timeout: 1000 }).toBe(401);
      expect(performance.now() - started).toBeLessThan(1000);
      expect(await everythingIn(redis.url)).not.toContain('hok_dev_shared');
    });

    test('without its Redis the gateway asks the service, and goes on', { timeout: 60_000 }, async () => {
      verifies('HF-06');
      await using redis = await startRedis();
      await using service = await startKeyService();
      await using api = await startService((_request, response) => response.end('[]'));
      service.keys.set('hok_dev_a', goodKey('a'));
      service.keys.set('hok_dev_b', goodKey('b'));
      await using gateway = await startGateway({
        identity: { service: { kind: 'remote-key', url: service.url } },
        routes: [{ match: '/api', protocol: 'http', url: api.url, identity: ['service'], permissions: { GET: [] } }],
        stores: { shared: redis.url },
      });
      expect((await call(`${gateway.url}/api`, { key: 'hok_dev_a' })).status).toBe(200);
      await redis.kill();
      expect((await call(`${gateway.url}/api`, { key: 'hok_dev_b' })).status).toBe(200);
      expect((await call(`${gateway.url}/api`, { key: 'hok_dev_c' })).status).toBe(401);
      const told = await fetch(`${gateway.admin}/cache/keys/a`, {
        method: 'DELETE',
        headers: { authorization: 'Bearer scenario-admin-token-7Qw3rTz9KpL2xV8n' },
      });
      expect(told.status).toBe(503);
    });
  },
);

describe('what the shipped file leaves open', () => {
  test('is open without a key, and nothing beside it is', async () => {
    verifies('HW-04');
    await using service = await startKeyService();
    const reached: string[] = [];
    await using api = await startService(({ url }, response) => {
      reached.push(url ?? '');
      response.end('[]');
    });
    const { routes, cors } = parse(
      readFileSync(join(ROOT, 'config/hokusai.yaml'), 'utf8').replaceAll('http://127.0.0.1:7004', api.url),
    ) as PartialConfig;
    await using gateway = await startGateway({
      identity: { hokusai: { kind: 'remote-key', url: service.url } },
      // As in the file there is no token, so that figures can be had without one too.
      listen: { data: '127.0.0.1:0', admin: { address: '127.0.0.1:0' } },
      ...{ routes: routes ?? [], cors: cors ?? {} },
    });
    const status = async (path: string, init: RequestInit = {}) => (await call(`${gateway.url}${path}`, init)).status;
    for (const path of ['/health', '/ready', '/live', '/version', '/docs', '/openapi.json', '/redoc', '/favicon.ico']) {
      expect([path, await status(path)]).toEqual([path, 200]);
    }
    expect((await call(`${gateway.admin}/metrics`)).status).toBe(200);
    const near = [
      '/docsx',
      '/DOCS',
      '/healthz',
      '/health/x',
      '/openapi.json5',
      '/metrics',
      '/api/models?path=/docs',
      '/versions',
    ];
    for (const path of near) expect([path, [401, 404].includes(await status(path))]).toEqual([path, true]);
    for (const path of ['/docs/..%2fapi/models', '/docs;/../api/models', '/docs%2f..%2fapi%2fmodels', '//docs']) {
      expect([path, [400, 401, 404].includes(await status(path))]).toEqual([path, true]);
    }
    // Open to read; and a bad key is refused where none is needed.
    expect(await status('/docs', { method: 'POST', body: '{}' })).toBe(403);
    expect(await status('/docs', { headers: { 'x-api-key': 'hok_dev_bad' } })).toBe(401);
    expect(reached).toEqual(['/version', '/docs', '/openapi.json', '/redoc', '/favicon.ico']);
    const preflight = { origin: 'https://app.example.com', 'access-control-request-method': 'POST' };
    const granted = await call(`${gateway.url}/api/models`, { method: 'OPTIONS', headers: preflight });
    expect([granted.status, granted.headers.get('access-control-allow-origin')]).toEqual([204, preflight.origin]);
    const stranger = { ...preflight, origin: 'https://evil.example' };
    const refused = await call(`${gateway.url}/api/models`, { method: 'OPTIONS', headers: stranger });
    expect(refused.headers.get('access-control-allow-origin')).toBeNull();
    expect(await status('/api/models', { headers: { origin: preflight.origin } })).toBe(401);
    expect(service.calls.filter(({ key }) => key === '')).toEqual([]);
  });
});

describe('H-09 and HW-05, as the caller sees them', () => {
  test('an outage is 503, no balance 402, a limit 429, each with what to do', async () => {
    verifies('H-09', 'HF-03', 'HW-05');
    await using service = await startKeyService();
    await using api = await startService((_request, response) => response.end('[]'));
    await using gateway = await startGateway({
      identity: { service: { kind: 'remote-key', url: service.url, retries: 0 } },
      routes: [{ match: '/api', protocol: 'http', url: api.url, identity: ['service'], permissions: { GET: [] } }],
    });
    const ask = async (key: string) => {
      const { status, headers, body } = await call(`${gateway.url}/api`, { key });
      const code = (body as { error?: { code?: string } })?.error?.code;
      return [status, code, headers.get('retry-after'), headers.get('www-authenticate') !== null];
    };
    service.keys.set('hok_dev_down', { status: 500 });
    service.keys.set('hok_dev_odd', { body: 'no JSON' });
    service.keys.set('hok_dev_poor', { status: 402 });
    service.keys.set('hok_dev_poor2', goodKey('p', { has_sufficient_balance: false }));
    service.keys.set('hok_dev_busy', { status: 429, headers: { 'retry-after': '7' } });
    service.keys.set('hok_dev_no', { status: 403 });
    service.keys.set('hok_dev_two', goodKey('two', { rate_limit_per_hour: 2 }));
    expect(await ask('hok_dev_down')).toEqual([503, 'AUTH_UNAVAILABLE', '1', false]);
    expect(await ask('hok_dev_odd')).toEqual([503, 'AUTH_UNAVAILABLE', '1', false]);
    expect(await ask('hok_dev_poor')).toEqual([402, 'INSUFFICIENT_BALANCE', null, false]);
    expect(await ask('hok_dev_poor2')).toEqual([402, 'INSUFFICIENT_BALANCE', null, false]);
    expect(await ask('hok_dev_busy')).toEqual([429, 'RATE_LIMIT_EXCEEDED', '7', false]);
    expect(await ask('hok_dev_no')).toEqual([403, 'FORBIDDEN', null, false]);
    expect(await ask('hok_dev_unknown')).toEqual([401, 'INVALID_CREDENTIALS', null, true]);
    expect(await ask('hok_dev_two')).toEqual([200, undefined, null, false]);
    expect(await ask('hok_dev_two')).toEqual([200, undefined, null, false]);
    // A bucket of two in an hour has a token again after half of it.
    expect(await ask('hok_dev_two')).toEqual([429, 'RATE_LIMIT_EXCEEDED', '1800', false]);
  });
});

describe('H3, the life of a key from the command line', () => {
  test('a key that is withdrawn without a word is refused when what is remembered ends, and not later', async () => {
    verifies('H-06', 'HF-02');
    const clock = steppedClock();
    await using service = await startKeyService();
    await using api = await startService((_request, response) => response.end('[]'));
    service.keys.set('hok_dev_gone', goodKey('gone'));
    await using gateway = await startGateway(
      {
        identity: { service: { kind: 'remote-key', url: service.url } },
        routes: [{ match: '/api', protocol: 'http', url: api.url, identity: ['service'], permissions: { GET: [] } }],
      },
      { clock },
    );
    const ask = async () => (await call(`${gateway.url}/api`, { key: 'hok_dev_gone' })).status;
    expect(await ask()).toBe(200);
    service.keys.delete('hok_dev_gone');
    clock.advance(299_000);
    expect([await ask(), service.calls.length]).toEqual([200, 1]);
    // 300 s is the default that docs/identity.md names.
    clock.advance(1000);
    expect([await ask(), service.calls.length]).toEqual([401, 2]);
  });

  test('create, validate, list, rotate, revoke', { timeout: 60_000 }, async () => {
    verifies('H-07', 'H-08', 'H-10', 'H-11', 'H-12', 'H-17', 'HW-09', 'HF-11', 'HF-16', 'HF-19');
    await using service = await startGateway({ identity: { keys: { kind: 'api-key', prefixes: ['pc', 'hok'] } } });
    const token = await service.key('ops', { permissions: ['keys:*'], roles: [] });
    using place = temporaryDirectory();
    const portcullis = (args: readonly string[], env: NodeJS.ProcessEnv = {}) =>
      runToEnd(process.execPath, [MAIN, ...args], {
        cwd: place.path,
        env: cleanEnv({ NO_COLOR: '1', HOKUSAI_AUTH_SERVICE_URL: service.url, ...env }),
      });
    const admin = { HOKUSAI_ADMIN_TOKEN: token };
    expect(await portcullis(['keys', 'create', '--name', 'ci'])).toMatchObject({
      code: 1,
      stdout: '',
      stderr: 'Error: HOKUSAI_ADMIN_TOKEN required\n',
    });
    const options = ['--environment', 'development', '--scope', 'model:read', '--expires-in-days', '30', '--json'];
    const created = await portcullis(['keys', 'create', '--name', 'ci', ...options], admin);
    expect(created.code, created.stderr).toBe(0);
    const key = JSON.parse(created.stdout) as { api_key: string; key_id: string; expires_at: string; scopes: string[] };
    expect(key.scopes).toEqual(['model:read']);
    expect(Math.round((Date.parse(key.expires_at) - Date.now()) / 86_400_000)).toBe(30);
    const check = (text: string, env: NodeJS.ProcessEnv = {}) => portcullis(['auth', 'validate', '--key', text], env);
    expect(await check(key.api_key)).toMatchObject({ code: 0, stdout: '' });
    expect((await portcullis(['auth', 'validate'], { HOKUSAI_API_KEY: key.api_key })).code).toBe(0);
    expect((await check('hok_dev_bad')).code).toBe(1);
    const [closed] = await freePorts(1);
    const nobody = { HOKUSAI_AUTH_SERVICE_URL: `http://127.0.0.1:${closed}` };
    expect((await check(key.api_key, nobody)).code).toBe(3);
    const unverified = await portcullis(['auth', 'validate', '--key', key.api_key, '--allow-unverified'], nobody);
    expect(unverified).toMatchObject({ code: 0, stderr: expect.stringContaining('NOT checked') });
    const table = await portcullis(['keys', 'list'], admin);
    expect(table.stdout).toMatch(new RegExp(`^${key.key_id}  ci +development  model:read`, 'm'));
    const listed = await portcullis(['keys', 'list', '--format', 'json'], admin);
    const { items } = JSON.parse(listed.stdout) as { items: { key_id: string }[] };
    expect(items.map(({ key_id }) => key_id)).toContain(key.key_id);
    expect(listed.stdout).not.toContain(key.api_key);
    const home = join(place.path, 'home');
    mkdirSync(join(home, '.hokusai'), { recursive: true });
    const profile = `[dev]\nauth_service_url = ${service.url}\nadmin_token = ${token}\napi_key = ${key.api_key}\n[odd]\n`;
    writeFileSync(join(home, '.hokusai/config'), profile, { mode: 0o600 });
    const own = { HOME: home, ...nobody };
    expect((await portcullis(['keys', 'list', '--profile', 'dev', '--json'], own)).stdout).toBe(listed.stdout);
    expect((await portcullis(['auth', 'validate'], { ...own, HOKUSAI_PROFILE: 'dev' })).code).toBe(0);
    // Secrets of a profile are for its own service.
    const elsewhere = ['keys', 'list', '--profile', 'dev', '--service', 'http://127.0.0.1:1'];
    expect(await portcullis(elsewhere, own)).toMatchObject({
      code: 1,
      stderr: 'Error: HOKUSAI_ADMIN_TOKEN required\n',
    });
    expect((await portcullis(['keys', 'list', '--profile', 'absent'], own)).stderr).toContain('no profile [absent]');
    const rotated = await portcullis(['keys', 'rotate', key.key_id], admin);
    expect([rotated.code, rotated.stdout]).toEqual([0, expect.stringMatching(/^hok_dev_\w+\n$/)]);
    expect(rotated.stderr).toMatch(/shown this once.*\nScopes: model:read\. Expires: 20\d\d-/);
    expect((await check(key.api_key)).code).toBe(0);
    expect((await check(rotated.stdout.trim())).code).toBe(0);
    expect((await portcullis(['keys', 'revoke', key.key_id], admin)).code).toBe(2);
    expect((await portcullis(['keys', 'revoke', key.key_id, '--yes'], admin)).code).toBe(0);
    expect((await check(key.api_key)).code).toBe(1);
    expect(await portcullis(['keys', 'list'], { HOKUSAI_ADMIN_TOKEN: 'pc_dev_wrong' })).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('refuses HOKUSAI_ADMIN_TOKEN'),
    });
    expect((await portcullis(['keys', 'list'], { ...admin, ...nobody })).code).toBe(3);
  });
});
