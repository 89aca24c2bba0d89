/** How keys are fetched, over real loopback connections. */
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FETCH_MAX_BYTES, fetchDocument, isFetchable } from '../../../src/identity/key-fetch.ts';
import { RETRY_INTERVAL_MS, UNKNOWN_KID_INTERVAL_MS } from '../../../src/identity/key-source.ts';
import type { AuthResult, IdentityProvider } from '../../../src/identity/provider.ts';
import { jwt } from '../../../src/identity/providers/jwt.ts';
import { AUDIENCE, forge, ISSUER, publicJwk, type Recipe } from './forge.ts';
import { bearer, NEVER, type Setting, setting } from './setting.ts';

let around: Setting;
let server: Server;
let url: string;
let requests = 0;
let answer: RequestListener;
let served: string[];

const jwkSet = () => JSON.stringify({ keys: served.map((name) => ({ ...publicJwk(name), kid: name })) });

beforeEach(async () => {
  around = await setting();
  requests = 0;
  served = ['ec-1'];
  answer = (_, response) => response.end(jwkSet());
  server = createServer((request, response) => {
    requests++;
    answer(request, response);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`;
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((done) => server.close(done));
  await around[Symbol.asyncDispose]();
});

async function provider(options = {}): Promise<IdentityProvider> {
  return jwt.create(
    jwt.schema.parse({ kind: 'jwt', issuer: ISSUER, audience: AUDIENCE, jwks: url, ...options }),
    around.env,
  );
}

let serial = 0;
/** A token that no cache knows yet. */
async function ask(from: IdentityProvider, recipe: Partial<Recipe> = {}): Promise<string> {
  const facts = around.facts();
  const claims = { exp: '$NOW+300', n: serial++, ...recipe.claims };
  const result: AuthResult = await from.authenticate(
    bearer(forge({ ...recipe, claims }, facts.now / 1000)),
    facts,
    NEVER,
  );
  return result.kind === 'rejected' ? result.reason : result.kind;
}

describe('the key set of an issuer', () => {
  test('is loaded once for many requests at once', async () => {
    const from = await provider();
    const all = await Promise.all(Array.from({ length: 20 }, () => ask(from)));
    expect(new Set(all)).toEqual(new Set(['authenticated']));
    expect(requests).toBe(1);
  });

  test('is loaded again for a new kid, so a rotation needs no restart', async () => {
    const from = await provider();
    await ask(from);
    served = ['ec-1', 'stranger-ec'];
    around.move(UNKNOWN_KID_INTERVAL_MS);
    expect(await ask(from, { key: 'stranger-ec' })).toBe('authenticated');
    expect(requests).toBe(2);
  });

  test('is not loaded more than once in 30 s for a flood of unknown kids', async () => {
    const from = await provider();
    await ask(from);
    around.move(UNKNOWN_KID_INTERVAL_MS);
    for (let i = 0; i < 50; i++) expect(await ask(from, { header: { kid: `k${i}` } })).toBe('invalid');
    expect(requests).toBe(2);
    expect(await ask(from)).toBe('authenticated');
  });

  test('is loaded again when it is old, and a removed key is refused at once, remembered tokens included', async () => {
    served = ['ec-1', 'ed-1'];
    const from = await provider({ jwks_max_age_seconds: 60 });
    const facts = around.facts();
    const old = forge({}, facts.now / 1000);
    expect((await from.authenticate(bearer(old), facts, NEVER)).kind).toBe('authenticated');
    served = ['ed-1'];
    around.move(61_000);
    expect(await ask(from, { header: { alg: 'EdDSA', kid: 'ed-1' }, key: 'ed-1' })).toBe('authenticated');
    expect(await from.authenticate(bearer(old), around.facts(), NEVER)).toMatchObject({
      kind: 'rejected',
      reason: 'invalid',
    });
  });

  test('serves on through an outage for a bounded time and then closes', async () => {
    const from = await provider({ jwks_max_age_seconds: 60, jwks_stale_seconds: 120 });
    await ask(from);
    answer = (_, response) => response.writeHead(500).end();
    around.move(61_000);
    expect(await ask(from)).toBe('authenticated');
    expect(await from.health?.()).toMatchObject({ state: 'degraded' });
    around.move(120_000);
    expect(await ask(from)).toBe('unavailable');
    expect(await from.health?.()).toMatchObject({ state: 'down' });
    answer = (_, response) => response.end(jwkSet());
    around.move(RETRY_INTERVAL_MS);
    expect(await ask(from)).toBe('authenticated');
    expect(await from.health?.()).toEqual({ state: 'ok' });
  });

  test('that never came makes authentication unavailable, without asking at every request', async () => {
    answer = (_, response) => response.writeHead(503).end();
    const from = await provider();
    for (let i = 0; i < 10; i++) expect(await ask(from)).toBe('unavailable');
    expect(requests).toBe(1);
  });

  test.each([
    ['a redirect', (_, response) => response.writeHead(302, { location: url }).end()],
    ['no JSON', (_, response) => response.end('<html>')],
    ['another JSON', (_, response) => response.end('[]')],
    ['duplicate keys', (_, response) => response.end(`{"keys":[],"keys":${JSON.stringify([publicJwk('ec-1')])}}`)],
    ['an empty set', (_, response) => response.end('{"keys":[]}')],
    [
      'too many keys',
      (_, response) => response.end(JSON.stringify({ keys: Array(101).fill({ ...publicJwk('ec-1'), kid: 'ec-1' }) })),
    ],
    ['too many bytes', (_, response) => response.end(jwkSet() + ' '.repeat(FETCH_MAX_BYTES))],
    ['a compressed body', (_, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(jwkSet())],
    ['a 206', (_, response) => response.writeHead(206).end(jwkSet())],
    [
      'a broken body',
      (_, response) => {
        response.writeHead(200, { 'content-length': 1000 });
        response.write('{');
        response.socket?.destroy();
      },
    ],
  ] satisfies [string, RequestListener][])('is not taken from %s', async (_, listener) => {
    answer = listener;
    expect(await ask(await provider())).toBe('unavailable');
    expect(requests).toBe(1);
  });

  test('is given up after a bounded time', async () => {
    answer = (_, response) => void response.writeHead(200).write('{');
    await expect(fetchDocument(url)).rejects.toThrow(/abort|timeout/i);
  });

  test('may come over https, or over http from this machine only', () => {
    for (const good of [
      'https://idp.example.com/jwks',
      'http://127.0.0.1:1/',
      'http://localhost/x',
      'http://[::1]:9/',
    ]) {
      expect(isFetchable(good)).toBe(true);
    }
    for (const bad of [
      'http://idp.example.com/',
      'http://127.0.0.1.evil.test/',
      'http://localhost.evil.test/',
      'ftp://127.0.0.1/',
      'file:///etc/passwd',
      'https://u@h/',
      'https://h/#f',
      'data:,x',
      '',
    ]) {
      expect(isFetchable(bad)).toBe(false);
    }
  });
});
