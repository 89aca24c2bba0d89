/**
 * Splits a byte stream of server-sent events without changing a byte: the raw bytes of all events, followed by what
 * `end()` gives, are the stream. Line ends may be LF, CR LF or CR and chunks may be cut anywhere.
 * Source: WHATWG HTML, 9.2.6 (interpreting an event stream).
 */
import { GatewayError } from '../core/errors.ts';

const LF = 0x0a;
const CR = 0x0d;
const EMPTY = Buffer.alloc(0);
const DEFAULT_MAX_EVENT_BYTES = 10_485_760;

/** One event (or a block of comments) with its closing blank line. Fields are decoded when asked for. */
export class SseEvent {
  /** Exactly the bytes received. */
  readonly raw: Buffer;
  #fields: Map<string, string> | null = null;

  constructor(raw: Buffer) {
    this.raw = raw;
  }

  /** The joined `data` lines, or null when there is none (comments, `retry`, blank lines). */
  get data(): string | null {
    return this.field('data');
  }

  /** The `event` field, or null. */
  get event(): string | null {
    return this.field('event');
  }

  /** The `id` field, or null. */
  get id(): string | null {
    return this.field('id');
  }

  private field(name: string): string | null {
    this.#fields ??= readFields(this.raw);
    return this.#fields.get(name) ?? null;
  }

  /** The same event with other data, in the place of the first `data` line; every other line keeps its bytes. */
  withData(data: string): Buffer {
    let text = '';
    let placed = false;
    for (const line of splitLines(this.raw)) {
      if (fieldName(line) !== 'data') text += line;
      else if (!placed) {
        placed = true;
        for (const part of data.split(/\r\n|\r|\n/)) text += `data: ${part}\n`;
      }
    }
    return Buffer.from(text);
  }
}

/** Feeds on chunks, gives whole events. One per stream; keeps at most one unfinished event. */
export class SseSplitter {
  private readonly maxEventBytes: number;
  /** Bytes of the unfinished event, already scanned. */
  private pending: Buffer[] = [];
  private pendingBytes = 0;
  private lineIsEmpty = true;
  private afterCr = false;

  /** `maxEventBytes`: an event that grows beyond it makes `push` throw UPSTREAM_ERROR. */
  constructor(maxEventBytes: number = DEFAULT_MAX_EVENT_BYTES) {
    this.maxEventBytes = maxEventBytes;
  }

  /** The events that this chunk completes. The chunk's memory is referenced, not copied. */
  push(chunk: Buffer): SseEvent[] {
    const events: SseEvent[] = [];
    let start = 0;
    let { lineIsEmpty, afterCr } = this;
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at];
      const closesCrLf = byte === LF && afterCr;
      afterCr = byte === CR;
      if (closesCrLf) continue;
      if (byte !== LF && byte !== CR) {
        lineIsEmpty = false;
      } else if (!lineIsEmpty) {
        lineIsEmpty = true;
      } else {
        if (afterCr && chunk[at + 1] === LF) {
          at++;
          afterCr = false;
        }
        events.push(new SseEvent(this.take(chunk.subarray(start, at + 1))));
        start = at + 1;
      }
    }
    this.lineIsEmpty = lineIsEmpty;
    this.afterCr = afterCr;
    if (start < chunk.length) this.keep(start === 0 ? chunk : chunk.subarray(start));
    return events;
  }

  /** The bytes after the last whole event, or null. Anything but line ends in there means the stream was cut inside an event. */
  end(): Buffer | null {
    const rest = this.take(EMPTY);
    return rest.length === 0 ? null : rest;
  }

  private keep(part: Buffer): void {
    this.pendingBytes += part.length;
    if (this.pendingBytes > this.maxEventBytes) throw tooLong(this.maxEventBytes);
    this.pending.push(part);
  }

  private take(last: Buffer): Buffer {
    if (this.pendingBytes + last.length > this.maxEventBytes) throw tooLong(this.maxEventBytes);
    if (this.pending.length === 0) return last;
    this.pending.push(last);
    const whole = Buffer.concat(this.pending);
    this.pending = [];
    this.pendingBytes = 0;
    return whole;
  }
}

const tooLong = (limit: number): GatewayError =>
  new GatewayError('UPSTREAM_ERROR', { message: `The upstream sent an event of more than ${limit} bytes` });

/** Lines with their line ends, so that joining them gives the text again. */
function splitLines(raw: Buffer): string[] {
  return raw.toString('utf8').match(/[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$/g) ?? [];
}

function fieldName(line: string): string {
  const text = line.replace(/[\r\n]+$/, '');
  const colon = text.indexOf(':');
  return (colon === -1 ? text : text.slice(0, colon)).replace(/^\uFEFF/, '');
}

function readFields(raw: Buffer): Map<string, string> {
  const fields = new Map<string, string>();
  for (const line of splitLines(raw)) {
    const name = fieldName(line);
    if (name === '') continue;
    const text = line.replace(/[\r\n]+$/, '');
    const colon = text.indexOf(':');
    const value = colon === -1 ? '' : text.slice(text[colon + 1] === ' ' ? colon + 2 : colon + 1);
    const before = name === 'data' ? fields.get('data') : undefined;
    fields.set(name, before === undefined ? value : `${before}\n${value}`);
  }
  return fields;
}
