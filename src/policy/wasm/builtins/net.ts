/** `net.cidr_*` beyond what the module brings. Source: RFC 4632, RFC 4291; OPA policy reference. */
import { isIP } from 'node:net';
import type { Rego, RegoObject } from '../values.ts';
import { asItems, asText, isSet, Mismatch, pure } from './support.ts';

export interface Range {
  readonly bits: 32 | 128;
  readonly first: bigint;
  readonly last: bigint;
}

function addressValue(text: string): bigint {
  if (isIP(text) === 4) return text.split('.').reduce((sum, part) => sum * 256n + BigInt(part), 0n);
  const mapped = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  let plain = text;
  if (mapped !== null) {
    const low = addressValue(mapped[2] ?? '');
    plain = `${mapped[1]}${(low >> 16n).toString(16)}:${(low & 0xffffn).toString(16)}`;
  }
  const [head = '', tail] = plain.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const middle = tail === undefined ? [] : Array.from({ length: 8 - left.length - right.length }, () => '0');
  return [...left, ...middle, ...right].reduce((sum, part) => sum * 65_536n + BigInt(`0x${part}`), 0n);
}

function addressText(value: bigint, bits: 32 | 128): string {
  if (bits === 32) return [24n, 16n, 8n, 0n].map((shift) => (value >> shift) & 255n).join('.');
  const groups = Array.from({ length: 8 }, (_, i) => ((value >> BigInt(112 - 16 * i)) & 0xffffn).toString(16));
  const longest = longestZeros(groups);
  if (longest === null) return groups.join(':');
  return `${groups.slice(0, longest[0]).join(':')}::${groups.slice(longest[1]).join(':')}`;
}

/** Where the longest run of at least two zero groups is; RFC 5952 leaves it out. */
function longestZeros(groups: readonly string[]): readonly [number, number] | null {
  let best: readonly [number, number] | null = null;
  for (let start = 0; start < groups.length; start++) {
    let end = start;
    while (groups[end] === '0') end++;
    if (end - start >= 2 && (best === null || end - start > best[1] - best[0])) best = [start, end];
    start = end;
  }
  return best;
}

/** A network, or a single address where that is allowed. */
export function parseRange(text: string, addressAllowed: boolean): Range {
  const [address = '', length, extra] = text.split('/');
  const version = isIP(address);
  if (version === 0 || address.includes('%') || extra !== undefined) throw new Mismatch('not a network');
  const bits = version === 4 ? 32 : 128;
  if (length === undefined && !addressAllowed) throw new Mismatch('not a network');
  if (length !== undefined && (!/^(0|[1-9]\d*)$/.test(length) || Number(length) > bits))
    throw new Mismatch('not a network');
  const size = 1n << BigInt(bits - Number(length ?? bits));
  const first = (addressValue(address) / size) * size;
  return { bits, first, last: first + size - 1n };
}

const MAX_EXPANDED = 65_536n;

function expand(text: string): Rego {
  const range = parseRange(text, false);
  if (range.last - range.first >= MAX_EXPANDED) throw new Mismatch('too many addresses');
  const out = new Set<Rego>();
  for (let at = range.first; at <= range.last; at++) out.add(addressText(at, range.bits));
  return out;
}

/** An IPv4 address alone stands for its classful network, as in Go; an IPv6 address alone for nothing. */
function mergeable(text: string): Range {
  if (text.includes('/')) return parseRange(text, false);
  const first = Number(text.split('.')[0]);
  if (isIP(text) !== 4 || first >= 224) throw new Mismatch('not a network');
  return parseRange(`${text}/${first < 128 ? 8 : first < 192 ? 16 : 24}`, false);
}

/** The fewest networks that cover the same addresses. */
function merge(texts: readonly string[]): Rego {
  const out = new Set<Rego>();
  for (const bits of [32, 128] as const) {
    const ranges = texts
      .map(mergeable)
      .filter((range) => range.bits === bits)
      .sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
    let open: { first: bigint; last: bigint } | null = null;
    for (const range of ranges) {
      if (open !== null && range.first <= open.last + 1n) {
        if (range.last > open.last) open.last = range.last;
        continue;
      }
      if (open !== null) split(open.first, open.last, bits, out);
      open = { first: range.first, last: range.last };
    }
    if (open !== null) split(open.first, open.last, bits, out);
  }
  return out;
}

function split(first: bigint, last: bigint, bits: 32 | 128, out: Set<Rego>): void {
  let at = first;
  while (at <= last) {
    let free = 0;
    while (free < bits && at % (1n << BigInt(free + 1)) === 0n && at + (1n << BigInt(free + 1)) - 1n <= last) free++;
    out.add(`${addressText(at, bits)}/${bits - free}`);
    at += 1n << BigInt(free);
  }
}

/** The text of a member: itself, or the first item of an array. */
function named(value: Rego): Range {
  return parseRange(asText(Array.isArray(value) ? (value as readonly Rego[])[0] : value), true);
}

/** Pairs of [key or index, range]. */
function listed(value: Rego | undefined): readonly (readonly [Rego, Range])[] {
  if (typeof value === 'string') return [[value, named(value)]];
  if (value instanceof Map) return [...(value as RegoObject)].map(([key, item]) => [key, named(item)] as const);
  if (isSet(value)) return [...value].map((item) => [item, named(item)] as const);
  return asItems(value).map((item, i) => [i, named(item)] as const);
}

function containsMatches(networks: Rego | undefined, addresses: Rego | undefined): Rego {
  const out = new Set<Rego>();
  const inner = listed(addresses);
  for (const [key, range] of listed(networks)) {
    for (const [other, part] of inner) {
      if (range.bits === part.bits && range.first <= part.first && part.last <= range.last) out.add([key, other]);
    }
  }
  return out;
}

export const NET = pure({
  'net.cidr_is_valid': ([text]) => {
    if (typeof text !== 'string') return false;
    try {
      return parseRange(text, false).bits > 0;
    } catch {
      return false;
    }
  },
  'net.cidr_expand': ([text]) => expand(asText(text)),
  'net.cidr_merge': ([texts]) => merge(asItems(texts).map(asText)),
  'net.cidr_contains_matches': ([networks, addresses]) => containsMatches(networks, addresses),
});
