/** OPA's glob patterns as regular expressions: `*`, `**`, `?`, sets, ranges, alternatives. Source: OPA policy reference. */
import { Mismatch } from '../../wasm/builtins/support.ts';

const quote = (char: string): string => (/[\w\s]/u.test(char) ? char : `\\${char}`);

/** A pattern that fits what the glob fits, from start to end. Throws Mismatch for no glob. */
export function globPattern(glob: string, delimiters: readonly string[]): string {
  const chars = [...glob];
  const single = delimiters.length === 0 ? '[\\s\\S]' : `[^${delimiters.map(quote).join('')}]`;
  let out = '';
  let depth = 0;
  for (let at = 0; at < chars.length; at++) {
    const char = chars[at] ?? '';
    if (char === '*') {
      const all = chars[at + 1] === '*';
      while (chars[at + 1] === '*') at++;
      out += all ? '[\\s\\S]*' : `${single}*`;
    } else if (char === '?') out += single;
    else if (char === '[') {
      const end = setEnd(chars, at);
      out += setPattern(chars.slice(at + 1, end));
      at = end;
    } else if (char === '{') {
      depth++;
      out += '(?:';
    } else if (char === '}' && depth > 0) {
      depth--;
      out += ')';
    } else if (char === ',' && depth > 0) out += '|';
    else if (char === '\\') out += quote(chars[++at] ?? '\\');
    else out += quote(char);
  }
  if (depth !== 0) throw new Mismatch('the alternatives do not end');
  return `^(?:${out})$`;
}

function setEnd(chars: readonly string[], start: number): number {
  const end = chars.indexOf(']', start + 1);
  if (end === -1) throw new Mismatch('the set does not end');
  return end;
}

function setPattern(chars: readonly string[]): string {
  const negated = chars[0] === '!';
  const members = negated ? chars.slice(1) : chars;
  const isRange = members.length === 3 && members[1] === '-';
  const body = isRange ? `${quote(members[0] ?? '')}-${quote(members[2] ?? '')}` : members.map(quote).join('');
  return `[${negated ? '^' : ''}${body}]`;
}
