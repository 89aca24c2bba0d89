/**
 * A candidate policy, asked about what the policy in force decides. It runs on a thread of its own, is handed what it
 * needs after the answer, and has no way back into a decision. What it cannot keep up with is dropped and counted.
 * Source: policy-engine 5 and 7.
 */
import { Worker } from 'node:worker_threads';
import type { Logger } from '../core/module.ts';
import type { BindableRoute } from './bindings.ts';
import { Latency, type LatencyFigures } from './latency.ts';
import type { DecisionObserver, ObservedDecision } from './opa-engine.ts';
import { DIFFERENCES, type Difference } from './shadow-compare.ts';
import { roughSize } from './shadow-size.ts';
import type {
  ShadowAnswer,
  ShadowFinding,
  ShadowQuestion,
  ShadowResult,
  ShadowStart,
  ShadowTask,
} from './shadow-wire.ts';

/** `busy`: too many wait; `paused`: it failed too often; `lost`: its thread died; `unfit`: an input that cannot be copied. */
export type ShadowDropReason = 'busy' | 'paused' | 'lost' | 'unfit' | 'no_candidate';

export interface ShadowEvents {
  compared?(result: Difference | 'same', count: number): void;
  violation?(code: string, change: 'added' | 'removed', count: number): void;
  dropped?(reason: ShadowDropReason, count: number): void;
}

export interface ShadowOptions extends ShadowEvents {
  readonly bundleDir: string;
  readonly dataFile: string | null;
  readonly entrypoint: string;
  readonly listEntrypoint?: string;
  /** Routes that the candidate may bind to entrypoints of its own, at their places. */
  readonly routes?: readonly BindableRoute[];
  /** Share of the decisions, above 0 and at most 1. */
  readonly sample: number;
  /** Steps of one evaluation, in what a fast core does in a millisecond. */
  readonly timeLimitMs: number;
  readonly logger: Logger;
  /** Decisions that wait at most. */
  readonly maxWaiting?: number;
  /** Bytes of documents that wait at most, roughly. */
  readonly maxWaitingBytes?: number;
  /** Milliseconds without a sign of life after which the thread is replaced. */
  readonly stuckMs?: number;
}

/** One decision on which the two differ. Arguments are not kept. */
export interface ShadowDifference {
  readonly decision_id: string;
  /** RFC 3339. */
  readonly timestamp: string;
  readonly kind: Difference;
  readonly entrypoint: string;
  readonly action: string;
  readonly server_name: string | null;
  readonly tool_name: string | null;
  readonly user_id: string;
  readonly roles: readonly string[];
  readonly live: { readonly allow: boolean; readonly codes: readonly string[] };
  readonly candidate: {
    readonly allow: boolean;
    readonly codes: readonly string[];
    readonly obligations: readonly string[];
    readonly failure: string | null;
    readonly detail: string | null;
  };
}

export interface ShadowStatus extends LatencyFigures {
  readonly revision: string | null;
  readonly last_error: string | null;
  readonly sample: number;
  readonly waiting: number;
  readonly compared: number;
  readonly same: number;
  readonly differences: Readonly<Record<Difference, number>>;
  readonly codes: Readonly<Record<string, { readonly added: number; readonly removed: number }>>;
  readonly dropped: Readonly<Partial<Record<ShadowDropReason, number>>>;
  readonly restarts: number;
  /** Newest first. */
  readonly recent: readonly ShadowDifference[];
}

export interface Shadow extends DecisionObserver {
  status(): ShadowStatus;
  /** Loads the candidate again; resolves when it is in use or refused. */
  reload(): Promise<ShadowStatus>;
  /** Resolves when everything handed over so far was compared or dropped. */
  settled(): Promise<void>;
  close(): Promise<void>;
}

const MAX_WAITING = 1000;
const MAX_WAITING_BYTES = 32 * 1024 * 1024;
const MAX_RECENT = 100;
const STUCK_MS = 10_000;
/**
 * Loop turns that take about a millisecond on a fast core with nothing else to do. Steps are counted and not time: the same
 * decision then fails or succeeds on every machine, however busy it is.
 */
const FUEL_PER_MS = 500_000;
const MEMORY_BYTES = 64 * 1024 * 1024;
/** After so many evaluations in a row without a decision the candidate is left alone for a while. */
const PATIENCE = 50;
const PAUSE_MS = 5000;

/** Starts the thread; the candidate is asked as soon as it is loaded. */
export function startShadow(options: ShadowOptions): Shadow {
  return new CandidateThread(options);
}

interface Waiting {
  readonly observed: ObservedDecision;
  readonly question: ShadowQuestion;
  /** Bytes, once it is known. */
  size: number;
}

class CandidateThread implements Shadow {
  readonly #options: ShadowOptions;
  readonly #start: ShadowStart;
  readonly #waiting = new Map<number, Waiting>();
  readonly #dropped: Partial<Record<ShadowDropReason, number>> = {};
  readonly #differences = Object.fromEntries(DIFFERENCES.map((kind) => [kind, 0])) as Record<Difference, number>;
  readonly #codes = new Map<string, { added: number; removed: number }>();
  readonly #recent: ShadowDifference[] = [];
  readonly #latency = new Latency();
  #worker: Worker | null = null;
  #queue: Waiting[] = [];
  #handOver: NodeJS.Immediate | null = null;
  #watchdog: NodeJS.Timeout | null = null;
  #onLoaded: (() => void)[] = [];
  #onIdle: (() => void)[] = [];
  #nextId = 1;
  #bytes = 0;
  #same = 0;
  #compared = 0;
  #restarts = 0;
  #failedInRow = 0;
  #pausedUntil = Number.NEGATIVE_INFINITY;
  #revision: string | null = null;
  #lastError: string | null = null;
  #isClosed = false;

  constructor(options: ShadowOptions) {
    this.#options = options;
    this.#start = {
      bundleDir: options.bundleDir,
      dataFile: options.dataFile,
      entrypoint: options.entrypoint,
      listEntrypoint: options.listEntrypoint ?? 'portcullis/main/decisions',
      routes: options.routes ?? [],
      limits: { fuel: options.timeLimitMs * FUEL_PER_MS, memoryBytes: MEMORY_BYTES, highWaterBytes: 8 * 1024 * 1024 },
    };
    this.#open();
  }

  #open(): void {
    const file = import.meta.url.endsWith('.ts') ? './shadow-worker.ts' : './shadow-worker.js';
    const worker = new Worker(new URL(file, import.meta.url), {
      workerData: this.#start,
      resourceLimits: { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 32 },
    });
    worker.on('message', (answer: ShadowAnswer) => this.#heard(worker, answer));
    worker.on('error', (fault: Error) => this.#died(worker, fault.message));
    worker.on('exit', () => this.#died(worker, 'its thread ended'));
    worker.unref();
    this.#worker = worker;
  }

  wants(): boolean {
    const { sample } = this.#options;
    return !this.#isClosed && (sample >= 1 || Math.random() < sample);
  }

  observe(observed: ObservedDecision): void {
    const reason = this.#refusal();
    if (reason !== null) {
      this.#drop(reason, observed.decisions.length);
      return;
    }
    const id = this.#nextId++;
    const { entrypoint, input, decisions, requests } = observed;
    const live = decisions.map(({ allow, deny, obligations, failure }) => ({ allow, deny, obligations, failure }));
    const [first] = requests;
    const question = {
      ...{ id, input, now: first?.facts.now ?? 0, live, isList: entrypoint === this.#start.listEntrypoint },
      asked: requests.map((request) => ({ entrypoint: request.entrypoint, place: request.place })),
    };
    const waiting: Waiting = { observed, question, size: 0 };
    this.#waiting.set(id, waiting);
    this.#queue.push(waiting);
    // After the answer: what copies the input has no place between a decision and its request.
    this.#handOver ??= setImmediate(() => this.#send()).unref();
  }

  #refusal(): ShadowDropReason | null {
    if (this.#waiting.size >= (this.#options.maxWaiting ?? MAX_WAITING)) return 'busy';
    return performance.now() < this.#pausedUntil ? 'paused' : null;
  }

  #send(): void {
    this.#handOver = null;
    const questions = this.#queue.filter((one) => this.#hasRoom(one)).map(({ question }) => question);
    this.#queue = [];
    if (this.#waiting.size === 0) for (const idle of this.#onIdle.splice(0)) idle();
    if (questions.length === 0 || this.#worker === null) return;
    try {
      this.#worker.postMessage({ kind: 'batch', questions } satisfies ShadowTask);
      this.#watch();
    } catch {
      for (const question of questions) this.#forget(question.id, 'unfit');
    }
  }

  /** Documents differ in size by orders of magnitude, so it is not their count alone that is bounded. */
  #hasRoom(waiting: Waiting): boolean {
    const most = this.#options.maxWaitingBytes ?? MAX_WAITING_BYTES;
    const size = roughSize(waiting.question.input, most);
    if (this.#bytes + size > most) {
      this.#forget(waiting.question.id, 'busy');
      return false;
    }
    waiting.size = size;
    this.#bytes += size;
    return true;
  }

  /** Fuel stops a loop of the policy; this stops whatever fuel does not count. */
  #watch(): void {
    this.#watchdog ??= setTimeout(() => {
      this.#watchdog = null;
      const worker = this.#worker;
      if (worker !== null && this.#waiting.size > 0) this.#died(worker, 'it gave no sign of life');
    }, this.#options.stuckMs ?? STUCK_MS).unref();
  }

  #heard(worker: Worker, answer: ShadowAnswer): void {
    if (worker !== this.#worker) return;
    if (this.#watchdog !== null) clearTimeout(this.#watchdog);
    this.#watchdog = null;
    if (answer.kind === 'loaded') this.#loaded(answer.revision, answer.error);
    else for (const result of answer.results) this.#result(result);
    if (this.#waiting.size > 0) this.#watch();
    else for (const idle of this.#onIdle.splice(0)) idle();
  }

  #loaded(revision: string | null, error: string | null): void {
    const { logger } = this.#options;
    if (error === null) logger.info({ revision }, 'candidate policy loaded');
    else logger.warn({ reason: error, revision }, 'candidate policy not loaded');
    if (revision !== this.#revision) this.#pausedUntil = Number.NEGATIVE_INFINITY;
    this.#revision = revision;
    this.#lastError = error;
    for (const loaded of this.#onLoaded.splice(0)) loaded();
  }

  #result({ id, us, findings }: ShadowResult): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    if (findings.length === 0) {
      this.#forget(id, 'no_candidate');
      return;
    }
    this.#waiting.delete(id);
    this.#bytes -= waiting.size;
    this.#latency.record(us);
    let failed = false;
    for (const [at, finding] of findings.entries()) {
      this.#compared++;
      this.#options.compared?.(finding.kind, 1);
      if (finding.kind === 'same') this.#same++;
      else this.#note(waiting.observed, at, finding, finding.kind);
      failed ||= finding.kind === 'failure';
    }
    this.#failedInRow = failed ? this.#failedInRow + 1 : 0;
    if (this.#failedInRow >= PATIENCE) {
      this.#failedInRow = 0;
      this.#pausedUntil = performance.now() + PAUSE_MS;
    }
  }

  #note(observed: ObservedDecision, at: number, found: ShadowFinding, kind: Difference): void {
    const { entrypoint, decisions, requests } = observed;
    this.#differences[kind]++;
    for (const change of ['added', 'removed'] as const) {
      for (const code of found[change]) {
        const counts = this.#codes.get(code) ?? { added: 0, removed: 0 };
        counts[change]++;
        this.#codes.set(code, counts);
        this.#options.violation?.(code, change, 1);
      }
    }
    const [decision, request, { candidate }] = [decisions[at], requests[at], found];
    if (decision === undefined || request === undefined || candidate === null) return;
    const { call, principal, facts } = request;
    this.#recent.unshift({
      decision_id: decision.decision_id,
      timestamp: new Date(facts.now).toISOString(),
      kind,
      entrypoint,
      action: call.action,
      server_name: call.server,
      tool_name: call.tool,
      user_id: principal.id,
      roles: principal.roles,
      live: { allow: decision.allow, codes: codesOf(decision.deny) },
      candidate: {
        allow: candidate.allow,
        codes: codesOf(candidate.deny),
        obligations: candidate.obligations.map(({ type }) => type),
        failure: candidate.failure,
        detail: candidate.detail,
      },
    });
    if (this.#recent.length > MAX_RECENT) this.#recent.pop();
  }

  #forget(id: number, reason: ShadowDropReason): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (waiting === undefined) return;
    this.#bytes -= waiting.size;
    this.#drop(reason, waiting.question.live.length);
  }

  #drop(reason: ShadowDropReason, count: number): void {
    this.#dropped[reason] = (this.#dropped[reason] ?? 0) + count;
    this.#options.dropped?.(reason, count);
  }

  /** A new thread takes its place; what the old one had is lost. */
  #died(worker: Worker, reason: string): void {
    if (worker !== this.#worker || this.#isClosed) return;
    this.#worker = null;
    void worker.terminate();
    this.#options.logger.error({ reason }, 'the candidate policy was stopped; a new thread takes its place');
    for (const id of [...this.#waiting.keys()]) this.#forget(id, 'lost');
    this.#queue = [];
    for (const done of [...this.#onIdle.splice(0), ...this.#onLoaded.splice(0)]) done();
    this.#restarts++;
    this.#revision = null;
    this.#lastError = reason;
    // Whatever killed it may be there still.
    setTimeout(
      () => this.#isClosed || this.#worker !== null || this.#open(),
      Math.min(100 * 2 ** this.#restarts, 60_000),
    ).unref();
  }

  status(): ShadowStatus {
    return {
      revision: this.#revision,
      last_error: this.#lastError,
      sample: this.#options.sample,
      waiting: this.#waiting.size,
      compared: this.#compared,
      same: this.#same,
      differences: { ...this.#differences },
      codes: Object.fromEntries([...this.#codes].sort(([a], [b]) => (a < b ? -1 : 1))),
      dropped: { ...this.#dropped },
      restarts: this.#restarts,
      ...this.#latency.figures(),
      recent: [...this.#recent],
    };
  }

  async reload(): Promise<ShadowStatus> {
    if (this.#worker !== null) {
      const loaded = new Promise<void>((done) => this.#onLoaded.push(done));
      this.#worker.postMessage({ kind: 'reload' } satisfies ShadowTask);
      await loaded;
    }
    return this.status();
  }

  settled(): Promise<void> {
    if (this.#waiting.size === 0) return Promise.resolve();
    return new Promise((done) => this.#onIdle.push(done));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#watchdog !== null) clearTimeout(this.#watchdog);
    const worker = this.#worker;
    this.#worker = null;
    await worker?.terminate();
    for (const done of [...this.#onIdle.splice(0), ...this.#onLoaded.splice(0)]) done();
  }
}

function codesOf(deny: readonly { readonly code: string }[]): readonly string[] {
  return [...new Set(deny.map(({ code }) => code))];
}
