/** How long evaluations take, in so little memory and time that each one can be counted. */

/** Buckets per doubling: a quantile is at most a fifth too high. */
const STEPS = 4;
/** Up to 2^24 microseconds. */
const BUCKETS = 24 * STEPS;

export interface LatencyFigures {
  readonly evaluations: number;
  readonly p50_us: number | null;
  readonly p99_us: number | null;
}

/** A histogram of microseconds with buckets that grow by the same factor. */
export class Latency {
  readonly #buckets = new Uint32Array(BUCKETS);
  #count = 0;

  record(us: number): void {
    const at = us <= 1 ? 0 : Math.floor(Math.log2(us) * STEPS);
    const bucket = at < BUCKETS ? at : BUCKETS - 1;
    this.#buckets[bucket] = (this.#buckets[bucket] ?? 0) + 1;
    this.#count++;
  }

  figures(): LatencyFigures {
    return { evaluations: this.#count, p50_us: this.#quantile(0.5), p99_us: this.#quantile(0.99) };
  }

  /** Upper end of the bucket; null when nothing was counted. */
  #quantile(share: number): number | null {
    if (this.#count === 0) return null;
    let seen = 0;
    for (const [at, count] of this.#buckets.entries()) {
      seen += count;
      if (seen >= share * this.#count) return Math.round(2 ** ((at + 1) / STEPS) * 10) / 10;
    }
    return null;
  }
}

/** One histogram per entrypoint; their names come from the bundle and the configuration, so they are few. */
export class LatencyByEntrypoint {
  readonly #all = new Map<string, Latency>();
  #lastName = '';
  #last = new Latency();

  record(entrypoint: string, us: number): void {
    if (entrypoint !== this.#lastName) this.#turnTo(entrypoint);
    this.#last.record(us);
  }

  #turnTo(entrypoint: string): void {
    this.#lastName = entrypoint;
    this.#last = this.#all.get(entrypoint) ?? new Latency();
    this.#all.set(entrypoint, this.#last);
  }

  figures(): Readonly<Record<string, LatencyFigures>> {
    return Object.fromEntries([...this.#all].map(([name, latency]) => [name, latency.figures()]));
  }
}
