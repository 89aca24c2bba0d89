/** A service of somebody's own, beside the gateway and not behind it, that protects itself with `portcullis/middleware`. */
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { serve } from '@hono/node-server';
import { Hono } from 'hono';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AccountAdministration } from '../../src/composition/account-administration.ts';
import type { AuthConfig, AuthEnv } from '../../src/middleware.ts';
import { authenticate, PUBLIC_PATHS, rateLimit, requireAuth } from '../../src/middleware.ts';
import { openDatabase } from '../../src/stores/database.ts';
import { loadPepper } from '../../src/stores/pepper.ts';
import { ACCOUNTS, type Auth, authClient, bearer, IDENTITY, PASSWORD, steppedClock } from '../helpers/accounts.ts';
import { scenarioConfig, startGateway, type TestGateway } from '../helpers/gateway.ts';
import { startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

const clock = steppedClock(Date.now());
const SECRET = 'yk3Vb8QmZr5TnW2xLs9PdHc7GfJa4UeXoi6M';
const accounts = { ...ACCOUNTS, roles: { auditor: { permissions: ['tasks.*'], own_only: false } } };

/** A gateway, and a service of its own port that believes it. */
async function started(own: Partial<AuthConfig>, tokens: object = {}) {
  const gateway = await startGateway({ accounts: { ...accounts, tokens }, identity: IDENTITY }, { clock });
  const asked: string[] = [];
  const counting: typeof fetch = (input, init) => {
    asked.push(new URL(String(input)).pathname);
    return fetch(input, init);
  };
  const app = new Hono<AuthEnv>();
  app.use(authenticate({ auth_service_url: gateway.url, clock, fetch: counting, ...own }));
  app.get('/health', (c) => c.json({ status: 'ok' }));
  app.get('/me', (c) => c.json(c.get('principal')));
  app.get('/tasks', requireAuth(['tasks.read']), (c) => c.json({ user: c.get('principal').username }));
  app.delete('/tasks', requireAuth(['tasks.read', 'tasks.delete']), (c) => c.json({}));
  app.get('/either', requireAuth(['users.create', 'tasks.read'], { mode: 'anyOf' }), (c) => c.json({}));
  app.get('/anybody', requireAuth(), (c) => c.json({}));
  const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' });
  await once(server, 'listening');
  const call = authClient(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  return {
    ...{ gateway, asked, call, auth: authClient(gateway.url) },
    async close() {
      server.close();
      await gateway[Symbol.asyncDispose]();
    },
  };
}

async function loggedIn(auth: Auth, username: string) {
  await auth('POST', '/auth/register', { username, email: `${username}@example.com`, password: PASSWORD });
  return (await auth('POST', '/auth/login', { username, password: PASSWORD })).body;
}

describe('a service that protects itself', () => {
  let place: Awaited<ReturnType<typeof started>>;
  let gateway: TestGateway;
  let auth: Auth;
  let call: Auth;
  beforeAll(async () => {
    place = await started({ public_paths: PUBLIC_PATHS });
    ({ gateway, auth, call } = place);
  });
  afterAll(() => place?.close());

  test('lets in who may, as the gateway knows them now, and nobody else', async () => {
    verifies('V-02', 'V-31', 'VF-13', 'VW-02');
    const pair = await loggedIn(auth, 'john_doe');
    const headers = bearer(pair.access_token);
    expect((await call('GET', '/tasks', undefined, headers)).body).toEqual({ user: 'john_doe' });
    const me = (await call('GET', '/me', undefined, headers)).body;
    expect(me).toMatchObject({
      id: pair.user_id,
      roles: ['user'],
      permissions: expect.arrayContaining(['tasks.read']),
    });
    expect((await call('DELETE', '/tasks', undefined, headers)).status).toBe(200);
    const none = await call('GET', '/tasks');
    expect([none.status, none.body.error.code]).toEqual([401, 'MISSING_CREDENTIALS']);
    expect(none.headers.get('www-authenticate')).toMatch(/^Bearer/);
    expect(none.headers.get('content-type')).toBe('application/problem+json');
    expect((await call('GET', '/health')).status).toBe(200);
    expect((await call('GET', '/health', undefined, bearer('a.bad.token'))).status).toBe(401);
    expect((await call('GET', '/healthz')).status).toBe(401);
  });

  test('takes a role from the account, not from the token, and asks for all or for one of several', async () => {
    verifies('V-31', 'VF-10', 'VF-11', 'VF-13');
    const pair = await loggedIn(auth, 'viewer_later');
    const headers = bearer(pair.access_token);
    expect((await call('DELETE', '/tasks', undefined, headers)).status).toBe(200);
    const input = scenarioConfig({ accounts, identity: IDENTITY }, gateway.home);
    await using database = await openDatabase(input.stores.database, { baseDir: gateway.home });
    const pepper = loadPepper(input.stores.database, gateway.home, input.stores.pepper);
    const administration = new AccountAdministration({ config: input.accounts, database, pepper, clock });
    const account = await administration.find('viewer_later');
    if (account === null) throw new Error('no account');
    await administration.setRole(account, 'viewer');
    clock.advance(10_000);
    expect((await call('DELETE', '/tasks', undefined, headers)).status).toBe(403);
    expect((await call('GET', '/me', undefined, headers)).body.roles).toEqual(['viewer']);
    expect((await call('GET', '/either', undefined, headers)).status).toBe(200);
    expect((await call('GET', '/anybody', undefined, headers)).status).toBe(200);
    expect((await call('GET', '/anybody')).status).toBe(401);
  });

  test('refuses refresh tokens, tokens of others and tokens that were changed, without asking the gateway', async () => {
    verifies('V-31', 'VF-06');
    const pair = await loggedIn(auth, 'forger');
    const [head = '', body = '', seal = ''] = pair.access_token.split('.');
    const claims = JSON.parse(Buffer.from(body, 'base64url').toString());
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const changed = encode({ ...claims, role: 'admin' });
    const symmetric = `${encode({ alg: 'HS256', typ: 'at+jwt' })}.${body}`;
    const forged = [
      pair.refresh_token,
      `${head}.${changed}.${seal}`,
      `${encode({ alg: 'none', typ: 'at+jwt' })}.${body}.`,
      `${symmetric}.${createHmac('sha256', 'public').update(symmetric).digest('base64url')}`,
      `${head}.${encode({ ...claims, iss: 'https://elsewhere.example.com' })}.${seal}`,
      'x'.repeat(9000),
    ];
    const before = place.asked.length;
    for (const token of forged) {
      const answer = await call('GET', '/anybody', undefined, bearer(token));
      expect([answer.status, answer.body.detail]).toEqual([401, 'Invalid token']);
    }
    expect((await call('GET', '/anybody', undefined, { authorization: 'Basic am9objpkb2U=' })).status).toBe(401);
    expect(place.asked.slice(before)).toEqual([]);
  });

  test('a logout counts once what was remembered is over, and a token ends with its second', async () => {
    verifies('V-02', 'VF-04');
    const pair = await loggedIn(auth, 'leaver');
    const headers = bearer(pair.access_token);
    const before = place.asked.length;
    const all = await Promise.all(Array.from({ length: 5 }, () => call('GET', '/tasks', undefined, headers)));
    expect(all.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
    expect(place.asked.slice(before)).toEqual(['/auth/me']);
    expect((await auth('POST', '/auth/logout', undefined, headers)).status).toBe(204);
    clock.advance(10_000);
    const gone = await call('GET', '/tasks', undefined, headers);
    expect([gone.status, gone.body.error.code]).toEqual([401, 'INVALID_CREDENTIALS']);
    const other = await loggedIn(auth, 'stayer');
    expect((await call('GET', '/tasks', undefined, bearer(other.access_token))).status).toBe(200);
    clock.advance(86_400_000);
    expect((await call('GET', '/tasks', undefined, bearer(other.access_token))).status).toBe(401);
  });

  test('takes keys that people made, for what they were made, until they are withdrawn', async () => {
    verifies('V-02', 'V-13', 'V-15', 'VF-08');
    const pair = await loggedIn(auth, 'keyowner');
    const own = bearer(pair.access_token);
    const made = (await auth('POST', '/auth/api-keys', { name: 'ci', permissions: ['tasks.read'] }, own)).body;
    const key = { 'x-api-key': made.api_key };
    expect((await call('GET', '/tasks', undefined, key)).body).toEqual({ user: 'keyowner' });
    expect((await call('GET', '/tasks', undefined, bearer(made.api_key))).status).toBe(200);
    const denied = await call('DELETE', '/tasks', undefined, key);
    expect([denied.status, denied.body.error.code]).toEqual([403, 'FORBIDDEN']);
    expect(denied.body.detail).toMatch(/^Permission denied: /);
    expect((await call('GET', '/tasks', undefined, { ...key, ...own })).status).toBe(200);
    const stranger = bearer((await loggedIn(auth, 'stranger')).access_token);
    expect((await call('GET', '/tasks', undefined, { ...key, ...stranger })).status).toBe(400);
    const before = place.asked.length;
    expect((await call('GET', '/tasks', undefined, { 'x-api-key': `${made.api_key}x` })).status).toBe(401);
    expect(place.asked.slice(before)).toEqual([]);
    expect((await auth('DELETE', `/auth/api-keys/${made.key_id}`, undefined, own)).status).toBe(204);
    clock.advance(10_000);
    expect((await call('GET', '/tasks', undefined, key)).status).toBe(401);
  });

  test('a key that is bound to addresses is nothing for a service that does not tell where it came from', async () => {
    const bound = await gateway.key('viewer', {
      prefix: 'vllm',
      allowed_ips: ['10.0.0.1'],
      permissions: ['tasks.read'],
    });
    expect((await call('GET', '/tasks', undefined, { 'x-api-key': bound })).status).toBe(401);
    // Nor by the address of the service itself: anybody could come by that.
    const here = await gateway.key('near', { allowed_ips: ['127.0.0.1', '::1'], permissions: ['tasks.read'] });
    expect((await call('GET', '/tasks', undefined, { 'x-api-key': here })).status).toBe(401);
  });

  test('a key that is bound to addresses is judged by where it is shown, where the service may say that', async () => {
    const key = await gateway.key('bound', { allowed_ips: ['192.0.2.0/24'], permissions: ['tasks.read'] });
    const service = (permissions: string[]) => gateway.key(`service-${permissions.length}`, { permissions });
    const ask = async (service_key: string, address: string) => {
      const app = new Hono<AuthEnv>();
      const client_address = () => address;
      app.use(authenticate({ auth_service_url: gateway.url, clock, service_key, client_address }));
      app.get('/tasks', requireAuth(['tasks.read']), (c) => c.body(null, 204));
      return (await app.request('/tasks', { headers: { 'x-api-key': key } })).status;
    };
    const trusted = await service(['api_keys.verify']);
    expect(await ask(trusted, '192.0.2.7')).toBe(204);
    expect(await ask(trusted, '::ffff:192.0.2.7')).toBe(204);
    expect(await ask(trusted, '198.51.100.7')).toBe(401);
    expect(await ask(trusted, 'unknown')).toBe(500);
    // Who may not say it is not believed.
    expect(await ask(await service([]), '192.0.2.7')).toBe(403);
  });
});

describe('the options', () => {
  test('HS256 with the secret, permissions for every path, and the name of the header', async () => {
    verifies('V-30');
    const own = { jwt_secret_key: SECRET, required_permissions: ['tasks.read'], api_key_header: 'X-Service-Key' };
    const place = await started(own, { algorithm: 'HS256', secret: SECRET });
    try {
      const { call, auth } = place;
      const headers = bearer((await loggedIn(auth, 'john_doe')).access_token);
      expect((await call('GET', '/me', undefined, headers)).status).toBe(200);
      const made = (await auth('POST', '/auth/api-keys', { name: 'm', permissions: ['memory.read'] }, headers)).body;
      expect((await call('GET', '/me', undefined, { 'x-service-key': made.api_key })).status).toBe(403);
      expect((await call('GET', '/me', undefined, { 'x-api-key': made.api_key })).status).toBe(401);
    } finally {
      await place.close();
    }
  });

  test('anonymous callers only where they are allowed, and never with a bad credential', async () => {
    verifies('V-30', 'VF-15');
    const place = await started({ allow_anonymous: true });
    try {
      expect((await place.call('GET', '/me')).body).toMatchObject({ id: 'anonymous', permissions: [] });
      expect((await place.call('GET', '/me', undefined, bearer('bad'))).status).toBe(401);
      expect((await place.call('GET', '/tasks')).status).toBe(401);
      expect((await place.call('GET', '/anybody')).status).toBe(401);
    } finally {
      await place.close();
    }
  });

  test('what would leave the service open is refused before it starts', () => {
    verifies('V-30');
    const make = (own: Partial<AuthConfig>) => () =>
      authenticate({ auth_service_url: 'https://auth.example.com', ...own });
    expect(make({})).not.toThrow();
    expect(make({ auth_service_url: 'http://auth.example.com' })).toThrow(/https/);
    expect(make({ auth_service_url: 'https://u:p@auth.example.com' })).toThrow(/credentials/);
    expect(make({ jwt_secret_key: 'short' })).toThrow(/32 bytes/);
    expect(make({ cache_seconds: 61 })).toThrow(/0 to 60/);
    expect(make({ allow_anonymous: true, required_permissions: ['x'] })).toThrow(/contradict/);
    expect(make({ client_address: () => '192.0.2.7' })).toThrow(/both or neither/);
    expect(make({ client_address: () => '192.0.2.7', service_key: 'not a key' })).toThrow(/not a key/);
    expect(() => requireAuth([''])).toThrow(TypeError);
    const unset = { auth_service_url: process.env.NO_SUCH_VARIABLE } as unknown as Parameters<typeof authenticate>[0];
    expect(() => authenticate(unset)).toThrow(/^auth_service_url: https/);
    // Of programs without types: the letters of a text are no list.
    expect(make({ public_paths: '/health' as never })).toThrow(/list of texts/);
    expect(make({ required_permissions: 'tasks.read' as never })).toThrow(/list of texts/);
    expect(() => requireAuth('tasks.read' as never)).toThrow(/list of texts/);
  });

  test('each caller has a bucket of its own', async () => {
    verifies('V-02');
    const app = new Hono<AuthEnv>();
    app.use(async (c, next) => {
      const id = c.req.header('x-test-user') ?? 'a';
      c.set('principal', { id, tenant_id: 't', type: 'user', permissions: [] } as never);
      await next();
    });
    app.use(rateLimit({ limit: 2, window_seconds: 60, clock }));
    app.get('/', (c) => c.text('ok'));
    const status = async (user: string) => (await app.request('/', { headers: { 'x-test-user': user } })).status;
    expect([await status('a'), await status('a'), await status('b')]).toEqual([200, 200, 200]);
    const over = await app.request('/', { headers: { 'x-test-user': 'a' } });
    expect([over.status, over.headers.get('retry-after'), over.headers.get('ratelimit')]).toEqual([
      429,
      '30',
      '"default";r=0;t=60',
    ]);
    expect(await over.json()).toMatchObject({ error: { code: 'RATE_LIMIT_EXCEEDED' }, detail: 'Rate limit exceeded' });
  });
});

describe('while the gateway cannot say', () => {
  test('nobody gets in, and nobody is remembered for longer than the cache says', async () => {
    verifies('V-02', 'VF-19');
    const place = await started({});
    try {
      const headers = bearer((await loggedIn(place.auth, 'john_doe')).access_token);
      expect((await place.call('GET', '/tasks', undefined, headers)).status).toBe(200);
      await place.gateway.stop();
      expect((await place.call('GET', '/tasks', undefined, headers)).status).toBe(200);
      clock.advance(10_000);
      const away = await place.call('GET', '/tasks', undefined, headers);
      expect([away.status, away.body.error.code]).toEqual([503, 'AUTH_UNAVAILABLE']);
      expect(away.headers.get('retry-after')).toBe('1');
    } finally {
      await place.close();
    }
  });

  test('an answer about somebody else, a redirect or none at all lets nobody in', async () => {
    const place = await started({});
    const answers = [
      { status: 200, body: '{"id":"usr_other"}' },
      { status: 302, body: '' },
      { status: 200, body: 'x'.repeat(70_000) },
      { status: 429, body: '' },
    ];
    let at = 0;
    await using odd = await startService(async (request, response) => {
      if (request.url === '/.well-known/jwks.json') {
        const keys = await fetch(`${place.gateway.url}/.well-known/jwks.json`);
        return response.end(await keys.text());
      }
      const { status, body } = answers[at++] ?? { status: 500, body: '' };
      return response.writeHead(status, { location: `${place.gateway.url}/auth/me` }).end(body);
    });
    try {
      const pair = await loggedIn(place.auth, 'john_doe');
      const app = new Hono<AuthEnv>();
      app.use(authenticate({ auth_service_url: odd.url, clock }));
      app.get('/', (c) => c.text('in'));
      for (let i = 0; i <= answers.length; i++) {
        expect((await app.request('/', { headers: bearer(pair.access_token) })).status).toBe(503);
      }
      const key = await place.gateway.key('viewer', { prefix: 'vllm' });
      expect((await app.request('/', { headers: { 'x-api-key': key } })).status).toBe(503);
    } finally {
      await place.close();
    }
  });
});

test('a route that nobody put `authenticate` before is closed', async () => {
  const app = new Hono<AuthEnv>();
  app.get('/', requireAuth(), (c) => c.text('in'));
  app.get('/limited', rateLimit({ limit: 1, window_seconds: 1 }), (c) => c.text('in'));
  expect((await app.request('/')).status).toBe(401);
  expect((await app.request('/limited')).status).toBe(401);
});
