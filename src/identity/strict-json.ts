/**
 * Reads the JSON of tokens and key sets. Refuses what two parsers could read differently: a duplicate key, `__proto__`,
 * invalid UTF-8. Source: RFC 8725 2.4 (substitution by ambiguous claims), security 2.3.
 */
import { isUtf8 } from 'node:buffer';
import { isJsonObject, type JsonObject } from '../core/json.ts';

/** Nothing that identifies someone is nested deeper. */
const MAX_DEPTH = 16;
const QUOTE = 34;
const BACKSLASH = 92;

/** The object in these bytes, or null when they are not exactly one unambiguous JSON object. */
export function readJsonObject(bytes: Uint8Array): JsonObject | null {
  if (!isUtf8(bytes)) return null;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  return isJsonObject(value) && hasUniqueKeys(text) ? value : null;
}

/** One pass over text that JSON.parse accepted, so only strings and brackets need a look. */
function hasUniqueKeys(text: string): boolean {
  /** Keys seen per open object; null for an open array. */
  const open: (Set<string> | null)[] = [];
  let keyNext = false;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === QUOTE) {
      const end = stringEnd(text, i);
      const keys = open[open.length - 1];
      if (keyNext && keys) {
        if (!note(keys, text, i, end)) return false;
        keyNext = false;
      }
      i = end;
    } else if (c === 123 /* { */ || c === 91 /* [ */) {
      if (open.length === MAX_DEPTH) return false;
      keyNext = c === 123;
      open.push(keyNext ? new Set() : null);
    } else if (c === 125 /* } */ || c === 93 /* ] */) {
      open.pop();
      keyNext = false;
    } else if (c === 44 /* , */) {
      keyNext = open[open.length - 1] !== null;
    }
  }
  return true;
}

/** Index of the closing quote of the string that begins at `start`: the first one with an even number of backslashes before it. */
function stringEnd(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let first = end;
    while (text.charCodeAt(first - 1) === BACKSLASH) first--;
    if ((end - first) % 2 === 0) return end;
  }
  return text.length;
}

function note(keys: Set<string>, text: string, start: number, end: number): boolean {
  const raw = text.slice(start, end + 1);
  // Escapes are undone first: "i\u0073s" is "iss".
  const key = raw.includes('\\') ? (JSON.parse(raw) as string) : raw.slice(1, -1);
  if (key === '__proto__' || keys.has(key)) return false;
  keys.add(key);
  return true;
}
