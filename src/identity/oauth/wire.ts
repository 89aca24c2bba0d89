/**
 * What openid-client sends and receives: https (http to loopback only), no redirects, bounded in time and size, and only
 * JSON that has one meaning. Source: security 2.3 and 2.4; RFC 9700 4.12 (redirects would carry our credentials away).
 */
import type { CustomFetch } from 'openid-client';
import { FETCH_MAX_BYTES, isFetchable } from '../key-fetch.ts';
import { readJsonObject } from '../strict-json.ts';

/** The identity provider could not be asked, or gave an answer that is none: an outage, never a verdict on a token. */
export class WireError extends Error {}

type Body = NonNullable<RequestInit['body']>;

const JSON_TYPE = /^application\/(?:[a-z0-9.+-]+\+)?json$/;

/**
 * @param timeoutMs from the first byte sent to the last one received
 * @param answer what a good answer is: JSON, or anything at all where its body says nothing
 */
export function boundedFetch(timeoutMs: number, answer: 'json' | 'body ignored' = 'json'): CustomFetch {
  return async (url, { body, headers, method }) => {
    if (!isFetchable(url)) throw new WireError('the URL must be https, or http to loopback');
    const response = await fetch(url, {
      // openid-client types a body as any bytes; it only ever sends forms.
      body: body as Body,
      headers: { ...headers, 'accept-encoding': 'identity' },
      method,
      redirect: 'manual',
      signal: AbortSignal.timeout(timeoutMs),
    });
    const bytes = await collect(response);
    if (response.ok && answer === 'json') requireJson(response, bytes);
    const kept = new Headers();
    for (const name of ['content-type', 'www-authenticate', 'cache-control']) {
      const value = response.headers.get(name);
      if (value !== null) kept.set(name, value);
    }
    const hasBody = response.status !== 204 && response.status !== 304;
    return new Response(hasBody ? new Uint8Array(bytes) : null, { status: response.status, headers: kept });
  };
}

async function collect({ body }: Response): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of (body ?? []) as AsyncIterable<Uint8Array>) {
    size += piece.length;
    if (size > FETCH_MAX_BYTES) throw new WireError(`answered with more than ${FETCH_MAX_BYTES} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

function requireJson(response: Response, bytes: Buffer): void {
  const type = (response.headers.get('content-type') ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? '';
  if (!JSON_TYPE.test(type)) throw new WireError('answered with something other than JSON');
  if (readJsonObject(bytes) === null)
    throw new WireError('answered with JSON that is no object or can be read in two ways');
}
