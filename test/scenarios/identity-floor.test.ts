/** What identity stands on: nobody is built in, and what is known of a request travels with whoever made it. */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, test } from 'vitest';
import { parseKey } from '../../src/identity/key-format.ts';
import { ACCOUNTS, authClient, IDENTITY } from '../helpers/accounts.ts';
import { leading, startGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import { ROOT } from '../helpers/processes.ts';
import { startTasks } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

/** Names and passwords that other products come with. */
const DEFAULTS = [
  ['admin', 'admin123'],
  ['admin', 'admin'],
  ['admin', 'password'],
  ['admin', 'changeme'],
  ['root', 'root'],
  ['portcullis', 'portcullis'],
  ['guest', 'guest'],
  ['test', 'test'],
] as const;

describe('nobody is built in', () => {
  test('a new gateway knows nobody, and no name of the usual ones gets in', async () => {
    verifies('HF-17', 'VF-14');
    await using tasks = await startTasks();
    await using gateway = await startGateway({
      identity: IDENTITY,
      accounts: { ...ACCOUNTS, self_registration: false },
      routes: [{ match: '/api', protocol: 'http', url: tasks.url, identity: ['accounts', 'keys'] }],
    });
    const auth = authClient(gateway.url);
    for (const [username, password] of DEFAULTS) {
      expect((await auth('POST', '/auth/login', { username, password })).status).toBe(401);
      const basic = { authorization: `Basic ${btoa(`${username}:${password}`)}` };
      expect((await call(`${gateway.url}/api/tasks`, { headers: basic })).status).toBe(401);
      expect((await call(`${gateway.url}/api/tasks`, { key: password })).status).toBe(401);
    }
    const claimed = { 'x-user-email': 'admin@example.com', 'x-auth-user': 'admin', 'x-admin': 'true' };
    expect((await call(`${gateway.url}/api/tasks`, { headers: claimed })).status).toBe(401);
    const database = new DatabaseSync(join(gateway.home, 'portcullis.db'), { readOnly: true });
    for (const table of ['accounts', 'account_passwords', 'account_sessions', 'api_keys']) {
      const { count } = database.prepare(`select count(*) as count from ${table}`).get() as { count: number };
      expect(count, table).toBe(0);
    }
    database.close();
  });

  test('no address of a person stands in the source, the examples of configurations or the policies', () => {
    verifies('HF-17');
    const files = ['src/**/*.ts', 'config/**/*.*', 'policies/**/*.rego', 'policies/**/*.json'].flatMap((pattern) =>
      globSync(pattern, { cwd: ROOT }),
    );
    expect(files.length).toBeGreaterThan(200);
    const address = /[\w.+-]+@[\w-]+\.[a-z]{2,}/i;
    const found = files.filter((file) => address.test(readFileSync(join(ROOT, file), 'utf8')));
    // The demo makes its accounts itself, each time with new passwords.
    expect(found.filter((file) => !/^src\/cli\/demo[\w-]*\.ts$/.test(file))).toEqual([]);
  });
});

describe('what is known of a request', () => {
  test('goes with the caller into policy and audit: address, program, how it was proved and by which key', async () => {
    verifies('D-15');
    await using tasks = await startTasks();
    await using gateway = await startGateway({
      trusted_proxies: ['127.0.0.1'],
      routes: [{ match: '/api', protocol: 'http', url: tasks.url, identity: ['keys'] }],
    });
    const key = await gateway.key('developer');
    const headers = { 'user-agent': 'floor/1.0', 'x-forwarded-for': '198.51.100.23' };
    const { requestId } = await call(`${gateway.url}/api/tasks`, { key, headers });
    const events = await gateway.audited((all) => all.some(({ request_id }) => request_id === requestId));
    expect(leading(events).find(({ request_id }) => request_id === requestId)).toMatchObject({
      ...{ source_ip: '198.51.100.23', user_agent: 'floor/1.0', auth_provider: 'keys' },
      ...{ key_id: parseKey(key)?.id, session_id: null },
    });
    await gateway.stop();
    const lines = (await gateway.decisions()).split('\n').filter((line) => line.includes(requestId));
    const { input } = JSON.parse(lines[0] ?? '{}') as { input?: Record<string, object> };
    expect(input?.user).toMatchObject({ auth_method: 'api-key', auth_provider: 'keys', key_id: parseKey(key)?.id });
    expect(input?.gateway_metadata).toMatchObject({ source_ip: '198.51.100.23', user_agent: 'floor/1.0' });
  });

  test('goes with a session of an account as well', async () => {
    verifies('D-15');
    await using gateway = await startGateway({ identity: IDENTITY, accounts: ACCOUNTS });
    const auth = authClient(gateway.url);
    const person = { username: 'maria', email: 'maria@example.com', password: 'Quiet-Harbour-Lamp-42' };
    expect((await auth('POST', '/auth/register', person)).status).toBe(201);
    const { email: _, ...login } = person;
    const { access_token } = (await auth('POST', '/auth/login', login)).body as { access_token: string };
    const me = await call(`${gateway.url}/auth/me`, { headers: { authorization: `Bearer ${access_token}` } });
    expect(me.body).toMatchObject({
      auth: { provider: 'accounts', method: 'bearer', key_id: null, session_id: expect.stringMatching(/^ses_/) },
    });
  });
});

describe('the published keys', () => {
  const upstream = { protocol: 'http' as const, url: 'http://127.0.0.1:9', identity: ['keys'] };
  const algorithms = async (url: string, path = '/.well-known/jwks.json') => {
    const { status, body } = await call(`${url}${path}`);
    const { keys = [] } = (body ?? {}) as { keys?: Record<string, string>[] };
    for (const key of keys) for (const part of ['d', 'p', 'q', 'k']) expect(key).not.toHaveProperty(part);
    return status === 200 ? keys.map(({ alg }) => alg).sort() : status;
  };

  test('are there where nothing but identity tokens is signed, and not where nothing is', async () => {
    verifies('VF-21', 'VF-02');
    const route = { ...upstream, match: '/api', identity_token: { algorithm: 'ES256' as const } };
    await using signing = await startGateway({ public_url: 'http://127.0.0.1:1', routes: [route] });
    expect(await algorithms(signing.url)).toEqual(['ES256']);
    expect(await algorithms(signing.url, '/auth/jwks.json')).toBe(404);
    await using silent = await startGateway({ routes: [{ ...upstream, match: '/api' }] });
    expect(await algorithms(silent.url)).toBe(404);
  });

  test('are those of accounts and of identity tokens together, one key where both sign alike', async () => {
    verifies('VF-02');
    const route = { ...upstream, match: '/api', identity_token: { algorithm: 'EdDSA' as const } };
    const both = (algorithm: 'EdDSA' | 'ES256') => ({
      ...{ public_url: 'http://127.0.0.1:1', identity: IDENTITY, routes: [route] },
      accounts: { ...ACCOUNTS, tokens: { algorithm } },
    });
    await using apart = await startGateway(both('ES256'));
    expect(await algorithms(apart.url)).toEqual(['ES256', 'EdDSA']);
    expect(await algorithms(apart.url, '/auth/jwks.json')).toEqual(['ES256', 'EdDSA']);
    await using together = await startGateway(both('EdDSA'));
    expect(await algorithms(together.url)).toEqual(['EdDSA']);
  });
});
