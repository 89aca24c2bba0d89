/** `portcullis config check|print|schema`. Source: contracts 5, acceptance. */
import { rehearse } from '../composition/rehearsal.ts';
import type { SettingFault } from '../composition/setting-fault.ts';
import { configJsonSchema } from '../config/json-schema.ts';
import type { LoadResult } from '../config/load.ts';
import { configYaml, redactConfig } from '../config/print.ts';
import { type Problem, problem } from '../config/problem.ts';
import { scrubText } from '../core/redaction.ts';
import { IDENTITY_SCHEMA } from '../modules.ts';
import { configFile, readConfigFile, requireConfig } from './config-file.ts';
import { EXIT, type Io, line, UsageError } from './io.ts';
import { boundToNothing } from './policy-routes.ts';
import { readArguments, USUAL_OPTIONS } from './usual-options.ts';

export const CONFIG_HELP = `Usage: portcullis config check [-c FILE] [--json]
       portcullis config print [-c FILE] [--json]
       portcullis config schema

check    says everything that is wrong, each with file, line and column; makes
         every part as a start does, without network, so that it reads the files
         the configuration names and runs modules of your own
print    shows the configuration with defaults and environment applied, without secrets
schema   prints the JSON Schema, for editors

  -c, --config FILE   default: $PORTCULLIS_CONFIG, portcullis.yaml, or the demo's
  --json              print JSON
`;

const asProblem =
  (placeOf: LoadResult['placeOf']) =>
  ({ path, reason }: SettingFault): Problem =>
    problem('error', path, scrubText(reason), placeOf(path));

async function check(file: string, json: boolean, io: Io): Promise<number> {
  const { config, problems, warnings, baseDir, placeOf } = await readConfigFile(file, io);
  const bound = config === null ? [] : await boundToNothing(config, baseDir);
  const aside = bound.map((text) =>
    problem('warning', ['policy', 'bundle'], text, { source: file, line: 0, column: 0 }),
  );
  const faults = config === null ? problems : (await rehearse(config, baseDir)).map(asProblem(placeOf));
  const found = [...faults, ...warnings, ...aside];
  const isGood = faults.length === 0;
  if (json) line(io, JSON.stringify({ ok: isGood, file, problems: found }));
  else {
    for (const { text } of found) line(io, text);
    io.err(
      isGood
        ? `The configuration is good: ${file}\n`
        : `${faults.length} ${faults.length === 1 ? 'problem' : 'problems'}\n`,
    );
  }
  return isGood ? EXIT.ok : EXIT.failed;
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
