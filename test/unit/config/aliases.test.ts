import { randomBytes } from 'node:crypto';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ALIASES, OTHER_VARIABLES } from '../../../src/config/aliases.ts';
import { type LoadResult, loadConfigText } from '../../../src/config/load.ts';
import type { Config } from '../../../src/config/schema.ts';
import { UNAVAILABLE } from '../../../src/config/unavailable.ts';
import type { Secret } from '../../../src/core/secret.ts';
import { IDENTITY_SCHEMA } from '../../../src/modules.ts';
import { verifies } from '../../helpers/verifies.ts';

const directory = mkdtempSync(join(tmpdir(), 'portcullis-aliases-'));
const SECRET = randomBytes(32).toString('base64url');
const servers = join(directory, 'mcp_servers.yaml');
writeFileSync(
  servers,
  `servers:
  - name: postgres-mcp
    url: http://127.0.0.1:7001/mcp
    description: Orders
    enabled: false
    metadata: { sensitivity_level: high, server_type: sql, environment: production }
`,
);

const JWT_FILE = `version: 1
identity: { staff: { kind: jwt, issuer: a, audience: b, jwks: "https://idp.example.com/jwks" } }
routes: [{ match: /t, protocol: tools, identity: [staff] }]`;
const HS_FILE = `version: 1
identity: { staff: { kind: jwt, issuer: a, audience: b } }`;
const ACCOUNTS_FILE = `version: 1
accounts: { enabled: true }
identity: { accounts: { kind: local } }`;
const OPEN_FILE = `version: 1
identity: { jwt: { kind: jwt, issuer: a, audience: b, jwks: "https://idp.example.com/jwks" } }
routes: [{ match: /t, protocol: tools }]`;

function load(env: Record<string, string>, text = 'version: 1'): LoadResult {
  return loadConfigText(text, join(directory, 'gateway.yaml'), { env, providers: IDENTITY_SCHEMA, publicTexts: [] });
}

function good(env: Record<string, string>, text?: string): Config {
  const loaded = load(env, text);
  expect(loaded.problems).toEqual([]);
  if (loaded.config === null) throw new Error('not loaded');
  return loaded.config;
}

interface Case {
  readonly value: string;
  readonly file?: string;
  readonly also?: Record<string, string>;
  /** The setting after loading. */
  pick(config: Config): unknown;
  readonly gives: unknown;
  /** A value that does not fit, and what is said. */
  readonly bad?: readonly [string, string];
}

const jwtOf = (config: Config): Record<string, unknown> => ({ ...config.identity.staff });

const CASES: Record<string, Case> = {
  GATEWAY_ENV: { value: 'staging', pick: (c) => c.mode, gives: 'production', bad: ['moon', 'expected one of'] },
  GATEWAY_HOST: { value: '127.0.0.2', pick: (c) => c.listen.data.address, gives: '127.0.0.2:8080' },
  GATEWAY_PORT: {
    value: '8081',
    pick: (c) => c.listen.data.address,
    gives: '127.0.0.1:8081',
    bad: ['x', 'a port number'],
  },
  PORTCULLIS_PORT: {
    value: '8082',
    file: 'version: 1\nlisten: { data: { address: "[::1]:1" } }',
    also: { GATEWAY_PORT: '8081' },
    pick: (c) => c.listen.data.address,
    gives: '[::1]:8082',
    bad: ['65536', 'a port number'],
  },
  PORTCULLIS_ADMIN_PORT: { value: '9191', pick: (c) => c.listen.admin.address, gives: '127.0.0.1:9191', bad: ['', ''] },
  PORTCULLIS_ADMIN_TOKEN: { value: SECRET, pick: (c) => c.listen.admin.token?.reveal(), gives: SECRET },
  LOG_LEVEL: { value: 'WARNING', pick: (c) => c.logging.level, gives: 'warn', bad: ['loud', 'expected one of'] },
  LOG_LEVELS: {
    value: 'dynamo_llm::http::auth=debug, storage=error',
    pick: (c) => c.logging.levels,
    gives: { auth: 'debug', storage: 'error' },
    bad: ['auth', 'component=level'],
  },
  DYN_AUTH_PROVIDER: {
    value: 'jwt',
    file: OPEN_FILE,
    pick: (c) => c.routes[0]?.identity,
    gives: ['jwt'],
    bad: ['saml', 'expected one of jwt, api-key'],
  },
  PORTCULLIS_AUTH_MODULE: {
    value: './auth.ts',
    pick: (c) => c.identity.custom,
    gives: { kind: 'custom', module: './auth.ts', options: {} },
    bad: ['https://example.com/auth.js', 'a path to a file'],
  },
  PORTCULLIS_AUTH_MODULE_CLASS: {
    value: 'MyAuth',
    also: { PORTCULLIS_AUTH_MODULE: './auth.ts' },
    pick: (c) => c.identity.custom,
    gives: { kind: 'custom', module: './auth.ts', class: 'MyAuth', options: {} },
  },
  PORTCULLIS_STORAGE_MODULE: {
    value: './store.ts',
    pick: (c) => c.stores.shared,
    gives: { module: './store.ts', options: {} },
    bad: ['https://example.com/store.js', 'a path to a file'],
  },
  PORTCULLIS_STORAGE_MODULE_CLASS: {
    value: 'MyStore',
    also: { PORTCULLIS_STORAGE_MODULE: './store.ts' },
    pick: (c) => c.stores.shared,
    gives: { module: './store.ts', class: 'MyStore', options: {} },
  },
  DYN_AUTH_JWT_ISSUER: { value: 'i', file: JWT_FILE, pick: (c) => jwtOf(c).issuer, gives: 'i' },
  DYN_AUTH_JWT_ALGORITHM: {
    value: 'rs256',
    file: JWT_FILE,
    pick: (c) => jwtOf(c).algorithms,
    gives: ['RS256'],
    bad: ['none', 'expected one of'],
  },
  DYN_AUTH_JWT_PUBLIC_KEY_PATH: {
    value: './key.pem',
    file: HS_FILE,
    pick: (c) => jwtOf(c).public_key,
    gives: './key.pem',
  },
  JWT_ISSUER: { value: 'i', file: JWT_FILE, pick: (c) => jwtOf(c).issuer, gives: 'i' },
  JWT_AUDIENCE: { value: 'z', file: JWT_FILE, pick: (c) => jwtOf(c).audience, gives: ['z'] },
  JWT_ALGORITHM: {
    value: 'HS256',
    file: HS_FILE,
    also: { JWT_SECRET_KEY: SECRET },
    pick: (c) => jwtOf(c).algorithms,
    gives: ['HS256'],
    bad: ['none', 'expected one of'],
  },
  JWT_SECRET_KEY: {
    value: SECRET,
    file: HS_FILE,
    pick: (c) => JSON.stringify(jwtOf(c).secret),
    gives: '"[redacted]"',
    bad: ['short', 'must have at least 32 bytes'],
  },
  JWT_EXPIRATION_HOURS: {
    value: '2',
    file: ACCOUNTS_FILE,
    pick: (c) => c.accounts.tokens.access_seconds,
    gives: 7200,
    bad: ['two', 'expected a number'],
  },
  REFRESH_TOKEN_EXPIRATION_DAYS: {
    value: '7',
    file: ACCOUNTS_FILE,
    pick: (c) => c.accounts.tokens.refresh_seconds,
    gives: 604_800,
    bad: ['-1', 'expected a number'],
  },
  AUTH_PORT: {
    value: '8005',
    file: ACCOUNTS_FILE,
    pick: (c) => c.listen.auth?.address,
    gives: '127.0.0.1:8005',
    bad: ['auth', 'expected a port number'],
  },
  DYN_AUTH_API_KEY_STORE: {
    value: 'in_memory',
    pick: (c) => c.stores.database,
    gives: 'sqlite::memory:',
    bad: ['redis', 'not available in this version'],
  },
  MY_DB_URL: {
    value: 'sqlite:./my.db',
    pick: (c) => c.stores.database,
    gives: 'sqlite:./my.db',
    bad: ['mysql://db/x', 'postgres://'],
  },
  DATABASE_URL: {
    value: 'sqlite:./x.db',
    pick: (c) => c.stores.database,
    gives: 'sqlite:./x.db',
    bad: ['mysql://u:hunter2@db/x', 'postgres://'],
  },
  REDIS_URL: {
    value: 'memory',
    pick: (c) => c.stores.shared,
    gives: 'memory',
    bad: ['memcached://localhost:6379', 'redis://'],
  },
  LANGFUSE_DB_PASSWORD: {
    value: 'p@ss/word-7Qw3rTz9KpL2xV8n',
    also: { DATABASE_URL: 'postgres://swarm@db/swarm' },
    file: 'version: 1\nstores: { shared: "redis://127.0.0.1", pepper: "kq7Qw3rTz9KpL2xV8nYb4Hs6Jd1Mf5Gc" }\n',
    pick: (c) => c.stores.database,
    gives: 'postgres://swarm:p%40ss%2Fword-7Qw3rTz9KpL2xV8n@db/swarm',
    bad: ['hunter2', 'names no server'],
  },
  REDIS_PASSWORD: {
    value: 'p@ss/word-7Qw3rTz9KpL2xV8n',
    also: { REDIS_URL: 'redis://cache:6379' },
    pick: (c) => c.stores.shared,
    gives: 'redis://:p%40ss%2Fword-7Qw3rTz9KpL2xV8n@cache:6379',
    bad: ['hunter2', 'names no server'],
  },
  DYN_AUDIT_BACKEND: {
    value: 'file',
    pick: (c) => c.audit.file,
    gives: './audit.jsonl',
    bad: ['s3', 'expected one of file'],
  },
  DYN_AUDIT_LOG_PATH: { value: '/var/log/a.jsonl', pick: (c) => c.audit.file, gives: '/var/log/a.jsonl' },
  MCP_SERVERS_CONFIG: {
    value: servers,
    pick: (c) => c.servers['postgres-mcp'],
    gives: expect.objectContaining({
      type: 'sql',
      enabled: false,
      sensitivity_level: 'high',
      environment: 'production',
      description: 'Orders',
    }),
    bad: ['./absent.yaml', 'cannot read the file'],
  },
  HOKUSAI_AUTH_SERVICE_URL: {
    value: 'http://127.0.0.1:8000',
    file: `version: 1
identity: { external: { kind: remote-key, url: "https://auth.example.com" } }
routes: [{ match: /t, protocol: tools }, { match: /u, protocol: tools, anonymous: true }]`,
    pick: (c) => [c.identity.external, c.routes.map(({ identity }) => identity)],
    gives: [
      expect.objectContaining({ kind: 'remote-key', url: 'http://127.0.0.1:8000', cache_seconds: 300 }),
      [['external'], []],
    ],
    bad: ['http://auth.example.com', 'expected https'],
  },
  MY_OAUTH_ISSUER: {
    value: 'https://login.example.com',
    also: { MY_OAUTH_CLIENT_ID: 'portcullis' },
    file: 'version: 1\nroutes: [{ match: /t, protocol: tools }]',
    pick: (c) => [c.identity.oidc, c.routes[0]?.identity],
    gives: [
      expect.objectContaining({ kind: 'oidc', issuer: 'https://login.example.com', client_id: 'portcullis' }),
      ['oidc'],
    ],
    bad: ['http://login.example.com', 'https'],
  },
  MY_OAUTH_CLIENT_ID: {
    value: 'from-outside',
    file: `version: 1
identity: { staff: { kind: oidc, issuer: "https://login.example.com", client_id: old } }`,
    pick: (c) => (c.identity.staff as { client_id?: string }).client_id,
    gives: 'from-outside',
  },
  MY_OAUTH_CLIENT_SECRET: {
    value: 'a long enough client secret',
    also: { MY_OAUTH_ISSUER: 'https://login.example.com', MY_OAUTH_CLIENT_ID: 'portcullis' },
    file: 'version: 1',
    pick: (c) => (c.identity.oidc as { client_secret?: Secret }).client_secret?.reveal(),
    gives: 'a long enough client secret',
  },
  MY_LDAP_SERVER: {
    value: 'ldap.example.com',
    file: `version: 1
identity: { staff: { kind: ldap, url: "ldaps://old.example.com", base_dn: "dc=x", anonymous_search: true } }
routes: [{ match: /t, protocol: tools }]`,
    pick: (c) => [c.identity.staff, c.routes[0]?.identity],
    gives: [expect.objectContaining({ url: ['ldaps://ldap.example.com'] }), ['staff']],
    bad: ['ldap://ldap.example.com', 'in the clear'],
  },
  MY_LDAP_BIND_DN: {
    value: 'cn=svc,ou=apps,dc=example,dc=com',
    also: { MY_LDAP_SERVER: 'ldaps://ldap.example.com', MY_LDAP_BIND_PASSWORD: 'a long enough password' },
    file: 'version: 1',
    pick: (c) => c.identity.ldap,
    gives: expect.objectContaining({ bind_dn: 'cn=svc,ou=apps,dc=example,dc=com', base_dn: 'dc=example,dc=com' }),
  },
  MY_LDAP_BIND_PASSWORD: {
    value: 'a long enough password',
    also: { MY_LDAP_SERVER: 'ldaps://ldap.example.com', MY_LDAP_BIND_DN: 'cn=svc,dc=example,dc=com' },
    file: 'version: 1',
    pick: (c) => (c.identity.ldap as { bind_password?: Secret }).bind_password?.reveal(),
    gives: 'a long enough password',
  },
  GATEWAY_ENABLED: {
    value: 'false',
    file: 'version: 1\ndecision_api: { gateway: true }',
    pick: (c) => c.decision_api.gateway,
    gives: false,
    bad: ['maybe', 'expected true or false'],
  },
  A2A_ENABLED: {
    value: 'no',
    pick: (c) => c.decision_api,
    gives: expect.objectContaining({ gateway: true, a2a: false }),
    bad: ['2', 'expected true or false'],
  },
  GATEWAY_AUDIT_ENABLED: { value: '1', pick: () => true, gives: true, bad: ['off', 'cannot be switched off'] },
  GATEWAY_METRICS_ENABLED: { value: 'yes', pick: () => true, gives: true, bad: ['0', 'cannot be switched off'] },
  GATEWAY_CACHE_ENABLED: {
    value: 'false',
    pick: (c) => c.policy.cache.entries,
    gives: 0,
    bad: ['maybe', 'expected true or false'],
  },
};

describe('environment variables', () => {
  test('every alias has a case here', () => {
    verifies('X-08');
    expect(ALIASES.map(({ env }) => env).toSorted()).toEqual(Object.keys(CASES).toSorted());
  });

  test.each(Object.entries(CASES))(
    '%s sets its setting and wins over the file',
    (env, { value, file, also, pick, gives }) => {
      expect(pick(good({ ...also, [env]: value }, file))).toEqual(gives);
    },
  );

  test.each(Object.entries(CASES))('%s also comes from a file', (env, { value, file, also, pick, gives }) => {
    const path = join(directory, `${env}.txt`);
    writeFileSync(path, `${value}\n`);
    expect(pick(good({ ...also, [`${env}_FILE`]: path }, file))).toEqual(gives);
  });

  test.each(Object.entries(CASES).filter(([, { bad }]) => bad !== undefined && bad[0] !== ''))(
    '%s with a value that does not fit is a problem that does not repeat it',
    (env, { file, bad = ['', ''] }) => {
      const { config, problems } = load({ [env]: bad[0] }, file);
      expect(config).toBeNull();
      const own = problems.find(({ source }) => source === `environment variable ${env}`);
      expect(own?.message).toContain(bad[1]);
      expect(own?.text).not.toContain('hunter2');
    },
  );

  test.each(UNAVAILABLE.map(({ env }) => env))('%s is refused with a sentence, not ignored', (env) => {
    const { config, problems } = load({ [env]: 'custom' });
    expect(config).toBeNull();
    expect(problems[0]?.text).toMatch(/^environment variable \w+: not available in this version: .+/);
  });

  test('every name of the old systems is either a setting, refused, or known to be read elsewhere', () => {
    const names = new Set([...ALIASES, ...UNAVAILABLE].map(({ env }) => env).concat(Object.keys(OTHER_VARIABLES)));
    for (const name of [
      'DYN_AUTH_PROVIDER',
      'DYN_STORAGE_PROVIDER',
      'MY_LDAP_BIND_PASSWORD',
      'MY_OAUTH_CLIENT_ID',
      'MY_S3_BUCKET',
      'DYNAMO_RESPONSES_BACKEND',
      'TA_SECURE_AUTH_STORAGE_MANAGER_CLASS',
      'HOKUSAI_AUTH_SERVICE_URL',
      'HOKUSAI_ADMIN_TOKEN',
      'AUTH_PORT',
      'JWT_SECRET_KEY',
    ]) {
      expect(names).toContain(name);
    }
  });

  test('a value that asks for nothing is let through', () => {
    good({ DYNAMO_ENABLE_STATEFUL_RESPONSES: '0', DYN_STORAGE_PROVIDER: 'none', REDIS_URL: '' });
  });

  test('a password does not replace another one that stands in the URL', () => {
    verifies('V-33');
    const REDIS_URL = 'redis://:first-7Qw3rTz9KpL2xV8n@cache:6379';
    const { problems } = load({ REDIS_URL, REDIS_PASSWORD: 'hunter2' });
    expect(problems[0]?.message).toContain('has another password');
    expect(good({ REDIS_URL, REDIS_PASSWORD: 'first-7Qw3rTz9KpL2xV8n' }).stores.shared).toBe(REDIS_URL);
  });

  test('names of tokens mean the gateway’s own where it keeps accounts', () => {
    verifies('V-40');
    const { accounts } = good(
      { JWT_SECRET_KEY: SECRET, JWT_ISSUER: 'swarm', JWT_AUDIENCE: 'tasks', JWT_ALGORITHM: 'hs256' },
      ACCOUNTS_FILE,
    );
    expect(accounts.tokens).toMatchObject({ algorithm: 'HS256', issuer: 'swarm', audience: 'tasks' });
    expect(accounts.tokens.secret?.reveal()).toBe(SECRET);
    expect(good({ JWT_SECRET_KEY: SECRET }, ACCOUNTS_FILE).accounts.tokens.algorithm).toBe('HS256');
    expect(good({ JWT_ALGORITHM: 'es256' }, ACCOUNTS_FILE).accounts.tokens.secret).toBeUndefined();
    expect(load({ JWT_EXPIRATION_HOURS: '2' }).problems[0]?.message).toContain('there are no accounts');
  });

  test('a typo in our own prefix is pointed out', () => {
    const { warnings } = load({ PORTCULLIS_PROT: '1', PORTCULLIS_HOME: '/x' });
    expect(warnings.map(({ text }) => text)).toEqual([
      'environment variable PORTCULLIS_PROT: warning: nothing reads this (did you mean "PORTCULLIS_PORT"?)',
    ]);
  });

  test('an identity variable does not guess between two providers', () => {
    const two =
      'version: 1\nidentity: { a: { kind: jwt, issuer: a, audience: b, jwks: k }, b: { kind: jwt, issuer: b, audience: b, jwks: k } }';
    expect(load({ JWT_ISSUER: 'x' }, two).problems[0]?.message).toContain('several jwt providers');
  });

  test('a problem with a value from the environment names the variable', () => {
    const { problems } = load({ MCP_SERVERS_CONFIG: servers, GATEWAY_HOST: 'bad host' });
    expect(problems[0]?.text).toBe('environment variable GATEWAY_HOST: listen.data: HOST:PORT, e.g. 127.0.0.1:8080');
  });
});
