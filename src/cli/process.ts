/** Ties the command line to the real process: streams, signals, exit code, and what happens to an unexpected error. */
import { scrubText } from '../core/redaction.ts';
import { main } from './cli.ts';
import { EXIT, type Io } from './io.ts';

/** What a crash prints is read by people and kept by log collectors, so secrets are taken out here too. */
function crashText(error: unknown): string {
  return scrubText(error instanceof Error ? (error.stack ?? error.message) : String(error));
}

function crash(error: unknown): void {
  process.stderr.write(`portcullis: unexpected error\n${crashText(error)}\n`);
  process.exit(EXIT.failed);
}

/** A terminal's Ctrl-C comes twice when a program such as npm forwards it as well; a person's second one comes later. */
const SAME_SIGNAL_MS = 1000;

/** What `stopSignal` needs of a process. */
export interface Signalled {
  on(name: 'SIGINT' | 'SIGTERM', listener: () => void): unknown;
  exit(code: number): unknown;
}

/** The first signal asks for an orderly end; a later one is an order to end at once. `now` gives milliseconds. */
export function stopSignal(of: Signalled, now: () => number): AbortSignal {
  const controller = new AbortController();
  let askedAt = 0;
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    of.on(name, () => {
      const at = now();
      if (!controller.signal.aborted) {
        askedAt = at;
        controller.abort();
      } else if (at - askedAt > SAME_SIGNAL_MS) {
        of.exit(name === 'SIGINT' ? 130 : 143);
      }
    });
  }
  return controller.signal;
}

/** Runs the command of this process and ends it with the command's exit code. */
export async function runProcess(): Promise<void> {
  process.on('uncaughtException', crash);
  process.on('unhandledRejection', crash);
  // `portcullis audit tail | head` closes our output: that is an end, not an error.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(EXIT.ok);
    crash(error);
  });
  const io: Io = {
    stdin: process.stdin,
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    env: process.env,
    cwd: process.cwd(),
    signal: stopSignal(process, () => performance.now()),
  };
  const code = await main(process.argv.slice(2), io);
  process.stdout.write('', () => process.exit(code));
}
