/** `portcullis providers test`: whether a provider works, asked as the gateway asks it but beside a running one. */
import { randomBytes, randomUUID } from 'node:crypto';
import type { Config } from '../config/schema.ts';
import { Secret } from '../core/secret.ts';
import type { IdentityEnv } from '../identity/env.ts';
import type { AuthResult, Credential, IdentityProvider } from '../identity/provider.ts';
import { createIdentityProvider } from '../modules.ts';
import { createApiKeyStore } from '../stores/api-keys.ts';
import { openDatabase } from '../stores/database.ts';
import { createMemoryShared } from '../stores/memory-shared.ts';
import { CommandError, type Io, line, UnreachableError, UsageError } from './io.ts';

/** What is asked about. */
export interface ProviderTest {
  readonly name: string;
  /** Logs this user in; the password is the first line of standard input. */
  readonly username: string | undefined;
  readonly json: boolean;
}

/** Prints what was found. Throws UnreachableError when the provider does not work, CommandError when it refuses. */
export async function testProvider(config: Config, baseDir: string, test: ProviderTest, io: Io): Promise<void> {
  const settings = Object.hasOwn(config.identity, test.name) ? config.identity[test.name] : undefined;
  if (settings === undefined) throw new UsageError(`the configuration has no provider "${test.name}"`);
  const clock = { now: () => Date.now() };
  // Nothing of this is the gateway's own: a test must not lock anybody, nor be remembered.
  await using database = await openDatabase('sqlite::memory:', { baseDir, clock });
  await using shared = createMemoryShared({ clock });
  const quiet = () => {};
  const env: IdentityEnv = {
    name: test.name,
    clock,
    logger: { debug: quiet, info: quiet, warn: quiet, error: quiet },
    mode: config.mode,
    baseDir,
    keys: createApiKeyStore(database),
    shared,
    pepper: new Secret(randomBytes(32).toString('base64')),
    environment: config.environment,
  };
  const provider = await createIdentityProvider(settings, env);
  try {
    const health = (await provider.health?.()) ?? { state: 'ok' };
    if (health.state === 'down') throw new UnreachableError(`${test.name}: ${health.detail ?? 'down'}`);
    const login = test.username === undefined ? null : await logIn(provider, test.username, io);
    if (test.json) line(io, JSON.stringify({ name: test.name, kind: settings.kind, health, login }));
    else {
      line(
        io,
        `${test.name}  ${settings.kind}  ${health.state}${health.detail === undefined ? '' : ` (${health.detail})`}`,
      );
      for (const [fact, value] of Object.entries(login ?? {})) line(io, `${fact}: ${String(value)}`);
    }
  } finally {
    await provider.close?.();
  }
}

async function logIn(provider: IdentityProvider, username: string, io: Io): Promise<Record<string, unknown>> {
  const result = await ask(provider, username, await readPassword(io), io.signal);
  if (result.kind === 'not-applicable') throw new UsageError('this provider takes no names and passwords');
  if (result.kind === 'rejected') throw new CommandError(`refused: ${result.reason}, ${result.detail ?? 'no detail'}`);
  const { id, tenant_id, email, roles, teams, groups } = result.principal;
  return { id, tenant_id, email, roles, teams, groups };
}

async function ask(
  provider: IdentityProvider,
  name: string,
  password: string,
  signal: AbortSignal,
): Promise<AuthResult> {
  const value = new Secret(Buffer.from(`${name}:${password}`).toString('base64'));
  const credential: Credential = { kind: 'basic', value, source: 'authorization' };
  const facts = {
    request_id: `test_${randomUUID()}`,
    source_ip: '127.0.0.1',
    user_agent: null,
    method: 'GET',
    path: '/',
    route: 'test',
    now: Date.now(),
  };
  try {
    return await provider.authenticate(credential, facts, signal);
  } catch (error) {
    throw new UnreachableError(error instanceof Error ? error.message : 'the provider does not answer');
  }
}

async function readPassword(io: Io): Promise<string> {
  let text = '';
  for await (const chunk of io.stdin) text += String(chunk);
  return text.replace(/\r?\n[\s\S]*$/, '');
}
