import { Readable } from 'node:stream';
import type { Io } from '../../../src/cli/io.ts';

interface Options {
  readonly cwd?: string;
  readonly env?: Record<string, string>;
  readonly signal?: AbortSignal;
  readonly onOut?: () => void;
}

/** An Io that remembers what was written. */
export function fakeIo(options: Options = {}) {
  const written = { out: '', err: '' };
  const io: Io = {
    stdin: Readable.from([]),
    out(text) {
      written.out += text;
      options.onOut?.();
    },
    err(text) {
      written.err += text;
    },
    env: options.env ?? {},
    cwd: options.cwd ?? '/',
    signal: options.signal ?? new AbortController().signal,
  };
  return { io, written };
}
