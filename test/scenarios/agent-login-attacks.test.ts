/** Replays `test/corpus/oauth/authorization-server.json` against the gateway's own authorization server. */
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ACCOUNTS, type Auth, authClient, bearer, PASSWORD } from '../helpers/accounts.ts';
import {
  authorization,
  CALLBACK,
  hidden,
  locationOf,
  PlainBrowser,
  postForm,
  type RegisteredClient,
  registerClient,
  toCallback,
  toConsent,
} from '../helpers/agent-login.ts';
import { countAttacks } from '../helpers/attacks.ts';
import { createAuthority, SERVER_AUTH } from '../helpers/certificates.ts';
import { dataWithoutLimits, POLICIES, startGateway, type TestGateway } from '../helpers/gateway.ts';
import { freePorts, temporaryDirectory } from '../helpers/processes.ts';
import { verifies } from '../helpers/verifies.ts';

type Words = Readonly<Record<string, string>>;

interface Changes {
  readonly name: string;
  readonly query?: Words;
  readonly form?: Words;
  readonly drop?: readonly string[];
  /** Given a second time. */
  readonly twice?: Words;
  readonly as?: 'other' | 'confidential';
  readonly before?: 'redeem' | 'refresh' | 'revoke' | 'change password';
  readonly error?: string;
  readonly ends: string;
  readonly then?: 'revoked';
}

interface Registration {
  readonly name: string;
  readonly body?: Readonly<Record<string, unknown>>;
  readonly raw?: string;
  readonly status: number;
  readonly not?: Words;
}

interface Form extends Omit<Changes, 'ends'> {
  readonly at: 'login' | 'consent';
  readonly headers?: Words;
  readonly browser?: string;
  readonly status: number;
}

const corpus = JSON.parse(
  readFileSync(new URL('../corpus/oauth/authorization-server.json', import.meta.url), 'utf8'),
) as {
  readonly authorize: readonly Changes[];
  readonly token: readonly Changes[];
  readonly refresh: readonly Changes[];
  readonly register: readonly Registration[];
  readonly form: readonly Form[];
};

const directory = temporaryDirectory();
let gateway: TestGateway;
let reload: () => Promise<void>;
let base: string;
let auth: Auth;
let resource: string;
let client: RegisteredClient;
let others: Record<'other' | 'confidential', RegisteredClient>;

const MCP = { protocol: 'mcp', server: 'orders' } as const;

beforeAll(async () => {
  const data = join(directory.path, 'data.json');
  writeFileSync(data, await dataWithoutLimits());
  const [port = 0] = await freePorts(1);
  base = `http://127.0.0.1:${port}`;
  resource = `${base}/mcp/orders`;
  const config = {
    public_url: base,
    policy: { bundle: POLICIES, data, watch: false },
    listen: { data: `127.0.0.1:${port}`, admin: { address: '127.0.0.1:0' } },
    trusted_proxies: ['127.0.0.1/32'],
    identity: { keys: { kind: 'api-key' }, accounts: { kind: 'local' } },
    accounts: {
      ...ACCOUNTS,
      lockout: { failures: 1000 },
      authorization_server: { enabled: true, requests_per_minute: 10_000, registration: { per_hour: 10_000 } },
    },
    servers: { orders: { type: 'sql', dialect: 'sqlite', url: 'http://127.0.0.1:9/mcp' } },
    routes: [
      { match: '/mcp/orders', ...MCP, identity: ['keys', 'accounts'], scopes: ['orders:use'] },
      { match: '/mcp/other', ...MCP, identity: ['accounts'] },
      { match: '/mcp/keys-only', ...MCP, identity: ['keys'] },
    ],
  };
  gateway = await startGateway(config);
  reload = () => gateway.reload(config);
  auth = authClient(base);
  await person('dana');
  const registered = async (more = {}) => (await (await registerClient(base, more)).json()) as RegisteredClient;
  client = await registered();
  others = {
    other: await registered(),
    confidential: await registered({ token_endpoint_auth_method: 'client_secret_post' }),
  };
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  directory[Symbol.dispose]();
});

const person = (username: string) =>
  auth('POST', '/auth/register', { username, email: `${username}@example.com`, password: PASSWORD });

const spelled = (words: Words = {}, more: Words = {}): Record<string, string> =>
  Object.fromEntries(
    Object.entries(words).map(([name, value]) => [
      name,
      value.replace(/\{([a-z ]+)\}/, (whole, word: string) => ({ base, ...more })[word] ?? whole),
    ]),
  );

function changed(good: Words, { query, form, drop = [], twice = {} }: Partial<Changes>, more: Words = {}) {
  const result = new URLSearchParams({ ...good, ...spelled(query, more), ...spelled(form, more) });
  for (const name of drop) result.delete(name);
  for (const [name, value] of Object.entries(twice)) result.append(name, value);
  return result;
}

const changePassword = async (username: string) => {
  const { body } = await auth('POST', '/auth/login', { username, password: PASSWORD });
  const next = { current_password: PASSWORD, new_password: 'Another-Harbour-Lamp-43' };
  const answer = await auth('POST', '/auth/change-password', next, bearer(body.access_token));
  expect(answer.status).toBeLessThan(300);
};

/** What a gateway says to this token on a route; 401 where it is no good. */
async function statusWith(token: string, path = '/mcp/orders'): Promise<number> {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'ping' });
  const headers = {
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    ...bearer(token),
  };
  return (await fetch(`${base}${path}`, { method: 'POST', headers, body })).status;
}

const { authorize, token, refresh, register, form: forms } = corpus;
const hostile = [
  ...[...authorize, ...token, ...refresh].filter(({ ends }) => ends !== 'login' && ends !== 'tokens'),
  ...[...register, ...forms].filter(({ status }) => status >= 400),
];
countAttacks('OAuth', hostile.length);

describe('an authorization request', () => {
  test.each(corpus.authorize)('$name', async (one) => {
    verifies('SF-50');
    const { query } = authorization(base, client.client_id, resource);
    const response = await new PlainBrowser(base).go(`/oauth/authorize?${changed(query, one)}`);
    const page = await response.text();
    const location = locationOf(response) === '' ? null : new URL(locationOf(response), base);
    // A client that asks for tokens in the fragment is told there.
    const told = new URLSearchParams(location?.search || location?.hash.slice(1));
    if (one.ends === 'login') {
      expect(response.status).toBe(303);
      expect(location?.pathname).toMatch(/^\/oauth\/login\//);
    } else if (one.ends === 'client') {
      expect(location?.href.startsWith(CALLBACK)).toBe(true);
      expect(told.get('error')).toBe(one.error);
      expect(told.get('iss')).toBe(base);
      expect(told.get('state')).toBe('st');
      expect(told.has('code')).toBe(false);
    } else {
      expect(response.status).toBe(400);
      expect(location).toBeNull();
      expect(page).toContain(`Code: ${one.error}`);
      expect(page).not.toContain('<script');
      expect(response.headers.get('content-security-policy')).toContain("frame-ancestors 'none'");
    }
  });
});

test.each([{ prompt: 'none' }, { response_type: 'token' }, { code_challenge_method: 'plain' }, { resource: 'x:y' }])(
  'an address of ours leads nobody on to a site, whatever is wrong with the request: %j',
  async (wrong) => {
    const redirect_uri = 'https://agent.example/callback';
    const made = (await (await registerClient(base, { redirect_uris: [redirect_uri] })).json()) as RegisteredClient;
    const { query } = authorization(base, made.client_id, resource);
    const at = (more: Words) => `/oauth/authorize?${new URLSearchParams({ ...query, redirect_uri, ...more })}`;
    expect((await new PlainBrowser(base).go(at({}))).status).toBe(303);
    const response = await new PlainBrowser(base).go(at(wrong));
    expect(response.status).toBe(400);
    expect(response.headers.get('location')).toBeNull();
    expect(await response.text()).toMatch(
      /Code: (login_required|unsupported_response_type|invalid_request|invalid_target)/,
    );
  },
);

/** A code for a client, and how to redeem it. */
async function codeFor({ client_id, client_secret }: RegisteredClient, username = 'dana') {
  const request = authorization(base, client_id, resource);
  const landed = await toCallback(new PlainBrowser(base), request.url, username, PASSWORD);
  expect(landed.searchParams.get('iss')).toBe(base);
  const form: Words = {
    ...{ grant_type: 'authorization_code', code: landed.searchParams.get('code') ?? '', redirect_uri: CALLBACK },
    ...{ code_verifier: request.verifier, client_id },
    ...(client_secret === undefined ? {} : { client_secret }),
  };
  return { form, challenge: request.query.code_challenge ?? '' };
}

/** Resolves once the audit has it that something was used twice, and by which client. */
const reported = (activity: string) =>
  gateway.audited((events) =>
    events.some((event) => {
      const { activity_type, indicators } = event as { activity_type?: string; indicators?: readonly string[] };
      return activity_type === activity && indicators?.includes('client_id') === true;
    }),
  );

describe('a code', () => {
  test.each(corpus.token)('$name', async (one) => {
    const isConfidential = one.as === 'confidential';
    const { form, challenge } = await codeFor(isConfidential ? others.confidential : client);
    const given = isConfidential ? changed(form, { drop: ['client_secret'] }) : changed(form, one, { challenge });
    if (one.as === 'other') given.set('client_id', others.other.client_id);
    if (one.form?.client_secret !== undefined) given.set('client_secret', one.form.client_secret);
    const earlier = one.before === 'redeem' ? await postForm(base, '/oauth/token', form) : null;
    if (earlier !== null) expect(await statusWith(earlier.body.access_token ?? '')).not.toBe(401);
    const { status, body } = await postForm(base, '/oauth/token', given);
    if (one.ends === 'tokens') {
      expect(status).toBe(200);
      expect(await statusWith(body.access_token ?? '')).not.toBe(401);
      expect(await statusWith(body.access_token ?? '', '/mcp/other')).toBe(401);
      for (const path of ['/auth/me', '/auth/api-keys', '/approvals'])
        expect((await auth('GET', path, undefined, bearer(body.access_token ?? ''))).status).toBe(401);
      return;
    }
    expect(body).toMatchObject({ error: one.ends });
    expect(body).not.toHaveProperty('access_token');
    if (one.then !== 'revoked') return;
    expect(await statusWith(earlier?.body.access_token ?? '')).toBe(401);
    await reported('authorization_code_reused');
  });
});

describe('a refresh token', () => {
  test.each(corpus.refresh)('$name', async (one) => {
    const username = one.before === 'change password' ? 'refresher' : 'dana';
    if (username !== 'dana') await person(username);
    const { body: first } = await postForm(base, '/oauth/token', (await codeFor(client, username)).form);
    const { access_token: access = '', refresh_token = '' } = first;
    const form = { grant_type: 'refresh_token', refresh_token, client_id: client.client_id };
    let later: Words = {};
    if (one.before === 'refresh') later = (await postForm(base, '/oauth/token', form)).body;
    if (one.before === 'revoke')
      await postForm(base, '/oauth/revoke', { token: refresh_token, client_id: client.client_id });
    if (one.before === 'change password') {
      await changePassword(username);
      expect(await statusWith(access)).toBe(401);
    }
    const given = changed(form, one, { access });
    if (one.as === 'other') given.set('client_id', others.other.client_id);
    const { body } = await postForm(base, '/oauth/token', given);
    if (one.ends === 'tokens') {
      expect(body.refresh_token).not.toBe(refresh_token);
      expect(await statusWith(body.access_token ?? '')).not.toBe(401);
      return;
    }
    expect(body).toMatchObject({ error: one.ends });
    if (one.then !== 'revoked') return;
    if (one.before === 'refresh') await reported('refresh_token_reused');
    // Whoever has the newer one is out as well: one of the two is a thief.
    for (const token of [access, later.access_token ?? access]) expect(await statusWith(token)).toBe(401);
    const next = { ...form, refresh_token: later.refresh_token ?? refresh_token };
    expect((await postForm(base, '/oauth/token', next)).body).toMatchObject({ error: 'invalid_grant' });
  });

  test('an access token is revoked by its client alone, and no other', async () => {
    const { body } = await postForm(base, '/oauth/token', (await codeFor(client)).form);
    const token = body.access_token ?? '';
    await postForm(base, '/oauth/revoke', { token, client_id: others.other.client_id });
    expect(await statusWith(token)).not.toBe(401);
    expect((await postForm(base, '/oauth/revoke', { token, client_id: client.client_id })).status).toBe(200);
    expect(await statusWith(token)).toBe(401);
    const form = { grant_type: 'refresh_token', refresh_token: body.refresh_token ?? '', client_id: client.client_id };
    expect((await postForm(base, '/oauth/token', form)).status).toBe(200);
  });
});

describe('a registration', () => {
  test.each(corpus.register)('$name', async ({ body = {}, raw, status, not = {} }) => {
    const headers = { 'content-type': 'application/json' };
    const response =
      raw === undefined
        ? await registerClient(base, body)
        : await fetch(`${base}/oauth/register`, { method: 'POST', headers, body: raw });
    expect(response.status).toBe(status);
    const made = (await response.json()) as Words;
    for (const [name, value] of Object.entries(not)) expect(made[name]).not.toBe(value);
    expect(made).not.toHaveProperty('registration_access_token');
  });

  test('is bounded, and shows nothing that is not seen', async () => {
    const made = await registerClient(base, { client_name: `Orders\u202e${'x'.repeat(5000)}` });
    const { client_name, client_id } = (await made.json()) as Words & { client_id: string };
    expect(client_name).toBe(`Orders ${'x'.repeat(193)}`);
    const login = locationOf(await new PlainBrowser(base).go(authorization(base, client_id, resource).url));
    expect(login).toMatch(/\/oauth\/login\//);
    expect((await registerClient(base, { client_name: 'x'.repeat(8192) })).status).toBe(413);
  });
});

describe('a client that is the address of its document', () => {
  const stack = new AsyncDisposableStack();
  let at = '';
  let asked = 0;
  let change: Readonly<Record<string, unknown>> = {};

  beforeAll(async () => {
    const authority = await createAuthority('CN=documents');
    const { cert, key } = await authority.issue({ subject: 'CN=localhost', dns: ['localhost'], usages: [SERVER_AUTH] });
    const server = createServer({ cert, key }, (request, response) => {
      asked += 1;
      const client_id = `${at}${request.url}`;
      const document = {
        client_id,
        client_name: 'Document',
        redirect_uris: [CALLBACK],
        scope: 'orders:use',
        ...change,
      };
      response.setHeader('content-type', 'application/json');
      response.end(
        JSON.stringify({ ...document, token_endpoint_auth_method: change.token_endpoint_auth_method ?? 'none' }),
      );
    });
    await new Promise<void>((done) => server.listen(0, 'localhost', done));
    at = `https://localhost:${(server.address() as AddressInfo).port}`;
    const trusted = getCACertificates('default');
    setDefaultCACertificates([...trusted, authority.cert]);
    stack.defer(() => {
      setDefaultCACertificates(trusted);
      server.closeAllConnections();
      server.close();
    });
  });
  afterAll(() => stack.disposeAsync());

  test('needs no registration, is shown by that address, and is not fetched each time', async () => {
    const client_id = `${at}/agent.json`;
    const { form } = await codeFor({ client_id });
    const { status, body } = await postForm(base, '/oauth/token', form);
    expect(status).toBe(200);
    expect(await statusWith(body.access_token ?? '')).not.toBe(401);
    expect(asked).toBe(1);
    const browser = new PlainBrowser(base);
    const consent = await toConsent(browser, authorization(base, client_id, resource).url, 'dana', PASSWORD);
    expect(await (await browser.go(consent)).text()).toContain(client_id);
    expect(asked).toBe(1);
  });

  test('that describes somebody else meanwhile is nobody, and a page says so', async () => {
    const browser = new PlainBrowser(base);
    const login = locationOf(await browser.go(authorization(base, `${at}/gone.json`, resource).url));
    expect((await browser.go(login)).status).toBe(200);
    change = { client_id: 'https://other.example/agent.json' };
    await reload();
    const page = await browser.go(login);
    change = {};
    expect(page.status).toBe(404);
    expect(page.headers.get('content-type')).toContain('text/html');
  });

  test('is fetched a bounded number of times for one network, from whichever of its addresses', async () => {
    const minute = () => Math.floor(Date.now() / 60_000);
    let network = 0;
    let begun: number;
    do {
      // A minute that ends meanwhile gives anew what it had given: then another network tries.
      begun = minute();
      asked = 0;
      network += 1;
      for (let host = 1; host <= 25; host += 1) {
        const { url } = authorization(base, `${at}/${network}-${host}.json`, resource);
        const from = `2001:db8:0:${network}::${host.toString(16)}`;
        await fetch(url, { redirect: 'manual', headers: { 'x-forwarded-for': from } });
      }
    } while (minute() !== begun);
    expect(asked).toBe(20);
  });

  test.each([
    ['that names another one', { client_id: 'https://other.example/agent.json' }],
    ['with a secret', { client_secret: 'known to everybody' }],
    ['that wants to log in with a secret', { token_endpoint_auth_method: 'client_secret_post' }],
    ['without the redirect that is asked for', { redirect_uris: ['https://agent.example/callback'] }],
  ])('a document %s is none', async (name, more) => {
    change = more;
    try {
      const { url } = authorization(base, `${at}/${encodeURIComponent(name)}.json`, resource);
      const response = await new PlainBrowser(base).go(url);
      expect(response.status).toBe(400);
      expect(response.headers.get('location')).toBeNull();
    } finally {
      change = {};
    }
  });
});

describe('a form', () => {
  test.each(corpus.form)('$at: $name', async (one) => {
    const username = one.before === undefined ? 'dana' : 'filler';
    if (username !== 'dana') await person(username);
    const browser = new PlainBrowser(base);
    const { url } = authorization(base, client.client_id, resource);
    const address =
      one.at === 'login' ? locationOf(await browser.go(url)) : await toConsent(browser, url, username, PASSWORD);
    const shown = await browser.go(address);
    expect(shown.headers.get('content-security-policy')).toContain("frame-ancestors 'none'");
    expect(shown.headers.get('x-frame-options')).toBe('DENY');
    expect(shown.headers.get('cache-control')).toBe('no-store');
    const page = await shown.text();
    expect(page).not.toMatch(/<script|javascript:|\son\w+=/i);
    if (one.before === 'change password') await changePassword(username);
    const elsewhere = new PlainBrowser(base);
    const otherLogin = locationOf(await elsewhere.go(url));
    const other = hidden(await (await elsewhere.go(otherLogin)).text(), 'csrf');
    const good = one.at === 'login' ? { action: 'login', username, password: PASSWORD } : { action: 'allow' };
    const form = { csrf: hidden(page, 'csrf'), ...good, ...spelled(one.form, { 'other csrf': other }) };
    const by = one.browser === undefined ? browser : one.browser === 'other' ? new PlainBrowser(base) : elsewhere;
    const response = await by.go(address, form, one.headers);
    expect(response.status).toBe(one.status);
    if (one.status === 303) return;
    expect(response.headers.get('content-type')).toMatch(/^(text\/html|application\/problem\+json)/);
    expect(response.headers.get('location')).toBeNull();
    if (one.at === 'consent') expect(await response.text()).not.toContain('code=');
  });
});
