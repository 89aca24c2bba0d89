/** What ends with a session, and what an operator's word ends. */
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { AccountAdministration } from '../../src/composition/account-administration.ts';
import { isTokenRevoked } from '../../src/identity/revocations.ts';
import { openDatabase } from '../../src/stores/database.ts';
import { createDurableShared } from '../../src/stores/durable-shared.ts';
import { createMemoryShared } from '../../src/stores/memory-shared.ts';
import { loadPepper } from '../../src/stores/pepper.ts';
import { ACCOUNTS, type Auth, authClient, bearer, PASSWORD } from '../helpers/accounts.ts';
import { scenarioConfig, startGateway, type TestGateway, writeConfig } from '../helpers/gateway.ts';
import { cleanEnv, freePorts, MAIN, runToEnd } from '../helpers/processes.ts';
import { appCode } from '../helpers/second-factor.ts';
import { type Service, startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

let gateway: TestGateway;
let auth: Auth;
let site: string;
let feed: Service;
let config: Parameters<typeof startGateway>[0] & object;

beforeAll(async () => {
  feed = await startService((_asked, response) => {
    response.setHeader('content-type', 'text/event-stream');
    response.write('data: first\n\n');
  });
  const [port = 0] = await freePorts(1);
  site = `http://127.0.0.1:${port}`;
  config = {
    public_url: site,
    listen: { data: `127.0.0.1:${port}`, admin: { address: '127.0.0.1:0' } },
    identity: { accounts: { kind: 'local', cookies: true } },
    accounts: ACCOUNTS,
    routes: [
      {
        ...{ match: '/feed', protocol: 'http', url: feed.url, identity: ['accounts'] },
        permissions: { GET: { allOf: ['tasks.read'] } },
      },
    ],
  };
  gateway = await startGateway(config);
  await writeConfig(gateway.home, config);
  auth = authClient(gateway.url);
});
afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await feed?.[Symbol.asyncDispose]();
});

async function administer<T>(act: (administration: AccountAdministration) => Promise<T>): Promise<T> {
  const { stores, accounts } = scenarioConfig(config, gateway.home);
  await using database = await openDatabase(stores.database, { baseDir: gateway.home });
  const pepper = loadPepper(stores.database, gateway.home, stores.pepper);
  return await act(new AccountAdministration({ config: accounts, database, pepper, clock: { now: () => Date.now() } }));
}

async function person(username: string) {
  const words = { username, password: PASSWORD };
  await auth('POST', '/auth/register', { ...words, email: `${username}@example.com` });
  const { body: pair } = await auth('POST', '/auth/login', words);
  const browser = await auth('POST', '/auth/session', words, { origin: site });
  const cookie = { cookie: browser.headers.get('set-cookie')?.split(';')[0] ?? '' };
  const account = await administer((one) => one.find(username));
  if (account === null) throw new Error('no account');
  return { username, words, pair, account, cookie, headers: bearer(pair.access_token) };
}

const me = async (headers: Readonly<Record<string, string>>) =>
  (await auth('GET', '/auth/me', undefined, headers)).status;
const soon = (check: () => Promise<void>) => vi.waitFor(check, { interval: 25, timeout: 1500 });

const claimsOf = (token: string) => JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());

/** What a service that takes our published keys, and knows nothing of sessions, finds in the shared state. */
async function withdrawn(tokens: readonly string[]): Promise<boolean> {
  const clock = { now: () => Date.now() };
  await using database = await openDatabase('sqlite:./portcullis.db', { baseDir: gateway.home });
  const memory = createMemoryShared({ clock });
  await using shared = createDurableShared({ memory, database, clock, kept: ['revoked:'], onError: () => {} });
  const found: boolean[] = [];
  for (const { iss, jti } of tokens.map(claimsOf)) found.push(await isTokenRevoked(shared, iss, jti));
  return found.every(Boolean);
}

test('a logout withdraws every access token of the session that others would still take', async () => {
  verifies('V-10', 'VF-03', 'VF-04');
  const { pair, account } = await person('refresher');
  const tokens = [pair.access_token];
  let { refresh_token } = pair;
  for (let i = 0; i < 3; i++) {
    const { body } = await auth('POST', '/auth/refresh', { refresh_token });
    tokens.push(body.access_token);
    refresh_token = body.refresh_token;
  }
  const claims = tokens.map(claimsOf);
  expect(new Set(claims.map(({ jti }) => jti)).size).toBe(4);
  expect((await auth('POST', '/auth/logout', undefined, bearer(tokens.at(-1) ?? ''))).status).toBe(204);
  for (const token of tokens) expect(await me(bearer(token))).toBe(401);
  expect(await withdrawn(tokens)).toBe(true);
  const events = await gateway.audited((all) =>
    all.some((event) => event.event_type === 'token_revoked' && event.user_id === account.id),
  );
  const ended = events.find((event) => event.event_type === 'token_revoked' && event.user_id === account.id);
  expect(ended).toMatchObject({ details: { withdrawn: expect.arrayContaining(claims.map(({ jti }) => jti)) } });
});

test('what a page of a browser still receives ends with its session', async () => {
  const { cookie } = await person('reader');
  const stream = await fetch(`${site}/feed`, { headers: { ...cookie, 'sec-fetch-site': 'same-origin' } });
  expect(stream.status).toBe(200);
  const reader = stream.body?.getReader();
  expect(Buffer.from((await reader?.read())?.value ?? '').toString()).toContain('first');
  expect((await auth('DELETE', '/auth/session', undefined, { ...cookie, origin: site })).status).toBe(204);
  // It is cut off, or ends with an event that says why: it does not go on.
  const rest = async () => {
    for (;;) {
      const next = await reader?.read().catch(() => ({ done: true }));
      if (next === undefined || next.done) return 'over';
    }
  };
  expect(await rest()).toBe('over');
  await gateway.audited((all) => all.some((event) => 'code' in event && event.code === 'TOKEN_REVOKED'));
});

test('a role that changes ends the sessions of browsers; those with tokens go on with the new one', async () => {
  verifies('VF-17');
  const { account, cookie, headers } = await person('changer');
  expect([await me(cookie), await me(headers)]).toEqual([200, 200]);
  await administer((one) => one.setRole(account, 'viewer'));
  await soon(async () => expect(await me(cookie)).toBe(401));
  expect((await auth('GET', '/auth/me', undefined, headers)).body.roles).toEqual(['viewer']);
});

test('an account that is disabled has no session of any kind', async () => {
  const { account, cookie, headers, words } = await person('leaver');
  await administer((one) => one.setActive(account, false));
  await soon(async () => expect([await me(cookie), await me(headers)]).toEqual([401, 401]));
  expect((await auth('POST', '/auth/session', words, { origin: site })).status).toBe(401);
});

test('an operator takes a second factor away, and all sessions with it', async () => {
  verifies('VW-06');
  const { account, headers, words, username, pair } = await person('loser');
  const { body } = await auth('POST', '/auth/mfa/totp', { current_password: PASSWORD }, headers);
  await auth('POST', '/auth/mfa/totp/confirm', { code: appCode(body.secret, Date.now()) }, headers);
  expect((await auth('POST', '/auth/login', words)).body.error.code).toBe('SECOND_FACTOR_REQUIRED');
  const reset = () =>
    runToEnd(process.execPath, [MAIN, 'users', 'mfa-reset', username], { cwd: gateway.home, env: cleanEnv({}) });
  expect(await reset()).toMatchObject({ code: 0, stderr: expect.stringContaining('no second factor any more') });
  await soon(async () => expect(await me(headers)).toBe(401));
  expect(await withdrawn([pair.access_token])).toBe(true);
  expect((await auth('POST', '/auth/login', words)).status).toBe(200);
  expect(await administer((one) => one.resetFactor(account))).toBe(false);
  const events = await gateway.audited((all) => all.some(({ event_type }) => event_type === 'mfa_enrolled'));
  expect(JSON.stringify(events)).not.toContain(body.secret);
});

test('a password that was changed meanwhile is not changed by the one who comes late, who is told so', async () => {
  const { account } = await person('racer');
  await administer((one) => one.setPassword(account, 'Another-Lamp-Harbour-43'));
  // The same record again: it is of before.
  const late = administer((one) => one.setPassword(account, 'Another-Lamp-Harbour-44'));
  await expect(late).rejects.toMatchObject({ code: 'CONFLICT' });
  const login = (password: string) => auth('POST', '/auth/login', { username: 'racer', password });
  expect((await login('Another-Lamp-Harbour-44')).status).toBe(401);
  expect((await login('Another-Lamp-Harbour-43')).status).toBe(200);
});
