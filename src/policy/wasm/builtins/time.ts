/** `time.*`. Instants are int64 nanoseconds since the epoch. Source: OPA policy reference. */
import type { Rego } from '../values.ts';
import { type Civil, checked, civil, instant } from './civil.ts';
import { formatTime, LAYOUTS, parseTime } from './layout.ts';
import { asArray, asBigInt, asInteger, asText, changing, fromBigInt, Mismatch, pure } from './support.ts';

/** `ns` or `[ns, zone, …]`. */
function when(value: Rego | undefined): readonly [bigint, string] {
  if (!Array.isArray(value)) return [checked(asBigInt(value)), ''];
  const [ns, zone] = asArray(value);
  return [checked(asBigInt(ns)), zone === undefined ? '' : asText(zone)];
}

function calendar(value: Rego | undefined): Civil {
  return civil(...when(value));
}

const UNITS: Readonly<Record<string, bigint>> = {
  ns: 1n,
  us: 1000n,
  µs: 1000n,
  μs: 1000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
  d: 86_400_000_000_000n,
  w: 604_800_000_000_000n,
};

/** Go durations, with days and weeks, such as `1h30m` and `-1.5s`, in nanoseconds. */
function parseDuration(text: string): bigint {
  const match = /^([+-]?)((?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h|d|w))+$/.exec(text);
  if (match === null) {
    if (/^[+-]?0$/.test(text)) return 0n;
    throw new Mismatch('not a duration');
  }
  let total = 0n;
  for (const [, whole, part, unit] of text.matchAll(/(\d*)(?:\.(\d*))?(ns|us|µs|μs|ms|s|m|h|d|w)/g)) {
    const scale = UNITS[unit ?? ''] ?? 0n;
    const digits = (part ?? '').slice(0, 18);
    total += BigInt(whole || '0') * scale + (BigInt(digits || '0') * scale) / 10n ** BigInt(digits.length);
  }
  return checked(match[1] === '-' ? -total : total);
}

/** Calendar difference [years, months, days, hours, minutes, seconds], never negative. */
function difference(a: Rego | undefined, b: Rego | undefined): Rego {
  const [firstNs, zone] = when(a);
  const [secondNs] = when(b);
  const [from, to] = firstNs <= secondNs ? [firstNs, secondNs] : [secondNs, firstNs];
  const x = civil(from, zone);
  const y = civil(to, zone);
  const parts = [
    y.year - x.year,
    y.month - x.month,
    y.day - x.day,
    y.hour - x.hour,
    y.minute - x.minute,
    y.second - x.second,
  ] as [number, number, number, number, number, number];
  if (parts[5] < 0) borrow(parts, 5, 60);
  if (parts[4] < 0) borrow(parts, 4, 60);
  if (parts[3] < 0) borrow(parts, 3, 24);
  if (parts[2] < 0) borrow(parts, 2, new Date(Date.UTC(x.year, x.month, 0)).getUTCDate());
  if (parts[1] < 0) borrow(parts, 1, 12);
  return parts;
}

function borrow(parts: number[], index: number, size: number): void {
  parts[index] = (parts[index] ?? 0) + size;
  parts[index - 1] = (parts[index - 1] ?? 0) - 1;
}

function addDate(ns: bigint, years: number, months: number, days: number): Rego {
  const time = civil(checked(ns), '');
  return fromBigInt(instant(time.year + years, time.month + months, time.day + days, time, 0));
}

function format(value: Rego | undefined): Rego {
  const [ns, zone] = when(value);
  const named = Array.isArray(value) ? asArray(value)[2] : undefined;
  const layout = named === undefined ? (LAYOUTS.RFC3339Nano ?? '') : asText(named);
  return formatTime(LAYOUTS[layout] ?? layout, civil(ns, zone), zone);
}

export const TIME = [
  ...changing({ 'time.now_ns': (_, context) => fromBigInt(context.nowNs) }),
  ...pure({
    'time.clock': ([value]) => {
      const time = calendar(value);
      return [time.hour, time.minute, time.second];
    },
    'time.date': ([value]) => {
      const time = calendar(value);
      return [time.year, time.month, time.day];
    },
    'time.weekday': ([value]) => formatTime('Monday', calendar(value), ''),
    'time.parse_rfc3339_ns': ([text]) => fromBigInt(checked(parseTime(LAYOUTS.RFC3339 ?? '', asText(text)))),
    'time.parse_ns': ([layout, text]) => {
      const name = asText(layout);
      return fromBigInt(checked(parseTime(LAYOUTS[name] ?? name, asText(text))));
    },
    'time.parse_duration_ns': ([text]) => fromBigInt(parseDuration(asText(text))),
    'time.add_date': ([value, years, months, days]) =>
      addDate(asBigInt(value), asInteger(years), asInteger(months), asInteger(days)),
    'time.diff': ([a, b]) => difference(a, b),
    'time.format': ([value]) => format(value),
  }),
];
