/** `sprintf` as OPA renders it: Go's fmt on strings, int64, big integers and float64. Source: Go package fmt. */
import { compareRego, type Rego, sortRego } from '../values.ts';

/** A value as OPA prints terms: JSON-like, with spaces, sets in braces and sorted. */
export function termText(value: Rego): string {
  if (typeof value === 'string') return quote(value);
  if (typeof value === 'number') return numberText(value);
  if (typeof value !== 'object' || value === null) return String(value);
  if (Array.isArray(value)) return `[${value.map(termText).join(', ')}]`;
  if (value instanceof Map) {
    const entries = [...value].sort((a, b) => compareRego(a[0], b[0]));
    return `{${entries.map(([key, item]) => `${termText(key)}: ${termText(item)}`).join(', ')}}`;
  }
  const items = sortRego([...(value as ReadonlySet<Rego>)]);
  return items.length === 0 ? 'set()' : `{${items.map(termText).join(', ')}}`;
}

/** A number as Go's JSON encoder writes it. */
export function numberText(value: number): string {
  return String(value).replace(/e([+-])(\d)$/, 'e$10$2');
}

const ESCAPES: Record<string, string> = {
  '"': '\\"',
  '\\': '\\\\',
  '\u0007': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
};

/** Go's strconv.Quote. */
export function quote(text: string): string {
  let out = '"';
  for (const char of text) {
    const code = char.codePointAt(0) ?? 0;
    const known = ESCAPES[char];
    if (known !== undefined) out += known;
    else if (code < 0x20 || code === 0x7f) out += `\\x${hex(code, 2)}`;
    else if (/^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$/u.test(char)) out += char;
    else out += code > 0xffff ? `\\U${hex(code, 8)}` : `\\u${hex(code, 4)}`;
  }
  return `${out}"`;
}

function hex(code: number, width: number): string {
  return code.toString(16).padStart(width, '0');
}

interface Spec {
  minus: boolean;
  plus: boolean;
  sharp: boolean;
  space: boolean;
  zero: boolean;
  width: number | null;
  precision: number | null;
}

/** A number that Go keeps as float64 although its value is an integer. */
class Float {
  readonly value: number;
  constructor(value: number) {
    this.value = value;
  }
}

type Argument = string | number | bigint | Float;

/** Where the formatter stands. */
interface Cursor {
  at: number;
  argument: number;
  reordered: boolean;
}

/**
 * Formats; never fails: what does not fit is marked in the text, as Go does. `spelled`: how numbers were written where
 * that matters, by index.
 */
export function sprintf(format: string, values: readonly Rego[], spelled?: ReadonlyMap<number, string>): string {
  const args = values.map((value, i) => toArgument(value, spelled?.get(i)));
  const cursor: Cursor = { at: 0, argument: 0, reordered: false };
  let out = '';
  while (cursor.at < format.length) {
    const next = format.indexOf('%', cursor.at);
    if (next < 0) {
      out += format.slice(cursor.at);
      break;
    }
    out += format.slice(cursor.at, next);
    cursor.at = next + 1;
    out += directive(format, cursor, args);
  }
  if (!cursor.reordered && cursor.argument < args.length) {
    out += `%!(EXTRA ${args
      .slice(cursor.argument)
      .map((one) => typed(one))
      .join(', ')})`;
  }
  return out;
}

function toArgument(value: Rego, spelled: string | undefined): Argument {
  // What is no integer to Go is a float, and what is beyond floats stays text.
  if (typeof value === 'number' && spelled !== undefined) return Number.isFinite(value) ? new Float(value) : spelled;
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'bigint' ? value : termText(value);
}

function directive(format: string, cursor: Cursor, args: readonly Argument[]): string {
  const spec: Spec = {
    minus: false,
    plus: false,
    sharp: false,
    space: false,
    zero: false,
    width: null,
    precision: null,
  };
  flags(format, cursor, spec);
  const indexed = position(format, cursor, args);
  spec.width = amount(format, cursor, args);
  if (spec.width !== null && spec.width < 0) {
    spec.minus = true;
    spec.width = -spec.width;
  }
  if (format[cursor.at] === '.') {
    cursor.at++;
    spec.precision = Math.max(0, amount(format, cursor, args) ?? 0);
  }
  const bad = !indexed || !position(format, cursor, args);
  const verb = String.fromCodePoint(format.codePointAt(cursor.at) ?? 0);
  if (cursor.at >= format.length) return '%!(NOVERB)';
  cursor.at += verb.length;
  if (verb === '%') return '%';
  if (bad) return `%!${verb}(BADINDEX)`;
  const argument = args[cursor.argument++];
  return argument === undefined ? `%!${verb}(MISSING)` : render(verb, argument, spec);
}

function flags(format: string, cursor: Cursor, spec: Spec): void {
  for (; ; cursor.at++) {
    const flag = format[cursor.at];
    if (flag === '-') spec.minus = true;
    else if (flag === '+') spec.plus = true;
    else if (flag === '#') spec.sharp = true;
    else if (flag === ' ') spec.space = true;
    else if (flag === '0') spec.zero = true;
    else return;
  }
}

/** `[n]` names the next argument. False: no such argument. */
function position(format: string, cursor: Cursor, args: readonly Argument[]): boolean {
  if (format[cursor.at] !== '[') return true;
  cursor.reordered = true;
  const end = format.indexOf(']', cursor.at);
  if (end < 0) {
    cursor.at++;
    return false;
  }
  const index = Number(format.slice(cursor.at + 1, end));
  cursor.at = end + 1;
  if (!Number.isInteger(index) || index < 1 || index > args.length) return false;
  cursor.argument = index - 1;
  return true;
}

const MAX_AMOUNT = 1_000_000;

function amount(format: string, cursor: Cursor, args: readonly Argument[]): number | null {
  if (format[cursor.at] === '*') {
    cursor.at++;
    const value = args[cursor.argument++];
    return typeof value === 'number' && Number.isInteger(value) && Math.abs(value) <= MAX_AMOUNT ? value : null;
  }
  let value: number | null = null;
  for (let digit = format.charCodeAt(cursor.at) - 48; digit >= 0 && digit <= 9; ) {
    value = Math.min((value ?? 0) * 10 + digit, MAX_AMOUNT);
    digit = format.charCodeAt(++cursor.at) - 48;
  }
  return value;
}

function render(verb: string, argument: Argument, spec: Spec): string {
  if (verb === 'T') return pad(goType(argument), spec);
  if (typeof argument === 'string') return renderText(verb, argument, spec);
  if (argument instanceof Float) return renderFloat(verb, argument.value, spec);
  // An integer that a double cannot hold exactly was written with an exponent: a float.
  if (typeof argument === 'bigint' || Number.isSafeInteger(argument))
    return renderInteger(verb, BigInt(argument), argument, spec);
  return renderFloat(verb, argument, spec);
}

function renderText(verb: string, text: string, spec: Spec): string {
  const chars = spec.precision === null || verb === 'x' ? null : [...text].slice(0, spec.precision).join('');
  const cut = chars ?? text;
  if (verb === 'v' && spec.sharp) return pad(quote(cut), spec);
  if (verb === 's' || verb === 'v') return pad(cut, spec);
  if (verb === 'q') return pad(spec.sharp && !cut.includes('`') ? `\`${cut}\`` : quote(cut), spec);
  if (verb === 'x' || verb === 'X') {
    const digits = Buffer.from(text)
      .subarray(0, spec.precision ?? undefined)
      .toString('hex');
    return pad(verb === 'X' ? digits.toUpperCase() : digits, spec);
  }
  return mismatch(verb, text, spec);
}

const BASES: Record<string, number> = { d: 10, v: 10, b: 2, o: 8, O: 8, x: 16, X: 16 };
const PREFIXES: Record<string, string> = { b: '0b', o: '0', x: '0x', X: '0X' };

function renderInteger(verb: string, value: bigint, argument: Argument, spec: Spec): string {
  const base = BASES[verb];
  if (base === undefined) return renderCharacter(verb, value, argument, spec);
  const negative = value < 0n;
  let digits = (negative ? -value : value).toString(base);
  if (verb === 'X') digits = digits.toUpperCase();
  if (spec.precision !== null)
    digits = spec.precision === 0 && value === 0n ? '' : digits.padStart(spec.precision, '0');
  const prefix = verb === 'O' ? '0o' : spec.sharp ? (PREFIXES[verb] ?? '') : '';
  const lead = sign(negative, spec) + prefix;
  if (spec.zero && !spec.minus && spec.precision === null && spec.width !== null) {
    return lead + digits.padStart(spec.width - lead.length, '0');
  }
  return pad(lead + digits, { ...spec, zero: false });
}

function renderCharacter(verb: string, value: bigint, argument: Argument, spec: Spec): string {
  const valid = value >= 0n && value <= 0x10ffffn;
  const char = valid ? String.fromCodePoint(Number(value)) : '\ufffd';
  if (verb === 'c') return pad(char, spec);
  if (verb === 'q') return pad(`'${char === "'" ? "\\'" : char === '"' ? '"' : quote(char).slice(1, -1)}'`, spec);
  // Go's big integers take more verbs than its small ones.
  if (typeof argument === 'bigint' && verb === 's') return renderInteger('d', value, argument, spec);
  if (verb === 'U') return pad(`U+${value.toString(16).toUpperCase().padStart(4, '0')}`, spec);
  return mismatch(verb, argument, spec);
}

function renderFloat(verb: string, value: number, spec: Spec): string {
  const magnitude = Math.abs(value);
  let digits: string;
  if (verb === 'f' || verb === 'F') digits = fixed(magnitude, spec.precision ?? 6);
  else if (verb === 'e' || verb === 'E') digits = exponent(scientific(magnitude, spec.precision ?? 6));
  else if (verb === 'g' || verb === 'G' || verb === 'v') digits = general(magnitude, spec.precision);
  else return mismatch(verb, new Float(value), spec);
  if (verb === 'E' || verb === 'G') digits = digits.toUpperCase();
  const lead = sign(value < 0, spec);
  if (spec.zero && !spec.minus && spec.width !== null) return lead + digits.padStart(spec.width - lead.length, '0');
  return pad(lead + digits, spec);
}

/** From this power of ten on Go turns to exponents, where no precision is asked for. */
const SHORTEST_LIMIT = 6;

/** Shortest text, or `precision` significant digits; exponent form below 1e-4 and from 1e6 on, or from the precision. */
function general(value: number, precision: number | null): string {
  const digits = precision === null ? value.toExponential() : scientific(value, Math.max(precision - 1, 0));
  const power = Number(digits.slice(digits.indexOf('e') + 1));
  const limit = precision === null ? SHORTEST_LIMIT : Math.max(precision, 1);
  if (power < -4 || power >= limit) return exponent(digits.replace(/\.?0+e/, 'e'));
  const text = precision === null ? String(value) : fixed(value, Math.max(limit - 1 - power, 0));
  return text.includes('e') ? value.toFixed(20).replace(/0+$/, '') : trimZeros(text, precision);
}

function trimZeros(text: string, precision: number | null): string {
  return precision !== null && text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}

const MAX_DIGITS = 100;

/** Go rounds exact halves to even, JavaScript away from zero. */
function fixed(value: number, digits: number): string {
  if (digits >= MAX_DIGITS) return value.toFixed(MAX_DIGITS).padEnd(value.toFixed(0).length + 1 + digits, '0');
  const exact = value.toFixed(MAX_DIGITS);
  const cut = exact.length - MAX_DIGITS + digits;
  if (!isHalf(exact.slice(cut))) return value.toFixed(digits);
  const down = digits === 0 ? exact.slice(0, cut - 1) : exact.slice(0, cut);
  return isEven(down) ? down : value.toFixed(digits);
}

function scientific(value: number, digits: number): string {
  if (digits >= MAX_DIGITS) return value.toExponential(MAX_DIGITS);
  const [exact = '', power = ''] = value.toExponential(MAX_DIGITS).split('e');
  const cut = 2 + digits;
  if (!isHalf(exact.slice(cut))) return value.toExponential(digits);
  const down = digits === 0 ? exact.slice(0, 1) : exact.slice(0, cut);
  return isEven(down) ? `${down}e${power}` : value.toExponential(digits);
}

function isHalf(rest: string): boolean {
  return /^50*$/.test(rest);
}

function isEven(digits: string): boolean {
  return Number(digits.at(-1)) % 2 === 0;
}

/** Go writes at least two digits of exponent. */
function exponent(text: string): string {
  return text.replace(/e([+-])(\d)$/, 'e$10$2');
}

function sign(negative: boolean, spec: Spec): string {
  return negative ? '-' : spec.plus ? '+' : spec.space ? ' ' : '';
}

function pad(text: string, spec: Spec): string {
  if (spec.width === null) return text;
  const missing = spec.width - [...text].length;
  if (missing <= 0) return text;
  return spec.minus ? text + ' '.repeat(missing) : (spec.zero ? '0' : ' ').repeat(missing) + text;
}

function goType(argument: Argument): string {
  if (typeof argument === 'string') return 'string';
  if (typeof argument === 'bigint') return BigInt.asIntN(64, argument) === argument ? 'int64' : '*big.Int';
  return typeof argument === 'number' && Number.isSafeInteger(argument) ? 'int64' : 'float64';
}

const PLAIN: Spec = {
  minus: false,
  plus: false,
  sharp: false,
  space: false,
  zero: false,
  width: null,
  precision: null,
};

function typed(argument: Argument, spec: Spec = PLAIN): string {
  return `${goType(argument)}=${render('v', argument, spec)}`;
}

function mismatch(verb: string, argument: Argument, spec: Spec): string {
  return `%!${verb}(${typed(argument, spec)})`;
}
