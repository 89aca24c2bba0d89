/**
 * Counts what a statement holds before a parser sees it: the time the parsers take grows with the number of tokens, not
 * of bytes. Source: contracts 3 (over-limit SQL); figures in docs/classification.md.
 */

/** Tokens one call may hold outside strings and comments, in all its statements. */
export const MAX_TOKENS = 4096;
/** Tokens that may be counted when strings and comments are taken for text of the statement, as another lexer could. */
export const MAX_HIDDEN_TOKENS = 16_384;
/** Open parentheses, brackets and braces at one place. */
export const MAX_NESTING = 64;

/** What was counted. */
export interface SqlSize {
  readonly tokens: number;
  /** With the words and signs inside strings and comments. */
  readonly allTokens: number;
  readonly nesting: number;
}

function isWordCode(code: number): boolean {
  return (
    (code >= 97 && code <= 122) ||
    (code >= 65 && code <= 90) ||
    (code >= 48 && code <= 57) ||
    code === 95 ||
    code === 36 ||
    code > 127
  );
}

/** Where the string, quoted name or comment that begins here ends (past its last character); `at` when none begins. */
function endOfQuoted(sql: string, at: number, code: number): number {
  if (code === 39 || code === 34 || code === 96) {
    const mark = String.fromCharCode(code);
    let end = sql.indexOf(mark, at + 1);
    // A doubled quote stands for itself.
    while (end >= 0 && sql.charCodeAt(end + 1) === code) end = sql.indexOf(mark, end + 2);
    return end < 0 ? sql.length : end + 1;
  }
  const next = sql.charCodeAt(at + 1);
  if (code === 45 && next === 45) {
    const end = sql.indexOf('\n', at);
    return end < 0 ? sql.length : end + 1;
  }
  if (code === 47 && next === 42) {
    const end = sql.indexOf('*/', at + 2);
    return end < 0 ? sql.length : end + 2;
  }
  return at;
}

/** Words, numbers and signs are one token each; a string and a quoted name are one, a comment is none. Linear, no copies. */
export function sqlSize(sql: string): SqlSize {
  let tokens = 0;
  let allTokens = 0;
  let depth = 0;
  let nesting = 0;
  let quotedUntil = 0;
  let inWord = false;
  for (let at = 0; at < sql.length; at++) {
    const code = sql.charCodeAt(at);
    if (isWordCode(code)) {
      if (!inWord) {
        allTokens++;
        if (at >= quotedUntil) tokens++;
        inWord = true;
      }
      continue;
    }
    inWord = false;
    if (code <= 32) continue;
    allTokens++;
    if (at < quotedUntil) continue;
    quotedUntil = endOfQuoted(sql, at, code);
    if (quotedUntil > at && (code === 45 || code === 47)) continue;
    tokens++;
    if (code === 40 || code === 91 || code === 123) {
      if (++depth > nesting) nesting = depth;
    } else if (code === 41 || code === 93 || code === 125) depth--;
  }
  return { tokens, allTokens, nesting };
}
