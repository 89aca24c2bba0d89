/** One POST with a bounded time and no interest in the answer but its status. */
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';

export interface PostOptions {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** PEM text of the only authority to trust; null: the usual ones. */
  readonly ca: string | null;
  readonly timeoutMs: number;
}

/** The status of the answer. Rejects when there is none in time; redirects are not followed. */
export function post(url: string, { headers, body, ca, timeoutMs }: PostOptions): Promise<number> {
  const signal = AbortSignal.timeout(timeoutMs);
  const send = url.startsWith('https:') ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    const options = {
      method: 'POST',
      headers: { ...headers, 'content-length': String(body.length) },
      agent: false,
      signal,
      ...(ca === null ? {} : { ca }),
    } as const;
    const request = send(url, options, (response) => {
      response.resume();
      response.on('error', reject);
      response.on('end', () => resolve(response.statusCode ?? 0));
    });
    request.on('error', reject);
    request.end(body);
  });
}
