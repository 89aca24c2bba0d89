/** What a command may touch of the process. Tests hand in their own. Source: contracts 5 (standard output is data only). */
import type { Readable } from 'node:stream';

export interface Io {
  readonly stdin: Readable;
  /** Data only: what a script would read. */
  out(text: string): void;
  /** Everything for people: progress, warnings, errors. */
  err(text: string): void;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** Aborted on SIGINT and SIGTERM: long-running commands end when it is. */
  readonly signal: AbortSignal;
}

/** Exit codes of every command: 0 yes, 1 no or failed, 2 usage, 3 unreachable. */
export const EXIT = { ok: 0, failed: 1, usage: 2, unreachable: 3 } as const;

/** A mistake in how the command was called; the dispatcher prints it with a pointer to `--help` and exits with 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** A gateway or a file that cannot be reached; the dispatcher prints it and exits with 3. */
export class UnreachableError extends Error {
  override readonly name = 'UnreachableError';
}

/** An expected failure with a sentence for the user; the dispatcher prints it and exits with 1. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
}

/** One line on standard output. */
export function line(io: Io, text: string): void {
  io.out(`${text}\n`);
}
