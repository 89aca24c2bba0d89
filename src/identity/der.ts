/**
 * The little of DER (X.690 section 10) that certificates need beside what `node:crypto` tells. What is not in the one
 * canonical form is refused: bytes that two readers understand differently must not carry anybody's name.
 */

/** Not DER, or not what was expected there. The message says what, never the bytes. */
export class DerError extends Error {}

/** One element: its whole identifier octet, its content, and all of it together. */
export interface DerElement {
  readonly tag: number;
  readonly content: Buffer;
  readonly bytes: Buffer;
}

export const BOOLEAN = 0x01;
export const INTEGER = 0x02;
export const BIT_STRING = 0x03;
export const OCTET_STRING = 0x04;
export const OID = 0x06;
export const UTF8_STRING = 0x0c;
export const SEQUENCE = 0x30;
export const SET = 0x31;

const MAX_LENGTH = 1 << 20;
const MAX_ELEMENTS = 200_000;

function readAt(bytes: Buffer, at: number): DerElement {
  const tag = bytes[at];
  let length = bytes[at + 1];
  if (tag === undefined || length === undefined) throw new DerError('an element is cut off');
  if ((tag & 0x1f) === 0x1f) throw new DerError('a long tag');
  let start = at + 2;
  if (length >= 0x80) {
    const count = length & 0x7f;
    // 0x80 is the indefinite form, which DER does not have.
    if (count === 0 || count > 3) throw new DerError('a length in a form that is not taken');
    if (start + count > bytes.length) throw new DerError('an element is cut off');
    length = bytes.readUIntBE(start, count);
    start += count;
    if (length < 0x80 || length >> (8 * (count - 1)) === 0) throw new DerError('a length that is written too long');
  }
  if (length > MAX_LENGTH || start + length > bytes.length) throw new DerError('an element is cut off');
  return { tag, content: bytes.subarray(start, start + length), bytes: bytes.subarray(at, start + length) };
}

/** Exactly one element and nothing behind it. Throws DerError, also when it has another tag than the one asked for. */
export function readDer(bytes: Buffer, tag?: number): DerElement {
  const element = readAt(bytes, 0);
  if (element.bytes.length !== bytes.length) throw new DerError('bytes behind the end');
  if (tag !== undefined && element.tag !== tag) throw new DerError('an element of another type');
  return element;
}

/** The elements inside a constructed one. Throws DerError. */
export function elementsOf({ tag, content }: DerElement): DerElement[] {
  if ((tag & 0x20) === 0) throw new DerError('an element that holds no others');
  const found: DerElement[] = [];
  for (let at = 0; at < content.length; ) {
    if (found.length >= MAX_ELEMENTS) throw new DerError('too many elements');
    const element = readAt(content, at);
    found.push(element);
    at += element.bytes.length;
  }
  return found;
}

/** Dotted decimal. Throws DerError. */
export function oidOf({ tag, content }: DerElement): string {
  if (tag !== OID || content.length === 0 || content.length > 64) throw new DerError('not an object identifier');
  const parts: number[] = [];
  let value = 0;
  let isOpen = false;
  for (const byte of content) {
    if (!isOpen && byte === 0x80) throw new DerError('an object identifier that is written too long');
    value = value * 128 + (byte & 0x7f);
    if (value > Number.MAX_SAFE_INTEGER) throw new DerError('an object identifier that is too large');
    isOpen = (byte & 0x80) !== 0;
    if (isOpen) continue;
    parts.push(value);
    value = 0;
  }
  const [first = 0, ...rest] = parts;
  if (isOpen) throw new DerError('an object identifier that is cut off');
  const arc = Math.min(2, Math.floor(first / 40));
  return [arc, first - arc * 40, ...rest].join('.');
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
/** Types whose octets are ASCII here: PrintableString, IA5String, NumericString, VisibleString. */
const ASCII_TYPES = new Set([0x13, 0x16, 0x12, 0x1a]);
const BMP_STRING = 0x1e;

/** The text of a string type; without control characters, for they end or split names in other readers. Throws DerError. */
export function textOf({ tag, content }: DerElement): string {
  const text = decode(tag, content);
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 32 || (code >= 127 && code < 160)) throw new DerError('a text with control characters');
  }
  return text;
}

function decode(tag: number, content: Buffer): string {
  if (tag === UTF8_STRING) {
    try {
      return UTF8.decode(content);
    } catch {
      throw new DerError('a text that is not UTF-8');
    }
  }
  if (ASCII_TYPES.has(tag)) return asciiOf(content);
  if (tag === BMP_STRING && content.length % 2 === 0) {
    const text = Buffer.from(content).swap16().toString('utf16le');
    if (text.isWellFormed()) return text;
  }
  throw new DerError('not a text');
}

/** Octets that must all be ASCII. Throws DerError. */
export function asciiOf(content: Buffer): string {
  for (const byte of content) if (byte > 0x7f) throw new DerError('a text that is not ASCII');
  return content.toString('latin1');
}

/** Hexadecimal, upper case, without a leading zero: as serial numbers are written. Throws DerError. */
export function integerOf({ tag, content }: DerElement): string {
  if (tag !== INTEGER || content.length === 0 || content.length > 32) throw new DerError('not a whole number');
  return content
    .toString('hex')
    .toUpperCase()
    .replace(/^(?:00)+(?=.)/, '');
}

/** UTCTime or GeneralizedTime as RFC 5280 4.1.2.5 has them; epoch milliseconds. Throws DerError. */
export function timeOf({ tag, content }: DerElement): number {
  const text = content.toString('latin1');
  const match = (tag === 0x17 ? /^(\d\d)(\d{10})Z$/ : tag === 0x18 ? /^(\d{4})(\d{10})Z$/ : null)?.exec(text);
  if (match == null) throw new DerError('not a time');
  const [, year = '', rest = ''] = match;
  const full = year.length === 4 ? year : `${Number(year) >= 50 ? '19' : '20'}${year}`;
  const [month, day, hour, minute, second] = rest.match(/../g) ?? [];
  const time = Date.parse(`${full}-${month}-${day}T${hour}:${minute}:${second}Z`);
  if (Number.isNaN(time)) throw new DerError('not a time');
  return time;
}
