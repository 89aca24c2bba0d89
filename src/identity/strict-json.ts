/**
 * Reads the JSON of tokens and key sets. Refuses what two parsers could read differently: a duplicate key, `__proto__`,
 * invalid UTF-8. Source: RFC 8725 2.4 (substitution by ambiguous claims), security 2.3.
 */
import { isUtf8 } from 'node:buffer';
import { isJsonObject, type JsonObject, type JsonValue } from '../core/json.ts';

/** Nothing that identifies someone is nested deeper. */
const MAX_DEPTH = 16;
const QUOTE = 34;
const COLON = 58;
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
  return isJsonObject(value) && hasUniqueKeys(text, value) ? value : null;
}

/**
 * JSON.parse keeps one of two members with the same name, however each is spelled: so no name came twice when as many
 * members were kept as were written.
 */
function hasUniqueKeys(text: string, value: JsonObject): boolean {
  return membersOf(value, 1) === writtenMembers(text);
}

/** Members of all objects in a value; NaN when it is nested too deeply or holds `__proto__`. */
function membersOf(value: JsonValue, depth: number): number {
  if (typeof value !== 'object' || value === null) return 0;
  if (depth > MAX_DEPTH) return Number.NaN;
  let count = 0;
  if (Array.isArray(value)) {
    for (const item of value as readonly JsonValue[]) count += membersOf(item, depth + 1);
    return count;
  }
  const object = value as JsonObject;
  for (const key in object) {
    if (key === '__proto__') return Number.NaN;
    count += 1 + membersOf(object[key] ?? null, depth + 1);
  }
  return count;
}

/** In text that JSON.parse accepted each member has one colon outside of strings, and nothing else has any. */
function writtenMembers(text: string): number {
  let count = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === QUOTE) i = stringEnd(text, i);
    else if (c === COLON) count++;
  }
  return count;
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
