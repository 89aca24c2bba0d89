/** Addresses of the listeners: what is answered there, under which base URL, and why one could not be opened. */
import type { AddressInfo } from 'node:net';
import { resolve } from 'node:path';
import type { Config } from '../config/schema.ts';
import type { HostRule } from '../http/host.ts';
import { hostName } from '../http/host.ts';
import type { TlsFiles } from '../http/tls.ts';

/** An address that cannot be had, in words that say what to do. */
export function refusedAddress(error: unknown, address: string): never {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'EADDRINUSE') {
    throw new ListenError(
      `${address} is in use: stop what listens there, or choose another address in \`listen\` (or with PORTCULLIS_PORT, PORTCULLIS_ADMIN_PORT)`,
    );
  }
  if (code === 'EACCES') throw new ListenError(`${address} may not be opened: ports below 1024 need privileges`);
  if (code === 'EADDRNOTAVAIL') throw new ListenError(`${address} is no address of this machine`);
  throw error;
}

/** A listener could not be opened; the message is for the operator. */
export class ListenError extends Error {
  override readonly name = 'ListenError';
}

/** Who is told the public address may use it. Where every host is answered there is nothing to add. */
export function answeredHosts(rule: HostRule, publicUrl: string | undefined): HostRule {
  const host = publicUrl === undefined ? null : hostName(new URL(publicUrl).host);
  return rule === 'any' || host === null ? rule : new Set([...rule, host]);
}

/** The host of `HOST:PORT`. */
export const hostOf = (address: string) => address.slice(0, address.lastIndexOf(':'));

/** What clients use. */
export function baseUrl(encrypted: boolean, { address, family, port }: AddressInfo): string {
  const anywhere = address === '::' || address === '0.0.0.0';
  const host = anywhere ? 'localhost' : family === 'IPv6' ? `[${address}]` : address;
  return `${encrypted ? 'https' : 'http'}://${host}:${port}`;
}

/** Absolute names of the files that a listener with TLS reads. */
export function tlsFiles(tls: Config['listen']['data']['tls'], baseDir: string): TlsFiles | undefined {
  if (tls === undefined) return undefined;
  const { cert, key, client_ca } = tls;
  return {
    cert: resolve(baseDir, cert),
    key: resolve(baseDir, key),
    ...(client_ca === undefined ? {} : { client_ca: resolve(baseDir, client_ca) }),
  };
}
