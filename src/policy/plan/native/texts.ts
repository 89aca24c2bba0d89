/** Texts, encodings, patterns and networks, as OPA compiles them into the module. Source: OPA policy reference. */
import { parseRange } from '../../wasm/builtins/net.ts';
import { linearPattern } from '../../wasm/builtins/regex.ts';
import { numberText } from '../../wasm/builtins/sprintf.ts';
import {
  asArray,
  asInteger,
  asItems,
  asNumber,
  asObject,
  asText,
  Mismatch,
  pure,
} from '../../wasm/builtins/support.ts';
import { compareText, fromJson, type Rego, type RegoObject, sortRego } from '../../wasm/values.ts';
import { globPattern } from './glob.ts';

/** Code point by code point, one for one, as Go maps them: `ß` stays, `İ` becomes `i`. */
function mapCase(text: string, change: (char: string) => string): string {
  let out = '';
  for (const char of text) {
    const [first = char, second] = [...change(char)];
    out += second === undefined || change === lowerCase ? first : char;
  }
  return out;
}

const lowerCase = (char: string): string => char.toLowerCase();
const upperCase = (char: string): string => char.toUpperCase();

function concat(delimiter: Rego | undefined, items: Rego | undefined): string {
  const list = Array.isArray(items) ? asArray(items) : sortRego([...asItems(items)]);
  return list.map(asText).join(asText(delimiter));
}

function substring(text: string, from: number, length: number): string {
  if (from < 0) throw new Mismatch('negative offset');
  const chars = [...text];
  return chars.slice(from, length < 0 ? undefined : from + length).join('');
}

function indexOf(text: string, part: string): number {
  const at = text.indexOf(part);
  return at <= 0 ? at : [...text.slice(0, at)].length;
}

/** At each place the first of the keys that fits, in their order; an empty key stands before every place and at the end. */
function replaceAllOf(patterns: RegoObject, text: string): string {
  const pairs = [...patterns].map(([old, to]) => [asText(old), asText(to)] as const);
  pairs.sort((a, b) => compareText(a[0], b[0]));
  const between = pairs.find(([old]) => old === '')?.[1] ?? '';
  let out = between;
  for (let at = 0; at < text.length; ) {
    const found = pairs.find(([old]) => old !== '' && text.startsWith(old, at));
    const char = String.fromCodePoint(text.codePointAt(at) ?? 0);
    out += (found === undefined ? char : found[1]) + between;
    at += found === undefined ? char.length : found[0].length;
  }
  return out;
}

function trimmed(text: string, cutset: string, left: boolean, right: boolean): string {
  const cut = new Set(cutset);
  const chars = [...text];
  let from = 0;
  let to = chars.length;
  while (left && from < to && cut.has(chars[from] ?? '')) from++;
  while (right && to > from && cut.has(chars[to - 1] ?? '')) to--;
  return chars.slice(from, to).join('');
}

const BASES = new Set([2, 8, 10, 16]);

function formatInt(value: Rego | undefined, base: number): string {
  if (!BASES.has(base)) throw new Mismatch('no such base');
  return typeof value === 'bigint' ? value.toString(base) : BigInt(Math.trunc(asNumber(value))).toString(base);
}

function toNumber(value: Rego | undefined): Rego {
  if (value === null) return 0;
  if (typeof value === 'boolean') return value ? 1 : 0;
  if (typeof value !== 'string') return typeof value === 'bigint' ? value : asNumber(value);
  if (!/^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/.test(value)) throw new Mismatch('not a number');
  const number = Number(value);
  return Number.isInteger(number) && !Number.isSafeInteger(number) && /^-?\d+$/.test(value) ? BigInt(value) : number;
}

/** As the module writes it: keys in order, only what has to be escaped is. */
function marshal(value: Rego): string {
  if (typeof value === 'string') return quoted(value);
  if (typeof value === 'number') return numberText(value);
  if (typeof value !== 'object' || value === null) return String(value);
  if (Array.isArray(value)) return `[${(value as readonly Rego[]).map(marshal).join(',')}]`;
  if (!(value instanceof Map))
    return `[${sortRego([...(value as ReadonlySet<Rego>)])
      .map(marshal)
      .join(',')}]`;
  const object = value as RegoObject;
  const keys = sortRego([...object.keys()]);
  const name = (key: Rego): string => quoted(typeof key === 'string' ? key : marshal(key));
  return `{${keys.map((key) => `${name(key)}:${marshal(object.get(key) ?? null)}`).join(',')}}`;
}

function quoted(text: string): string {
  return JSON.stringify(text).replace(/\\[bf]/g, (found, at: number, whole: string) =>
    isEscaped(whole, at) ? found : found === '\\b' ? '\\u0008' : '\\u000c',
  );
}

/** Whether the backslash at `at` is itself the second half of an escape. */
function isEscaped(text: string, at: number): boolean {
  let before = 0;
  while (text[at - 1 - before] === '\\') before++;
  return before % 2 === 1;
}

function unmarshal(text: string): Rego {
  try {
    return fromJson(JSON.parse(text));
  } catch {
    throw new Mismatch('not JSON');
  }
}

function isJson(text: Rego | undefined): boolean {
  try {
    return unmarshal(asText(text)) !== undefined;
  } catch {
    return false;
  }
}

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const BASE64URL = /^[A-Za-z0-9_-]*={0,2}$/;

function decode(text: string, url: boolean): string {
  const clean = text.replaceAll(/[\r\n]/g, '');
  if (!(url ? BASE64URL : BASE64).test(clean)) throw new Mismatch('not base64');
  return Buffer.from(clean, url ? 'base64url' : 'base64').toString('utf8');
}

function isPattern(pattern: Rego | undefined): boolean {
  try {
    return linearPattern(asText(pattern)) !== undefined;
  } catch {
    return false;
  }
}

function submatches(pattern: string, text: string, limit: number): Rego {
  const out: Rego[] = [];
  for (const match of text.matchAll(linearPattern(pattern))) {
    if (limit >= 0 && out.length >= limit) break;
    out.push([...match].map((part) => part ?? ''));
  }
  return out;
}

function contains(network: Rego | undefined, other: Rego | undefined): boolean {
  const outer = parseRange(asText(network), false);
  const inner = parseRange(asText(other), true);
  return outer.bits === inner.bits && outer.first <= inner.first && inner.last <= outer.last;
}

function intersects(a: Rego | undefined, b: Rego | undefined): boolean {
  const [x, y] = [parseRange(asText(a), false), parseRange(asText(b), false)];
  return x.bits === y.bits && x.first <= y.last && y.first <= x.last;
}

const matches = ([pattern, text]: readonly Rego[]): Rego => linearPattern(asText(pattern)).test(asText(text));

export const TEXTS = pure({
  concat: ([delimiter, items]) => concat(delimiter, items),
  contains: ([text, part]) => asText(text).includes(asText(part)),
  startswith: ([text, part]) => asText(text).startsWith(asText(part)),
  endswith: ([text, part]) => asText(text).endsWith(asText(part)),
  format_int: ([value, base]) => formatInt(value, asInteger(base)),
  indexof: ([text, part]) => indexOf(asText(text), asText(part)),
  lower: ([text]) => mapCase(asText(text), lowerCase),
  upper: ([text]) => mapCase(asText(text), upperCase),
  replace: ([text, old, to]) => asText(text).replaceAll(asText(old), () => asText(to)),
  'strings.replace_n': ([patterns, text]) => replaceAllOf(asObject(patterns), asText(text)),
  'strings.reverse': ([text]) => [...asText(text)].reverse().join(''),
  split: ([text, delimiter]) => (delimiter === '' ? [...asText(text)] : asText(text).split(asText(delimiter))),
  substring: ([text, from, length]) => substring(asText(text), asInteger(from), asInteger(length)),
  to_number: ([value]) => toNumber(value),
  trim: ([text, cutset]) => trimmed(asText(text), asText(cutset), true, true),
  trim_left: ([text, cutset]) => trimmed(asText(text), asText(cutset), true, false),
  trim_right: ([text, cutset]) => trimmed(asText(text), asText(cutset), false, true),
  trim_prefix: ([text, part]) =>
    asText(text).startsWith(asText(part)) ? asText(text).slice(asText(part).length) : asText(text),
  trim_suffix: ([text, part]) =>
    part !== '' && asText(text).endsWith(asText(part)) ? asText(text).slice(0, -asText(part).length) : asText(text),
  trim_space: ([text]) => asText(text).replace(/^[\s\u0085]+|[\s\u0085]+$/gu, ''),
  'base64.encode': ([text]) => Buffer.from(asText(text)).toString('base64'),
  'base64.decode': ([text]) => decode(asText(text), false),
  'base64.is_valid': ([text]) => BASE64.test(asText(text).replaceAll(/[\r\n]/g, '')),
  'base64url.encode': ([text]) =>
    Buffer.from(asText(text)).toString('base64').replaceAll('+', '-').replaceAll('/', '_'),
  'base64url.decode': ([text]) => decode(asText(text), true),
  'json.marshal': ([value]) => marshal(value ?? null),
  'json.unmarshal': ([text]) => unmarshal(asText(text)),
  'json.is_valid': ([text]) => isJson(text),
  'regex.match': matches,
  re_match: matches,
  'regex.is_valid': ([pattern]) => isPattern(pattern),
  'regex.find_all_string_submatch_n': ([pattern, text, limit]) =>
    submatches(asText(pattern), asText(text), asInteger(limit)),
  'glob.match': ([pattern, delimiters, text]) => {
    const between = delimiters === null ? [] : asArray(delimiters).map(asText);
    const standard = delimiters !== null && between.length === 0;
    return linearPattern(globPattern(asText(pattern), standard ? ['.'] : between)).test(asText(text));
  },
  'net.cidr_contains': ([network, other]) => contains(network, other),
  'net.cidr_overlap': ([network, other]) => contains(network, other),
  'net.cidr_intersects': ([a, b]) => intersects(a, b),
});
