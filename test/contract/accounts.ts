/** What every gateway that keeps accounts does, whatever its database is: from the registration to the end. */
import { createPublicKey, verify as verifySignature } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { ACCOUNTS, type Auth, authClient, bearer, IDENTITY, PASSWORD } from '../helpers/accounts.ts';
import type { PartialConfig, TestGateway } from '../helpers/gateway.ts';
import { startGateway } from '../helpers/gateway.ts';
import { verifies } from '../helpers/verifies.ts';

/** @param stores settings of the database, asked for when the first test runs */
export function accountsContract(name: string, stores: () => Promise<PartialConfig['stores']>): void {
  describe(`accounts over ${name}`, () => accountTests(stores));
}

function accountTests(stores: () => Promise<PartialConfig['stores']>): void {
  let gateway: TestGateway;
  let other: TestGateway;
  let auth: Auth;
  let elsewhere: Auth;
  let count = 0;

  beforeAll(async () => {
    const config = { identity: IDENTITY, accounts: ACCOUNTS, stores: await stores() };
    gateway = await startGateway(config);
    other = await startGateway(config);
    auth = authClient(gateway.url);
    elsewhere = authClient(other.url);
  }, 60_000);
  afterAll(async () => {
    await gateway?.[Symbol.asyncDispose]();
    await other?.[Symbol.asyncDispose]();
  });

  const fresh = () => ({ username: `user_${++count}`, email: `user_${count}@example.com`, password: PASSWORD });

  async function loggedIn() {
    const user = fresh();
    const { body: account } = await auth('POST', '/auth/register', user);
    const { body: pair } = await auth('POST', '/auth/login', { username: user.username, password: user.password });
    return { ...user, account, pair, headers: bearer(pair.access_token) };
  }

  const part = (token: string, at: number) =>
    JSON.parse(Buffer.from(token.split('.')[at] ?? '', 'base64url').toString());

  describe('an account', () => {
    test('is called like nobody else, nor so that it could be taken for somebody else', async () => {
      const { email, password } = fresh();
      const register = (username: string) =>
        auth('POST', '/auth/register', { username, email: username === 'paul_one' ? email : `x${email}`, password });
      expect((await register('paul_one')).status).toBe(201);
      for (const name of ['PAUL_ONE', 'pauI_one', 'pau1-one', 'paul.0ne']) {
        expect([name, (await register(name)).status]).toEqual([name, 409]);
      }
      for (const name of ['paul_one.', '_paul_one', 'paul__one', 'ｐaul_one', 'paul_one ', 'paul_ｏne'])
        expect([name, (await register(name)).status]).toEqual([name, 422]);
      expect((await register('paula_one')).status).toBe(201);
      for (const username of ['paul_one', 'ｐａｕｌ_one'])
        expect((await auth('POST', '/auth/login', { username, password })).status).toBe(200);
    });

    test('is registered with its facts and without a hash', async () => {
      verifies('V-06', 'VW-01');
      const user = { ...fresh(), full_name: 'John Doe' };
      const { status, body } = await auth('POST', '/auth/register', user);
      expect(status).toBe(201);
      expect(body).toEqual({
        id: expect.stringMatching(/^usr_/),
        username: user.username,
        email: user.email,
        full_name: 'John Doe',
        role: 'user',
        is_active: true,
        is_verified: false,
        created_at: expect.stringMatching(/^\d{4}-.*Z$/),
        last_login: null,
      });
      const again = await auth('POST', '/auth/register', { ...user, email: 'other@example.com' });
      const taken = { title: 'The name or address is taken', error: { code: 'NAME_TAKEN' } };
      expect(again).toMatchObject({ status: 409, body: taken });
      expect((await auth('POST', '/auth/register', { ...fresh(), email: user.email.toUpperCase() })).status).toBe(409);
    });

    test('logs in and is known by its token', async () => {
      verifies('V-07', 'V-11', 'V-18', 'VF-13');
      const { account, pair, headers, username } = await loggedIn();
      expect(pair).toEqual({
        access_token: expect.any(String),
        refresh_token: expect.any(String),
        token_type: 'bearer',
        expires_in: 86_400,
        user_id: account.id,
        username,
        role: 'user',
      });
      const claims = part(pair.access_token, 1);
      expect(claims).toMatchObject({ sub: account.id, username, role: 'user', typ: 'access' });
      expect(claims.exp - claims.iat).toBe(86_400);
      expect(claims.jti).toMatch(/^tok_/);
      const me = await auth('GET', '/auth/me', undefined, headers);
      expect(me.status).toBe(200);
      expect(me.body).toMatchObject({ id: account.id, username, roles: ['user'], role: 'user', is_active: true });
      expect(me.body.last_login).not.toBeNull();
      expect(me.body.permissions).toContain('tasks.delete');
      expect((await auth('GET', '/auth/me')).status).toBe(401);
    });

    test('is nobody’s under a name with characters that databases do not take', async () => {
      for (const username of ['\0', 'user_1\0', 'a\0b']) {
        for (const more of [{}, { otp: '000000' }]) {
          const { status, body } = await auth('POST', '/auth/login', { username, password: PASSWORD, ...more });
          expect([status, body.error.code]).toEqual([401, 'INVALID_CREDENTIALS']);
        }
      }
    });

    test('its tokens can be checked with the published keys', async () => {
      verifies('VF-02');
      const { pair } = await loggedIn();
      const { status, body, headers } = await auth('GET', '/.well-known/jwks.json');
      expect(status).toBe(200);
      expect(headers.get('content-type')).toContain('application/jwk-set+json');
      const header = part(pair.access_token, 0);
      const jwk = body.keys.find((key: { kid: string }) => key.kid === header.kid);
      expect(jwk).toMatchObject({ kty: 'OKP', crv: 'Ed25519', alg: 'EdDSA', use: 'sig' });
      expect(JSON.stringify(body)).not.toContain('"d"');
      const cut = pair.access_token.lastIndexOf('.');
      const signature = Buffer.from(pair.access_token.slice(cut + 1), 'base64url');
      const key = createPublicKey({ key: jwk, format: 'jwk' });
      expect(verifySignature(null, Buffer.from(pair.access_token.slice(0, cut)), key, signature)).toBe(true);
    });

    test('a refresh gives a new pair; the old token is dead and its use ends the session', async () => {
      verifies('V-09', 'V-28', 'VF-05', 'VF-07');
      const { pair } = await loggedIn();
      const refreshed = await auth('POST', '/auth/refresh', { refresh_token: pair.refresh_token });
      expect(refreshed.status).toBe(200);
      expect(Object.keys(refreshed.body).sort()).toEqual(Object.keys(pair).sort());
      expect(refreshed.body.refresh_token).not.toBe(pair.refresh_token);
      const next = bearer(refreshed.body.access_token);
      expect((await auth('GET', '/auth/me', undefined, next)).status).toBe(200);
      const reused = await auth('POST', '/auth/refresh', { refresh_token: pair.refresh_token });
      expect(reused.status).toBe(401);
      expect((await auth('POST', '/auth/refresh', { refresh_token: refreshed.body.refresh_token })).status).toBe(401);
      expect((await auth('GET', '/auth/me', undefined, next)).status).toBe(401);
      const query = await auth('POST', `/auth/refresh?refresh_token=${pair.refresh_token}`);
      expect(query.status).toBe(422);
      const events = await gateway.audited((all) =>
        all.some(
          (event) => event.event_type === 'suspicious_activity' && event.activity_type === 'refresh_token_reused',
        ),
      );
      expect(events.length).toBeGreaterThan(0);
    });

    test('two refreshes at the same moment get the same answer and end nothing', async () => {
      const { pair } = await loggedIn();
      const ask = () => auth('POST', '/auth/refresh', { refresh_token: pair.refresh_token });
      const answers = await Promise.all(Array.from({ length: 6 }, ask));
      const good = answers.filter(({ status }) => status === 200);
      expect(good.length).toBeGreaterThan(0);
      const last = good.at(-1)?.body.refresh_token as string;
      if (answers.every(({ status }) => status === 200)) {
        expect(new Set(good.map(({ body }) => body.refresh_token)).size).toBe(1);
        expect((await auth('POST', '/auth/refresh', { refresh_token: last })).status).toBe(200);
      }
    });

    test('a form is taken for a refresh as well', async () => {
      verifies('VF-07');
      const { pair } = await loggedIn();
      const response = await fetch(`${gateway.url}/auth/refresh`, {
        method: 'POST',
        body: new URLSearchParams({ refresh_token: pair.refresh_token }),
      });
      expect(response.status).toBe(200);
    });

    test('neither token does the work of the other', async () => {
      verifies('VF-06');
      const { pair } = await loggedIn();
      expect((await auth('GET', '/auth/me', undefined, bearer(pair.refresh_token))).status).toBe(401);
      expect((await auth('POST', '/auth/refresh', { refresh_token: pair.access_token })).status).toBe(401);
    });

    test('logout ends the session, its tokens and nothing else', async () => {
      verifies('V-10', 'VF-03', 'VF-04', 'VF-05');
      const one = await loggedIn();
      const { body: other } = await auth('POST', '/auth/login', { username: one.username, password: one.password });
      expect((await auth('POST', '/auth/logout', undefined, one.headers)).status).toBe(204);
      expect((await auth('GET', '/auth/me', undefined, one.headers)).status).toBe(401);
      expect((await auth('POST', '/auth/refresh', { refresh_token: one.pair.refresh_token })).status).toBe(401);
      expect((await auth('GET', '/auth/me', undefined, bearer(other.access_token))).status).toBe(200);
    });

    test('a changed password ends the other sessions and may not come back', async () => {
      verifies('V-12', 'V-24', 'VF-18');
      const one = await loggedIn();
      const { body: other } = await auth('POST', '/auth/login', { username: one.username, password: one.password });
      const change = (current: string, next: string) =>
        auth('POST', '/auth/change-password', { current_password: current, new_password: next }, one.headers);
      expect((await change('not the password', 'Another-Lamp-Harbour-43')).status).toBe(401);
      const back = await change(PASSWORD, PASSWORD);
      expect(back.status).toBe(422);
      expect(back.body.error.code).toBe('WEAK_PASSWORD');
      expect((await change(PASSWORD, 'Another-Lamp-Harbour-43')).status).toBe(204);
      expect((await auth('GET', '/auth/me', undefined, one.headers)).status).toBe(200);
      expect((await auth('GET', '/auth/me', undefined, bearer(other.access_token))).status).toBe(401);
      expect((await auth('POST', '/auth/refresh', { refresh_token: other.refresh_token })).status).toBe(401);
      const words = ['Another-Lamp-Harbour-44', 'Another-Lamp-Harbour-45', 'Another-Lamp-Harbour-46'];
      let current = 'Another-Lamp-Harbour-43';
      for (const next of words) {
        expect((await change(current, next)).status).toBe(204);
        current = next;
      }
      // The first one is the fifth, counted back from the present one.
      expect((await change(current, PASSWORD)).status).toBe(422);
      expect((await change(current, 'Another-Lamp-Harbour-47')).status).toBe(204);
      expect((await change('Another-Lamp-Harbour-47', PASSWORD)).status).toBe(204);
    });

    test('an account that is deleted is gone with its tokens', async () => {
      const one = await loggedIn();
      expect((await auth('POST', '/auth/delete-account', { current_password: 'wrong' }, one.headers)).status).toBe(401);
      expect((await auth('POST', '/auth/delete-account', { current_password: PASSWORD }, one.headers)).status).toBe(
        204,
      );
      expect((await auth('GET', '/auth/me', undefined, one.headers)).status).toBe(401);
      const login = await auth('POST', '/auth/login', { username: one.username, password: PASSWORD });
      expect(login.status).toBe(401);
    });

    test('an error says what happened in `detail` and in `error`', async () => {
      const { status, body, headers } = await auth('POST', '/auth/login', { username: 'nobody', password: 'wrong' });
      expect(status).toBe(401);
      expect(headers.get('content-type')).toContain('application/problem+json');
      expect(headers.get('www-authenticate')).toContain('Bearer');
      expect(body).toMatchObject({ detail: 'Invalid username or password', error: { code: 'INVALID_CREDENTIALS' } });
      const token = await auth('POST', '/auth/refresh', { refresh_token: 'nonsense' });
      expect(token.body.detail).toBe('Invalid token');
    });
  });

  describe('two gateways over one database', () => {
    test('read each other’s tokens, and a logout on one is one on the other within a second', async () => {
      verifies('V-10', 'VF-01', 'VF-03');
      const one = await loggedIn();
      expect((await elsewhere('GET', '/auth/me', undefined, one.headers)).status).toBe(200);
      expect((await auth('POST', '/auth/logout', undefined, one.headers)).status).toBe(204);
      const endedAt = Date.now();
      await vi.waitFor(
        async () => expect((await elsewhere('GET', '/auth/me', undefined, one.headers)).status).toBe(401),
        { interval: 20, timeout: 3000 },
      );
      expect(Date.now() - endedAt).toBeLessThan(1000);
      expect((await elsewhere('POST', '/auth/refresh', { refresh_token: one.pair.refresh_token })).status).toBe(401);
    });

    test('a refresh token that was used on one is dead on the other', async () => {
      const { pair } = await loggedIn();
      const first = await auth('POST', '/auth/refresh', { refresh_token: pair.refresh_token });
      expect(first.status).toBe(200);
      expect((await elsewhere('POST', '/auth/refresh', { refresh_token: pair.refresh_token })).status).toBe(401);
      expect((await auth('POST', '/auth/refresh', { refresh_token: first.body.refresh_token })).status).toBe(401);
    });

    test('of refreshes on both at once one goes on at most, and nobody has two successors', async () => {
      const { pair } = await loggedIn();
      const ask = (client: Auth) => client('POST', '/auth/refresh', { refresh_token: pair.refresh_token });
      const answers = await Promise.all([ask(auth), ask(elsewhere), ask(auth), ask(elsewhere)]);
      const successors = new Set(answers.flatMap(({ status, body }) => (status === 200 ? [body.refresh_token] : [])));
      expect(successors.size).toBeLessThanOrEqual(1);
      expect(answers.every(({ status }) => [200, 401, 409].includes(status))).toBe(true);
    });
  });
}
