/**
 * Gathers calls of a remote party (a decision point, a directory) into batches. In-process evaluation needs none: a list
 * is decided in one evaluation there. Source: acceptance S-81 and SF-60.
 */
import { GatewayError } from '../core/errors.ts';

/** Does a batch in one remote call. The answers stand in the order of the requests, one for each. */
export type BatchExecutor<Q, A> = (requests: readonly Q[], signal: AbortSignal) => Promise<readonly A[]>;

export interface BatcherOptions {
  /** Requests that make a batch leave at once. Default 100. */
  readonly maxSize?: number;
  /** Milliseconds the first request of a batch waits for others at most. Default 10. */
  readonly maxWaitMs?: number;
  /** Requests that may be waiting or under way; more are refused (OVERLOADED). Default 10,000. */
  readonly maxPending?: number;
}

interface Entry<Q, A> {
  readonly request: Q;
  readonly resolve: (answer: A) => void;
  readonly reject: (error: unknown) => void;
  /** The caller has left: its answer interests nobody. */
  gone: boolean;
}

/**
 * One per remote party. Each caller has a promise of its own; a batch is taken out of the queue before anything is
 * waited for, so that what comes meanwhile belongs to the next one.
 */
export class Batcher<Q, A> {
  readonly #execute: BatchExecutor<Q, A>;
  readonly #maxSize: number;
  readonly #maxWaitMs: number;
  readonly #maxPending: number;
  #queue: Entry<Q, A>[] = [];
  #timer: NodeJS.Timeout | null = null;
  #pending = 0;
  #closed = false;
  readonly #running = new Set<AbortController>();

  constructor(execute: BatchExecutor<Q, A>, options: BatcherOptions = {}) {
    this.#execute = execute;
    this.#maxSize = positive(options.maxSize ?? 100);
    this.#maxWaitMs = options.maxWaitMs ?? 10;
    this.#maxPending = positive(options.maxPending ?? 10_000);
  }

  /** Requests waiting or under way. */
  get pending(): number {
    return this.#pending;
  }

  /**
   * The answer to this request. Rejects with what the executor rejected with (for its batch only), OVERLOADED when too
   * many are pending, SHUTTING_DOWN after `close`, and the signal's reason when the caller leaves.
   */
  ask(request: Q, signal?: AbortSignal): Promise<A> {
    if (this.#closed) return Promise.reject(new GatewayError('SHUTTING_DOWN'));
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#pending >= this.#maxPending) return Promise.reject(new GatewayError('OVERLOADED', { retryAfter: 1 }));
    return new Promise<A>((resolve, reject) => {
      this.#add(request, resolve, reject, signal);
    });
  }

  #add(request: Q, resolve: (answer: A) => void, reject: (error: unknown) => void, signal?: AbortSignal): void {
    this.#pending++;
    const settle = (): void => {
      if (!entry.gone) this.#pending--;
      entry.gone = true;
      signal?.removeEventListener('abort', leave);
    };
    const entry: Entry<Q, A> = {
      request,
      resolve(answer) {
        settle();
        resolve(answer);
      },
      reject(error) {
        settle();
        reject(error);
      },
      gone: false,
    };
    const leave = (): void => this.#leave(entry, signal?.reason);
    signal?.addEventListener('abort', leave, { once: true });
    this.#queue.push(entry);
    if (this.#queue.length >= this.#maxSize) this.#send();
    else this.#timer ??= setTimeout(() => this.#send(), this.#maxWaitMs);
  }

  /** A caller that leaves before its batch went takes its request along. */
  #leave(entry: Entry<Q, A>, reason: unknown): void {
    const at = this.#queue.indexOf(entry);
    if (at !== -1) this.#queue.splice(at, 1);
    if (this.#queue.length === 0) this.#stopWaiting();
    entry.reject(reason);
  }

  #stopWaiting(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #send(): void {
    this.#stopWaiting();
    const batch = this.#queue;
    this.#queue = [];
    if (batch.length > 0) void this.#run(batch);
  }

  /** Never rejects: every end reaches the callers of this batch, and nobody else. */
  async #run(batch: readonly Entry<Q, A>[]): Promise<void> {
    const controller = new AbortController();
    this.#running.add(controller);
    try {
      const answers = await this.#execute(
        batch.map(({ request }) => request),
        controller.signal,
      );
      if (!Array.isArray(answers) || answers.length !== batch.length) throw wrongLength(answers, batch.length);
      for (const [at, entry] of batch.entries()) entry.resolve(answers[at] as A);
    } catch (error) {
      for (const entry of batch) entry.reject(error);
    } finally {
      this.#running.delete(controller);
    }
  }

  /** Refuses what waits and aborts what is under way. */
  close(): void {
    this.#closed = true;
    this.#stopWaiting();
    const waiting = this.#queue;
    this.#queue = [];
    for (const entry of waiting) entry.reject(new GatewayError('SHUTTING_DOWN'));
    for (const controller of this.#running) controller.abort(new GatewayError('SHUTTING_DOWN'));
  }
}

function positive(value: number): number {
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new RangeError('a batch needs room for at least one request');
}

/** Answers that cannot be told apart by position are nobody's: giving one caller another's decision must not happen. */
function wrongLength(answers: unknown, expected: number): GatewayError {
  const got = Array.isArray(answers) ? String(answers.length) : typeof answers;
  return new GatewayError('UPSTREAM_ERROR', { cause: new Error(`${expected} answers were expected, got ${got}`) });
}
