/** Browsers log in at a real authorization server, work with a session, and are not fooled on the way. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ACCOUNTS, PASSWORD } from '../helpers/accounts.ts';
import { countAttacks } from '../helpers/attacks.ts';
import type { AuthorizationServer } from '../helpers/authorization-server.ts';
import { GATEWAY_CLIENT, startAuthorizationServer } from '../helpers/authorization-server.ts';
import { logIn, NO_BROWSER, openBrowser } from '../helpers/browser.ts';
import { type Page, visit, walkForms } from '../helpers/forms.ts';
import type { TestGateway } from '../helpers/gateway.ts';
import { startGateway } from '../helpers/gateway.ts';
import { freePorts } from '../helpers/processes.ts';
import type { Service } from '../helpers/upstreams.ts';
import { startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

interface Case {
  readonly name: string;
  readonly status: number;
  readonly query?: Readonly<Record<string, string | null>>;
  readonly twice?: readonly string[];
  readonly cookie?: string;
  readonly later?: number;
  readonly replay?: boolean;
  readonly race?: boolean;
  readonly method?: string;
}

const read = <T>(name: string): T =>
  JSON.parse(readFileSync(new URL(`../corpus/oauth/${name}.json`, import.meta.url), 'utf8')) as T;

let issuer: AuthorizationServer;
let echo: Service;
let gateway: TestGateway;
let base: string;
/** Milliseconds the gateway's clock is ahead. */
let ahead = 0;

beforeAll(async () => {
  const [port = 0] = await freePorts(1);
  base = `http://127.0.0.1:${port}`;
  const redirect_uris = [`${base}/auth/oauth/callback`];
  issuer = await startAuthorizationServer({
    clients: [{ ...GATEWAY_CLIENT, redirect_uris }],
    claims: { roles: ['developer'], permissions: ['tasks.read', 'tasks.create'] },
  });
  echo = await startService((asked, response) =>
    response.setHeader('content-type', 'application/json').end(JSON.stringify({ headers: asked.headers })),
  );
  gateway = await startGateway(
    {
      public_url: base,
      listen: { data: `127.0.0.1:${port}`, admin: { address: '127.0.0.1:0' } },
      identity: { staff: { kind: 'oidc', issuer: issuer.issuer, ...GATEWAY_CLIENT, login: {} } },
      routes: [
        {
          match: '/api',
          protocol: 'http',
          url: echo.url,
          identity: ['staff'],
          permissions: { GET: ['tasks.read'], POST: ['tasks.create'] },
        },
      ],
    },
    { clock: { now: () => Date.now() + ahead } },
  );
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await issuer?.[Symbol.asyncDispose]();
  await echo?.[Symbol.asyncDispose]();
});

/** A browser without pages: keeps cookies per server, and presses the button of every form it is shown. */
class Forms {
  readonly #jar = new Map<string, Map<string, string>>();

  cookies(origin: string): Map<string, string> {
    const kept = this.#jar.get(origin) ?? new Map<string, string>();
    this.#jar.set(origin, kept);
    return kept;
  }

  async visit(url: string, method = 'GET', body = ''): Promise<Page> {
    const kept = this.cookies(new URL(url).origin);
    const cookie = [...kept].map(([name, value]) => `${name}=${value}`).join('; ');
    const form = body === '' ? {} : { 'content-type': 'application/x-www-form-urlencoded' };
    const answer = await visit(url, { ...(cookie === '' ? {} : { cookie }), ...form }, method, body);
    for (const line of answer.cookies) {
      const [pair = ''] = line.split(';', 1);
      const at = pair.indexOf('=');
      if (pair.slice(at + 1) === '') kept.delete(pair.slice(0, at));
      else kept.set(pair.slice(0, at), pair.slice(at + 1));
    }
    return answer;
  }

  /** From the gateway's start to the address of its callback, which is not visited. */
  async toCallback(start: string): Promise<URL> {
    let answer = await this.visit(start);
    let at = start;
    for (let step = 0; step < 12; step++) {
      if (answer.location !== null) {
        at = new URL(answer.location, at).href;
        if (at.startsWith(`${base}/auth/oauth/callback`)) return new URL(at);
        answer = await this.visit(at);
      } else {
        const prompt = answer.body.includes('name="login"') ? 'login' : 'consent';
        answer = await this.visit(at, 'POST', `${new URLSearchParams({ prompt, login: 'dana', password: 'x' })}`);
      }
    }
    throw new Error(`the login came to no end: ${answer.status} ${at}`);
  }
}

const START = () => `${base}/auth/oauth/start?return_to=/app`;

/** The callback as this case changes it. */
async function changed(one: Case, forms: Forms): Promise<{ url: string; headers: Record<string, string> }> {
  const callback = await forms.toCallback(START());
  const other = one.cookie === 'other login' || JSON.stringify(one).includes('another login');
  const second = other ? await forms.toCallback(START()) : null;
  const state = callback.searchParams.get('state') ?? '';
  const issued = issuer.issuer;
  const words: Record<string, string> = {
    '{cut}': state.slice(0, -1),
    '{swapcase}': state.replace(/[a-z]/gi, (c) => (c === c.toUpperCase() ? c.toLowerCase() : c.toUpperCase())),
    '{code of another login}': second?.searchParams.get('code') ?? '',
    '{issuer}/': `${issued}/`,
    '{ISSUER}': issued.toUpperCase(),
  };
  const name = `portcullis_login_${state.slice(0, 8)}`;
  const value = forms.cookies(base).get(name) ?? '';
  const otherName = `portcullis_login_${second?.searchParams.get('state')?.slice(0, 8)}`;
  const cookies: Record<string, string | null> = {
    none: null,
    'other login': `${name}=${forms.cookies(base).get(otherName)}`,
    changed: `${name}=${value.slice(0, -2)}${value.endsWith('AA') ? 'BB' : 'AA'}`,
    empty: `${name}=`,
    twice: `${name}=${value}; ${name}=${value}`,
    session: `portcullis=${value}`,
  };
  for (const [key, text] of Object.entries(one.query ?? {})) {
    if (text === null) callback.searchParams.delete(key);
    else callback.searchParams.set(key, words[text] ?? text);
  }
  for (const key of one.twice ?? []) callback.searchParams.append(key, callback.searchParams.get(key) ?? '');
  const cookie = one.cookie === undefined ? `${name}=${value}` : (cookies[one.cookie] ?? null);
  return { url: callback.href, headers: cookie === null ? {} : { cookie } };
}

describe('the corpus of manipulated logins', () => {
  const corpus = read<readonly Case[]>('login');
  test.each(corpus.map((one) => [one.name, one] as const))('%s', async (_name, one) => {
    verifies('S-64', 'SF-50');
    const { url, headers } = await changed(one, new Forms());
    const finish = () => visit(url, headers, one.method ?? 'GET');
    if (one.replay === true) expect((await finish()).status).toBe(302);
    ahead = (one.later ?? 0) * 1000;
    try {
      const answers = one.race === true ? await Promise.all([finish(), finish(), finish()]) : [await finish()];
      const statuses = answers.map(({ status }) => status).toSorted();
      expect(statuses).toEqual(one.race === true ? [302, 400, 400] : [one.status]);
      const sessions = answers.flatMap(({ cookies }) => cookies.filter((line) => line.startsWith('portcullis=')));
      expect(sessions).toHaveLength(one.status === 302 || one.race === true ? 1 : 0);
      // Neither what was sent nor what the server said is repeated.
      for (const { body } of answers) expect(body).not.toMatch(/evil|AAAAAAAA|access_denied/);
    } finally {
      ahead = 0;
    }
  });

  countAttacks('OAuth', corpus.filter((one) => one.status !== 302).length);
});

describe('where a login leads', () => {
  const corpus = read<{ refused: readonly string[]; kept: readonly [string, string][] }>('return-to');
  countAttacks('OAuth', corpus.refused.length);

  test.each(corpus.refused.map((one) => [JSON.stringify(one), one]))('not to %s', async (_name, wanted) => {
    verifies('SF-50');
    const answer = await visit(`${base}/auth/oauth/start?return_to=${encodeURIComponent(wanted)}`);
    expect([answer.status, answer.location]).toEqual([400, null]);
  });

  test.each(corpus.kept)('from %s to %s', async (wanted, lands) => {
    const forms = new Forms();
    const callback = await forms.toCallback(`${base}/auth/oauth/start?return_to=${encodeURIComponent(wanted)}`);
    const answer = await forms.visit(callback.href);
    expect([answer.status, answer.location]).toEqual([302, lands]);
  });

  test('not to two places at once, nor to a login nobody offers', async () => {
    expect((await visit(`${base}/auth/oauth/start?return_to=/a&return_to=/b`)).status).toBe(400);
    expect((await visit(`${base}/auth/oauth/start?provider=unknown`)).status).toBe(404);
  });
});

describe('a session', () => {
  let cookie: string;
  beforeAll(async () => {
    const forms = new Forms();
    const answer = await forms.visit((await forms.toCallback(START())).href);
    const line = answer.cookies.find((one) => one.startsWith('portcullis=')) ?? '';
    expect(line).toMatch(/^portcullis=[\w-]{43}; Path=\/; Max-Age=28800; HttpOnly; SameSite=Lax$/);
    cookie = line.split(';', 1)[0] ?? '';
  });

  test.each([
    ['reads, by a typed address', 'GET', { 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate' }, 200],
    ['reads, by a link from elsewhere', 'GET', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' }, 200],
    ['reads, from a page of ours', 'GET', { 'sec-fetch-site': 'same-origin' }, 200],
    ['reads, by an old browser', 'GET', {}, 200],
    [
      'does not read for a page of another site',
      'GET',
      { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'cors' },
      403,
    ],
    ['does not read for a sister site', 'GET', { 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'no-cors' }, 403],
    ['does not read for another origin', 'GET', { origin: 'https://evil.example' }, 403],
    ['writes for a page of ours', 'POST', { origin: '{base}' }, 200],
    ['writes with the header a page of another site cannot send', 'POST', { 'x-requested-with': 'script' }, 200],
    ['does not write for a form elsewhere', 'POST', { origin: 'https://evil.example' }, 403],
    ['does not write for nobody in particular', 'POST', { origin: 'null' }, 403],
    ['does not write for a link', 'POST', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' }, 403],
    ['does not write without a word where from', 'POST', {}, 403],
  ] as const)('%s', async (_name, method, headers, status) => {
    verifies('SF-50');
    const sent = Object.fromEntries(
      Object.entries(headers).map(([name, value]) => [name, value.replace('{base}', base)]),
    );
    const answer = await visit(`${base}/api/tasks`, { cookie, ...sent }, method);
    expect(answer.status).toBe(status);
  });

  test('is the user, and never goes on to the server behind', async () => {
    const { status, body } = await visit(`${base}/api/tasks`, { cookie });
    expect(status).toBe(200);
    const seen = JSON.parse(body) as { headers: Record<string, string> };
    expect(seen.headers).toMatchObject({ 'x-auth-user': 'dana', 'x-auth-roles': 'developer' });
    expect(JSON.stringify(seen)).not.toContain(cookie.slice('portcullis='.length));
  });

  test.each([
    ['a made-up one', 'portcullis=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA', 401],
    ['two', '{cookie}; portcullis=x', 400],
    ['none', 'other=x', 401],
  ])('%s opens nothing', async (_name, given, status) => {
    expect((await visit(`${base}/api/tasks`, { cookie: given.replace('{cookie}', cookie) })).status).toBe(status);
  });

  test('an ID token opens nothing either', async () => {
    verifies('SF-50');
    const forms = new Forms();
    const callback = await forms.toCallback(START());
    // What the gateway would get for this code, taken by somebody who knows its secret.
    let token = '';
    issuer.provider.once('grant.success', (context) => {
      token = String((context.body as { id_token?: string }).id_token);
    });
    await forms.visit(callback.href);
    expect(token.split('.')).toHaveLength(3);
    expect((await visit(`${base}/api/tasks`, { authorization: `Bearer ${token}` })).status).toBe(401);
  });

  test('ends with the next login of the same browser', async () => {
    verifies('SF-50');
    const begin = async (carried: string): Promise<string> => {
      const forms = new Forms();
      const callback = await forms.toCallback(START());
      const kept = [...forms.cookies(base)].map(([name, value]) => `${name}=${value}`);
      const answer = await visit(callback.href, { cookie: [...kept, ...(carried === '' ? [] : [carried])].join('; ') });
      expect(answer.status).toBe(302);
      return (answer.cookies.find((one) => one.startsWith('portcullis=')) ?? '').split(';', 1)[0] ?? '';
    };
    const first = await begin('');
    const other = await begin('');
    expect((await visit(`${base}/api/tasks`, { cookie: first })).status).toBe(200);
    const second = await begin(first);
    const statuses = [first, second, other].map(
      async (one) => (await visit(`${base}/api/tasks`, { cookie: one })).status,
    );
    expect(await Promise.all(statuses)).toEqual([401, 200, 200]);
  });

  test('of an account here ends as well, with a login at the provider or the logout of either', async () => {
    verifies('SF-50');
    const [port = 0] = await freePorts(1);
    const here = `http://127.0.0.1:${port}`;
    const client = { client_id: 'second', client_secret: 'a-secret-of-the-second-gateway' };
    await using own = await startAuthorizationServer({
      clients: [{ ...client, redirect_uris: [`${here}/auth/oauth/callback`] }],
    });
    await using _both = await startGateway({
      public_url: here,
      listen: { data: `127.0.0.1:${port}`, admin: { address: '127.0.0.1:0' } },
      identity: {
        staff: { kind: 'oidc', issuer: own.issuer, ...client, login: {} },
        people: { kind: 'local', cookies: true },
      },
      accounts: { ...ACCOUNTS },
      routes: [{ match: '/api', protocol: 'http', url: echo.url, identity: ['staff', 'people'] }],
    });
    const json = { 'content-type': 'application/json', origin: here };
    const account = { username: 'dana', email: 'dana@example.com', password: PASSWORD };
    expect((await visit(`${here}/auth/register`, json, 'POST', JSON.stringify(account))).status).toBe(201);
    const enter = async () => {
      const { email: _email, ...words } = account;
      const { cookies } = await visit(`${here}/auth/session`, json, 'POST', JSON.stringify(words));
      return cookies[0]?.split(';', 1)[0] ?? '';
    };
    const whoIs = async (cookie: string) => (await visit(`${here}/auth/me`, { cookie })).status;
    const [first, second] = [await enter(), await enter()];
    expect(await Promise.all([first, second].map(whoIs))).toEqual([200, 200]);
    const start = await visit(`${here}/auth/oauth/start`);
    const isBack = (url: URL) => url.pathname === '/auth/oauth/callback';
    const callback = await walkForms(start.location ?? '', 'dana', isBack);
    const kept = start.cookies[0]?.split(';', 1)[0] ?? '';
    expect((await visit(callback.href, { cookie: `${kept}; ${first}` })).status).toBe(302);
    expect(await Promise.all([first, second].map(whoIs))).toEqual([401, 200]);
    expect((await visit(`${here}/auth/oauth/logout`, { cookie: second, origin: here }, 'POST')).status).toBe(204);
    expect(await whoIs(second)).toBe(401);
  });

  test('ends for pages of ours only, and at once', async () => {
    expect((await visit(`${base}/auth/oauth/logout`, { cookie, origin: 'https://evil.example' }, 'POST')).status).toBe(
      403,
    );
    expect((await visit(`${base}/api/tasks`, { cookie })).status).toBe(200);
    const ended = await visit(`${base}/auth/oauth/logout`, { cookie, origin: base }, 'POST');
    expect([ended.status, ended.cookies]).toEqual([204, ['portcullis=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax']]);
    expect((await visit(`${base}/api/tasks`, { cookie })).status).toBe(401);
  });
});

describe(`a person${NO_BROWSER}`, () => {
  test.skipIf(NO_BROWSER !== '')('logs in with a real browser and lands where they were going', async () => {
    verifies('S-64', 'S-65');
    const browser = await openBrowser();
    try {
      const page = await browser.newPage();
      const start = `${base}/auth/oauth/start?return_to=/api/tasks`;
      const landed = await logIn(page, start, 'dana', (url) => url.pathname === '/api/tasks');
      expect(landed.origin).toBe(base);
      expect(await page.textContent('body')).toContain('"x-auth-user":"dana"');
    } finally {
      await browser.close();
    }
  });
});
