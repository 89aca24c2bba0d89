/**
 * Ends connections whose client does not take its answer. Such a client holds an upstream connection and buffers for as
 * long as it likes: a handful of them would keep everybody else out. A look now and then costs no request anything.
 * Source: security 2.9 (slow read).
 */
import type { Socket } from 'node:net';

/** Bytes a client has to take in a second beyond the time-out, so that large answers may take long. */
const SLOWEST = 65_536;

interface Mark {
  /** All that was written when the look began: so much has to be gone by the deadline. */
  readonly until: number;
  /** Milliseconds on the monotonic clock. */
  readonly deadline: number;
}

/** Between two looks, milliseconds. */
const LOOK_MS = 1000;

export class SlowReaders {
  readonly #timeoutMs: number;
  readonly #marks = new WeakMap<Socket, Mark>();
  #timer: NodeJS.Timeout | null = null;

  /** @param timeoutMs how long what waits for a client may wait, plus a second for each 64 KiB of it */
  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
  }

  /** @param sockets those that have an answer on the way */
  start(sockets: () => Iterable<Socket | null>): void {
    const look = (): void => this.look(sockets(), performance.now());
    this.#timer = setInterval(look, Math.min(LOOK_MS, this.#timeoutMs)).unref();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
  }

  /** Cuts the connections that are over their deadline. `now` is monotonic milliseconds. */
  look(sockets: Iterable<Socket | null>, now: number): void {
    for (const socket of sockets) {
      if (socket === null || socket.destroyed) continue;
      const waiting = socket.writableLength;
      const mark = this.#marks.get(socket);
      if (waiting === 0) {
        if (mark !== undefined) this.#marks.delete(socket);
      } else if (mark === undefined || socket.bytesWritten - waiting >= mark.until) {
        const deadline = now + this.#timeoutMs + (waiting / SLOWEST) * 1000;
        this.#marks.set(socket, { until: socket.bytesWritten, deadline });
      } else if (now > mark.deadline) {
        socket.destroy();
      }
    }
  }
}
