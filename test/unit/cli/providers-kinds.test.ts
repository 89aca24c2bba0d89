/** `portcullis providers` for every kind there is, asked of real servers. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { main } from '../../../src/cli/cli.ts';
import { IDENTITY_KINDS } from '../../../src/modules.ts';
import {
  type AuthorizationServer,
  GATEWAY_CLIENT,
  startAuthorizationServer,
} from '../../helpers/authorization-server.ts';
import { createAuthority } from '../../helpers/certificates.ts';
import { goodKey, type KeyService, startKeyService } from '../../helpers/key-service.ts';
import { verifies } from '../../helpers/verifies.ts';

const GATEWAY = 'https://gateway.example';
let home: string;
let issuer: AuthorizationServer;
let service: KeyService;

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'portcullis-kinds-'));
  const robot = { client_id: 'robot', client_secret: 'a-secret-of-robot-that-is-long' };
  const machine = { grant_types: ['client_credentials'], redirect_uris: [], response_types: [] };
  const gateway = { ...GATEWAY_CLIENT, grant_types: [], redirect_uris: [], response_types: [] };
  issuer = await startAuthorizationServer({ clients: [{ ...robot, ...machine } as never, gateway as never] });
  service = await startKeyService();
  service.keys.set('hok_dev_good', goodKey('k1'));
  writeFileSync(join(home, 'ca.pem'), (await createAuthority('CN=Clients')).cert);
  writeFileSync(
    join(home, 'own.mjs'),
    'export default class { async authenticate() { return { kind: "not-applicable" }; } }',
  );
  const { client_secret: _secret, ...asGateway } = GATEWAY_CLIENT;
  const client_secret = `\${env:CLIENT_SECRET}`;
  const identity = {
    tokens: { kind: 'jwt', issuer: issuer.issuer, audience: GATEWAY, jwks: `${issuer.issuer}/jwks` },
    away: { kind: 'jwt', issuer: 'us', audience: 'us', jwks: 'http://127.0.0.1:9/jwks' },
    staff: { kind: 'oidc', issuer: issuer.issuer, ...asGateway, client_secret, login: {} },
    partners: { kind: 'oidc', issuer: issuer.issuer, client_id: 'public' },
    opaque: { kind: 'introspection', issuer: issuer.issuer, ...asGateway, client_secret },
    stranger: { kind: 'introspection', issuer: issuer.issuer, client_id: 'gateway', client_secret: 'x'.repeat(30) },
    nobody: { kind: 'oidc', issuer: 'http://127.0.0.1:9', client_id: 'public' },
    slash: { kind: 'oidc', issuer: `${issuer.issuer}/`, client_id: 'public' },
    keys: { kind: 'api-key' },
    external: { kind: 'remote-key', url: service.url },
    gone: { kind: 'remote-key', url: 'http://127.0.0.1:9', retries: 0 },
    people: { kind: 'local' },
    directory: { kind: 'ldap', url: 'ldap://127.0.0.1:9', base_dn: 'dc=x', anonymous_search: true },
    certificates: { kind: 'mtls', ca: 'ca.pem' },
    unfinished: { kind: 'mtls', ca: 'nowhere.pem' },
    own: { kind: 'custom', module: './own.mjs' },
  };
  const settings = { version: 1, public_url: GATEWAY, accounts: { enabled: true }, identity };
  writeFileSync(join(home, 'p.yaml'), JSON.stringify(settings));
});
afterAll(async () => {
  await issuer[Symbol.asyncDispose]();
  await service[Symbol.asyncDispose]();
  rmSync(home, { recursive: true });
});

async function run(input: string, ...args: readonly string[]) {
  const written = { out: '', err: '' };
  const code = await main(['providers', ...args, '-c', join(home, 'p.yaml')], {
    stdin: Readable.from([input]),
    out: (text) => {
      written.out += text;
    },
    err: (text) => {
      written.err += text;
    },
    env: { CLIENT_SECRET: GATEWAY_CLIENT.client_secret },
    cwd: home,
    signal: new AbortController().signal,
  });
  return { code, ...written };
}

describe('portcullis providers', () => {
  test('lists all kinds', async () => {
    verifies('S-76');
    const { code, out } = await run('', 'list', '--json');
    expect(code).toBe(0);
    const { providers } = JSON.parse(out) as { providers: { kind: string }[] };
    expect([...new Set(providers.map(({ kind }) => kind))].toSorted()).toEqual(IDENTITY_KINDS.toSorted());
  });

  test.each([
    ['tokens', 'jwt', '--token'],
    ['staff', 'oidc', `Browsers log in at ${GATEWAY}/auth/oauth/start?provider=staff`],
    ['staff', 'oidc', `The issuer must know the redirect address ${GATEWAY}/auth/oauth/callback\n`],
    ['partners', 'oidc', 'portcullis auth login --provider partners'],
    ['opaque', 'introspection', '--token'],
    ['keys', 'api-key', 'portcullis keys create'],
    ['external', 'remote-key', '--token'],
    ['people', 'local', 'portcullis auth login --username'],
    ['certificates', 'mtls', 'curl --cert'],
    ['own', 'custom', '--token'],
  ])('says that %s (%s) works, and what to do next', async (name, kind, next) => {
    expect(await run('', 'test', name)).toMatchObject({
      ...{ code: 0, out: `${name}  ${kind}  ok\n`, err: expect.stringContaining(next) },
    });
  });

  test.each([
    ['away', 3, 'no key set'],
    ['stranger', 3, 'refuses client_id or what proves it'],
    ['nobody', 3, 'no discovery document: connect ECONNREFUSED'],
    ['slash', 3, 'no discovery document: names another issuer'],
    ['gone', 3, 'no answer'],
    ['directory', 3, 'cannot be reached: connect ECONNREFUSED'],
    ['unfinished', 1, 'nowhere.pem'],
  ])('says that %s does not, with exit code %i', async (name, code, why) => {
    const result = await run('', 'test', name);
    expect(result).toMatchObject({ code, out: '', err: expect.stringContaining(why) });
    expect(result.err).not.toContain('unexpected error');
  });

  test('tells whose token or key it is, without showing it', async () => {
    verifies('SF-59');
    const answer = await fetch(`${issuer.issuer}/token`, {
      method: 'POST',
      headers: { authorization: `Basic ${btoa('robot:a-secret-of-robot-that-is-long')}` },
      body: new URLSearchParams({ grant_type: 'client_credentials', resource: GATEWAY }),
    });
    const { access_token } = (await answer.json()) as { access_token: string };
    for (const name of ['tokens', 'staff', 'partners']) {
      const { code, out, err } = await run(`${access_token}\n`, 'test', name, '--token', '--json');
      expect([name, code, JSON.parse(out).login]).toMatchObject([name, 0, { tenant_id: 'default' }]);
      expect(out + err).not.toContain(access_token);
    }
    expect((await run('hok_dev_good\n', 'test', 'external', '--token')).out).toContain('roles: developer');
    expect(await run('hok_dev_bad\n', 'test', 'external', '--token')).toMatchObject({ code: 1 });
    expect(await run('opaque\n', 'test', 'opaque', '--token')).toMatchObject({ code: 1, out: '' });
  });

  test.each([
    ['keys', '--token'],
    ['people', '--username=x'],
    ['own', '--token'],
    ['tokens', '--token', '--username=x'],
  ])('what %s cannot tell with %s is wrong usage', async (...args) => {
    expect(await run('x\n', 'test', ...args)).toMatchObject({ code: 2, out: '' });
  });
});
