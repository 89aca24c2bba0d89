/**
 * One canonical spelling per request target. What is authorised is what is forwarded, so a target that two parties
 * could read differently is refused instead of repaired. Source: RFC 3986 sections 3.3 and 6.2, RFC 9112 section 3.2.
 */

/** A target in its one spelling, or why there is none. */
export type CanonicalTarget =
  | { readonly ok: true; readonly path: string; readonly query: string }
  | { readonly ok: false; readonly reason: string };

const refuse = (reason: string): CanonicalTarget => ({ ok: false, reason });

/** What to do with a byte of the path. */
const PLAIN = 0;
const SPECIAL = 1;
/** Printable, but not a `pchar`: it stands percent-encoded in the canonical path. */
const ENCODE = 2;
const FORBIDDEN = 3;

const SLASH = 0x2f;
const DOT = 0x2e;
const PERCENT = 0x25;
const QUESTION = 0x3f;
const SPACE = 0x20;

const HEX = '0123456789ABCDEF';

const classes = makeClasses();

function makeClasses(): Uint8Array {
  const table = new Uint8Array(256).fill(FORBIDDEN);
  for (let code = 0x21; code < 0x7f; code++) table[code] = ENCODE;
  const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~!$&'()*+,=:@";
  for (const char of plain) table[char.charCodeAt(0)] = PLAIN;
  for (const char of '/.?%') table[char.charCodeAt(0)] = SPECIAL;
  // `;` starts matrix parameters, which some servers cut off before they match.
  for (const char of ';\\#') table[char.charCodeAt(0)] = FORBIDDEN;
  return table;
}

/**
 * @param target the request target as received, in origin form (`/path?query`)
 * @returns path (starts with `/`, unreserved characters decoded, escapes in upper case) and query with its `?` or ''
 */
export function canonicalTarget(target: string): CanonicalTarget {
  if (target.charCodeAt(0) !== SLASH) return refuse('the target does not start with a slash');
  let previous = SLASH;
  let end = target.length;
  for (let i = 1; i < end; i++) {
    const code = target.charCodeAt(i);
    const kind = code < 256 ? classes[code] : FORBIDDEN;
    if (kind === PLAIN) {
      previous = code;
    } else if (kind === SPECIAL) {
      if (code === QUESTION) {
        end = i;
        break;
      }
      if (code === PERCENT) return slowTarget(target);
      if (code === SLASH && previous === SLASH) return refuse('the path has an empty segment');
      if (code === SLASH && previous === DOT) return refuse('a path segment ends with a dot');
      previous = code;
    } else if (kind === ENCODE) {
      return slowTarget(target);
    } else {
      return refuse('the path has a character that is read in different ways');
    }
  }
  if (previous === DOT) return refuse('a path segment ends with a dot');
  if (end === target.length) return { ok: true, path: target, query: '' };
  return withQuery(target.slice(0, end), target.slice(end));
}

function withQuery(path: string, query: string): CanonicalTarget {
  for (let i = 0; i < query.length; i++) {
    const code = query.charCodeAt(i);
    if (code <= SPACE || code >= 0x7f) return refuse('the query has a control or non-ASCII character');
    if (code === 0x23) return refuse('the target has a fragment');
  }
  return { ok: true, path, query };
}

/** Targets with escapes: rare, so clarity goes before speed. */
function slowTarget(target: string): CanonicalTarget {
  const mark = target.indexOf('?');
  const raw = mark === -1 ? target : target.slice(0, mark);
  const bytes = decodeOnce(raw);
  if (typeof bytes === 'string') return refuse(bytes);
  const fault = doubleFault(bytes) ?? textFault(bytes) ?? segmentFault(bytes);
  if (fault !== null) return refuse(fault);
  return withQuery(encode(bytes), mark === -1 ? '' : target.slice(mark));
}

/** A byte that was written as an escape although it is a delimiter keeps its escape: 256 is added to mark it. */
const KEPT = 256;

/** Decodes each escape exactly once, or says what is wrong. */
function decodeOnce(raw: string): number[] | string {
  const bytes: number[] = [];
  for (let i = 0; i < raw.length; i++) {
    const code = raw.charCodeAt(i);
    if (code !== PERCENT) {
      if (code > 255 || classes[code] === FORBIDDEN) return 'the path has a character that is read in different ways';
      bytes.push(code);
      continue;
    }
    const byte = hexByte(raw, i + 1);
    if (byte === -1) return 'the path has a broken escape';
    if (isEncodedDelimiter(byte)) return 'the path has an encoded delimiter';
    // A literal plus is read as a space by form decoders, so its escape is kept; a percent sign must stay an escape.
    bytes.push(byte === PERCENT || byte === 0x2b ? byte + KEPT : byte);
    i += 2;
  }
  return bytes;
}

function isEncodedDelimiter(byte: number): boolean {
  return byte === SLASH || byte === 0x5c || byte === 0x3b || byte === QUESTION || byte === 0x23;
}

/** An encoded percent sign in front of what would make an escape for somebody who decodes again. */
function doubleFault(bytes: readonly number[]): string | null {
  for (let i = 0; i + 1 < bytes.length; i++) {
    if (bytes[i] !== PERCENT + KEPT) continue;
    const next = (bytes[i + 1] as number) & 255;
    // `%u002f` is an old private form of escapes.
    if (next === PERCENT || (next | 0x20) === 0x75 || hexDigit(next) !== -1) return 'the path is encoded twice';
  }
  return null;
}

function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const lower = code | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

function hexByte(raw: string, at: number): number {
  const high = at + 1 < raw.length ? hexDigit(raw.charCodeAt(at)) : -1;
  const low = high === -1 ? -1 : hexDigit(raw.charCodeAt(at + 1));
  return low === -1 ? -1 : high * 16 + low;
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Control characters (also the C1 ones), overlong or otherwise broken UTF-8. */
function textFault(bytes: readonly number[]): string | null {
  let text: string;
  try {
    text = strictUtf8.decode(Uint8Array.from(bytes, (byte) => byte & 255));
  } catch {
    return 'the path is not valid UTF-8';
  }
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < SPACE || (code >= 0x7f && code <= 0x9f)) return 'the path has a control character';
  }
  return null;
}

/** Empty segments, and segments that some file systems and servers trim. */
function segmentFault(bytes: readonly number[]): string | null {
  for (let i = 1; i <= bytes.length; i++) {
    const before = bytes[i - 1] as number;
    const code = i < bytes.length ? bytes[i] : SLASH;
    if (before === SLASH && code === SPACE) return 'a path segment starts with a space';
    if (code !== SLASH) continue;
    if (before === SLASH && i < bytes.length) return 'the path has an empty segment';
    if (before === DOT) return 'a path segment ends with a dot';
    if (before === SPACE) return 'a path segment ends with a space';
  }
  return null;
}

function encode(bytes: readonly number[]): string {
  let path = '';
  for (const byte of bytes) {
    const kind = byte < 128 ? classes[byte] : ENCODE;
    if (kind === PLAIN || byte === SLASH || byte === DOT) path += String.fromCharCode(byte);
    else path += `%${HEX[(byte >> 4) & 15]}${HEX[byte & 15]}`;
  }
  return path;
}
