/** The example configuration of a local swarm, used as its quick start says: accounts on one port, services on another. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadConfigText } from '../../src/config/load.ts';
import type { Gateway } from '../../src/gateway.ts';
import { createGateway } from '../../src/gateway.ts';
import { IDENTITY_SCHEMA } from '../../src/modules.ts';
import { type Auth, authClient, bearer, PASSWORD, steppedClock } from '../helpers/accounts.ts';
import { ROOT, temporaryDirectory } from '../helpers/processes.ts';
import { startTasks } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

const directory = temporaryDirectory();
const clock = steppedClock();
let tasks: Awaited<ReturnType<typeof startTasks>>;
let gateway: Gateway;
let auth: Auth;
let services: Auth;

beforeAll(async () => {
  tasks = await startTasks();
  const example = await readFile(join(ROOT, 'config/swarm.yaml'), 'utf8');
  const upstream = tasks.url.replace(/\/$/, '');
  const text = example
    .replaceAll(/http:\/\/127\.0\.0\.1:700[67]/g, upstream)
    .replace('../policies', join(ROOT, 'policies'));
  const env = { AUTH_PORT: '0', PORTCULLIS_PORT: '0', PORTCULLIS_ADMIN_PORT: '0' };
  const { config, problems } = loadConfigText(text, join(directory.path, 'swarm.yaml'), {
    env,
    providers: IDENTITY_SCHEMA,
    publicTexts: [],
  });
  if (config === null) throw new Error(problems.map((problem) => problem.text).join('\n'));
  gateway = await createGateway(config, { baseDir: directory.path, writeLog: () => {}, clock });
  await gateway.start();
  auth = authClient(gateway.urls.auth ?? '');
  services = authClient(gateway.urls.data);
});
afterAll(async () => {
  await gateway?.close();
  await tasks?.[Symbol.asyncDispose]();
  directory[Symbol.dispose]();
});

const john = {
  username: 'john_doe',
  email: 'john@example.com',
  password: 'SecurePassword123!',
  full_name: 'John Doe',
};
/** An hour later: what is limited by the hour begins anew. */
async function loggedIn(name: string): Promise<Readonly<Record<string, string>>> {
  clock.advance(3_600_000);
  await auth('POST', '/auth/register', { username: name, email: `${name}@example.com`, password: PASSWORD });
  const { body } = await auth('POST', '/auth/login', { username: name, password: PASSWORD });
  return bearer(body.access_token);
}

describe('the quick start', () => {
  test('registers, logs in and uses the token on a protected service', async () => {
    verifies('V-01', 'V-08', 'V-17');
    const made = await auth('POST', '/auth/register', john);
    expect(made.status).toBe(201);
    expect(made.body.role).toBe('user');
    expect(made.body).not.toHaveProperty('password_hash');
    const { body: t } = await auth('POST', '/auth/login', { username: john.username, password: john.password });
    expect(t).toMatchObject({ token_type: 'bearer', expires_in: 86_400, role: 'user' });
    expect((await services('GET', '/tasks', undefined, bearer(t.access_token))).status).toBe(200);
    expect((await services('GET', '/tasks')).status).toBe(401);
    const bad = await auth('POST', '/auth/register', { username: 'x', email: 'bad', password: 'short' });
    expect(bad.status).toBe(422);
  });

  test('the port of accounts has accounts and nothing else; the other port has both', async () => {
    expect((await auth('GET', '/tasks')).status).toBe(404);
    expect((await auth('GET', '/servers')).status).toBe(404);
    expect((await auth('GET', '/.well-known/jwks.json')).body.keys).toHaveLength(1);
    expect((await services('GET', '/.well-known/jwks.json')).body.keys).toHaveLength(1);
  });

  test('serves the seventeen cases of the old test suite', async () => {
    verifies('VW-05');
    clock.advance(3_600_000);
    const user = { username: 'seventeen', email: '17@example.com', password: PASSWORD };
    const login = (password: string, username = user.username) => auth('POST', '/auth/login', { username, password });
    expect((await auth('POST', '/auth/register', user)).status).toBe(201);
    expect((await auth('POST', '/auth/register', user)).status).toBe(409);
    expect((await auth('POST', '/auth/register', { ...user, username: 'other', email: 'bad' })).status).toBe(422);
    const weak = await auth('POST', '/auth/register', { ...user, username: 'other', password: 'weak' });
    expect([weak.status, weak.body.error.code]).toEqual([422, 'WEAK_PASSWORD']);
    const { status, body: pair } = await login(PASSWORD);
    expect(status).toBe(200);
    expect((await login('wrong')).status).toBe(401);
    expect((await login('wrong', 'unknown_user')).status).toBe(401);
    const { body: next } = await auth('POST', '/auth/refresh', { refresh_token: pair.refresh_token });
    const headers = bearer(next.access_token);
    expect((await services('GET', '/tasks', undefined, headers)).status).toBe(200);
    expect((await services('GET', '/tasks')).status).toBe(401);
    expect((await services('GET', '/tasks', undefined, bearer('a.bad.token'))).status).toBe(401);
    const made = await auth('POST', '/auth/api-keys', { name: 'k', permissions: ['tasks.read'] }, headers);
    expect(made.status).toBe(201);
    expect((await auth('GET', '/auth/api-keys', undefined, headers)).body.items).toHaveLength(1);
    expect((await auth('DELETE', `/auth/api-keys/${made.body.key_id}`, undefined, headers)).status).toBe(204);
    const change = (current_password: string) =>
      auth('POST', '/auth/change-password', { current_password, new_password: 'Another-Lamp-Harbour-43' }, headers);
    expect((await change('wrong')).status).toBe(401);
    expect((await change(PASSWORD)).status).toBe(204);
    const asked = await auth('POST', '/auth/verify-permission', { permission: 'tasks.create' }, headers);
    expect(asked.body).toEqual({ has_permission: true, permission: 'tasks.create', role: 'user' });
    const admin = await auth('POST', '/auth/verify-permission', { permission: 'users.create' }, headers);
    expect(admin.body.has_permission).toBe(false);
    expect((await auth('POST', '/auth/logout', undefined, headers)).status).toBe(204);
    expect((await services('GET', '/tasks', undefined, headers)).status).toBe(401);
  });
});

describe('the orchestrator', () => {
  /** What the service answers where it has nothing: the gateway let it through. */
  const LET_THROUGH = 404;
  const CALLS = [
    ['POST', '/tasks', 'tasks.create', 201],
    ['GET', '/tasks', 'tasks.read', 200],
    ['GET', '/tasks/1', 'tasks.read', 200],
    ['GET', '/tasks/1/results', 'tasks.read', 200],
    ['DELETE', '/tasks/77', 'tasks.delete', LET_THROUGH],
    ['POST', '/agents/query', 'agents.query', LET_THROUGH],
    ['GET', '/stats', 'stats.read', LET_THROUGH],
  ] as const;

  test('asks for the permission of each call, and for nothing but an account at /me', async () => {
    verifies('VW-04', 'V-08');
    const headers = await loggedIn('orchestrated');
    const make = async (permissions: string[]) => {
      const { body } = await auth('POST', '/auth/api-keys', { name: 'k', permissions }, headers);
      return { 'x-api-key': body.api_key as string };
    };
    const keyOf = new Map<string, Readonly<Record<string, string>>>();
    for (const permission of new Set(CALLS.map(([, , wanted]) => wanted)))
      keyOf.set(permission, await make([permission]));
    for (const [method, path, wanted, status] of CALLS) {
      const json = method === 'POST' ? { title: 'x' } : undefined;
      const ask = async (by?: Readonly<Record<string, string>>) => (await services(method, path, json, by)).status;
      expect([method, path, await ask(headers)]).toEqual([method, path, status]);
      for (const [permission, key] of keyOf) {
        expect([method, path, permission, await ask(key)]).toEqual([
          ...[method, path, permission],
          permission === wanted ? status : 403,
        ]);
      }
      expect(await ask()).toBe(401);
    }
    expect((await services('GET', '/me', undefined, await make(['memory.read']))).status).toBe(LET_THROUGH);
    expect((await services('GET', '/me')).status).toBe(401);
    expect((await services('POST', '/me', {}, headers)).status).toBe(403);
    expect((await services('POST', '/stats', {}, headers)).status).toBe(403);
  });

  test('leaves health, login and registration open, and no documentation', async () => {
    verifies('VW-02');
    expect((await fetch(`${gateway.urls.data}/health`)).status).toBe(200);
    const login = await services('POST', '/auth/login', { username: 'nobody', password: 'wrong' });
    expect([login.status, login.body.error.code]).toEqual([401, 'INVALID_CREDENTIALS']);
    expect((await services('POST', '/auth/register', {})).status).toBe(422);
    for (const path of ['/docs', '/redoc', '/openapi.json', '/admin']) {
      expect([path, (await services('GET', path)).status]).toEqual([path, 404]);
    }
  });
});

describe('errors', () => {
  test('have a stable code and a link to what it means, on both ports', async () => {
    verifies('V-36');
    const headers = await loggedIn('mistaken');
    const forged = await services('GET', '/tasks', undefined, bearer('a.bad.token'));
    const denied = await auth('GET', '/auth/verify?permission=users.create', undefined, headers);
    clock.advance(3_600_000);
    const again = async () =>
      auth('POST', '/auth/register', { username: 'flood', email: 'flood@example.com', password: PASSWORD });
    const flood = [await again(), await again(), await again(), await again()].at(-1);
    for (const [answer, status, code, words] of [
      [forged, 401, 'INVALID_CREDENTIALS', /credentials are not valid/],
      [denied, 403, 'FORBIDDEN', /^Permission denied/],
      [flood, 429, 'RATE_LIMIT_EXCEEDED', /^Rate limit exceeded/],
    ] as const) {
      expect([answer?.status, answer?.body.error.code]).toEqual([status, code]);
      expect(answer?.body.detail).toMatch(words);
      const [, link = ''] = /^<([^>]+)>; rel="help"$/.exec(answer?.headers.get('link') ?? '') ?? [];
      for (const ask of [auth, services]) {
        const { body } = await ask('GET', link);
        expect(body).toMatchObject({ code, status, documentation: `docs/errors.md#${code}` });
      }
    }
    expect((await auth('GET', '/api/v1/errors/toString')).status).toBe(404);
    expect((await auth('GET', '/api/v1/version')).status).toBe(404);
  });
});

describe('keys that people make', () => {
  test('do what they were made for and nothing else, are shown once, and end when they are withdrawn or over', async () => {
    verifies('V-13', 'V-14', 'V-15', 'V-27');
    const headers = await loggedIn('keyowner');
    const wanted = { name: 'ci', permissions: ['tasks.create', 'tasks.read'], expires_in_days: 90 };
    const { status, body } = await auth('POST', '/auth/api-keys', wanted, headers);
    expect(status).toBe(201);
    expect(body.api_key).toMatch(/^vllm_dev_/);
    expect(Object.keys(body).sort()).toEqual(['api_key', 'created_at', 'expires_at', 'key_id', 'name', 'permissions']);
    expect(Date.parse(body.expires_at) - Date.parse(body.created_at)).toBe(90 * 86_400_000);
    const key = { 'x-api-key': body.api_key };
    expect((await services('POST', '/tasks', { title: 'x' }, key)).status).toBe(201);
    const forbidden = await services('DELETE', '/tasks/1', undefined, key);
    expect(forbidden.status).toBe(403);
    expect((await auth('GET', '/auth/api-keys', undefined, headers)).body.items[0]).not.toHaveProperty('api_key');
    const other = await loggedIn('stranger');
    expect((await auth('DELETE', `/auth/api-keys/${body.key_id}`, undefined, other)).status).toBe(404);
    expect((await auth('DELETE', '/auth/api-keys/unknown', undefined, headers)).status).toBe(404);
    const rotated = await auth('POST', `/auth/api-keys/${body.key_id}/rotate`, undefined, headers);
    expect(rotated.status).toBe(201);
    const next = { 'x-api-key': rotated.body.api_key };
    expect((await services('GET', '/tasks', undefined, next)).status).toBe(200);
    expect((await services('GET', '/tasks', undefined, key)).status).toBe(200);
    expect((await auth('DELETE', `/auth/api-keys/${body.key_id}`, undefined, headers)).status).toBe(204);
    expect((await services('GET', '/tasks', undefined, key)).status).toBe(401);
    clock.advance(91 * 86_400_000);
    expect((await services('GET', '/tasks', undefined, next)).status).toBe(401);
    const file = await readFile(join(directory.path, 'portcullis.db'), 'latin1');
    const wal = await readFile(join(directory.path, 'portcullis.db-wal'), 'latin1').catch(() => '');
    expect(file + wal).not.toContain(body.api_key.slice(-36));
    expect(file + wal).not.toContain(PASSWORD);
  });

  test('never have more than who makes them, and make no keys unless they were given that', async () => {
    verifies('VF-09', 'VF-10');
    const headers = await loggedIn('limited');
    const make = (permissions: string[], by: Readonly<Record<string, string>> = headers) =>
      auth('POST', '/auth/api-keys', { name: 'k', permissions, expires_in_days: 1 }, by);
    expect((await make(['*'])).status).toBe(403);
    expect((await make(['users.create'])).status).toBe(403);
    expect((await make(['tasks.*'])).status).toBe(403);
    const { body } = await make(['tasks.read']);
    expect((await make(['tasks.read'], { 'x-api-key': body.api_key })).status).toBe(403);
    const gone = { 'x-api-key': body.api_key };
    expect((await auth('DELETE', `/auth/api-keys/${body.key_id}`, undefined, gone)).status).toBe(204);
    expect((await auth('GET', '/auth/me', undefined, gone)).status).toBe(401);
  });

  test('can be checked by other services', async () => {
    verifies('VF-08');
    const headers = await loggedIn('checked');
    const made = await auth('POST', '/auth/api-keys', { name: 'k', permissions: ['tasks.read'] }, headers);
    const asked = await auth('POST', '/auth/verify-api-key', { api_key: made.body.api_key });
    expect(asked.status).toBe(200);
    expect(asked.body).toMatchObject({ valid: true, username: 'checked', permissions: ['tasks.read'] });
    expect((await auth('POST', '/auth/verify-api-key', { api_key: `${made.body.api_key}x` })).status).toBe(401);
    const verify = await auth('GET', '/auth/verify', undefined, headers);
    expect(verify.status).toBe(200);
    expect(verify.headers.get('x-auth-user')).toMatch(/^usr_/);
    expect(verify.headers.get('x-auth-roles')).toBe('user');
    expect((await auth('GET', '/auth/verify')).status).toBe(401);
    expect((await auth('GET', '/auth/verify?permission=users.create', undefined, headers)).status).toBe(403);
    expect((await auth('GET', '/auth/verify?permission=tasks.read', undefined, headers)).status).toBe(200);
  });
});

describe('what is asked of a permission', () => {
  test('looks at whose the thing is', async () => {
    verifies('V-16', 'V-22', 'VF-23');
    const headers = await loggedIn('asker');
    const { body: me } = await auth('GET', '/auth/me', undefined, headers);
    const ask = async (resource: unknown) =>
      (await auth('POST', '/auth/verify-permission', { permission: 'tasks.update', resource }, headers)).body;
    expect(await ask('task:1')).toEqual({ has_permission: true, permission: 'tasks.update', role: 'user' });
    expect((await ask({ type: 'task', id: '1', owner_id: me.id })).has_permission).toBe(true);
    expect((await ask({ type: 'task', id: '1', owner_id: 'usr_somebody' })).has_permission).toBe(false);
    expect((await ask({ type: 'task', id: '1', tenant_id: 'elsewhere' })).has_permission).toBe(false);
  });
});
