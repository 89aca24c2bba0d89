/** Go's time layouts: formatting and parsing by example date. Source: Go package time. */
import { type Civil, DAYS, instant, instantInZone, MONTHS } from './civil.ts';
import { Mismatch } from './support.ts';

export const LAYOUTS: Readonly<Record<string, string>> = {
  ANSIC: 'Mon Jan _2 15:04:05 2006',
  UnixDate: 'Mon Jan _2 15:04:05 MST 2006',
  RubyDate: 'Mon Jan 02 15:04:05 -0700 2006',
  RFC822: '02 Jan 06 15:04 MST',
  RFC822Z: '02 Jan 06 15:04 -0700',
  RFC850: 'Monday, 02-Jan-06 15:04:05 MST',
  RFC1123: 'Mon, 02 Jan 2006 15:04:05 MST',
  RFC1123Z: 'Mon, 02 Jan 2006 15:04:05 -0700',
  RFC3339: '2006-01-02T15:04:05Z07:00',
  RFC3339Nano: '2006-01-02T15:04:05.999999999Z07:00',
};

/** Elements of a layout, longest first where one begins another. */
const ELEMENT =
  /January|Jan|Monday|Mon|MST|Z07:00:00|Z070000|Z07:00|Z0700|Z07|-07:00:00|-070000|-07:00|-0700|-07|2006|__2|_2|002|0[1-6]|15|[.,]0+(?!\d)|[.,]9+(?!\d)|PM|pm|[1-5]/g;

function elements(layout: string): string[] {
  const parts: string[] = [];
  let from = 0;
  for (const match of layout.matchAll(ELEMENT)) {
    parts.push(layout.slice(from, match.index), match[0]);
    from = match.index + match[0].length;
  }
  parts.push(layout.slice(from));
  return parts;
}

const two = (value: number): string => String(value).padStart(2, '0');

/** Writes an instant by a layout. */
export function formatTime(layout: string, time: Civil, zone: string): string {
  const parts = elements(layout);
  let out = '';
  for (let i = 0; i < parts.length; i++) out += i % 2 === 0 ? parts[i] : formatElement(parts[i] ?? '', time, zone);
  return out;
}

function formatElement(element: string, time: Civil, zone: string): string {
  if (/^[.,]/.test(element)) return fraction(element, time.nanosecond);
  if (/^[Z-]/.test(element)) return offsetText(element, time.offset);
  switch (element) {
    case 'January':
      return MONTHS[time.month - 1] ?? '';
    case 'Jan':
      return (MONTHS[time.month - 1] ?? '').slice(0, 3);
    case 'Monday':
      return DAYS[time.weekday] ?? '';
    case 'Mon':
      return (DAYS[time.weekday] ?? '').slice(0, 3);
    case 'MST':
      return zone === '' || zone === 'UTC' || zone === 'Local'
        ? 'UTC'
        : offsetText('-0700', time.offset).replace(/00$/, '');
    case 'PM':
      return time.hour >= 12 ? 'PM' : 'AM';
    case 'pm':
      return time.hour >= 12 ? 'pm' : 'am';
    default:
      return formatNumber(element, time);
  }
}

function formatNumber(element: string, time: Civil): string {
  const yearDay =
    Math.round((Date.UTC(time.year, time.month - 1, time.day) - Date.UTC(time.year, 0, 1)) / 86_400_000) + 1;
  const numbers: Record<string, string> = {
    '2006': String(time.year).padStart(4, '0'),
    '06': two(time.year % 100),
    '01': two(time.month),
    '1': String(time.month),
    '02': two(time.day),
    '2': String(time.day),
    _2: String(time.day).padStart(2),
    '002': String(yearDay).padStart(3, '0'),
    __2: String(yearDay).padStart(3),
    '15': two(time.hour),
    '03': two(time.hour % 12 || 12),
    '3': String(time.hour % 12 || 12),
    '04': two(time.minute),
    '4': String(time.minute),
    '05': two(time.second),
    '5': String(time.second),
  };
  return numbers[element] ?? element;
}

function fraction(element: string, nanosecond: number): string {
  const digits = String(nanosecond)
    .padStart(9, '0')
    .slice(0, element.length - 1);
  if (element[1] === '0') return `${element[0]}${digits.padEnd(element.length - 1, '0')}`;
  const trimmed = digits.replace(/0+$/, '');
  return trimmed === '' ? '' : `${element[0]}${trimmed}`;
}

function offsetText(element: string, offset: number): string {
  if (element.startsWith('Z') && offset === 0) return 'Z';
  const total = Math.abs(offset);
  const pieces = [two(Math.floor(total / 3600)), two(Math.floor(total / 60) % 60), two(total % 60)];
  const shape = element.slice(1);
  const count = shape.replaceAll(':', '').length / 2;
  return (offset < 0 ? '-' : '+') + pieces.slice(0, count).join(shape.includes(':') ? ':' : '');
}

interface Parsed {
  year: number;
  month: number;
  day: number;
  hour: number;
  minute: number;
  second: number;
  nanosecond: number;
  offset: number | null;
  afternoon: boolean | null;
}

/** Reads a text by a layout and gives epoch nanoseconds. Throws Mismatch. */
export function parseTime(layout: string, text: string): bigint {
  const parts = elements(layout);
  const found: Parsed = {
    ...{ year: 0, month: 1, day: 1, hour: 0, minute: 0, second: 0, nanosecond: 0 },
    ...{ offset: null, afternoon: null },
  };
  let rest = text;
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i] ?? '';
    rest = i % 2 === 0 ? literal(part, rest) : parseElement(part, rest, found, parts[i + 2] ?? '');
  }
  if (rest !== '') throw new Mismatch('extra text');
  return finish(found);
}

function literal(part: string, rest: string): string {
  if (!rest.startsWith(part)) throw new Mismatch('the text is of another layout');
  return rest.slice(part.length);
}

const NUMBERS: Readonly<Record<string, readonly [keyof Parsed, RegExp]>> = {
  '2006': ['year', /^\d{4}/],
  '06': ['year', /^\d{2}/],
  '01': ['month', /^\d{2}/],
  '1': ['month', /^\d{1,2}/],
  '02': ['day', /^\d{2}/],
  '2': ['day', /^\d{1,2}/],
  _2: ['day', /^ ?\d{1,2}/],
  '15': ['hour', /^\d{2}/],
  '03': ['hour', /^\d{2}/],
  '3': ['hour', /^\d{1,2}/],
  '04': ['minute', /^\d{2}/],
  '4': ['minute', /^\d{1,2}/],
  '05': ['second', /^\d{2}/],
  '5': ['second', /^\d{1,2}/],
};

function parseElement(element: string, rest: string, found: Parsed, next: string): string {
  const number = NUMBERS[element];
  if (number !== undefined) return parseNumber(element, number, rest, found, next);
  if (/^[.,]/.test(element)) return parseFraction(element, rest, found);
  if (/^[Z-]/.test(element)) return parseOffset(element, rest, found);
  return parseName(element, rest, found);
}

function parseNumber(
  element: string,
  [field, pattern]: readonly [keyof Parsed, RegExp],
  rest: string,
  found: Parsed,
  next: string,
): string {
  const digits = take(pattern, rest);
  let value = Number(digits);
  if (element === '06') value += value >= 69 ? 1900 : 2000;
  (found as unknown as Record<string, number>)[field] = value;
  const after = rest.slice(digits.length);
  // Go accepts a fraction after the seconds even where the layout names none.
  return field === 'second' && !/^[.,]/.test(next) && /^[.,]\d/.test(after) ? parseFraction('.9', after, found) : after;
}

function parseFraction(element: string, rest: string, found: Parsed): string {
  const exact = element[1] === '0';
  const match = exact ? new RegExp(`^[.,]\\d{${element.length - 1}}`).exec(rest) : /^[.,]\d+/.exec(rest);
  if (match === null) {
    if (exact) throw new Mismatch('no fraction');
    return rest;
  }
  found.nanosecond = Number(match[0].slice(1, 10).padEnd(9, '0'));
  return rest.slice(match[0].length);
}

function parseOffset(element: string, rest: string, found: Parsed): string {
  if (element.startsWith('Z') && rest.startsWith('Z')) {
    found.offset = 0;
    return rest.slice(1);
  }
  const shape = element.slice(1);
  const separator = shape.includes(':') ? ':' : '';
  const count = shape.replaceAll(':', '').length / 2;
  const match = new RegExp(`^([+-])(\\d{2})${`${separator}(\\d{2})`.repeat(count - 1)}`).exec(rest);
  if (match === null) throw new Mismatch('no offset');
  const seconds = Number(match[2]) * 3600 + Number(match[3] ?? 0) * 60 + Number(match[4] ?? 0);
  if (Number(match[2]) > 24 || Number(match[3] ?? 0) > 59) throw new Mismatch('no such offset');
  found.offset = match[1] === '-' ? -seconds : seconds;
  return rest.slice(match[0].length);
}

function parseName(element: string, rest: string, found: Parsed): string {
  if (element === 'PM' || element === 'pm') {
    const word = take(/^(am|pm)/i, rest);
    found.afternoon = word.toLowerCase() === 'pm';
    return rest.slice(2);
  }
  if (element === 'MST') {
    const name = take(/^[A-Z]{3,4}/, rest);
    found.offset = 0;
    return rest.slice(name.length);
  }
  const names: readonly string[] = element.startsWith('J') ? MONTHS : DAYS;
  const short = element.length === 3;
  const index = names.findIndex((name) =>
    rest.toLowerCase().startsWith((short ? name.slice(0, 3) : name).toLowerCase()),
  );
  if (index < 0) throw new Mismatch('no such name');
  if (element.startsWith('J')) found.month = index + 1;
  return rest.slice(short ? 3 : (names[index] ?? '').length);
}

function take(pattern: RegExp, rest: string): string {
  const match = pattern.exec(rest);
  if (match === null) throw new Mismatch('the text is of another layout');
  return match[0];
}

function finish(found: Parsed): bigint {
  if (found.afternoon === true && found.hour < 12) found.hour += 12;
  if (found.afternoon === false && found.hour === 12) found.hour = 0;
  const last = new Date(Date.UTC(found.year === 0 ? 4 : found.year, found.month, 0)).getUTCDate();
  const { month, day, hour, minute, second } = found;
  if (month < 1 || month > 12 || day < 1 || day > last || hour > 23 || minute > 59 || second > 59) {
    throw new Mismatch('out of range');
  }
  return found.offset === null
    ? instantInZone(found.year, month, day, found, 'UTC')
    : instant(found.year, month, day, found, found.offset);
}
