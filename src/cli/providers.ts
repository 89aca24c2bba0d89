/** `portcullis providers`: who a configuration lets in, and by which routes. */
import { parseArgs } from 'node:util';
import { configFile, requireConfig } from './config-file.ts';
import { EXIT, type Io, line, UsageError } from './io.ts';

export const PROVIDERS_HELP = `Usage: portcullis providers [list] [-c FILE] [--json]

Lists the identity providers of a configuration and the routes that ask them.

  -c, --config FILE   default: $PORTCULLIS_CONFIG, portcullis.yaml, or the demo's
  --json              print JSON
`;

export async function providersCommand(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    options: {
      config: { type: 'string', short: 'c' },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
    allowPositionals: true,
  });
  if (values.help === true) {
    io.out(PROVIDERS_HELP);
    return EXIT.ok;
  }
  if (positionals.length > 1 || (positionals[0] ?? 'list') !== 'list') throw new UsageError('expected list');
  const { config } = await requireConfig(configFile(values.config, io), io);
  const providers = Object.entries(config.identity).map(([name, { kind }]) => ({
    name,
    kind,
    routes: config.routes.filter((route) => route.identity.includes(name)).map((route) => route.match),
  }));
  if (values.json === true) line(io, JSON.stringify({ providers }));
  else
    for (const { name, kind, routes } of providers) line(io, `${name}  ${kind}  ${routes.join(' ') || '(no route)'}`);
  return EXIT.ok;
}
