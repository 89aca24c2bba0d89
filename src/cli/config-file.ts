/** Which configuration a command is about, and its checked content. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type LoadOptions, type LoadResult, loadConfig } from '../config/load.ts';
import { suggestion } from '../config/problem.ts';
import type { Config } from '../config/schema.ts';
import { IDENTITY_SCHEMA } from '../modules.ts';
import { requireReadable } from './input-file.ts';
import { CommandError, type Io, UnreachableError, UsageError } from './io.ts';

const USUAL_NAME = 'portcullis.yaml';

/** `-c FILE`, `$PORTCULLIS_CONFIG`, `./portcullis.yaml`, or the demo's own file: the first that applies. */
export function configFile(given: string | undefined, io: Io): string {
  const named = given ?? io.env.PORTCULLIS_CONFIG;
  if (named !== undefined && named !== '') return resolve(io.cwd, named);
  const here = resolve(io.cwd, USUAL_NAME);
  const demo = join(resolve(io.cwd, io.env.PORTCULLIS_HOME ?? '.portcullis'), USUAL_NAME);
  return !existsSync(here) && existsSync(demo) ? demo : here;
}

/** Loads and checks; the result tells problems, a file that cannot be read is unreachable (exit 3). */
export async function readConfigFile(
  file: string,
  io: Io,
  providers: LoadOptions['providers'] = IDENTITY_SCHEMA,
): Promise<LoadResult> {
  if (!existsSync(file)) {
    const advice = file === resolve(io.cwd, USUAL_NAME) ? '; name one with -c' : '';
    throw new UnreachableError(`there is no configuration ${file}${advice}`);
  }
  requireReadable(file);
  return loadConfig(file, { env: io.env, providers });
}

/** The provider of this name. Throws UsageError with the names there are. */
export function namedProvider({ identity }: Config, name: string): Config['identity'][string] {
  const found = Object.hasOwn(identity, name) ? identity[name] : undefined;
  if (found !== undefined) return found;
  const names = Object.keys(identity);
  const known = names.length === 0 ? 'it has none' : `it has ${names.join(', ')}`;
  throw new UsageError(`the configuration has no provider "${name}"${suggestion(name, names)}; ${known}`);
}

/** For commands that need a good configuration: every problem in the message otherwise. Warnings go to `err`. */
export async function requireConfig(
  file: string,
  io: Io,
  providers?: LoadOptions['providers'],
): Promise<LoadResult & { readonly config: Config }> {
  const loaded = await readConfigFile(file, io, providers);
  if (loaded.config === null) {
    throw new CommandError(`the configuration is not usable\n${loaded.problems.map(({ text }) => text).join('\n')}`);
  }
  for (const { text } of loaded.warnings) io.err(`${text}\n`);
  return loaded;
}
