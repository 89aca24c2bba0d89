/**
 * Fetches what a client says of itself from an address the client chose: https only, no redirects, little of it, in a
 * short time, and never from inside: each address a name stands for is looked at, and the connection goes to one that was
 * looked at. Source: security 2.7, draft-ietf-oauth-client-id-metadata-document 6.
 */
import { lookup as resolveName } from 'node:dns/promises';
import { request } from 'node:https';
import type { LookupFunction } from 'node:net';
import { BlockList, isIP, isIPv6 } from 'node:net';
import { tidyMetadata } from './registration.ts';

export interface ClientFetchOptions {
  /** Bytes of the longest document. */
  readonly maxBytes: number;
  /** For everything together. */
  readonly timeoutMs: number;
  /** Development: a client on this machine has a document here. */
  readonly allowsLoopback: boolean;
  /** Instead of the system's; every address a name stands for. */
  readonly resolve?: (host: string) => Promise<readonly string[]>;
}

/** Special-purpose addresses (IANA registries of RFC 6890): none of them is a stranger's web server. */
const SPECIAL_V4 = [
  ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24'],
  ...['192.0.2.0/24', '192.31.196.0/24', '192.52.193.0/24', '192.88.99.0/24', '192.168.0.0/16', '192.175.48.0/24'],
  ...['198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24', '224.0.0.0/4', '240.0.0.0/4'],
];
/** Outside of 2000::/3 nothing is global unicast; inside of it these hold other addresses or are nobody's. */
const SPECIAL_V6 = ['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20'];

const special = new BlockList();
for (const range of SPECIAL_V4) special.addSubnet(...parts(range), 'ipv4');
for (const range of SPECIAL_V6) special.addSubnet(...parts(range), 'ipv6');
const global6 = new BlockList();
global6.addSubnet('2000::', 3, 'ipv6');
const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

function parts(range: string): [string, number] {
  const [address = '', bits] = range.split('/');
  return [address, Number(bits)];
}

/** Whether a document may be fetched from this address. */
export function isOpenAddress(address: string, allowsLoopback: boolean): boolean {
  const family = isIPv6(address) ? 'ipv6' : 'ipv4';
  if (isIP(address) === 0) return false;
  if (allowsLoopback && loopback.check(address, family)) return true;
  return !special.check(address, family) && (family === 'ipv4' || global6.check(address, 'ipv6'));
}

const systemNames = async (host: string): Promise<readonly string[]> =>
  (await resolveName(host, { all: true })).map(({ address }) => address);

/** A `fetch` for the library. Rejects for an address that is not open, a time-out, or a body that is too long. */
export function createClientFetch(options: ClientFetchOptions) {
  return async (url: string | URL): Promise<Response> => {
    const target = new URL(url);
    if (target.protocol !== 'https:') throw new TypeError('only https addresses are fetched');
    const signal = AbortSignal.timeout(options.timeoutMs);
    const host = target.hostname.replace(/^\[|\]$/g, '');
    const found = isIP(host) > 0 ? [host] : await within(signal, (options.resolve ?? systemNames)(host));
    // All of them: a name that stands for one address inside and one outside is meant to confuse.
    const [first] = found;
    if (first === undefined || !found.every((address) => isOpenAddress(address, options.allowsLoopback)))
      throw new TypeError('the address is not one that is fetched from');
    return fetchFrom(target, first, options.maxBytes, signal);
  };
}

/** Who answers for a name may be slow on purpose, too. */
function within<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  return Promise.race([work, promise]);
}

/** Asks the one address that was looked at, whatever the name stands for a moment later. */
function fetchFrom(target: URL, address: string, maxBytes: number, signal: AbortSignal): Promise<Response> {
  const family = isIPv6(address) ? 6 : 4;
  const lookup: LookupFunction = (_name, { all }, done) =>
    all === true ? done(null, [{ address, family }]) : done(null, address, family);
  const { promise, resolve, reject } = Promise.withResolvers<Response>();
  const headers = { accept: 'application/json', 'accept-encoding': 'identity' };
  const asked = request(target, { lookup, signal, headers, agent: false, method: 'GET' }, (incoming) => {
    const chunks: Buffer[] = [];
    let size = 0;
    incoming.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > maxBytes) incoming.destroy(new RangeError('the document is too long'));
      else chunks.push(chunk);
    });
    incoming.on('error', reject);
    incoming.on('end', () => resolve(answer(incoming.statusCode ?? 0, incoming.headers, Buffer.concat(chunks))));
  });
  asked.on('error', reject);
  asked.end();
  return promise;
}

/** A redirect is what it is: not the document. */
function answer(status: number, from: Readonly<Record<string, string | string[] | undefined>>, body: Buffer): Response {
  const headers = new Headers();
  for (const name of ['cache-control', 'content-type', 'expires']) {
    const value = from[name];
    if (typeof value === 'string') headers.set(name, value);
  }
  if (status < 200 || status > 599 || [204, 205, 304].includes(status)) return new Response(null, { status: 502 });
  return new Response(new Uint8Array(status === 200 ? tidyMetadata(body) : body), { status, headers });
}
