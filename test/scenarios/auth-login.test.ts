/** A person logs in from the command line at a real authorization server, works with the login, and ends it. */
import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { main } from '../../src/cli/cli.ts';
import { beginDeviceLogin } from '../../src/identity/oauth/device-login.ts';
import { openIssuer } from '../../src/identity/oauth/native-client.ts';
import { countAttacks } from '../helpers/attacks.ts';
import type { AuthorizationServer } from '../helpers/authorization-server.ts';
import { startAuthorizationServer } from '../helpers/authorization-server.ts';
import { logIn, NO_BROWSER, openBrowser } from '../helpers/browser.ts';
import { visit, walkForms } from '../helpers/forms.ts';
import type { TestGateway } from '../helpers/gateway.ts';
import { startGateway } from '../helpers/gateway.ts';
import { waitingCommand } from '../helpers/login-command.ts';
import { freePorts, temporaryDirectory } from '../helpers/processes.ts';
import { verifies } from '../helpers/verifies.ts';

interface Case {
  readonly name: string;
  readonly exit?: number;
  readonly status?: number;
  readonly query?: Readonly<Record<string, string | null>>;
  readonly twice?: readonly string[];
  readonly says?: string;
  /** The answer is none to this login, which waits for the right one. */
  readonly waits?: boolean;
}

interface DeviceCase {
  readonly name: string;
  /** Errors of RFC 8628, or statuses; after them the server answers itself. */
  readonly answers: readonly (string | number)[];
  readonly waits?: readonly number[];
  readonly ends: string;
}

const read = <T>(name: string): T =>
  JSON.parse(readFileSync(new URL(`../corpus/oauth/${name}.json`, import.meta.url), 'utf8')) as T;

const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code';
const CLIENT = 'portcullis-cli';
const isCallback = (url: URL) => url.pathname === '/callback';

let issuer: AuthorizationServer;
let gateway: TestGateway;
let base: string;

beforeAll(async () => {
  const [port = 0] = await freePorts(1);
  base = `http://127.0.0.1:${port}`;
  issuer = await startAuthorizationServer({
    clients: [
      {
        ...{ client_id: CLIENT, application_type: 'native', token_endpoint_auth_method: 'none' },
        ...{ redirect_uris: ['http://127.0.0.1/callback'], response_types: ['code'] },
        grant_types: ['authorization_code', 'refresh_token', DEVICE_GRANT],
      } as never,
    ],
    ...{ claims: { roles: ['admin'] }, scopes: 'gateway:use', registration: true },
    more: {
      features: {
        ...{ devInteractions: { enabled: true }, deviceFlow: { enabled: true }, registration: { enabled: true } },
        ...{ revocation: { enabled: true, allowedPolicy: () => true }, introspection: { enabled: true } },
        resourceIndicators: {
          enabled: true,
          defaultResource: () => [],
          useGrantedResource: () => true,
          getResourceServerInfo: (_context: unknown, resource: string) => ({
            ...{ scope: 'gateway:use', audience: resource, accessTokenTTL: 600 },
            ...{ accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } },
          }),
        },
      },
      rotateRefreshToken: true,
    } as never,
  });
  gateway = await startGateway({
    public_url: base,
    listen: { data: `127.0.0.1:${port}`, admin: { address: '127.0.0.1:0' } },
    identity: {
      staff: { kind: 'jwt', issuer: issuer.issuer, audience: base, jwks: `${issuer.issuer}/jwks` },
    },
    routes: [
      { match: '/api', protocol: 'http', url: issuer.issuer, identity: ['staff'], permissions: { GET: ['x.read'] } },
    ],
  });
});
afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await issuer?.[Symbol.asyncDispose]();
});

let home: ReturnType<typeof temporaryDirectory>;
beforeEach(() => {
  home = temporaryDirectory('portcullis-login-');
});
afterEach(() => home[Symbol.dispose]());

const file = () => join(home.path, 'portcullis/credentials.json');

/** One command. `shown` is the address it asks a person to visit. */
function command(argv: readonly string[], env: Record<string, string> = {}) {
  return waitingCommand(['auth', ...argv], home.path, { PORTCULLIS_URL: base, ...env });
}

async function run(...argv: readonly string[]) {
  const { code, written } = command(argv);
  return { code: await code, ...written };
}

const ASK = ['login', '--no-browser', '--client-id', CLIENT];

/** Logs dana in; without a browser, as the pages of the server need none. */
async function loggedIn(...more: readonly string[]) {
  const login = command([...ASK, ...more]);
  const landed = await walkForms(await login.shown, 'dana', isCallback);
  const page = await visit(landed.href);
  return { ...login.written, code: await login.code, page, landed, ...{ written: login.written } };
}

/** The kept token is about to end. */
function age(): void {
  const kept = JSON.parse(readFileSync(file(), 'utf8')) as { logins: Record<string, { expires_at: number }> };
  for (const login of Object.values(kept.logins)) login.expires_at = Date.now() + 5000;
  writeFileSync(file(), JSON.stringify(kept));
}

describe('the corpus of manipulated answers', () => {
  const corpus = read<readonly Case[]>('native-login');

  test.each(corpus.map((one) => [one.name, one] as const))('%s', async (_name, one) => {
    verifies('SF-50');
    const login = command(ASK);
    const landed = await walkForms(await login.shown, 'dana', isCallback);
    const good = landed.href;
    const words: Record<string, string> = { '{issuer}/': `${issuer.issuer}/` };
    if (JSON.stringify(one).includes('{other')) {
      const other = command(ASK, { PORTCULLIS_CREDENTIALS: join(home.path, 'other.json') });
      const away = await walkForms(await other.shown, 'eve', isCallback);
      words['{other code}'] = away.searchParams.get('code') ?? '';
      words['{other state}'] = away.searchParams.get('state') ?? '';
      await visit(`${away.origin}/callback?error=access_denied&state=${words['{other state}']}`);
      expect(await other.code).toBe(1);
    }
    for (const [name, value] of Object.entries(one.query ?? {})) {
      if (value === null) landed.searchParams.delete(name);
      else landed.searchParams.set(name, words[value] ?? value);
    }
    for (const name of one.twice ?? []) landed.searchParams.append(name, landed.searchParams.get(name) ?? '');
    const page = await visit(landed.href);
    if (one.waits === true) {
      // Whoever does not know the state is nobody: the login goes on.
      expect([page.status, login.written.err.match(/Logged in|refuse|not good/)]).toEqual([400, null]);
      expect([(await visit(good)).status, await login.code]).toEqual([200, 0]);
      return;
    }
    expect([await login.code, page.status]).toEqual([one.exit ?? 1, one.status ?? 400]);
    expect(existsSync(file())).toBe(one.exit === 0);
    if (one.says !== undefined) expect(login.written.err).toContain(one.says);
    // Neither what was sent nor a token is shown to anybody.
    expect(login.written.err + page.body).not.toMatch(/evil|eyJ|code=/);
    expect(`${login.written.err}${page.body}`).not.toContain('\u001b');
    expect(login.written.out).toBe('');
  });

  countAttacks('OAuth', corpus.filter((one) => one.exit !== 0).length);

  test('has its size', () => expect(corpus.length).toBeGreaterThanOrEqual(20));
});

describe('the way back of the browser', () => {
  test('takes one answer, at one address, by one name', async () => {
    verifies('SF-50');
    const login = command(ASK);
    const landed = await walkForms(await login.shown, 'dana', isCallback);
    const { origin, host } = landed;
    const others = [
      await visit(`${origin}/favicon.ico`),
      await visit(`${origin}/callback/more`),
      await visit(landed.href, {}, 'POST'),
      await visit(landed.href, { host: `evil.example:${landed.port}` }),
      await visit(landed.href, { host: host.replace('127.0.0.1', 'localhost') }),
    ];
    expect(others.map(({ status }) => status)).toEqual([404, 404, 405, 400, 400]);
    const { promise: asked, resolve } = Promise.withResolvers<void>();
    // While the first answer is looked at, a second one comes.
    issuer.provider.once('grant.success', () => resolve());
    const first = visit(landed.href);
    const second = await visit(landed.href);
    await asked;
    expect([(await first).status, second.status, await login.code]).toEqual([200, 410, 0]);
    expect((await first).body).toContain('You may close this window');
    await expect(visit(landed.href)).rejects.toThrow();
  });

  test('is told to nobody but the issuer, with a challenge and the resource', async () => {
    const login = command([...ASK, '--resource', base, '--issuer', issuer.issuer, '--scope', 'openid gateway:use']);
    const { origin, searchParams } = new URL(await login.shown);
    expect(origin).toBe(issuer.issuer);
    expect(Object.fromEntries(searchParams)).toMatchObject({
      ...{ response_type: 'code', client_id: CLIENT, code_challenge_method: 'S256', resource: base },
      ...{ scope: 'openid gateway:use', state: expect.stringMatching(/^[\w-]{43}$/), nonce: expect.any(String) },
      redirect_uri: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+\/callback$/),
    });
    await visit(`${searchParams.get('redirect_uri')}?error=access_denied&state=${searchParams.get('state')}`);
    await login.code;
  });
});

describe('a login', () => {
  test('is kept for its owner alone, used by other commands, and ended', async () => {
    const { code, out, err, page } = await loggedIn();
    expect([code, out, page.status]).toEqual([0, '', 200]);
    expect(err).toContain('Log in at');
    expect(statSync(file()).mode & 0o777).toBe(0o600);
    const status = JSON.parse((await run('status', '--json')).out) as { logins: object[] };
    expect(status.logins).toEqual([
      expect.objectContaining({ gateway: base, issuer: issuer.issuer, subject: 'dana', renewable: true }),
    ]);
    expect((await run('status')).out).toMatch(/ dana {2}renewed when needed /);
    const token = (await run('token')).out.trim();
    expect(token.split('.')).toHaveLength(3);
    const kept = JSON.parse(readFileSync(file(), 'utf8')).logins[base] as { refresh_token: string };
    const ended = await run('logout');
    expect(ended).toMatchObject({ code: 0, out: '' });
    expect(readFileSync(file(), 'utf8')).not.toContain(token);
    const again = await fetch(`${issuer.issuer}/token`, {
      method: 'POST',
      body: new URLSearchParams({
        ...{ grant_type: 'refresh_token', client_id: CLIENT, refresh_token: kept.refresh_token },
      }),
    });
    expect(await again.json()).toMatchObject({ error: 'invalid_grant' });
    expect((await run('status')).code).toBe(1);
    expect(await run('token')).toMatchObject({ code: 1, out: '' });
    expect(await run('logout')).toMatchObject({ code: 1 });
  });

  test('gives commands their credential, and is for its gateway only', async () => {
    await loggedIn();
    const env = { XDG_CONFIG_HOME: home.path };
    const list = async (url: string) => {
      let err = '';
      const code = await main(['approvals', 'list', '--url', url], {
        ...{ stdin: Readable.from([]), out: () => {}, env, cwd: home.path, signal: new AbortController().signal },
        err: (text) => {
          err += text;
        },
      });
      return { code, err };
    };
    expect(await list(base)).toEqual({ code: 0, err: 'No request is pending that this key may see.\n' });
    const elsewhere = await list(issuer.issuer);
    expect(elsewhere).toMatchObject({ code: 1, err: expect.stringContaining('who asks?') });
  });

  test('is renewed before it ends, once for commands at the same time', async () => {
    await loggedIn();
    age();
    const before = issuer.asked.length;
    const tokens = await Promise.all([run('token'), run('token'), run('token')]);
    expect(tokens.map(({ code }) => code)).toEqual([0, 0, 0]);
    expect(new Set(tokens.map(({ out }) => out)).size).toBe(1);
    expect(issuer.asked.slice(before).filter((path) => path === '/token')).toHaveLength(1);
  });

  test('that cannot be renewed says so: refused is no, away is nobody to ask', async () => {
    await loggedIn();
    age();
    issuer.interfere((path) => (path === '/token' ? { status: 503, body: '{}' } : null));
    try {
      expect(await run('token')).toMatchObject({ code: 3, out: '' });
      issuer.interfere((path) => (path === '/token' ? { status: 400, body: '{"error":"invalid_grant"}' } : null));
      expect(await run('token')).toMatchObject({ code: 1, out: '', err: expect.stringContaining('log in again') });
    } finally {
      issuer.interfere(null);
    }
    expect((await run('token')).code).toBe(0);
  });

  test('leaves this machine even when the issuer is away', async () => {
    await loggedIn();
    issuer.interfere(() => ({ status: 503, body: '{}' }));
    try {
      expect(await run('logout', '--all')).toMatchObject({ code: 3 });
    } finally {
      issuer.interfere(null);
    }
    expect((await run('status')).code).toBe(1);
  });

  test('is not read from a file that others may read, nor from one that is none', async () => {
    await loggedIn();
    chmodSync(file(), 0o644);
    expect(await run('token')).toMatchObject({ code: 1, err: expect.stringContaining('chmod 600') });
    writeFileSync(file(), '{"version":1}');
    chmodSync(file(), 0o600);
    expect(await run('token')).toMatchObject({ code: 1, err: expect.stringContaining('not a file of kept logins') });
  });

  test.each([
    ['another gateway', ['--url', 'http://127.0.0.1:9'], 3],
    ['plain http to another machine', ['--url', 'http://gateway.example'], 1],
    ['an issuer over plain http', ['--issuer', 'http://issuer.example'], 1],
    ['an issuer and a provider', ['--issuer', 'https://a.example', '--provider', 'x'], 2],
    ['a password and an issuer', ['--username', 'a', '--issuer', 'https://a.example'], 2],
    ['a gateway that has no such route', ['--resource', 'http://127.0.0.1:9/mcp'], 3],
  ])('is not begun with %s', async (_name, more, exit) => {
    expect((await run('login', '--no-browser', ...more)).code).toBe(exit);
  });

  test('comes from the provider of a configuration', async () => {
    const settings = {
      version: 1,
      public_url: base,
      identity: { staff: { kind: 'oidc', issuer: issuer.issuer, client_id: CLIENT }, keys: { kind: 'api-key' } },
    };
    writeFileSync(join(home.path, 'p.yaml'), JSON.stringify(settings));
    const login = command(['login', '--no-browser', '--provider', 'staff', '-c', 'p.yaml']);
    const { searchParams } = new URL(await login.shown);
    expect([searchParams.get('client_id'), searchParams.get('resource')]).toEqual([CLIENT, base]);
    await visit(`${searchParams.get('redirect_uri')}?error=access_denied&state=${searchParams.get('state')}`);
    expect(await login.code).toBe(1);
    expect((await run('login', '--provider', 'keys', '-c', 'p.yaml')).code).toBe(2);
    expect((await run('login', '--provider', 'constructor', '-c', 'p.yaml')).code).toBe(2);
  });
});

describe('a login on another device', () => {
  const corpus = read<readonly DeviceCase[]>('device-login');

  /** Somebody opens the address and agrees, with the server's own pages. */
  async function agree(complete: string): Promise<void> {
    const browser = await openBrowser();
    try {
      const page = await browser.newPage();
      await page.goto(complete);
      await page.click('button[autofocus]');
      await page.fill('input[name=login]', 'dana');
      await page.fill('input[name=password]', 'x');
      await page.click('button[type=submit]');
      await page.waitForURL((url) => url.pathname.startsWith('/interaction/'));
      await page.click('button[type=submit]');
      await page.waitForURL((url) => url.pathname.startsWith('/device/'));
    } finally {
      await browser.close();
    }
  }

  test.each(corpus.map((one) => [one.name, one] as const))('%s', async (_name, one) => {
    let now = 1_800_000_000_000;
    const clock = { now: () => now };
    const configuration = await openIssuer(issuer.issuer, CLIENT, clock);
    const login = await beginDeviceLogin(configuration, { scope: 'openid', resource: null }, clock);
    const waits: number[] = [];
    const wait = async (ms: number) => {
      waits.push(ms / 1000);
      now += ms;
    };
    const answers = [...one.answers];
    issuer.interfere((path) => {
      if (path !== '/token') return null;
      const next = answers.shift() ?? 'granted';
      if (typeof next === 'number') return { status: next, body: '{}' };
      if (next !== 'granted') return { status: 400, body: JSON.stringify({ error: next }) };
      return { status: 200, body: JSON.stringify({ access_token: 'opaque', token_type: 'Bearer', expires_in: 60 }) };
    });
    const ended = await login.finish(wait).then(
      () => 'tokens',
      (error: unknown) => String(error),
    );
    issuer.interfere(null);
    expect(ended).toContain(one.ends);
    if (one.waits !== undefined) expect(waits).toEqual(one.waits);
    expect(Math.max(...waits)).toBeLessThanOrEqual(600);
    expect(waits.every((seconds) => seconds >= 5)).toBe(true);
  });

  test.skipIf(NO_BROWSER !== '')(`is finished there with a real browser${NO_BROWSER}`, async () => {
    // The server's own answer, with a shorter time between two questions than a person would need.
    const asked = await fetch(`${issuer.issuer}/device/auth`, {
      method: 'POST',
      body: new URLSearchParams({ client_id: CLIENT, scope: 'openid offline_access gateway:use', resource: base }),
    });
    const begun = (await asked.json()) as { user_code: string; verification_uri_complete: string };
    await agree(begun.verification_uri_complete);
    const body = JSON.stringify({ ...begun, interval: 0.01 });
    issuer.interfere((path) => (path === '/device/auth' ? { status: 200, body } : null));
    const login = await run('login', '--device', '--client-id', CLIENT);
    issuer.interfere(null);
    expect(login).toMatchObject({ code: 0, out: '', err: expect.stringContaining(begun.user_code) });
    expect((await run('token')).out.split('.')).toHaveLength(3);
  });
});

describe(`a person with nothing but the address of a gateway${NO_BROWSER}`, () => {
  test.skipIf(NO_BROWSER !== '')('logs in with a real browser, which the command opens', async () => {
    const opener = join(home.path, 'opener.sh');
    writeFileSync(
      opener,
      `#!/bin/sh\nprintf '%s' "$1" > '${join(home.path, 'opened')}.new'\nmv '${join(home.path, 'opened')}.new' '${join(home.path, 'opened')}'\n`,
    );
    chmodSync(opener, 0o755);
    const login = command(['login', '--url', `${base}/`, '--json'], { BROWSER: opener });
    const browser = await openBrowser();
    try {
      const page = await browser.newPage();
      await logIn(page, await login.shown, 'dana', isCallback);
      await page.waitForSelector('h1');
      expect(await page.textContent('body')).toContain('You may close this window.');
    } finally {
      await browser.close();
    }
    expect(await login.code).toBe(0);
    expect(JSON.parse(login.written.out)).toMatchObject({ gateway: base, subject: 'dana', renewable: true });
    expect(login.written.out).not.toContain('eyJ');
    await expect.poll(() => existsSync(join(home.path, 'opened'))).toBe(true);
    expect(readFileSync(join(home.path, 'opened'), 'utf8')).toBe(await login.shown);
  });
});
