/**
 * Keeps what was decided: as JSON lines in a file, and at a service that takes OPA's decision log. Events wait in memory
 * and are made into text after the request, in slices short enough that no request notices; what does not fit is dropped
 * and counted by reason, and no request ever waits. Source: contracts 3.
 */
import { setImmediate } from 'node:timers/promises';
import type { Logger } from '../core/module.ts';
import { eventOf, type LogEvent, type LoggedDecision } from './log-event.ts';
import { FileSink } from './log-file.ts';
import { applyMask, type MaskRule } from './log-mask.ts';
import type { LogRuleFailure } from './log-rules.ts';
import { UploadSink, type UploadSinkOptions } from './log-upload.ts';

export type { LoggedDecision } from './log-event.ts';

/**
 * Why an event is not in the log. `policy`: a drop rule said so; `waiting`: too many wait; `rate`: more than `drop_over`
 * in a second; `too_large`: alone over the limit of an upload; `write`: the file; `closed`: the service did not come back.
 */
export type DropReason = 'policy' | 'waiting' | 'rate' | 'too_large' | 'write' | 'closed';

/** Told as it happens, for the metrics. */
export interface DecisionLogEvents {
  dropped?(reason: DropReason, count: number): void;
  /** A mask or drop rule gave no usable answer. */
  ruleFailed?(failure: LogRuleFailure): void;
  uploaded?(ok: boolean, events: number): void;
}

export interface DecisionLogOptions extends DecisionLogEvents {
  /** Absolute. */
  readonly file?: string | undefined;
  readonly service?: Omit<UploadSinkOptions, 'logger' | 'onDropped' | 'onUploaded'> | undefined;
  /** JSON pointers that are removed from every event. */
  readonly mask?: readonly string[] | undefined;
  /** Events that wait at most, in all. */
  readonly maxWaiting?: number | undefined;
  /** Events a second; more are dropped. */
  readonly dropOver?: number | undefined;
}

/** Counts since the log was opened. */
export interface DecisionLogFigures {
  readonly waiting: number;
  readonly dropped: Readonly<Record<DropReason, number>>;
  readonly withheld: number;
  readonly uploaded: number;
  readonly last_upload_error: string | null;
}

export interface DecisionLog {
  /** Never throws and never waits. */
  record(event: LoggedDecision): void;
  /** Events that were lost; those a policy wanted dropped are not. */
  readonly dropped: number;
  figures(): DecisionLogFigures;
  /** Resolves when everything recorded before is in the file and was offered to the service once. */
  flush(): Promise<void>;
  /** Writes and uploads what there is, for some seconds at most. */
  close(): Promise<void>;
}

const MAX_WAITING = 10_000;
const FLUSH_MS = 100;
/** Milliseconds of work between two turns of the event loop. */
const SLICE_MS = 2;

/** Nothing is opened before the first event. */
export function openDecisionLog(options: DecisionLogOptions, logger: Logger): DecisionLog {
  return new WaitingLog(options, logger);
}

class WaitingLog implements DecisionLog {
  readonly #options: DecisionLogOptions;
  readonly #logger: Logger;
  readonly #mask: readonly MaskRule[];
  readonly #file: FileSink | null;
  readonly #upload: UploadSink | null;
  readonly #dropped: Record<DropReason, number> = { policy: 0, waiting: 0, rate: 0, too_large: 0, write: 0, closed: 0 };
  #waiting: LoggedDecision[] = [];
  #timer: NodeJS.Timeout | null = null;
  #working: Promise<void> = Promise.resolve();
  #withheld = 0;
  #uploaded = 0;
  #second = 0;
  #inSecond = 0;

  constructor(options: DecisionLogOptions, logger: Logger) {
    this.#options = options;
    this.#logger = logger;
    this.#mask = (options.mask ?? []).map((path) => ({ op: 'remove', path, value: null }));
    const onDropped = (reason: DropReason, count: number): void => this.#lose(reason, count);
    this.#file = options.file === undefined ? null : new FileSink(options.file, logger, (n) => onDropped('write', n));
    const onUploaded = (ok: boolean, events: number): void => {
      if (ok) this.#uploaded += events;
      options.uploaded?.(ok, events);
    };
    this.#upload =
      options.service === undefined ? null : new UploadSink({ ...options.service, logger, onDropped, onUploaded });
  }

  get dropped(): number {
    const { policy: _wanted, ...lost } = this.#dropped;
    return Object.values(lost).reduce((sum, count) => sum + count, 0);
  }

  figures(): DecisionLogFigures {
    return {
      waiting: this.#waiting.length + (this.#upload?.waiting ?? 0),
      dropped: { ...this.#dropped },
      withheld: this.#withheld,
      uploaded: this.#uploaded,
      last_upload_error: this.#upload?.lastError ?? null,
    };
  }

  record(event: LoggedDecision): void {
    const waiting = this.#waiting.length + (this.#upload?.waiting ?? 0);
    const { maxWaiting = MAX_WAITING, dropOver } = this.#options;
    const full = waiting >= maxWaiting;
    if (full || (dropOver !== undefined && this.#isOver(dropOver, event.request.facts.now))) {
      this.#lose(full ? 'waiting' : 'rate', 1);
      return;
    }
    this.#waiting.push(event);
    this.#timer ??= setTimeout(() => void this.#work(), FLUSH_MS).unref();
  }

  #isOver(limit: number, now: number): boolean {
    const second = Math.floor(now / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#inSecond = 0;
    }
    return ++this.#inSecond > limit;
  }

  #lose(reason: DropReason, count: number): void {
    if (this.#dropped[reason] === 0 && reason !== 'policy') {
      this.#logger.warn({ reason, file: this.#options.file ?? null }, 'events of the decision log are dropped');
    }
    this.#dropped[reason] += count;
    this.#options.dropped?.(reason, count);
  }

  /** One at a time, in the order of the events. */
  #work(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#working = this.#working.then(() => this.#drain());
    return this.#working;
  }

  async #drain(): Promise<void> {
    while (this.#waiting.length > 0) {
      const lines = this.#slice();
      this.#upload?.add(lines);
      await this.#file?.append(lines);
      // Requests first.
      if (this.#waiting.length > 0) await setImmediate();
    }
    await this.#file?.release();
  }

  /** The text of as many events as fit into the time of a slice. */
  #slice(): string[] {
    const until = performance.now() + SLICE_MS;
    const lines: string[] = [];
    let done = 0;
    for (const event of this.#waiting) {
      done++;
      const line = this.#lineOf(event);
      if (line !== null) lines.push(line);
      if (performance.now() >= until) break;
    }
    this.#waiting = this.#waiting.slice(done);
    return lines;
  }

  #lineOf(logged: LoggedDecision): string | null {
    let event: LogEvent;
    try {
      event = eventOf(logged);
      applyMask(event, this.#mask);
      const verdict = logged.rules?.apply(event, logged.request.facts.now, (failure) => this.#ruleFailed(failure));
      if (verdict === 'drop') this.#lose('policy', 1);
      if (verdict === 'withheld') this.#withheld++;
      return verdict === 'drop' ? null : JSON.stringify(event);
    } catch (cause) {
      this.#logger.error({ reason: (cause as Error).message }, 'an event of the decision log cannot be written');
      this.#lose('write', 1);
      return null;
    }
  }

  #ruleFailed(failure: LogRuleFailure): void {
    if (this.#withheld === 0) {
      this.#logger.error({ failure }, 'the mask of the decision log fails; what it might hide is withheld');
    }
    this.#options.ruleFailed?.(failure);
  }

  async flush(): Promise<void> {
    await this.#work();
    await this.#upload?.flush();
  }

  async close(): Promise<void> {
    await this.#work();
    await this.#upload?.close();
  }
}
