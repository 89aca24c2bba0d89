/** A command that asks a person to visit an address and waits until they have. */
import { Readable } from 'node:stream';
import { main } from '../../src/cli/cli.ts';

export interface WaitingCommand {
  /** The exit code. */
  readonly code: Promise<number>;
  /** The address it shows. */
  readonly shown: Promise<string>;
  readonly written: { out: string; err: string };
}

/** Starts it in `home`, where it keeps its logins. */
export function waitingCommand(
  argv: readonly string[],
  home: string,
  env: Record<string, string> = {},
): WaitingCommand {
  const written = { out: '', err: '' };
  const { promise: shown, resolve } = Promise.withResolvers<string>();
  const code = main(argv, {
    stdin: Readable.from([]),
    out: (text) => {
      written.out += text;
    },
    err: (text) => {
      written.err += text;
      const found = /^ {2}(http\S+)$/m.exec(written.err)?.[1];
      if (found !== undefined) resolve(found);
    },
    env: { XDG_CONFIG_HOME: home, ...env },
    cwd: home,
    signal: new AbortController().signal,
  });
  return { code, shown, written };
}
