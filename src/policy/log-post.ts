/** Services that take what OPA sends: a POST with a bounded time and no interest in the answer but its status. */
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Secret } from '../core/secret.ts';

/** Where such a service is, and how it is reached. */
export interface ManagementService {
  /** Base URL. */
  readonly url: string;
  readonly credential?: Secret | undefined;
  readonly partition?: string | undefined;
  /** PEM text. */
  readonly ca?: string | undefined;
}

const POST_MS = 10_000;

/** Tells the service: `POST URL/API[/PARTITION]`. Null when it took it, else why not; never rejects. */
export async function tell(
  { url, credential, partition, ca }: ManagementService,
  api: 'logs' | 'status',
  body: Buffer,
  encoding?: 'gzip',
): Promise<string | null> {
  const address = [url.replace(/\/+$/, ''), api, ...(partition === undefined ? [] : [encodeURIComponent(partition)])];
  const headers = {
    'content-type': 'application/json',
    ...(encoding === undefined ? {} : { 'content-encoding': encoding }),
    ...(credential === undefined ? {} : { authorization: `Bearer ${credential.reveal()}` }),
  };
  try {
    const status = await post(address.join('/'), { headers, body, ca: ca ?? null, timeoutMs: POST_MS });
    return status >= 200 && status < 300 ? null : `answered with status ${status}`;
  } catch (cause) {
    return (cause as Error).message;
  }
}

interface PostOptions {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** PEM text of the only authority to trust; null: the usual ones. */
  readonly ca: string | null;
  readonly timeoutMs: number;
}

/** The status of the answer. Rejects when there is none in time; redirects are not followed. */
function post(url: string, { headers, body, ca, timeoutMs }: PostOptions): Promise<number> {
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
