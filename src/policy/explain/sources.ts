/** The text of the sources a bundle was compiled from, where it lies beside it and is still the same. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { scrubText } from '../../core/redaction.ts';
import type { Bundle } from '../bundle.ts';
import type { Place, Plan } from '../plan/plan.ts';

const MAX_TEXT = 200;
/** Characters in which a secret is looked for: what is cut off earlier may be all that shows it is one. */
const MAX_SEARCHED = 4096;

/** A text for people: secrets hidden by their look, then cut. */
export function shortText(text: string): string {
  const clean = scrubText(text.slice(0, MAX_SEARCHED));
  return clean.length > MAX_TEXT ? `${clean.slice(0, MAX_TEXT)}…` : clean;
}

/** Looks up text; null where a source is not there or has changed since it was compiled. */
export interface SourceTexts {
  /** The line, without the white space around it. */
  line(place: Place): string | null;
  /** What stands at the place, on one line. */
  slice(place: Place): string | null;
}

/** Sources below a directory. An archive has none. */
export function sourceTexts(plan: Plan, dir: string, bundle: Bundle): SourceTexts {
  const known = new Map<string, readonly string[] | null>();
  const linesOf = (place: Place): readonly string[] | null => {
    const name = plan.files[place.file];
    if (name === undefined) return null;
    let lines = known.get(name);
    if (lines === undefined) {
      lines = readLines(dir, name, bundle.sources?.[name]);
      known.set(name, lines);
    }
    return lines;
  };
  return {
    line: (place) => linesOf(place)?.[place.row - 1]?.trim() ?? null,
    slice: (place) => sliceOf(linesOf(place), place),
  };
}

function readLines(dir: string, name: string, digest: string | undefined): readonly string[] | null {
  const path = join(dir, name);
  if (name.includes('..') || !existsSync(path) || !statSync(path).isFile()) return null;
  const bytes = readFileSync(path);
  if (digest !== undefined && createHash('sha256').update(bytes).digest('hex') !== digest) return null;
  return bytes.toString('utf8').split('\n');
}

function sliceOf(lines: readonly string[] | null, { row, col, end_row, end_col }: Place): string | null {
  if (lines === null || end_row === undefined || end_col === undefined) return null;
  const part = lines.slice(row - 1, end_row);
  if (part.length === 0) return null;
  // Columns count bytes.
  const cut = part.map((line, i) => {
    const bytes = Buffer.from(line);
    const from = i === 0 ? col - 1 : 0;
    const to = i === part.length - 1 ? end_col - 1 : bytes.length;
    return bytes.subarray(from, to).toString('utf8').trim();
  });
  const text = cut.join(' ').trim();
  return text === '' ? null : text;
}
