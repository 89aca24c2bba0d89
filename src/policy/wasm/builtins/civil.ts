/** Calendar arithmetic on nanoseconds, with IANA time zones. */
import { Mismatch } from './support.ts';

export interface Civil {
  readonly year: number;
  /** 1 to 12. */
  readonly month: number;
  readonly day: number;
  readonly hour: number;
  readonly minute: number;
  readonly second: number;
  readonly nanosecond: number;
  /** Seconds east of UTC. */
  readonly offset: number;
  /** 0 is Sunday. */
  readonly weekday: number;
}

export const NS = { second: 1_000_000_000n, ms: 1_000_000n } as const;
const formatters = new Map<string, Intl.DateTimeFormat>();
const MAX_ZONES = 600;

/** Seconds east of UTC of a zone at an instant. Throws Mismatch for a zone that does not exist. */
export function zoneOffset(zone: string, epochMs: number): number {
  if (zone === '' || zone === 'UTC' || zone === 'Local') return 0;
  let formatter = formatters.get(zone);
  if (formatter === undefined) {
    // Intl also takes offsets such as "+02:00", which Go does not.
    if (!/^[A-Za-z]/.test(zone) || formatters.size > MAX_ZONES) throw new Mismatch('no such time zone');
    formatter = new Intl.DateTimeFormat('en-US', { timeZone: zone, timeZoneName: 'longOffset' });
    formatters.set(zone, formatter);
  }
  const name = formatter.formatToParts(epochMs).find((part) => part.type === 'timeZoneName')?.value ?? 'GMT';
  const match = /^GMT(?:([+-])(\d{2}):(\d{2})(?::(\d{2}))?)?$/.exec(name);
  if (match === null || match[1] === undefined) return 0;
  const seconds = Number(match[2]) * 3600 + Number(match[3]) * 60 + Number(match[4] ?? 0);
  return match[1] === '-' ? -seconds : seconds;
}

/** Splits an instant into calendar fields of a zone. */
export function civil(ns: bigint, zone: string): Civil {
  const epochMs = Number(floorDiv(ns, NS.ms));
  if (Math.abs(epochMs) > 8.64e15) throw new Mismatch('beyond the calendar');
  const offset = zoneOffset(zone, epochMs);
  const local = new Date(epochMs + offset * 1000);
  return {
    year: local.getUTCFullYear(),
    month: local.getUTCMonth() + 1,
    day: local.getUTCDate(),
    hour: local.getUTCHours(),
    minute: local.getUTCMinutes(),
    second: local.getUTCSeconds(),
    nanosecond: Number(((ns % NS.second) + NS.second) % NS.second),
    offset,
    weekday: local.getUTCDay(),
  };
}

/** Epoch nanoseconds of calendar fields that may overflow (month 14 is February of next year), at an offset. */
export function instant(
  year: number,
  month: number,
  day: number,
  clock: Pick<Civil, 'hour' | 'minute' | 'second' | 'nanosecond'>,
  offset: number,
): bigint {
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  date.setUTCHours(clock.hour, clock.minute, clock.second, 0);
  const ms = date.getTime();
  if (Number.isNaN(ms)) throw new Mismatch('beyond the calendar');
  return checked((BigInt(ms) - BigInt(offset * 1000)) * NS.ms + BigInt(clock.nanosecond));
}

/** The same with a zone: the offset that is in force there. */
export function instantInZone(
  year: number,
  month: number,
  day: number,
  clock: Pick<Civil, 'hour' | 'minute' | 'second' | 'nanosecond'>,
  zone: string,
): bigint {
  const guess = instant(year, month, day, clock, 0);
  const first = zoneOffset(zone, Number(guess / NS.ms));
  const second = zoneOffset(zone, Number(guess / NS.ms) - first * 1000);
  return instant(year, month, day, clock, second);
}

/** Instants are int64 nanoseconds in Go; others have no value. */
export function checked(ns: bigint): bigint {
  if (BigInt.asIntN(64, ns) !== ns) throw new Mismatch('beyond int64 nanoseconds');
  return ns;
}

export function floorDiv(a: bigint, b: bigint): bigint {
  const quotient = a / b;
  return a % b < 0n ? quotient - 1n : quotient;
}

export const MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
] as const;

export const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'] as const;
