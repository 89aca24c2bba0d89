/**
 * The decision log at a service: `POST URL/logs[/PARTITION]` with a gzipped JSON array, as OPA sends it. The size of a
 * piece is found by trying, so that what is sent stays below the limit after compression. What is refused waits and is
 * sent again. Source: OPA decision log service API.
 */
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { Logger } from '../core/module.ts';
import type { DropReason } from './decision-log.ts';
import { type ManagementService, tell } from './log-post.ts';

export interface UploadSinkOptions extends ManagementService {
  /** Seconds between two uploads: a random time between the two. */
  readonly minSeconds: number;
  readonly maxSeconds: number;
  /** Bytes of a compressed piece. */
  readonly maxBytes: number;
  /** Milliseconds that a close may take. */
  readonly closeMs?: number | undefined;
  readonly logger: Logger;
  onDropped(reason: DropReason, count: number): void;
  onUploaded(ok: boolean, events: number): void;
}

const compress = promisify(gzip);

const FIRST_RETRY_MS = 100;
const CLOSE_MS = 5000;
/** Text that waits at most, beside the limit on events. */
const MAX_TEXT_BYTES = 64 * 1024 * 1024;
/** A piece should fill this share of what is allowed. */
const FILL = 0.95;

interface Piece {
  readonly body: Buffer;
  readonly events: number;
}

export class UploadSink {
  readonly #options: UploadSinkOptions;
  #lines: string[] = [];
  #bytes = 0;
  /** How much text is tried at a time; follows how well it compresses. */
  #textLimit: number;
  #timer: NodeJS.Timeout | null = null;
  #sending: Promise<boolean> | null = null;
  #retryMs = FIRST_RETRY_MS;
  #isDown = false;
  #closed = false;
  lastError: string | null = null;

  constructor(options: UploadSinkOptions) {
    this.#options = options;
    this.#textLimit = options.maxBytes * 4;
  }

  /** Events that wait, those on their way included. */
  get waiting(): number {
    return this.#lines.length;
  }

  add(lines: readonly string[]): void {
    for (const line of lines) {
      if (this.#bytes + line.length > MAX_TEXT_BYTES) {
        this.#options.onDropped('waiting', 1);
        continue;
      }
      this.#lines.push(line);
      this.#bytes += line.length;
    }
    if (this.#lines.length === 0) return;
    // A full piece goes at once, unless the service is down.
    if (this.#bytes >= this.#textLimit && !this.#isDown && this.#sending === null) void this.#sendAll();
    else this.#schedule(this.#interval());
  }

  #interval(): number {
    const { minSeconds, maxSeconds } = this.#options;
    return (minSeconds + Math.random() * Math.max(0, maxSeconds - minSeconds)) * 1000;
  }

  #schedule(ms: number): void {
    if (this.#closed) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      void this.#sendAll();
    }, ms).unref();
  }

  /** One at a time. True when nothing is left; false when the service took something not. */
  #sendAll(): Promise<boolean> {
    this.#sending ??= this.#send().finally(() => {
      this.#sending = null;
    });
    return this.#sending;
  }

  async #send(): Promise<boolean> {
    while (this.#lines.length > 0) {
      const piece = await this.#nextPiece();
      if (piece === null) continue;
      const error = await tell(this.#options, 'logs', piece.body, 'gzip');
      this.#options.onUploaded(error === null, piece.events);
      if (error !== null) {
        this.#failed(error);
        return false;
      }
      this.#take(piece.events);
      this.#succeeded();
    }
    return true;
  }

  #take(count: number): readonly string[] {
    const taken = this.#lines.slice(0, count);
    this.#lines = this.#lines.slice(count);
    for (const line of taken) this.#bytes -= line.length;
    return taken;
  }

  /** The first events, as many as fit. Null when the first alone does not: it is gone then. */
  async #nextPiece(): Promise<Piece | null> {
    const { maxBytes } = this.#options;
    let events = this.#countFor(this.#textLimit);
    for (;;) {
      const text = `[${this.#lines.slice(0, events).join(',')}]`;
      const body = await compress(text);
      if (body.length <= maxBytes) {
        const isAll = events === this.#lines.length;
        if (!isAll || body.length > maxBytes * FILL) this.#learn(text.length, body.length);
        return { body, events };
      }
      this.#learn(text.length, body.length);
      if (events === 1) {
        if (this.#shortenFirst()) continue;
        this.#take(1);
        this.#options.onDropped('too_large', 1);
        return null;
      }
      events = Math.max(1, Math.min(events >> 1, this.#countFor(this.#textLimit)));
    }
  }

  #learn(text: number, compressed: number): void {
    const { maxBytes } = this.#options;
    const wanted = (text / compressed) * maxBytes * FILL;
    this.#textLimit = Math.min(Math.max(wanted, maxBytes), maxBytes * 100);
  }

  #countFor(limit: number): number {
    let bytes = 0;
    for (const [at, line] of this.#lines.entries()) {
      bytes += line.length + 1;
      if (bytes > limit) return Math.max(1, at);
    }
    return this.#lines.length;
  }

  /** What builtins answered is what OPA leaves out first. */
  #shortenFirst(): boolean {
    const line = this.#lines[0] ?? '{}';
    const event = JSON.parse(line) as Record<string, unknown>;
    if (event.nd_builtin_cache === undefined) return false;
    delete event.nd_builtin_cache;
    const erased = Array.isArray(event.erased) ? (event.erased as unknown[]) : [];
    const shorter = JSON.stringify({ ...event, erased: [...erased, '/nd_builtin_cache'] });
    this.#lines[0] = shorter;
    this.#bytes += shorter.length - line.length;
    return true;
  }

  #failed(error: string): void {
    const { url, maxSeconds, logger } = this.#options;
    this.lastError = error;
    // Once per outage.
    if (!this.#isDown) logger.warn({ url, reason: error }, 'the decision log service takes nothing; events wait');
    this.#isDown = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#schedule(this.#retryMs * (0.5 + Math.random() / 2));
    this.#retryMs = Math.min(this.#retryMs * 2, Math.max(maxSeconds * 1000, FIRST_RETRY_MS));
  }

  #succeeded(): void {
    if (this.#isDown) this.#options.logger.info({ url: this.#options.url }, 'the decision log service is back');
    this.#isDown = false;
    this.lastError = null;
    this.#retryMs = FIRST_RETRY_MS;
  }

  /** Offers everything that waits now, once. */
  async flush(): Promise<void> {
    // What is under way may have begun before the last events came.
    if (this.#sending !== null) await this.#sending;
    if (this.#lines.length > 0) await this.#sendAll();
  }

  /** Tries until everything is gone or the time is up; what is left then is lost. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    const late = Promise.withResolvers<boolean>();
    const timer = setTimeout(() => late.resolve(true), this.#options.closeMs ?? CLOSE_MS);
    const isLate = await Promise.race([late.promise, this.#sendUntilGone(late.promise)]);
    clearTimeout(timer);
    if (isLate) late.resolve(true);
    if (this.#lines.length === 0) return;
    this.#options.onDropped('closed', this.#lines.length);
    this.#take(this.#lines.length);
  }

  async #sendUntilGone(late: Promise<boolean>): Promise<boolean> {
    while (this.#lines.length > 0) {
      if (await this.#sendAll()) continue;
      const pause = new Promise<boolean>((resume) => {
        setTimeout(() => resume(false), this.#retryMs).unref();
      });
      if (await Promise.race([late, pause])) return true;
    }
    return false;
  }
}
