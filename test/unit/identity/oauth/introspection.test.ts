/** The introspection provider: what it asks, what it believes, and what it does while nobody answers. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { generateKey } from '../../../../src/identity/key-format.ts';
import type { IdentityProvider } from '../../../../src/identity/provider.ts';
import { introspection } from '../../../../src/identity/providers/introspection.ts';
import { revokeToken } from '../../../../src/identity/revocations.ts';
import { countAttacks } from '../../../helpers/attacks.ts';
import { verifies } from '../../../helpers/verifies.ts';
import { bearer, keyHeader, NEVER, type Setting, START, setting } from '../setting.ts';
import { type FakeServer, fakeServer, filled } from './fake-server.ts';

interface Case {
  readonly name: string;
  readonly expect: string;
  readonly answer?: Record<string, unknown>;
  readonly unset?: readonly string[];
  readonly options?: Record<string, unknown>;
  readonly subject?: string;
  readonly type?: string;
  readonly text?: string;
  readonly contentType?: string;
  readonly status?: number;
  readonly pad?: number;
  readonly hang?: boolean;
}

const corpus = JSON.parse(
  readFileSync(new URL('../../../corpus/oauth/introspection.json', import.meta.url), 'utf8'),
) as {
  readonly base: Record<string, unknown>;
  readonly cases: readonly Case[];
};
const NOW = START / 1000;
const folder = mkdtempSync(join(tmpdir(), 'portcullis-introspection-'));
let server: FakeServer;
let around: Setting;
beforeAll(async () => {
  server = await fakeServer();
});
beforeEach(async () => {
  around = await setting({ baseDir: folder });
  server.asked.length = 0;
  answer({});
  return () => around[Symbol.asyncDispose]();
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

function provider(options: Record<string, unknown> = {}): Promise<IdentityProvider> | IdentityProvider {
  const parsed = introspection.schema.parse({
    kind: 'introspection',
    issuer: server.url,
    client_id: 'gateway',
    client_secret: 'a secret of the gateway',
    introspection_endpoint: `${server.url}/introspect`,
    audience: 'portcullis',
    ...options,
  });
  return introspection.create(parsed, around.env);
}

function answer(change: Record<string, unknown>, unset: readonly string[] = []): void {
  const whole = { ...corpus.base, ...change };
  for (const name of unset) delete whole[name];
  server.json('/introspect', filled(whole, server.url, NOW));
}

const ask = (one: IdentityProvider, token = 'opaque-token', changes = {}) =>
  one.authenticate(bearer(token), around.facts(changes), NEVER);

describe('the corpus of introspection answers', () => {
  test.each(corpus.cases.map((one) => [one.name, one] as const))('%s', async (_name, one) => {
    verifies('D-07', 'S-66', 'SF-50');
    const text = one.text?.replaceAll(/\{now([+-]\d+)\}/g, (_all, by: string) => String(NOW + Number(by)));
    server.at('/introspect', (_asked, response) => {
      if (one.hang === true) return;
      const whole: Record<string, unknown> = { ...corpus.base, ...one.answer };
      for (const name of one.unset ?? []) delete whole[name];
      if (one.pad !== undefined) whole.pad = 'x'.repeat(one.pad);
      response
        .writeHead(one.status ?? 200, { 'content-type': one.contentType ?? 'application/json', location: '/elsewhere' })
        .end(text ?? JSON.stringify(filled(whole, server.url, NOW)));
    });
    const result = await ask(await provider({ timeout_ms: 300, ...one.options }));
    expect(result.kind === 'rejected' ? result.reason : result.kind).toBe(one.expect);
    if (result.kind === 'authenticated') {
      expect(result.principal).toMatchObject({ id: one.subject ?? 'alice', type: one.type ?? 'user' });
    }
    // Whatever came back, nobody was sent on to another place.
    expect(server.asked.map(({ path }) => path)).toEqual(['/introspect']);
  });

  countAttacks('OAuth', corpus.cases.filter((one) => one.expect !== 'authenticated').length);
});

describe('what is asked', () => {
  test('the token goes in the body, with the client proved by basic', async () => {
    verifies('D-07');
    await ask(await provider());
    expect(server.asked).toHaveLength(1);
    const [asked] = server.asked;
    const form = new URLSearchParams(asked?.body);
    expect([asked?.method, asked?.path, form.get('token'), form.get('token_type_hint')]).toEqual([
      'POST',
      '/introspect',
      'opaque-token',
      'access_token',
    ]);
    const given = Buffer.from(asked?.headers.authorization?.slice('Basic '.length) ?? '', 'base64').toString();
    expect(given).toBe('gateway:a+secret+of+the+gateway');
  });

  test('the client can be proved in the body, or with a signed assertion', async () => {
    const file = join(folder, 'client.pem');
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    writeFileSync(file, privateKey.export({ type: 'pkcs8', format: 'pem' }));
    await ask(await provider({ authentication: 'post' }));
    await ask(await provider({ client_secret: undefined, private_key: 'client.pem', private_key_id: 'k1' }));
    const [posted, signed] = server.asked.map(({ body }) => new URLSearchParams(body));
    expect(posted?.get('client_secret')).toBe('a secret of the gateway');
    const assertion = signed?.get('client_assertion') ?? '';
    const [header, claims] = assertion
      .split('.', 2)
      .map((part) => JSON.parse(Buffer.from(part, 'base64url').toString()));
    expect(header).toMatchObject({ alg: 'ES256', kid: 'k1' });
    expect(claims).toMatchObject({ iss: 'gateway', sub: 'gateway', aud: server.url });
  });

  test('our own keys, tokens of other issuers and other credentials are not sent anywhere', async () => {
    verifies('SF-59');
    const one = await provider();
    const key = generateKey('pc', 'dev').text;
    const claims = Buffer.from('{"iss":"https://other.example"}').toString('base64url');
    const foreign = `${Buffer.from('{"alg":"ES256"}').toString('base64url')}.${claims}.c2ln`;
    const refresh = `pcr_ses_${'0'.repeat(26)}_1_${'A'.repeat(43)}`;
    const mistyped = `${key.slice(0, -1)}${key.endsWith('a') ? 'b' : 'a'}`;
    const compatible = ['hok_live_anything-of-a-key-service', generateKey('acme_prod', 'live').text.slice(0, -3)];
    for (const own of [key, mistyped, refresh, refresh.slice(0, -2), `pcs_${'A'.repeat(43)}`, ...compatible]) {
      expect(await ask(one, own)).toEqual({ kind: 'not-applicable' });
    }
    expect(await ask(one, foreign)).toEqual({ kind: 'not-applicable' });
    expect(await one.authenticate(keyHeader('opaque-token'), around.facts(), NEVER)).toEqual({
      kind: 'not-applicable',
    });
    expect(await ask(one, 'x'.repeat(9000))).toMatchObject({ kind: 'rejected', reason: 'invalid' });
    expect(server.asked).toEqual([]);
  });

  test('claims become the principal as they do for JWTs', async () => {
    verifies('S-61');
    answer({ roles: ['admin', 'made-up'], tenant_id: 'acme', groups: ['g1'], jti: 'j1', amr: ['mfa'] });
    const result = await ask(await provider({ scope_permissions: { read: ['tasks.read'] } }));
    expect(result).toMatchObject({
      principal: {
        ...{ id: 'alice', tenant_id: 'acme', roles: ['admin'], groups: ['g1'], scopes: ['read', 'write'] },
        permissions: ['tasks.read'],
        auth: { provider: 'staff', method: 'bearer', token_id: 'j1', mfa_verified: true, expires_at: NOW + 3600 },
      },
    });
  });
});

describe('what is remembered', () => {
  test('a good answer, no longer than the token lives', async () => {
    verifies('SF-50');
    answer({ exp: NOW + 30 });
    const one = await provider({ clock_skew_seconds: 0 });
    const first = await ask(one);
    expect(await ask(one)).toBe(first);
    around.move(29_000);
    await ask(one);
    expect(server.asked).toHaveLength(1);
    around.move(1000);
    expect(await ask(one)).toMatchObject({ reason: 'expired' });
    expect(server.asked).toHaveLength(2);
  });

  test('a token that is not good, shortly', async () => {
    answer({ active: false });
    const one = await provider();
    await ask(one);
    await ask(one);
    expect(server.asked).toHaveLength(1);
    answer({});
    around.move(10_000);
    expect(await ask(one)).toMatchObject({ kind: 'authenticated' });
  });

  test('one question at a time for the same token', async () => {
    const one = await provider();
    const results = await Promise.all(Array.from({ length: 20 }, () => ask(one)));
    expect(new Set(results).size).toBe(1);
    expect(server.asked).toHaveLength(1);
  });

  test('nothing of a token that is revoked here', async () => {
    answer({ jti: 'j1' });
    const one = await provider();
    expect(await ask(one)).toMatchObject({ kind: 'authenticated' });
    await revokeToken(around.shared, server.url, 'j1', START + 60_000, START);
    expect(await ask(one)).toMatchObject({ kind: 'rejected', reason: 'invalid' });
  });

  test('without a configured audience a token is good only where it is meant for', async () => {
    around = await setting({ publicUrl: 'https://Gateway.example/' });
    const one = await provider({ audience: undefined });
    answer({ aud: 'https://gateway.example/mcp/orders' });
    expect(await ask(one, 't1', { route: '/mcp/orders' })).toMatchObject({ kind: 'authenticated' });
    expect(await ask(one, 't1', { route: '/mcp/notes' })).toMatchObject({ reason: 'invalid' });
    answer({ aud: 'https://gateway.example' });
    expect(await ask(one, 't2', { route: '/mcp/notes' })).toMatchObject({ kind: 'authenticated' });
  });
});

describe('an outage', () => {
  test('is 503 and never a guest; after five failures nobody waits, and one question finds out', async () => {
    verifies('SF-59');
    const one = await provider();
    server.at('/introspect', (_asked, response) => response.destroy());
    for (let i = 0; i < 6; i++) expect(await ask(one, `t${i}`)).toEqual({ kind: 'rejected', reason: 'unavailable' });
    expect(server.asked).toHaveLength(5);
    expect(await one.health?.()).toMatchObject({ state: 'down' });
    answer({});
    around.move(10_000);
    expect(await ask(one)).toMatchObject({ kind: 'authenticated' });
    expect(await one.health?.()).toEqual({ state: 'ok' });
  });

  test('made by a flood of tokens stays here', async () => {
    const one = await provider();
    const held: (() => void)[] = [];
    const { promise: full, resolve } = Promise.withResolvers<void>();
    server.at('/introspect', (_asked, response) => {
      held.push(() => response.writeHead(200, { 'content-type': 'application/json' }).end('{"active":false}'));
      if (held.length === 100) resolve();
    });
    const asked = Array.from({ length: 100 }, (_, at) => ask(one, `made-up-${at}`));
    await full;
    expect(await ask(one, 'one-more')).toEqual({ kind: 'rejected', reason: 'unavailable' });
    for (const answering of held) answering();
    for (const result of await Promise.all(asked)) expect(result).toMatchObject({ reason: 'invalid' });
    expect(server.asked).toHaveLength(100);
  });

  test('is not seen by tokens that are known', async () => {
    const one = await provider();
    await ask(one);
    server.at('/introspect', (_asked, response) => response.destroy());
    expect(await ask(one)).toMatchObject({ kind: 'authenticated' });
  });

  test('logs name the provider and never the token', async () => {
    server.at('/introspect', (_asked, response) => response.destroy());
    await ask(await provider(), 'a-token-nobody-may-read');
    const text = around.lines.map(
      ({ fields, message }) => `${message} ${String((fields as { err?: Error }).err?.stack)}`,
    );
    expect(text.join('\n')).toContain('the authorization server could not be asked');
    expect(text.join('\n')).not.toContain('a-token-nobody-may-read');
  });
});

describe('the user behind the token', () => {
  const discovered = () => {
    server.json('/.well-known/openid-configuration', {
      issuer: server.url,
      introspection_endpoint: `${server.url}/introspect`,
      userinfo_endpoint: `${server.url}/userinfo`,
    });
    return provider({ introspection_endpoint: undefined, userinfo: true });
  };

  test('adds claims, but none about the token', async () => {
    verifies('S-65', 'S-63');
    server.json('/userinfo', {
      sub: 'alice',
      email: 'alice@example.com',
      roles: ['developer'],
      scope: 'admin',
      exp: 1,
    });
    const result = await ask(await discovered());
    expect(result).toMatchObject({
      principal: { email: 'alice@example.com', roles: ['developer'], scopes: ['read', 'write'] },
    });
    expect(server.asked.map(({ path }) => path)).toEqual([
      '/.well-known/openid-configuration',
      '/introspect',
      '/userinfo',
    ]);
  });

  test('must be the token’s owner', async () => {
    verifies('S-65');
    server.json('/userinfo', { sub: 'mallory', roles: ['admin'] });
    expect(await ask(await discovered())).toMatchObject({ kind: 'rejected', reason: 'unavailable' });
  });

  test.each([
    ['names another issuer', { issuer: 'https://other.example' }],
    ['names the issuer with a slash more', { issuer: '{issuer}/' }],
    ['sends tokens over plain http', { introspection_endpoint: 'http://idp.example.com/introspect' }],
    ['has a script for an authorization endpoint', { authorization_endpoint: 'javascript:alert(1)' }],
    ['has a file for its keys', { jwks_uri: 'file:///etc/passwd' }],
    ['has credentials in an endpoint', { userinfo_endpoint: 'https://user:pass@idp.example.com/userinfo' }],
    ['has a list for an endpoint', { token_endpoint: ['https://idp.example.com/token'] }],
  ])('is not asked by a discovery document that %s', async (_name, change) => {
    verifies('S-63', 'SF-50');
    const whole = { issuer: server.url, introspection_endpoint: `${server.url}/introspect`, ...change };
    server.json('/.well-known/openid-configuration', filled(whole, server.url, NOW));
    const result = await ask(await provider({ introspection_endpoint: undefined }));
    expect(result).toEqual({ kind: 'rejected', reason: 'unavailable' });
    expect(server.asked.map(({ path }) => path)).toEqual(['/.well-known/openid-configuration']);
  });
});

describe('a configuration', () => {
  test.each([
    ['an issuer over plain http', { issuer: 'http://idp.example.com' }],
    ['an endpoint over plain http', { introspection_endpoint: 'http://idp.example.com/i' }],
    ['no check of the audience and any client', { require_audience: false }],
    ['a secret and a key', { private_key: 'client.pem' }],
    ['a method without its secret', { client_secret: undefined, authentication: 'basic' }],
    ['userinfo that cannot be found', { userinfo: true }],
  ])('with %s is refused', (_name, change) => {
    expect(() => provider(change)).toThrow();
  });

  test('without audience and public_url is refused at start', async () => {
    await expect(provider({ audience: undefined })).rejects.toThrow(/public_url/);
  });
});
