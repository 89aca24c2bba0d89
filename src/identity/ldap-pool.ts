/**
 * Connections that are logged in as the gateway's own account and used to look people up, never to log anybody in.
 * Source: acceptance SF-52, SW-19.
 */
import type { Clock } from '../core/clock.ts';
import { type DirectoryConnection, DirectoryFault } from './ldap-connection.ts';

export interface DirectoryPoolOptions {
  /** Opens one and logs it in. */
  open(signal: AbortSignal): Promise<DirectoryConnection>;
  readonly clock: Clock;
  readonly maxConnections: number;
  /** Milliseconds after which an unused connection is closed. */
  readonly idleMs: number;
}

interface Idle {
  readonly connection: DirectoryConnection;
  /** Epoch milliseconds. */
  readonly since: number;
}

/** Milliseconds without use after which a connection is tried before it is relied on. */
const TRY_AFTER_MS = 5000;
/** Logins that may wait for a place. */
const MAX_WAITING = 1000;

/** So many at a time; the rest waits in order, until its signal says that it has been long enough. */
export class Places {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(count: number) {
    this.#free = count;
  }

  async within<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    await this.#enter(signal);
    try {
      return await work();
    } finally {
      const [next] = this.#waiting;
      if (next === undefined) this.#free++;
      else next();
    }
  }

  #enter(signal: AbortSignal): Promise<void> | undefined {
    if (signal.aborted) throw new DirectoryFault('no place was free in time');
    if (this.#free > 0) {
      this.#free--;
      return;
    }
    if (this.#waiting.size >= MAX_WAITING) throw new DirectoryFault('too many logins are waiting');
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#waiting.delete(proceed);
        reject(new DirectoryFault('no place was free in time'));
      };
      const proceed = () => {
        this.#waiting.delete(proceed);
        signal.removeEventListener('abort', onAbort);
        resolve();
      };
      this.#waiting.add(proceed);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }
}

export class DirectoryPool {
  readonly #options: DirectoryPoolOptions;
  readonly #places: Places;
  #idle: Idle[] = [];
  #timer: NodeJS.Timeout | null = null;
  #isClosed = false;

  constructor(options: DirectoryPoolOptions) {
    this.#options = options;
    this.#places = new Places(options.maxConnections);
  }

  /** Runs `work` on a connection nobody else has meanwhile. Throws what `work` throws, and DirectoryFault. */
  use<T>(work: (connection: DirectoryConnection) => Promise<T>, signal: AbortSignal): Promise<T> {
    return this.#places.within(signal, async () => {
      const kept = await this.#takeKept(signal);
      if (kept !== null) {
        try {
          return await this.#finish(kept, work);
        } catch (error) {
          // A server that was restarted meanwhile: what was kept is worth nothing, a new connection may be.
          if (kept.isUsable || signal.aborted) throw error;
        }
      }
      return this.#finish(await this.#options.open(signal), work);
    });
  }

  async #finish<T>(connection: DirectoryConnection, work: (connection: DirectoryConnection) => Promise<T>): Promise<T> {
    try {
      return await work(connection);
    } finally {
      if (this.#isClosed) connection.close();
      else if (connection.isUsable) this.#keep(connection);
    }
  }

  #keep(connection: DirectoryConnection): void {
    this.#idle.push({ connection, since: this.#options.clock.now() });
    this.#timer ??= setTimeout(() => this.#sweep(), this.#options.idleMs).unref();
  }

  /** The one used last, so that those nobody needs grow old. */
  async #takeKept(signal: AbortSignal): Promise<DirectoryConnection | null> {
    for (let idle = this.#idle.pop(); idle !== undefined; idle = this.#idle.pop()) {
      const { connection, since } = idle;
      const age = this.#options.clock.now() - since;
      if (!connection.isUsable) continue;
      if (age >= this.#options.idleMs) connection.close();
      else if (age < TRY_AFTER_MS || (await isAlive(connection, signal))) return connection;
    }
    return null;
  }

  #sweep(): void {
    this.#timer = null;
    const now = this.#options.clock.now();
    const old = this.#idle.filter(({ since }) => now - since >= this.#options.idleMs);
    this.#idle = this.#idle.filter((idle) => !old.includes(idle) && idle.connection.isUsable);
    for (const { connection } of old) connection.close();
    if (this.#idle.length > 0) this.#timer = setTimeout(() => this.#sweep(), this.#options.idleMs).unref();
  }

  /** Connections that wait for work. */
  get idle(): number {
    return this.#idle.length;
  }

  /** Says goodbye on all; those in use follow when they are given back. */
  close(): void {
    this.#isClosed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    for (const { connection } of this.#idle) connection.close();
    this.#idle = [];
  }
}

async function isAlive(connection: DirectoryConnection, signal: AbortSignal): Promise<boolean> {
  try {
    await connection.search({ base: '', scope: 'base', filter: '(objectClass=*)', attributes: ['1.1'] }, signal);
    return true;
  } catch {
    connection.close();
    return false;
  }
}
