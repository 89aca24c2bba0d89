/**
 * Which lines of a policy a decision reached. What counts is what begins on a line: the head of a definition, reached when
 * the definition came to its end, and every expression, reached when it was evaluated, whatever came of it. That is the
 * rule of `opa eval --coverage` with `--disable-indexing` and `--disable-early-exit`: a plan, like the module, tries every
 * definition, where OPA's own evaluator skips those that an index or an earlier answer tells it cannot matter.
 */
import type { Operand, Place, Plan, PlanFunction, Statement } from '../plan/plan.ts';
import { eachStatement, type StatementCount } from './profile-counts.ts';

/** First and last line, both included. */
export type LineRange = readonly [number, number];

/** Lines of a file on which something begins that the plan evaluates; every such line is in one of the three lists. */
export interface ReachedLines {
  readonly file: string;
  readonly reached: readonly LineRange[];
  /** Something on the line was reached and something was not: a condition that did not hold, mostly. */
  readonly partly: readonly LineRange[];
  readonly not_reached: readonly LineRange[];
}

/** Files sorted by name. */
export interface LineCoverage {
  readonly files: readonly ReachedLines[];
  /** Files beyond the limit of the list. */
  readonly files_left_out: number;
}

/** Ranges after which no further file is listed. */
const MAX_RANGES = 20_000;

/** Of rules that no entrypoint can reach the plan holds nothing, so they are in no list. */
export function lineCoverage(plan: Plan, counts: ReadonlyMap<Statement, StatementCount>): LineCoverage {
  const files = new Map<number, Rows>();
  for (const called of plan.functions.values()) {
    const heads = headsOf(called);
    eachStatement(called.blocks, (statement) => {
      const { stmt } = statement;
      if (stmt.row === 0) return;
      const ends = !heads.places.has(keyOf(stmt)) || heads.ends.has(statement);
      mark(files, stmt, ends && counts.has(statement));
    });
  }
  const all = [...files]
    .map(([file, rows]) => reachedLines(plan.files[file] ?? '?', rows))
    .sort((a, b) => (a.file < b.file ? -1 : 1));
  let ranges = 0;
  const listed = all.filter(({ reached, partly, not_reached }) => {
    const fits = ranges < MAX_RANGES;
    ranges += reached.length + partly.length + not_reached.length;
    return fits;
  });
  return { files: listed, files_left_out: all.length - listed.length };
}

/** What begins on a row, by its place, and whether it was reached. */
type Rows = Map<number, Map<string, boolean>>;

function mark(files: Map<number, Rows>, place: Place, reached: boolean): void {
  const rows = files.get(place.file) ?? new Map<number, Map<string, boolean>>();
  files.set(place.file, rows);
  const there = rows.get(place.row) ?? new Map<string, boolean>();
  rows.set(place.row, there);
  const key = keyOf(place);
  there.set(key, reached || there.get(key) === true);
}

const keyOf = ({ file, row, col, end_row, end_col }: Place): string => `${file}:${row}:${col}:${end_row}:${end_col}`;

interface Heads {
  /** Statements that give a definition its value, or add to that of the rule. */
  readonly ends: ReadonlySet<Statement>;
  /** Where they stand: what else stands there belongs to the head and is no expression. */
  readonly places: ReadonlySet<string>;
}

function headsOf(called: PlanFunction): Heads {
  const locals = new Set<number>();
  const ends = new Set<Statement>();
  const places = new Set<string>();
  eachStatement(called.blocks, ({ type, stmt }) => {
    if (type === 'ResetLocalStmt') locals.add(stmt.target);
  });
  eachStatement(called.blocks, (statement) => {
    if (!endsDefinition(statement, called, locals)) return;
    ends.add(statement);
    places.add(keyOf(statement.stmt));
  });
  return { ends, places };
}

function endsDefinition({ type, stmt }: Statement, called: PlanFunction, locals: ReadonlySet<number>): boolean {
  switch (type) {
    case 'AssignVarOnceStmt':
      // What a definition came to is handed on to the answer of the rule: at the place of the last one, whichever it was.
      return stmt.target !== called.return || !isLocal(stmt.source, locals);
    case 'SetAddStmt':
      return stmt.set === called.return;
    case 'ObjectInsertStmt':
    case 'ObjectInsertOnceStmt':
      return stmt.object === called.return;
    default:
      return false;
  }
}

const isLocal = (source: Operand | number, locals: ReadonlySet<number>): boolean =>
  typeof source === 'object' && source.type === 'local' && locals.has(source.value);

function reachedLines(file: string, rows: Rows): ReachedLines {
  const lists: Record<'reached' | 'partly' | 'not_reached', number[]> = { reached: [], partly: [], not_reached: [] };
  for (const [row, there] of rows) {
    const all = [...there.values()];
    lists[all.every(Boolean) ? 'reached' : all.some(Boolean) ? 'partly' : 'not_reached'].push(row);
  }
  const ranges = (list: number[]): readonly LineRange[] => asRanges(list.sort((a, b) => a - b));
  return {
    file,
    reached: ranges(lists.reached),
    partly: ranges(lists.partly),
    not_reached: ranges(lists.not_reached),
  };
}

/** Sorted lines as ranges; only lines that follow one another are one. */
export function asRanges(sorted: readonly number[]): readonly LineRange[] {
  const out: [number, number][] = [];
  for (const row of sorted) {
    const last = out.at(-1);
    if (last !== undefined && last[1] === row - 1) last[1] = row;
    else out.push([row, row]);
  }
  return out;
}
