/** Network addresses and ranges. The only file that knows ipaddr.js. */
import ipaddr from 'ipaddr.js';

/** Answers for one address; results are remembered, at most this many. */
const REMEMBERED = 10_000;

type Parsed = ipaddr.IPv4 | ipaddr.IPv6;
type Range = readonly [Parsed, number];

function parse(text: string): Parsed | null {
  // `ipaddr.process` also reads `0x7f.1`, `127.1` and octal parts; only the one canonical form may name an address.
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return ipaddr.IPv4.parse(text);
  if (!text.includes(':') || text.includes('%') || !ipaddr.IPv6.isValid(text)) return null;
  return ipaddr.process(text);
}

/**
 * The one spelling of an address: IPv4-mapped IPv6 as IPv4, IPv6 compressed, no zone.
 * @returns null when the text is not an address
 */
export function canonicalAddress(text: string): string | null {
  const parsed = parse(text);
  return parsed === null ? null : parsed.toString();
}

/** @throws RangeError when the text is neither an address nor a CIDR range */
function parseRange(text: string): Range {
  const slash = text.indexOf('/');
  const address = parse(slash === -1 ? text : text.slice(0, slash));
  if (address === null) throw new RangeError(`"${text}" is not an address range; write e.g. 10.0.0.0/8 or ::1/128`);
  const widest = address.kind() === 'ipv4' ? 32 : 128;
  if (slash === -1) return [address, widest];
  const bits = text.slice(slash + 1);
  const length = Number(bits);
  if (!/^\d{1,3}$/.test(bits) || length > widest) throw new RangeError(`"${text}" has no valid prefix length`);
  return [address, length];
}

const inRange = (address: Parsed, [base, bits]: Range): boolean =>
  address.kind() === base.kind() && address.match(base as never, bits);

function remember<T>(compute: (address: string) => T): (address: string) => T {
  const known = new Map<string, T>();
  return (address) => {
    const seen = known.get(address);
    if (seen !== undefined) return seen;
    const value = compute(address);
    if (known.size >= REMEMBERED) known.clear();
    known.set(address, value);
    return value;
  };
}

/**
 * Tells whether an address lies in one of the ranges. What is not an address lies in none.
 * @throws RangeError at once for a range that cannot be read
 */
export function addressMatcher(ranges: readonly string[]): (address: string) => boolean {
  const parsed = ranges.map(parseRange);
  if (parsed.length === 0) return () => false;
  return remember((text) => {
    const address = parse(text);
    return address !== null && parsed.some((range) => inRange(address, range));
  });
}

/**
 * Names the region of an address: the longest matching prefix wins, `unknown` without a match.
 * @throws RangeError at once for a range that cannot be read
 */
export function regionTable(regions: Readonly<Record<string, string>>): (address: string) => string {
  const rows = Object.entries(regions)
    .map(([range, name]) => ({ range: parseRange(range), name }))
    .sort((a, b) => b.range[1] - a.range[1]);
  return remember((text) => {
    const address = parse(text);
    return (address && rows.find((row) => inRange(address, row.range))?.name) ?? 'unknown';
  });
}

/** True for 127.0.0.0/8 and ::1, also IPv4-mapped. */
export const isLoopback: (address: string) => boolean = addressMatcher(['127.0.0.0/8', '::1/128']);
