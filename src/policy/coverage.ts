/** Which lines of the rules the tests beside them reach, as the compiler's test runner counts them. */
import { asRanges, type LineRange } from './explain/line-coverage.ts';
import { findOpa, run } from './opa-command.ts';

/** Lines that hold something to evaluate. */
export interface FileCoverage {
  readonly file: string;
  readonly covered: number;
  readonly lines: number;
  /** Uncovered lines as ranges, first and last included. */
  readonly uncovered: readonly LineRange[];
}

export interface Coverage {
  /** The rules' files, tests excluded, sorted by name. */
  readonly files: readonly FileCoverage[];
  /** Covered part of all lines, in percent. */
  readonly percent: number;
}

interface Range {
  readonly start: { readonly row: number };
  readonly end: { readonly row: number };
}

interface Report {
  readonly files?: Readonly<
    Record<string, { readonly covered?: readonly Range[]; readonly not_covered?: readonly Range[] }>
  >;
}

/** Runs the tests of `dir` and counts; a sentence where that cannot be. */
export async function measureCoverage(dir: string, env?: NodeJS.ProcessEnv): Promise<Coverage | string> {
  const opa = await findOpa(env);
  if (opa.path === null) return opa.message;
  // Counting lines makes tests slower: as in `runOpaTests`, the five seconds of opa are no limit for a busy machine.
  const flags = ['test', '--coverage', '--format', 'json', '--timeout', '30s', '--ignore', '*.schema.json', '.'];
  const { stdout, stderr } = await run(opa.path, flags, { cwd: dir });
  let report: Report;
  try {
    report = JSON.parse(stdout) as Report;
  } catch {
    return (stderr || stdout).trim() || 'the compiler gave no coverage';
  }
  return report.files === undefined ? 'the compiler gave no coverage' : coverageOf(report.files);
}

function coverageOf(reported: NonNullable<Report['files']>): Coverage {
  const files = Object.entries(reported)
    .filter(([file]) => !file.endsWith('_test.rego'))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([file, { covered = [], not_covered = [] }]) => fileCoverage(file, rows(covered), rows(not_covered)));
  const sum = (member: 'covered' | 'lines'): number => files.reduce((total, one) => total + one[member], 0);
  return { files, percent: percentOf(sum('covered'), sum('lines')) };
}

/** Percent with two decimals; nothing to cover is covered. Rounded down: 100 means all. */
export function percentOf(covered: number, lines: number): number {
  return lines === 0 ? 100 : Math.floor((covered / lines) * 10_000) / 100;
}

function rows(ranges: readonly Range[]): ReadonlySet<number> {
  const out = new Set<number>();
  for (const { start, end } of ranges) for (let row = start.row; row <= end.row; row++) out.add(row);
  return out;
}

function fileCoverage(file: string, covered: ReadonlySet<number>, missing: ReadonlySet<number>): FileCoverage {
  // A line of which only a part was reached is not covered.
  const uncovered = [...missing].sort((a, b) => a - b);
  const whole = [...covered].filter((row) => !missing.has(row)).length;
  return { file, covered: whole, lines: whole + uncovered.length, uncovered: asRanges(uncovered) };
}
