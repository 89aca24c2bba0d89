/** What an account lends lasts no longer than the login it lent with, and is never more than the account still may. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ACCOUNTS, type Auth, authClient, bearer, IDENTITY, PASSWORD, steppedClock } from '../helpers/accounts.ts';
import type { TestGateway } from '../helpers/gateway.ts';
import { startGateway, writeConfig } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import { cleanEnv, MAIN, runToEnd } from '../helpers/processes.ts';
import { verifies } from '../helpers/verifies.ts';

const roles = { analyst: { permissions: ['tasks.read'] } };
const accounts = { ...ACCOUNTS, roles, mfa: { required_roles: ['analyst'] } };
const config = { identity: IDENTITY, accounts, servers: { orders: { url: 'http://127.0.0.1:9/mcp' } } };
const clock = steppedClock();
let gateway: TestGateway;
let auth: Auth;
let agent: string;

async function run(...args: readonly string[]) {
  const done = await runToEnd(process.execPath, [MAIN, ...args], { cwd: gateway.home, env: cleanEnv({}) });
  expect(done.code, done.stderr).toBe(0);
  // Gateways look once a second whether somebody else has written.
  clock.advance(1100);
  return done.stdout.trim();
}

const person = (username: string) => ({ username, email: `${username}@example.com`, password: PASSWORD });

/** Logs in, lends to the agent, and gives both. */
async function lend(username: string) {
  const headers = bearer((await auth('POST', '/auth/login', { username, password: PASSWORD })).body.access_token);
  const form = { grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange', requested_actor: 'user-analyst' };
  const answer = await call(`${gateway.url}/api/v1/token/exchange`, {
    method: 'POST',
    headers: { ...headers, 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams(form).toString(),
  });
  expect(answer.text).toContain('access_token');
  return { headers, token: (answer.body as { access_token: string }).access_token };
}

const asDelegate = (path: string, token: string, json?: unknown) =>
  call(gateway.url + path, { key: agent, headers: { 'x-delegation-token': token }, ...(json ? { json } : {}) });
const statusOf = async (token: string) => (await asDelegate('/api/v1/version', token)).status;

beforeAll(async () => {
  gateway = await startGateway(config, { clock });
  await writeConfig(gateway.home, config);
  auth = authClient(gateway.url);
  agent = await gateway.key('analyst', { roles: ['analyst', 'admin'] });
  const bootstrap_token = await run('users', 'bootstrap');
  await auth('POST', '/auth/register', { ...person('chief'), bootstrap_token });
  const { body } = await auth('POST', '/auth/login', { username: 'chief', password: PASSWORD });
  for (const username of ['leaver', 'mover', 'sleeper', 'keeper']) {
    await auth('POST', '/auth/register', { ...person(username), role: 'admin' }, bearer(body.access_token));
  }
}, 60_000);
afterAll(() => gateway?.[Symbol.asyncDispose]());

test('a logout ends what was lent in that login, and no other', async () => {
  verifies('SF-42');
  const gone = await lend('sleeper');
  const stays = await lend('sleeper');
  expect([await statusOf(gone.token), await statusOf(stays.token)]).toEqual([200, 200]);
  expect((await auth('POST', '/auth/logout', {}, gone.headers)).status).toBeLessThan(300);
  expect([await statusOf(gone.token), await statusOf(stays.token)]).toEqual([401, 200]);
});

test('an account that is switched off beside the gateway has lent nothing any more', { timeout: 30_000 }, async () => {
  const { token } = await lend('leaver');
  expect(await statusOf(token)).toBe(200);
  await run('users', 'disable', 'leaver');
  expect(await statusOf(token)).toBe(401);
  await run('users', 'enable', 'leaver');
  expect(await statusOf(token)).toBe(401);
});

test('a lower role lowers what was lent, at once', { timeout: 30_000 }, async () => {
  const { token } = await lend('mover');
  const question = { action: 'gateway:server:access', server_name: 'orders', user: { id: 'x', roles: [] } };
  expect((await asDelegate('/api/v1/gateway/authorize', token, question)).status).toBe(200);
  await run('users', 'role', 'mover', 'user');
  expect(await statusOf(token)).toBe(200);
  expect((await asDelegate('/api/v1/gateway/authorize', token, question)).status).toBe(403);
});

test('who has to show a second factor first has lent nothing before', { timeout: 30_000 }, async () => {
  verifies('VW-06');
  const { headers, token } = await lend('keeper');
  expect(await statusOf(token)).toBe(200);
  await run('users', 'role', 'keeper', 'analyst');
  expect((await auth('GET', '/auth/verify', undefined, headers)).body.error.code).toBe('MFA_REQUIRED');
  expect(await statusOf(token)).toBe(401);
});
