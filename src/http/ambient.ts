/**
 * Credentials that a browser adds by itself to whatever is sent, also to what a page of another site sends: passwords of
 * HTTP and client certificates. Session cookies have a rule of their own. Source: RFC 9110 17.16.1, VF-20.
 */
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';

/** True when the request carries one: then a page of a foreign origin has no business with it. */
export function isAmbient(headers: Readonly<Record<string, string>>, { socket }: IncomingMessage): boolean {
  if (/^basic\b/i.test(headers.authorization ?? '')) return true;
  // What a proxy says of its client's certificate; of anybody else hygiene took it off.
  for (const name of ['client-cert', 'x-forwarded-client-cert', 'x-ssl-client-cert']) {
    if (headers[name] !== undefined) return true;
  }
  return 'encrypted' in socket && (socket as TLSSocket).authorized;
}
