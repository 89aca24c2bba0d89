/** Every option of every identity provider may come from a variable or from a file, and means the same as written out. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { configJsonSchema } from '../../../src/config/json-schema.ts';
import { loadConfigText } from '../../../src/config/load.ts';
import type { Config } from '../../../src/config/schema.ts';
import { Secret } from '../../../src/core/secret.ts';
import { IDENTITY_KINDS, IDENTITY_SCHEMA } from '../../../src/modules.ts';
import { temporaryDirectory } from '../../helpers/processes.ts';
import { verifies } from '../../helpers/verifies.ts';

type Settings = Record<string, unknown>;

const CLAIMS = Object.fromEntries(
  [
    ...['tenant', 'roles', 'teams', 'groups', 'permissions', 'scopes', 'username', 'email', 'type', 'tenure_months'],
    ...['hired_at', 'device_compliant', 'session'],
  ].map((name) => [name, `x_${name}`]),
);
const MAPPING: Settings = {
  ...{
    claims: CLAIMS,
    default_tenant: 'acme',
    require_tenant: true,
    role_map: { ops: 'admin' },
    unknown_roles: 'keep',
  },
  ...{ default_role: 'viewer', role_permissions: { admin: ['a.b'] }, group_permissions: { g: ['c.d'] } },
  ...{ scope_permissions: { s: ['e.f'] }, grantable_scopes: ['s'], mfa: { amr: ['otp'], acr: ['2'] } },
};
const TOKEN: Settings = {
  ...{ audience: ['https://gateway.example'], sole_audience: true, typ: ['at+jwt'], max_lifetime_seconds: 3600 },
  ...{ clock_skew_seconds: 7, max_token_bytes: 5000, jwks_max_age_seconds: 300, jwks_stale_seconds: 600 },
  ...{ cache_entries: 11, cache_seconds: 12 },
};
const CLIENT: Settings = {
  ...{
    issuer: 'https://login.example.com',
    client_id: 'gateway',
    client_secret: 'a secret of the gateway',
    timeout_ms: 700,
  },
};
const {
  typ: _typ,
  max_lifetime_seconds: _life,
  jwks_max_age_seconds: _age,
  jwks_stale_seconds: _stale,
  ...OPAQUE
} = TOKEN;

/** Together they name every option of every kind; which go together is for the schemas to say. */
const SETTINGS: readonly Settings[] = [
  {
    ...{
      kind: 'jwt',
      issuer: 'https://login.example.com',
      jwks: 'https://login.example.com/jwks',
      ...TOKEN,
      ...MAPPING,
    },
    algorithms: ['RS256'],
  },
  { kind: 'jwt', issuer: 'us', audience: 'us', secret: 'a secret that is long enough for HS256, more or less' },
  { kind: 'jwt', issuer: 'us', audience: 'us', public_key: 'key.pem' },
  {
    ...{ kind: 'oidc', ...CLIENT, authentication: 'post', ...TOKEN, ...MAPPING, scopes: ['openid', 'groups'] },
    ...{ clients: ['app'], algorithms: ['ES256'], opaque_tokens: 'userinfo', opaque_seconds: 30, userinfo: true },
    login: { session_seconds: 600, pkce: 'assumed' },
  },
  {
    kind: 'oidc',
    issuer: 'https://login.example.com',
    client_id: 'gateway',
    private_key: 'k.pem',
    private_key_id: 'k1',
  },
  {
    ...{ kind: 'introspection', ...CLIENT, authentication: 'basic', ...OPAQUE, ...MAPPING, clients: ['app'] },
    ...{ introspection_endpoint: 'https://login.example.com/i', userinfo: true, require_audience: false },
    ...{ userinfo_endpoint: 'https://login.example.com/u', refused_seconds: 3 },
  },
  {
    ...{ kind: 'introspection', issuer: 'https://login.example.com', client_id: 'gateway' },
    ...{ private_key: 'k.pem', private_key_id: 'k1' },
  },
  { kind: 'api-key', prefixes: ['acme'], cache_entries: 5, cache_seconds: 6 },
  {
    ...{
      kind: 'remote-key',
      url: 'https://keys.example.com',
      service_id: 'x',
      legacy_body: true,
      send_client_ip: false,
    },
    ...{ prefixes: ['hok'], cache_seconds: 5, negative_seconds: 6, cache_entries: 7, timeout_ms: 800, attempt_ms: 90 },
    ...{ retries: 1, connections: 3, max_waiting: 4, ca: 'ca.pem', type: 'service', tenant: 'acme' },
    breaker: { volume: 2, error_percentage: 30, window_ms: 400, reset_ms: 500 },
    ...{ roles: { a: ['b'] }, scopes: { c: ['d'] }, default_roles: ['user'], admin_roles: ['admin'] },
  },
  { kind: 'local', cache_entries: 5, cache_seconds: 4, cookies: true },
  {
    ...{ kind: 'ldap', url: ['ldap://dc1.example.com'], start_tls: true, ca: 'ca.pem', base_dn: 'dc=example' },
    ...{
      bind_dn: 'cn=gateway',
      bind_password: 'a password of the gateway',
      user_base_dn: 'ou=people',
      group_base_dn: 'ou=x',
    },
    ...{ user_search_filter: '(mail={username})', group_search_filter: '(memberUid={username})' },
    ...{ group_name_attribute: 'ou', nested_groups: 'search', max_groups: 9, group_roles: { ops: ['admin'] } },
    ...{ group_teams: { ops: ['a'] }, group_permissions: { ops: ['b'] }, default_roles: ['user'] },
    attributes: { id: 'a', username: 'b', email: 'c', display_name: 'd', tenant: 'e', hired_at: 'f' },
    ...{ default_tenant: 'acme', require_tenant: true, connect_timeout_ms: 100, timeout_ms: 900, refusal_ms: 50 },
    ...{ pool: { max_connections: 2, idle_ms: 300 }, lockout: { failures: 3, seconds: 60 } },
    ...{ cache_entries: 8, cache_seconds: 9 },
  },
  {
    ...{ kind: 'ldap', url: 'ldaps://dc1.example.com', base_dn: 'dc=example', anonymous_search: true },
    user_dn_template: 'uid={username},ou=people',
  },
  {
    ...{ kind: 'mtls', ca: ['ca.pem'], crl: ['crl.pem'], proxies: ['10.0.0.1'], header: 'x-ssl-client-cert' },
    ...{ allowed_organizations: ['Acme'], id: ['cn'], type: 'user', team: 'ou', tenant: 'o', default_tenant: 'acme' },
    ...{ roles_extension: '1.2.3.4', role_map: { ops: 'admin' }, unknown_roles: 'drop', unit_roles: { a: ['b'] } },
    ...{ name_roles: { c: ['d'] }, cache_entries: 5, cache_seconds: 6 },
  },
  { kind: 'custom', module: './own.ts', class: 'Own', options: { depth: 'x' } },
];

const files = temporaryDirectory('portcullis-options-');
afterAll(() => files[Symbol.dispose]());
mkdirSync(join(files.path, 'values'), { recursive: true });

/** The settings with every figure, text and yes/no given by `refer`. */
function referring(value: unknown, refer: (text: string) => string): unknown {
  if (Array.isArray(value)) return value.map((one) => referring(one, refer));
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, referring(one, refer)]));
  }
  return refer(String(value));
}

function load(settings: unknown, env: Record<string, string> = {}): Config['identity'][string] {
  const text = JSON.stringify({
    ...{ version: 1, public_url: 'https://gateway.example', identity: { it: settings } },
    ...((settings as Settings).kind === 'local' ? { accounts: { enabled: true } } : {}),
  });
  const loaded = loadConfigText(text, join(files.path, 'p.yaml'), { env, providers: IDENTITY_SCHEMA });
  if (loaded.config === null) throw new Error(loaded.problems.map((problem) => problem.text).join('\n'));
  const { it } = loaded.config.identity;
  if (it === undefined) throw new Error('there is no such provider');
  return it;
}

/** As it can be compared: what a Secret holds counts, too. */
const plain = (value: unknown): string =>
  JSON.stringify(value, (_name, one: unknown) => {
    if (one instanceof Map) return [...one];
    return one;
  });
const secretsOf = (value: object): readonly unknown[] =>
  Object.values(value).flatMap((one) => (one instanceof Secret ? [one.reveal()] : []));

describe('every option of a provider', () => {
  const named = SETTINGS.map((settings, at) => [`${String(settings.kind)} ${at}`, settings] as const);

  test.each(named)('may be a variable or a file: %s', (_name, { kind, ...options }) => {
    verifies('D-17');
    const written = load({ kind, ...options });
    const env: Record<string, string> = {};
    let count = 0;
    const ways: readonly ((text: string) => string)[] = [
      (text) => {
        env[`OPTION_${++count}`] = text;
        return `\${env:OPTION_${count}}`;
      },
      (text) => {
        const file = `values/${++count}`;
        writeFileSync(join(files.path, file), `${text}\n`);
        return `\${file:${file}}`;
      },
      (text) => {
        const file = `values/${++count}`;
        writeFileSync(join(files.path, file), text);
        env[`OPTION_${count}_FILE`] = file;
        return `\${env:OPTION_${count}}`;
      },
    ];
    for (const way of ways) {
      const referred = load({ kind, ...(referring(options, way) as Settings) }, env);
      expect(plain(referred)).toBe(plain(written));
      expect(secretsOf(referred)).toEqual(secretsOf(written));
    }
  });

  test('is in the table above', () => {
    const schema = configJsonSchema(IDENTITY_SCHEMA) as unknown as {
      properties: {
        identity: { additionalProperties: { anyOf: { properties: Settings & { kind: { const: string } } }[] } };
      };
    };
    const known = schema.properties.identity.additionalProperties.anyOf;
    expect(known.map(({ properties }) => properties.kind.const).toSorted()).toEqual(IDENTITY_KINDS.toSorted());
    const inner = (value: unknown): Settings =>
      (typeof value === 'object' && value !== null && Reflect.get(value, 'properties')) || {};
    const namesOf = (options: Settings, members: (value: unknown) => Settings) =>
      Object.entries(options).flatMap(([name, value]) => [
        name,
        ...Object.keys(members(value)).map((member) => `${name}.${member}`),
      ]);
    for (const { properties } of known) {
      const all = namesOf(properties, inner);
      const tabled = SETTINGS.filter(({ kind }) => kind === properties.kind.const).flatMap((settings) =>
        namesOf(settings, (value) => (typeof value === 'object' && !Array.isArray(value) ? (value as Settings) : {})),
      );
      expect(all.filter((name) => !tabled.includes(name))).toEqual([]);
    }
  });
});
