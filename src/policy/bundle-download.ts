/**
 * One request to a bundle service. Redirects are answers of somebody else and refused; what comes is counted while it
 * comes. Source: OPA bundle service API.
 */
import type { IncomingMessage } from 'node:http';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';

export interface DownloadRequest {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** PEM text of the authority to trust instead of the system's, or null. */
  readonly ca: string | null;
  readonly maxBytes: number;
  /** Milliseconds for all of it. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export type Download =
  | { readonly kind: 'bundle'; readonly bytes: Buffer; readonly etag: string | null; readonly longPolling: boolean }
  | { readonly kind: 'unchanged'; readonly longPolling: boolean };

/** No bundle came; the message is for the operator. `status` 0: no answer at all. */
export class DownloadError extends Error {
  override readonly name = 'DownloadError';
  readonly status: number;

  constructor(message: string, status: number, options?: ErrorOptions) {
    super(message, options);
    this.status = status;
  }
}

/** Rejects with DownloadError. */
export async function download(wanted: DownloadRequest): Promise<Download> {
  const signal = AbortSignal.any([wanted.signal, AbortSignal.timeout(wanted.timeoutMs)]);
  try {
    return await exchange(wanted, signal);
  } catch (cause) {
    if (cause instanceof DownloadError) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    const timedOut = signal.aborted && !wanted.signal.aborted;
    const why = timedOut ? `nothing whole came within ${wanted.timeoutMs} ms` : (code ?? message);
    throw new DownloadError(`the bundle service cannot be asked: ${why}`, 0, { cause });
  }
}

function exchange(wanted: DownloadRequest, signal: AbortSignal): Promise<Download> {
  const secure = wanted.url.startsWith('https:');
  const options = {
    headers: { accept: 'application/gzip, application/octet-stream', 'accept-encoding': 'identity', ...wanted.headers },
    signal,
    agent: false,
    ...(secure && wanted.ca !== null ? { ca: wanted.ca } : {}),
  };
  return new Promise((resolve, reject) => {
    const sent = (secure ? httpsRequest : httpRequest)(wanted.url, options, (response) => {
      receive(response, wanted.maxBytes).then(resolve, (error: unknown) => {
        sent.destroy();
        reject(error);
      });
    });
    sent.on('error', reject);
    sent.end();
  });
}

/** How a service says that it can hold a request open until there is news. */
const LONG_POLLING = 'application/vnd.openpolicyagent.bundles';

async function receive(response: IncomingMessage, maxBytes: number): Promise<Download> {
  const { statusCode: status = 0, headers } = response;
  const longPolling = (headers['content-type'] ?? '').split(';')[0]?.trim() === LONG_POLLING;
  if (status === 304) {
    response.resume();
    return { kind: 'unchanged', longPolling };
  }
  if (status >= 300 && status < 400)
    throw new DownloadError(`the bundle service sends elsewhere (${status}), which is refused`, status);
  if (status !== 200) throw new DownloadError(`the bundle service answered ${status}`, status);
  if ((headers['content-encoding'] ?? 'identity') !== 'identity') {
    throw new DownloadError('the bundle service answered with a content coding that was not asked for', status);
  }
  const tooLarge = () => new DownloadError(`the bundle is larger than ${maxBytes} bytes`, status);
  if (Number(headers['content-length'] ?? 0) > maxBytes) throw tooLarge();
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of response as AsyncIterable<Buffer>) {
    size += piece.length;
    if (size > maxBytes) throw tooLarge();
    pieces.push(piece);
  }
  return { kind: 'bundle', bytes: Buffer.concat(pieces), etag: headers.etag ?? null, longPolling };
}
