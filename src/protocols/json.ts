/**
 * Strict JSON: what is decided on is what is forwarded, so a text that two parsers could read differently is refused.
 * One native `JSON.parse` builds the value; a byte scan before it and a walk after it refuse what the native parser
 * lets through. Duplicate keys need no unescaping: the native parser merges them, so the value then has fewer members
 * than the text has colons. Source: contracts 3 (Bytes), RFC 8259, RFC 7493 (I-JSON).
 */
import { isUtf8 } from 'node:buffer';
import { GatewayError } from '../core/errors.ts';
import type { JsonObject, JsonValue } from '../core/json.ts';
import { duplicatePosition, firstInvalidByte, syntaxPosition } from './json-position.ts';

/** Bounds of one JSON text; more is refused. */
export interface JsonLimits {
  /** Nesting of arrays and objects. Default 64. */
  readonly maxDepth?: number;
  /** Object members in the whole text. Default 100,000. */
  readonly maxKeys?: number;
  /** Bytes of one string or key as written. Default: no bound besides the size of the body. */
  readonly maxString?: number;
}

const DEFAULT_DEPTH = 64;
const DEFAULT_KEYS = 100_000;
/** Shortest integer literal that can leave the safe range: 16 digits. */
const UNSAFE_DIGITS = 16;
/** From this many bytes into a string the native search wins over the loop. */
const NATIVE_SEARCH_AFTER = 192;

const QUOTE = 0x22;
const MINUS = 0x2d;
const DOT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;
const COLON = 0x3a;
const OPEN_BRACKET = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_BRACKET = 0x5d;
const LOWER_U = 0x75;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

const malformed = (what: string, at: number): GatewayError =>
  new GatewayError('INVALID_REQUEST', { message: `JSON: ${what} at byte ${at}`, details: { position: at } });

/**
 * Parses one JSON text. Throws INVALID_REQUEST, with the byte position, for malformed JSON, invalid UTF-8, a byte order
 * mark, duplicate keys (compared unescaped), a `__proto__` key, lone surrogates, integer literals beyond ±(2^53−1),
 * numbers that overflow, and anything beyond the limits. Objects in the answer have the ordinary prototype (taking it off
 * costs half of the whole parse): read keys the caller chooses with `Object.hasOwn`.
 */
export function parseStrict(bytes: Buffer, limits: JsonLimits = {}): JsonValue {
  if (!isUtf8(bytes)) throw malformed('invalid UTF-8', firstInvalidByte(bytes));
  const members = scan(bytes, limits.maxDepth ?? DEFAULT_DEPTH, limits.maxString ?? bytes.length);
  if (members > (limits.maxKeys ?? DEFAULT_KEYS))
    throw malformed(`more than ${limits.maxKeys ?? DEFAULT_KEYS} members`, 0);
  const text = bytes.toString('utf8');
  let value: JsonValue;
  try {
    value = JSON.parse(text);
  } catch {
    throw malformed('syntax error', syntaxPosition(text));
  }
  if (typeof value === 'object' && value !== null && countMembers(value) !== members) {
    throw malformed('duplicate key', duplicatePosition(text));
  }
  return value;
}

/** Member count of the text; throws for what the native parser would accept or round. Tolerates bad syntax. */
function scan(bytes: Buffer, maxDepth: number, maxString: number): number {
  const end = bytes.length;
  let members = 0;
  let depth = 0;
  for (let at = 0; at < end; at++) {
    const byte = bytes[at] as number;
    if (byte === QUOTE) {
      const close = stringEnd(bytes, at + 1);
      if (close - at - 1 > maxString) throw malformed('string too long', at);
      at = close;
    } else if (byte === COLON) {
      members++;
    } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
      if (++depth > maxDepth) throw malformed(`nesting deeper than ${maxDepth}`, at);
    } else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
      depth--;
    } else if (byte <= NINE && (byte >= ZERO || byte === MINUS)) {
      at = numberEnd(bytes, at) - 1;
    }
  }
  return members;
}

/** Index of the closing quote (or the end of the text). Refuses escaped surrogates that are not a pair. */
function stringEnd(bytes: Buffer, start: number): number {
  const end = bytes.length;
  let at = start;
  let patience = at + NATIVE_SEARCH_AFTER;
  while (at < end) {
    const byte = bytes[at] as number;
    if (byte === QUOTE) return at;
    if (byte === BACKSLASH) {
      at = bytes[at + 1] === LOWER_U ? escapeEnd(bytes, at) : at + 2;
    } else if (++at >= patience) {
      at = plainEnd(bytes, at);
      patience = at + NATIVE_SEARCH_AFTER;
    }
  }
  return end;
}

/** First quote or backslash from `at`, found natively; the search for a backslash never looks past the quote. */
function plainEnd(bytes: Buffer, at: number): number {
  const quote = bytes.indexOf(QUOTE, at);
  const limit = quote === -1 ? bytes.length : quote;
  const backslash = bytes.subarray(at, limit).indexOf(BACKSLASH);
  return backslash === -1 ? limit : at + backslash;
}

/** Index after a `\uXXXX` escape, or after the pair when it is a surrogate. */
function escapeEnd(bytes: Buffer, at: number): number {
  const unit = hexUnit(bytes, at + 2);
  if (unit < 0xd800 || unit > 0xdfff) return at + 6;
  if (unit < 0xdc00 && bytes[at + 6] === BACKSLASH && bytes[at + 7] === LOWER_U) {
    const low = hexUnit(bytes, at + 8);
    if (low >= 0xdc00 && low <= 0xdfff) return at + 12;
  }
  throw malformed('lone surrogate', at);
}

/** The four hex digits at `at`, or -1 (then the native parser refuses the text). */
function hexUnit(bytes: Buffer, at: number): number {
  let unit = 0;
  for (let i = at; i < at + 4; i++) {
    const byte = bytes[i] ?? 0;
    const lower = byte | 0x20;
    if (byte >= ZERO && byte <= NINE) unit = unit * 16 + byte - ZERO;
    else if (lower >= 0x61 && lower <= 0x66) unit = unit * 16 + lower - 0x57;
    else return -1;
  }
  return unit;
}

/** Index after a number literal. Refuses integers that lose digits and numbers that overflow. */
function numberEnd(bytes: Buffer, start: number): number {
  const end = bytes.length;
  let at = bytes[start] === MINUS ? start + 1 : start;
  const digits = at;
  while (at < end && isDigit(bytes[at])) at++;
  const long = at - digits >= UNSAFE_DIGITS;
  const integer = bytes[at] !== DOT && ((bytes[at] ?? 0) | 0x20) !== 0x65;
  if (integer) {
    if (long && !Number.isSafeInteger(Number(bytes.toString('latin1', start, at)))) {
      throw malformed('integer beyond ±(2^53−1)', start);
    }
    return at;
  }
  while (at < end && isNumberByte(bytes[at] as number)) at++;
  const value = Number(bytes.toString('latin1', start, at));
  if (value === Number.POSITIVE_INFINITY || value === Number.NEGATIVE_INFINITY)
    throw malformed('number overflow', start);
  return at;
}

const isDigit = (byte: number | undefined): boolean => byte !== undefined && byte >= ZERO && byte <= NINE;
const isNumberByte = (byte: number): boolean =>
  (byte >= ZERO && byte <= NINE) || byte === DOT || byte === MINUS || byte === 0x2b || (byte | 0x20) === 0x65;

/** Counts the members and refuses `__proto__`. Recursion is bounded: the scan has refused deep texts. */
function countMembers(value: JsonObject | readonly JsonValue[]): number {
  let members = 0;
  if (Array.isArray(value)) {
    for (const item of value as readonly JsonValue[]) {
      if (typeof item === 'object' && item !== null) members += countMembers(item);
    }
    return members;
  }
  const object = value as JsonObject;
  for (const key in object) {
    if (key === '__proto__') throw malformed('key __proto__', 0);
    members++;
    const item = object[key];
    if (typeof item === 'object' && item !== null) members += countMembers(item);
  }
  return members;
}
