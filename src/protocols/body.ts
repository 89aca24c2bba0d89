/** Reads a request body up to a limit without web streams. Source: architecture 5, acceptance X-03. */
import type { IncomingMessage } from 'node:http';
import { GatewayError } from '../core/errors.ts';

const EMPTY = Buffer.alloc(0);

const tooLarge = (maxBytes: number): GatewayError =>
  new GatewayError('PAYLOAD_TOO_LARGE', { details: { limit_bytes: maxBytes } });

/**
 * The whole body. Rejects with PAYLOAD_TOO_LARGE as soon as the declared or the received length passes `maxBytes`
 * (nothing more is kept, the stream is left paused), and with CLIENT_CLOSED when the client goes away or `signal` aborts.
 */
export function readBody(incoming: IncomingMessage, maxBytes: number, signal: AbortSignal): Promise<Buffer> {
  const declared = incoming.headers['content-length'];
  if (declared === undefined && incoming.headers['transfer-encoding'] === undefined) return Promise.resolve(EMPTY);
  const length = declared === undefined ? -1 : Number(declared);
  if (length > maxBytes) return Promise.reject(tooLarge(maxBytes));
  if (length === 0) return Promise.resolve(EMPTY);
  if (signal.aborted || incoming.destroyed) return Promise.reject(new GatewayError('CLIENT_CLOSED'));
  return new Promise((resolve, reject) => {
    new BodyReader(incoming, maxBytes, signal, resolve, reject).start();
  });
}

/** One read in progress; a class so that its listeners share one shape and can all be taken off again. */
class BodyReader {
  private readonly incoming: IncomingMessage;
  private readonly maxBytes: number;
  private readonly signal: AbortSignal;
  private readonly resolve: (body: Buffer) => void;
  private readonly reject: (error: Error) => void;
  /** The only chunk so far, which is the whole body of nearly every request. */
  private first: Buffer = EMPTY;
  private rest: Buffer[] | null = null;
  private size = 0;

  constructor(
    incoming: IncomingMessage,
    maxBytes: number,
    signal: AbortSignal,
    resolve: (body: Buffer) => void,
    reject: (error: Error) => void,
  ) {
    this.incoming = incoming;
    this.maxBytes = maxBytes;
    this.signal = signal;
    this.resolve = resolve;
    this.reject = reject;
  }

  start(): void {
    this.incoming.on('data', this.onData);
    this.incoming.on('end', this.onEnd);
    this.incoming.on('error', this.onGone);
    this.incoming.on('close', this.onGone);
    this.signal.addEventListener('abort', this.onGone);
  }

  private stop(): void {
    this.incoming.off('data', this.onData);
    this.incoming.off('end', this.onEnd);
    this.incoming.off('error', this.onGone);
    this.incoming.off('close', this.onGone);
    this.signal.removeEventListener('abort', this.onGone);
  }

  private readonly onData = (chunk: Buffer): void => {
    this.size += chunk.length;
    if (this.size > this.maxBytes) {
      this.stop();
      this.incoming.pause();
      this.first = EMPTY;
      this.rest = null;
      this.reject(tooLarge(this.maxBytes));
    } else if (this.rest !== null) this.rest.push(chunk);
    else if (this.first.length === 0) this.first = chunk;
    else this.rest = [this.first, chunk];
  };

  private readonly onEnd = (): void => {
    this.stop();
    this.resolve(this.rest === null ? this.first : Buffer.concat(this.rest, this.size));
  };

  private readonly onGone = (): void => {
    this.stop();
    // A late `error` of a connection that was cut must not become an uncaught one.
    this.incoming.on('error', ignore);
    this.reject(new GatewayError('CLIENT_CLOSED'));
  };
}

const ignore = (): void => {};
