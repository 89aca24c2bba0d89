/** What is filled in of a client that registers itself. */
import { isJsonObject, type JsonObject, type JsonValue } from '../../core/json.ts';

/**
 * The registration with `application_type: native` where every redirect is to the client's own machine: many clients
 * leave it out, and only a native one may come back on another port (RFC 8252 7.3). Anything else stays as it is.
 */
export function withApplicationType(body: Buffer): Buffer {
  const given = parsed(body);
  if (given === null || given.application_type !== undefined || !Array.isArray(given.redirect_uris)) return body;
  const isNative = given.redirect_uris.length > 0 && given.redirect_uris.every(isOwnMachine);
  return isNative ? Buffer.from(JSON.stringify({ ...given, application_type: 'native' })) : body;
}

function parsed(body: Buffer): JsonObject | null {
  try {
    const value = JSON.parse(body.toString('utf8')) as JsonValue;
    return isJsonObject(value) ? value : null;
  } catch {
    return null;
  }
}

const LOOPBACK = new Set(['localhost', '127.0.0.1', '[::1]']);

function isOwnMachine(uri: JsonValue): boolean {
  const url = typeof uri === 'string' ? URL.parse(uri) : null;
  if (url === null || url.protocol === 'https:') return false;
  return url.protocol !== 'http:' || LOOPBACK.has(url.hostname);
}
