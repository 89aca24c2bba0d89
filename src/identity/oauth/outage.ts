/** Stops asking a server that does not answer, so that each caller is told at once instead of waiting. Source: security 5.3. */
import type { Clock } from '../../core/clock.ts';

/** Failures in a row before asking stops, and milliseconds until one question is tried again. */
const FAILURES = 5;
const PAUSE_MS = 10_000;

export class Outage {
  readonly #clock: Clock;
  #failures = 0;
  #pausedUntil = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** True when asking is worth it. After a pause one caller at a time finds out. */
  mayAsk(): boolean {
    if (this.#failures < FAILURES) return true;
    const now = this.#clock.now();
    if (now < this.#pausedUntil) return false;
    this.#pausedUntil = now + PAUSE_MS;
    return true;
  }

  answered(): void {
    this.#failures = 0;
  }

  failed(): void {
    this.#failures++;
    if (this.#failures >= FAILURES) this.#pausedUntil = this.#clock.now() + PAUSE_MS;
  }

  get isOpen(): boolean {
    return this.#failures >= FAILURES;
  }
}
