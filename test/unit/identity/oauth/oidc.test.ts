/** The OpenID provider: what passes as an access token, what as an ID token, and how its server is treated. */
import { hash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { GatewayError } from '../../../../src/core/errors.ts';
import { Secret } from '../../../../src/core/secret.ts';
import { type BrowserLogin, loginEndpoints } from '../../../../src/identity/oauth/login-endpoints.ts';
import { SessionCookie } from '../../../../src/identity/oauth/session-cookie.ts';
import type { IdentityProvider } from '../../../../src/identity/provider.ts';
import { browserLogin, oidc } from '../../../../src/identity/providers/oidc.ts';
import { countAttacks } from '../../../helpers/attacks.ts';
import { GATEWAY_CLIENT } from '../../../helpers/authorization-server.ts';
import { verifies } from '../../../helpers/verifies.ts';
import { publicJwk } from '../forge.ts';
import { bearer, NEVER, type Setting, START, setting } from '../setting.ts';
import { type FakeServer, fakeServer, filled } from './fake-server.ts';
import { makeToken, type TokenRecipe } from './tokens.ts';

const NOW = START / 1000;
const RESOURCE = 'https://gateway.example/mcp';
const read = <T>(name: string) =>
  JSON.parse(readFileSync(new URL(`../../../corpus/oauth/${name}.json`, import.meta.url), 'utf8')) as readonly T[];

interface AccessCase extends TokenRecipe {
  readonly name: string;
  readonly expect: string;
  readonly options?: Record<string, unknown>;
}
interface IdCase extends AccessCase {
  readonly missing?: boolean;
  readonly raw?: string;
  readonly answer?: Record<string, unknown>;
  readonly status?: number;
  readonly html?: boolean;
}

let server: FakeServer;
let around: Setting;
beforeAll(async () => {
  server = await fakeServer();
});
afterAll(() => server[Symbol.asyncDispose]());
beforeEach(async () => {
  around = await setting({ publicUrl: 'https://gateway.example' });
  server.asked.length = 0;
  describeServer({});
  server.json('/jwks', { keys: [{ ...publicJwk('ec-1'), kid: 'ec-1', use: 'sig', alg: 'ES256' }] });
  return () => around[Symbol.asyncDispose]();
});

function describeServer(change: Record<string, unknown>): void {
  const at = (path: string) => `${server.url}${path}`;
  const whole = {
    ...{
      issuer: server.url,
      authorization_endpoint: at('/authorize'),
      token_endpoint: at('/token'),
      jwks_uri: at('/jwks'),
    },
    ...{ introspection_endpoint: at('/introspect'), userinfo_endpoint: at('/userinfo') },
    ...{
      code_challenge_methods_supported: ['S256'],
      id_token_signing_alg_values_supported: ['ES256', 'RS256', 'HS256', 'none'],
    },
    ...change,
  };
  server.json('/.well-known/openid-configuration', filled(whole, server.url, NOW));
}

async function provider(options: Record<string, unknown> = {}): Promise<IdentityProvider> {
  const parsed = oidc.schema.parse({ kind: 'oidc', issuer: server.url, ...GATEWAY_CLIENT, ...options });
  return oidc.create(parsed, around.env);
}

const ask = (one: IdentityProvider, token: string, changes = {}) =>
  one.authenticate(bearer(token), around.facts(changes), NEVER);

const ACCESS = { iss: '{issuer}', sub: 'alice', aud: RESOURCE, iat: '{now-10}', exp: '{now+600}', scope: 'read' };

describe('the corpus of access tokens', () => {
  const corpus = read<AccessCase>('access-tokens');
  test.each(corpus.map((one) => [one.name, one] as const))('%s', async (_name, one) => {
    verifies('S-66', 'SF-50', 'D-08');
    const result = await ask(await provider(one.options), makeToken(one, ACCESS, server.url, NOW));
    expect(result.kind === 'rejected' ? result.reason : result.kind).toBe(one.expect);
    if (result.kind === 'authenticated') expect(result.principal).toMatchObject({ id: 'alice', scopes: ['read'] });
    // Whatever it was, nobody was asked about a token that can be read here.
    expect(server.asked.map(({ path }) => path)).not.toContain('/introspect');
  });

  countAttacks('OAuth', corpus.filter((one) => one.expect !== 'authenticated').length);
});

/** Begins a login and brings back a code, as a browser would. */
async function logIn(
  one: IdentityProvider,
  idToken: (nonce: string) => string | undefined,
  change: IdCase | null = null,
) {
  const login = browserLogin(one);
  if (login === null) throw new Error('no login');
  const begun = await login.begin('https://gateway.example/auth/oauth/callback', '/app', around.env.clock.now());
  const asked = new URL(begun.location).searchParams;
  server.at('/token', (_asked, response) => {
    const id_token = idToken(asked.get('nonce') ?? '');
    const answer: Record<string, unknown> = {
      access_token: 'the-access-token',
      token_type: 'Bearer',
      id_token,
      ...change?.answer,
    };
    for (const name in answer) if (answer[name] === null) delete answer[name];
    response
      .writeHead(change?.status ?? 200, {
        'content-type': change?.html === true ? 'text/html' : 'application/json',
        location: '/x',
      })
      .end(JSON.stringify(answer));
  });
  const query = `?${new URLSearchParams({ code: 'c', state: begun.state })}`;
  const finished = await login.finish(query, begun.sealed, around.env.clock.now());
  return { asked, ...finished };
}

describe('the corpus of ID tokens', () => {
  const corpus = read<IdCase>('id-tokens');
  // openid-client reads the real clock.
  const now = Math.floor(Date.now() / 1000);
  const at_hash = hash('sha256', 'the-access-token', 'buffer').subarray(0, 16).toString('base64url');

  test.each(corpus.map((one) => [one.name, one] as const))('%s', async (_name, one) => {
    verifies('S-64', 'SF-50');
    const claims = one.claims?.at_hash === '{at_hash}' ? { ...one.claims, at_hash } : one.claims;
    const recipe: TokenRecipe = { ...one, ...(claims === undefined ? {} : { claims }) };
    const base = { iss: '{issuer}', sub: 'alice', aud: 'gateway', iat: '{now-5}', exp: '{now+60}', roles: ['admin'] };
    const idToken = (nonce: string) =>
      one.missing === true ? undefined : (one.raw ?? makeToken(recipe, { ...base, nonce }, server.url, now));
    const answer = await logIn(
      await provider({ login: {}, algorithms: ['ES256', 'RS256'], ...one.options }),
      idToken,
      one,
    ).catch((error: unknown) => error);
    if (answer instanceof GatewayError) expect(String(answer.status)).toBe(one.expect);
    else {
      const { session } = answer as { session: string | null };
      expect(session === null ? '403' : 'session').toBe(one.expect);
    }
  });

  countAttacks('OAuth', corpus.filter((one) => one.expect !== 'session').length);
});

describe('a login', () => {
  const now = Math.floor(Date.now() / 1000);
  const good = (nonce: string) =>
    makeToken(
      {},
      { iss: '{issuer}', sub: 'alice', aud: 'gateway', iat: '{now-5}', exp: '{now+60}', nonce, email: 'a@example.com' },
      server.url,
      now,
    );

  test('asks with PKCE S256, state, nonce and the exact address, and proves all of it', async () => {
    verifies('S-62', 'S-64', 'SF-50');
    const { asked, returnTo } = await logIn(await provider({ login: {} }), good);
    expect(asked.get('response_type')).toBe('code');
    expect(asked.get('scope')).toBe('openid profile email');
    expect(asked.get('code_challenge_method')).toBe('S256');
    expect(asked.get('redirect_uri')).toBe('https://gateway.example/auth/oauth/callback');
    const token = server.asked.find(({ path }) => path === '/token');
    const form = new URLSearchParams(token?.body);
    expect(hash('sha256', form.get('code_verifier') ?? '', 'base64url')).toBe(asked.get('code_challenge'));
    expect(form.get('redirect_uri')).toBe('https://gateway.example/auth/oauth/callback');
    expect(returnTo).toBe('/app');
  });

  test('ends in a session that is the user, until it is ended', async () => {
    verifies('S-61');
    const one = await provider({ login: { session_seconds: 60 } });
    const { session } = await logIn(one, good);
    const credential = { kind: 'session', value: new Secret(session ?? ''), source: 'cookie' } as const;
    const asked = () => one.authenticate(credential, around.facts(), NEVER);
    expect(await asked()).toMatchObject({
      principal: { id: 'alice', email: 'a@example.com', auth: { method: 'session', provider: 'staff' } },
    });
    await browserLogin(one)?.end(session ?? '');
    expect(await asked()).toMatchObject({ kind: 'rejected', reason: 'invalid' });
  });

  test('its session ends by itself, and is of one provider only', async () => {
    const one = await provider({ login: { session_seconds: 60 } });
    const { session } = await logIn(one, good);
    const credential = { kind: 'session', value: new Secret(session ?? ''), source: 'cookie' } as const;
    const other = await oidc.create(oidc.schema.parse({ kind: 'oidc', issuer: server.url, ...GATEWAY_CLIENT }), {
      ...around.env,
      name: 'partners',
    });
    expect(await other.authenticate(credential, around.facts(), NEVER)).toEqual({ kind: 'not-applicable' });
    around.move(60_000);
    expect(await one.authenticate(credential, around.facts(), NEVER)).toMatchObject({ kind: 'rejected' });
  });

  test.each([
    ['offers no PKCE', { code_challenge_methods_supported: undefined }],
    ['offers plain PKCE only', { code_challenge_methods_supported: ['plain'] }],
    ['has no token endpoint', { token_endpoint: undefined }],
    ['has no keys', { jwks_uri: undefined }],
    ['runs a script to log in', { authorization_endpoint: 'javascript:alert(1)' }],
    ['opens a document to log in', { authorization_endpoint: 'data:text/html,x' }],
    ['opens a file to log in', { authorization_endpoint: 'file:///etc/passwd' }],
    ['takes codes over plain http', { token_endpoint: 'http://idp.example.com/token' }],
    ['names another issuer', { issuer: 'https://evil.example' }],
    ['names its issuer with a slash more', { issuer: '{issuer}/' }],
  ])('is not begun where the server %s', async (_name, change) => {
    verifies('S-63', 'SF-50');
    describeServer(change);
    const error = await logIn(await provider({ login: {} }), good).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'AUTH_UNAVAILABLE' });
    expect(server.asked.map(({ path }) => path)).toEqual(['/.well-known/openid-configuration']);
  });

  test('of one provider cannot be finished at another (mix-up)', async () => {
    verifies('SF-50');
    const entry = oidc.schema.parse({ kind: 'oidc', issuer: server.url, ...GATEWAY_CLIENT, login: {} });
    const [honest, other] = await Promise.all([
      oidc.create(entry, around.env),
      oidc.create(entry, { ...around.env, name: 'partners' }),
    ]);
    const now = around.env.clock.now();
    const begun = await browserLogin(honest)?.begin('https://gateway.example/auth/oauth/callback/staff', '/', now);
    const finish = browserLogin(other)?.finish(`?code=c&state=${begun?.state}`, begun?.sealed ?? null, now);
    await expect(finish).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    expect(server.asked.map(({ path }) => path)).not.toContain('/token');
  });

  test('has an address of its own for each of several providers, and one that can be guessed for one', () => {
    const cookie = new SessionCookie('https://gateway.example');
    const named = (provider: string) => ({ provider }) as BrowserLogin;
    const paths = (...names: string[]) =>
      loginEndpoints(names.map(named), cookie, 'https://gateway.example').map(({ path }) => path);
    expect(paths('a')).toEqual(['/auth/oauth/start', '/auth/oauth/logout', '/auth/oauth/callback']);
    expect(paths('a', 'b').slice(2)).toEqual(['/auth/oauth/callback/a', '/auth/oauth/callback/b']);
    expect(cookie.name).toBe('__Host-portcullis');
    expect(cookie.line(cookie.name, 'x', 60)).toBe(
      '__Host-portcullis=x; Path=/; Max-Age=60; HttpOnly; Secure; SameSite=Lax',
    );
  });

  test('is begun where the operator knows that a silent server does PKCE', async () => {
    describeServer({ code_challenge_methods_supported: undefined });
    const { asked } = await logIn(await provider({ login: { pkce: 'assumed' } }), good);
    expect(asked.get('code_challenge_method')).toBe('S256');
  });

  test('discovery is read once, and read again when it is old', async () => {
    verifies('S-63');
    const one = await provider({ login: {} });
    const login = browserLogin(one);
    const discoveries = () => server.asked.map(({ path }) => path).filter((path) => path.startsWith('/.well-known'));
    const begin = () => login?.begin('https://gateway.example/cb', '/', around.env.clock.now());
    await Promise.all([begin(), begin(), begin()]);
    expect(discoveries()).toHaveLength(1);
    around.move(700_000);
    await begin();
    await one.health?.();
    expect(discoveries()).toHaveLength(2);
  });

  test('events name the provider and nobody', async () => {
    verifies('S-67');
    await logIn(await provider({ login: {} }), good);
    await logIn(await provider({ login: {} }), () => 'nonsense').catch(() => undefined);
    await ask(await provider(), makeToken({ key: 'stranger-ec' }, ACCESS, server.url, NOW));
    const events = around.lines.map(({ message }) => message);
    expect(events).toEqual(
      expect.arrayContaining([
        'oauth2_authentication_success',
        'oauth2_authentication_failed',
        'oauth2_validation_failed',
      ]),
    );
    expect(JSON.stringify(around.lines)).not.toMatch(/alice|a@example\.com/);
  });
});

describe('opaque tokens', () => {
  test('are introspected', async () => {
    verifies('S-66', 'D-07');
    server.json('/introspect', { active: true, sub: 'alice', aud: RESOURCE, exp: NOW + 60 });
    expect(await ask(await provider(), 'opaque')).toMatchObject({ kind: 'authenticated' });
  });

  test('are not, by a public client: then they are refused', async () => {
    const one = await provider({ client_secret: undefined });
    expect(await ask(one, 'opaque')).toMatchObject({ kind: 'rejected', reason: 'invalid' });
    expect(server.asked).toEqual([]);
  });

  test('go to userinfo only where that is configured', async () => {
    verifies('S-65');
    server.json('/userinfo', { sub: 'alice', roles: ['developer'] });
    const one = await provider({ opaque_tokens: 'userinfo' });
    expect(await ask(one, 'opaque')).toMatchObject({ principal: { id: 'alice', roles: ['developer'] } });
    server.at('/userinfo', (_asked, response) =>
      response.writeHead(401, { 'www-authenticate': 'Bearer error="invalid_token"' }).end(),
    );
    expect(await ask(one, 'other')).toMatchObject({ kind: 'rejected', reason: 'invalid' });
    server.at('/userinfo', (_asked, response) => response.writeHead(500).end());
    expect(await ask(one, 'third')).toMatchObject({ kind: 'rejected', reason: 'unavailable' });
  });
});

describe('an outage', () => {
  test.each([
    ['discovery', '/.well-known/openid-configuration'],
    ['the keys', '/jwks'],
  ])('of %s is 503, never a guest', async (_name, path) => {
    verifies('SF-59');
    server.at(path, (_asked, response) => response.destroy());
    const one = await provider();
    expect(await ask(one, makeToken({}, ACCESS, server.url, NOW))).toMatchObject({ reason: 'unavailable' });
    expect(await one.health?.()).toMatchObject({ state: 'down' });
  });

  test('a rotated key is found, a removed one forgotten', async () => {
    verifies('SF-50');
    const one = await provider({ jwks_max_age_seconds: 10 });
    const old = makeToken({}, ACCESS, server.url, NOW);
    expect(await ask(one, old)).toMatchObject({ kind: 'authenticated' });
    server.json('/jwks', { keys: [{ ...publicJwk('ec-ops'), kid: 'new', use: 'sig', alg: 'ES256' }] });
    around.move(31_000);
    const next = makeToken({ key: 'ec-ops', header: { kid: 'new' } }, ACCESS, server.url, NOW);
    expect(await ask(one, next)).toMatchObject({ kind: 'authenticated' });
    expect(await ask(one, old)).toMatchObject({ kind: 'rejected', reason: 'invalid' });
  });
});

describe('a configuration', () => {
  test.each([
    ['an audience by which ID tokens would pass', { audience: 'gateway' }],
    ['scopes without openid', { scopes: ['profile'] }],
    ['a shared-secret algorithm', { algorithms: ['HS256'] }],
    ['an issuer over plain http', { issuer: 'http://idp.example.com' }],
  ])('with %s is refused', async (_name, change) => {
    verifies('S-62');
    await expect(provider(change)).rejects.toThrow();
  });

  test('that takes typed access tokens only may have the client as audience', async () => {
    const one = await provider({ audience: 'gateway', typ: ['at+jwt'] });
    const claims = { aud: 'gateway' };
    expect(await ask(one, makeToken({ claims }, ACCESS, server.url, NOW))).toMatchObject({ reason: 'invalid' });
    const typed = makeToken({ claims, header: { typ: 'at+jwt' } }, ACCESS, server.url, NOW);
    expect(await ask(one, typed)).toMatchObject({ kind: 'authenticated' });
  });
});
