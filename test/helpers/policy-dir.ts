/** The shipped policies with a few of one's own, compiled, as an operator would have them. */
import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { compile } from '../../src/policy/compiler.ts';
import { findOpa } from '../../src/policy/opa-command.ts';
import { POLICIES } from './gateway.ts';
import { ROOT, temporaryDirectory } from './processes.ts';

const opa = await findOpa();

/** Why tests that compile are skipped, or null. With `CI=true` nothing is skipped. */
export const NO_COMPILER: string | null = opa.path === null && process.env.CI !== 'true' ? opa.message : null;

export interface PolicyDirectory extends Disposable {
  readonly path: string;
}

/** A copy of the policies with these files in it (or in the place of those), compiled. Throws what the compiler says. */
export async function policyDirectory(
  files: Readonly<Record<string, string>>,
  entrypoints?: readonly string[],
): Promise<PolicyDirectory> {
  const directory = temporaryDirectory();
  const { path } = directory;
  await cp(POLICIES, path, { recursive: true });
  await rm(join(path, 'bundle'), { recursive: true });
  for (const [name, text] of Object.entries(files)) await writeFile(join(path, name), text);
  const result = await compile(path, {
    out: join(path, 'bundle'),
    ...(entrypoints === undefined ? {} : { entrypoints }),
  });
  if (result.kind !== 'compiled') throw new Error(JSON.stringify(result));
  return directory;
}

/** The example of the documentation below this heading, as Rego. */
export async function documentedRego(heading: string): Promise<string> {
  const text = await readFile(join(ROOT, 'docs/policies.md'), 'utf8');
  const block = /```rego\n(.*?)```/s.exec(text.slice(text.indexOf(`\n${heading}\n`)));
  if (block?.[1] === undefined) throw new Error(`no example below ${heading}`);
  return block[1];
}
