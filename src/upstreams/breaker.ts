/**
 * The circuit breaker of one upstream: opossum as the state machine (open, one probe, closed, time-outs), a window of
 * our own that counts only faults of the upstream. Every period in which calls pass has its own circuit, so a late
 * result of an earlier period can neither close nor open anything. Source: acceptance S-85, SF-63; security 5.3.
 */
import { EventEmitter } from 'node:events';
import CircuitBreaker from 'opossum';

/** `answered`: the upstream did its part. `fault`: it did not. `neutral`: nobody can tell (the client left, our queue was full). */
export type Verdict = 'answered' | 'fault' | 'neutral';

export type BreakerState = 'closed' | 'open' | 'half_open';

/** One call as the breaker sees it. */
export interface Trial {
  /** Starts the call. `report` is called once, when the verdict is known; later calls of it are ignored. */
  begin(report: (verdict: Verdict) => void): void;
  /** The time is over: gives the call up and says whose fault it is. Nothing may be reported after it. */
  overdue(): Verdict;
}

export interface BreakerOptions {
  /** Faults in the window that are needed before it can open. */
  readonly volume: number;
  /** Share of faults among verdicts in the window from which it opens, 1 to 100. */
  readonly error_percentage: number;
  /** Milliseconds. */
  readonly window_ms: number;
  /** Milliseconds it stays open before one probe passes. */
  readonly reset_ms: number;
  /** Milliseconds after which a call without verdict is overdue. Never unlimited: a hung probe would keep it half-open. */
  readonly timeout_ms: number;
  onStateChange?(state: BreakerState): void;
}

type Circuit = CircuitBreaker<[Trial], void>;

/** opossum's own counting is switched off by a volume nobody reaches. */
const NEVER = Number.MAX_SAFE_INTEGER;
const FAULT = new Error('upstream fault');
const BUCKETS = 10;

const ignore = (): void => {};

export class Breaker {
  readonly #options: BreakerOptions;
  readonly #window: FaultWindow;
  #circuit: Circuit;
  /** Monotonic milliseconds of the last opening. */
  #openedAt = 0;
  #told: BreakerState = 'closed';

  constructor(options: BreakerOptions) {
    this.#options = options;
    this.#window = new FaultWindow(options.window_ms);
    this.#circuit = this.#makeCircuit('closed');
  }

  get state(): BreakerState {
    if (this.#circuit.closed) return 'closed';
    return this.#circuit.halfOpen ? 'half_open' : 'open';
  }

  /** Whole seconds until it is worth trying again, at least 1; null when a call may pass now. */
  refusal(): number | null {
    const circuit = this.#circuit;
    if (circuit.closed || circuit.pendingClose) return null;
    if (circuit.halfOpen) return 1;
    return Math.max(1, Math.ceil((this.#openedAt + this.#options.reset_ms - performance.now()) / 1000));
  }

  /** Runs a call that `refusal` let pass. */
  run(trial: Trial): void {
    this.#circuit.fire(trial).catch(ignore);
  }

  /** Closes it by hand and forgets what was counted. */
  reset(): void {
    this.#window.clear();
    this.#replace('closed');
  }

  /** Stops its timers. Calls under way finish uncounted. */
  close(): void {
    this.#circuit.shutdown();
  }

  #makeCircuit(state: BreakerState): Circuit {
    const circuit: Circuit = new CircuitBreaker((trial: Trial) => this.#start(circuit, trial), {
      timeout: this.#options.timeout_ms,
      resetTimeout: this.#options.reset_ms,
      volumeThreshold: NEVER,
      enableSnapshots: false,
      rollingPercentilesEnabled: false,
      rollingCountBuckets: 1,
      rotateBucketController: this.#window.rotation,
      state: { enabled: true, closed: state === 'closed', halfOpen: state === 'half_open' },
    } as unknown as CircuitBreaker.Options<[Trial]>);
    if (state === 'open') this.#openedAt = performance.now();
    const whenCurrent = (then: () => void) => (): void => {
      if (circuit !== this.#circuit) return;
      then();
      this.#tell();
    };
    circuit.on(
      'open',
      whenCurrent(() => {
        this.#openedAt = performance.now();
      }),
    );
    circuit.on('halfOpen', whenCurrent(ignore));
    circuit.on(
      'close',
      whenCurrent(() => this.#window.clear()),
    );
    // The published types leave out that the time-out tells which call it was.
    const events: EventEmitter = circuit;
    events.on('timeout', (_error: Error, _latency: number, [trial]: [Trial]) => {
      this.#count(circuit, trial.overdue());
    });
    return circuit;
  }

  #start(circuit: Circuit, trial: Trial): Promise<void> {
    return new Promise((resolve, reject) => {
      trial.begin((verdict) => {
        const probing = circuit.halfOpen;
        this.#count(circuit, verdict);
        if (probing && verdict === 'fault') reject(FAULT);
        else resolve();
      });
    });
  }

  /** Counts a verdict of the present period; those of earlier ones mean nothing any more. */
  #count(circuit: Circuit, verdict: Verdict): void {
    if (circuit !== this.#circuit) return;
    if (circuit.halfOpen) {
      // A probe that proved nothing: the next call probes again. Answered and failed probes are opossum's business.
      if (verdict === 'neutral') this.#replace('half_open');
      return;
    }
    if (verdict === 'neutral') return;
    this.#window.add(verdict === 'fault');
    if (verdict === 'fault' && circuit.closed && this.#tripped()) this.#replace('open');
  }

  #tripped(): boolean {
    const { faults, total } = this.#window;
    return faults >= this.#options.volume && faults * 100 >= total * this.#options.error_percentage;
  }

  #replace(state: BreakerState): void {
    // Calls under way keep their time-outs; only the counting of the old circuit ends.
    this.#circuit.disable();
    this.#circuit = this.#makeCircuit(state);
    this.#tell();
  }

  #tell(): void {
    const { state } = this;
    if (state === this.#told) return;
    this.#told = state;
    this.#options.onStateChange?.(state);
  }
}

/** Verdicts of the last `spanMs` milliseconds, in ten buckets on the monotonic clock. */
class FaultWindow {
  faults = 0;
  total = 0;
  /** Makes opossum drop its own figures, which nobody reads, without a timer of its own. */
  readonly rotation = new EventEmitter().setMaxListeners(0);
  readonly #bucketMs: number;
  readonly #faults = new Array<number>(BUCKETS).fill(0);
  readonly #totals = new Array<number>(BUCKETS).fill(0);
  #last: number;

  constructor(spanMs: number) {
    this.#bucketMs = spanMs / BUCKETS;
    this.#last = this.#now();
  }

  add(fault: boolean): void {
    this.#advance();
    const index = this.#last % BUCKETS;
    this.#totals[index] = (this.#totals[index] ?? 0) + 1;
    this.total++;
    if (!fault) return;
    this.#faults[index] = (this.#faults[index] ?? 0) + 1;
    this.faults++;
  }

  clear(): void {
    this.#faults.fill(0);
    this.#totals.fill(0);
    this.faults = 0;
    this.total = 0;
  }

  #now(): number {
    return Math.floor(performance.now() / this.#bucketMs);
  }

  #advance(): void {
    const now = this.#now();
    if (now === this.#last) return;
    const steps = Math.min(BUCKETS, now - this.#last);
    for (let step = 1; step <= steps; step++) {
      const index = (this.#last + step) % BUCKETS;
      this.faults -= this.#faults[index] ?? 0;
      this.total -= this.#totals[index] ?? 0;
      this.#faults[index] = 0;
      this.#totals[index] = 0;
      this.rotation.emit('rotate');
    }
    this.#last = now;
  }
}
