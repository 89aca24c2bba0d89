/**
 * What happened in an evaluation, as a tree of rules: which of their bodies came to an end, and where the others
 * stopped. Bounded: beyond its limits calls are left out and the trace says so.
 */
import type { Locals, Tracer } from '../plan/interpreter.ts';
import type { Place, PlanFunction, Statement, StatementBody } from '../plan/plan.ts';
import type { Rego } from '../wasm/values.ts';

/** A value that was looked at, by the place of its expression. */
export interface Seen {
  readonly place: Place;
  readonly value: Rego | undefined;
}

/** One definition of a rule, tried once. */
export interface TracedBody {
  readonly head: Place;
  fired: boolean;
  /** The furthest expression that did not hold. */
  stopped: Place | null;
  /** Values below that expression. */
  seen: readonly Seen[];
  /** Rows passed and rows in all, the head not counted. */
  passed: number;
  readonly rows: number;
}

/** One call of a rule. */
export interface TracedCall {
  readonly rule: string;
  readonly from: Place | null;
  result: Rego | undefined;
  readonly bodies: TracedBody[];
  readonly calls: TracedCall[];
}

interface Running {
  readonly call: TracedCall;
  readonly called: PlanFunction;
  body: TracedBody | null;
  /** The local that a body which comes to an end sets. */
  target: number | null;
  seen: Seen[];
  reached: Set<number>;
}

const MAX_CALLS = 20_000;
const MAX_SEEN = 200;

/** The name of a rule as it is written: `mcp.gateway.allow`. */
export function ruleName(called: PlanFunction): string {
  return called.name.replace(/^g\d+\.data\./, '');
}

export class TraceCollector implements Tracer {
  readonly root: TracedCall = { rule: '', from: null, result: undefined, bodies: [], calls: [] };
  /** Calls beyond the limit, which are not in the tree. */
  leftOut = 0;
  readonly #stack: Running[] = [];
  readonly #rows = new Map<PlanFunction, readonly (ReadonlySet<number> | null)[]>();
  #count = 0;

  enter(called: PlanFunction, _locals: Locals, from: StatementBody | null): void {
    const call: TracedCall = { rule: ruleName(called), from, result: undefined, bodies: [], calls: [] };
    if (++this.#count > MAX_CALLS) this.leftOut++;
    else (this.#stack.at(-1)?.call ?? this.root).calls.push(call);
    this.#stack.push({ call, called, body: null, target: null, seen: [], reached: new Set() });
  }

  leave(_called: PlanFunction, result: Rego | undefined): void {
    const running = this.#stack.pop();
    if (running !== undefined) running.call.result = result;
  }

  body(index: number, phase: 'begin' | 'end'): void {
    const running = this.#stack.at(-1);
    if (running === undefined) return;
    if (phase === 'end') {
      const { body } = running;
      if (body !== null) body.passed = body.fired ? body.rows : passedRows(body, running.reached);
      running.body = null;
      return;
    }
    const stmts = running.called.blocks[index]?.stmts ?? [];
    const [first] = stmts;
    const rows = this.#rowsOf(running.called)[index] ?? null;
    if (first === undefined || rows === null) return;
    const { file, row, col } = firstPlace(stmts) ?? first.stmt;
    running.target = first.type === 'ResetLocalStmt' ? first.stmt.target : null;
    running.seen = [];
    running.reached = new Set();
    running.body = { head: { file, row, col }, fired: false, stopped: null, seen: [], passed: 0, rows: rows.size };
    running.call.bodies.push(running.body);
  }

  statement({ type, stmt }: Statement, locals: Locals, defined: boolean): void {
    const running = this.#stack.at(-1);
    const body = running?.body;
    if (running === undefined || body == null || stmt.row === 0) return;
    if (type === 'DotStmt' || type === 'CallStmt')
      this.#see(running, stmt, locals[type === 'DotStmt' ? stmt.target : stmt.result]);
    if (defined) {
      running.reached.add(stmt.row);
      if (type === 'NotStmt' && body.stopped !== null && within(body.stopped, stmt)) body.stopped = null;
      if (isConclusion(type, stmt, running)) body.fired = true;
      return;
    }
    if (type === 'BreakStmt' || type === 'ReturnLocalStmt' || type === 'ResetLocalStmt') return;
    if (body.stopped !== null && !further(stmt, body.stopped)) return;
    body.stopped = placeOf(stmt);
    body.seen = running.seen.filter(({ place }) => within(place, stmt));
  }

  #see(running: Running, stmt: StatementBody, value: Rego | undefined): void {
    const place = placeOf(stmt);
    const known = running.seen.findIndex((one) => samePlace(one.place, place));
    if (known !== -1) running.seen.splice(known, 1);
    else if (running.seen.length >= MAX_SEEN) running.seen.shift();
    running.seen.push({ place, value });
  }

  /** Rows of each body; null for blocks that only hand on what the bodies found. */
  #rowsOf(called: PlanFunction): readonly (ReadonlySet<number> | null)[] {
    const known = this.#rows.get(called);
    if (known !== undefined) return known;
    const made = called.blocks.map(({ stmts }) => {
      const rows = new Set<number>();
      return stmts !== null && collect(stmts, rows) ? rows : null;
    });
    this.#rows.set(called, made);
    return made;
  }
}

/** Where a body begins: some of what the compiler puts first has no place of its own. */
export function firstPlace(stmts: readonly Statement[]): Place | null {
  for (const { stmt } of stmts) {
    if (stmt.row > 0) return stmt;
    for (const block of stmt.blocks ?? []) {
      const inner = firstPlace(block.stmts ?? []);
      if (inner !== null) return inner;
    }
  }
  return null;
}

const GLUE = new Set([
  'IsDefinedStmt',
  'IsUndefinedStmt',
  'AssignVarOnceStmt',
  'ReturnLocalStmt',
  'MakeSetStmt',
  'MakeObjectStmt',
]);

/** Adds the rows of statements; true when one of them is of the rule itself. */
function collect(stmts: readonly Statement[], rows: Set<number>): boolean {
  let own = false;
  for (const { type, stmt } of stmts) {
    if (!GLUE.has(type)) own = true;
    if (stmt.row > 0) rows.add(stmt.row);
    for (const block of [...(stmt.blocks ?? []), ...(stmt.block === undefined ? [] : [stmt.block])]) {
      if (block.stmts !== null && collect(block.stmts, rows)) own = true;
    }
  }
  return own;
}

function isConclusion(type: string, stmt: StatementBody, { target, called }: Running): boolean {
  if (type === 'AssignVarOnceStmt') return target === null ? stmt.target === called.return : stmt.target === target;
  if (type === 'SetAddStmt') return stmt.set === called.return;
  return (type === 'ObjectInsertOnceStmt' || type === 'ObjectInsertStmt') && stmt.object === called.return;
}

function passedRows(body: TracedBody, reached: ReadonlySet<number>): number {
  const { stopped } = body;
  let passed = 0;
  for (const row of reached) if (stopped === null || row < stopped.row) passed++;
  return Math.min(passed, body.rows);
}

function placeOf({ file, row, col, end_row, end_col }: Place): Place {
  return {
    file,
    row,
    col,
    ...(end_row === undefined ? {} : { end_row }),
    ...(end_col === undefined ? {} : { end_col }),
  };
}

const samePlace = (a: Place, b: Place): boolean =>
  a.file === b.file && a.row === b.row && a.col === b.col && a.end_row === b.end_row && a.end_col === b.end_col;

/** Whether `a` begins behind `b`, or is the whole of which `b` is the beginning. */
function further(a: Place, b: Place): boolean {
  if (a.file !== b.file) return false;
  return a.row > b.row || (a.row === b.row && (a.col > b.col || within(b, a)));
}

/** Whether `inner` stands within `outer`. */
export function within(inner: Place, outer: Place): boolean {
  if (inner.file !== outer.file) return false;
  const [endRow, endCol] = [outer.end_row ?? outer.row, outer.end_col ?? outer.col];
  const afterStart = inner.row > outer.row || (inner.row === outer.row && inner.col >= outer.col);
  const [innerRow, innerCol] = [inner.end_row ?? inner.row, inner.end_col ?? inner.col];
  return afterStart && (innerRow < endRow || (innerRow === endRow && innerCol <= endCol));
}
