/** What clients say of themselves, before the library reads it. */
import { isJsonObject, type JsonObject, type JsonValue } from '../../core/json.ts';

/**
 * The metadata without `scope`, which would bind nobody here: what is granted is what a person agrees to; and with
 * `application_type: native` where every redirect is to the client's own machine: many clients leave it out, and only a
 * native one may come back on another port (RFC 8252 7.3). What is no JSON object stays as it is.
 */
export function tidyMetadata(body: Buffer): Buffer {
  const given = parsed(body);
  if (given === null) return body;
  const { scope: _scope, ...metadata } = given;
  const { application_type: type, redirect_uris: redirects } = metadata;
  const isNative = type === undefined && Array.isArray(redirects) && redirects.length > 0;
  const told = isNative && redirects.every(isOwnMachine) ? { ...metadata, application_type: 'native' } : metadata;
  return Buffer.from(JSON.stringify(told));
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
