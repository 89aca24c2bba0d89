/** `portcullis config check|print|schema`. Source: contracts 5, acceptance. */
import { configJsonSchema } from '../config/json-schema.ts';
import { configYaml, redactConfig } from '../config/print.ts';
import { problem } from '../config/problem.ts';
import { IDENTITY_SCHEMA } from '../modules.ts';
import { configFile, readConfigFile, requireConfig } from './config-file.ts';
import { EXIT, type Io, line, UsageError } from './io.ts';
import { boundToNothing } from './policy-routes.ts';
import { readArguments, USUAL_OPTIONS } from './usual-options.ts';

export const CONFIG_HELP = `Usage: portcullis config check [-c FILE] [--json]
       portcullis config print [-c FILE] [--json]
       portcullis config schema

check    says everything that is wrong, each with file, line and column
print    shows the configuration with defaults and environment applied, without secrets
schema   prints the JSON Schema, for editors

  -c, --config FILE   default: $PORTCULLIS_CONFIG, portcullis.yaml, or the demo's
  --json              print JSON
`;

async function check(file: string, json: boolean, io: Io): Promise<number> {
  const { config, problems, warnings, baseDir } = await readConfigFile(file, io);
  const bound = config === null ? [] : await boundToNothing(config, baseDir);
  const aside = bound.map((text) =>
    problem('warning', ['policy', 'bundle'], text, { source: file, line: 0, column: 0 }),
  );
  const found = [...problems, ...warnings, ...aside];
  if (json) line(io, JSON.stringify({ ok: config !== null, file, problems: found }));
  else {
    for (const { text } of found) line(io, text);
    io.err(config === null ? `${problems.length} problem(s)\n` : 'The configuration is good.\n');
  }
  return config === null ? EXIT.failed : EXIT.ok;
}

async function print(file: string, json: boolean, io: Io): Promise<number> {
  const { config } = await requireConfig(file, io);
  if (json) line(io, JSON.stringify(redactConfig(config)));
  else io.out(configYaml(config));
  return EXIT.ok;
}

export async function configCommand(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = readArguments(argv, USUAL_OPTIONS);
  if (values.help === true) {
    io.out(CONFIG_HELP);
    return EXIT.ok;
  }
  const [what, ...more] = positionals;
  if (more.length > 0) throw new UsageError(`unexpected argument ${more[0]}`);
  const file = configFile(values.config, io);
  if (what === 'check') return check(file, values.json === true, io);
  if (what === 'print') return print(file, values.json === true, io);
  if (what === 'schema') {
    line(io, JSON.stringify(configJsonSchema(IDENTITY_SCHEMA), null, 2));
    return EXIT.ok;
  }
  throw new UsageError('expected check, print or schema');
}
