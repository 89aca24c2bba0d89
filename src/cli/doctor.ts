/** `portcullis doctor`: what will not work, what is not safe, and what to do about it. Starts nothing and asks nobody. */
import { accessSync, constants, readFileSync, statSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { bundlePath, signingRules } from '../composition/policy-sources.ts';
import { rehearse } from '../composition/rehearsal.ts';
import { bindableRoutes, buildRoutes } from '../composition/routes.ts';
import type { SettingFault } from '../composition/setting-fault.ts';
import { isWritable } from '../config/directories.ts';
import type { LoadResult } from '../config/load.ts';
import { pathText, suggestion } from '../config/problem.ts';
import type { Config } from '../config/schema.ts';
import { SERVER_TYPES } from '../core/call.ts';
import { isJsonObject, type JsonObject } from '../core/json.ts';
import { scrubText } from '../core/redaction.ts';
import { bindRoutes, claimsOnNothing, nothingText, type RouteClaim } from '../policy/bindings.ts';
import { loadBundle, staleSources } from '../policy/bundle.ts';
import { PolicyLoadError } from '../policy/wasm/program.ts';
import { databaseFile } from '../stores/database.ts';
import { configFile, readConfigFile } from './config-file.ts';
import { EXIT, type Io, line } from './io.ts';
import { readOptions, USUAL_OPTIONS } from './usual-options.ts';

export const DOCTOR_HELP = `Usage: portcullis doctor [-c FILE] [--json]

Looks at the configuration and this machine. Exit code 1 when something is
broken; advice alone is 0. Asks nobody over the network; modules of your own run,
as with "config check".

  -c, --config FILE   default: $PORTCULLIS_CONFIG, portcullis.yaml, or the demo's
  --json              print JSON
`;

interface Finding {
  readonly state: 'ok' | 'advice' | 'broken';
  readonly about: string;
  readonly text: string;
}

const ok = (about: string, text: string): Finding => ({ state: 'ok', about, text });
const advice = (about: string, text: string): Finding => ({ state: 'advice', about, text });
const broken = (about: string, text: string): Finding => ({ state: 'broken', about, text });

function access(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}

function* files(config: Config, baseDir: string, faults: readonly SettingFault[]): Generator<Finding> {
  const needed: [string, string | undefined][] = [
    ['listen.data.tls.cert', config.listen.data.tls?.cert],
    ['listen.data.tls.key', config.listen.data.tls?.key],
    ['listen.data.tls.client_ca', config.listen.data.tls?.client_ca],
    ['listen.admin.tls.cert', config.listen.admin.tls?.cert],
    ['listen.admin.tls.key', config.listen.admin.tls?.key],
    ['policy.data', config.policy.data],
    ['policy.shadow.bundle', config.policy.shadow?.bundle],
    ['policy.shadow.data', config.policy.shadow?.data],
    ['policy.decision_log.service.ca', config.policy.decision_log?.service?.ca],
    ...Object.entries(config.servers).map(([name, { ca }]): [string, string | undefined] => [`servers.${name}.ca`, ca]),
    ...Object.entries(config.models).map(([name, { ca }]): [string, string | undefined] => [`models.${name}.ca`, ca]),
    ...config.routes.map((route, at): [string, string | undefined] => [
      `routes[${at}].ca`,
      route.protocol === 'http' ? route.ca : undefined,
    ]),
    ...Object.entries(config.identity).flatMap(keyFiles),
  ];
  for (const [setting, path] of needed) {
    if (path === undefined) continue;
    const file = resolve(baseDir, path);
    // Said below, with the reason.
    if (faults.some((fault) => setting.startsWith(pathText(fault.path)) && fault.reason.includes(file))) continue;
    yield access(file, constants.R_OK) ? ok(setting, file) : broken(setting, `${file} cannot be read`);
  }
  const written: [string, string | null | undefined][] = [
    ['audit.file', config.audit.file],
    ['policy.decision_log.file', config.policy.decision_log?.file],
    ['stores.database', databaseFile(config.stores.database, baseDir)],
  ];
  for (const [setting, path] of written) {
    if (path === undefined || path === null) continue;
    const file = resolve(baseDir, path);
    if (faults.some((fault) => pathText(fault.path) === setting)) continue;
    yield isWritable(file) ? ok(setting, file) : broken(setting, `${file} cannot be written`);
  }
}

/** Key material of a provider that lies in files; what is fetched from elsewhere is not asked for. */
function keyFiles([name, provider]: [string, object]): [string, string | undefined][] {
  return (['jwks', 'public_key', 'ca', 'crl'] as const).flatMap((key) =>
    [Reflect.get(provider, key) as unknown].flat().map((value): [string, string | undefined] => {
      const isFile = typeof value === 'string' && !/^https?:/i.test(value);
      return [`identity.${name}.${key}`, isFile ? value : undefined];
    }),
  );
}

async function* policies(config: Config, baseDir: string, canCompile: boolean): AsyncGenerator<Finding> {
  const path = bundlePath(config.policy.bundle);
  if (path === null) return;
  const bundle = resolve(baseDir, path);
  const info = statSync(bundle, { throwIfNoEntry: false });
  if (info === undefined) {
    yield broken(
      'policy.bundle',
      `${bundle} does not exist: every request would be refused; name yours at policy.bundle`,
    );
    return;
  }
  const dataFile = config.policy.data === undefined ? null : resolve(baseDir, config.policy.data);
  try {
    const loaded = await loadBundle({ bundleDir: bundle, dataFile }, signingRules(config.policy.bundle));
    const stale = info.isDirectory() ? await staleSources(bundle, loaded) : [];
    yield stale.length === 0 ? ok('policy.bundle', bundle) : uncompiled(stale, canCompile);
    yield* regions(config, loaded.data);
    yield* boundRoutes(config, loaded.claims);
  } catch (fault) {
    if (!(fault instanceof PolicyLoadError)) throw fault;
    yield broken('policy.bundle', fault.message);
  }
  if (config.mode === 'production' && !(config.policy.data ?? '').includes('strict')) {
    yield advice('policy.data', 'for production choose the strict profile: policies/profiles/strict.json');
  }
}

function uncompiled(stale: readonly string[], canCompile: boolean): Finding {
  const newer = `the compiled policy is older than ${stale.join(', ')}`;
  return canCompile
    ? advice('policy.bundle', `${newer}: each start compiles it again; "portcullis policy build" ends that`)
    : broken('policy.bundle', `${newer}, and nothing here can compile it: every request would be refused`);
}

/** What the policy itself says of routes: where it decides by what, and what leads nowhere. */
function* boundRoutes(config: Config, claims: readonly RouteClaim[]): Generator<Finding> {
  const routes = bindableRoutes(config);
  const bindings = bindRoutes(routes, claims, config.policy.entrypoint);
  for (const { route, entrypoint, from } of bindings) {
    if (from === 'bundle') yield ok('routes', `the policy binds ${route} to ${entrypoint}`);
  }
  for (const claim of claimsOnNothing(routes, claims)) yield advice('routes', nothingText(claim));
  const protocols = new Map(buildRoutes(config).map(({ match, protocol }) => [match, protocol]));
  const of = (protocol: string) => bindings.filter(({ route }) => protocols.get(route) === protocol);
  for (const tools of of('tools').filter(({ route }) => route !== '/servers')) {
    // The same tools by two doors, with two rules.
    for (const { route, entrypoint } of of('mcp').filter((one) => one.entrypoint !== tools.entrypoint)) {
      const other = `the tools API at ${tools.route} reaches the same server by ${tools.entrypoint}`;
      yield advice('routes', `${route} is decided by ${entrypoint}, but ${other}`);
    }
  }
}

/** A list of regions admits nobody while no network belongs to one. */
function* regions(config: Config, data: JsonObject): Generator<Finding> {
  const settings = isJsonObject(data.config) ? data.config : {};
  if (!Array.isArray(settings.allowed_regions) || Object.keys(config.regions).length > 0) return;
  const allowed = settings.allowed_regions.map(String).join(', ');
  yield broken('regions', `the policy lets in ${allowed} alone, but no network has a region: everyone is "unknown"`);
}

/** Nobody classifies the tools of a type that is not known. */
function* serverTypes(config: Config): Generator<Finding> {
  const known: readonly string[] = [...SERVER_TYPES, ...config.classification.rules.map((rule) => rule.server_type)];
  for (const [name, { type }] of Object.entries(config.servers)) {
    if (known.includes(type)) continue;
    const text = `nothing classifies "${type}"${suggestion(type, known)}: its tools are custom/high unless declared`;
    yield advice(`servers.${name}.type`, text);
  }
}

function* exposure(config: Config): Generator<Finding> {
  if (config.mode === 'development')
    yield advice('mode', 'development: set mode: production before others depend on it');
  if (config.listen.admin.token === undefined) {
    yield advice('listen.admin.token', 'without a token the administration listener only serves health and metrics');
  }
  if (config.routes.length === 0) yield advice('routes', 'there are none: every path is answered 404');
  for (const route of config.routes) {
    const { match, anonymous } = route;
    if (anonymous) yield advice('routes', `${match} answers requests without credentials`);
    if (route.protocol !== 'api' && route.mode === 'report') {
      yield advice('routes', `POLICY IS NOT ENFORCED on ${match}: mode: report lets through what the policy refuses`);
    }
  }
  if (config.stores.shared === 'memory') {
    yield ok('stores.shared', 'memory: counters and limits are this process’s own');
  }
}

/** A public key or a certificate is for everybody to read. */
function isPublic(path: string): boolean {
  try {
    const text = readFileSync(path, 'utf8');
    return /^-----BEGIN (?:PUBLIC KEY|CERTIFICATE)-----/.test(text) && !text.includes('PRIVATE KEY');
  } catch {
    return false;
  }
}

/** Files with secrets that others on this machine may read. */
function* secretFiles({ read, file }: LoadResult): Generator<Finding> {
  for (const path of read) {
    const info = statSync(path, { throwIfNoEntry: false });
    if (path === file || info === undefined || isPublic(path)) continue;
    const open = (info.mode & 0o077) !== 0;
    yield open ? advice('secrets', `${path} is readable by others: chmod 600`) : ok('secrets', `${path} is private`);
  }
}

function compiler(io: Io): Finding {
  const onPath = (name: string) =>
    (io.env.PATH ?? '').split(delimiter).some((dir) => access(join(dir, name), constants.X_OK));
  if (io.env.OPA_BIN !== undefined || onPath('opa')) return ok('compiler', 'opa is there');
  if (onPath('go')) return ok('compiler', 'go is there: it builds the pinned opa when a policy changes');
  return advice('compiler', 'no opa and no go: the compiled policy works, changed policies cannot be compiled here');
}

async function examine(loaded: LoadResult, io: Io): Promise<Finding[]> {
  const compiling = compiler(io);
  const found: Finding[] = [ok('node', `${process.version} on ${process.platform}`), compiling];
  for (const { text } of loaded.problems) found.push(broken('configuration', text));
  for (const { text } of loaded.warnings) found.push(advice('configuration', text));
  if (loaded.config !== null) {
    found.push(ok('configuration', loaded.file));
    const faults = await rehearse(loaded.config, loaded.baseDir);
    found.push(...files(loaded.config, loaded.baseDir, faults));
    for (const { path, reason } of faults) found.push(broken(pathText(path), scrubText(reason)));
    for await (const one of policies(loaded.config, loaded.baseDir, compiling.state === 'ok')) found.push(one);
    found.push(...serverTypes(loaded.config), ...exposure(loaded.config));
  }
  found.push(...secretFiles(loaded));
  return found;
}

export async function doctorCommand(argv: readonly string[], io: Io): Promise<number> {
  const values = readOptions(argv, USUAL_OPTIONS);
  if (values.help === true) {
    io.out(DOCTOR_HELP);
    return EXIT.ok;
  }
  const findings = await examine(await readConfigFile(configFile(values.config, io), io), io);
  const good = !findings.some(({ state }) => state === 'broken');
  if (values.json === true) line(io, JSON.stringify({ ok: good, findings }));
  else for (const { state, about, text } of findings) line(io, `${state.padEnd(6)}  ${about}: ${text}`);
  return good ? EXIT.ok : EXIT.failed;
}
