/** What the rules of a policy cost and which of their lines were reached, as tables for people. */
import type { JsonValue } from '../core/json.ts';
import type { Bundle } from '../policy/bundle.ts';
import type { Explanation } from '../policy/explain/explain.ts';
import type { LineCoverage, LineRange } from '../policy/explain/line-coverage.ts';
import { type Profile, Profiler } from '../policy/explain/profile.ts';
import { renderHeading, renderMasked } from '../policy/explain/render.ts';
import { type SourceTexts, sourceTexts } from '../policy/explain/sources.ts';
import { asPlanFault } from '../policy/plan/interpreter.ts';
import { readPlan } from '../policy/plan/plan.ts';
import { fromJson } from '../policy/wasm/values.ts';
import { CommandError, type Io, line, UsageError } from './io.ts';
import { printable } from './printable.ts';
import { table } from './table.ts';

const DEFAULT_REPEATS = 25;
const MAX_REPEATS = 10_000;
const MAX_RULES = 25;
const MAX_LINES = 10;
const MAX_TEXT = 80;

interface ProfileValues {
  readonly profile?: boolean | undefined;
  readonly repeat?: string | undefined;
}

/** Runs against the clock that are asked for; 0: no profile. */
export function repeatOf({ profile = false, repeat }: ProfileValues): number {
  if (!profile && repeat !== undefined) throw new UsageError('--repeat goes with --profile');
  if (repeat !== undefined && !(/^\d+$/.test(repeat) && Number(repeat) >= 1 && Number(repeat) <= MAX_REPEATS)) {
    throw new UsageError(`--repeat takes a number from 1 to ${MAX_REPEATS}, not ${repeat}`);
  }
  return profile ? Number(repeat ?? DEFAULT_REPEATS) : 0;
}

/** The decision, then the profile and the coverage that were asked for. */
export function printMeasures(one: Explanation, io: Io): void {
  for (const text of [...renderHeading(one), ...renderMasked(one)]) line(io, printable(text));
  if (one.profile !== undefined) printProfile(one.profile, io);
  if (one.coverage !== undefined) printReached(one.coverage, io);
}

/** Rules by their own time, then the lines with the most statements. */
export function printProfile(profile: Profile, io: Io): void {
  const { inputs, calls, statements, total_us, repeats, rules, lines } = profile;
  const over = inputs === 1 ? '' : ` over ${inputs} inputs`;
  line(io, `${statements} statements in ${calls} calls of rules, ${whole(total_us)} µs${over}`);
  line(
    io,
    `times: median of ${repeats} ${repeats === 1 ? 'run' : 'runs'} in the interpreter of the plan, not in WASM:`,
  );
  line(io, 'they compare rules with one another, and the module is far faster; counts are exact');
  const rows = rules
    .slice(0, MAX_RULES)
    .map((rule) => [
      ...[rule.own_us.toFixed(1), rule.total_us.toFixed(1), `${(rule.share * 100).toFixed(1)} %`],
      ...[rule.calls, rule.fired, rule.undefined, rule.statements].map(String),
      ...[printable(rule.rule), printable(rule.at ?? ''), short(rule.text)],
    ]);
  line(io, '');
  figures(
    [['own µs', 'total µs', 'share', 'calls', 'fired', 'undefined', 'statements', 'rule', 'at', ''], ...rows],
    7,
    io,
  );
  const more = rules.length - rows.length + profile.rules_left_out;
  if (more > 0) line(io, `… ${more} more with --json`);
  line(io, '');
  const hot = lines
    .slice(0, MAX_LINES)
    .map(({ at, text, ...counts }) => [`${counts.statements}`, `${counts.failed}`, printable(at), short(text)]);
  figures([['statements', 'failed', 'line', ''], ...hot], 2, io);
}

/** Lines of each file that were reached, in part or not; files without any are only named. */
export function printReached({ files, files_left_out }: LineCoverage, io: Io): void {
  line(io, '');
  const untouched: string[] = [];
  for (const { file, reached, partly, not_reached } of files) {
    const [whole, part, not] = [linesIn(reached), linesIn(partly), linesIn(not_reached)];
    if (whole + part === 0) {
      untouched.push(printable(file));
      continue;
    }
    line(io, `${printable(file)}: ${whole + part} of ${whole + part + not} lines reached`);
    if (whole > 0) line(io, `  reached      ${rangesText(reached)}`);
    if (part > 0) line(io, `  in part      ${rangesText(partly)}`);
    if (not > 0) line(io, `  not reached  ${rangesText(not_reached)}`);
  }
  if (untouched.length > 0) line(io, `not reached at all: ${untouched.join(', ')}`);
  if (files_left_out > 0) line(io, `${files_left_out} more files are not listed`);
}

const linesIn = (ranges: readonly LineRange[]): number => ranges.reduce((sum, [from, to]) => sum + to - from + 1, 0);

const rangesText = (ranges: readonly LineRange[]): string =>
  ranges.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(', ');

/** A table whose first columns are figures, with their ends below one another. */
function figures(rows: readonly (readonly string[])[], columns: number, io: Io): void {
  const widths = Array.from({ length: columns }, (_, at) => Math.max(...rows.map((row) => row[at]?.length ?? 0)));
  table(
    rows.map((row) => row.map((text, at) => text.padStart(widths[at] ?? 0))),
    io,
  );
}

function short(text: string | null): string {
  const shown = printable(text ?? '');
  return shown.length > MAX_TEXT ? `${shown.slice(0, MAX_TEXT)}…` : shown;
}

const whole = (micros: number): string => Math.round(micros).toString();

/** A profile over documents, one after the other. */
export class DocumentProfile {
  readonly #profiler: Profiler;
  readonly #texts: SourceTexts;
  readonly #repeat: number;
  #faults = 0;

  /** `dir` has the sources. Throws CommandError where the bundle holds no plan. */
  constructor(bundle: Bundle, dir: string, repeat: number) {
    if (bundle.plan === null)
      throw new CommandError('the bundle holds no plan, so it cannot be profiled: build it again');
    const plan = readPlan(bundle.plan);
    this.#profiler = new Profiler(plan, fromJson(bundle.data));
    this.#texts = sourceTexts(plan, dir, bundle);
    this.#repeat = repeat;
  }

  add(entrypoint: string, input: JsonValue | undefined, now: number): void {
    try {
      this.#profiler.add(entrypoint, input === undefined ? undefined : fromJson(input), now, this.#repeat);
    } catch (fault) {
      asPlanFault(fault);
      this.#faults++;
    }
  }

  /** To standard error: standard output has the values. */
  print(json: boolean, io: Io): void {
    const aside: Io = { ...io, out: (text) => io.err(text) };
    const profile = this.#profiler.profile(this.#texts);
    if (json) {
      line(aside, JSON.stringify({ not_profiled: this.#faults, profile }));
      return;
    }
    if (this.#faults > 0) line(aside, `${this.#faults} not profiled: fault`);
    if (profile.inputs > 0) printProfile(profile, aside);
  }
}
