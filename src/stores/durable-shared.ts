/**
 * Shared state in memory, with what must not be lost kept in the database: revocations outlive a restart, and messages
 * reach the other processes over the same database. Without a Redis this makes them act as one. Counters and limits stay
 * each process's own.
 */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../core/clock.ts';
import { GatewayError } from '../core/errors.ts';
import type { Database } from './database.ts';
import type { Bucket, Shared } from './shared.ts';

export interface DurableSharedOptions {
  readonly memory: Shared;
  readonly database: Database;
  readonly clock: Clock;
  /** Keys that begin with one of these are kept. */
  readonly kept: readonly string[];
  readonly onError: (error: Error) => void;
}

/** Milliseconds between two looks whether another process has written. */
const LOOK_MS = 250;
/** Clocks of processes on one machine agree, but a transaction ends later than it began. */
const OVERLAP_MS = 5000;
/** Milliseconds a message is kept: whoever starts later has nothing to forget. */
const MESSAGE_MS = 60_000;

export function createDurableShared(options: DurableSharedOptions): Shared {
  return new DurableShared(options);
}

class DurableShared implements Shared {
  readonly #options: DurableSharedOptions;
  readonly #timer: NodeJS.Timeout;
  /** Messages of the last seconds that were delivered here. */
  readonly #seen = new Map<string, number>();
  #version: number | null;
  #lookedAt: number;
  #sweptAt = 0;
  #looking: Promise<void> | null = null;

  constructor(options: DurableSharedOptions) {
    this.#options = options;
    this.#version = options.database.externalVersion();
    this.#lookedAt = options.clock.now();
    this.#timer = setInterval(() => this.#tick(), LOOK_MS).unref();
  }

  hit(key: string, windowMs: number) {
    return this.#options.memory.hit(key, windowMs);
  }

  take(key: string, bucket: Bucket) {
    return this.#options.memory.take(key, bucket);
  }

  async get(key: string): Promise<string | null> {
    const known = await this.#options.memory.get(key);
    if (known !== null || !this.#isKept(key)) return known;
    const { database, clock } = this.#options;
    const row = await stored(
      database.queries.selectFrom('shared_values').select(['value', 'until']).where('key', '=', key).executeTakeFirst(),
    );
    return row === undefined || row.until <= clock.now() ? null : row.value;
  }

  async set(key: string, value: string, ttlMs: number): Promise<void> {
    if (this.#isKept(key)) await this.#keep(key, value, ttlMs);
    await this.#options.memory.set(key, value, ttlMs);
  }

  async #keep(key: string, value: string, ttlMs: number): Promise<void> {
    const { database, clock } = this.#options;
    const now = clock.now();
    await stored(
      database.queries.transaction().execute(async (transaction) => {
        await transaction.deleteFrom('shared_values').where('until', '<=', now).execute();
        await transaction
          .insertInto('shared_values')
          .values({ key, value, until: Math.ceil(now + ttlMs) })
          .onConflict((conflict) => conflict.column('key').doUpdateSet({ value, until: Math.ceil(now + ttlMs) }))
          .execute();
      }),
    );
  }

  claim(key: string, value: string, ttlMs: number): Promise<boolean> {
    return this.#options.memory.claim(key, value, ttlMs);
  }

  async delete(key: string): Promise<void> {
    if (this.#isKept(key)) {
      await stored(this.#options.database.queries.deleteFrom('shared_values').where('key', '=', key).execute());
    }
    await this.#options.memory.delete(key);
  }

  async publish(channel: string, message: string): Promise<void> {
    const { database, clock, memory } = this.#options;
    await memory.publish(channel, message);
    const sent_at = clock.now();
    const id = `${sent_at}-${randomBytes(9).toString('base64url')}`;
    this.#seen.set(id, sent_at);
    await stored(database.queries.insertInto('shared_messages').values({ id, channel, message, sent_at }).execute());
  }

  subscribe(channel: string, listener: (message: string) => void): () => void {
    return this.#options.memory.subscribe(channel, listener);
  }

  #isKept(key: string): boolean {
    return this.#options.kept.some((prefix) => key.startsWith(prefix));
  }

  #tick(): void {
    const version = this.#options.database.externalVersion();
    if (this.#looking !== null || (version !== null && version === this.#version)) return;
    this.#version = version;
    this.#looking = this.#look()
      .catch((error: unknown) => {
        // Looked at again: what was not heard may be a revocation.
        this.#version = null;
        this.#options.onError(error as Error);
      })
      .finally(() => {
        this.#looking = null;
      });
  }

  async #look(): Promise<void> {
    const { database, clock, memory } = this.#options;
    const now = clock.now();
    const since = Math.min(this.#lookedAt, now) - OVERLAP_MS;
    const rows = await database.queries
      .selectFrom('shared_messages')
      .selectAll()
      .where('sent_at', '>=', since)
      .orderBy('sent_at')
      .execute();
    this.#lookedAt = now;
    for (const { id, channel, message, sent_at } of rows) {
      if (this.#seen.has(id)) continue;
      this.#seen.set(id, sent_at);
      await memory.publish(channel, message);
    }
    for (const [id, at] of this.#seen) if (at < since - OVERLAP_MS) this.#seen.delete(id);
    if (now - this.#sweptAt < MESSAGE_MS) return;
    this.#sweptAt = now;
    await database.queries
      .deleteFrom('shared_messages')
      .where('sent_at', '<', now - MESSAGE_MS)
      .execute();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking;
    await this.#options.memory[Symbol.asyncDispose]();
  }
}

/** @throws GatewayError STORE_UNAVAILABLE: what cannot be looked up is not taken for granted */
async function stored<T>(query: Promise<T>): Promise<T> {
  try {
    return await query;
  } catch (cause) {
    throw new GatewayError('STORE_UNAVAILABLE', { retryAfter: 1, cause });
  }
}
