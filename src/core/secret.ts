/** A value that must never be printed. Reading it is explicit, so every use can be found by its name. */
import { hash, timingSafeEqual } from 'node:crypto';
import { inspect } from 'node:util';

const REDACTED = '[redacted]';

export class Secret<T = string> {
  readonly #value: T;

  constructor(value: T) {
    this.#value = value;
  }

  /** The value itself. Call it where it is used, never to store or print it. */
  reveal(): T {
    return this.#value;
  }

  /** Constant-time comparison of texts: compares digests, so the length does not leak either. */
  equals(other: string): boolean {
    const mine = hash('sha256', String(this.#value), 'buffer');
    return timingSafeEqual(mine, hash('sha256', other, 'buffer'));
  }

  toString(): string {
    return REDACTED;
  }

  toJSON(): string {
    return REDACTED;
  }

  [inspect.custom](): string {
    return REDACTED;
  }
}
