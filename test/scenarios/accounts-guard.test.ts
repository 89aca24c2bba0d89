/** What stands before a password: limits, locks, the same answer for everybody, and who may register at all. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { AccountAdministration } from '../../src/composition/account-administration.ts';
import type { Clock } from '../../src/core/clock.ts';
import { openDatabase } from '../../src/stores/database.ts';
import { loadPepper } from '../../src/stores/pepper.ts';
import { ACCOUNTS, authClient, bearer, IDENTITY, PASSWORD, steppedClock } from '../helpers/accounts.ts';
import type { PartialConfig, TestGateway } from '../helpers/gateway.ts';
import { dataWithoutLimits, POLICIES, scenarioConfig, startGateway } from '../helpers/gateway.ts';
import { temporaryDirectory } from '../helpers/processes.ts';
import { NO_REDIS, startRedis } from '../helpers/processes-stores.ts';
import { appCode } from '../helpers/second-factor.ts';
import { verifies } from '../helpers/verifies.ts';

const gateways: TestGateway[] = [];
afterEach(async () => {
  for (const gateway of gateways.splice(0)) await gateway[Symbol.asyncDispose]();
});

type Accounts = NonNullable<PartialConfig['accounts']>;

async function start(accounts: Accounts = {}, more: PartialConfig = {}) {
  const clock = steppedClock();
  const config = { identity: IDENTITY, accounts: { ...ACCOUNTS, ...accounts }, ...more };
  const gateway = await startGateway(config, { clock });
  gateways.push(gateway);
  const auth = authClient(gateway.url);
  const user = { username: 'maria', email: 'maria@example.com', password: PASSWORD };
  const login = (username: string, password: string) => auth('POST', '/auth/login', { username, password });
  return { clock, gateway, auth, user, login, config };
}

/** What an operator does on the command line, over the same database. */
async function administer<T>(
  { gateway, config, clock }: { gateway: TestGateway; config: PartialConfig; clock: Clock },
  act: (administration: AccountAdministration) => Promise<T>,
): Promise<T> {
  const { stores, accounts } = scenarioConfig(config, gateway.home);
  await using database = await openDatabase(stores.database, { baseDir: gateway.home });
  const pepper = loadPepper(stores.database, gateway.home, stores.pepper);
  // `await`: the database must stay open until it is done.
  return await act(new AccountAdministration({ config: accounts, database, pepper, clock }));
}

const MINUTE = 60_000;
const STRICT = { ...ACCOUNTS.limits, login_per_minute: 5, register_per_hour: 3 };

const LIMIT_HEADERS = ['ratelimit-policy', 'ratelimit', 'x-ratelimit-limit', 'x-ratelimit-remaining'];
const limitHeaders = ({ headers }: { readonly headers: Headers }) => LIMIT_HEADERS.map((name) => headers.get(name));

describe('limits', () => {
  test('the sixth login in a minute at one name is refused, right or wrong; the next minute begins anew', async () => {
    verifies('V-26');
    const { auth, user, login, clock } = await start({ limits: STRICT });
    await auth('POST', '/auth/register', user);
    for (let i = 0; i < 5; i++) expect((await login('maria', PASSWORD)).status).toBe(200);
    const sixth = await login('maria', PASSWORD);
    expect(sixth.status).toBe(429);
    expect(sixth.body).toMatchObject({ detail: 'Rate limit exceeded', error: { code: 'RATE_LIMIT_EXCEEDED' } });
    expect(Number(sixth.headers.get('retry-after'))).toBe(50);
    expect(limitHeaders(sixth)).toEqual(['"login";q=5;w=60', '"login";r=0;t=50', '5', '0']);
    clock.advance(MINUTE);
    expect((await login('maria', PASSWORD)).status).toBe(200);
  });

  test('failed logins count against the address whatever the names are; good ones do not', async () => {
    verifies('V-26');
    const { auth, user, login } = await start({ limits: STRICT });
    for (const name of ['maria', 'john']) {
      await auth('POST', '/auth/register', { ...user, username: name, email: `${name}@example.com` });
    }
    for (let i = 0; i < 4; i++) expect((await login('maria', PASSWORD)).status).toBe(200);
    for (let i = 0; i < 4; i++) expect((await login('john', PASSWORD)).status).toBe(200);
    for (let i = 0; i < 5; i++) expect((await login(`nobody${i}`, 'wrong')).status).toBe(401);
    expect((await login('nobody9', 'wrong')).status).toBe(429);
  });

  test('the fourth registration in an hour from one address is refused', async () => {
    verifies('V-26');
    const { auth, user, clock } = await start({ limits: STRICT });
    const register = (n: number) =>
      auth('POST', '/auth/register', { ...user, username: `user${n}`, email: `u${n}@example.com` });
    for (let i = 0; i < 3; i++) expect((await register(i)).status).toBe(201);
    const fourth = await register(3);
    expect(fourth.status).toBe(429);
    expect(limitHeaders(fourth)).toEqual([
      '"register";q=3;w=3600',
      expect.stringContaining('"register";r=0;t='),
      '3',
      '0',
    ]);
    clock.advance(60 * MINUTE);
    expect((await register(3)).status).toBe(201);
  });

  test.skipIf(NO_REDIS !== null)('nobody logs in or registers while the counters are away', async () => {
    verifies('VF-19');
    const redis = await startRedis();
    const { auth, user, login } = await start({}, { stores: { database: 'sqlite:./a.db', shared: redis.url } });
    await auth('POST', '/auth/register', user);
    expect((await login('maria', PASSWORD)).status).toBe(200);
    await redis.kill();
    expect((await login('maria', PASSWORD)).status).toBe(503);
    const register = await auth('POST', '/auth/register', { ...user, username: 'john', email: 'j@example.com' });
    expect(register.status).toBe(503);
    await redis[Symbol.asyncDispose]();
  });
});

describe('the lock', () => {
  test('five wrong passwords lock a name, and the right one is not looked at any more', async () => {
    verifies('V-25');
    const { auth, user, login, clock, gateway } = await start();
    await auth('POST', '/auth/register', user);
    for (let i = 0; i < 5; i++) expect((await login('maria', `wrong ${i}`)).status).toBe(401);
    const locked = await login('Maria', PASSWORD);
    expect(locked.status).toBe(423);
    expect(locked.body.error.code).toBe('ACCOUNT_LOCKED');
    expect(Number(locked.headers.get('retry-after'))).toBe(900);
    clock.advance(899_000);
    expect((await login('maria', PASSWORD)).status).toBe(423);
    clock.advance(1000);
    expect((await login('maria', PASSWORD)).status).toBe(200);
    const events = await gateway.audited((all) => all.some(({ event_type }) => event_type === 'login_succeeded'));
    const types = events.map(({ event_type }) => event_type);
    expect(types.filter((type) => type === 'login_failed')).toHaveLength(7);
    expect(types).toContain('suspicious_activity');
  });

  test('a name that nobody has is locked in the same words after the same number of tries', async () => {
    verifies('V-25', 'VF-16');
    const { auth, user, login } = await start();
    await auth('POST', '/auth/register', user);
    const answers = async (name: string) => {
      const seen: unknown[] = [];
      for (let i = 0; i < 7; i++) {
        const { status, headers, body } = await login(name, 'wrong');
        const { request_id: _id, instance: _instance, ...words } = body;
        const names = [...headers.keys()].filter((header) => header !== 'date').sort();
        seen.push([status, words, names, headers.get('content-length'), headers.get('retry-after')]);
      }
      return seen;
    };
    expect(await answers('maria')).toEqual(await answers('mario'));
  });

  test('each further lock lasts twice as long, up to the longest', async () => {
    const { login, clock } = await start({ lockout: { failures: 2, seconds: 60, max_seconds: 200 } });
    const waits: number[] = [];
    for (let i = 0; i < 4; i++) {
      await login('maria', 'wrong');
      await login('maria', 'wrong');
      const seconds = Number((await login('maria', 'wrong')).headers.get('retry-after'));
      waits.push(seconds);
      clock.advance(seconds * 1000);
    }
    expect(waits).toEqual([60, 120, 200, 200]);
  });

  test('ninety wrong guesses at once are five guesses', async () => {
    const { auth, user, login, gateway } = await start();
    await auth('POST', '/auth/register', user);
    const answers = await Promise.all(Array.from({ length: 90 }, (_, i) => login('maria', `guess ${i}`)));
    const count = (status: number) => answers.filter((answer) => answer.status === status).length;
    expect(count(401)).toBe(5);
    expect(count(401) + count(423) + count(503)).toBe(90);
    expect((await login('maria', PASSWORD)).status).toBe(423);
    expect(gateway.logs.join('\n')).not.toContain('guess');
  });

  test('strangers cannot lock an account out of where its owner has come from before', async () => {
    verifies('V-25');
    const { auth, user, login, clock, gateway, config } = await start({}, { trusted_proxies: ['127.0.0.0/8'] });
    await auth('POST', '/auth/register', user);
    const from = (address: string, password: string) =>
      auth('POST', '/auth/login', { username: 'maria', password }, { 'x-forwarded-for': address });
    expect((await from('198.51.100.7', PASSWORD)).status).toBe(200);
    for (let i = 0; i < 5; i++) expect((await from('203.0.113.9', 'wrong')).status).toBe(401);
    expect((await from('203.0.113.9', PASSWORD)).status).toBe(423);
    expect((await from('198.51.100.7', PASSWORD)).status).toBe(200);
    // And an operator can always open it.
    await administer({ gateway, config, clock }, (administration) => administration.unlock('MARIA'));
    expect((await from('203.0.113.9', PASSWORD)).status).toBe(200);
    expect((await login('maria', PASSWORD)).status).toBe(200);
  });

  test('a stolen session does not help to guess the password', async () => {
    const { auth, user, login } = await start();
    await auth('POST', '/auth/register', user);
    const { body } = await login('maria', PASSWORD);
    const change = (current: string) =>
      auth(
        'POST',
        '/auth/change-password',
        { current_password: current, new_password: 'Another-Lamp-Harbour-43' },
        bearer(body.access_token),
      );
    for (let i = 0; i < 5; i++) expect((await change(`guess ${i}`)).status).toBe(401);
    expect((await change(PASSWORD)).status).toBe(423);
  });

  test('a stolen session locks the second factor of its owner once at most, and is over then', async () => {
    const { auth, user, login, clock, gateway } = await start();
    await auth('POST', '/auth/register', user);
    const { body } = await login('maria', PASSWORD);
    const headers = bearer(body.access_token);
    const begun = await auth('POST', '/auth/mfa/totp', { current_password: PASSWORD }, headers);
    const code = () => appCode(begun.body.secret, clock.now());
    await auth('POST', '/auth/mfa/totp/confirm', { code: code() }, headers);
    const guess = () => auth('POST', '/auth/mfa/verify', { recovery_code: 'AAAA-BBBB-CCCC-DDDD' }, headers);
    for (let i = 0; i < 5; i++) expect((await guess()).status).toBe(401);
    expect((await auth('GET', '/auth/me', undefined, headers)).status).toBe(401);
    expect((await auth('POST', '/auth/refresh', { refresh_token: body.refresh_token })).status).toBe(401);
    const events = await gateway.audited((all) => all.some(({ event_type }) => event_type === 'suspicious_activity'));
    expect(events.find(({ event_type }) => event_type === 'suspicious_activity')).toMatchObject({
      ...{ activity_type: 'account_locked', indicators: ['second_factor'], user_id: body.user_id },
    });
    clock.advance(15 * MINUTE);
    expect((await guess()).body.error.code).not.toBe('ACCOUNT_LOCKED');
    const again = await auth('POST', '/auth/login', { username: 'maria', password: PASSWORD, otp: code() });
    expect(again.status).toBe(200);
  });
});

/** An account with a second factor whose owner has come from 198.51.100.7, known to two gateways of one database. */
async function withFactor(failures = 5) {
  const lockout = { failures, seconds: 900, max_seconds: 3600 };
  const more = { trusted_proxies: ['127.0.0.0/8'], stores: { database: 'sqlite:./a.db', pepper: 'p'.repeat(43) } };
  const place = await start({ lockout }, more);
  const { auth, user, clock, gateway } = place;
  const database = `sqlite:${join(gateway.home, 'a.db')}`;
  const other = await startGateway({ ...place.config, stores: { ...more.stores, database } }, { clock });
  gateways.push(other);
  const home = { 'x-forwarded-for': '198.51.100.7' };
  await auth('POST', '/auth/register', user, home);
  const words = { username: 'maria', password: PASSWORD };
  const { body } = await auth('POST', '/auth/login', words, home);
  const headers = bearer(body.access_token);
  const begun = await auth('POST', '/auth/mfa/totp', { current_password: PASSWORD }, { ...headers, ...home });
  const code = () => appCode(begun.body.secret, clock.now());
  await auth('POST', '/auth/mfa/totp/confirm', { code: code() }, { ...headers, ...home });
  clock.advance(MINUTE);
  return { ...place, other: authClient(other.url), headers, home, words, code };
}

describe('the lock of the second factor', () => {
  const guess = { recovery_code: 'AAAA-BBBB-CCCC-DDDD' };
  const away = { 'x-forwarded-for': '203.0.113.9' };

  test('is not one that a thief of session or password can close for the owner', async () => {
    const { auth, headers, home, words, code, clock } = await withFactor();
    for (let i = 0; i < 5; i++) {
      expect((await auth('POST', '/auth/mfa/verify', guess, { ...headers, ...away })).status).toBe(401);
    }
    const thief = await auth('POST', '/auth/login', { ...words, ...guess }, away);
    expect([thief.status, thief.body.error.code]).toEqual([423, 'ACCOUNT_LOCKED']);
    expect((await auth('POST', '/auth/login', { ...words, otp: code() }, home)).status).toBe(200);
    // It opens for others with its time.
    clock.advance(15 * MINUTE);
    expect((await auth('POST', '/auth/login', { ...words, otp: code() }, away)).status).toBe(200);
  });

  test('counts the guesses of all networks and gateways together', async () => {
    const { auth, other, words } = await withFactor();
    const ask = (n: number) => {
      const from = { 'x-forwarded-for': `203.0.113.${n}` };
      return (n % 2 === 0 ? auth : other)('POST', '/auth/login', { ...words, ...guess }, from);
    };
    const statuses = (await Promise.all(Array.from({ length: 12 }, (_, n) => ask(n)))).map(({ status }) => status);
    expect(statuses.filter((status) => status === 401)).toHaveLength(5);
    expect(statuses.filter((status) => status === 423)).toHaveLength(7);
  });
});

test('who has to enrol first reaches no service, whatever its path begins with', async () => {
  verifies('VW-06');
  const route = { protocol: 'http' as const, url: 'http://127.0.0.1:9', identity: ['accounts'] };
  const routes = [
    { match: '/', ...route },
    { match: '/auth/mfa/photos', ...route },
  ];
  const { auth, user, login } = await start({ mfa: { required_roles: ['user'] } }, { routes });
  await auth('POST', '/auth/register', user);
  const headers = bearer((await login('maria', PASSWORD)).body.access_token);
  for (const path of ['/auth/mfa/photos', '/auth/mfa/photos/1', '/auth/mfa/', '/auth/mfa/totp/x', '/auth/me/x', '/x']) {
    const { status, body } = await auth('GET', path, undefined, headers);
    expect([path, status, body.error.code]).toEqual([path, 403, 'MFA_REQUIRED']);
  }
  for (const path of ['/auth/mfa', '/auth/me']) {
    expect((await auth('GET', path, undefined, headers)).status).toBe(200);
  }
});

test('history, lock, rotation, tiers and the limit of registrations are there, each of them', async () => {
  verifies('VF-24');
  const data = JSON.parse(await dataWithoutLimits());
  data.config.rate_limits = { default: 40, roles: { viewer: 4 } };
  using directory = temporaryDirectory();
  writeFileSync(join(directory.path, 'data.json'), JSON.stringify(data));
  const policy = { bundle: POLICIES, data: join(directory.path, 'data.json'), watch: false };
  const { auth, user, login, clock, gateway, config } = await start({ limits: STRICT }, { policy });
  await auth('POST', '/auth/register', user);
  const { body } = await login('maria', PASSWORD);
  const headers = bearer(body.access_token);
  const words = { current_password: PASSWORD, new_password: PASSWORD };
  expect((await auth('POST', '/auth/change-password', words, headers)).body.error.code).toBe('WEAK_PASSWORD');
  const made = await auth('POST', '/auth/api-keys', { name: 'ci', permissions: ['tasks.read'] }, headers);
  const next = await auth('POST', `/auth/api-keys/${made.body.key_id}/rotate`, undefined, headers);
  expect(next.status).toBe(201);
  const me = async (api_key: string) => (await auth('GET', '/auth/me', undefined, { 'x-api-key': api_key })).status;
  // Both are good for a day; then the new one alone is.
  expect([await me(made.body.api_key), await me(next.body.api_key)]).toEqual([200, 200]);
  clock.advance(24 * 60 * MINUTE + 1000);
  expect([await me(made.body.api_key), await me(next.body.api_key)]).toEqual([401, 200]);
  for (let i = 0; i < 5; i++) expect((await login('maria', 'wrong')).status).toBe(401);
  clock.advance(MINUTE);
  expect((await login('maria', PASSWORD)).status).toBe(423);
  const over = { gateway, config, clock };
  await administer(over, (one) =>
    one.create({ ...user, username: 'slow', email: 's@example.com', full_name: null, role: 'viewer' }),
  );
  const asked = async (token: string, count: number) => {
    const seen: number[] = [];
    const question = { permission: 'tasks.read' };
    for (let i = 0; i < count; i++) {
      seen.push((await auth('POST', '/auth/verify-permission', question, bearer(token))).status);
    }
    return seen;
  };
  clock.advance(MINUTE);
  const { body: slow } = await login('slow', PASSWORD);
  expect(await asked(slow.access_token, 6)).toContain(429);
  const register = (n: number) =>
    auth('POST', '/auth/register', { ...user, username: `user${n}`, email: `u${n}@example.com` });
  for (let i = 0; i < 3; i++) expect((await register(i)).status).toBe(201);
  expect((await register(3)).status).toBe(429);
  const { body: quick } = await login('user0', PASSWORD);
  expect(await asked(quick.access_token, 6)).not.toContain(429);
});

describe('time and standing', () => {
  test('an access token ends with its second, a session with its day', async () => {
    verifies('V-18');
    const tokens = { access_seconds: 60, refresh_seconds: 3600 };
    const { auth, user, login, clock } = await start({ tokens });
    await auth('POST', '/auth/register', user);
    const { body } = await login('maria', PASSWORD);
    expect(body.expires_in).toBe(60);
    const me = async () => (await auth('GET', '/auth/me', undefined, bearer(body.access_token))).status;
    clock.advance(59_000);
    expect(await me()).toBe(200);
    clock.advance(1000);
    expect(await me()).toBe(401);
    clock.advance(3_480_000);
    const { body: last } = await auth('POST', '/auth/refresh', { refresh_token: body.refresh_token });
    expect(last.expires_in).toBe(60);
    clock.advance(60_000);
    expect((await auth('POST', '/auth/refresh', { refresh_token: last.refresh_token })).status).toBe(401);
  });

  test('what an operator changes counts within a minute: role, standing, keys', async () => {
    verifies('V-11', 'VF-17');
    const { auth, user, login, clock, gateway, config } = await start();
    await auth('POST', '/auth/register', user);
    const { body } = await login('maria', PASSWORD);
    const headers = bearer(body.access_token);
    const { body: made } = await auth(
      'POST',
      '/auth/api-keys',
      { name: 'k', permissions: ['tasks.create'], expires_in_days: 9 },
      headers,
    );
    const key = { 'x-api-key': made.api_key };
    expect((await auth('GET', '/auth/me', undefined, key)).status).toBe(200);
    const over = { gateway, config, clock };
    const account = await administer(over, (one) => one.find('maria'));
    if (account === null) throw new Error('no account');
    await administer(over, (one) => one.setRole(account, 'viewer'));
    clock.advance(2000);
    const me = await auth('GET', '/auth/me', undefined, headers);
    expect(me.body).toMatchObject({ role: 'viewer', roles: ['viewer'], permissions: ['tasks.read', 'memory.read'] });
    expect((await auth('GET', '/auth/me', undefined, key)).status).toBe(401);
    await administer(over, (one) => one.setActive(account, false));
    clock.advance(2000);
    expect((await auth('GET', '/auth/me', undefined, headers)).status).toBe(401);
    expect((await auth('POST', '/auth/refresh', { refresh_token: body.refresh_token })).status).toBe(401);
    expect((await login('maria', PASSWORD)).status).toBe(401);
  });
});

test('a reload keeps sessions, and what it changes of roles counts at once', async () => {
  const { auth, user, login, gateway, config } = await start();
  await auth('POST', '/auth/register', user);
  const { body } = await login('maria', PASSWORD);
  const me = () => auth('GET', '/auth/me', undefined, bearer(body.access_token));
  expect((await me()).body.permissions).toContain('tasks.delete');
  const roles = { user: { permissions: ['tasks.read'], own_only: true } };
  await gateway.reload({ ...config, accounts: { ...config.accounts, roles } });
  expect((await me()).body.permissions).toEqual(['tasks.read']);
});

describe('the first administrator', () => {
  test('comes from a token that is good once, for an hour, and only while there is none', async () => {
    verifies('V-38', 'VF-14');
    const { auth, user, login, clock, gateway, config } = await start({ self_registration: false });
    for (const name of ['admin', 'root']) expect((await login(name, 'admin123')).status).toBe(401);
    expect((await auth('POST', '/auth/register', user)).status).toBe(403);
    const over = { gateway, config, clock };
    const late = await administer(over, (one) => one.bootstrap());
    clock.advance(3_600_001);
    expect((await auth('POST', '/auth/register', { ...user, bootstrap_token: late })).status).toBe(401);
    const token = await administer(over, (one) => one.bootstrap());
    expect((await auth('POST', '/auth/register', { ...user, bootstrap_token: 'pcb_wrong' })).status).toBe(401);
    const made = await auth('POST', '/auth/register', { ...user, bootstrap_token: token });
    expect(made.status).toBe(201);
    expect(made.body.role).toBe('admin');
    const again = { ...user, username: 'second', email: 's@example.com', bootstrap_token: token };
    expect((await auth('POST', '/auth/register', again)).status).toBe(401);
    expect(await administer(over, (one) => one.bootstrap())).toBeNull();
    const { body } = await login('maria', PASSWORD);
    const { bootstrap_token: _token, ...facts } = again;
    const by = await auth('POST', '/auth/register', { ...facts, role: 'viewer' }, bearer(body.access_token));
    expect(by.status).toBe(201);
    expect(by.body.role).toBe('viewer');
  });

  test('may also come from a token of the configuration', async () => {
    const token = 'Lk3bTq8zVw1nXc6rYd5mPf0h';
    const { auth, user } = await start({ self_registration: false, bootstrap_token: token });
    const made = await auth('POST', '/auth/register', { ...user, bootstrap_token: token });
    expect(made.body.role).toBe('admin');
    const again = { ...user, username: 'second', email: 's@example.com', bootstrap_token: token };
    expect((await auth('POST', '/auth/register', again)).status).toBe(401);
  });
});

describe('signatures', () => {
  test.each(['ES256', 'RS256', 'HS256'] as const)('tokens may be signed with %s', async (algorithm) => {
    const secret = 'Zr7vQm2kXt9wLp4sHd8nBc3fJg6yTe1u';
    const tokens = algorithm === 'HS256' ? { algorithm, secret } : { algorithm };
    const { auth, user, login } = await start({ tokens });
    await auth('POST', '/auth/register', user);
    const { body } = await login('maria', PASSWORD);
    const header = JSON.parse(Buffer.from(body.access_token.split('.')[0], 'base64url').toString());
    expect(header).toMatchObject({ alg: algorithm, typ: 'at+jwt' });
    expect((await auth('GET', '/auth/me', undefined, bearer(body.access_token))).status).toBe(200);
    const { body: set } = await auth('GET', '/.well-known/jwks.json');
    expect(set.keys.map(({ alg }: { alg: string }) => alg)).toEqual(algorithm === 'HS256' ? [] : [algorithm]);
  });
});
