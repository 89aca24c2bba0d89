/** What the client presented, read from headers only: never from the query, which ends up in logs. Source: acceptance D-03, DF-20. */
import { GatewayError } from '../core/errors.ts';
import type { CredentialKind } from '../core/principal.ts';
import { Secret } from '../core/secret.ts';
import type { Credential } from './provider.ts';

/** A scheme's credential kind. Other schemes are refused, not taken for Bearer. */
const SCHEMES: Readonly<Record<string, CredentialKind>> = { bearer: 'bearer', apikey: 'api-key', basic: 'basic' };

const NONE: readonly Credential[] = Object.freeze([]);

/**
 * The credentials of a request, in the order `Authorization`, `X-API-Key`; empty when none was presented. An error
 * when a header is there but cannot be read: such a request must not pass as one without credentials.
 */
export function readCredentials(headers: Readonly<Record<string, string>>): readonly Credential[] | GatewayError {
  const authorization = headers.authorization;
  const apiKey = headers['x-api-key'];
  if (authorization === undefined && apiKey === undefined) return NONE;
  const found: Credential[] = [];
  if (authorization !== undefined) {
    const credential = readAuthorization(authorization);
    if (credential === null) return malformed();
    found.push(credential);
  }
  if (apiKey !== undefined) {
    const text = apiKey.trim();
    if (!isToken68(text, 0)) return malformed();
    // The same text in both headers is one credential.
    if (found[0]?.value.reveal() !== text)
      found.push({ kind: 'api-key', value: new Secret(text), source: 'x-api-key' });
  }
  return found;
}

function malformed(): GatewayError {
  // RFC 9110 15.5.2: every 401 says how to do better.
  return new GatewayError('INVALID_CREDENTIALS', { challenge: 'Bearer realm="portcullis", error="invalid_token"' });
}

function readAuthorization(header: string): Credential | null {
  const text = header.trim();
  const space = text.indexOf(' ');
  if (space < 1) return null;
  const scheme = text.slice(0, space).toLowerCase();
  const kind = Object.hasOwn(SCHEMES, scheme) ? SCHEMES[scheme] : undefined;
  if (kind === undefined) return null;
  const value = text.slice(space + 1).trimStart();
  return isToken68(value, 0) ? { kind, value: new Secret(value), source: 'authorization' } : null;
}

/** RFC 9110 11.2 token68. Also keeps two joined headers (`a, Bearer b`), spaces and non-ASCII out. */
function isToken68(text: string, from: number): boolean {
  let i = from;
  for (; i < text.length; i++) {
    const c = text.charCodeAt(i);
    const alphanumeric = (c >= 48 && c <= 57) || (c >= 65 && c <= 90) || (c >= 97 && c <= 122);
    // - . _ ~ + /
    if (!alphanumeric && c !== 45 && c !== 46 && c !== 95 && c !== 126 && c !== 43 && c !== 47) break;
  }
  if (i === from) return false;
  for (; i < text.length; i++) if (text.charCodeAt(i) !== 61) return false;
  return true;
}
