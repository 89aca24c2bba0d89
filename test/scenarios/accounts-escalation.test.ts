/** Who may make accounts and keys gets no further by it, and what was taken from an account its keys do not keep. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { revokeKeysOf } from '../../src/composition/account-set.ts';
import { createApiKeyStore } from '../../src/stores/api-keys.ts';
import { openDatabase } from '../../src/stores/database.ts';
import { ACCOUNTS, type Auth, authClient, bearer, IDENTITY, PASSWORD } from '../helpers/accounts.ts';
import type { TestGateway } from '../helpers/gateway.ts';
import { startGateway, writeConfig } from '../helpers/gateway.ts';
import { cleanEnv, MAIN, runToEnd } from '../helpers/processes.ts';
import { verifies } from '../helpers/verifies.ts';

const config = {
  identity: IDENTITY,
  accounts: {
    ...ACCOUNTS,
    roles: { helpdesk: { permissions: ['users.create', 'tasks.read'] }, auditor: { permissions: [] } },
  },
};
let gateway: TestGateway;
let auth: Auth;
let admin: Readonly<Record<string, string>>;

async function run(...args: readonly string[]) {
  const done = await runToEnd(process.execPath, [MAIN, ...args], { cwd: gateway.home, env: cleanEnv({}) });
  expect(done.code, done.stderr).toBe(0);
  return done.stdout.trim();
}

const person = (username: string) => ({ username, email: `${username}@example.com`, password: PASSWORD });

async function login(username: string) {
  return bearer((await auth('POST', '/auth/login', { username, password: PASSWORD })).body.access_token);
}

beforeAll(async () => {
  gateway = await startGateway(config);
  await writeConfig(gateway.home, config);
  auth = authClient(gateway.url);
  const bootstrap_token = await run('users', 'bootstrap');
  await auth('POST', '/auth/register', { ...person('chief'), bootstrap_token });
  admin = await login('chief');
}, 60_000);
afterAll(() => gateway?.[Symbol.asyncDispose]());

describe('making accounts', () => {
  test('gives no role that its maker does not have', async () => {
    const made = await auth('POST', '/auth/register', { ...person('helper'), role: 'helpdesk' }, admin);
    expect(made.status).toBe(201);
    const helper = await login('helper');
    const make = (username: string, role?: string) =>
      auth('POST', '/auth/register', { ...person(username), ...(role === undefined ? {} : { role }) }, helper);
    expect((await make('evil-1', 'admin')).status).toBe(403);
    // Its permissions are less than the maker's; what policies make of its name nobody knows here.
    expect((await make('evil-2', 'auditor')).status).toBe(403);
    expect((await make('mate', 'helpdesk')).body.role).toBe('helpdesk');
    expect((await make('somebody')).body.role).toBe('user');
  });

  test('is nothing for an administrator of another tenant', { timeout: 60_000 }, async () => {
    const key = await run('keys', 'create', '--name', 'foreign', '--tenant', 'elsewhere', '--permission', '*');
    const headers = { 'x-api-key': key.split('\n')[0] ?? '' };
    expect((await auth('GET', '/auth/me', undefined, headers)).body).toMatchObject({ tenant_id: 'elsewhere' });
    const made = await auth('POST', '/auth/register', { ...person('invader'), role: 'admin' }, headers);
    expect(made.status).toBe(403);
  });
});

describe('a key that makes keys', () => {
  test('hands on what it is bound to', { timeout: 60_000 }, async () => {
    const rights = ['--permission', 'api_keys.create', '--permission', 'tasks.read'];
    const bounds = ['--allowed-ip', '127.0.0.1', '--allowed-ip', '::1', '--rate-limit', '77'];
    const key = await run('keys', 'create', '--name', 'bound', ...rights, ...bounds);
    const headers = { 'x-api-key': key.split('\n')[0] ?? '' };
    const made = await auth('POST', '/auth/api-keys', { name: 'child', permissions: ['tasks.read'] }, headers);
    expect(made.status).toBe(201);
    await using database = await openDatabase('sqlite:./portcullis.db', { baseDir: gateway.home });
    const record = await createApiKeyStore(database).find(made.body.key_id);
    expect(record?.facts).toMatchObject({ allowed_ips: ['127.0.0.1', '::1'], rate_limit_per_hour: 77 });
  });
});

describe('a key that replaces keys', () => {
  const bounds = { allowed_ips: ['127.0.0.1', '::1'], rate_limit_per_hour: 77 };

  async function key(name: string, facts: object) {
    const permissions = ['api_keys.create', 'tasks.read'];
    const text = await gateway.key(name, { name, owner_id: 'machine', roles: [], permissions, ...facts });
    return { id: text.split('_')[2] ?? '', headers: { 'x-api-key': text } };
  }

  test('gets none that is bound less than itself', async () => {
    const bound = await key('bound', bounds);
    const free = await key('free', {});
    const faster = await key('faster', { ...bounds, rate_limit_per_hour: 78 });
    const wider = await key('wider', { ...bounds, allowed_ips: ['127.0.0.1', '192.0.2.1'] });
    const scoped = await key('scoped', { ...bounds, scopes: ['model:write'] });
    const proven = await key('proven', { ...bounds, mfa_verified: true });
    const teamed = await key('teamed', { ...bounds, teams: ['ops'] });
    const rotate = async (id: string, by: Readonly<Record<string, string>>) =>
      (await auth('POST', `/auth/api-keys/${id}/rotate`, undefined, by)).status;
    for (const { id } of [free, faster, wider, scoped, proven, teamed]) {
      expect(await rotate(id, bound.headers)).toBe(403);
    }
    const tighter = await key('tighter', { allowed_ips: ['127.0.0.1'], rate_limit_per_hour: 10 });
    expect(await rotate(tighter.id, bound.headers)).toBe(201);
    expect(await rotate(free.id, free.headers)).toBe(201);
    expect(await rotate(bound.id, bound.headers)).toBe(201);
  });
});

describe('a key that somebody asks about', () => {
  test('is only good from where it may be used', async () => {
    const api_key = await gateway.key('placed', { allowed_ips: ['203.0.113.0/24'] });
    const by = { 'x-api-key': await gateway.key('asker', { permissions: ['api_keys.verify'] }) };
    const verify = async (client_ip?: string, headers = {}) => {
      const body = { api_key, ...(client_ip === undefined ? {} : { client_ip }) };
      return (await auth('POST', '/auth/verify-api-key', body, headers)).status;
    };
    expect(await verify()).toBe(401);
    // Who says from where somebody else comes has to be believed first.
    expect(await verify('203.0.113.7')).toBe(403);
    expect(await verify('203.0.113.7', admin)).toBe(200);
    expect(await verify('203.0.113.7', by)).toBe(200);
    expect(await verify('198.51.100.7', by)).toBe(401);
    expect(await verify(undefined, by)).toBe(401);
    expect(await verify('somewhere', by)).toBe(422);
  });
});

describe('keys of somebody who was an administrator', () => {
  test('end with the role, also those that hold the role and no permission', { timeout: 60_000 }, async () => {
    verifies('VF-09');
    await auth('POST', '/auth/register', { ...person('former'), role: 'admin' }, admin);
    const former = await login('former');
    const make = async (name: string, more: object) =>
      (await auth('POST', '/auth/api-keys', { name, ...more }, former)).body as { api_key: string; key_id: string };
    const byRole = await make('role', { roles: ['admin'] });
    const plain = await make('plain', { permissions: ['tasks.read'] });
    await run('users', 'role', 'former', 'user');
    const use = async ({ api_key }: { api_key: string }) =>
      (await auth('POST', '/auth/verify-api-key', { api_key })).status;
    expect(await use(byRole)).toBe(401);
    expect(await use(plain)).toBe(200);
  });

  test('are found among more than a thousand that ended before', { timeout: 60_000 }, async () => {
    await using database = await openDatabase('sqlite:./portcullis.db', { baseDir: gateway.home });
    const keys = createApiKeyStore(database);
    await auth('POST', '/auth/register', person('hoarder'));
    const made = await auth('POST', '/auth/api-keys', { name: 'last' }, await login('hoarder'));
    const last = await keys.find(made.body.key_id);
    if (last === null) throw new Error('the key is not there');
    const old = Array.from({ length: 1001 }, (_, n) => ({ ...last, id: `0${n}`, revoked_at: 1 }));
    for (const record of old) await keys.insert(record);
    const issuing = { keys, shared: null, clock: { now: () => Date.now() } };
    expect(await revokeKeysOf(issuing, last.tenant_id, last.owner_id, () => true)).toBe(1);
    expect((await auth('POST', '/auth/verify-api-key', { api_key: made.body.api_key })).status).toBe(401);
  });
});
