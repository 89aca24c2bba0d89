/**
 * What stands before a password: limits by address and by name, and the lock of a name after wrong guesses. Names count
 * whether there is such an account or not. Where the counters are away nobody logs in. Source: contracts 6, acceptance
 * V-25, V-26, VF-19; security 2.10.
 */
import { hash } from 'node:crypto';
import type { AccountsConfig } from '../config/accounts-schema.ts';
import { GatewayError, type Spent } from '../core/errors.ts';
import { networkOf } from '../core/network.ts';
import type { Secret } from '../core/secret.ts';
import type { AccountStore, LockRule } from '../stores/accounts.ts';
import type { Shared, WindowCount } from '../stores/shared.ts';

/** As the store compares names. */
const nameKey = (name: string): string => name.normalize('NFKC').toLowerCase();

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;

export interface GuardOptions {
  readonly shared: Shared;
  readonly store: Pick<AccountStore, 'lock' | 'fail' | 'clearLocks'>;
  readonly pepper: Secret;
  readonly limits: AccountsConfig['limits'];
  readonly lockout: AccountsConfig['lockout'];
}

/** Attempts at one name that may wait for each other. */
const MAX_WAITING = 50;

export class Guard {
  readonly #options: GuardOptions;
  /** The last attempt at each name that is tried now, and how many wait. */
  readonly #turns = new Map<string, { last: Promise<void>; waiting: number }>();

  constructor(options: GuardOptions) {
    this.#options = options;
  }

  /** A name or an address as it is kept: people type passwords into the field of the name. */
  digest(...parts: readonly string[]): string {
    return hash('sha256', JSON.stringify([this.#options.pepper.reveal(), ...parts]), 'base64url');
  }

  /** Under what a name counts, however it is written. */
  nameDigest(username: string): string {
    return this.digest('name', nameKey(username));
  }

  /**
   * One attempt to log in. `here` is the name from this address; `name` counts as well for addresses the account does not
   * know, and is null otherwise. Throws RATE_LIMIT_EXCEEDED; STORE_UNAVAILABLE when nobody can count.
   */
  async admitLogin(ip: string, here: string, name: string | null, now: number): Promise<void> {
    const address = networkOf(ip);
    const { login_per_minute: limit } = this.#options.limits;
    const rule = { rule: 'login', limit, windowSeconds: 60 };
    const [byAddress, ...byName] = await Promise.all([
      this.#hit(`login:ip:${address}`, MINUTE_MS),
      ...[here, ...(name === null ? [] : [name])].map((key) => this.#hit(`login:name:${key}`, MINUTE_MS)),
    ]);
    for (const hit of byName) if (hit.count > limit) throw limited(rule, hit, now);
    if (byAddress.count <= limit) return;
    // Those that went well do not count: many people may share an address.
    const good = Number((await this.#options.shared.get(goodKey(address, byAddress))) ?? 0);
    if (byAddress.count - good > limit) throw limited(rule, byAddress, now);
  }

  async #hit(key: string, windowMs: number): Promise<WindowCount> {
    return this.#options.shared.hit(key, windowMs);
  }

  /** The attempt was a good one. Two at the same moment may count as one: never too many. */
  async noteGoodLogin(ip: string): Promise<void> {
    const address = networkOf(ip);
    const good = await this.#hit(`login:good:${address}`, MINUTE_MS);
    await this.#options.shared.set(goodKey(address, good), String(good.count), MINUTE_MS);
  }

  async admitRegistration(ip: string, now: number): Promise<void> {
    const { register_per_hour: limit } = this.#options.limits;
    const hit = await this.#hit(`register:ip:${networkOf(ip)}`, HOUR_MS);
    if (hit.count > limit) throw limited({ rule: 'register', limit, windowSeconds: 3600 }, hit, now);
  }

  /** Throws when this address has shown too many things that were no good; `noteBad` counts them. */
  async admitVerification(ip: string, now: number): Promise<void> {
    const address = networkOf(ip);
    const bad = await this.#options.shared.get(`verify:bad:${address}:${Math.floor(now / MINUTE_MS)}`);
    const { verify_per_minute: limit } = this.#options.limits;
    if (Number(bad ?? 0) >= limit) {
      const resetAt = (Math.floor(now / MINUTE_MS) + 1) * MINUTE_MS;
      throw limited({ rule: 'verify', limit, windowSeconds: 60 }, { resetAt }, now);
    }
  }

  async noteBad(ip: string): Promise<void> {
    const address = networkOf(ip);
    const { count, resetAt } = await this.#hit(`verify:ip:${address}`, MINUTE_MS);
    await this.#options.shared.set(`verify:bad:${address}:${resetAt / MINUTE_MS - 1}`, String(count), MINUTE_MS);
  }

  /** Null when this name may be tried, else until when it may not. */
  async lockedUntil(name: string, now: number): Promise<number | null> {
    const lock = await this.#options.store.lock(name);
    return lock !== null && lock.locked_until > now ? lock.locked_until : null;
  }

  /** One wrong guess. True when it locked the name. */
  async fail(name: string, now: number): Promise<boolean> {
    const lock = await this.#options.store.fail(name, this.#rule(), now);
    return lock.failures >= this.#options.lockout.failures;
  }

  /**
   * Counts an attempt before it is made; `succeed` takes that back. Null when it may be made, else until when it may not:
   * another process has locked the name since somebody looked.
   */
  async reserve(name: string, now: number): Promise<number | null> {
    const lock = await this.#options.store.fail(name, this.#rule(), now);
    const isLast = lock.failures >= this.#options.lockout.failures;
    return !isLast && lock.locked_until > now ? lock.locked_until : null;
  }

  #rule(): LockRule {
    const { failures, seconds, max_seconds } = this.#options.lockout;
    return { failures, lockMs: seconds * 1000, maxLockMs: max_seconds * 1000 };
  }

  async succeed(name: string): Promise<void> {
    await this.#options.store.clearLocks([name]);
  }

  /**
   * Attempts at one name go one after the other: a hundred guesses at the same moment would all be checked before the
   * first of them has counted.
   */
  async inTurn<T>(name: string, attempt: () => Promise<T>): Promise<T> {
    const turn = this.#turns.get(name) ?? { last: Promise.resolve(), waiting: 0 };
    if (turn.waiting >= MAX_WAITING) throw new GatewayError('OVERLOADED', { retryAfter: 1 });
    this.#turns.set(name, turn);
    turn.waiting += 1;
    const mine = turn.last.then(attempt);
    turn.last = mine.then(
      () => undefined,
      () => undefined,
    );
    try {
      return await mine;
    } finally {
      turn.waiting -= 1;
      if (turn.waiting === 0) this.#turns.delete(name);
    }
  }
}

const goodKey = (address: string, { resetAt }: WindowCount): string => `login:good:${address}:${resetAt}`;

function limited(rule: Omit<Spent, 'resetAt'>, { resetAt }: Pick<WindowCount, 'resetAt'>, now: number): GatewayError {
  const retryAfter = Math.max(1, Math.ceil((resetAt - now) / 1000));
  return new GatewayError('RATE_LIMIT_EXCEEDED', { retryAfter, spent: { ...rule, resetAt } });
}
