/**
 * Environment variables that set something in the configuration: the product's own and the names that the systems it
 * replaces used. A variable wins over the file. Each name also exists as `NAME_FILE`, which names a file with the value.
 * A name whose setting does not exist in this version is refused with a sentence, never ignored: a limit or a provider
 * somebody relies on must not vanish in silence. Source: contracts 5, acceptance D-47..D-50, D-61, DW-07, DW-08, SW-08,
 * SW-09, V-40, X-08.
 */
import { parse } from 'yaml';
import { isJsonObject } from '../core/json.ts';
import { setAuthPort, setLife, setPassword, setToken, setTokenSecret } from './account-aliases.ts';
import { type Alias, AliasError, Draft, dataAddress, flag, hostPart, oneOf, port, type Tree } from './alias-draft.ts';
import { setStore, setStoreClass, typedPath } from './own-aliases.ts';
import { type Path, type Place, type Places, type Problem, problem, suggestion } from './problem.ts';
import { type Environment, readVariable, type SecretFiles, UnresolvedError } from './references.ts';
import { UNAVAILABLE } from './unavailable.ts';

const portPart = (address: string): string => address.slice(address.lastIndexOf(':') + 1);

function setDataPort(value: string, draft: Draft): void {
  const { path, address } = dataAddress(draft);
  draft.set(path, `${hostPart(address)}:${port(value)}`);
}

function setDataHost(value: string, draft: Draft): void {
  const { path, address } = dataAddress(draft);
  const host = value.includes(':') && !value.startsWith('[') ? `[${value}]` : value;
  draft.set(path, `${host}:${portPart(address)}`);
}

/** The one provider of a kind; made under a usual name when there is none. */
function providerPath(kind: string, usual: string, draft: Draft): Path {
  const identity = draft.get(['identity']);
  const entries = isJsonObject(identity) ? Object.entries(identity) : [];
  const found = entries.filter(([, value]) => isJsonObject(value) && value.kind === kind);
  if (found.length > 1) throw new AliasError(`there are several ${kind} providers: set this in the file`);
  const name = found[0]?.[0] ?? usual;
  if (found.length === 0) draft.set(['identity', name, 'kind'], kind);
  return ['identity', name];
}

const jwtPath = (draft: Draft): Path => providerPath('jwt', 'jwt', draft);

/** A file of yours; made for routes that name none. */
function setAuthModule(value: string, draft: Draft): void {
  const path = providerPath('custom', 'custom', draft);
  draft.set([...path, 'module'], typedPath(value, draft));
  giveToRoutes(path, draft);
}

/** An own provider in the file is told where its service is; without one it is made, for routes that name none. */
function setKeyService(value: string, draft: Draft): void {
  const path = providerPath('remote-key', 'hokusai', draft);
  draft.set([...path, 'url'], value);
  giveToRoutes(path, draft);
}

/** The one ldap provider; made for routes that name none. A host name alone means ldaps. */
function setLdapServer(value: string, draft: Draft): void {
  const path = providerPath('ldap', 'ldap', draft);
  draft.set([...path, 'url'], value.includes('://') ? value : `ldaps://${value}`);
  giveToRoutes(path, draft);
}

/** The tree that the account is in is the one that is searched, unless the file says so. */
function setLdapAccount(value: string, draft: Draft): void {
  const path = providerPath('ldap', 'ldap', draft);
  draft.set([...path, 'bind_dn'], value);
  const base = /dc *=.*$/i.exec(value)?.[0];
  if (base !== undefined && draft.get([...path, 'base_dn']) === undefined) draft.set([...path, 'base_dn'], base);
}

/** The one oidc provider; with its issuer it is given to routes that name none. */
const setOidc =
  (option: 'issuer' | 'client_id' | 'client_secret'): Alias['apply'] =>
  (value, draft) => {
    const path = providerPath('oidc', 'oidc', draft);
    draft.set([...path, option], value);
    if (option === 'issuer') giveToRoutes(path, draft);
  };

const ALGORITHMS = {
  hs256: 'HS256',
  rs256: 'RS256',
  es256: 'ES256',
  eddsa: 'EdDSA',
  rs384: 'RS384',
  rs512: 'RS512',
  ps256: 'PS256',
  es384: 'ES384',
};
const setJwt =
  (option: string, convert: (value: string) => unknown = (value) => value) =>
  (value: string, draft: Draft): void =>
    draft.set([...jwtPath(draft), option], convert(value));
const setAt =
  (path: Path, convert: (value: string) => unknown = (value) => value) =>
  (value: string, draft: Draft): void =>
    draft.set(path, convert(value));

/** Makes the provider and gives it to every route that names none and is not anonymous. */
function setProvider(value: string, draft: Draft): void {
  const name = oneOf(value, { jwt: 'jwt', 'api-key': 'keys', api_key: 'keys', apikey: 'keys', custom: 'custom' });
  const path: Path =
    name === 'jwt' ? jwtPath(draft) : name === 'custom' ? providerPath(name, name, draft) : ['identity', name];
  if (draft.get(path) === undefined) draft.set([...path, 'kind'], 'api-key');
  giveToRoutes(path, draft);
}

function giveToRoutes(provider: Path, draft: Draft): void {
  const routes = draft.get(['routes']);
  for (const [index, route] of (Array.isArray(routes) ? routes : []).entries()) {
    const open = isJsonObject(route) && route.identity === undefined && route.anonymous !== true;
    if (open) draft.set(['routes', index, 'identity'], [provider.at(-1)]);
  }
}

/** `auth=debug,storage=debug`; Rust-style module paths count by their last part. */
function setLevels(value: string, draft: Draft): void {
  for (const part of value.split(',').filter((piece) => piece.trim() !== '')) {
    const [name = '', level = ''] = part.split('=').map((piece) => piece.trim());
    const component = name.split('::').at(-1) ?? '';
    if (component === '' || level === '') throw new AliasError('expected component=level,component=level');
    draft.set(['logging', 'levels', component], logLevel(level));
  }
}

const logLevel = (value: string): string =>
  oneOf(value, {
    debug: 'debug',
    trace: 'debug',
    info: 'info',
    warn: 'warn',
    warning: 'warn',
    error: 'error',
    critical: 'error',
  });

function setDatabase(value: string, draft: Draft): void {
  if (!/^(sqlite:|postgres(ql)?:\/\/)/.test(value)) throw new AliasError('expected a sqlite: or postgres:// URL');
  draft.set(['stores', 'database'], value);
}

function setShared(value: string, draft: Draft): void {
  if (value !== 'memory' && !/^rediss?:\/\//.test(value)) throw new AliasError('expected "memory" or a redis:// URL');
  draft.set(['stores', 'shared'], value);
}

/** The list of servers of SARK's gateway tutorial: `servers: [{name, url, description, enabled, metadata}]`. */
function setServers(file: string, draft: Draft): void {
  const listed: unknown = parse(draft.files.text(file), { merge: false, maxAliasCount: 0, logLevel: 'error' });
  if (!isJsonObject(listed) || !Array.isArray(listed.servers)) throw new AliasError('the file has no list "servers"');
  for (const item of listed.servers as unknown[]) {
    if (!isJsonObject(item) || typeof item.name !== 'string') throw new AliasError('a server without a name');
    const metadata = isJsonObject(item.metadata) ? item.metadata : {};
    const settings: Record<string, unknown> = {
      url: item.url,
      description: item.description,
      enabled: item.enabled,
      type: metadata.server_type,
      environment: metadata.environment,
      sensitivity_level: metadata.sensitivity_level,
    };
    for (const [name, value] of Object.entries(settings)) {
      if (value !== undefined) draft.set(['servers', item.name, name], value);
    }
  }
}

/** A part of the decision API. */
function setDecisions(part: 'gateway' | 'a2a'): Alias['apply'] {
  return (value, draft) => draft.set(['decision_api', part], flag(value));
}

function refuseOff(what: string): Alias['apply'] {
  return (value) => {
    if (!flag(value)) throw new AliasError(`${what} cannot be switched off`);
  };
}

const row = (env: string, setting: string, note: string, apply: Alias['apply']): Alias => ({
  env,
  setting,
  note,
  apply,
});

/** Every variable that sets something, in the order in which they are applied: later rows win. */
export const ALIASES: readonly Alias[] = [
  row(
    'GATEWAY_ENV',
    'mode',
    'production, prod and staging mean production; development, dev and test mean development',
    (value, draft) =>
      draft.set(
        ['mode'],
        oneOf(value, {
          production: 'production',
          prod: 'production',
          staging: 'production',
          development: 'development',
          dev: 'development',
          test: 'development',
        }),
      ),
  ),
  row('GATEWAY_HOST', 'listen.data', 'replaces the host', setDataHost),
  row('GATEWAY_PORT', 'listen.data', 'replaces the port', setDataPort),
  row('PORTCULLIS_PORT', 'listen.data', 'replaces the port', setDataPort),
  row('PORTCULLIS_ADMIN_PORT', 'listen.admin.address', 'replaces the port', (value, draft) => {
    const address = draft.get(['listen', 'admin', 'address']);
    draft.set(
      ['listen', 'admin', 'address'],
      `${hostPart(typeof address === 'string' ? address : '127.0.0.1:9090')}:${port(value)}`,
    );
  }),
  row('PORTCULLIS_ADMIN_TOKEN', 'listen.admin.token', 'secret', setAt(['listen', 'admin', 'token'])),
  row('LOG_LEVEL', 'logging.level', 'debug, info, warn or error, any case', setAt(['logging', 'level'], logLevel)),
  row('LOG_LEVELS', 'logging.levels', 'component=level, separated by commas', setLevels),
  row(
    'DYN_AUTH_PROVIDER',
    'identity',
    'jwt, api-key or custom: made if missing, given to routes that name none',
    setProvider,
  ),
  row('PORTCULLIS_AUTH_MODULE', 'identity.*.module', 'of the custom provider: made if missing', setAuthModule),
  row('PORTCULLIS_AUTH_MODULE_CLASS', 'identity.*.class', 'of the custom provider', (value, draft) =>
    draft.set([...providerPath('custom', 'custom', draft), 'class'], value),
  ),
  row('DYN_AUTH_JWT_ISSUER', 'identity.jwt.issuer', '', setJwt('issuer')),
  row(
    'DYN_AUTH_JWT_ALGORITHM',
    'identity.jwt.algorithms',
    'one algorithm',
    setJwt('algorithms', (v) => [oneOf(v, ALGORITHMS)]),
  ),
  row('DYN_AUTH_JWT_PUBLIC_KEY_PATH', 'identity.jwt.public_key', 'PEM file', setJwt('public_key')),
  row(
    'JWT_ISSUER',
    'identity.jwt.issuer',
    'with accounts: accounts.tokens.issuer',
    setToken(setAt(['accounts', 'tokens', 'issuer']), setJwt('issuer')),
  ),
  row(
    'JWT_AUDIENCE',
    'identity.jwt.audience',
    'with accounts: accounts.tokens.audience',
    setToken(setAt(['accounts', 'tokens', 'audience']), setJwt('audience')),
  ),
  row(
    'JWT_ALGORITHM',
    'identity.jwt.algorithms',
    'one algorithm; with accounts: accounts.tokens.algorithm',
    setToken(
      setAt(['accounts', 'tokens', 'algorithm'], (v) => oneOf(v, ALGORITHMS)),
      setJwt('algorithms', (v) => [oneOf(v, ALGORITHMS)]),
    ),
  ),
  row(
    'HOKUSAI_AUTH_SERVICE_URL',
    'identity.*.url',
    'of the remote-key provider: made if missing, given to routes that name none; also what `keys` and `auth` talk to',
    setKeyService,
  ),
  row(
    'MY_LDAP_SERVER',
    'identity.*.url',
    'of the ldap provider: made if missing, given to routes that name none',
    setLdapServer,
  ),
  row('MY_OAUTH_ISSUER', 'identity.*.issuer', 'of the oidc provider: made if missing', setOidc('issuer')),
  row('MY_OAUTH_CLIENT_ID', 'identity.*.client_id', 'of the oidc provider', setOidc('client_id')),
  row('MY_OAUTH_CLIENT_SECRET', 'identity.*.client_secret', 'of the oidc provider; secret', setOidc('client_secret')),
  row('MY_LDAP_BIND_DN', 'identity.*.bind_dn', 'of the ldap provider; base_dn follows from it', setLdapAccount),
  row('MY_LDAP_BIND_PASSWORD', 'identity.*.bind_password', 'of the ldap provider; secret', (value, draft) =>
    draft.set([...providerPath('ldap', 'ldap', draft), 'bind_password'], value),
  ),
  row(
    'JWT_SECRET_KEY',
    'identity.jwt.secret',
    'secret, for HS256; at least 32 bytes; with accounts: accounts.tokens.secret',
    setToken(setTokenSecret, setJwt('secret')),
  ),
  row('JWT_EXPIRATION_HOURS', 'accounts.tokens.access_seconds', 'hours', setLife('access_seconds', 3600)),
  row('REFRESH_TOKEN_EXPIRATION_DAYS', 'accounts.tokens.refresh_seconds', 'days', setLife('refresh_seconds', 86_400)),
  row('AUTH_PORT', 'listen.auth', 'one more listener, for `/auth` only', setAuthPort),
  row(
    'DYN_AUTH_API_KEY_STORE',
    'stores.database',
    'in_memory keeps keys until the end of the process',
    (value, draft) => {
      const wanted = oneOf(value, { in_memory: 'memory', memory: 'memory', database: 'database', redis: 'redis' });
      if (wanted === 'redis') throw new AliasError('a Redis key store is not available in this version');
      if (wanted === 'memory') draft.set(['stores', 'database'], 'sqlite::memory:');
    },
  ),
  row('MY_DB_URL', 'stores.database', 'sqlite: and postgres:// URLs', setDatabase),
  row('DATABASE_URL', 'stores.database', 'sqlite: and postgres:// URLs', setDatabase),
  row('REDIS_URL', 'stores.shared', '"memory", redis:// and rediss:// URLs', setShared),
  row(
    'LANGFUSE_DB_PASSWORD',
    'stores.database',
    'the password for a postgres:// URL without one; secret',
    setPassword(['stores', 'database'], /^postgres(ql)?:/),
  ),
  row(
    'REDIS_PASSWORD',
    'stores.shared',
    'the password for a redis:// URL without one; secret',
    setPassword(['stores', 'shared'], /^rediss?:/),
  ),
  row('PORTCULLIS_STORAGE_MODULE', 'stores.shared.module', 'a store of your own', setStore),
  row('PORTCULLIS_STORAGE_MODULE_CLASS', 'stores.shared.class', 'with PORTCULLIS_STORAGE_MODULE', setStoreClass),
  row('DYN_AUDIT_BACKEND', 'audit', '"file"', (value) => void oneOf(value, { file: 'file' })),
  row('DYN_AUDIT_LOG_PATH', 'audit.file', '', setAt(['audit', 'file'])),
  row(
    'MCP_SERVERS_CONFIG',
    'servers',
    'a YAML file with a list "servers"; entries are added to those of the file',
    setServers,
  ),
  row(
    'GATEWAY_ENABLED',
    'decision_api.gateway',
    'the decision API for gateways; traffic goes on',
    setDecisions('gateway'),
  ),
  row('A2A_ENABLED', 'decision_api.a2a', 'questions about calls between agents', setDecisions('a2a')),
  row('GATEWAY_AUDIT_ENABLED', 'audit', 'only true: every end of a request is recorded', refuseOff('the audit')),
  row(
    'GATEWAY_METRICS_ENABLED',
    '-',
    'only true: metrics are on the administration listener',
    refuseOff('the metrics'),
  ),
  row('GATEWAY_CACHE_ENABLED', 'policy.cache.entries', 'false sets 0', (value, draft) => {
    if (!flag(value)) draft.set(['policy', 'cache', 'entries'], 0);
  }),
];

/** Variables that are read elsewhere: by client commands, at start, or by the policy compiler. */
export const OTHER_VARIABLES: Readonly<Record<string, string>> = {
  PORTCULLIS_CONFIG: 'the configuration file when no -c is given',
  PORTCULLIS_HOME: 'where the demo and client commands keep their files (default ./.portcullis)',
  PORTCULLIS_CREDENTIALS: 'the file in which `auth login` keeps tokens (default below $XDG_CONFIG_HOME or ~/.config)',
  PORTCULLIS_URL: 'the data listener that client commands (`approvals`, `delegate`) talk to',
  PORTCULLIS_ADMIN_URL: 'the administration listener that client commands talk to',
  HOKUSAI_ADMIN_TOKEN: 'the credential with which `keys` manages keys of an external service; secret',
  HOKUSAI_PROFILE: 'the section of ~/.hokusai/config that `keys`, `auth validate` and the client read',
  HOKUSAI_API_KEY: 'the key that `auth validate` asks about; secret',
  OPA_BIN: 'the opa program that compiles policies',
};

function known(): Set<string> {
  const names = [
    ...ALIASES.map((alias) => alias.env),
    ...Object.keys(OTHER_VARIABLES),
    ...UNAVAILABLE.map(({ env }) => env),
  ];
  return new Set(names.flatMap((name) => [name, `${name}_FILE`]));
}

/** Our own prefix with a name nobody reads is almost surely a typo. */
function unknownOwn(env: Environment): Problem[] {
  const names = known();
  return Object.keys(env)
    .filter((name) => name.startsWith('PORTCULLIS_') && !names.has(name))
    .map((name) => problem('warning', [], `nothing reads this${suggestion(name, names)}`, placeOf(name)));
}

const placeOf = (name: string): Place => ({ source: `environment variable ${name}`, line: 0, column: 0 });

/**
 * Writes the environment into the configuration as read from the file (in place) and says what does not fit. Values
 * are never repeated in a problem.
 */
export function applyAliases(root: unknown, places: Places, env: Environment, files: SecretFiles): Problem[] {
  const problems = unknownOwn(env);
  if (!isJsonObject(root)) return problems;
  const attempt = (name: string, use: (value: string) => void) => {
    try {
      const value = readVariable(name, env, files);
      if (value !== undefined) use(value);
    } catch (error) {
      const expected = error instanceof AliasError || error instanceof UnresolvedError;
      problems.push(problem('error', [], expected ? error.message : 'its value could not be used', placeOf(name)));
    }
  };
  for (const { env: name, apply } of ALIASES) {
    attempt(name, (value) => apply(value, new Draft(root as Tree, places, placeOf(name), files)));
  }
  for (const { env: name, harmless, reason } of UNAVAILABLE) {
    attempt(name, (value) => {
      if (!harmless.includes(value.toLowerCase())) throw new AliasError(`not available in this version: ${reason}`);
    });
  }
  return problems;
}
