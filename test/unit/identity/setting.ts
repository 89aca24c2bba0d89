/** A provider's surroundings: memory stores, a clock that is moved by hand, a logger that keeps its lines. */
import { tmpdir } from 'node:os';
import { Secret } from '../../../src/core/secret.ts';
import type { IdentityEnv } from '../../../src/identity/env.ts';
import type { Credential, IdentityFacts } from '../../../src/identity/provider.ts';
import { createApiKeyStore } from '../../../src/stores/api-keys.ts';
import { type Database, openDatabase } from '../../../src/stores/database.ts';
import { createMemoryShared } from '../../../src/stores/memory-shared.ts';
import type { Shared } from '../../../src/stores/shared.ts';

export const START = 1_900_000_000_000;

export interface Setting extends AsyncDisposable {
  readonly env: IdentityEnv;
  readonly shared: Shared;
  readonly database: Database;
  readonly lines: { readonly level: string; readonly fields: object; readonly message: string }[];
  /** Moves the clock and gives the facts of a request at the new time. */
  move(ms: number): void;
  facts(changes?: Partial<IdentityFacts>): IdentityFacts;
}

export async function setting(changes: Partial<IdentityEnv> = {}, url = 'sqlite::memory:'): Promise<Setting> {
  let now = START;
  const clock = { now: () => now };
  const lines: Setting['lines'] = [];
  const log = (level: string) => (fields: object, message: string) => void lines.push({ level, fields, message });
  const shared = createMemoryShared({ clock });
  const database = await openDatabase(url, { baseDir: tmpdir(), clock });
  const env: IdentityEnv = {
    name: 'staff',
    clock,
    logger: { debug: log('debug'), info: log('info'), warn: log('warn'), error: log('error') },
    mode: 'development',
    baseDir: tmpdir(),
    keys: createApiKeyStore(database),
    shared,
    pepper: new Secret('a pepper that is long enough for a test'),
    environment: 'development',
    ...changes,
  };
  return {
    env,
    shared,
    database,
    lines,
    move: (ms) => {
      now += ms;
    },
    facts: (more) => ({
      request_id: 'req_1',
      source_ip: '127.0.0.1',
      user_agent: null,
      method: 'POST',
      path: '/mcp',
      route: '/mcp',
      now,
      ...more,
    }),
    async [Symbol.asyncDispose]() {
      await database[Symbol.asyncDispose]();
      await shared[Symbol.asyncDispose]();
    },
  };
}

export const NEVER = new AbortController().signal;

export function bearer(text: string): Credential {
  return { kind: 'bearer', value: new Secret(text), source: 'authorization' };
}

export function keyHeader(text: string): Credential {
  return { kind: 'api-key', value: new Secret(text), source: 'x-api-key' };
}
