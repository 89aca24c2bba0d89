/** Limits, ends and second factors of agents' logins, with a clock that the test moves. */
import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { codeOf, fromBase32, stepAt } from '../../src/accounts/totp.ts';
import { ACCOUNTS, type Auth, authClient, bearer, PASSWORD, steppedClock } from '../helpers/accounts.ts';
import {
  authorization,
  CALLBACK,
  fill,
  locationOf,
  PlainBrowser,
  postForm,
  type RegisteredClient,
  registerClient,
  toCallback,
} from '../helpers/agent-login.ts';
import { startGateway, type TestGateway } from '../helpers/gateway.ts';
import { freePorts } from '../helpers/processes.ts';

const clock = steppedClock(Date.now());
let gateway: TestGateway;
let base: string;
let auth: Auth;

beforeAll(async () => {
  const [port = 0] = await freePorts(1);
  base = `http://127.0.0.1:${port}`;
  gateway = await startGateway(
    {
      public_url: base,
      listen: { data: `127.0.0.1:${port}`, admin: { address: '127.0.0.1:0' } },
      identity: { accounts: { kind: 'local' } },
      accounts: {
        ...ACCOUNTS,
        authorization_server: {
          ...{ enabled: true, requests_per_minute: 8, client_documents: { enabled: false } },
          registration: { per_hour: 5, max_clients: 5 },
        },
      },
    },
    { clock },
  );
  auth = authClient(base);
  await auth('POST', '/auth/register', { username: 'dana', email: 'dana@example.com', password: PASSWORD });
});

afterAll(() => gateway?.[Symbol.asyncDispose]());

const registered = async (more = {}) => (await (await registerClient(base, more)).json()) as RegisteredClient;

async function redeem(client: RegisteredClient, headers = {}, more = {}) {
  const { url, verifier } = authorization(base, client.client_id, base);
  const landed = await toCallback(new PlainBrowser(base), url, 'dana', PASSWORD);
  const code = landed.searchParams.get('code') ?? '';
  const form = { grant_type: 'authorization_code', code, redirect_uri: CALLBACK, code_verifier: verifier, ...more };
  return postForm(base, '/oauth/token', form, headers);
}

describe('clients', () => {
  test('may have a secret, shown in the header; without it the code is worth nothing', async () => {
    const client = await registered({ token_endpoint_auth_method: 'client_secret_basic' });
    const basic = (secret = '') => ({
      authorization: `Basic ${btoa(`${client.client_id}:${encodeURIComponent(secret)}`)}`,
    });
    expect((await redeem(client, basic(client.client_secret))).status).toBe(200);
    expect((await redeem(client, basic('wrong'))).body).toMatchObject({ error: 'invalid_client' });
    expect((await redeem(client, {}, { client_id: client.client_id })).body).toMatchObject({ error: 'invalid_client' });
    clock.advance(60_000);
  });

  test('that were let in everywhere call what is behind the gateway, and nothing of its owner’s', async () => {
    const { client_id } = await registered();
    const { body } = await redeem({ client_id }, {}, { client_id });
    const headers = bearer(body.access_token ?? '');
    expect((await auth('GET', '/tools', undefined, headers)).status).toBe(200);
    for (const path of ['/auth/me', '/auth/api-keys', '/approvals'])
      expect((await auth('GET', path, undefined, headers)).status).toBe(401);
    clock.advance(25 * 3_600_000);
  });

  test('are forgotten when nobody lets them in; those that were let in stay', async () => {
    const used = await registered();
    const unused = await registered();
    expect((await redeem(used, {}, { client_id: used.client_id })).status).toBe(200);
    clock.advance(25 * 3_600_000);
    const ask = (client: RegisteredClient) =>
      new PlainBrowser(base).go(authorization(base, client.client_id, base).url);
    expect((await ask(used)).status).toBe(303);
    expect((await ask(unused)).status).toBe(400);
  });

  test('are a bounded number, over all and for each address', async () => {
    const statuses: number[] = [];
    for (let i = 0; i < 6; i++) statuses.push((await registerClient(base)).status);
    // Two of the earlier ones are still there.
    expect(statuses.slice(0, 2)).toEqual([201, 201]);
    expect(statuses.slice(2, 5).every((status) => status >= 400 && status !== 429)).toBe(true);
    expect(statuses[5]).toBe(429);
  });

  test('begin a bounded number of logins a minute', async () => {
    clock.advance(60_000);
    const query = new URLSearchParams({ client_id: 'x', code_challenge: createHash('sha256').digest('base64url') });
    const statuses: number[] = [];
    for (let i = 0; i < 10; i++) statuses.push((await fetch(`${base}/oauth/authorize?${query}`)).status);
    expect(statuses.slice(-2)).toEqual([429, 429]);
    clock.advance(60_000);
  });

  test('that are documents are nobody where that is switched off', async () => {
    const { url } = authorization(base, `https://127.0.0.1:1/${randomBytes(4).toString('hex')}.json`, base);
    expect((await new PlainBrowser(base).go(url)).status).toBe(400);
  });
});

test('an account with a second factor logs in with its code, and not without', async () => {
  clock.advance(3_600_000);
  const { body: pair } = await auth('POST', '/auth/login', { username: 'dana', password: PASSWORD });
  const owner = bearer(pair.access_token);
  const { body: enrolled } = await auth('POST', '/auth/mfa/totp', { current_password: PASSWORD }, owner);
  const code = () => codeOf(fromBase32(enrolled.secret), stepAt(clock.now()));
  expect((await auth('POST', '/auth/mfa/totp/confirm', { code: code() }, owner)).status).toBeLessThan(300);
  clock.advance(60_000);
  const client = await auth('GET', '/.well-known/jwks.json');
  expect(client.status).toBe(200);
  const { client_id } = await knownClient();
  const browser = new PlainBrowser(base);
  const login = locationOf(await browser.go(authorization(base, client_id, base).url));
  const typed = { action: 'login', username: 'dana', password: PASSWORD };
  const without = await fill(browser, login, typed);
  expect(without.status).toBe(401);
  expect(await without.text()).toContain('second factor');
  expect((await fill(browser, login, { ...typed, code: '000000' })).status).toBe(401);
  const sent = await fill(browser, login, { ...typed, code: code() });
  expect(sent.status).toBe(303);
  const consent = locationOf(await browser.go(locationOf(sent)));
  const agreed = await fill(browser, consent, { action: 'allow' });
  const landed = new URL(locationOf(await browser.go(locationOf(agreed))));
  expect(landed.searchParams.has('code')).toBe(true);
});

test('who says no sends the client away without a code, and may take another account', async () => {
  clock.advance(3_600_000);
  await auth('POST', '/auth/register', { username: 'erin', email: 'erin@example.com', password: PASSWORD });
  const { client_id } = await knownClient();
  const browser = new PlainBrowser(base);
  const { url } = authorization(base, client_id, base);
  const login = async () => {
    const at = locationOf(await browser.go(url));
    const sent = await fill(browser, at, { action: 'login', username: 'erin', password: PASSWORD });
    return locationOf(await browser.go(locationOf(sent)));
  };
  const refused = await fill(browser, await login(), { action: 'deny' });
  const away = new URL(locationOf(await browser.go(locationOf(refused))));
  expect(away.searchParams.get('error')).toBe('access_denied');
  expect(away.searchParams.has('code')).toBe(false);
  // The browser is still logged in: it goes to consent at once, from where it may log out.
  const consent = locationOf(await browser.go(url));
  const switched = await fill(browser, consent, { action: 'switch' });
  const again = locationOf(await browser.go(locationOf(switched)));
  expect(await (await browser.go(again)).text()).toContain('Username');
  const events = await gateway.audited((all) => all.some((one) => one.event_type === 'oauth_authorization_denied'));
  expect(events.filter((one) => one.event_type === 'token_revoked').length).toBeGreaterThan(0);
});

/** One of those that found room. */
async function knownClient(): Promise<RegisteredClient> {
  const made = await registerClient(base);
  if (made.status === 201) return (await made.json()) as RegisteredClient;
  clock.advance(25 * 3_600_000);
  return registered();
}
