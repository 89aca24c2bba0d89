/**
 * What a bundle says about its own records: package `system.log` with `drop` (a boolean) and `mask` (a set of pointers or
 * operations). Both look at the whole event. They run long after the answer, on an instance of their own with little fuel,
 * and a mask that cannot be had withholds what it might have hidden. Source: OPA decision log masks and drops.
 */
import type { DecisionFailure } from '../core/decision.ts';
import type { LogEvent } from './log-event.ts';
import { applyMask, readMask } from './log-mask.ts';
import { BUILTINS } from './wasm/builtins.ts';
import { type Outcome, PolicyHost } from './wasm/host.ts';
import { type HostLimits, PolicyProgram } from './wasm/program.ts';

export const MASK_ENTRYPOINT = 'system/log/mask';
export const DROP_ENTRYPOINT = 'system/log/drop';

/** A million loop turns are some two milliseconds; a mask takes some thousands. */
const LIMITS: HostLimits = { fuel: 1_000_000, memoryBytes: 32 * 1024 * 1024, highWaterBytes: 4 * 1024 * 1024 };

/** After so many failures in a row the policy is left alone for a while: each one costs as much as it is allowed to. */
const PATIENCE = 10;
const PAUSE_MS = 1000;

/** What became of an event. */
export type LogVerdict = 'keep' | 'drop' | 'withheld';

export type LogRuleFailure = DecisionFailure | 'paused';

export class LogRules {
  readonly #host: PolicyHost;
  readonly #masks: boolean;
  readonly #drops: boolean;
  #failedInRow = 0;
  #pausedUntil = Number.NEGATIVE_INFINITY;

  private constructor(host: PolicyHost) {
    this.#host = host;
    this.#masks = host.entrypoints.has(MASK_ENTRYPOINT);
    this.#drops = host.entrypoints.has(DROP_ENTRYPOINT);
  }

  /** Null when the policy has no such rules. Throws PolicyLoadError. */
  static async load(
    entrypoints: ReadonlyMap<string, number>,
    wasm: Uint8Array,
    dataText: string,
    limits: HostLimits = LIMITS,
  ): Promise<LogRules | null> {
    if (!entrypoints.has(MASK_ENTRYPOINT) && !entrypoints.has(DROP_ENTRYPOINT)) return null;
    return new LogRules(new PolicyHost(await PolicyProgram.load(wasm, BUILTINS, limits), dataText));
  }

  /**
   * Applies both to the event. `now`: the time of the decision, which is the policy's time too. `onFailure` hears of
   * rules that gave no usable answer.
   */
  apply(event: LogEvent, now: number, onFailure: (failure: LogRuleFailure) => void): LogVerdict {
    if (performance.now() < this.#pausedUntil) return this.#failed(event, 'paused', onFailure);
    const drop = this.#drops ? this.#host.evaluate(DROP_ENTRYPOINT, event, now) : null;
    if (drop?.kind === 'value' && drop.value === true) return 'drop';
    // A record that nobody could decide to drop is kept.
    if (drop?.kind === 'failed') this.#count(drop.failure, onFailure);
    if (!this.#masks) return 'keep';
    const failure = this.#mask(event, this.#host.evaluate(MASK_ENTRYPOINT, event, now));
    if (failure !== null) return this.#failed(event, failure, onFailure);
    if (drop?.kind !== 'failed') this.#failedInRow = 0;
    return 'keep';
  }

  #mask(event: LogEvent, outcome: Outcome): DecisionFailure | null {
    if (outcome.kind === 'failed') return outcome.failure;
    // No rule applies: nothing to hide.
    if (outcome.kind === 'undefined') return null;
    const rules = readMask(outcome.value);
    if (rules === null) return 'bad_result';
    applyMask(event, rules);
    return null;
  }

  #failed(event: LogEvent, failure: LogRuleFailure, onFailure: (failure: LogRuleFailure) => void): LogVerdict {
    if (failure === 'paused') onFailure(failure);
    else this.#count(failure, onFailure);
    if (!this.#masks) return 'keep';
    withhold(event, failure);
    return 'withheld';
  }

  #count(failure: DecisionFailure, onFailure: (failure: LogRuleFailure) => void): void {
    onFailure(failure);
    this.#failedInRow++;
    if (this.#failedInRow < PATIENCE) return;
    this.#failedInRow = 0;
    this.#pausedUntil = performance.now() + PAUSE_MS;
  }
}

/** What a mask might have hidden goes altogether; that a decision was made, and which, stays. */
function withhold(event: LogEvent, failure: LogRuleFailure): void {
  const erased = event.erased ?? [];
  event.erased = erased;
  for (const part of ['input', 'result', 'nd_builtin_cache'] as const) {
    if (event[part] === undefined) continue;
    delete event[part];
    erased.push(`/${part}`);
  }
  event.custom = { ...event.custom, mask_failure: failure };
}
