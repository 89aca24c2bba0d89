/** Replays test/corpus/keys: hostile answers, a store somebody else writes to, texts that must not be sent. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Secret } from '../../../src/core/secret.ts';
import type { AuthResult, IdentityProvider } from '../../../src/identity/provider.ts';
import { type RemoteKeyOptions, remoteKey } from '../../../src/identity/providers/remote-key.ts';
import { SharedKeyCache } from '../../../src/identity/remote-key-cache.ts';
import { createMemoryShared } from '../../../src/stores/memory-shared.ts';
import { openRedisShared } from '../../../src/stores/redis-shared.ts';
import type { Shared } from '../../../src/stores/shared.ts';
import { Breaker } from '../../../src/upstreams/breaker.ts';
import { countAttacks } from '../../helpers/attacks.ts';
import { goodKey, type KeyService, startKeyService } from '../../helpers/key-service.ts';
import { ROOT } from '../../helpers/processes.ts';
import { NO_REDIS, type StoreServer, startRedis } from '../../helpers/processes-stores.ts';
import { verifies } from '../../helpers/verifies.ts';
import { keyHeader, NEVER, type Setting, setting } from './setting.ts';

const corpus = <Case>(name: string) =>
  (JSON.parse(readFileSync(join(ROOT, `test/corpus/keys/${name}.json`), 'utf8')) as { cases: Case[] }).cases;

interface AnswerCase {
  readonly name: string;
  readonly status: number;
  readonly headers?: Record<string, string>;
  readonly body: string;
  /** Hexadecimal, instead of `body`. */
  readonly bytes?: string;
  readonly expect: string;
  readonly retry_after?: number;
}

interface Change {
  readonly replace?: readonly [string, string];
  readonly raise?: 'until' | 'asked_at';
  readonly from?: 'other-key' | 'other-address' | 'other-service' | 'other-pepper';
  readonly set?: string;
  readonly sign?: string;
  readonly flip?: number;
  readonly cut?: number;
  readonly half?: boolean;
  readonly strip?: boolean;
  readonly append?: string;
  readonly prepend?: string;
}

interface EntryCase {
  readonly name: string;
  readonly change: Change;
  readonly asks_again: boolean;
}

interface TextCase {
  readonly key: string;
  readonly environment: 'development' | 'staging' | 'production';
  readonly expect: string;
  readonly sent: boolean;
}

const ANSWERS = corpus<AnswerCase>('answers');
const ENTRIES = corpus<EntryCase>('entries');
const TEXTS = corpus<TextCase>('texts');

const module = remoteKey((options) => new Breaker(options));
const KEY = 'hok_dev_theKeyThatNobodyMayFindAnywhere';
const OTHER = 'hok_dev_anotherKeyOfAnotherUser';
const reasonOf = (result: AuthResult) => (result.kind === 'rejected' ? result.reason : result.kind);

let service: KeyService;
let around: Setting;
beforeAll(async () => {
  service = await startKeyService();
  around = await setting({ name: 'service' });
});
afterAll(async () => {
  await around[Symbol.asyncDispose]();
  await service[Symbol.asyncDispose]();
});

type Env = Partial<Setting['env']>;

async function using<T>(options: Partial<RemoteKeyOptions>, env: Env, use: (made: IdentityProvider) => Promise<T>) {
  const config = module.schema.parse({ kind: 'remote-key', url: service.url, retries: 0, ...options });
  const made = await module.create(config, { ...around.env, ...env });
  try {
    return await use(made);
  } finally {
    await made.close?.();
  }
}

const ask = async (made: IdentityProvider, key = KEY, ip = '127.0.0.1'): Promise<AuthResult> =>
  made.authenticate(keyHeader(key), around.facts({ source_ip: ip }), NEVER);

test('the corpus has what it should', () => {
  expect(ANSWERS.length + ENTRIES.length + TEXTS.length).toBeGreaterThanOrEqual(100);
});

// The first entry is left as it is.
countAttacks('caches', ENTRIES.length - 1);

describe('answers of the service', () => {
  test.each(ANSWERS.map((one) => [one.name, one] as const))('%s', async (_name, { expect: wanted, ...one }) => {
    verifies('HF-03', 'HW-02');
    const { status, headers = {}, retry_after } = one;
    const body = one.bytes === undefined ? one.body : Buffer.from(one.bytes, 'hex');
    service.always = { status, headers, body };
    const result = await using({ cache_seconds: 0, negative_seconds: 0 }, {}, (made) => ask(made));
    expect(reasonOf(result)).toBe(wanted);
    if (retry_after !== undefined) expect(result).toMatchObject({ retryAfter: retry_after });
    expect(JSON.stringify([result, around.lines])).not.toContain(KEY);
    service.always = null;
  });
});

describe('texts that look like keys', () => {
  test.each(TEXTS.map((one) => [one.key.slice(0, 40), one.environment, one] as const))(
    '%s in %s',
    async (_key, _at, one) => {
      verifies('H-21');
      service.always = goodKey('k1');
      const before = service.calls.length;
      const result = await using({ cache_seconds: 0 }, { environment: one.environment }, (made) => ask(made, one.key));
      expect([reasonOf(result), service.calls.length > before]).toEqual([one.expect, one.sent]);
      service.always = null;
    },
  );
});

function changed(value: string, change: Change): string {
  const dot = value.indexOf('.');
  const [mac, payload] = [value.slice(0, dot), value.slice(dot + 1)];
  if (change.set !== undefined) return change.set;
  if (change.replace !== undefined) return value.replace(...change.replace);
  if (change.raise !== undefined) {
    return `${mac}.${JSON.stringify({ ...JSON.parse(payload), [change.raise]: around.env.clock.now() + 10_000_000 })}`;
  }
  if (change.sign !== undefined) return `${change.sign}.${payload}`;
  if (change.flip !== undefined) return (value[change.flip] === 'A' ? 'B' : 'A') + value.slice(1);
  if (change.cut !== undefined) return value.slice(0, -change.cut);
  if (change.half === true) return value.slice(0, value.length / 2);
  if (change.strip === true) return payload;
  return `${change.prepend ?? ''}${value}${change.append ?? ''}`;
}

const STORES = ['memory', 'redis'] as const;
describe.each(STORES)('entries in a store somebody else writes to: %s', (kind) => {
  let redis: StoreServer | null = null;
  let shared: Shared;
  beforeAll(async () => {
    if (kind === 'redis' && NO_REDIS !== null) return;
    redis = kind === 'redis' ? await startRedis() : null;
    const { clock } = around.env;
    shared = redis === null ? createMemoryShared({ clock }) : await openRedisShared({ url: redis.url });
  });
  afterAll(async () => {
    await shared?.[Symbol.asyncDispose]();
    await redis?.[Symbol.asyncDispose]();
  });

  const cacheOf = (url = service.url, pepper = around.env.pepper) =>
    new SharedKeyCache(shared, pepper, JSON.stringify([url, 'ml-platform', false]));
  const at = (name: string) => `remote-key:${name}`;
  const here = () => at(cacheOf().name(KEY, '127.0.0.1'));

  /** The entry that a gateway wrote, as soon as it is there. */
  async function written(name: string): Promise<string> {
    let value: string | null = null;
    await expect
      .poll(async () => {
        value = await shared.get(name);
        return value;
      })
      .not.toBeNull();
    return value ?? '';
  }

  /** A genuine entry that belongs somewhere else. */
  async function foreign(from: NonNullable<Change['from']>): Promise<string> {
    const facts = { user_id: 'root', key_id: 'k9', email: null, service_id: null, scopes: ['*'], roles: ['admin'] };
    const now = around.env.clock.now();
    const kept = {
      facts: { ...facts, is_admin: true, rate_limit_per_hour: null, expires_at: null },
      askedAt: now,
      until: now + 300_000,
    };
    const pepper = from === 'other-pepper' ? new Secret('another pepper that is long enough') : around.env.pepper;
    const cache = cacheOf(from === 'other-service' ? 'http://127.0.0.1:1' : service.url, pepper);
    const key = from === 'other-key' ? OTHER : KEY;
    const name = cache.name(key, from === 'other-address' ? '203.0.113.1' : '127.0.0.1');
    await cache.write(name, kept, now);
    return written(at(name));
  }

  test.skipIf(kind === 'redis' && NO_REDIS !== null).each(ENTRIES.map((one) => [one.name, one] as const))(
    '%s',
    async (_name, { change, asks_again }) => {
      verifies('HF-12', 'HF-01');
      await shared.delete(here());
      service.keys.set(KEY, goodKey('k1'));
      await using({}, { shared }, (made) => ask(made));
      const genuine = await written(here());
      expect(genuine).not.toContain(KEY);
      const value = change.from === undefined ? changed(genuine, change) : await foreign(change.from);
      await shared.set(here(), value, 300_000);
      const before = service.calls.length;
      const result = await using({}, { shared }, (made) => ask(made));
      expect(service.calls.length - before).toBe(asks_again ? 1 : 0);
      expect(result).toMatchObject({
        kind: 'authenticated',
        principal: { id: 'user-k1', roles: ['developer'], scopes: ['model:read'], metadata: { is_admin: 'false' } },
      });
    },
  );

  test.skipIf(kind === 'redis' && NO_REDIS !== null)(
    'an entry from before a withdrawal that is put back is not believed',
    async () => {
      const { forgetRemoteKey } = await import('../../../src/identity/remote-key-cache.ts');
      await shared.delete(here());
      service.keys.set(KEY, goodKey('k1'));
      await using({}, { shared }, (made) => ask(made));
      const genuine = await written(here());
      await forgetRemoteKey(shared, 'k1', around.env.clock.now());
      await shared.set(here(), genuine, 300_000);
      service.keys.delete(KEY);
      expect(reasonOf(await using({}, { shared }, (made) => ask(made)))).toBe('invalid');
    },
  );
});
