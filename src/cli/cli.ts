/** Finds the command, runs it, and turns what it throws into a sentence and an exit code. Source: contracts 5. */

import { fileFault } from '../config/file-faults.ts';
import { suggestion } from '../config/problem.ts';
import { scrubText } from '../core/redaction.ts';
import { COMMANDS } from './commands.ts';
import { helpText } from './help.ts';
import { CommandError, EXIT, type Io, UnreachableError, UsageError } from './io.ts';
import { packageVersion } from './version.ts';

/** `parseArgs` throws a TypeError with one of these codes for a wrong option. */
function isParseError(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
}

/** `admin bootstrap` is how others call what makes the first administrator (acceptance V-38). */
const OTHER_NAMES: ReadonlyMap<string, string> = new Map([['admin', 'users']]);

/** What the system refused, as a sentence: the operator's files and rights are no fault of the program. */
function refusedFile(error: unknown): string | null {
  const fault = fileFault(error);
  if (fault === null || !(error instanceof Error) || !('path' in error) || typeof error.path !== 'string') return null;
  return `cannot use ${error.path}: ${fault}`;
}

function report(error: unknown, command: string, io: Io): number {
  if (error instanceof UsageError || isParseError(error)) {
    // Node goes on to explain how one would pass a value that looks like an option.
    const { message: whole } = error;
    const message = isParseError(error) ? whole.split('. ', 1)[0] : whole;
    io.err(`portcullis ${command}: ${message}\nTry "portcullis ${command} --help".\n`);
    return EXIT.usage;
  }
  if (error instanceof UnreachableError || error instanceof CommandError) {
    io.err(`portcullis ${command}: ${error.message}\n`);
    return error instanceof UnreachableError ? EXIT.unreachable : EXIT.failed;
  }
  const fault = refusedFile(error);
  if (fault !== null) {
    io.err(`portcullis ${command}: ${scrubText(fault)}\n`);
    return EXIT.failed;
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  io.err(`portcullis ${command}: unexpected error\n${scrubText(text)}\n`);
  return EXIT.failed;
}

/** Runs one command line (without `node` and the script) and gives the exit code. Never throws. */
export async function main(argv: readonly string[], io: Io): Promise<number> {
  const [first, ...rest] = argv;
  if (first === '--version' || first === '-v' || first === '-V' || first === 'version') {
    io.out(`${packageVersion()}\n`);
    return EXIT.ok;
  }
  if (first === '--help' || first === '-h' || (first === 'help' && rest.length === 0)) {
    io.out(helpText());
    return EXIT.ok;
  }
  if (first === 'help') return main([rest[0] ?? '', '--help'], io);
  if (first === undefined) {
    io.err(helpText());
    return EXIT.usage;
  }
  const command = COMMANDS.find(({ name }) => name === (OTHER_NAMES.get(first) ?? first));
  if (command === undefined) {
    const names = COMMANDS.map(({ name }) => name);
    io.err(`portcullis: there is no command "${first}"${suggestion(first, names)}\nTry "portcullis --help".\n`);
    return EXIT.usage;
  }
  try {
    const run = await command.load();
    return await run(rest, io);
  } catch (error) {
    return report(error, first, io);
  }
}
