/**
 * Fetches a small JSON document from an identity provider under hard bounds: 1.5 s altogether, 150 KB, one hop, https
 * (http only to loopback). The limits are those of a large public gateway; source: security 1 and 2.3.
 */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';

/** Milliseconds from the first byte sent to the last one received. */
export const FETCH_TIMEOUT_MS = 1500;
export const FETCH_MAX_BYTES = 150_000;

const LOOPBACK = new Set(['localhost', '127.0.0.1', '[::1]']);

/**
 * True for URLs that may be fetched: https, or http to this machine; no credentials in the URL, no fragment. Nor anything
 * that is no part of an address and that a parser would drop or escape: such texts are shown to people, too.
 */
export function isFetchable(text: string): boolean {
  const url = /[\p{C}\s]/u.test(text) ? null : URL.parse(text);
  if (url === null || url.username !== '' || url.password !== '' || url.hash !== '') return false;
  return url.protocol === 'https:' || (url.protocol === 'http:' && LOOPBACK.has(url.hostname));
}

/** The body of a 200 answer. Rejects on any other status (a redirect too), on too much or too slow data. */
export function fetchDocument(url: string): Promise<Buffer> {
  if (!isFetchable(url)) return Promise.reject(new Error('the URL must be https, or http to loopback'));
  const signal = AbortSignal.timeout(FETCH_TIMEOUT_MS);
  const send = url.startsWith('https:') ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    const headers = { accept: 'application/jwk-set+json, application/json', 'accept-encoding': 'identity' };
    const request = send(url, { headers, signal, agent: false }, (response) => {
      collect(response).then(resolve, (error: unknown) => {
        request.destroy();
        reject(error);
      });
    });
    request.on('error', reject);
    request.end();
  });
}

async function collect(response: IncomingMessage): Promise<Buffer> {
  if (response.statusCode !== 200) throw new Error(`answered with status ${response.statusCode}`);
  const encoding = response.headers['content-encoding'] ?? 'identity';
  if (encoding !== 'identity') throw new Error('answered with a content coding that was not asked for');
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of response as AsyncIterable<Buffer>) {
    size += piece.length;
    if (size > FETCH_MAX_BYTES) throw new Error(`answered with more than ${FETCH_MAX_BYTES} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}
