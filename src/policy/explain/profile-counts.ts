/**
 * What an evaluation executes, counted: statements and calls of rules. Counts are exact, and the same on every run over
 * the same input, data and time. No value is looked at, let alone kept.
 */
import type { Locals, Tracer } from '../plan/interpreter.ts';
import type { Block, PlanFunction, Statement } from '../plan/plan.ts';

/** How often a statement was executed, and how often it did not hold. */
export interface StatementCount {
  executed: number;
  failed: number;
}

/** How often a rule was evaluated, and how often it came to a value; what is remembered is not evaluated again. */
export interface CallCount {
  calls: number;
  fired: number;
}

export class CountingTracer implements Tracer {
  readonly statements = new Map<Statement, StatementCount>();
  readonly functions = new Map<PlanFunction, CallCount>();

  enter(called: PlanFunction): void {
    const count = this.functions.get(called);
    if (count === undefined) this.functions.set(called, { calls: 1, fired: 0 });
    else count.calls++;
  }

  leave(called: PlanFunction, result: unknown): void {
    const count = this.functions.get(called);
    if (count !== undefined && result !== undefined) count.fired++;
  }

  body(): void {}

  statement(statement: Statement, _locals: Locals, defined: boolean): void {
    let count = this.statements.get(statement);
    if (count === undefined) {
      count = { executed: 0, failed: 0 };
      this.statements.set(statement, count);
    }
    count.executed++;
    if (!defined && !JUMPS.has(statement.type)) count.failed++;
  }

  /** Adds what another one counted. */
  take(other: CountingTracer): void {
    for (const [statement, { executed, failed }] of other.statements) {
      const sum = this.statements.get(statement);
      if (sum === undefined) this.statements.set(statement, { executed, failed });
      else {
        sum.executed += executed;
        sum.failed += failed;
      }
    }
    for (const [called, { calls, fired }] of other.functions) {
      const sum = this.functions.get(called);
      if (sum === undefined) this.functions.set(called, { calls, fired });
      else {
        sum.calls += calls;
        sum.fired += fired;
      }
    }
  }
}

/** They leave their block because that is what they are for. */
const JUMPS = new Set(['BreakStmt', 'ReturnLocalStmt']);

/** Microseconds of a rule: what it took itself, builtins included, and with the rules it called. */
export interface RuleTime {
  own: number;
  total: number;
}

/** The clock between calls of rules; the time it takes to keep these books is nobody's. One evaluation long. */
export class TimingTracer implements Tracer {
  /** Null: the entrypoint, outside of all rules. */
  readonly times = new Map<PlanFunction | null, RuleTime>();
  /** Who runs and since when, the entrypoint below all. */
  readonly #stack: { readonly called: PlanFunction | null; readonly began: number }[] = [{ called: null, began: 0 }];
  /** Microseconds that went by outside of the books. */
  #elapsed = 0;
  #mark = performance.now();

  enter(called: PlanFunction): void {
    this.#advance();
    this.#stack.push({ called, began: this.#elapsed });
    this.#mark = performance.now();
  }

  leave(): void {
    this.#advance();
    const ended = this.#stack.pop();
    if (ended !== undefined) this.#time(ended.called).total += this.#elapsed - ended.began;
    this.#mark = performance.now();
  }

  body(): void {}
  statement(): void {}

  /** The evaluation is over. */
  stop(): void {
    this.leave();
  }

  #advance(): void {
    const passed = (performance.now() - this.#mark) * 1000;
    this.#elapsed += passed;
    this.#time(this.#stack.at(-1)?.called ?? null).own += passed;
  }

  #time(called: PlanFunction | null): RuleTime {
    const known = this.times.get(called);
    if (known !== undefined) return known;
    const made = { own: 0, total: 0 };
    this.times.set(called, made);
    return made;
  }
}

/** Visits the statements of blocks, nested ones included, in their order. */
export function eachStatement(blocks: readonly Block[], visit: (statement: Statement) => void): void {
  for (const { stmts } of blocks) {
    for (const statement of stmts ?? []) {
      visit(statement);
      const { blocks: inner, block } = statement.stmt;
      if (inner != null) eachStatement(inner, visit);
      if (block != null) eachStatement([block], visit);
    }
  }
}
