/** `portcullis serve -c FILE`: runs the gateway until it is told to stop, and drains before it ends. */
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import { watchFiles } from '../config/watch.ts';
import type { Gateway } from '../gateway.ts';
import { createGateway, ListenError } from '../gateway.ts';
import { configFile, requireConfig } from './config-file.ts';
import type { Io } from './io.ts';
import { CommandError, EXIT, UsageError } from './io.ts';

export const SERVE_HELP = `Usage: portcullis serve -c FILE

Runs the gateway with the configuration in FILE until SIGINT or SIGTERM, then
finishes the requests in flight. SIGHUP, a changed configuration file or
POST /reload on the administration listener reload it without a restart.

  -c, --config FILE   the configuration (default: portcullis.yaml, or $PORTCULLIS_CONFIG)
`;

export async function serveCommand(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    options: { config: { type: 'string', short: 'c' }, help: { type: 'boolean', short: 'h' } },
    allowPositionals: true,
  });
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
  const gateway = await createGateway((await requireConfig(file, io)).config, { baseDir: dirname(file) });
  const reload = async () => {
    try {
      await gateway.reload((await requireConfig(file, io)).config);
    } catch (error) {
      // The running configuration stays; the reason is for the operator.
      gateway.logger.error({ reason: error instanceof Error ? error.message : String(error) }, 'config_reload_refused');
    }
  };
  const onHangup = () => void reload();
  process.on('SIGHUP', onHangup);
  const watcher = watchFiles([file], () => void reload());
  try {
    await gateway.start().catch((error: unknown) => {
      throw error instanceof ListenError ? new CommandError(error.message) : error;
    });
    await onReady?.(gateway);
    await aborted(io.signal);
  } finally {
    process.off('SIGHUP', onHangup);
    watcher.close();
    await gateway.close();
  }
  return EXIT.ok;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    if (signal.aborted) done();
    else signal.addEventListener('abort', () => done(), { once: true });
  });
}
