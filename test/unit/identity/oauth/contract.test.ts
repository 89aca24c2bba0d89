/** What every provider that asks others owes: whatever comes back, a caller is known or refused, and never a guest. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { GatewayError } from '../../../../src/core/errors.ts';
import { createIdentityChain } from '../../../../src/identity/chain.ts';
import { createIdentityProvider, IDENTITY_SCHEMA } from '../../../../src/modules.ts';
import { GATEWAY_CLIENT } from '../../../helpers/authorization-server.ts';
import { verifies } from '../../../helpers/verifies.ts';
import { bearer, NEVER, type Setting, START, setting } from '../setting.ts';
import { type Answering, type FakeServer, fakeServer } from './fake-server.ts';
import { makeToken } from './tokens.ts';

let server: FakeServer;
let around: Setting;
beforeAll(async () => {
  server = await fakeServer();
});
afterAll(() => server[Symbol.asyncDispose]());
beforeEach(async () => {
  around = await setting({ publicUrl: 'https://gateway.example' });
});
afterEach(() => around[Symbol.asyncDispose]());

const FAILURES: Readonly<Record<string, Answering>> = {
  'hangs up': (_asked, response) => response.destroy(),
  fails: (_asked, response) => response.writeHead(500).end(),
  'sends elsewhere': (_asked, response) => response.writeHead(302, { location: 'https://evil.example' }).end(),
  'answers with a page': (_asked, response) =>
    response.writeHead(200, { 'content-type': 'text/html' }).end('<p>all is well</p>'),
  'answers with half a document': (_asked, response) =>
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"active":true,"iss'),
  'answers with nothing': (_asked, response) => response.writeHead(200, { 'content-type': 'application/json' }).end(),
  'breaks off': (_asked, response) => {
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' });
    response.write('{"active":true,', () => response.destroy());
  },
  'answers without end': (_asked, response) =>
    response.writeHead(200, { 'content-type': 'application/json' }).end(`{"pad":"${'x'.repeat(300_000)}"}`),
  'answers with null': (_asked, response) =>
    response.writeHead(200, { 'content-type': 'application/json' }).end('null'),
};

const PATHS = ['/.well-known/openid-configuration', '/jwks', '/introspect', '/userinfo'];

function entries(): Record<string, Record<string, unknown>> {
  const client = { issuer: server.url, ...GATEWAY_CLIENT, timeout_ms: 200 };
  return {
    jwt: { kind: 'jwt', issuer: server.url, audience: 'us', jwks: `${server.url}/jwks` },
    oidc: { kind: 'oidc', ...client },
    introspection: { kind: 'introspection', ...client },
    'introspection by address': {
      kind: 'introspection',
      ...client,
      introspection_endpoint: `${server.url}/introspect`,
    },
    userinfo: { kind: 'oidc', ...client, opaque_tokens: 'userinfo' },
  };
}

const KINDS = ['jwt', 'oidc', 'introspection', 'introspection by address', 'userinfo'];

async function expectRefused(name: string): Promise<void> {
  const provider = await createIdentityProvider(IDENTITY_SCHEMA.parse(entries()[name]), around.env);
  const chain = createIdentityChain([{ name, provider }], { anonymous: true, timeoutMs: 1900 });
  const claims = { iss: '{issuer}', sub: 'alice', aud: 'us', exp: '{now+60}' };
  const signed = makeToken({}, claims, server.url, START / 1000);
  for (const token of [signed, 'opaque']) {
    const answer = await chain.authenticate([bearer(token)], around.facts(), NEVER);
    expect(answer, name).toBeInstanceOf(GatewayError);
    expect([401, 503], name).toContain((answer as GatewayError).status);
  }
  await provider.close?.();
}

describe.each(KINDS)('%s', (name) => {
  test.each(Object.entries(FAILURES))(
    'refuses everyone while its server %s, also on a route open to all',
    async (_name, answering) => {
      verifies('SF-59', 'SF-50');
      for (const path of PATHS) server.at(path, answering);
      await expectRefused(name);
    },
  );
});

test('each refuses everyone while its server says nothing, also on a route open to all', async () => {
  verifies('SF-59', 'SF-50');
  for (const path of PATHS) server.at(path, () => undefined);
  // All at once: they wait for a second and a half each.
  await Promise.all(KINDS.map(expectRefused));
});
