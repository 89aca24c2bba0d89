/**
 * The audit file: one JSON object per line, appended, never rewritten. Events are turned into text at once and written
 * together: after 50 ms, or when 64 KB wait, whichever comes first. Memory is bounded; what does not fit is counted and
 * logged, never silently lost. Source: acceptance S-90, SF-66; performance 3.
 */
import { hash } from 'node:crypto';
import { close, closeSync, fstatSync, openSync, readSync, write, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { makeDirectory } from '../config/directories.ts';
import type { Clock } from '../core/clock.ts';
import { makeId } from '../core/ids.ts';
import type { Logger } from '../core/module.ts';
import type { AuditDraft, AuditRecorder } from './event.ts';
import { createRedactor, type Redactor } from './redaction.ts';

const FLUSH_MS = 50;
const FLUSH_BYTES = 262_144;
const RETRY_MS = 1000;
const closeFile = promisify(close);

export interface AuditRecorderOptions {
  /** Made with mode 0600 when it is not there, its directory too. */
  readonly file: string;
  /** Parameter names never written, besides the built-in ones. */
  readonly redact: readonly string[];
  readonly maxValueBytes: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Names this tool declares as sensitive (`servers.*.tools.*.sensitive_params`). */
  readonly sensitiveParams?: (server: string | null, tool: string | null) => readonly string[];
  /** Called with the number of events that did not fit. */
  readonly onDrop?: (count: number) => void;
  readonly onEvent?: (type: string) => void;
  readonly onWriteFailure?: () => void;
  /** Characters that may wait for the disk before events are dropped; default 16 Mi. */
  readonly maxBuffered?: number;
}

export interface AuditStatus {
  /** False from a failed write until the next one that succeeds, and after an overflow. */
  readonly healthy: boolean;
  readonly dropped: number;
  /** Characters waiting. */
  readonly buffered: number;
  readonly last_error: string | null;
}

export interface FileAuditRecorder extends AuditRecorder {
  status(): AuditStatus;
  /** Opens the file again under its name: after an external rotation. */
  reopen(): void;
}

const NO_NAMES: readonly string[] = [];

/** Under this name events go where the log goes: containers keep what is written there. */
const STDOUT_FILE = '/dev/stdout';
const STDOUT = 1;

/** A torn last line (crash in the middle of a write) is ended, so that it costs one line and not two. */
function openForAppend(file: string): number {
  // Not opened by its name: a socket cannot be, and nobody rotates it.
  if (file === STDOUT_FILE) return STDOUT;
  makeDirectory(dirname(file));
  const fd = openSync(file, 'a+', 0o600);
  const { size } = fstatSync(fd);
  const last = Buffer.alloc(1);
  if (size > 0 && readSync(fd, last, 0, 1, size - 1) === 1 && last[0] !== 0x0a) writeSync(fd, '\n');
  return fd;
}

class FileRecorder implements FileAuditRecorder {
  readonly #options: AuditRecorderOptions;
  readonly #redactor: Redactor;
  readonly #limit: number;
  #fd: number;
  #waiting: string[] = [];
  #waitingSize = 0;
  #inFlightSize = 0;
  #timer: NodeJS.Timeout | null = null;
  #writing: Promise<void> | null = null;
  #closed = false;
  #dropped = 0;
  #droppedSinceWrite = 0;
  #lastError: string | null = null;
  #time = -1;
  #timeText = '';

  constructor(options: AuditRecorderOptions) {
    this.#options = options;
    this.#redactor = createRedactor({ names: options.redact, maxValueBytes: options.maxValueBytes });
    this.#limit = options.maxBuffered ?? 16 * 1024 * 1024;
    this.#fd = openForAppend(options.file);
  }

  record(event: AuditDraft): void {
    try {
      const text = this.#text(event);
      if (this.#closed || this.#waitingSize + this.#inFlightSize + text.length > this.#limit) {
        this.#drop();
        return;
      }
      this.#options.onEvent?.(event.event_type);
      this.#waiting.push(text);
      this.#waitingSize += text.length;
      if (this.#waitingSize >= FLUSH_BYTES && this.#writing === null) this.#start();
      else if (this.#timer === null && this.#writing === null) this.#schedule(FLUSH_MS);
    } catch (error) {
      // A value that cannot be written as JSON must not end the request it describes.
      this.#drop();
      this.#options.logger.error({ err: error, event_type: event.event_type }, 'audit event could not be written');
    }
  }

  #text(event: AuditDraft): string {
    const now = this.#options.clock.now();
    if (now !== this.#time) {
      this.#time = now;
      this.#timeText = new Date(now).toISOString();
    }
    const body = JSON.stringify(this.#clean(event));
    return `{"event_id":"${makeId('aud_', now)}","timestamp":"${this.#timeText}",${body.slice(1)}\n`;
  }

  #clean(event: AuditDraft): AuditDraft {
    if (event.event_type === 'tool_invocation' && event.parameters !== null) {
      const extra = this.#options.sensitiveParams?.(event.server_name, event.tool_name) ?? NO_NAMES;
      const parameters = this.#redactor(event.parameters, extra);
      // The digest lets an auditor match a shortened record with the call; untouched parameters need none, and of
      // redacted ones it would be an oracle for short secrets unless those are out before it is taken.
      if (parameters === event.parameters) return event;
      const digest = `sha256:${hash('sha256', JSON.stringify(parameters))}`;
      return { ...event, parameters, parameters_sha256: digest };
    }
    if ('details' in event)
      return { ...event, details: this.#redactor(event.details, NO_NAMES) as typeof event.details };
    return event;
  }

  #drop(): void {
    this.#dropped++;
    this.#options.onDrop?.(1);
    // One line per gap, not one per event: the log must not drown for the same reason.
    if (this.#droppedSinceWrite++ === 0) {
      this.#options.logger.error({ file: this.#options.file }, 'audit events are being dropped');
    }
  }

  #schedule(delay: number): void {
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#start();
    }, delay);
    this.#timer.unref();
  }

  #start(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#writing !== null || this.#waiting.length === 0) return;
    const batch = Buffer.from(this.#waiting.join(''));
    this.#waiting = [];
    this.#inFlightSize = this.#waitingSize;
    this.#waitingSize = 0;
    this.#writing = this.#write(batch).finally(() => {
      this.#writing = null;
      this.#inFlightSize = 0;
      if (this.#waiting.length > 0) this.#schedule(this.#lastError === null ? FLUSH_MS : RETRY_MS);
    });
  }

  /** Writes all of the batch; what is left after a failure goes back to the front of the queue. */
  async #write(batch: Buffer): Promise<void> {
    let offset = 0;
    try {
      while (offset < batch.length) offset += await this.#writeOnce(batch, offset);
      this.#recovered();
    } catch (error) {
      const rest = batch.toString('utf8', offset);
      this.#waiting.unshift(rest);
      this.#waitingSize += rest.length;
      this.#failed(error);
    }
  }

  #writeOnce(batch: Buffer, offset: number): Promise<number> {
    return new Promise((resolve, reject) => {
      write(this.#fd, batch, offset, batch.length - offset, null, (error, written) =>
        error === null ? resolve(written) : reject(error),
      );
    });
  }

  #recovered(): void {
    if (this.#lastError !== null || this.#droppedSinceWrite > 0) {
      this.#options.logger.warn({ dropped: this.#droppedSinceWrite }, 'audit writes again');
    }
    this.#lastError = null;
    this.#droppedSinceWrite = 0;
  }

  #failed(error: unknown): void {
    this.#options.onWriteFailure?.();
    if (this.#lastError === null) this.#options.logger.error({ err: error }, 'audit cannot be written');
    this.#lastError = error instanceof Error ? error.message : String(error);
  }

  async flush(): Promise<void> {
    while (this.#writing !== null || this.#waiting.length > 0) {
      this.#start();
      await this.#writing;
      if (this.#lastError !== null) return;
    }
  }

  status(): AuditStatus {
    return {
      healthy: this.#lastError === null && this.#droppedSinceWrite === 0,
      dropped: this.#dropped,
      buffered: this.#waitingSize + this.#inFlightSize,
      last_error: this.#lastError,
    };
  }

  reopen(): void {
    const old = this.#fd;
    this.#fd = openForAppend(this.#options.file);
    // A write that runs keeps the old file until it is done.
    if (old !== STDOUT) void (this.#writing ?? Promise.resolve()).then(() => closeSync(old));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.flush();
    if (this.#timer !== null) clearTimeout(this.#timer);
    if (this.#waitingSize > 0) {
      this.#options.logger.error({ characters: this.#waitingSize }, 'audit events could not be written before the end');
    }
    if (this.#fd !== STDOUT) await closeFile(this.#fd);
  }
}

/** Opens the audit file. Throws only here, at start; later failures are counted and shown in `status()`. */
export function createAuditRecorder(options: AuditRecorderOptions): FileAuditRecorder {
  return new FileRecorder(options);
}
