/** Finds, in the metadata of the sources of a bundle, the routes that its entrypoints want to decide on, each with its line. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { makeDirectory } from '../config/directories.ts';
import type { JsonValue } from '../core/json.ts';
import { contradiction, type RouteClaim, routesOf } from './bindings.ts';
import type { CompileProblem } from './compiler.ts';
import { entrypointName, type OpaCommand, run } from './opa-command.ts';

/** A block of metadata as `opa inspect -a` shows it. */
interface Described {
  readonly annotations: JsonValue;
  readonly location?: { readonly file?: string; readonly row?: number; readonly col?: number };
  readonly path?: readonly { readonly value?: unknown }[];
}

/** Only comments that could hold one are worth another run of the compiler. */
const MENTION = /^[ \t]*#.*portcullis/m;

/** `names` are the sources below `dir`, `entrypoints` those of the module that was made of them. */
export async function findBindings(
  opa: OpaCommand,
  dir: string,
  names: readonly string[],
  entrypoints: readonly string[],
): Promise<{ readonly claims: readonly RouteClaim[] } | { readonly problems: readonly CompileProblem[] }> {
  const texts = new Map<string, string>();
  for (const name of names) texts.set(name, await readFile(join(dir, name), 'utf8'));
  if (![...texts.values()].some((text) => text.includes('METADATA') && MENTION.test(text))) return { claims: [] };
  const claims: RouteClaim[] = [];
  const problems: CompileProblem[] = [];
  for (const block of await metadataOf(opa, texts)) {
    const { file = '', row = 0, col = 0 } = block.location ?? {};
    const entrypoint = entrypointName((block.path ?? []).slice(1).map((part) => String(part.value)));
    const routes = routesOf(block.annotations);
    const problem = (message: string) => problems.push({ file, line: row, column: col, message });
    if (typeof routes === 'string') problem(`the routes of ${entrypoint} ${routes}`);
    else if (routes.length === 0) continue;
    else if (!entrypoints.includes(entrypoint)) {
      problem(`${entrypoint} has routes and is no entrypoint: write "entrypoint: true" beside them`);
    } else for (const route of routes) claims.push({ entrypoint, route, at: `${file}:${row}` });
  }
  const quarrel = contradiction(claims);
  if (quarrel !== null) problems.push({ ...placeOf(quarrel.claim), message: `the policy ${quarrel.why}` });
  return problems.length > 0 ? { problems } : { claims };
}

function placeOf({ at }: RouteClaim): Pick<CompileProblem, 'file' | 'line' | 'column'> {
  const [, file = '', line = '0'] = /^(.*):(\d+)$/.exec(at ?? '') ?? [];
  return { file, line: Number(line), column: 1 };
}

/** Of copies: the compiler looks at whole directories, and beside the rules there are tests, data and schemas. */
async function metadataOf(opa: OpaCommand, texts: ReadonlyMap<string, string>): Promise<readonly Described[]> {
  const temporary = await mkdtemp(join(tmpdir(), 'portcullis-metadata-'));
  try {
    for (const [name, text] of texts) {
      makeDirectory(dirname(join(temporary, name)));
      await writeFile(join(temporary, name), text);
    }
    const { status, stdout, stderr } = await run(opa.path, ['inspect', '-a', '--format', 'json', '.'], {
      cwd: temporary,
    });
    if (status !== 0) throw new Error(`the compiler does not show the metadata: ${(stderr || stdout).trim()}`);
    return (JSON.parse(stdout) as { readonly annotations?: readonly Described[] }).annotations ?? [];
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}
