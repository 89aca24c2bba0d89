/** Shared state inside one process. Bounded: a flood of keys cannot fill the memory. Source: architecture 7. */
import { type Clock, systemClock } from '../core/clock.ts';
import { GatewayError } from '../core/errors.ts';
import type { Bucket, Shared, Taken, WindowCount } from './shared.ts';
import { takeToken } from './token-bucket.ts';

export interface MemorySharedOptions {
  readonly clock?: Clock;
  /** Values kept at once. A full store refuses (STORE_UNAVAILABLE): dropping a live revocation would be fail-open. */
  readonly maxValues?: number;
  /** Counters per window length. A full window forgets its oldest counter. */
  readonly maxCounters?: number;
  /** Told of a listener that threw; the others are still called. */
  readonly onListenerError?: (error: unknown, channel: string) => void;
}

/** All counters of one window length. Aligned windows end together, so a new window is a new map: nothing to sweep. */
interface Window {
  start: number;
  counts: Map<string, number>;
}

interface Value {
  readonly value: string;
  readonly expiresAt: number;
}

/** Different window lengths in use; they come from configuration, never from requests. */
const MAX_WINDOWS = 64;

export function createMemoryShared(options: MemorySharedOptions = {}): Shared {
  return new MemoryShared(options);
}

class MemoryShared implements Shared {
  readonly #clock: Clock;
  readonly #maxValues: number;
  readonly #maxCounters: number;
  readonly #onListenerError: (error: unknown, channel: string) => void;
  readonly #windows = new Map<number, Window>();
  /** When each bucket is full again; one that is needs no entry. Least recently used first. */
  readonly #buckets = new Map<string, number>();
  readonly #values = new Map<string, Value>();
  readonly #listeners = new Map<string, Set<(message: string) => void>>();
  /** Nothing expires before this time: spares sweeping a full store again and again. */
  #nextExpiry = 0;

  constructor(options: MemorySharedOptions) {
    this.#clock = options.clock ?? systemClock;
    this.#maxValues = options.maxValues ?? 100_000;
    this.#maxCounters = options.maxCounters ?? 200_000;
    this.#onListenerError = options.onListenerError ?? (() => {});
  }

  hit(key: string, windowMs: number): WindowCount {
    const now = this.#clock.now();
    const window = this.#window(windowMs, now);
    const count = (window.counts.get(key) ?? 0) + 1;
    if (count === 1 && window.counts.size >= this.#maxCounters) forgetOldest(window.counts);
    window.counts.set(key, count);
    return { count, resetAt: window.start + windowMs };
  }

  #window(windowMs: number, now: number): Window {
    const start = now - (now % windowMs);
    const window = this.#windows.get(windowMs);
    if (window === undefined) {
      if (!(windowMs > 0) || this.#windows.size >= MAX_WINDOWS) throw new RangeError('unusable window length');
      const made = { start, counts: new Map<string, number>() };
      this.#windows.set(windowMs, made);
      return made;
    }
    // A clock that steps back must not give fresh counters, hence `>` and not `!==`.
    if (start > window.start) {
      window.start = start;
      window.counts = new Map();
    }
    return window;
  }

  take(key: string, bucket: Bucket): Taken {
    if (!(bucket.limit > 0 && bucket.windowMs > 0)) throw new RangeError('unusable bucket');
    const name = `${bucket.limit}:${bucket.windowMs}:${key}`;
    const { full, taken } = takeToken(this.#buckets.get(name) ?? 0, bucket, this.#clock.now());
    this.#buckets.delete(name);
    if (this.#buckets.size >= this.#maxCounters) forgetOldest(this.#buckets);
    this.#buckets.set(name, full);
    return taken;
  }

  async get(key: string): Promise<string | null> {
    return this.#live(key)?.value ?? null;
  }

  async set(key: string, value: string, ttlMs: number): Promise<void> {
    this.#put(key, value, ttlMs);
  }

  async claim(key: string, value: string, ttlMs: number): Promise<boolean> {
    if (this.#live(key) !== undefined) return false;
    this.#put(key, value, ttlMs);
    return true;
  }

  async delete(key: string): Promise<void> {
    this.#values.delete(key);
  }

  #live(key: string): Value | undefined {
    const found = this.#values.get(key);
    if (found === undefined || found.expiresAt > this.#clock.now()) return found;
    this.#values.delete(key);
    return undefined;
  }

  #put(key: string, value: string, ttlMs: number): void {
    if (!(ttlMs > 0)) throw new RangeError('a value needs a time to live');
    if (!this.#values.has(key) && this.#values.size >= this.#maxValues) this.#sweep();
    const expiresAt = this.#clock.now() + ttlMs;
    if (expiresAt < this.#nextExpiry) this.#nextExpiry = expiresAt;
    this.#values.set(key, { value, expiresAt });
  }

  #sweep(): void {
    const now = this.#clock.now();
    if (now >= this.#nextExpiry) {
      let next = Number.POSITIVE_INFINITY;
      for (const [key, { expiresAt }] of this.#values) {
        if (expiresAt <= now) this.#values.delete(key);
        else if (expiresAt < next) next = expiresAt;
      }
      this.#nextExpiry = next;
    }
    if (this.#values.size >= this.#maxValues)
      throw new GatewayError('STORE_UNAVAILABLE', { cause: 'shared store is full' });
  }

  async publish(channel: string, message: string): Promise<void> {
    const listeners = this.#listeners.get(channel);
    if (listeners === undefined) return;
    for (const listener of [...listeners]) {
      try {
        listener(message);
      } catch (error) {
        this.#onListenerError(error, channel);
      }
    }
  }

  subscribe(channel: string, listener: (message: string) => void): () => void {
    const listeners = this.#listeners.get(channel) ?? new Set();
    this.#listeners.set(channel, listeners);
    // Wrapped, so that subscribing one function twice gives two subscriptions that end separately.
    const own = (message: string) => listener(message);
    listeners.add(own);
    return () => {
      listeners.delete(own);
      if (listeners.size === 0 && this.#listeners.get(channel) === listeners) this.#listeners.delete(channel);
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#windows.clear();
    this.#values.clear();
    this.#buckets.clear();
    this.#listeners.clear();
  }
}

function forgetOldest(counts: Map<string, number>): void {
  for (const key of counts.keys()) {
    counts.delete(key);
    return;
  }
}
