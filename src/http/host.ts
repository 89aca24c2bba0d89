/** Who the request is addressed to: the Host header, and which hosts and origins are answered. Source: RFC 9110 section 7.2. */
import { canonicalAddress, isLoopback } from './addresses.ts';

const known = new Map<string, string | null>();
const KNOWN_LIMIT = 1000;
const LONGEST = 262;

/**
 * The host name of a Host header (lower case, without port and final dot; IPv6 in brackets), or null when the header is
 * anything but `name[:port]`, `1.2.3.4[:port]` or `[v6][:port]`.
 */
export function hostName(header: string): string | null {
  const seen = known.get(header);
  if (seen !== undefined) return seen;
  if (header.length > LONGEST) return null;
  const name = readHost(header.toLowerCase());
  if (known.size >= KNOWN_LIMIT) known.clear();
  known.set(header, name);
  return name;
}

function readHost(text: string): string | null {
  const bracketed = /^\[([0-9a-f]*:[0-9a-f:.]*)\](?::(\d{1,5}))?$/.exec(text);
  if (bracketed !== null) {
    const address = canonicalAddress(bracketed[1] ?? '');
    if (address === null || !isPort(bracketed[2])) return null;
    return address.includes(':') ? `[${address}]` : address;
  }
  const plain =
    /^((?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)\.?(?::(\d{1,5}))?$/.exec(text);
  return plain === null || !isPort(plain[2]) ? null : (plain[1] ?? null);
}

function isPort(text: string | undefined): boolean {
  return text === undefined || Number(text) <= 65_535;
}

/** Which Host headers are answered: a set of names, or every valid one. */
export type HostRule = ReadonlySet<string> | 'any';

const LOCAL_NAMES = ['localhost', '127.0.0.1', '[::1]'] as const;

/**
 * The rule for one listener. A loopback listener answers local names only, so that a web page whose DNS name was pointed
 * at 127.0.0.1 gets nothing (DNS rebinding); in production without a list any name is answered, for a proxy stands there.
 * @param address the address the listener is bound to, without port
 * @param allowed names of the config; ports are ignored
 * @throws RangeError for a name that could never match
 */
export function hostRule(address: string, allowed: readonly string[], mode: 'development' | 'production'): HostRule {
  const names = allowed.map((text) => {
    const name = hostName(text);
    if (name === null) throw new RangeError(`"${text}" is not a host name`);
    return name;
  });
  const bare = address.replace(/^\[|\]$/g, '');
  const local = bare === 'localhost' || isLoopback(bare);
  if (names.length === 0 && (mode === 'production' || !local)) return 'any';
  return new Set(local ? [...names, ...LOCAL_NAMES] : names);
}

/** What decides whether a browser page of some origin may call. */
export interface OriginRule {
  /** Exact origins, e.g. `https://app.example.com`. */
  readonly origins: ReadonlySet<string>;
  /** Pages served from this machine may call a loopback listener. */
  readonly local: boolean;
}

/** True when the origin is listed, is the host that was asked itself, or is local at a loopback listener. */
export function originAllowed(origin: string, host: string, rule: OriginRule): boolean {
  if (rule.origins.has(origin)) return true;
  const name = /^https?:\/\/([^/?#@\\]+)$/.exec(origin)?.[1];
  const from = name === undefined ? null : hostName(name);
  if (from === null) return false;
  return from === host || (rule.local && (LOCAL_NAMES as readonly string[]).includes(from));
}
