/** Replays test/corpus/oauth/discovery.json: what a server says of itself, and the keys it says are its own. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LoginFault, tokensOf } from '../../../../src/identity/oauth/native-client.ts';
import { discoverResource } from '../../../../src/identity/oauth/resource-discovery.ts';
import { documentProblem } from '../../../../src/identity/oauth/server.ts';
import { oidc } from '../../../../src/identity/providers/oidc.ts';
import { countAttacks } from '../../../helpers/attacks.ts';
import { GATEWAY_CLIENT } from '../../../helpers/authorization-server.ts';
import { ROOT } from '../../../helpers/processes.ts';
import { verifies } from '../../../helpers/verifies.ts';
import { keyNamed, publicJwk } from '../forge.ts';
import { bearer, NEVER, START, setting } from '../setting.ts';
import { type FakeServer, fakeServer, filled } from './fake-server.ts';
import { makeToken } from './tokens.ts';

interface Case {
  readonly name: string;
  readonly expect: 'authenticated' | 'invalid' | 'unavailable';
  readonly document?: Record<string, unknown>;
  readonly unset?: readonly string[];
  readonly text?: string;
  readonly status?: number;
  readonly keys?: keyof typeof KEYS;
}

const SIGNING = { ...publicJwk('ec-1'), kid: 'ec-1', use: 'sig', alg: 'ES256' };
const KEYS = {
  good: () => [SIGNING],
  other: () => [{ ...publicJwk('ec-ops'), kid: 'ec-1', use: 'sig', alg: 'ES256' }],
  encryption: () => [{ ...SIGNING, use: 'enc' }],
  symmetric: () => [{ kty: 'oct', k: Buffer.from('a key that everybody can read').toString('base64url'), kid: 'ec-1' }],
  private: () => [{ ...keyNamed('ec-1').export({ format: 'jwk' }), kid: 'ec-1', use: 'sig', alg: 'ES256' }],
  none: () => [],
};

const corpus = JSON.parse(readFileSync(join(ROOT, 'test/corpus/oauth/discovery.json'), 'utf8')) as readonly Case[];
const NOW = START / 1000;
let server: FakeServer;
beforeAll(async () => {
  server = await fakeServer();
});
afterAll(() => server[Symbol.asyncDispose]());

function describeServer(one: Case): void {
  const at = (path: string) => `{issuer}${path}`;
  const places = { authorization_endpoint: at('/authorize'), token_endpoint: at('/token'), jwks_uri: at('/jwks') };
  const document: Record<string, unknown> = { issuer: '{issuer}', ...places, ...one.document };
  for (const name of one.unset ?? []) delete document[name];
  const text = one.text?.replaceAll('{issuer}', server.url) ?? JSON.stringify(filled(document, server.url, NOW));
  server.at('/.well-known/openid-configuration', (_asked, response) => {
    const elsewhere = one.status === 302 ? { location: `${server.url}/elsewhere` } : {};
    response.writeHead(one.status ?? 200, { 'content-type': 'application/json', ...elsewhere }).end(text);
  });
  server.json('/elsewhere', filled({ issuer: '{issuer}', ...places }, server.url, NOW));
  server.json('/jwks', { keys: KEYS[one.keys ?? 'good']() });
}

describe('a discovery document', () => {
  countAttacks('OAuth', corpus.filter((one) => one.expect !== 'authenticated').length);

  test.each(corpus.map((one) => [one.name, one] as const))('%s', async (_name, one) => {
    verifies('SF-50');
    await using around = await setting({ publicUrl: 'https://gateway.example' });
    describeServer(one);
    const entry = { kind: 'oidc', issuer: server.url, ...GATEWAY_CLIENT, audience: 'us' };
    const provider = await oidc.create(oidc.schema.parse(entry), around.env);
    const claims = { iss: '{issuer}', sub: 'alice', aud: 'us', client_id: 'app', iat: '{now+0}', exp: '{now+60}' };
    const token = makeToken({ header: { typ: 'at+jwt' } }, claims, server.url, NOW);
    server.asked.length = 0;
    const result = await provider.authenticate(bearer(token), around.facts(), NEVER);
    expect(result.kind === 'rejected' ? result.reason : result.kind).toBe(one.expect);
    expect(server.asked.map(({ path }) => path)).not.toContain('/elsewhere');
    await provider.close?.();
  });
});

test.each(['authorization_endpoint', 'token_endpoint', 'jwks_uri', 'registration_endpoint', 'revocation_endpoint'])(
  'an issuer elsewhere has nothing of this machine asked as its %s',
  (name) => {
    const issuer = 'https://login.example';
    expect(documentProblem({ issuer, [name]: 'https://keys.login.example/x' }, issuer)).toBeNull();
    expect(documentProblem({ issuer, [name]: 'http://127.0.0.1:2375/containers/create' }, issuer)).toContain(name);
    const here = 'http://127.0.0.1:9';
    expect(documentProblem({ issuer: here, [name]: `${here}/x` }, here)).toBeNull();
  },
);

test.each(['\u001b]0;evil\u0007', '\u009b2J', '\u202e', '\n', ' '])(
  'a resource has no issuer shown whose name does something to a terminal: %j',
  async (evil) => {
    const issuers = [`${server.url}/good`, `${server.url}/${evil}x`];
    server.json('/.well-known/oauth-protected-resource', { resource: server.url, authorization_servers: issuers });
    await expect(discoverResource(server.url)).rejects.toThrow('names an issuer that may not be asked');
  },
);

test.each(['a\u001b]0;evil\u0007', 'a\nx-tenant: other', 'a b', 'ü', ''])('nor a token that is %j', (evil) => {
  const good = { access_token: 'a.b-c_d~e+f/g==', token_type: 'bearer' } as const;
  expect(tokensOf(good, 'client', 0).access.reveal()).toBe(good.access_token);
  expect(() => tokensOf({ ...good, access_token: evil }, 'client', 0)).toThrow(LoginFault);
  expect(() => tokensOf({ ...good, refresh_token: evil }, 'client', 0)).toThrow(LoginFault);
});
