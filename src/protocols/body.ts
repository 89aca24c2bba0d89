/** Reads a request body up to a limit without web streams. Source: architecture 5, acceptance X-03. */
import type { CancelListener } from '../core/cancel.ts';
import { GatewayError } from '../core/errors.ts';
import type { Received } from '../core/exchange.ts';

const EMPTY = Buffer.alloc(0);

/** What is needed of a request to read its body. */
export type Bodied = Pick<Received, 'headers' | 'incoming' | 'cancel'>;

const tooLarge = (maxBytes: number): GatewayError =>
  new GatewayError('PAYLOAD_TOO_LARGE', { details: { limit_bytes: maxBytes } });

/**
 * The whole body. Rejects with PAYLOAD_TOO_LARGE as soon as the declared or the received length passes `maxBytes`
 * (nothing more is kept, the stream is left paused), and with CLIENT_CLOSED when the client goes away.
 */
export function readBody(received: Bodied, maxBytes: number): Promise<Buffer> {
  const { headers, incoming, cancel } = received;
  const declared = headers['content-length'];
  if (declared === undefined && headers['transfer-encoding'] === undefined) return Promise.resolve(EMPTY);
  const length = declared === undefined ? -1 : Number(declared);
  if (length > maxBytes) return Promise.reject(tooLarge(maxBytes));
  if (length === 0) return Promise.resolve(EMPTY);
  if (cancel.aborted || incoming.destroyed) return Promise.reject(new GatewayError('CLIENT_CLOSED'));
  return new Promise((resolve, reject) => {
    new BodyReader(received, maxBytes, resolve, reject).start();
  });
}

/**
 * One read in progress. It listens for data and end only: a connection that breaks is told by the cancel signal, and
 * Node raises `error` on a request only where somebody listens for it.
 */
class BodyReader implements CancelListener {
  private readonly received: Bodied;
  private readonly maxBytes: number;
  private readonly resolve: (body: Buffer) => void;
  private readonly reject: (error: Error) => void;
  /** The only chunk so far, which is the whole body of nearly every request. */
  private first: Buffer = EMPTY;
  private rest: Buffer[] | null = null;
  private size = 0;

  constructor(received: Bodied, maxBytes: number, resolve: (body: Buffer) => void, reject: (error: Error) => void) {
    this.received = received;
    this.maxBytes = maxBytes;
    this.resolve = resolve;
    this.reject = reject;
  }

  start(): void {
    const { incoming, cancel } = this.received;
    incoming.on('data', this.onData);
    incoming.on('end', this.onEnd);
    cancel.addEventListener('abort', this);
  }

  private stop(): void {
    const { incoming, cancel } = this.received;
    incoming.off('data', this.onData);
    incoming.off('end', this.onEnd);
    cancel.removeEventListener('abort', this);
  }

  private readonly onData = (chunk: Buffer): void => {
    this.size += chunk.length;
    if (this.size > this.maxBytes) {
      this.stop();
      this.received.incoming.pause();
      this.first = EMPTY;
      this.rest = null;
      this.reject(tooLarge(this.maxBytes));
    } else if (this.rest !== null) this.rest.push(chunk);
    else if (this.first.length === 0) this.first = chunk;
    else this.rest = [this.first, chunk];
  };

  private readonly onEnd = (): void => {
    // Data and end come no more; only the signal lives on.
    this.received.cancel.removeEventListener('abort', this);
    this.resolve(this.rest === null ? this.first : Buffer.concat(this.rest, this.size));
  };

  /** The client is gone. */
  handleEvent(): void {
    this.stop();
    this.reject(new GatewayError('CLIENT_CLOSED'));
  }
}
