/**
 * `regex.globs_match`: whether some text fits both of two simple patterns (characters, `.`, sets, each with `+` or `*`).
 * Source: OPA policy reference.
 */
import { asText, Mismatch, pure } from './support.ts';

/** Code points a place takes; null: any. */
interface Place {
  readonly chars: ReadonlySet<number> | null;
  readonly flag: '' | '+' | '*';
}

const MAX_PLACES = 1000;

function places(pattern: string): Place[] {
  const chars = [...pattern];
  const out: Place[] = [];
  for (let at = 0; at < chars.length; ) {
    const [taken, end] = placeAt(chars, at);
    const flag = chars[end];
    const repeated = flag === '+' || flag === '*';
    out.push({ chars: taken, flag: repeated ? flag : '' });
    at = repeated ? end + 1 : end;
  }
  if (out.length > MAX_PLACES) throw new Mismatch('the pattern is too long');
  return out;
}

/** What stands at a place, and where it ends. */
function placeAt(chars: readonly string[], at: number): readonly [ReadonlySet<number> | null, number] {
  const char = chars[at] ?? '';
  if (char === '.') return [null, at + 1];
  if (char === '[') return setAt(chars, at + 1);
  if (char === ']' || char === '+' || char === '*') throw new Mismatch(`${char} has nothing before it`);
  const literal = char === '\\' ? chars[at + 1] : char;
  if (literal === undefined) throw new Mismatch('nothing is escaped');
  return [new Set([codeOf(literal)]), char === '\\' ? at + 2 : at + 1];
}

function setAt(chars: readonly string[], start: number): readonly [ReadonlySet<number>, number] {
  const taken = new Set<number>();
  let at = start;
  const next = (): number => {
    const char = chars[at++];
    const literal = char === '\\' ? chars[at++] : char;
    if (literal === undefined) throw new Mismatch('the set does not end');
    return codeOf(literal);
  };
  while (chars[at] !== ']') {
    const low = next();
    let high = low;
    if (chars[at] === '-' && chars[at + 1] !== ']') {
      at++;
      high = next();
    }
    if (high < low || high - low > 0xffff) throw new Mismatch('not a range');
    for (let code = low; code <= high; code++) taken.add(code);
  }
  return [taken, at + 1];
}

function codeOf(char: string): number {
  return char.codePointAt(0) ?? 0;
}

function meet(a: Place, b: Place): boolean {
  if (a.chars === null) return b.chars === null || b.chars.size > 0;
  if (b.chars === null) return a.chars.size > 0;
  for (const code of a.chars) if (b.chars.has(code)) return true;
  return false;
}

/** Walks both patterns side by side; each pair of positions is looked at once. `inside`: the place was used already. */
function intersect(left: readonly Place[], right: readonly Place[]): boolean {
  const seen = new Set<number>();
  const open: (readonly [number, boolean, number, boolean])[] = [[0, false, 0, false]];
  const width = (right.length + 1) * 4;
  for (let state = open.pop(); state !== undefined; state = open.pop()) {
    const [i, usedI, j, usedJ] = state;
    const id = i * width + j * 4 + (usedI ? 2 : 0) + (usedJ ? 1 : 0);
    if (seen.has(id)) continue;
    seen.add(id);
    const a = left[i];
    const b = right[j];
    if (a === undefined && b === undefined) return true;
    if (a !== undefined && (a.flag === '*' || (a.flag === '+' && usedI))) open.push([i + 1, false, j, usedJ]);
    if (b !== undefined && (b.flag === '*' || (b.flag === '+' && usedJ))) open.push([i, usedI, j + 1, false]);
    if (a === undefined || b === undefined || !meet(a, b)) continue;
    open.push([a.flag === '' ? i + 1 : i, a.flag !== '', b.flag === '' ? j + 1 : j, b.flag !== '']);
  }
  return false;
}

export const GLOBS = pure({
  'regex.globs_match': ([left, right]) => intersect(places(asText(left)), places(asText(right))),
});
