/** The one contract for every kind of provider, in front of a real server where the kind has one. */
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { assemble } from '../../../src/composition/assembly.ts';
import { openPlatform } from '../../../src/composition/platform.ts';
import { Secret } from '../../../src/core/secret.ts';
import { certificateCredential } from '../../../src/identity/client-certificate.ts';
import { issueKey } from '../../../src/identity/key-issuing.ts';
import type { Credential } from '../../../src/identity/provider.ts';
import { apiKey } from '../../../src/identity/providers/api-key.ts';
import { introspection } from '../../../src/identity/providers/introspection.ts';
import { jwt } from '../../../src/identity/providers/jwt.ts';
import { mtls } from '../../../src/identity/providers/mtls.ts';
import { oidc } from '../../../src/identity/providers/oidc.ts';
import { createIdentityProvider, IDENTITY_KINDS, IDENTITY_SCHEMA } from '../../../src/modules.ts';
import { identityProviderContract } from '../../contract/identity-provider.ts';
import { ACCOUNTS, authClient, IDENTITY, PASSWORD } from '../../helpers/accounts.ts';
import {
  type AuthorizationServer,
  GATEWAY_CLIENT,
  startAuthorizationServer,
} from '../../helpers/authorization-server.ts';
import { createAuthority } from '../../helpers/certificates.ts';
import { scenarioConfig, startGateway } from '../../helpers/gateway.ts';
import { ROOT, temporaryDirectory } from '../../helpers/processes.ts';
import { NO_SLAPD, startSlapd } from '../../helpers/processes-slapd.ts';
import { verifies } from '../../helpers/verifies.ts';
import { AUDIENCE, forge, ISSUER, jwks } from './forge.ts';
import { staff } from './ldap/staff.ts';
import { bearer, keyHeader, setting } from './setting.ts';

const files = temporaryDirectory('portcullis-contract-');
afterAll(() => files[Symbol.dispose]());

const basic = (text: string): Credential => ({
  kind: 'basic',
  value: new Secret(Buffer.from(text).toString('base64')),
  source: 'authorization',
});

const covered: string[] = [];

/** @param kind of the configuration */
function contract(kind: string, open: Parameters<typeof identityProviderContract>[1]): void {
  covered.push(kind);
  identityProviderContract(kind, open);
}

contract('jwt', async () => {
  writeFileSync(`${files.path}/jwks.json`, JSON.stringify(jwks()));
  const around = await setting({ baseDir: files.path });
  const options = jwt.schema.parse({ kind: 'jwt', issuer: ISSUER, audience: AUDIENCE, jwks: 'jwks.json' });
  const provider = await jwt.create(options, around.env);
  const now = around.facts().now / 1000;
  return {
    provider,
    facts: around.facts(),
    good: bearer(forge({}, now)),
    bad: [
      bearer(forge({ claims: { aud: 'others' } }, now)),
      bearer(`${forge({}, now).slice(0, -8)}AAAAAAAA`),
      bearer(forge({ claims: { cnf: { 'x5t#S256': 'x' } } }, now)),
      bearer(forge({ claims: { cnf: { jkt: 'x' } } }, now)),
    ],
    foreign: basic('alice:x'),
    [Symbol.asyncDispose]: () => around[Symbol.asyncDispose](),
  };
});

contract('api-key', async () => {
  const around = await setting({ name: 'staff' });
  const provider = await apiKey.create(apiKey.schema.parse({ kind: 'api-key' }), around.env);
  const { key } = await issueKey(around.env, { name: 'ci', tenant_id: 'acme' });
  const text = key.reveal();
  return {
    provider,
    facts: around.facts(),
    good: keyHeader(text),
    bad: [
      keyHeader(`${text.slice(0, -1)}${text.endsWith('A') ? 'B' : 'A'}`),
      keyHeader(text.replace('_dev_', '_live_')),
    ],
    foreign: basic('alice:x'),
    async [Symbol.asyncDispose]() {
      await provider.close?.();
      await around[Symbol.asyncDispose]();
    },
  };
});

contract('mtls', async () => {
  const root = await createAuthority('CN=Root');
  writeFileSync(`${files.path}/ca.pem`, root.cert);
  const around = await setting({ baseDir: files.path });
  const options = mtls.schema.parse({ kind: 'mtls', ca: 'ca.pem', proxies: ['127.0.0.1'] });
  const provider = await mtls.create(options, around.env);
  const socket = { remoteAddress: '127.0.0.1' };
  const facts = around.facts({ now: Date.now(), incoming: { socket } as unknown as IncomingMessage });
  const shown = async (from: typeof root) => {
    const { der } = await from.issue();
    const credential = certificateCredential({ 'client-cert': `:${der.toString('base64')}:` }, facts);
    if (credential === null) throw new Error('no certificate was shown');
    return credential;
  };
  return {
    provider,
    facts,
    good: await shown(root),
    bad: [await shown(await createAuthority('CN=Root'))],
    foreign: bearer('a.b.c'),
    [Symbol.asyncDispose]: () => around[Symbol.asyncDispose](),
  };
});

describe.skipIf(NO_SLAPD !== null)(`with a directory${NO_SLAPD === null ? '' : ` (skipped: ${NO_SLAPD})`}`, () => {
  contract('ldap', async () => {
    const server = await startSlapd({ ca: await createAuthority('CN=Directory') });
    const people = await staff(server.url);
    return {
      provider: people.provider,
      facts: people.around.facts(),
      good: basic('alice:wonder land 1'),
      bad: [basic('alice:wrong'), basic('mallory:x'), basic('alice:')],
      foreign: bearer('a.b.c'),
      async [Symbol.asyncDispose]() {
        await people[Symbol.asyncDispose]();
        await server[Symbol.asyncDispose]();
      },
    };
  });
});

const RESOURCE = 'https://gateway.example/mcp';
const robot = {
  ...{ client_id: 'robot', client_secret: 'a-secret-of-robot-that-is-long' },
  ...{ grant_types: ['client_credentials'], redirect_uris: [], response_types: [] },
} as never;
const asking = { ...GATEWAY_CLIENT, grant_types: [], redirect_uris: [], response_types: [] } as never;

/** A token for the resource, as a machine gets one from a real authorization server. */
async function tokenOf({ issuer }: AuthorizationServer, resource = RESOURCE): Promise<string> {
  const response = await fetch(`${issuer}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa('robot:a-secret-of-robot-that-is-long')}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', resource, scope: 'orders:use' }),
  });
  return ((await response.json()) as { access_token: string }).access_token;
}

const today = () => ({ clock: { now: () => Date.now() }, publicUrl: 'https://gateway.example' });

contract('oidc', async () => {
  const server = await startAuthorizationServer({ clients: [robot], scopes: 'orders:use' });
  const other = await startAuthorizationServer({ clients: [robot], scopes: 'orders:use' });
  const around = await setting(today());
  const options = oidc.schema.parse({ kind: 'oidc', issuer: server.issuer, ...GATEWAY_CLIENT });
  const provider = await oidc.create(options, around.env);
  const good = await tokenOf(server);
  return {
    provider,
    facts: around.facts({ now: Date.now() }),
    good: bearer(good),
    bad: [
      bearer(`${good.slice(0, -8)}AAAAAAAA`),
      bearer(await tokenOf(server, 'https://gateway.example/other')),
      bearer(await tokenOf(other)),
      bearer('not.a.token'),
    ],
    foreign: basic('alice:x'),
    async [Symbol.asyncDispose]() {
      await provider.close?.();
      for (const one of [around, server, other]) await one[Symbol.asyncDispose]();
    },
  };
});

contract('introspection', async () => {
  const server = await startAuthorizationServer({
    ...{ clients: [robot, asking], scopes: 'orders:use' },
    format: 'opaque',
  });
  const around = await setting(today());
  const options = introspection.schema.parse({ kind: 'introspection', issuer: server.issuer, ...GATEWAY_CLIENT });
  const provider = await introspection.create(options, around.env);
  const good = await tokenOf(server);
  return {
    provider,
    facts: around.facts({ now: Date.now() }),
    good: bearer(good),
    bad: [
      bearer(`${good}x`),
      bearer('opaque-and-unknown'),
      bearer(await tokenOf(server, 'https://gateway.example/other')),
    ],
    foreign: basic('alice:x'),
    async [Symbol.asyncDispose]() {
      await provider.close?.();
      for (const one of [around, server]) await one[Symbol.asyncDispose]();
    },
  };
});

// The key service is another gateway.
contract('remote-key', async () => {
  const service = await startGateway({ identity: { keys: { kind: 'api-key' } } });
  const around = await setting(today());
  const provider = await createIdentityProvider(
    IDENTITY_SCHEMA.parse({ kind: 'remote-key', url: service.url, prefixes: ['pc'] }),
    around.env,
  );
  const key = await service.key('developer');
  return {
    provider,
    facts: around.facts({ now: Date.now() }),
    good: keyHeader(key),
    bad: [keyHeader('pc_dev_unknown'), keyHeader(key.replace('_dev_', '_live_')), keyHeader(`${key.slice(0, -1)}_`)],
    foreign: basic('alice:x'),
    async [Symbol.asyncDispose]() {
      await provider.close?.();
      for (const one of [around, service]) await one[Symbol.asyncDispose]();
    },
  };
});

contract('custom', async () => {
  const id = 'sess_4fJq0yTz81';
  const session = { user: 'alice', organization: 'acme', role: 'service' };
  const digest = createHash('sha256').update(id).digest('hex');
  writeFileSync(`${files.path}/sessions.json`, JSON.stringify({ [digest]: session }));
  const around = await setting({ baseDir: files.path });
  const module = join(ROOT, 'examples/session-file-auth.ts');
  const options = IDENTITY_SCHEMA.parse({ kind: 'custom', module, options: { file: './sessions.json' } });
  return {
    provider: await createIdentityProvider(options, around.env),
    facts: around.facts(),
    good: bearer(id),
    bad: [bearer('sess_other'), bearer(`${id}x`)],
    foreign: basic('alice:x'),
    [Symbol.asyncDispose]: () => around[Symbol.asyncDispose](),
  };
});

// One gateway keeps the accounts, and another one in front of the same database is asked.
contract('local', async () => {
  const config = { accounts: ACCOUNTS, identity: IDENTITY };
  const first = await startGateway(config);
  const auth = authClient(first.url);
  const username = 'alice';
  await auth('POST', '/auth/register', { username, email: 'alice@example.com', password: PASSWORD });
  const { body } = await auth('POST', '/auth/login', { username, password: PASSWORD });
  const token = body.access_token as string;
  const ended = (await auth('POST', '/auth/login', { username, password: PASSWORD })).body.access_token as string;
  await auth('POST', '/auth/logout', undefined, { authorization: `Bearer ${ended}` });
  const checked = scenarioConfig(config, first.home);
  const platform = await openPlatform(checked, { baseDir: first.home, writeLog: () => undefined });
  const second = await assemble(checked, platform);
  const provider = second.providers.get('accounts');
  if (provider === undefined) throw new Error('there is no such provider');
  const facts = (await setting()).facts({ now: Date.now() });
  return {
    provider,
    facts,
    good: bearer(token),
    bad: [bearer(`${token.slice(0, -8)}AAAAAAAA`), bearer(ended)],
    foreign: basic('alice:x'),
    async [Symbol.asyncDispose]() {
      await second[Symbol.asyncDispose]();
      await platform.close();
      await first[Symbol.asyncDispose]();
    },
  };
});

test('every kind that a configuration can name keeps the contract', () => {
  verifies('D-02', 'D-06', 'D-07', 'D-08', 'D-09', 'DF-01');
  expect(covered.toSorted()).toEqual([...IDENTITY_KINDS].toSorted());
});
