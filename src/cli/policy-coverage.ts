/** The part of `portcullis policy test --coverage` that comes after the tests. */
import { type Coverage, measureCoverage, percentOf } from '../policy/coverage.ts';
import type { Io } from './io.ts';
import { CommandError, line, UsageError } from './io.ts';

/** Percent that must be covered; 0 where none is asked for. */
export function thresholdOf(text: string | undefined): number {
  if (text === undefined) return 0;
  const value = Number(text);
  if (text.trim() !== '' && value >= 0 && value <= 100) return value;
  throw new UsageError(`--threshold takes a percentage from 0 to 100, not ${text}`);
}

/** Throws CommandError where nothing could be measured. */
export async function coverageOf(dir: string, io: Io): Promise<Coverage> {
  const coverage = await measureCoverage(dir, io.env as NodeJS.ProcessEnv);
  if (typeof coverage === 'string') throw new CommandError(coverage);
  return coverage;
}

/** One line per file with what is not covered, then all together. */
export function printCoverage({ files, percent }: Coverage, threshold: number, io: Io): void {
  for (const { file, covered, lines, uncovered } of files) {
    const missing = uncovered.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(', ');
    line(io, `${file}: ${percentOf(covered, lines)} %${missing === '' ? '' : `  not covered: ${missing}`}`);
  }
  line(io, `${percent} % of the lines are covered`);
  if (percent < threshold) io.err(`less than the ${threshold} % asked for\n`);
}
