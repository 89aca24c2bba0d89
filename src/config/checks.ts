/** What a schema cannot say: names that must exist, routes that shadow each other, and the rules of production. Source: contracts 1. */
import { isIP } from 'node:net';
import { type Clock, systemClock } from '../core/clock.ts';
import { expressionProblem } from '../core/expression.ts';
import { isJsonObject, type JsonObject } from '../core/json.ts';
import { STANDARD_ROLES } from './accounts-schema.ts';
import { type Path, type Places, type Problem, problem, suggestion } from './problem.ts';
import type { Config } from './schema.ts';

/** Answered by the gateway itself on every listener. */
const RESERVED = new Set(['/livez', '/readyz', '/live', '/ready', '/health']);

type Report = (path: Path, message: string, severity?: Problem['severity']) => void;

/** A canonical path never holds these, so such a match would never be reached. */
function neverMatches(match: string): boolean {
  return match.includes('//') || /\/\.{1,2}(?:\/|$)/.test(match) || /[%;\\\s]/.test(match);
}

/** One name a route gives, and the section it must occur in. */
function* namesOf(
  route: JsonObject,
  path: Path,
): Generator<{ path: Path; what: string; section: string; name: unknown }> {
  const lists = [
    { key: 'identity', what: 'identity provider', section: 'identity' },
    { key: 'models', what: 'model', section: 'models' },
  ];
  yield { path: [...path, 'server'], what: 'server', section: 'servers', name: route.server };
  yield { path: [...path, 'model'], what: 'model', section: 'models', name: route.model };
  for (const { key, what, section } of lists) {
    const names = route[key];
    if (!Array.isArray(names)) continue;
    for (const [at, name] of names.entries()) yield { path: [...path, key, at], what, section, name };
  }
}

/** Names of servers, models and providers that do not exist. Works on the raw document, so that typos here are told
 * together with what the schema finds. */
export function checkNames(root: unknown, places: Places): Problem[] {
  const problems: Problem[] = [];
  if (!isJsonObject(root) || !Array.isArray(root.routes)) return problems;
  for (const [index, route] of root.routes.entries()) {
    if (!isJsonObject(route)) continue;
    for (const { path, what, section, name } of namesOf(route, ['routes', index])) {
      const known = root[section] ?? {};
      if (typeof name !== 'string' || !isJsonObject(known) || Object.hasOwn(known, name)) continue;
      const message = `no ${what} named "${name}"${suggestion(name, Object.keys(known))}`;
      problems.push(problem('error', path, message, places.of(path)));
    }
  }
  return problems;
}

function checkRoutes(config: Config, report: Report): void {
  const seen = new Map<string, number>();
  for (const [index, route] of config.routes.entries()) {
    const path = ['routes', index];
    const first = seen.get(route.match);
    if (first !== undefined) report([...path, 'match'], `routes[${first}] already matches ${route.match}`);
    seen.set(route.match, first ?? index);
    if (RESERVED.has(route.match)) report([...path, 'match'], 'this path is the gateway’s own health check');
    if (neverMatches(route.match))
      report([...path, 'match'], 'no canonical path looks like this, so nothing would match');
    for (const [at, name] of route.identity.entries()) {
      if (route.identity.indexOf(name) !== at) report([...path, 'identity', at], `"${name}" is named twice`);
    }
    if (route.identity.length === 0 && !route.anonymous) {
      report(path, 'names no identity provider and is not anonymous, so it would refuse everyone');
    }
    if (route.protocol === 'llm' && (route.model === undefined) === (route.models === undefined)) {
      report(path, 'an llm route names either "model" or "models"');
    }
  }
}

function isRange(text: string): boolean {
  const [address = '', bits, more] = text.split('/');
  const family = isIP(address);
  if (family === 0 || more !== undefined) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128));
}

function checkRules(config: Config, report: Report): void {
  for (const [index, rule] of config.classification.rules.entries()) {
    for (const key of ['tool', 'pattern'] as const) {
      const wrong = rule[key] === undefined ? null : expressionProblem(rule[key]);
      if (wrong !== null) report(['classification', 'rules', index, key], wrong);
    }
  }
}

function checkNetworks(config: Config, report: Report): void {
  for (const [index, range] of config.trusted_proxies.entries()) {
    if (!isRange(range)) report(['trusted_proxies', index], 'expected an address or a CIDR range such as 10.0.0.0/8');
  }
  for (const range of Object.keys(config.regions)) {
    if (!isRange(range)) report(['regions', range], 'expected an address or a CIDR range such as 10.0.0.0/8');
  }
  for (const [index, origin] of config.cors.origins.entries()) {
    const exact = URL.canParse(origin) && new URL(origin).origin === origin;
    if (!exact) report(['cors', 'origins', index], 'expected one exact origin such as https://app.example.com');
  }
  const listeners = [
    { path: ['listen', 'data'], address: config.listen.data.address },
    { path: ['listen', 'admin', 'address'], address: config.listen.admin.address },
    ...(config.listen.auth === undefined ? [] : [{ path: ['listen', 'auth'], address: config.listen.auth.address }]),
  ];
  for (const { path, address } of listeners) {
    if (portOf(address) > 65_535) report(path, 'a port is at most 65535');
  }
  const [data, admin] = listeners;
  if (data?.address === admin?.address && portOf(config.listen.data.address) !== 0) {
    report(['listen', 'admin', 'address'], 'the administration listener needs an address of its own');
  }
}

const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(':') + 1));
const hostOf = (address: string): string => address.slice(0, address.lastIndexOf(':')).replace(/^\[|\]$/g, '');

/** True for `localhost`, 127.0.0.0/8 and ::1. */
export function isLoopbackHost(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, '').toLowerCase();
  return bare === 'localhost' || bare === '::1' || (isIP(bare) === 4 && bare.startsWith('127.'));
}

function checkProduction(config: Config, report: Report): void {
  const { data, admin, auth } = config.listen;
  if (auth !== undefined && auth.tls === undefined && !isLoopbackHost(hostOf(auth.address))) {
    if (config.trusted_proxies.length === 0)
      report(['listen', 'auth'], 'production refuses plain HTTP outside loopback');
  }
  if (config.accounts.enabled && config.accounts.self_registration) {
    report(['accounts', 'self_registration'], 'production refuses open registration: administrators make accounts');
  }
  if (data.tls === undefined && !isLoopbackHost(hostOf(data.address)) && config.trusted_proxies.length === 0) {
    report(['listen', 'data'], 'production refuses plain HTTP outside loopback: set tls, or trusted_proxies');
  }
  if (admin.tls === undefined && !isLoopbackHost(hostOf(admin.address))) {
    report(
      ['listen', 'admin', 'address'],
      'production refuses an administration listener without TLS outside loopback',
    );
  }
  if (config.public_url?.startsWith('http:') && !isLoopbackHost(new URL(config.public_url).hostname)) {
    report(['public_url'], 'production needs an https address here');
  }
  if (config.audit.mode === 'off') {
    report(['audit', 'mode'], 'production records every request: remove this line');
  }
  const upstreams: { path: Path; url: string; credential: unknown }[] = [
    ...Object.entries(config.servers).map(([name, { url, credential }]) => ({
      path: ['servers', name, 'url'],
      url,
      credential,
    })),
    ...Object.entries(config.models).map(([name, { url, credential }]) => ({
      path: ['models', name, 'url'],
      url,
      credential,
    })),
  ];
  for (const { path, url, credential } of upstreams) {
    if (credential !== undefined && url.startsWith('http:') && !isLoopbackHost(new URL(url).hostname)) {
      report(path, 'the credential for this upstream travels in the clear: use https', 'warning');
    }
  }
  for (const [index, route] of config.routes.entries()) {
    if (route.anonymous)
      report(['routes', index, 'anonymous'], 'this route answers requests without credentials', 'warning');
    checkReportOnly(config, ['routes', index, 'mode'], route, report);
  }
}

/** A policy that binds nobody is a decision that somebody has to have made for production. */
function checkReportOnly(config: Config, path: Path, route: Config['routes'][number], report: Report): void {
  if (route.protocol === 'api' || route.mode !== 'report') return;
  if (!config.policy.report_only_in_production) {
    report(path, 'production enforces policy: remove this line, or set policy.report_only_in_production: true');
  } else report(path, 'the policy is not enforced on this route: what it refuses is let through', 'warning');
}

function checkStores({ stores, mode }: Config, report: Report): void {
  const isServer = /^postgres(ql)?:/.test(stores.database);
  if (isServer && stores.pepper === undefined) {
    report(['stores'], 'a database that several gateways share needs `pepper`, the same secret for each of them');
  }
  if (isServer && stores.shared === 'memory') {
    const message = 'with memory each gateway counts for itself: name a redis:// URL when there is more than one';
    report(['stores', 'shared'], message, 'warning');
  }
  const url = typeof stores.shared === 'string' && stores.shared.startsWith('redis:') ? new URL(stores.shared) : null;
  const isPlain = url !== null && !isLoopbackHost(url.hostname);
  const isSecure = typeof stores.shared === 'string' && stores.shared.startsWith('rediss:');
  if (stores.shared_ca !== undefined && !isSecure) {
    report(['stores', 'shared_ca'], 'is for a rediss:// server: nothing else here speaks TLS with it');
  }
  if (mode === 'production' && isPlain) {
    report(['stores', 'shared'], 'counters and revocations cross the network unprotected: use rediss://', 'warning');
  }
}

/** What a service sends is signed and changed as a whole; data from elsewhere would be neither. */
function checkBundle({ policy }: Config, report: Report): void {
  const { bundle, data, max_age_seconds } = policy;
  const isService = typeof bundle !== 'string' && 'url' in bundle;
  if (isService && data !== undefined) {
    report(
      ['policy', 'data'],
      'goes with a directory or a bundle file: a bundle service sends the data in its bundles',
    );
  }
  if (!isService && max_age_seconds !== undefined) {
    report(['policy', 'max_age_seconds'], 'is for bundle services: a directory has no age', 'warning');
  }
}

/** Accounts and the providers that read their tokens go together. */
function checkAccounts({ accounts, identity, listen }: Config, report: Report): void {
  const locals = Object.entries(identity).filter(([, { kind }]) => kind === 'local');
  if (!accounts.enabled) {
    for (const [name] of locals) report(['identity', name], 'there are no accounts: set accounts.enabled: true');
  } else if (locals.length === 0) {
    report(['accounts', 'enabled'], 'nobody reads the tokens of accounts: add identity.accounts: { kind: local }');
  }
  if (listen.auth !== undefined && listen.auth.address === listen.data.address && portOf(listen.auth.address) !== 0) {
    report(['listen', 'auth'], 'the listener of accounts needs an address of its own');
  }
}

/** Signed identities: somebody has to be their issuer, nothing else may go into their header, and each is for one upstream. */
function checkIdentityTokens(config: Config, report: Report): void {
  const upstreams = [
    ...Object.entries(config.servers).map(([name, entry]) => ({ path: ['servers', name], entry })),
    ...Object.entries(config.models).map(([name, entry]) => ({ path: ['models', name], entry })),
    ...config.routes.flatMap((entry, index) => (entry.protocol === 'http' ? [{ path: ['routes', index], entry }] : [])),
  ];
  const audiences = new Map<string, { readonly origin: string; readonly at: string }>();
  for (const { path, entry } of upstreams) {
    const { identity_token: token, credential, url } = entry;
    if (token === undefined) continue;
    const at = [...path, 'identity_token'];
    if (config.public_url === undefined) report(at, 'needs public_url: it is the issuer, and where the keys are found');
    if (credential !== undefined && headerOf(credential) === token.header) {
      report([...at, 'header'], `the credential of this upstream is sent in ${token.header} already`);
    }
    const isOpen = url.startsWith('http:') && !isLoopbackHost(new URL(url).hostname);
    if (config.mode === 'production' && isOpen) {
      report(at, 'identity tokens for this upstream travel in the clear: use https', 'warning');
    }
    const audience = token.audience ?? url;
    const { origin } = new URL(url);
    const first = audiences.get(audience);
    if (first !== undefined && first.origin !== origin) {
      report([...at, 'audience'], `${first.at} has the same: each can use what the other is sent`, 'warning');
    }
    audiences.set(audience, first ?? { origin, at: at.join('.') });
  }
}

function headerOf(credential: NonNullable<Config['servers'][string]['credential']>): string {
  return 'header' in credential ? credential.header.toLowerCase() : 'authorization';
}

/** Who gave it to an upstream must not meet it as a credential. */
function checkProviders({ identity, public_url }: Config, report: Report): void {
  for (const [name, entry] of Object.entries(identity)) {
    const options = new Map<string, unknown>(Object.entries(entry));
    const types = options.get('typ');
    if (!Array.isArray(types) || options.get('issuer') !== public_url) continue;
    for (const [index, type] of types.entries()) {
      if (!/^(application\/)?portcullis-identity\+jwt$/i.test(String(type))) continue;
      report(['identity', name, 'typ', index], 'these are tokens for upstreams of this gateway: none may come back');
    }
  }
}

/** Agents are told where to log in by its name, and anybody has to be able to check what it signs. */
function checkAuthorizationServer(config: Config, report: Report): void {
  const { accounts, public_url, mode } = config;
  const { enabled, issuer = public_url } = accounts.authorization_server;
  if (!enabled) return;
  const path = ['accounts', 'authorization_server'];
  if (!accounts.enabled) report(path, 'there are no accounts to log in with: set accounts.enabled: true');
  if (public_url === undefined) report(path, 'set public_url: agents are sent there, and tokens are for it');
  if (accounts.tokens.algorithm === 'HS256')
    report(path, 'who can check HS256 can sign: take another accounts.tokens.algorithm');
  checkLoginProviders(config, [...path], report);
  if (mode !== 'production' || issuer === undefined) return;
  if (issuer.startsWith('http:') && !isLoopbackHost(new URL(issuer).hostname))
    report([...path, 'issuer'], 'production needs an https address here');
}

/** Who may log in at another provider, and as what. */
function checkLoginProviders({ accounts, identity }: Config, path: Path, report: Report): void {
  const { providers, provision } = accounts.authorization_server;
  for (const [index, name] of providers.entries()) {
    const at = [...path, 'providers', index];
    const kinds = Object.entries(identity).flatMap(([other, { kind }]) => (kind === 'oidc' ? [other] : []));
    if (!kinds.includes(name)) report(at, `"${name}" is no identity provider of kind oidc${suggestion(name, kinds)}`);
    if (providers.indexOf(name) !== index) report(at, `"${name}" is named twice`);
  }
  if (provision === false) return;
  const roles = [...new Set([...Object.keys(STANDARD_ROLES), ...Object.keys(accounts.roles)])];
  const unknown = (name: string) => `there is no role "${name}"${suggestion(name, roles)}`;
  for (const [index, name] of provision.roles.entries()) {
    if (!roles.includes(name)) report([...path, 'provision', 'roles', index], unknown(name));
  }
  const at = [...path, 'provision', 'default_role'];
  if (!roles.includes(provision.default_role)) report(at, unknown(provision.default_role));
  if (provision.default_role === 'admin') report(at, 'everybody who logs in would be an administrator');
}

/** Everything that follows from the whole configuration rather than from one value. */
export function checkConfig(config: Config, places: Places): Problem[] {
  const problems: Problem[] = [];
  const report: Report = (path, message, severity = 'error') => {
    problems.push(problem(severity, path, message, places.of(path)));
  };
  checkRoutes(config, report);
  checkRules(config, report);
  checkNetworks(config, report);
  checkStores(config, report);
  checkBundle(config, report);
  checkAccounts(config, report);
  checkAuthorizationServer(config, report);
  checkIdentityTokens(config, report);
  checkProviders(config, report);
  if (config.mode === 'production') checkProduction(config, report);
  return problems;
}

/** Why this clock must not drive a gateway in this mode, or null. */
export function clockProblem(mode: Config['mode'], clock: Clock): string | null {
  return mode === 'production' && clock !== systemClock ? 'production refuses a clock other than the system’s' : null;
}
