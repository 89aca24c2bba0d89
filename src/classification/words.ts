/** Names cut into words, so that `get` is found in `getTarget` and not in `target`. Source: acceptance SF-03, SF-05, SF-06. */

const LOWER = 1;
const UPPER = 2;
const DIGIT = 3;

function kindOf(code: number): number {
  if (code >= 97 && code <= 122) return LOWER;
  if (code >= 65 && code <= 90) return UPPER;
  if (code >= 48 && code <= 57) return DIGIT;
  return code > 127 ? LOWER : 0;
}

/**
 * Lower-case words of an identifier: cut at every non-letter, at `aB` and at the last capital of `HTTPServer`.
 * Compatibility forms (full-width letters) are folded first. Long names are read up to 256 characters.
 */
export function wordsOf(name: string): string[] {
  const text = name.length > 256 ? name.slice(0, 256).normalize('NFKC') : name.normalize('NFKC');
  const words: string[] = [];
  let start = -1;
  let previous = 0;
  for (let i = 0; i < text.length; i++) {
    const kind = kindOf(text.charCodeAt(i));
    if (kind === 0) {
      if (start >= 0) words.push(text.slice(start, i).toLowerCase());
      start = -1;
    } else if (start < 0) {
      start = i;
    } else if (kind === UPPER && previous !== UPPER) {
      words.push(text.slice(start, i).toLowerCase());
      start = i;
    } else if (kind === LOWER && previous === UPPER && i - 1 > start) {
      words.push(text.slice(start, i - 1).toLowerCase());
      start = i - 1;
    }
    previous = kind;
  }
  if (start >= 0) words.push(text.slice(start).toLowerCase());
  return words;
}

/** True when one of the words is in the table. */
export function hasAny(words: readonly string[], table: ReadonlySet<string>): boolean {
  for (const word of words) if (table.has(word)) return true;
  return false;
}
