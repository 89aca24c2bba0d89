/**
 * Cuts a decision log into its events without holding more than one of them: JSON lines, or the JSON arrays that OPA
 * uploads, plain or gzip. Source: openpolicyagent.org/docs/latest/management-decision-logs.
 */
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';

/** Longer events are skipped and counted. */
export const MAX_EVENT_BYTES = 16 * 1024 * 1024;

/** What comes out of a log: the text of an event, or that one is too long; `at` counts lines (or array members) from 1. */
export interface RecordSink {
  event(text: string, at: number): void;
  tooLong(at: number): void;
  /** After each piece of the file: bytes read so far, as they lie on the disk. */
  progress(bytes: number): void | Promise<void>;
}

export type LogForm = 'lines' | 'array' | 'gzip';

const NEWLINE = 0x0a;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const CHUNK = 1024 * 1024;

/** How a log is written; decided by its first bytes. Rejects where it cannot be read. */
export async function formOf(file: string): Promise<LogForm> {
  await using handle = await open(file);
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(512), 0, 512, 0);
  if (bytesRead >= 2 && buffer[0] === 0x1f && buffer[1] === 0x8b) return 'gzip';
  return firstByte(buffer.subarray(0, bytesRead)) === 0x5b ? 'array' : 'lines';
}

/** The first byte that is no white space, or -1. */
function firstByte(bytes: Uint8Array): number {
  for (const byte of bytes) if (byte !== 0x20 && (byte < 0x09 || byte > 0x0d)) return byte;
  return -1;
}

/** Reads a log, or the bytes `from` to `to` of one of lines. Rejects on a file that cannot be read or is no gzip. */
export async function readRecords(
  file: string,
  form: LogForm,
  sink: RecordSink,
  from = 0,
  to = Number.POSITIVE_INFINITY,
): Promise<void> {
  const range = Number.isFinite(to) ? { start: from, end: to - 1 } : { start: from };
  if (Number.isFinite(to) && to <= from) return;
  const source = createReadStream(file, { highWaterMark: CHUNK, ...range });
  const pieces: AsyncIterable<Buffer> = form === 'gzip' ? source.pipe(createGunzip({ chunkSize: CHUNK })) : source;
  if (form === 'gzip') source.on('error', (error) => (pieces as ReturnType<typeof createGunzip>).destroy(error));
  let cutter: Cutter | null = form === 'lines' ? new LineCutter(sink) : form === 'array' ? new ArrayCutter(sink) : null;
  for await (const piece of pieces) {
    cutter ??= firstByte(piece) === 0x5b ? new ArrayCutter(sink) : new LineCutter(sink);
    cutter.take(piece);
    await sink.progress(source.bytesRead);
  }
  cutter?.end();
}

interface Cutter {
  take(piece: Buffer): void;
  end(): void;
}

/** Keeps the beginning of an event whose end has not come yet. */
abstract class Keeper {
  protected readonly sink: RecordSink;
  protected at = 0;
  #kept: Buffer[] = [];
  #size = 0;
  #skipping = false;

  constructor(sink: RecordSink) {
    this.sink = sink;
  }

  protected keep(part: Buffer): void {
    this.#size += part.length;
    if (this.#size > MAX_EVENT_BYTES) {
      this.#skipping = true;
      this.#kept = [];
    } else if (part.length > 0) this.#kept.push(part);
  }

  protected get holding(): boolean {
    return this.#size > 0;
  }

  /** An event ends with `last`. */
  protected finish(last: Buffer): void {
    this.at++;
    if (this.#size === 0) {
      this.#give(last);
      return;
    }
    this.keep(last);
    const whole = Buffer.concat(this.#kept);
    const tooLong = this.#skipping;
    this.#kept = [];
    this.#size = 0;
    this.#skipping = false;
    if (tooLong) this.sink.tooLong(this.at);
    else this.#give(whole);
  }

  #give(bytes: Buffer): void {
    if (bytes.length > MAX_EVENT_BYTES) this.sink.tooLong(this.at);
    else if (firstByte(bytes) !== -1) this.sink.event(bytes.toString('utf8'), this.at);
  }
}

class LineCutter extends Keeper implements Cutter {
  take(piece: Buffer): void {
    let from = 0;
    for (let end = piece.indexOf(NEWLINE); end !== -1; end = piece.indexOf(NEWLINE, from)) {
      this.finish(piece.subarray(from, end));
      from = end + 1;
    }
    this.keep(piece.subarray(from));
  }

  end(): void {
    if (this.holding) this.finish(Buffer.alloc(0));
  }
}

/** Members of one array after another; what stands between them is passed over. */
class ArrayCutter extends Keeper implements Cutter {
  #depth = 0;
  #inText = false;
  #escaped = false;

  take(piece: Buffer): void {
    let from = this.#depth >= 2 ? 0 : -1;
    for (let i = 0; i < piece.length; i++) {
      const byte = piece[i] ?? 0;
      if (this.#inText) {
        if (this.#escaped) this.#escaped = false;
        else if (byte === BACKSLASH) this.#escaped = true;
        else if (byte === QUOTE) this.#inText = false;
      } else if (byte === QUOTE) this.#inText = true;
      else if (byte === 0x7b || byte === 0x5b) {
        if (++this.#depth === 2) from = i;
      } else if ((byte === 0x7d || byte === 0x5d) && --this.#depth === 1) {
        this.finish(piece.subarray(Math.max(from, 0), i + 1));
        from = -1;
      }
    }
    if (from !== -1) this.keep(piece.subarray(from));
  }

  end(): void {
    // An array that was cut off: its last member is broken.
    if (this.holding) this.finish(Buffer.alloc(0));
  }
}
