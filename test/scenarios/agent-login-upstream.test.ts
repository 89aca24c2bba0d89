/** Agents whose users log in at another provider: who they are here, what they may, and how they are not fooled. */
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { Client, StreamableHTTPClientTransport, UnauthorizedError } from '@modelcontextprotocol/client';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ACCOUNTS, type Auth, authClient, bearer, PASSWORD } from '../helpers/accounts.ts';
import {
  authorization,
  hidden,
  letIn,
  locationOf,
  PlainBrowser,
  postForm,
  registerClient,
  toConsent,
  Wallet,
} from '../helpers/agent-login.ts';
import { countAttacks } from '../helpers/attacks.ts';
import { GATEWAY_CLIENT } from '../helpers/authorization-server.ts';
import { logIn, NO_BROWSER, openBrowser } from '../helpers/browser.ts';
import { dataWithoutLimits, type PartialConfig, POLICIES, startGateway, type TestGateway } from '../helpers/gateway.ts';
import { textOf } from '../helpers/gateway-mcp.ts';
import { type Example, freePorts, startExample, temporaryDirectory } from '../helpers/processes.ts';
import {
  administered,
  type Claims,
  OTHER_CLIENT,
  startUpstream,
  Travelling,
  type Upstream,
} from '../helpers/upstream-login.ts';
import { verifies } from '../helpers/verifies.ts';

const directory = temporaryDirectory();
let upstream: Upstream;
let gateway: TestGateway;
let base: string;
let auth: Auth;
let client: string;
let orders: Example;
let admin: { readonly id: string };
let port: number;

const ADMIN = 'keeper@example.com';
const INFO = { name: 'scenario', version: '1.0.0' };
const CALL = { name: 'execute_query', arguments: { query: 'SELECT 1 AS one' } };

/** What of an event is looked at here. */
interface Told {
  readonly event_type: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

const DATA = join(directory.path, 'data.json');

/** @param changed of the accounts and of their authorization server */
function settings(
  changed: NonNullable<PartialConfig['accounts']>['authorization_server'] = {},
  mfa: NonNullable<PartialConfig['accounts']>['mfa'] = {},
): PartialConfig {
  const staff = { kind: 'oidc', issuer: upstream.issuer, ...GATEWAY_CLIENT, role_map: { 'corp-admins': 'admin' } };
  return {
    public_url: base,
    policy: { bundle: POLICIES, data: DATA, watch: false },
    listen: { data: `127.0.0.1:${port}`, admin: { address: '127.0.0.1:0' } },
    identity: { accounts: { kind: 'local' }, corp: { ...staff, login: {} }, other: staff },
    accounts: {
      ...{ ...ACCOUNTS, mfa, roles: { developer: { permissions: ['tasks.read'] } } },
      bootstrap_token: 'Zr7vQm2kXt9wLp4sHd8nBc3fJg6yTe1u',
      authorization_server: {
        ...{ enabled: true, requests_per_minute: 10_000, providers: ['corp', 'other'] },
        ...{ provision: { roles: ['developer'] }, ...changed },
      },
    },
    servers: { orders: { type: 'sql', dialect: 'sqlite', url: orders.url } },
    routes: [{ match: '/mcp/orders', protocol: 'mcp', server: 'orders', identity: ['accounts'] }],
  };
}

beforeAll(async () => {
  orders = await startExample('orders-server');
  writeFileSync(DATA, await dataWithoutLimits());
  [port = 0] = await freePorts(1);
  base = `http://127.0.0.1:${port}`;
  upstream = await startUpstream([
    `${base}/oauth/callback/corp`,
    `${base}/oauth/callback/other`,
    `${base}/auth/oauth/callback`,
  ]);
  gateway = await startGateway(settings());
  auth = authClient(base);
  const bootstrap_token = 'Zr7vQm2kXt9wLp4sHd8nBc3fJg6yTe1u';
  const made = await auth('POST', '/auth/register', {
    username: 'keeper',
    email: ADMIN,
    password: PASSWORD,
    bootstrap_token,
  });
  expect(made.status).toBe(201);
  admin = made.body;
  client = ((await (await registerClient(base)).json()) as { client_id: string }).client_id;
  expect(client).toEqual(expect.any(String));
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
  await orders?.crash();
  directory[Symbol.dispose]();
});

const asked = () => authorization(base, client, `${base}/mcp/orders`);
const accountList = () =>
  administered(gateway.home, async (administration) => {
    const all: unknown[] = [];
    for await (const account of administration.list()) all.push(account);
    return all;
  });

const loggedIn = async (username: string): Promise<string> =>
  (await auth('POST', '/auth/login', { username, password: PASSWORD })).body.access_token;

const travelling = () => new Travelling(base, upstream.issuer);

/** The claims of the token that an agent gets for somebody who logs in at the provider. */
function tokenOf(subject: string) {
  const by = travelling();
  return allowed(by.gateway, (url) => by.toConsent(url, subject));
}

/** The tokens of an agent that somebody lets in who gets to the consent page in this way. */
const allowed = (browser: PlainBrowser, getThere: (url: string) => Promise<string>) =>
  letIn(browser, { base, client, resource: `${base}/mcp/orders` }, getThere);

describe('somebody who logs in at the provider', () => {
  test('is the same account each time, with the role that counts now', async () => {
    upstream.say('mia-1', { preferred_username: 'mia', roles: ['developer', 'corp-admins'], name: 'Mia Moor' });
    const first = await tokenOf('mia-1');
    expect(first.claims).toMatchObject({
      username: 'mia',
      role: 'developer',
      amr: [],
      sub: expect.stringMatching(/^usr_/),
    });
    upstream.say('mia-1', { preferred_username: 'renamed', roles: ['corp-admins'] });
    const second = await tokenOf('mia-1');
    // What the provider calls its administrators is nothing here unless it is named.
    expect(second.claims).toMatchObject({ username: 'mia', role: 'viewer', sub: first.claims.sub });
    const events = await gateway.audited((all) =>
      all.some((one) => one.event_type === 'user_registered' && one.user_id === first.claims.sub),
    );
    const registered = events.find((one) => one.event_type === 'user_registered' && one.user_id === first.claims.sub);
    expect(registered).toMatchObject({ details: { provider: 'corp', username: 'mia', role: 'developer' } });
  });
});

interface Attack {
  readonly name: string;
  readonly query?: Readonly<Record<string, string | null>>;
  readonly twice?: readonly string[];
  readonly provider?: string;
  readonly at?: 'callback';
  readonly by?: 'stranger' | 'thief';
  readonly page?: 'theirs' | 'another';
  readonly replay?: boolean;
  readonly status: number;
}

interface Somebody {
  readonly name: string;
  readonly claims: Claims;
  readonly is?: { username?: string; email?: string; role?: string; amr?: string[] };
  readonly status?: number;
}

const corpus = JSON.parse(
  readFileSync(new URL('../corpus/oauth/agent-login-upstream.json', import.meta.url), 'utf8'),
) as { readonly answers: readonly Attack[]; readonly people: readonly Somebody[] };

describe('an answer of the provider', () => {
  countAttacks('OAuth', corpus.answers.length + corpus.people.length - 1);

  test.each(corpus.answers)('$name', async (one) => {
    verifies('SF-50');
    const victim = travelling();
    const login = await victim.toLogin(asked().url);
    const callback = await victim.toCallback(login, 'vera');
    const other = await victim.toLogin(asked().url);
    const second = await victim.toCallback(other, 'vera');
    const words: Record<string, string> = {
      '{cut}': (callback.searchParams.get('state') ?? '').slice(0, -1),
      '{other state}': second.searchParams.get('state') ?? '',
      '{other code}': second.searchParams.get('code') ?? '',
    };
    for (const [key, text] of Object.entries(one.query ?? {})) {
      if (text === null) callback.searchParams.delete(key);
      else callback.searchParams.set(key, words[text] ?? text);
    }
    for (const key of one.twice ?? []) callback.searchParams.append(key, callback.searchParams.get(key) ?? '');
    if (one.provider !== undefined) callback.pathname = `/oauth/callback/${one.provider}`;
    const stranger = travelling();
    const theirs = await stranger.toLogin(asked().url);
    if (one.by === 'thief') await stranger.toCallback(theirs, 'theo');
    const by = one.by === undefined ? victim : stranger;
    const page = one.page === 'another' ? other : one.page === 'theirs' || one.by === 'thief' ? theirs : login;
    const to = one.at === 'callback' ? callback.href : `${page}/from/corp${callback.search}`;
    if (one.replay === true) expect((await by.gateway.go(to)).status).toBe(303);
    const answer = await by.gateway.go(to);
    const text = await answer.text();
    expect([answer.status, text]).toEqual([one.status, expect.not.stringMatching(/evil|AAAAAAA/)]);
    if (one.status === 303) return;
    expect(answer.headers.get('location')).toBeNull();
    expect(answer.headers.get('content-type')).toMatch(/^(text\/html|application\/problem\+json)/);
    // Nobody is logged in by it.
    if (one.replay !== true)
      expect(await (await by.gateway.go(by === victim ? login : theirs)).text()).toContain('Log in with corp');
  });

  test('does not lead away from here, whatever the way to the provider was asked for', async () => {
    const by = travelling();
    const login = await by.toLogin(asked().url);
    const evil = 'return_to=https://evil.example&redirect_uri=https://evil.example&state=x&provider=evil';
    const away = new URL(locationOf(await by.gateway.go(`${login}/with/corp?${evil}`)));
    expect([away.origin, away.searchParams.get('redirect_uri')]).toEqual([
      upstream.issuer,
      `${base}/oauth/callback/corp`,
    ]);
    expect(away.href).not.toContain('evil');
    expect(away.searchParams.get('code_challenge_method')).toBe('S256');
    for (const [path, status] of [
      [`${login}/with/evil`, 404],
      [`${login}/with/https:%2F%2Fevil.example`, 400],
      ['/oauth/login/evil/with/corp', 404],
    ] as const) {
      const answer = await by.gateway.go(path);
      expect([path, answer.status, answer.headers.get('location')]).toEqual([path, status, null]);
    }
  });

  test('with an ID token that was made for another client is none', async () => {
    const by = travelling();
    const login = await by.toLogin(asked().url);
    const away = new URL(locationOf(await by.gateway.go(`${login}/with/corp`)));
    // The same login at the provider, with everything that is checked but for whom it is.
    const callback = await by.through(away.href, 'vera');
    const theirs = new URL(away);
    const verifier = 'v'.repeat(43);
    theirs.searchParams.set('client_id', OTHER_CLIENT.client_id);
    theirs.searchParams.set('code_challenge', createHash('sha256').update(verifier).digest('base64url'));
    const landed = await by.through(theirs.href, 'vera');
    const basic = Buffer.from(`${OTHER_CLIENT.client_id}:${OTHER_CLIENT.client_secret}`).toString('base64');
    const { status, body } = await postForm(
      upstream.issuer,
      '/token',
      {
        ...{ grant_type: 'authorization_code', code: landed.searchParams.get('code') ?? '', code_verifier: verifier },
        redirect_uri: `${base}/oauth/callback/corp`,
      },
      { authorization: `Basic ${basic}` },
    );
    expect([status, body]).toMatchObject([200, { id_token: expect.any(String) }]);
    upstream.interfere((path) => (path === '/token' ? { status: 200, body: JSON.stringify(body) } : null));
    try {
      const answer = await by.land(callback);
      expect([answer.status, answer.headers.get('location')]).toEqual([401, null]);
    } finally {
      upstream.interfere(null);
    }
    await gateway.audited((all) =>
      all.some(
        ({ event_type, details }: Told) => event_type === 'login_failed' && details?.reason === 'INVALID_CREDENTIALS',
      ),
    );
  });

  test('that does not come is told on a page, with 503, and a password still logs in', async () => {
    await auth('POST', '/auth/register', { username: 'local', email: 'local@example.com', password: PASSWORD });
    const by = travelling();
    const login = await by.toLogin(asked().url);
    const callback = await by.toCallback(login, 'vera');
    upstream.interfere((path) => (path === '/token' ? { status: 503, body: '{}' } : null));
    try {
      const answer = await by.land(callback);
      expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, '5']);
      const page = await answer.text();
      expect(page).toContain('does not answer at the moment');
      const form = { csrf: hidden(page, 'csrf'), action: 'login', username: 'local', password: PASSWORD };
      const action = /<form method="post" action="([^"]*)"/.exec(page)?.[1] ?? '';
      expect((await by.gateway.go(action, form)).status).toBe(303);
    } finally {
      upstream.interfere(null);
    }
  });
});

describe('who somebody is here', () => {
  test.each(corpus.people)('$name', async ({ name, claims, is = {}, status = 303 }) => {
    verifies('SF-50');
    const subject = `person ${name}`;
    upstream.say(subject, { preferred_username: undefined, ...claims });
    if (status !== 303) {
      const by = travelling();
      const answer = await by.land(await by.toCallback(await by.toLogin(asked().url), subject));
      expect([answer.status, answer.headers.get('location')]).toEqual([status, null]);
      return;
    }
    const { claims: told } = await tokenOf(subject);
    expect(told.sub).not.toBe(admin.id);
    expect(told.role).toBe(is.role ?? 'viewer');
    if (is.username !== undefined) expect(told.username).toMatch(new RegExp(`^${is.username}`));
    if (is.username?.endsWith('-'))
      expect(told.username.toLowerCase()).not.toBe(is.username.slice(0, -1).toLowerCase());
    if (is.amr !== undefined) expect([told.amr, 'auth_time' in told]).toEqual([is.amr, is.amr.length > 0]);
    if (is.email === 'invalid')
      expect(JSON.stringify(await accountList())).toContain(`${told.sub.toLowerCase()}@accounts.invalid`);
  });

  test('is an administrator only where that is named, and nobody new where nobody new is wanted', async () => {
    upstream.say('pia', { preferred_username: 'pia', roles: ['corp-admins'] });
    expect((await tokenOf('pia')).claims.role).toBe('viewer');
    const enter = async (subject: string) => {
      const by = travelling();
      return by.land(await by.toCallback(await by.toLogin(asked().url), subject));
    };
    try {
      await gateway.reload(settings({ provision: { roles: ['admin', 'developer'] } }));
      expect((await tokenOf('pia')).claims.role).toBe('admin');
      await gateway.reload(settings({ provision: false }, { required_roles: ['admin'] }));
      expect((await enter('somebody new')).status).toBe(403);
      const held = await enter('pia');
      expect([held.status, await held.text()]).toEqual([403, expect.stringContaining('second factor')]);
      upstream.say('pia', { amr: ['mfa'] });
      expect((await tokenOf('pia')).claims).toMatchObject({ role: 'admin', amr: ['mfa'] });
    } finally {
      await gateway.reload(settings());
    }
  });

  test('has no password, as somebody who is not there', async () => {
    upstream.say('nia', { preferred_username: 'nia' });
    await tokenOf('nia');
    const { request_id: _one, ...known } = (await auth('POST', '/auth/login', { username: 'nia', password: PASSWORD }))
      .body;
    const { request_id: _other, ...unknown } = (
      await auth('POST', '/auth/login', { username: 'nobody', password: PASSWORD })
    ).body;
    expect([known.status, known]).toEqual([401, unknown]);
  });
});

describe('an account', () => {
  test('that is disabled stays out; one that is deleted is made anew, with nothing of the other', async () => {
    upstream.say('ola', { preferred_username: 'ola' });
    const first = await tokenOf('ola');
    const enter = async () => {
      const by = travelling();
      return by.land(await by.toCallback(await by.toLogin(asked().url), 'ola'));
    };
    await administered(gateway.home, async (administration) => {
      const account = await administration.find('ola');
      if (account === null) throw new Error('there is no account');
      await administration.setActive(account, false);
      expect((await enter()).status).toBe(403);
      await expect(administration.setPassword(account, PASSWORD)).rejects.toMatchObject({ code: 'CONFLICT' });
      await administration.delete(account);
    });
    const refreshed = await postForm(base, '/oauth/token', {
      ...{ grant_type: 'refresh_token', client_id: client, refresh_token: first.refresh_token },
    });
    expect(refreshed.status).toBe(400);
    const second = await tokenOf('ola');
    expect([second.claims.username, second.claims.sub === first.claims.sub]).toEqual(['ola', false]);
    await gateway.audited((all) =>
      all.some(({ event_type, details }: Told) => event_type === 'login_failed' && details?.reason === 'not active'),
    );
  });

  test('of a password is somebody’s there once an operator has said so, and no longer than that', async () => {
    const facts = { username: 'lina', email: 'lina@example.com', password: PASSWORD };
    const { body: lina } = await auth('POST', '/auth/register', facts);
    upstream.say('lina-there', { preferred_username: 'lina', email: 'lina@example.com', email_verified: true });
    // A name and an address alone are nobody's word.
    upstream.say('mallory', { preferred_username: 'lina', email: 'lina@example.com', email_verified: true });
    expect((await tokenOf('mallory')).claims.sub).not.toBe(lina.id);
    const account = await administered(gateway.home, async (administration) => {
      const found = await administration.find('lina');
      if (found === null) throw new Error('there is no account');
      await administration.link(found, { issuer: upstream.issuer, subject: 'lina-there' });
      const again = administration.link(found, { issuer: upstream.issuer, subject: 'mallory' });
      await expect(again).rejects.toMatchObject({ code: 'CONFLICT' });
      return found;
    });
    const first = await tokenOf('lina-there');
    expect(first.claims).toMatchObject({ sub: lina.id, username: 'lina' });
    await administered(gateway.home, (administration) => administration.unlink(account, upstream.issuer));
    const refresh = { grant_type: 'refresh_token', client_id: client, refresh_token: first.refresh_token };
    expect((await postForm(base, '/oauth/token', refresh)).status).toBe(400);
    expect((await tokenOf('lina-there')).claims.sub).not.toBe(lina.id);
    expect((await auth('POST', '/auth/login', { username: 'lina', password: PASSWORD })).status).toBe(200);
  });

  test('is one for two first logins at once', async () => {
    upstream.say('tess', { preferred_username: 'tess' });
    const [one, other] = await Promise.all([tokenOf('tess'), tokenOf('tess')]);
    expect(one.claims.sub).toBe(other.claims.sub);
  });

  test('of somebody who logs in elsewhere shows its agents to the session of a browser there', async () => {
    upstream.say('uma', { preferred_username: 'uma' });
    const { claims } = await tokenOf('uma');
    expect(await accountList()).toContainEqual(
      expect.objectContaining({ id: claims.sub, username: 'uma', issuer: upstream.issuer }),
    );
    const by = travelling();
    const start = locationOf(await by.gateway.go('/auth/oauth/start?provider=corp&return_to=/auth/agents'));
    const back = await by.through(start, 'uma');
    // What was begun for one thing is nothing to the other.
    expect((await by.gateway.go(`/oauth/callback/corp${back.search}`)).status).toBe(400);
    const landed = await by.gateway.go(locationOf(await by.gateway.go(back.href)));
    expect(await landed.json()).toMatchObject({ items: [{ client_id: client, id: claims.sid }] });
  });

  test('shows whom it has let in, and ends that', async () => {
    const facts = { username: 'lena', email: 'lena@example.com', password: PASSWORD };
    await auth('POST', '/auth/register', facts);
    const session = bearer(await loggedIn('lena'));
    const browser = new PlainBrowser(base);
    const { refresh_token } = await allowed(browser, (url) => toConsent(browser, url, 'lena', PASSWORD));
    const { body } = await auth('GET', '/auth/agents', undefined, session);
    expect(body.items).toEqual([
      {
        ...{ id: expect.stringMatching(/^ses_/), client_id: client, client_name: 'agent', sent_to: '127.0.0.1:9' },
        ...{ scopes: ['gateway'], resources: [`${base}/mcp/orders`] },
        ...{ created_at: expect.any(String), last_used: expect.any(String) },
      },
    ]);
    const path = `/auth/agents/${body.items[0].id}`;
    const strangers = bearer(await loggedIn('local'));
    expect((await auth('DELETE', path, undefined, strangers)).status).toBe(404);
    const me = (await auth('GET', '/auth/me', undefined, session)).body.id;
    expect((await auth('DELETE', `${path}?user_id=${me}`, undefined, strangers)).status).toBe(403);
    expect(
      (await auth('GET', `/auth/agents?user_id=${me}`, undefined, bearer(await loggedIn('keeper')))).body.items,
    ).toHaveLength(1);
    expect((await auth('GET', '/auth/agents')).status).toBe(401);
    expect((await auth('DELETE', path, undefined, session)).status).toBe(204);
    const refreshed = await postForm(base, '/oauth/token', {
      grant_type: 'refresh_token',
      client_id: client,
      refresh_token,
    });
    expect(refreshed.status).toBe(400);
    expect((await auth('GET', '/auth/agents', undefined, session)).body.items).toEqual([]);
    expect((await auth('DELETE', path, undefined, session)).status).toBe(404);
  });
});

describe(`an MCP client whose user logs in elsewhere${NO_BROWSER}`, () => {
  let browser: Browser;
  beforeAll(async () => {
    if (NO_BROWSER === '') browser = await openBrowser();
  });
  afterAll(() => browser?.close());

  test.skipIf(NO_BROWSER !== '')('gets there with nothing but the address', async () => {
    verifies('S-64');
    const land = createServer((_request, response) => response.end('You may close this page.'));
    await new Promise<void>((done) => land.listen(0, '127.0.0.1', done));
    const wallet = new Wallet(`http://127.0.0.1:${(land.address() as AddressInfo).port}/landing`);
    const url = new URL(`${base}/mcp/orders`);
    const context = await browser.newContext({ javaScriptEnabled: false });
    try {
      const first = new StreamableHTTPClientTransport(url, { authProvider: wallet });
      await expect(new Client(INFO).connect(first)).rejects.toThrow(UnauthorizedError);
      const page = await context.newPage();
      const refused: string[] = [];
      page.on('console', (message) => refused.push(message.text()));
      await page.goto(String(wallet.visited));
      await page.getByRole('link', { name: 'Log in with corp' }).click();
      upstream.say('wilma', { preferred_username: 'wilma@corp.example' });
      await logIn(page, page.url(), 'wilma', (at) => at.pathname.startsWith('/oauth/login/'));
      await page.getByRole('heading', { name: 'Allow access?' }).waitFor();
      expect(await page.locator('main').innerText()).toContain('wilma');
      await page.getByRole('button', { name: 'Allow' }).click();
      await page.waitForURL((at) => at.pathname === '/landing');
      expect(refused.filter((text) => /Content.Security.Policy/i.test(text))).toEqual([]);
      await first.finishAuth(new URL(page.url()).searchParams);
      const connected = new Client(INFO);
      await connected.connect(new StreamableHTTPClientTransport(url, { authProvider: wallet }));
      expect(textOf(await connected.callTool(CALL))).toContain('one');
      await connected.close();
    } finally {
      await context.close();
      land.close();
    }
  });
});
