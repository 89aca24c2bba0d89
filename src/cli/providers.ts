/** `portcullis providers`: who a configuration lets in, and by which routes. */
import { configFile, requireConfig } from './config-file.ts';
import { EXIT, type Io, line, UsageError } from './io.ts';
import { testProvider } from './providers-test.ts';
import { table } from './table.ts';
import { readArguments, USUAL_OPTIONS } from './usual-options.ts';

export const PROVIDERS_HELP = `Usage: portcullis providers [list] [-c FILE] [--json]
       portcullis providers test NAME [--username USER | --token] [-c FILE] [--json]

Lists the identity providers of a configuration and the routes that ask them.
test asks one whether it works, and says what to do next, e.g. where browsers log
in; with --username it logs in with the password on standard input, with --token
it shows the token or key on standard input, and prints who that is. Exit code 0:
it works, 1: a mistake in it, or it refuses, 3: its service does not answer, is
not trusted or refuses the gateway.

  -c, --config FILE   default: $PORTCULLIS_CONFIG, portcullis.yaml, or the demo's
  --username USER     of test: whom to log in
  --token             of test: what to show
  --json              print JSON
`;

const TEST_OPTIONS = { username: { type: 'string' }, token: { type: 'boolean' } } as const;

export async function providersCommand(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = readArguments(argv, { ...USUAL_OPTIONS, ...TEST_OPTIONS });
  if (values.help === true) {
    io.out(PROVIDERS_HELP);
    return EXIT.ok;
  }
  const [verb = 'list', name, ...more] = positionals;
  const isTest = verb === 'test';
  if ((verb !== 'list' && !isTest) || more.length > 0 || (name !== undefined) !== isTest) {
    throw new UsageError('expected list, or test and the name of a provider');
  }
  const { config, baseDir } = await requireConfig(configFile(values.config, io), io);
  if (name !== undefined) {
    const { username, token = false, json = false } = values;
    if (token && username !== undefined) throw new UsageError('give --username or --token, not both');
    await testProvider(config, baseDir, { name, username, token, json }, io);
    return EXIT.ok;
  }
  const providers = Object.entries(config.identity).map(([name, { kind }]) => ({
    name,
    kind,
    routes: config.routes.filter((route) => route.identity.includes(name)).map((route) => route.match),
  }));
  if (values.json === true) line(io, JSON.stringify({ providers }));
  else {
    const rows = providers.map(({ name, kind, routes }) => [name, kind, routes.join(' ') || '(no route)']);
    table([['NAME', 'KIND', 'ROUTES'], ...rows], io);
  }
  return EXIT.ok;
}
