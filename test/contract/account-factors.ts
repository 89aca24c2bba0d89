/** Second factors and browser sessions, whatever the database is: what holds on one gateway holds on the other. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { ACCOUNTS, type Auth, authClient, bearer, PASSWORD } from '../helpers/accounts.ts';
import type { PartialConfig, TestGateway } from '../helpers/gateway.ts';
import { dataWithoutLimits, POLICIES, startGateway } from '../helpers/gateway.ts';
import { freePorts, temporaryDirectory } from '../helpers/processes.ts';
import { appCode } from '../helpers/second-factor.ts';
import { verifies } from '../helpers/verifies.ts';

const IDENTITY = {
  accounts: { kind: 'local', cookies: true },
  strict: { kind: 'local' },
  keys: { kind: 'api-key', prefixes: ['pc', 'vllm'] },
} as const;
const STEP = 30_000;
const NEXT_PASSWORD = 'Another-Lamp-Harbour-43';

/** What one gateway tells the others, by way of the store, is there within a second. */
const soon = (check: () => Promise<void>) => vi.waitFor(check, { interval: 20, timeout: 1000 });

/** @param stores settings of the database, asked for when the first test runs */
export function factorsContract(name: string, stores: () => Promise<PartialConfig['stores']>): void {
  describe(`second factors and browsers over ${name}`, () => factorTests(stores));
}

function factorTests(stores: () => Promise<PartialConfig['stores']>): void {
  const directory = temporaryDirectory();
  let gateway: TestGateway;
  let other: TestGateway;
  let auth: Auth;
  let elsewhere: Auth;
  let site: string;
  let count = 0;
  /** Milliseconds the clocks of both gateways are ahead. */
  let ahead = 0;
  const now = () => Date.now() + ahead;

  beforeAll(async () => {
    const [port = 0, second = 0] = await freePorts(2);
    site = `http://127.0.0.1:${port}`;
    const data = join(directory.path, 'data.json');
    writeFileSync(data, await dataWithoutLimits());
    const policy = { bundle: POLICIES, data, watch: false, decision_log: { file: './decisions.jsonl' } };
    const common = { public_url: site, identity: IDENTITY, stores: await stores(), policy };
    const listen = (at: number) => ({ data: `127.0.0.1:${at}`, admin: { address: '127.0.0.1:0' } });
    const clock = { clock: { now } };
    const sessions = { idle_seconds: 600, absolute_seconds: 1800 };
    const tokens = { access_seconds: 900 };
    gateway = await startGateway(
      { ...common, accounts: { ...ACCOUNTS, sessions, tokens }, listen: listen(port) },
      clock,
    );
    // The same accounts, under a stricter rule.
    const mfa = { required_roles: ['user'], issuer: 'Elsewhere' };
    const strict = { ...ACCOUNTS, sessions, tokens, mfa };
    other = await startGateway({ ...common, accounts: strict, listen: listen(second) }, clock);
    auth = authClient(gateway.url);
    elsewhere = authClient(other.url);
  }, 60_000);
  // A step that ends in the middle of a test would make its code one of the step before.
  beforeEach(() => {
    ahead += STEP - (now() % STEP);
  });
  afterAll(async () => {
    await gateway?.[Symbol.asyncDispose]();
    await other?.[Symbol.asyncDispose]();
    directory[Symbol.dispose]();
  });

  const login = (username: string, more: object = {}, client = auth) =>
    client('POST', '/auth/login', { username, password: PASSWORD, ...more });
  const me = (headers: Readonly<Record<string, string>>, client = auth) =>
    client('GET', '/auth/me', undefined, headers);

  async function registered() {
    const username = `person_${++count}`;
    await auth('POST', '/auth/register', { username, email: `${username}@example.com`, password: PASSWORD });
    return username;
  }

  /** An account with a second factor, and the session that enrolled it. The step of its first code is used up. */
  async function enrolled() {
    const username = await registered();
    const { body: pair } = await login(username);
    const headers = bearer(pair.access_token);
    const begun = await auth('POST', '/auth/mfa/totp', { current_password: PASSWORD }, headers);
    const secret: string = begun.body.secret;
    const done = await auth('POST', '/auth/mfa/totp/confirm', { code: appCode(secret, now()) }, headers);
    expect([begun.status, done.status]).toEqual([201, 200]);
    return { username, pair, headers, secret, begun: begun.body, codes: done.body.recovery_codes as string[] };
  }

  const claimsOf = (token: string) => JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());

  describe('a second factor', () => {
    test('is asked for after the right password only, and makes the session one of two factors', async () => {
      verifies('VW-06');
      const { username, begun, codes, secret } = await enrolled();
      expect(begun.otpauth_uri).toContain(`otpauth://totp/Portcullis:${username}?secret=${secret}&issuer=Portcullis`);
      expect(new Set(codes).size).toBe(10);
      const missing = await login(username);
      expect(missing.status).toBe(401);
      expect(missing.body.error.code).toBe('SECOND_FACTOR_REQUIRED');
      expect(missing.headers.get('www-authenticate')).toContain('Bearer');
      const wrong = [
        await login(username, { password: 'not the password' }),
        await login(username, { password: 'not the password', otp: appCode(secret, now() + STEP) }),
        await login(username, { otp: '000000' }),
        await login(username, { recovery_code: 'AAAA-BBBB-CCCC-DDDD' }),
        await login('nobody_at_all', { otp: '000000' }),
      ];
      for (const { status, body } of wrong) {
        expect([status, body.error.code, body.detail]).toEqual([
          401,
          'INVALID_CREDENTIALS',
          'Invalid username or password',
        ]);
      }
      expect((await login(username, { otp: '000000', recovery_code: codes[0] })).status).toBe(422);
      const { status, body: pair } = await login(username, { otp: appCode(secret, now() + STEP) });
      expect(status).toBe(200);
      expect(claimsOf(pair.access_token)).toMatchObject({ amr: ['pwd', 'otp', 'mfa'], auth_time: expect.any(Number) });
      const shown = await me(bearer(pair.access_token));
      expect(shown.body.auth).toMatchObject({ mfa_verified: true, mfa_at: expect.any(Number) });
      const { body: next } = await auth('POST', '/auth/refresh', { refresh_token: pair.refresh_token });
      expect(claimsOf(next.access_token).amr).toEqual(['pwd', 'otp', 'mfa']);
      expect((await me(bearer(next.access_token))).body.auth.mfa_verified).toBe(true);
    });

    test('is what the policy reads of its sessions, and of no others', async () => {
      const asked = { permission: 'tasks.read' };
      const plain = await registered();
      const { body: pair } = await login(plain);
      expect(claimsOf(pair.access_token).amr).toEqual(['pwd']);
      await auth('POST', '/auth/verify-permission', asked, bearer(pair.access_token));
      const { username, headers } = await enrolled();
      await auth('POST', '/auth/verify-permission', asked, headers);
      const said = async (name: string) => {
        const line = (await gateway.decisions()).split('\n').findLast((text) => text.includes(`"${name}"`));
        return line === undefined ? null : JSON.parse(line).input.user.mfa_verified;
      };
      await vi.waitFor(async () => expect([await said(plain), await said(username)]).toEqual([false, true]), {
        timeout: 3000,
      });
    });

    test('has codes that are good once, a step early or late, on whichever gateway', async () => {
      const { username, secret } = await enrolled();
      ahead += 10 * STEP;
      const at = now();
      const tooFar = [await login(username, { otp: appCode(secret, at - 2 * STEP) })];
      tooFar.push(await login(username, { otp: appCode(secret, at + 3 * STEP) }));
      expect(tooFar.map(({ status }) => status)).toEqual([401, 401]);
      expect((await login(username, { otp: appCode(secret, at - STEP) })).status).toBe(200);
      expect((await login(username, { otp: appCode(secret, at - STEP) }, elsewhere)).status).toBe(401);
      const code = appCode(secret, at);
      const answers = await Promise.all(
        [auth, elsewhere, auth, elsewhere].map((one) => login(username, { otp: code }, one)),
      );
      expect(answers.map(({ status }) => status).sort()).toEqual([200, 401, 401, 401]);
      // What is older than a code that was taken is not taken any more.
      expect((await login(username, { otp: appCode(secret, at - STEP) })).status).toBe(401);
    });

    test('cannot be guessed: five wrong codes lock it, whatever gateway and way they come by', async () => {
      const { username, secret, headers } = await enrolled();
      ahead += 10 * STEP;
      const wrong = (i: number) => String((Number(appCode(secret, now())) + 7 + i) % 1_000_000).padStart(6, '0');
      const guesses = [
        ...Array.from(
          { length: 20 },
          (_, i) => () => login(username, { otp: wrong(i) }, i % 2 === 0 ? auth : elsewhere),
        ),
        ...Array.from(
          { length: 20 },
          (_, i) => () => auth('POST', '/auth/mfa/verify', { otp: wrong(20 + i) }, headers),
        ),
        ...Array.from({ length: 20 }, (_, i) => () => login(username, { recovery_code: `AAAA-BBBB-CCCC-${i}` })),
      ];
      const seen: number[] = [];
      for (const guess of guesses) seen.push((await guess()).status);
      const accepted = seen.filter((status) => status === 200).length;
      console.info(
        `tried ${seen.length} wrong codes: wrong accepts ${accepted}, looked at ${seen.filter((s) => s === 401).length}`,
      );
      expect(accepted).toBe(0);
      expect(seen.filter((status) => status === 401).length).toBe(5);
      expect(seen.slice(5).every((status) => status === 423)).toBe(true);
      expect((await login(username, { otp: appCode(secret, now()) })).status).toBe(423);
      // Who does not know the password learns nothing of it, and the owner is let in again in time.
      expect((await login(username, { password: 'not the password' })).status).toBe(401);
      ahead += 901_000;
      expect((await login(username, { otp: appCode(secret, now()) })).status).toBe(200);
    });

    test('has recovery codes that are good once, and can be made anew', async () => {
      const { username, secret, codes, headers } = await enrolled();
      const [first = '', second = ''] = codes;
      const tries = await Promise.all([auth, elsewhere].map((one) => login(username, { recovery_code: first }, one)));
      expect(tries.map(({ status }) => status).sort()).toEqual([200, 401]);
      expect((await auth('GET', '/auth/mfa', undefined, headers)).body).toMatchObject({
        ...{ enabled: true, recovery_codes_left: 9, required: false, mfa_verified: true },
      });
      ahead += 2 * STEP;
      const renew = (body: object) => auth('POST', '/auth/mfa/recovery-codes', body, headers);
      expect((await renew({ current_password: PASSWORD })).status).toBe(401);
      const renewed = await renew({ current_password: PASSWORD, otp: appCode(secret, now()) });
      expect(renewed.body.recovery_codes).toHaveLength(10);
      expect((await login(username, { recovery_code: second })).status).toBe(401);
      // However it is typed.
      const typed = String(renewed.body.recovery_codes[0]).toLowerCase().replaceAll('-', ' ');
      expect((await login(username, { recovery_code: typed })).status).toBe(200);
    });

    test('ends the other sessions when it comes, and goes only with password and code', async () => {
      const username = await registered();
      const { body: before } = await login(username);
      const { body: mine } = await login(username);
      const headers = bearer(mine.access_token);
      expect((await auth('POST', '/auth/mfa/totp', { current_password: 'wrong' }, headers)).status).toBe(401);
      const { body } = await auth('POST', '/auth/mfa/totp', { current_password: PASSWORD }, headers);
      const confirm = (code: string) => auth('POST', '/auth/mfa/totp/confirm', { code }, headers);
      expect((await confirm('12345')).status).toBe(422);
      // Begun is not confirmed.
      expect((await login(username)).status).toBe(200);
      expect((await confirm(appCode(body.secret, now()))).status).toBe(200);
      expect((await confirm(appCode(body.secret, now() + STEP))).status).toBe(409);
      expect((await auth('POST', '/auth/mfa/totp', { current_password: PASSWORD }, headers)).status).toBe(409);
      await soon(async () => expect((await me(bearer(before.access_token))).status).toBe(401));
      await soon(async () => expect((await me(headers)).body.auth.mfa_verified).toBe(true));
      ahead += 2 * STEP;
      const disable = (proof: object) => auth('POST', '/auth/mfa/totp/disable', proof, headers);
      const otp = appCode(body.secret, now());
      expect((await disable({ current_password: PASSWORD })).body.error.code).toBe('SECOND_FACTOR_REQUIRED');
      expect((await disable({ current_password: 'wrong', otp })).status).toBe(401);
      expect((await disable({ current_password: PASSWORD, otp: '000000' })).status).toBe(401);
      expect((await disable({ current_password: PASSWORD, otp })).status).toBe(204);
      await soon(async () => expect((await me(headers)).body.auth.mfa_verified).toBe(false));
      expect((await login(username)).status).toBe(200);
    });

    test('can be shown again in a session that lives', async () => {
      const { secret, headers } = await enrolled();
      const first = (await me(headers)).body.auth.mfa_at;
      ahead += 4 * STEP;
      const otp = appCode(secret, now());
      expect((await auth('POST', '/auth/mfa/verify', { otp }, headers)).body).toMatchObject({ mfa_verified: true });
      expect((await auth('POST', '/auth/mfa/verify', { otp }, headers)).status).toBe(401);
      await soon(async () => expect((await me(headers)).body.auth.mfa_at).toBeGreaterThan(first + 100));
      const plain = bearer((await login(await registered())).body.access_token);
      expect((await auth('POST', '/auth/mfa/verify', { otp }, plain)).status).toBe(409);
    });

    test('of a role that needs one is all that a login without it can make', async () => {
      const username = await registered();
      const { body: pair } = await login(username, {}, elsewhere);
      expect(pair).toMatchObject({ role: 'user', mfa_enrolment_required: true });
      expect(claimsOf(pair.access_token)).toMatchObject({ role: 'second-factor-missing', amr: ['pwd'] });
      const headers = bearer(pair.access_token);
      const shut = [
        await elsewhere('GET', '/auth/api-keys', undefined, headers),
        await elsewhere('POST', '/auth/api-keys', { name: 'k', permissions: [] }, headers),
        await elsewhere('GET', '/auth/verify', undefined, headers),
        await elsewhere('GET', '/tools', undefined, headers),
      ];
      for (const { status, body } of shut) expect([status, body?.error.code]).toEqual([403, 'MFA_REQUIRED']);
      expect((await me(headers, elsewhere)).body).toMatchObject({ roles: [], permissions: [] });
      expect((await elsewhere('GET', '/auth/mfa', undefined, headers)).body).toMatchObject({ required: true });
      const { body } = await elsewhere('POST', '/auth/mfa/totp', { current_password: PASSWORD }, headers);
      const code = appCode(body.secret, now());
      expect((await elsewhere('POST', '/auth/mfa/totp/confirm', { code }, headers)).status).toBe(200);
      await soon(async () => expect((await elsewhere('GET', '/auth/api-keys', undefined, headers)).status).toBe(200));
      const next = await elsewhere('POST', '/auth/refresh', { refresh_token: pair.refresh_token });
      expect(claimsOf(next.body.access_token)).toMatchObject({ role: 'user', amr: ['pwd', 'otp', 'mfa'] });
    });
  });

  describe('a browser', () => {
    const own = () => ({ origin: site });

    async function begun(username: string, more: object = {}, headers: Readonly<Record<string, string>> = {}) {
      const body = { username, password: PASSWORD, ...more };
      const answer = await auth('POST', '/auth/session', body, { ...own(), ...headers });
      const line = answer.headers.get('set-cookie') ?? '';
      return { ...answer, line, cookie: { cookie: line.split(';')[0] ?? '' } };
    }

    test('gets a cookie that no script reads and no other site sends, and nothing else to keep', async () => {
      const username = await registered();
      const { status, line, body, cookie } = await begun(username);
      expect(status).toBe(200);
      expect(line).toMatch(/^portcullis=pcs_[\w-]{43}; Path=\/; Max-Age=1800; HttpOnly; SameSite=Strict$/);
      expect(Object.keys(body).sort()).toEqual(['expires_in', 'role', 'user_id', 'username']);
      for (const client of [auth, elsewhere]) {
        const shown = await me(cookie, client);
        expect(shown.status).toBe(200);
        expect(shown.body.auth).toMatchObject({ method: 'session', mfa_verified: false });
      }
      expect((await auth('GET', '/auth/api-keys', undefined, cookie)).status).toBe(200);
      // The other gateway asks for more than a password.
      expect((await elsewhere('GET', '/auth/api-keys', undefined, cookie)).body.error.code).toBe('MFA_REQUIRED');
    });

    test('changes nothing for a page of another site', async () => {
      const { cookie } = await begun(await registered());
      const make = (headers: Record<string, string>) =>
        auth('POST', '/auth/verify-permission', { permission: 'tasks.read' }, { ...cookie, ...headers });
      const foreign: Record<string, string>[] = [
        {},
        { origin: 'https://evil.example' },
        { origin: 'null' },
        { origin: `${site}.evil.example` },
        { 'sec-fetch-site': 'cross-site' },
        { 'sec-fetch-site': 'same-site' },
        { 'sec-fetch-site': 'none' },
      ];
      for (const headers of foreign) {
        const { status, body } = await make(headers);
        expect([headers, status, body.error.code]).toEqual([headers, 403, 'ORIGIN_DENIED']);
        const end = await auth('DELETE', '/auth/session', undefined, { ...cookie, ...headers });
        expect(end.status).toBe(403);
        const name = await registered();
        const login = await auth('POST', '/auth/session', { username: name, password: PASSWORD }, headers);
        expect([login.status, login.headers.get('set-cookie')]).toEqual([403, null]);
      }
      expect((await make({ origin: site })).status).toBe(200);
      expect((await make({ 'sec-fetch-site': 'same-origin' })).status).toBe(200);
    });

    test('has a new session with each login, and none after it has logged out, on every gateway', async () => {
      const username = await registered();
      const first = await begun(username);
      const second = await begun(username, {}, first.cookie);
      expect(second.cookie).not.toEqual(first.cookie);
      await soon(async () => expect((await me(first.cookie)).status).toBe(401));
      expect((await me(second.cookie, elsewhere)).status).toBe(200);
      const ended = await auth('DELETE', '/auth/session', undefined, { ...second.cookie, ...own() });
      expect(ended.status).toBe(204);
      expect(ended.headers.get('set-cookie')).toContain('Max-Age=0');
      await soon(async () => expect((await me(second.cookie)).status).toBe(401));
      await soon(async () => expect((await me(second.cookie, elsewhere)).status).toBe(401));
      // A dead cookie keeps nobody from logging in.
      expect((await begun(username, {}, second.cookie)).status).toBe(200);
      const forged = { cookie: `portcullis=pcs_${'A'.repeat(43)}` };
      expect((await me(forged)).status).toBe(401);
    });

    test('shows a second factor where there is one', async () => {
      const { username, secret } = await enrolled();
      const missing = await begun(username);
      expect([missing.status, missing.body.error.code, missing.line]).toEqual([401, 'SECOND_FACTOR_REQUIRED', '']);
      const { cookie } = await begun(username, { otp: appCode(secret, now() + STEP) });
      expect((await me(cookie)).body.auth).toMatchObject({ method: 'session', mfa_verified: true });
    });

    test('is forgotten when it is idle, and in the end however busy it is', async () => {
      const username = await registered();
      const { cookie: idle } = await begun(username);
      const { cookie: busy } = await begun(username);
      for (const minutes of [5, 4]) {
        ahead += minutes * 60_000;
        expect((await me(busy)).status).toBe(200);
      }
      ahead += 120_000;
      expect([(await me(idle)).status, (await me(busy)).status]).toEqual([401, 200]);
      for (const status of [200, 200, 401]) {
        ahead += 540_000;
        expect((await me(busy)).status).toBe(status);
      }
    });

    test('is logged out everywhere when the password is changed somewhere else', async () => {
      verifies('VF-18');
      const username = await registered();
      const { cookie } = await begun(username);
      const { body: pair } = await login(username);
      for (const client of [auth, elsewhere]) expect((await me(cookie, client)).status).toBe(200);
      const words = { current_password: PASSWORD, new_password: NEXT_PASSWORD };
      expect((await auth('POST', '/auth/change-password', words, bearer(pair.access_token))).status).toBe(204);
      await soon(async () => expect((await me(cookie)).status).toBe(401));
      await soon(async () => expect((await me(cookie, elsewhere)).status).toBe(401));
    });
  });
}
