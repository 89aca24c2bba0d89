/** What clients say of themselves, before the library reads it. */
import { isJsonObject, type JsonObject, type JsonValue } from '../../core/json.ts';

/**
 * The metadata without `scope`, which would bind nobody here: what is granted is what a person agrees to; and with
 * `application_type: native` where every redirect is to the client's own machine: many clients leave it out, and only a
 * native one may come back on another port (RFC 8252 7.3); its name as it may be shown. What is no JSON object stays as it is.
 */
export function tidyMetadata(body: Buffer): Buffer {
  const given = parsed(body);
  if (given === null) return body;
  const { scope: _scope, client_name: name, ...rest } = given;
  const tidy = typeof name === 'string' ? shownName(name) : name;
  const metadata = tidy === undefined || tidy === '' ? rest : { ...rest, client_name: tidy };
  const { application_type: type, redirect_uris: redirects } = metadata;
  const isNative = type === undefined && Array.isArray(redirects) && redirects.length > 0;
  const told = isNative && redirects.every(isOwnMachine) ? { ...metadata, application_type: 'native' } : metadata;
  return Buffer.from(JSON.stringify(told));
}

/** Also letters that are blank, such as the Hangul filler, and the empty Braille pattern. */
const UNSEEN = /[\p{C}\p{Z}\p{Default_Ignorable_Code_Point}\u2800\s]+/gu;

/** Characters of a client's name. */
const MAX_NAME = 200;

/**
 * A client's name as people read it before they agree: on one line, without what is not seen or turns the direction of what
 * follows, and not so long that the rest of the page is out of sight. Source: RFC 7591 5, UTR 36 3.
 */
export function shownName(name: string): string {
  const seen = name.toWellFormed().replaceAll(UNSEEN, ' ');
  return [...seen.trim()].slice(0, MAX_NAME).join('').trim();
}

function parsed(body: Buffer): JsonObject | null {
  try {
    const value = JSON.parse(body.toString('utf8')) as JsonValue;
    return isJsonObject(value) ? value : null;
  } catch {
    return null;
  }
}

/** Hosts of addresses that are a client's own machine. */
export const LOOPBACK: ReadonlySet<string> = new Set(['localhost', '127.0.0.1', '[::1]']);

function isOwnMachine(uri: JsonValue): boolean {
  const url = typeof uri === 'string' ? URL.parse(uri) : null;
  if (url === null || url.protocol === 'https:') return false;
  return url.protocol !== 'http:' || LOOPBACK.has(url.hostname);
}

/** A host as names and addresses are written. Others that a URL allows would say something in the policy of a page. */
const HOST = /^(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])$/;

/**
 * Whether a code may be sent there: https, or http to the client's own machine, or an app's own scheme; and written so
 * that nobody reads another address in it than a browser does. Source: OAuth 2.1 2.3, RFC 9700 2.6 and 4.1.
 */
export function isRedirect(uri: unknown): boolean {
  if (typeof uri !== 'string' || !/^[a-z][a-z0-9+.-]*:[\x21-\x5b\x5d-\x7e]*$/i.test(uri)) return false;
  const url = URL.parse(uri);
  if (url === null || url.username !== '' || url.password !== '') return false;
  const { protocol, hostname } = url;
  if (protocol !== 'https:' && protocol !== 'http:') return true;
  const isWritten = uri.toLowerCase().startsWith(`${protocol}//`) && HOST.test(hostname);
  return isWritten && (protocol === 'https:' || LOOPBACK.has(hostname));
}
