/**
 * A token that an upstream was sent, shown to each kind of provider that could know its keys, issuer and audience: only its
 * type stands between it and the gateway, and that is enough. Each has a control that is let in.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makePrincipal } from '../../../src/core/principal.ts';
import { AccountTokens } from '../../../src/identity/account-tokens.ts';
import { createDelegation } from '../../../src/identity/delegation.ts';
import { delegationKey } from '../../../src/identity/delegation-token.ts';
import type { Credential, IdentityProvider } from '../../../src/identity/provider.ts';
import { openSigningRing, type SigningRing } from '../../../src/identity/signing-ring.ts';
import { IDENTITY_TYPE, SignerAtHand, UpstreamTokens } from '../../../src/identity/upstream-token.ts';
import { createIdentityProvider, IDENTITY_KINDS, IDENTITY_SCHEMA } from '../../../src/modules.ts';
import { createSigningKeyStore } from '../../../src/stores/signing-keys.ts';
import { createAuthority } from '../../helpers/certificates.ts';
import { startKeyService } from '../../helpers/key-service.ts';
import { ROOT, temporaryDirectory } from '../../helpers/processes.ts';
import { verifies } from '../../helpers/verifies.ts';
import { type FakeServer, fakeServer } from './oauth/fake-server.ts';
import { bearer, keyHeader, NEVER, type Setting, setting } from './setting.ts';

const folder = temporaryDirectory('portcullis-replay-');
const PUBLIC = 'https://gate.example.com';
const AUDIENCE = 'portcullis';
const CLIENT = { client_id: 'gateway', client_secret: 'a secret of the gateway' };

let around: Setting;
let ring: SigningRing;
let server: FakeServer;
let service: Awaited<ReturnType<typeof startKeyService>>;

beforeAll(async () => {
  around = await setting({ baseDir: folder.path, publicUrl: PUBLIC });
  const store = createSigningKeyStore(around.database);
  const { pepper, clock } = around.env;
  ring = await openSigningRing({ algorithm: 'EdDSA', store, pepper, rotateMs: 8.64e7 * 30, tokenMs: 0 }, clock.now());
  const published = await ring.published(clock.now());
  writeFileSync(join(folder.path, 'jwks.json'), JSON.stringify(published));
  writeFileSync(join(folder.path, 'sessions.json'), '{}');
  writeFileSync(join(folder.path, 'ca.pem'), (await createAuthority('CN=Clients')).cert);
  server = await fakeServer();
  service = await startKeyService();
  const at = (path: string) => `${server.url}${path}`;
  server.json('/jwks', published);
  server.json('/introspect', { active: false });
  server.json('/.well-known/openid-configuration', {
    ...{ issuer: server.url, authorization_endpoint: at('/authorize'), token_endpoint: at('/token') },
    ...{ jwks_uri: at('/jwks'), userinfo_endpoint: at('/userinfo'), code_challenge_methods_supported: ['S256'] },
    id_token_signing_alg_values_supported: ['EdDSA'],
  });
});
afterAll(async () => {
  for (const one of [around, server, service]) await one?.[Symbol.asyncDispose]();
  folder[Symbol.dispose]();
});

/** As the gateway would send it to an upstream that has the name of the gateway itself. */
async function identityToken(issuer: string): Promise<string> {
  const { clock } = around.env;
  const signer = await SignerAtHand.open({ ring, clock, onFailure: () => undefined });
  const claims = ['roles', 'tenant', 'username', 'scope'] as const;
  const options = {
    signer,
    clock,
    issuer,
    audience: AUDIENCE,
    header: 'x-portcullis-identity',
    lifetimeSeconds: 60,
    claims,
  };
  const alice = makePrincipal({ id: 'alice', username: 'alice', roles: ['admin'], scopes: ['*'] }, 'keys', 'api-key');
  return new UpstreamTokens(options).headers(alice, 'req_1')?.['x-portcullis-identity'] ?? '';
}

/** The same claims as an access token. */
async function accessToken(issuer: string): Promise<string> {
  const { kid, key } = await ring.signer(around.env.clock.now());
  const [, claims = ''] = (await identityToken(issuer)).split('.');
  const { jti: _, ...rest } = JSON.parse(Buffer.from(claims, 'base64url').toString()) as Record<string, unknown>;
  return new SignJWT(rest).setProtectedHeader({ alg: 'EdDSA', typ: 'at+jwt', kid: kid ?? '' }).sign(key);
}

async function provider(entry: object): Promise<IdentityProvider> {
  return createIdentityProvider(IDENTITY_SCHEMA.parse(entry), around.env);
}
const ask = (one: IdentityProvider, credential: Credential) => one.authenticate(credential, around.facts(), NEVER);

/** What each kind has to be told so that it could take the token; `issuer`: whose it says it is. */
const SETTINGS: Record<
  string,
  () => { readonly entry: object; readonly issuer: string; readonly hasControl: boolean }
> = {
  jwt: () => ({
    entry: { kind: 'jwt', issuer: PUBLIC, audience: AUDIENCE, jwks: 'jwks.json' },
    ...{ issuer: PUBLIC, hasControl: true },
  }),
  oidc: () => ({
    entry: { kind: 'oidc', issuer: server.url, ...CLIENT, audience: AUDIENCE, algorithms: ['EdDSA'] },
    ...{ issuer: server.url, hasControl: true },
  }),
  introspection: () => ({
    entry: {
      ...{ kind: 'introspection', issuer: server.url, ...CLIENT, audience: AUDIENCE },
      introspection_endpoint: `${server.url}/introspect`,
    },
    ...{ issuer: server.url, hasControl: false },
  }),
  'api-key': () => ({ entry: { kind: 'api-key' }, issuer: PUBLIC, hasControl: false }),
  'remote-key': () => ({
    entry: { kind: 'remote-key', url: service.url, service_id: 'ml-platform' },
    ...{ issuer: PUBLIC, hasControl: false },
  }),
  custom: () => ({
    entry: {
      ...{ kind: 'custom', module: join(ROOT, 'examples/session-file-auth.ts') },
      options: { file: join(folder.path, 'sessions.json') },
    },
    ...{ issuer: PUBLIC, hasControl: false },
  }),
  ldap: () => ({
    entry: { kind: 'ldap', url: 'ldap://127.0.0.1:9', base_dn: 'dc=x', user_dn_template: 'uid={username},dc=x' },
    ...{ issuer: PUBLIC, hasControl: false },
  }),
  mtls: () => ({ entry: { kind: 'mtls', ca: 'ca.pem' }, issuer: PUBLIC, hasControl: false }),
};

describe('a token for an upstream', () => {
  test('is shown to every kind of provider', () => {
    expect([...Object.keys(SETTINGS), 'local'].sort()).toEqual([...IDENTITY_KINDS].sort());
  });

  test.each(Object.keys(SETTINGS))('is nobody’s credential for %s', async (kind) => {
    verifies('VF-21');
    const { entry, issuer, hasControl } = (SETTINGS[kind] as () => ReturnType<(typeof SETTINGS)[string]>)();
    const one = await provider(entry);
    try {
      const token = await identityToken(issuer);
      for (const credential of [bearer(token), keyHeader(token)]) {
        const { kind: outcome } = await ask(one, credential);
        expect(['rejected', 'not-applicable']).toContain(outcome);
      }
      if (hasControl)
        expect(await ask(one, bearer(await accessToken(issuer)))).toMatchObject({ kind: 'authenticated' });
    } finally {
      await one.close?.();
    }
  });

  test('is no access token of an account, with the keys, issuer and audience of accounts', async () => {
    const { pepper, clock } = around.env;
    const tokens = new AccountTokens({ ring, pepper, issuer: PUBLIC, audience: AUDIENCE, accessSeconds: 900 });
    const now = clock.now();
    const subject = {
      account_id: 'alice',
      session_id: 'ses_1',
      tenant_id: 'default',
      username: 'alice',
      role: 'admin',
    };
    const own = await tokens.issue(subject, now, now / 1000 + 900);
    expect(await tokens.read(own.token, now)).toMatchObject({ sub: 'alice' });
    expect(await tokens.read(await identityToken(PUBLIC), now)).toMatchObject({ kind: 'invalid' });
    expect(tokens.readRefresh(await identityToken(PUBLIC))).toBeNull();
  });

  test('lends nothing', async () => {
    const { shared, keys, pepper, clock } = around.env;
    const key = delegationKey(pepper, PUBLIC);
    const desk = createDelegation({ key, shared, keys, issuers: new Map() });
    const alice = makePrincipal({ id: 'alice' }, 'keys', 'api-key');
    expect(await desk.accept(alice, await identityToken(PUBLIC), clock.now())).toMatchObject({
      code: 'INVALID_CREDENTIALS',
    });
    desk.close();
  });

  test('was not handed to the service that knows keys', () => {
    expect(service.connections()).toBe(0);
    expect(server.asked.every(({ body }) => !body.includes(IDENTITY_TYPE))).toBe(true);
  });
});
