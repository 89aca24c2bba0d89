/**
 * Shared state in Redis, for gateways on several machines. Each operation is one script, so that it is atomic, and takes
 * the time from Redis, so that clocks of gateways need not agree. Source: architecture 7; redis.io/docs/latest/commands
 */
import { connect, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { AbstractConnector, Redis } from 'ioredis';
import type { Clock } from '../core/clock.ts';
import { GatewayError } from '../core/errors.ts';
import type { Bucket, Shared, Taken, WindowCount } from './shared.ts';

export interface RedisSharedOptions {
  /** `redis://[[user]:password@]host[:port][/db]`, or `rediss://` for TLS, whose certificate is always checked. */
  readonly url: string;
  /** PEM text of the authority to trust instead of the system's, for `rediss://`. */
  readonly ca?: string;
  /** Before every key and channel. Default `portcullis:`. */
  readonly prefix?: string;
  /** Milliseconds for one operation. Default 500: a request waits for it. */
  readonly timeoutMs?: number;
  /** Instead of the time of Redis; tests move it. */
  readonly clock?: Clock;
  readonly onError?: (error: Error) => void;
  /** Told of a listener that threw; the others are still called. */
  readonly onListenerError?: (error: unknown, channel: string) => void;
}

/** `now` of the caller where it gives one, else of Redis. Values carry their end: expiry by key only tidies up. */
const NOW = `
local now = tonumber(ARGV[1])
if not now then local t = redis.call('TIME'); now = t[1] * 1000 + math.floor(t[2] / 1000) end
`;
const LIVE = `
local function live(key)
  local held = redis.call('GET', key)
  if not held then return nil end
  local bar = string.find(held, '|', 1, true)
  if tonumber(string.sub(held, 1, bar - 1)) <= now then return nil end
  return string.sub(held, bar + 1)
end
local function put(key, value, ttl)
  redis.call('SET', key, string.format('%.0f', now + ttl) .. '|' .. value, 'PX', ttl)
end
`;
const SCRIPTS = {
  pcHit: `${NOW}
local length = tonumber(ARGV[2])
local start = now - now % length
local key = KEYS[1] .. string.format(':%.0f:%.0f', length, start)
local count = redis.call('INCR', key)
if count == 1 then redis.call('PEXPIRE', key, length + 1000) end
return { count, string.format('%.0f', start + length) }`,
  // The same as takeToken of token-bucket.ts.
  pcTake: `${NOW}
local limit, window = tonumber(ARGV[2]), tonumber(ARGV[3])
local full = tonumber(redis.call('GET', KEYS[1]) or '0')
local after = math.max(full, now) + window / limit
local lacking = after - now - window
if lacking > 0.0005 then return { 0, string.format('%.4f', math.max(0, full - now)), string.format('%.4f', lacking) } end
redis.call('SET', KEYS[1], string.format('%.4f', after), 'PX', math.ceil(after - now) + 1000)
return { 1, string.format('%.4f', after - now), '0' }`,
  pcGet: `${NOW}${LIVE} return live(KEYS[1])`,
  pcSet: `${NOW}${LIVE} put(KEYS[1], ARGV[2], tonumber(ARGV[3])) return 1`,
  pcClaim: `${NOW}${LIVE}
if live(KEYS[1]) then return 0 end
put(KEYS[1], ARGV[2], tonumber(ARGV[3]))
return 1`,
} as const;

/** The commands that the scripts define on the connection. */
interface Scripted {
  pcHit(key: string, now: string, windowMs: number): Promise<[number, string]>;
  pcTake(key: string, now: string, limit: number, windowMs: number): Promise<[number, string, string]>;
  pcGet(key: string, now: string): Promise<string | null>;
  pcSet(key: string, now: string, value: string, ttlMs: number): Promise<number>;
  pcClaim(key: string, now: string, value: string, ttlMs: number): Promise<number>;
}

const TIMEOUT_MS = 500;
/** For what the driver asks by itself, such as at the start. */
const DRIVER_PATIENCE_MS = 5000;

interface Address {
  readonly host: string;
  readonly port: number;
  /** 4 or 6; absent: either. */
  readonly family?: number;
  readonly disconnectTimeout: number;
  readonly tls?: object | true;
}

/**
 * Connects like the driver's own connector and hears of errors for as long as the socket lives. A server whose certificate
 * was refused may complain once more after that, which nobody would hear: it would end the process.
 */
class ListeningConnector extends AbstractConnector {
  readonly #address: Address;

  /** @param given the driver's options, with the URL taken apart */
  constructor(given: unknown) {
    const address = given as Address;
    super(address.disconnectTimeout);
    this.#address = address;
  }

  async connect(): Promise<Socket | TLSSocket> {
    const { host, port, family, tls } = this.#address;
    this.connecting = true;
    const to = family === undefined ? { host, port } : { host, port, family };
    const stream = tls === undefined ? connect(to) : connectTls({ ...to, ...(tls === true ? null : tls) });
    stream.on('error', (error) => {
      this.firstError ??= error;
    });
    this.stream = stream;
    return stream;
  }
}

/** Connects. Rejects when Redis cannot be reached; later outages reject each operation with STORE_UNAVAILABLE. */
export async function openRedisShared(options: RedisSharedOptions): Promise<Shared> {
  const timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
  const settings = {
    lazyConnect: true,
    // A request is told at once that Redis is away; nothing waits in a queue to be counted a minute later.
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    // Its timer may run out while an answer waits to be read: for operations there is one of our own.
    commandTimeout: Math.max(timeoutMs, DRIVER_PATIENCE_MS),
    connectTimeout: Math.max(timeoutMs, 2000),
    retryStrategy: (tries: number) => Math.min(tries * 50, 1000),
    ...(options.ca === undefined ? null : { tls: { ca: options.ca } }),
    Connector: ListeningConnector,
  };
  const commands = new Redis(options.url, settings);
  // A connection that listens can do nothing else. It subscribes again by itself after an outage.
  const listening = new Redis(options.url, { ...settings, enableOfflineQueue: true, maxRetriesPerRequest: null });
  const onError = options.onError ?? (() => {});
  commands.on('error', onError);
  listening.on('error', onError);
  for (const [name, lua] of Object.entries(SCRIPTS)) commands.defineCommand(name, { numberOfKeys: 1, lua });
  try {
    await Promise.all([commands.connect(), listening.connect()]);
  } catch (cause) {
    commands.disconnect();
    listening.disconnect();
    throw new Error(`Redis cannot be reached: ${(cause as Error).message}`, { cause });
  }
  return new RedisShared(commands as Redis & Scripted, listening, options);
}

class RedisShared implements Shared {
  readonly #commands: Redis & Scripted;
  readonly #listening: Redis;
  readonly #prefix: string;
  readonly #clock: Clock | null;
  readonly #timeoutMs: number;
  readonly #listeners = new Map<string, Set<(message: string) => void>>();
  /** What is being subscribed: a message published after that is heard. */
  #subscribed: Promise<unknown> = Promise.resolve();

  constructor(commands: Redis & Scripted, listening: Redis, options: RedisSharedOptions) {
    this.#commands = commands;
    this.#listening = listening;
    this.#prefix = options.prefix ?? 'portcullis:';
    this.#clock = options.clock ?? null;
    this.#timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
    const onListenerError = options.onListenerError ?? (() => {});
    listening.on('message', (channel: string, message: string) => {
      const name = channel.slice(this.#prefix.length);
      for (const listener of [...(this.#listeners.get(name) ?? [])]) {
        try {
          listener(message);
        } catch (error) {
          onListenerError(error, name);
        }
      }
    });
  }

  /** @throws GatewayError STORE_UNAVAILABLE for whatever kept Redis from answering */
  async #reached<T>(operation: Promise<T>): Promise<T> {
    try {
      return await inTime(operation, this.#timeoutMs);
    } catch (cause) {
      throw new GatewayError('STORE_UNAVAILABLE', { retryAfter: 1, cause });
    }
  }

  #now(): string {
    return this.#clock === null ? '' : String(this.#clock.now());
  }

  async hit(key: string, windowMs: number): Promise<WindowCount> {
    if (!(windowMs > 0)) throw new RangeError('unusable window length');
    const [count, resetAt] = await this.#reached(
      this.#commands.pcHit(`${this.#prefix}c:${key}`, this.#now(), windowMs),
    );
    return { count, resetAt: Number(resetAt) };
  }

  async take(key: string, { limit, windowMs }: Bucket): Promise<Taken> {
    if (!(limit > 0 && windowMs > 0)) throw new RangeError('unusable bucket');
    const name = `${this.#prefix}b:${limit}:${windowMs}:${key}`;
    const [allowed, full, lacking] = await this.#reached(this.#commands.pcTake(name, this.#now(), limit, windowMs));
    const fullInMs = Number(full);
    const remaining = Math.max(0, Math.floor(((windowMs - fullInMs) / windowMs) * limit + 1e-6));
    return { isAllowed: allowed === 1, remaining, fullInMs, retryInMs: Number(lacking) };
  }

  get(key: string): Promise<string | null> {
    return this.#reached(this.#commands.pcGet(`${this.#prefix}v:${key}`, this.#now()));
  }

  async set(key: string, value: string, ttlMs: number): Promise<void> {
    await this.#reached(this.#commands.pcSet(`${this.#prefix}v:${key}`, this.#now(), value, lifetime(ttlMs)));
  }

  async claim(key: string, value: string, ttlMs: number): Promise<boolean> {
    return (
      (await this.#reached(this.#commands.pcClaim(`${this.#prefix}v:${key}`, this.#now(), value, lifetime(ttlMs)))) ===
      1
    );
  }

  async delete(key: string): Promise<void> {
    await this.#reached(this.#commands.del(`${this.#prefix}v:${key}`));
  }

  async publish(channel: string, message: string): Promise<void> {
    // Whoever subscribed before hears it; without a connection nobody does, and waiting would not help.
    if (this.#listening.status === 'ready') await this.#subscribed;
    await this.#reached(this.#commands.publish(`${this.#prefix}${channel}`, message));
  }

  subscribe(channel: string, listener: (message: string) => void): () => void {
    const listeners = this.#listeners.get(channel) ?? new Set();
    this.#listeners.set(channel, listeners);
    // Wrapped, so that subscribing one function twice gives two subscriptions that end separately.
    const own = (message: string) => listener(message);
    if (listeners.size === 0) this.#follow(channel, true);
    listeners.add(own);
    return () => {
      if (!listeners.delete(own) || listeners.size > 0) return;
      this.#listeners.delete(channel);
      this.#follow(channel, false);
    };
  }

  /** In order: a subscription that follows the end of another one of the same channel must win. */
  #follow(channel: string, wanted: boolean): void {
    const name = this.#prefix + channel;
    this.#subscribed = this.#subscribed
      .then(() => (wanted ? this.#listening.subscribe(name) : this.#listening.unsubscribe(name)))
      // Without a connection it is kept and done when there is one; the error event told of it.
      .catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listeners.clear();
    this.#listening.disconnect();
    this.#commands.disconnect();
  }
}

function lifetime(ttlMs: number): number {
  if (!(ttlMs > 0)) throw new RangeError('a value needs a time to live');
  return Math.ceil(ttlMs);
}

/**
 * Rejects when there is no answer in time. A process that was busy itself all the while reads first what has come: to count
 * alone because of that would let through more than all gateways together may.
 */
function inTime<T>(operation: Promise<T>, ms: number): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  // Sockets are read between timers and immediates.
  const late = () => setImmediate(reject, new Error(`no answer within ${ms} ms`));
  const timer = setTimeout(late, ms);
  operation.then(resolve, reject).finally(() => clearTimeout(timer));
  return promise;
}
