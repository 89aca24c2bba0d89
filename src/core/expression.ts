/** Regular expressions that operators write: tried on what callers send, so their time must grow with the text alone. */

/** Look-around, back-references, and a quantifier behind a group that itself holds a quantifier or an alternative. */
const UNSAFE = /\(\?(?:[=!]|<[=!])|\\[1-9]|\\k<|\((?:[^()\\]|\\.)*[*+{|](?:[^()\\]|\\.)*\)(?:[*+]|\{\d*,)/;
const NESTED = /\)[*+?]*\)(?:[*+]|\{\d*,)/;
const MAX_LENGTH = 512;

/** Why this expression is not taken, as a sentence for its author; null when it is good. */
export function expressionProblem(source: string): string | null {
  if (source.length > MAX_LENGTH || UNSAFE.test(source) || NESTED.test(source)) {
    return 'this expression may take more than linear time; use one without nested repeats, look-around or back-references';
  }
  try {
    new RegExp(source, 'u');
    return null;
  } catch {
    return 'not a regular expression';
  }
}
