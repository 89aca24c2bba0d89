/**
 * What each rule costs, over one input or many: exact counts, and times as relative weights. Time is taken in the
 * interpreter of the plan, because the compiled module cannot say what it spends it on; it is a hundred times faster, and
 * its builtins weigh less or more beside its rules than here. No value is looked at. Source: policy-engine 7.
 */
import { interpret, PlanFault } from '../plan/interpreter.ts';
import type { Block, Place, Plan, PlanFunction } from '../plan/plan.ts';
import type { Drawn } from '../wasm/imports.ts';
import type { Rego } from '../wasm/values.ts';
import { type LineCoverage, lineCoverage } from './line-coverage.ts';
import { CountingTracer, eachStatement, type RuleTime, TimingTracer } from './profile-counts.ts';
import { type SourceTexts, shortText } from './sources.ts';
import { firstPlace, ruleName } from './trace.ts';

/** A rule with all of its definitions. Times in microseconds. */
export interface ProfiledRule {
  /** `(entrypoint)`: what stands around the rules. */
  readonly rule: string;
  /** `file:line` of its first definition. */
  readonly at: string | null;
  /** The line there; null where the source is not at hand. */
  readonly text: string | null;
  /** Evaluations; what is remembered within a decision is not evaluated again. */
  readonly calls: number;
  /** Evaluations that came to a value, `false` and defaults included. */
  readonly fired: number;
  readonly undefined: number;
  /** Statements of the plan executed in the rule itself. */
  readonly statements: number;
  /** Time in the rule itself, its builtins included: the median of the repetitions, summed over the inputs. */
  readonly own_us: number;
  /** With the rules it called. */
  readonly total_us: number;
  /** Of the own time of all rules, 0 to 1. */
  readonly share: number;
}

/** A line by what is executed on it. */
export interface ProfiledLine {
  readonly at: string;
  readonly text: string | null;
  readonly statements: number;
  /** Statements after which it did not go on, because something was undefined or did not hold. */
  readonly failed: number;
}

export interface Profile {
  /** What was timed: not the module that decides. */
  readonly timed_in: 'plan-interpreter';
  readonly inputs: number;
  /** How often each input was timed; fewer than asked for where time ran out. */
  readonly repeats: number;
  /** Of all inputs together. */
  readonly calls: number;
  readonly statements: number;
  readonly total_us: number;
  /** Those that were evaluated, by own time, the hottest first. */
  readonly rules: readonly ProfiledRule[];
  /** Rules evaluated beyond the limit of the list. */
  readonly rules_left_out: number;
  /** The lines with the most statements, first. */
  readonly lines: readonly ProfiledLine[];
}

const MAX_RULES = 500;
const MAX_LINES = 50;

/** Counts and times evaluations of one plan over the same data. */
export class Profiler {
  readonly #plan: Plan;
  readonly #data: Rego;
  readonly #until: number;
  readonly #counts = new CountingTracer();
  /** Sums of the medians. */
  readonly #times = new Map<PlanFunction | null, RuleTime>();
  #inputs = 0;
  #steps = 0;
  #repeats = Number.POSITIVE_INFINITY;

  /** `until`: when all of it has to be over, on the clock of `performance.now()`. */
  constructor(plan: Plan, data: Rego, until = Number.POSITIVE_INFINITY) {
    this.#plan = plan;
    this.#data = data;
    this.#until = until;
  }

  /**
   * Evaluates once to count and up to `repeat` times against the clock. Throws PlanFault, and then counts nothing. `drawn`:
   * what chance gave when it was decided.
   */
  add(entrypoint: string, input: Rego | undefined, now: number, repeat: number, drawn: Drawn | null = null): void {
    const run = (tracer: CountingTracer | TimingTracer): number =>
      interpret(this.#plan, entrypoint, input, this.#data, now, tracer, this.#until - performance.now(), drawn).steps;
    // What cannot be evaluated to its end must not leave half of its counts behind.
    const counts = new CountingTracer();
    const steps = run(counts);
    const timed = this.#timed(run, repeat);
    this.#counts.take(counts);
    this.#steps += steps;
    this.#inputs++;
    this.#repeats = Math.min(this.#repeats, timed.length);
    this.#takeTimes(timed);
  }

  #timed(run: (tracer: TimingTracer) => unknown, repeat: number): readonly TimingTracer[] {
    const timed: TimingTracer[] = [];
    while (timed.length < repeat && performance.now() < this.#until) {
      const timing = new TimingTracer();
      try {
        run(timing);
      } catch (fault) {
        // It has been evaluated before: what is missing now is time.
        if (fault instanceof PlanFault) break;
        throw fault;
      }
      timing.stop();
      timed.push(timing);
    }
    return timed;
  }

  /** What each rule cost. Texts are lines of the sources, secrets hidden. */
  profile(texts: SourceTexts): Profile {
    const rules = this.#rules(texts);
    const calls = [...this.#counts.functions.values()].reduce((sum, one) => sum + one.calls, 0);
    return {
      timed_in: 'plan-interpreter',
      inputs: this.#inputs,
      repeats: this.#inputs === 0 ? 0 : this.#repeats,
      calls,
      statements: this.#steps,
      total_us: round(this.#times.get(null)?.total ?? 0),
      rules: rules.slice(0, MAX_RULES),
      rules_left_out: Math.max(0, rules.length - MAX_RULES),
      lines: this.#lines(texts),
    };
  }

  /** Lines reached by any of the inputs. */
  coverage(): LineCoverage {
    return lineCoverage(this.#plan, this.#counts.statements);
  }

  #takeTimes(timed: readonly TimingTracer[]): void {
    for (const called of timed[0]?.times.keys() ?? []) {
      const sum = this.#times.get(called) ?? { own: 0, total: 0 };
      sum.own += median(timed.map(({ times }) => times.get(called)?.own ?? 0));
      sum.total += median(timed.map(({ times }) => times.get(called)?.total ?? 0));
      this.#times.set(called, sum);
    }
  }

  #rules(texts: SourceTexts): readonly ProfiledRule[] {
    const all = [...this.#times.values()].reduce((sum, { own }) => sum + own, 0);
    const rules = [...this.#counts.functions].map(([called, { calls, fired }]) => {
      const place = called.blocks.reduce<Place | null>((found, { stmts }) => found ?? firstPlace(stmts ?? []), null);
      const at = place === null ? { at: null, text: null } : this.#at(place, texts);
      const rule = { rule: ruleName(called), ...at, calls, fired, undefined: calls - fired };
      return { ...rule, statements: this.#statementsOf(called.blocks), ...this.#timesOf(called, all) };
    });
    const entries = [...this.#plan.entrypoints.values()].flat();
    const around: ProfiledRule = {
      ...{ rule: '(entrypoint)', at: null, text: null, calls: this.#inputs, fired: this.#inputs, undefined: 0 },
      ...{ statements: this.#statementsOf(entries), ...this.#timesOf(null, all) },
    };
    return [...rules, around].sort(
      (a, b) => b.own_us - a.own_us || b.statements - a.statements || (a.rule < b.rule ? -1 : 1),
    );
  }

  #statementsOf(blocks: readonly Block[]): number {
    let sum = 0;
    eachStatement(blocks, (statement) => {
      sum += this.#counts.statements.get(statement)?.executed ?? 0;
    });
    return sum;
  }

  #timesOf(called: PlanFunction | null, all: number): Pick<ProfiledRule, 'own_us' | 'total_us' | 'share'> {
    const { own, total } = this.#times.get(called) ?? { own: 0, total: 0 };
    return {
      own_us: round(own),
      total_us: round(total),
      share: all === 0 ? 0 : Math.round((10_000 * own) / all) / 10_000,
    };
  }

  #lines(texts: SourceTexts): readonly ProfiledLine[] {
    const lines = new Map<string, { place: Place; statements: number; failed: number }>();
    for (const [{ stmt }, { executed, failed }] of this.#counts.statements) {
      if (stmt.row === 0) continue;
      const key = `${stmt.file}:${stmt.row}`;
      const line = lines.get(key) ?? { place: stmt, statements: 0, failed: 0 };
      line.statements += executed;
      line.failed += failed;
      lines.set(key, line);
    }
    return [...lines.values()]
      .map(({ place, ...counts }) => ({ ...this.#at(place, texts), ...counts }))
      .sort((a, b) => b.statements - a.statements || (a.at < b.at ? -1 : 1))
      .slice(0, MAX_LINES);
  }

  #at(place: Place, texts: SourceTexts): { readonly at: string; readonly text: string | null } {
    const text = texts.line(place);
    return { at: `${this.#plan.files[place.file] ?? '?'}:${place.row}`, text: text === null ? null : shortText(text) };
  }
}

/** Of an even number the upper one of the two in the middle. */
function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;
}

/** To a hundredth. */
const round = (micros: number): number => Math.round(micros * 100) / 100;
