/** Reads a request body up to a limit without web streams. Source: architecture 5, acceptance X-03. */
import { totalmem } from 'node:os';
import type { CancelListener } from '../core/cancel.ts';
import { GatewayError } from '../core/errors.ts';
import type { Received } from '../core/exchange.ts';

const EMPTY = Buffer.alloc(0);

/** What is needed of a request to read its body; with `outgoing` the memory counts as used until the answer is over. */
export type Bodied = Pick<Received, 'headers' | 'incoming' | 'cancel'> & Partial<Pick<Received, 'outgoing'>>;

/** Bodies up to this size are held without being counted: the number of requests in flight bounds them. */
const SMALL = 65_536;

/** Memory for all large bodies together: a thousand clients that each send an almost whole body must not end the process. */
export class BodyBudget {
  readonly #bytes: number;
  #held = 0;

  constructor(bytes: number) {
    this.#bytes = bytes;
  }

  /** Bytes in use. */
  get held(): number {
    return this.#held;
  }

  /** False, and nothing taken, when they do not fit. A single body of the size its route allows always fits. */
  take(bytes: number, allowed: number): boolean {
    if (this.#held + bytes > Math.max(this.#bytes, allowed)) return false;
    this.#held += bytes;
    return true;
  }

  give(bytes: number): void {
    this.#held -= bytes;
  }
}

/** 256 MiB, less where the process has less than 2 GiB. */
const shared = new BodyBudget(Math.min(268_435_456, totalmem() / 8, (process.constrainedMemory() || totalmem()) / 8));

const tooLarge = (maxBytes: number): GatewayError =>
  new GatewayError('PAYLOAD_TOO_LARGE', { details: { limit_bytes: maxBytes } });

/**
 * The whole body. Rejects with PAYLOAD_TOO_LARGE as soon as the declared or the received length passes `maxBytes`
 * (nothing more is kept, the stream is left paused), with OVERLOADED when the bodies in memory leave no room for it, and
 * with CLIENT_CLOSED when the client goes away.
 */
export function readBody(received: Bodied, maxBytes: number, budget: BodyBudget = shared): Promise<Buffer> {
  const { headers, incoming, cancel } = received;
  const declared = headers['content-length'];
  if (declared === undefined && headers['transfer-encoding'] === undefined) return Promise.resolve(EMPTY);
  const length = declared === undefined ? -1 : Number(declared);
  if (length > maxBytes) return Promise.reject(tooLarge(maxBytes));
  if (length === 0) return Promise.resolve(EMPTY);
  if (cancel.aborted || incoming.destroyed) return Promise.reject(new GatewayError('CLIENT_CLOSED'));
  return new Promise((resolve, reject) => {
    new BodyReader(received, maxBytes, budget, resolve, reject).start();
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
  private readonly budget: BodyBudget;
  /** Bytes taken from the budget. */
  private taken = 0;

  constructor(
    received: Bodied,
    maxBytes: number,
    budget: BodyBudget,
    resolve: (body: Buffer) => void,
    reject: (error: Error) => void,
  ) {
    this.received = received;
    this.maxBytes = maxBytes;
    this.budget = budget;
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
    if (this.size > this.maxBytes) this.refuse(tooLarge(this.maxBytes));
    else if (this.size > SMALL && !this.take(this.size - this.taken)) {
      this.refuse(new GatewayError('OVERLOADED', { retryAfter: 1 }));
    } else if (this.rest !== null) this.rest.push(chunk);
    else if (this.first.length === 0) this.first = chunk;
    else this.rest = [this.first, chunk];
  };

  private take(bytes: number): boolean {
    if (!this.budget.take(bytes, this.maxBytes)) return false;
    this.taken += bytes;
    return true;
  }

  private readonly giveBack = (): void => {
    this.budget.give(this.taken);
    this.taken = 0;
  };

  private refuse(error: GatewayError): void {
    this.stop();
    this.received.incoming.pause();
    this.first = EMPTY;
    this.rest = null;
    this.giveBack();
    this.reject(error);
  }

  private readonly onEnd = (): void => {
    const { cancel, outgoing } = this.received;
    // Data and end come no more; only the signal lives on.
    cancel.removeEventListener('abort', this);
    if (this.taken > 0) {
      if (outgoing === undefined) this.giveBack();
      else outgoing.once('close', this.giveBack);
    }
    this.resolve(this.rest === null ? this.first : Buffer.concat(this.rest, this.size));
  };

  /** The client is gone. */
  handleEvent(): void {
    this.stop();
    this.giveBack();
    this.reject(new GatewayError('CLIENT_CLOSED'));
  }
}
