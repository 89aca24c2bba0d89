/**
 * For every kind of provider one that works, and four whose server, file or database throws, does not answer, answers
 * with something that cannot be read, or with something of the wrong type.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Gateway } from '../../src/gateway.ts';
import type { Authority } from '../helpers/certificates.ts';
import { createAuthority, extension } from '../helpers/certificates.ts';
import { AUDIENCE, forge, ISSUER, jwks, publicJwk } from '../unit/identity/forge.ts';
import { BIND, entry, result, SEARCH, startHostile } from '../unit/identity/ldap/hostile-server.ts';
import { ldapSettings } from '../unit/identity/ldap/staff.ts';
import { type Answering, type FakeServer, filled } from '../unit/identity/oauth/fake-server.ts';
import { makeToken } from '../unit/identity/oauth/tokens.ts';
import { authClient, PASSWORD } from './accounts.ts';
import { GATEWAY_CLIENT } from './authorization-server.ts';
import type { Fault } from './faulty-database.ts';
import { goodKey } from './key-service.ts';

export const FAULTS = ['throws', 'times out', 'malformed answer', 'wrong type'] as const satisfies readonly Fault[];
export type Way = 'works' | Fault;
export const WAYS: readonly Way[] = ['works', ...FAULTS];

type Headers = Readonly<Record<string, string>>;

/** What a row of the matrix needs of the test around it. */
export interface Stage {
  readonly folder: string;
  readonly server: FakeServer;
  readonly cleanup: AsyncDisposableStack;
  readonly faults: Map<string, Fault>;
}

export interface Failing {
  /** The provider's entry in the configuration. */
  entry(way: Way): object | Promise<object>;
  /** What the caller presents, once the gateway runs. */
  headers(way: Way, gateway: Gateway): Headers | Promise<Headers>;
}

const now = () => Math.floor(Date.now() / 1000);
const bearer = (token: string): Headers => ({ authorization: `Bearer ${token}` });
const slug = (way: Way) => way.replaceAll(' ', '-');

/** What a server over HTTP does. @param wrong a document with members of the wrong type */
function answering(way: Fault, wrong: unknown): Answering {
  const json = { 'content-type': 'application/json' };
  if (way === 'throws') return (_asked, response) => response.destroy();
  if (way === 'times out') return () => undefined;
  const body = way === 'malformed answer' ? '{"active":true,"is_valid":true,"keys":[' : JSON.stringify(wrong);
  return (_asked, response) => response.writeHead(200, json).end(body);
}

const SIGNING = { ...publicJwk('ec-1'), kid: 'ec-1', use: 'sig', alg: 'ES256' };

export const FAILING: Readonly<Record<string, (stage: Stage) => Failing>> = {
  jwt: ({ server }) => ({
    entry(way) {
      const path = `/jwt/${slug(way)}`;
      if (way === 'works') server.json(path, jwks());
      else server.at(path, answering(way, { keys: 'all' }));
      return { kind: 'jwt', issuer: ISSUER, audience: AUDIENCE, jwks: `${server.url}${path}` };
    },
    headers: () => bearer(forge({}, now())),
  }),

  oidc: ({ server }) => {
    const issuerOf = (way: Way) => `${server.url}/oidc/${slug(way)}`;
    return {
      entry(way) {
        const issuer = issuerOf(way);
        const path = `/oidc/${slug(way)}/.well-known/openid-configuration`;
        const document = { issuer, jwks_uri: `${issuer}/jwks`, token_endpoint: `${issuer}/token` };
        const whole = { ...document, authorization_endpoint: `${issuer}/authorize` };
        if (way === 'works') server.json(path, whole);
        else server.at(path, answering(way, { ...whole, jwks_uri: 7 }));
        server.json(`/oidc/${slug(way)}/jwks`, { keys: [SIGNING] });
        return { kind: 'oidc', issuer, ...GATEWAY_CLIENT, audience: 'us', timeout_ms: 200 };
      },
      headers: (way) =>
        bearer(
          makeToken(
            { header: { typ: 'at+jwt' } },
            { iss: issuerOf(way), sub: 'alice', aud: 'us', iat: '{now+0}', exp: '{now+60}', client_id: 'app' },
            issuerOf(way),
            now(),
          ),
        ),
    };
  },

  introspection: ({ server }) => ({
    entry(way) {
      const path = `/introspect/${slug(way)}`;
      const answer = { active: true, sub: 'alice', aud: 'us', client_id: 'app', iss: server.url, exp: '{now+60}' };
      if (way === 'works') server.json(path, filled(answer, server.url, now()));
      else server.at(path, answering(way, { ...answer, active: 'true', exp: now() + 60 }));
      const introspection_endpoint = `${server.url}${path}`;
      const client = { issuer: server.url, ...GATEWAY_CLIENT, audience: 'us', timeout_ms: 200 };
      return { kind: 'introspection', ...client, introspection_endpoint };
    },
    headers: () => bearer('an-opaque-token-of-this-test'),
  }),

  'remote-key': ({ server }) => ({
    entry(way) {
      const path = `/keys/${slug(way)}/api/v1/keys/validate`;
      const { body } = goodKey('k1', { user_id: 'alice' });
      if (way === 'works') server.json(path, body);
      else server.at(path, answering(way, { ...(body as object), is_valid: 'true' }));
      const waiting = { timeout_ms: 300, attempt_ms: 200, retries: 0 };
      return { kind: 'remote-key', url: `${server.url}/keys/${slug(way)}`, ...waiting };
    },
    headers: () => ({ 'x-api-key': 'hok_dev_of_this_test' }),
  }),

  ldap: ({ cleanup }) => ({
    async entry(way) {
      const DN = 'uid=alice,ou=people,dc=example,dc=org';
      const directory = await startHostile((id, tag, bytes) => {
        if (way === 'throws') return 'hang up';
        if (way === 'times out') return null;
        if (way === 'malformed answer') return Buffer.from('ffff0000ffff', 'hex');
        // The code of the result is a text instead of an enumerated figure.
        if (way === 'wrong type') return Buffer.from([0x30, 12, 2, 1, id, 0x61, 7, 4, 1, 0, 4, 0, 4, 0]);
        if (tag === BIND) return result(id, BIND, 0);
        if (tag !== SEARCH) return null;
        const isForPeople = bytes.includes('uid') && !bytes.includes('member');
        const found = isForPeople ? [entry(id, DN, { uid: ['alice'], cn: ['Alice'] })] : [];
        return Buffer.concat([...found, result(id, SEARCH, 0)]);
      });
      cleanup.use(directory);
      return ldapSettings(directory.url, { timeout_ms: 300, connect_timeout_ms: 200 });
    },
    headers: () => ({ authorization: `Basic ${btoa('alice:a password')}` }),
  }),

  // Nobody is asked about a certificate; its list of revoked ones and its own words stand in for an answer.
  mtls: ({ folder }) => {
    let root: Authority;
    return {
      async entry(way) {
        root ??= await createAuthority('CN=Root');
        const other = await createAuthority('CN=Other');
        const home = join(folder, `mtls-${slug(way)}`);
        mkdirSync(home);
        writeFileSync(join(home, 'ca.pem'), root.cert);
        const old = { thisUpdate: new Date(Date.now() - 7_200_000), nextUpdate: new Date(Date.now() - 3_600_000) };
        const issuing = way === 'throws' ? other : root;
        writeFileSync(join(home, 'list.pem'), await issuing.crl([], way === 'times out' ? old : {}));
        const files = { ca: join(home, 'ca.pem'), crl: join(home, 'list.pem') };
        return { kind: 'mtls', ...files, proxies: ['127.0.0.1'], roles_extension: '1.2.3.4.5.6', id: ['cn'] };
      },
      async headers(way) {
        // A length that is longer than what follows; an INTEGER where a text belongs.
        const words: Partial<Record<Way, string>> = { 'malformed answer': '0c7f61', 'wrong type': '020107' };
        const hex = words[way] ?? '0c0561646d696e';
        const extensions = [extension('1.2.3.4.5.6', false, Buffer.from(hex, 'hex'))];
        const { der } = await root.issue({ subject: 'CN=alice', extensions });
        return { 'client-cert': `:${der.toString('base64')}:` };
      },
    };
  },

  custom: ({ folder }) => ({
    entry(way) {
      const answers: Readonly<Record<Way, string>> = {
        works: `({ kind: 'authenticated', principal: { id: 'alice' } })`,
        throws: `{ throw new Error('broken') }`,
        'times out': 'new Promise(() => {})',
        'malformed answer': `'authenticated'`,
        'wrong type': `({ kind: 'authenticated', principal: { id: 7, roles: 'admin' } })`,
      };
      const module = join(folder, `custom-${slug(way)}.mjs`);
      writeFileSync(module, `export default class { close() {} authenticate = () => ${answers[way]}; }\n`);
      return { kind: 'custom', module };
    },
    headers: () => bearer('anything'),
  }),

  'api-key': ({ faults }) => ({
    entry: () => ({ kind: 'api-key' }),
    async headers(way, gateway) {
      const key = await gateway.keys.create({ name: slug(way), tenant_id: 'default', owner_id: 'alice' });
      if (way !== 'works') faults.set(key.split('_')[2] ?? '', way);
      return { 'x-api-key': key };
    },
  }),

  local: ({ faults }) => ({
    entry: () => ({ kind: 'local' }),
    async headers(way, gateway) {
      const auth = authClient(gateway.urls.data);
      await auth('POST', '/auth/register', { username: 'alice', email: 'alice@example.com', password: PASSWORD });
      const { body } = await auth('POST', '/auth/login', { username: 'alice', password: PASSWORD });
      const token = body.access_token as string;
      const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { sid: string };
      if (way !== 'works') faults.set(claims.sid, way);
      return bearer(token);
    },
  }),
};
