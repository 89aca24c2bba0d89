/** The text of `portcullis --help`. */
import { COMMANDS } from './commands.ts';

/** One line per command, and what holds for all of them. */
export function helpText(): string {
  const width = Math.max(...COMMANDS.map(({ name }) => name.length));
  const rows = COMMANDS.map(({ name, summary }) => `  ${name.padEnd(width)}   ${summary}`).join('\n');
  return `Usage: portcullis COMMAND [options]

A policy-enforcing gateway for AI traffic.

${rows}

  portcullis COMMAND --help   what a command takes
  portcullis --version        print the version

Data goes to standard output, everything else to standard error. Exit codes:
0 yes, 1 no or failed, 2 wrong usage, 3 gateway or file not reachable.
`;
}
