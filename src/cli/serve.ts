/** `portcullis serve -c FILE`: runs the gateway until it is told to stop, and drains before it ends. */
import { dirname } from 'node:path';
import { SettingFault } from '../composition/setting-fault.ts';
import type { FileWatcher } from '../config/watch.ts';
import { watchFiles } from '../config/watch.ts';
import { reasonOf } from '../core/reason.ts';
import { scrubText } from '../core/redaction.ts';
import type { Gateway } from '../gateway.ts';
import { createGateway, ListenError } from '../gateway.ts';
import { configFile, requireConfig } from './config-file.ts';
import type { Io } from './io.ts';
import { CommandError, EXIT, UsageError } from './io.ts';
import { readArguments, USUAL_OPTIONS } from './usual-options.ts';

export const SERVE_HELP = `Usage: portcullis serve -c FILE

Runs the gateway with the configuration in FILE until SIGINT or SIGTERM, then
finishes the requests in flight. SIGHUP, POST /reload on the administration
listener, and a change of the configuration file or of a file it takes values
from reload it without a restart.

  -c, --config FILE   the configuration (default: $PORTCULLIS_CONFIG, portcullis.yaml,
                      or the demo's)
`;

export async function serveCommand(argv: readonly string[], io: Io): Promise<number> {
  const { config, help } = USUAL_OPTIONS;
  const { values, positionals } = readArguments(argv, { config, help });
  if (values.help) {
    io.out(SERVE_HELP);
    return EXIT.ok;
  }
  if (positionals.length > 0) throw new UsageError(`unexpected argument ${positionals[0]}`);
  return runGateway(configFile(values.config, io), io);
}

/** Starts, serves, reloads on request, and resolves with the exit code once everything is closed. */
export async function runGateway(
  file: string,
  io: Io,
  onReady?: (gateway: Gateway) => void | Promise<void>,
): Promise<number> {
  const first = await requireConfig(file, io);
  const reloads = new Reloads(file, io, first.read);
  const gateway = await createGateway(first.config, {
    baseDir: dirname(file),
    onReloadRequest: () => reloads.run(),
  }).catch((error: unknown) => {
    if (error instanceof SettingFault) throw new CommandError(scrubText(error.message));
    throw isSentence(error) ? new CommandError(scrubText(reasonOf(error))) : error;
  });
  const onHangup = () => void reloads.run().catch(told);
  process.on('SIGHUP', onHangup);
  reloads.begin(gateway);
  try {
    await gateway.start().catch((error: unknown) => {
      throw error instanceof ListenError ? new CommandError(error.message) : error;
    });
    await onReady?.(gateway);
    await aborted(io.signal);
  } finally {
    process.off('SIGHUP', onHangup);
    reloads.end();
    await gateway.close();
  }
  return EXIT.ok;
}

/** A setup that cannot be used is told in words by whoever found out; errors of other classes, and of files, are no such words. */
function isSentence(error: unknown): error is Error {
  return error instanceof Error && error.constructor === Error && !('code' in error);
}

/** The log has said why a reload was refused, and nobody waits for it. */
const told = () => undefined;

/** Reloads one after the other, and the watch on every file that the configuration was read from. */
class Reloads {
  readonly #file: string;
  readonly #io: Io;
  #read: readonly string[];
  #gateway: Gateway | null = null;
  #watcher: FileWatcher | null = null;
  #last: Promise<void> = Promise.resolve();

  constructor(file: string, io: Io, read: readonly string[]) {
    this.#file = file;
    this.#io = io;
    this.#read = read;
  }

  begin(gateway: Gateway): void {
    this.#gateway = gateway;
    this.#watcher = watchFiles(this.#read, () => void this.run().catch(told));
  }

  end(): void {
    this.#watcher?.close();
    this.#gateway = null;
  }

  /** Rejects when the configuration is refused; the running one stays then. */
  run(): Promise<void> {
    const mine = this.#last.then(() => this.#reload());
    this.#last = mine.catch(told);
    return mine;
  }

  async #reload(): Promise<void> {
    const gateway = this.#gateway;
    if (gateway === null) return;
    try {
      const { config, read } = await requireConfig(this.#file, this.#io);
      await gateway.reload(config);
      this.#watch(gateway, read);
    } catch (error) {
      gateway.logger.error({ reason: error instanceof Error ? error.message : String(error) }, 'config_reload_refused');
      throw error;
    }
  }

  /** A new watch begins before the old one ends, and only when other files are meant: nothing is missed between. */
  #watch(gateway: Gateway, read: readonly string[]): void {
    if (this.#gateway === null || read.join('\0') === this.#read.join('\0')) return;
    const before = this.#watcher;
    this.#read = read;
    this.begin(gateway);
    before?.close();
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    if (signal.aborted) done();
    else signal.addEventListener('abort', () => done(), { once: true });
  });
}
