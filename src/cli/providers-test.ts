/** `portcullis providers test`: whether a provider works, asked as the gateway asks it but beside a running one. */
import { randomBytes, randomUUID } from 'node:crypto';
import type { Config } from '../config/schema.ts';
import { reasonOf } from '../core/reason.ts';
import { scrubText } from '../core/redaction.ts';
import { Secret } from '../core/secret.ts';
import type { IdentityEnv } from '../identity/env.ts';
import { KEY_ENVIRONMENTS } from '../identity/key-format.ts';
import type { AuthResult, Credential, IdentityProvider, ProviderHealth } from '../identity/provider.ts';
import { createIdentityProvider } from '../modules.ts';
import { createApiKeyStore } from '../stores/api-keys.ts';
import { openDatabase } from '../stores/database.ts';
import { createMemoryShared } from '../stores/memory-shared.ts';
import { namedProvider } from './config-file.ts';
import { CommandError, type Io, line, UnreachableError, UsageError } from './io.ts';
import { printable } from './printable.ts';

/** What is asked about. */
export interface ProviderTest {
  readonly name: string;
  /** Logs this user in; the password is the first line of standard input. */
  readonly username: string | undefined;
  /** Shows the token or key on the first line of standard input. */
  readonly token: boolean;
  readonly json: boolean;
}

type Settings = Config['identity'][string];

/** Prints what was found. Throws UnreachableError when its service cannot be asked, CommandError when it refuses. */
export async function testProvider(config: Config, baseDir: string, test: ProviderTest, io: Io): Promise<void> {
  const settings = namedProvider(config, test.name);
  const clock = { now: () => Date.now() };
  // Nothing of this is the gateway's own: a test must not lock anybody, nor be remembered.
  await using database = await openDatabase('sqlite::memory:', { baseDir, clock });
  await using shared = createMemoryShared({ clock });
  const quiet = () => {};
  // A provider tells its caller little, and the log why.
  let cause: unknown = null;
  const notice = (fields: object) => {
    cause ??= Reflect.get(fields, 'err') ?? null;
  };
  const fails = (detail: string) => {
    const why = cause === null ? '' : reasonOf(cause);
    const text = `${test.name}: ${detail}${why === '' || detail.includes(why) ? '' : `: ${why}`}`;
    return new UnreachableError(printable(scrubText(text)));
  };
  const env: IdentityEnv = {
    name: test.name,
    clock,
    logger: { debug: quiet, info: quiet, warn: notice, error: notice },
    mode: config.mode,
    baseDir,
    keys: createApiKeyStore(database),
    shared,
    pepper: new Secret(randomBytes(32).toString('base64')),
    environment: config.environment,
    publicUrl: config.public_url ?? null,
  };
  if (OWN_STORE.has(settings.kind)) return tellOwn(config, settings, test, io);
  const provider = await createIdentityProvider(settings, env).catch((error: unknown) => {
    throw new CommandError(`identity.${test.name}: ${reasonOf(error)}`);
  });
  try {
    const health = (await provider.health?.()) ?? { state: 'ok' };
    if (health.state === 'down') throw fails(health.detail ?? 'down');
    const route = config.routes.find(({ identity }) => identity.includes(test.name))?.match ?? '/';
    const credential = await credentialOf(test, io);
    const shown = credential ?? probeOf(settings, env.environment);
    const result = shown === null ? null : await ask(provider, shown, route, io.signal);
    if (result?.kind === 'rejected' && result.reason === 'unavailable') {
      throw fails(result.detail ?? 'nobody can say');
    }
    const login = credential === null || result === null ? null : whoIs(result);
    tell(settings, health, login, test, io);
    if (login === null && !test.json) io.err(`${nextStep(config, settings, test.name)}\n`);
  } finally {
    await provider.close?.();
  }
}

/** What is known of them is in the gateway's own database. */
const OWN_STORE: ReadonlySet<string> = new Set(['api-key', 'local']);

function tellOwn(config: Config, settings: Settings, test: ProviderTest, io: Io): void {
  if (settings.kind === 'local' && !config.accounts.enabled) {
    throw new CommandError(`identity.${test.name}: a provider of kind "local" needs accounts.enabled: true`);
  }
  const next = nextStep(config, settings, test.name);
  if (test.token || test.username !== undefined) {
    throw new UsageError(`only the running gateway knows whom "${test.name}" lets in; ask it instead.\n${next}`);
  }
  tell(settings, { state: 'ok' }, null, test, io);
  if (!test.json) io.err(`${next}\n`);
}

function tell(
  { kind }: Settings,
  health: ProviderHealth,
  login: Record<string, unknown> | null,
  { name, json }: ProviderTest,
  io: Io,
): void {
  if (json) {
    line(io, JSON.stringify({ name, kind, health, login }));
    return;
  }
  line(io, printable(`${name}  ${kind}  ${health.state}${health.detail === undefined ? '' : ` (${health.detail})`}`));
  for (const [fact, value] of Object.entries(login ?? {}))
    line(io, printable(`${fact}: ${String(value ?? '') || '-'}`));
}

async function credentialOf({ username, token }: ProviderTest, io: Io): Promise<Credential | null> {
  if (username !== undefined) {
    const value = new Secret(Buffer.from(`${username}:${await readLine(io)}`).toString('base64'));
    return { kind: 'basic', value, source: 'authorization' };
  }
  return token ? { kind: 'bearer', value: new Secret(await readLine(io)), source: 'authorization' } : null;
}

/** Something that is no good, to see whether the service answers; null where health alone says it. */
function probeOf(settings: Settings, environment: Config['environment']): Credential | null {
  const nonsense = `probe-${randomUUID()}`;
  const { prefixes } = settings as { readonly prefixes?: readonly string[] };
  const texts: Readonly<Record<string, string>> = {
    introspection: nonsense,
    oidc: nonsense,
    'remote-key': `${prefixes?.[0] ?? 'hok'}_${KEY_ENVIRONMENTS[environment]}_${nonsense}`,
  };
  const text = texts[settings.kind];
  return text === undefined ? null : { kind: 'bearer', value: new Secret(text), source: 'authorization' };
}

/** What a person does next to see more. */
function nextStep(config: Config, settings: Settings, name: string): string {
  const again = `portcullis providers test ${name}`;
  switch (settings.kind) {
    case 'ldap':
      return `Try a login: ${again} --username USER, with the password on standard input`;
    case 'local':
      return 'Try a login: portcullis auth login --username USER, with the password on standard input';
    case 'api-key':
      return 'Make a key: portcullis keys create --name NAME; try it: curl -H "X-API-Key: $KEY" at a route';
    case 'mtls':
      return 'Try a certificate: curl --cert client.pem --key client.key at a route';
    case 'oidc':
      return browserSteps(config, settings, name, again);
    default:
      return `Try a credential: ${again} --token, with it on standard input`;
  }
}

function browserSteps(config: Config, settings: Settings, name: string, again: string): string {
  const commands = `Log in on this machine: portcullis auth login --provider ${name}; try a token: ${again} --token`;
  if (!hasLogin(settings)) return commands;
  const base = (config.public_url ?? '').replace(/\/$/, '');
  const isOne = Object.values(config.identity).filter(hasLogin).length === 1;
  const back = `${base}/auth/oauth/callback${isOne ? '' : `/${name}`}`;
  return `Browsers log in at ${base}/auth/oauth/start?provider=${name}\nThe issuer must know the redirect address ${back}\n${commands}`;
}

const hasLogin = (settings: Settings): boolean =>
  settings.kind === 'oidc' && 'login' in settings && settings.login !== undefined;

/** Throws CommandError when the provider refuses. */
function whoIs(result: AuthResult): Record<string, unknown> {
  if (result.kind === 'not-applicable') throw new UsageError('this provider takes no credential like this');
  if (result.kind === 'rejected') throw new CommandError(`refused: ${result.detail ?? result.reason}`);
  const { id, tenant_id, email, roles, teams, groups } = result.principal;
  return { id, tenant_id, email, roles, teams, groups };
}

async function ask(
  provider: IdentityProvider,
  credential: Credential,
  route: string,
  signal: AbortSignal,
): Promise<AuthResult> {
  const facts = {
    request_id: `test_${randomUUID()}`,
    source_ip: '127.0.0.1',
    user_agent: null,
    method: 'GET',
    path: route,
    route,
    now: Date.now(),
  };
  try {
    return await provider.authenticate(credential, facts, signal);
  } catch (error) {
    throw new UnreachableError(printable(scrubText(reasonOf(error))));
  }
}

async function readLine(io: Io): Promise<string> {
  let text = '';
  for await (const chunk of io.stdin) text += String(chunk);
  return text.replace(/\r?\n[\s\S]*$/, '');
}
