/**
 * One attempt at a time per user name, and only so many wrong ones. However it is written, a name is counted once. From
 * where somebody has logged in before, a name is counted by itself: strangers cannot keep its owner out.
 * Source: acceptance SF-54, security 2.8.
 */
import { hash } from 'node:crypto';
import { networkOf } from '../core/network.ts';
import type { Secret } from '../core/secret.ts';
import type { Shared } from '../stores/shared.ts';
import { foldText } from './ldap-text.ts';

/** Attempts of one name that may wait for each other. */
const MAX_WAITING = 20;
/** Milliseconds for which the place of a good login counts as known: 30 days. */
const KNOWN_MS = 2_592_000_000;

export interface AttemptsOptions {
  readonly provider: string;
  readonly shared: Shared;
  readonly pepper: Secret;
  /** Wrong passwords until a name is locked. */
  readonly failures: number;
  /** Milliseconds in which they are counted, and for which the name is locked. */
  readonly windowMs: number;
}

export class Attempts {
  readonly #options: AttemptsOptions;
  readonly #running = new Map<string, { tail: Promise<unknown>; waiting: number }>();

  constructor(options: AttemptsOptions) {
    this.#options = options;
  }

  /** Stands for a name in shared state; the name itself is not written there. */
  key(name: string): string {
    const { provider, pepper } = this.#options;
    return hash('sha256', `ldap\n${provider}\n${foldText(name)}\n${pepper.reveal()}`, 'hex');
  }

  /** Under what an attempt at this name counts: the name, or, where it has logged in before, the name from there. */
  async keyFrom(name: string, address: string): Promise<string> {
    const key = this.key(name);
    const here = placeOf(key, address);
    return (await this.#options.shared.get(`ldap:known:${here}`)) === null ? key : here;
  }

  /** Remembers from where a name has logged in. */
  async succeeded(name: string, address: string): Promise<void> {
    await this.#options.shared.set(`ldap:known:${placeOf(this.key(name), address)}`, '1', KNOWN_MS);
  }

  /** Runs `attempt` after the others of this key, or answers null when too many wait: guesses in parallel count, too. */
  async inTurn<T>(key: string, attempt: () => Promise<T>): Promise<T | null> {
    const line = this.#running.get(key) ?? { tail: Promise.resolve(), waiting: 0 };
    if (line.waiting >= MAX_WAITING) return null;
    this.#running.set(key, line);
    line.waiting++;
    const mine = line.tail.then(attempt, attempt);
    line.tail = mine.catch(() => {});
    try {
      return await mine;
    } finally {
      line.waiting--;
      if (line.waiting === 0) this.#running.delete(key);
    }
  }

  /** Milliseconds for which the key is locked; 0 when it is not. */
  async lockedFor(key: string, now: number): Promise<number> {
    const until = Number((await this.#options.shared.get(`ldap:lock:${key}`)) ?? 0);
    return Math.max(0, until - now);
  }

  /** Counts a wrong password. */
  async failed(key: string, now: number): Promise<void> {
    const { shared, failures, windowMs } = this.#options;
    const { count } = await shared.hit(`ldap:failed:${key}`, windowMs);
    if (count >= failures) await shared.set(`ldap:lock:${key}`, String(now + windowMs), windowMs);
  }
}

const placeOf = (key: string, address: string): string => hash('sha256', `${key}\n${networkOf(address)}`, 'hex');
