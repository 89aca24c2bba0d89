/**
 * Code of the operator's own, named by a path: a file that exports a `Module` (kind, schema, create) or a class. It runs
 * inside the gateway. Source: contracts 1.
 */
import { hash, randomUUID } from 'node:crypto';
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { z } from 'zod';
import type { Module, ModuleEnv } from './module.ts';
import { reasonOf } from './reason.ts';

/** How a configuration names such a file; spread into the section it belongs to. */
export const OWN_MODULE = {
  module: z
    .string()
    .min(1)
    .refine((path) => !/^[a-z][a-z0-9+.-]+:/i.test(path), 'a path to a file; addresses are refused')
    .describe('JavaScript or TypeScript file, relative to the configuration'),
  class: z.string().min(1).optional().describe('the export to use; default: the default export, else the only one'),
  options: z.record(z.string(), z.unknown()).default({}).describe('handed to the module as they are'),
};

export interface OwnModule {
  readonly module: string;
  readonly class?: string | undefined;
  readonly options: Record<string, unknown>;
}

/**
 * What the file makes. Throws with a sentence for the operator when the file is not there or exports nothing that can be
 * used. `place`: the setting, as `identity.own`.
 */
export async function loadOwn(config: OwnModule, env: ModuleEnv, place: string): Promise<unknown> {
  const file = resolve(env.baseDir, config.module);
  if (!existsSync(file)) throw new Error(`${place}.module: there is no file ${file}`);
  const { name, clock, logger, mode, baseDir } = env;
  const exports = await told(file, () => imported(file));
  const exported = pick(exports, config.class, file);
  return told(file, () => make(exported, config.options, { name, clock, logger, mode, baseDir }, { file, place }));
}

/** Versions of one file that can be loaded in one process: what was imported is never unloaded. */
const MAX_VERSIONS = 20;
/** By file, under what address each content of it was imported. */
const versions = new Map<string, Map<string, string>>();
/** How many were imported, by the name that the configuration has for the file. */
const loads = new Map<string, number>();
const { cache } = createRequire(import.meta.url);

/**
 * What the file exports. What did not get that far is run anew the next time: what it lacked may be there by then. Throws
 * for the content that is one too many.
 */
async function imported(file: string): Promise<Record<string, unknown>> {
  // Node goes on believing what a link led to when it first looked: mounted configuration is such links.
  const real = realpathSync(file);
  const content = hash('sha256', readFileSync(real), 'hex');
  const address = versions.get(real)?.get(content) ?? newAddress(file, real);
  const known = versions.get(real) ?? new Map<string, string>();
  versions.set(real, known.set(content, address));
  try {
    return (await import(address)) as Record<string, unknown>;
  } catch (error) {
    known.delete(content);
    throw error;
  }
}

/** Once imported an address stays what it was, so that another content gets another one. */
function newAddress(file: string, real: string): string {
  const count = loads.get(file) ?? 0;
  if (count >= MAX_VERSIONS) {
    throw new Error(`it changed ${MAX_VERSIONS} times since the start, and what was loaded stays: restart the gateway`);
  }
  loads.set(file, count + 1);
  const { href } = pathToFileURL(real);
  if (!versions.has(real)) return href;
  // CommonJS has a cache of its own, by name of the file.
  delete cache[real];
  return `${href}?version=${randomUUID()}`;
}

/** With the file's name before what its own code throws. */
async function told<T>(file: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    const why = reasonOf(error);
    throw new Error(why.includes(file) ? why : `${file}: ${why}`, { cause: error });
  }
}

/** Throws unless what the file made has each of these methods. */
export function requireMethods(made: unknown, methods: readonly string[], file: string): void {
  for (const name of methods) {
    if (typeof made !== 'object' || made === null || typeof Reflect.get(made, name) !== 'function') {
      throw new Error(`${file}: what it makes has no method "${name}"`);
    }
  }
}

function pick(exports: Record<string, unknown>, wanted: string | undefined, file: string): unknown {
  if (wanted !== undefined) {
    if (!Object.hasOwn(exports, wanted)) throw new Error(`${file}: it exports no "${wanted}"`);
    return exports[wanted];
  }
  if (exports.default !== undefined) return exports.default;
  const usable = Object.values(exports).filter((value) => isModule(value) || typeof value === 'function');
  if (usable.length !== 1) throw new Error(`${file}: name one of its exports with "class", or make it the default`);
  return usable[0];
}

async function make(
  exported: unknown,
  options: Record<string, unknown>,
  env: ModuleEnv,
  { file, place }: { readonly file: string; readonly place: string },
): Promise<unknown> {
  if (isModule(exported)) {
    const checked = exported.schema.safeParse(options);
    if (!checked.success) throw new Error(`${place}.options: ${z.prettifyError(checked.error)}`);
    return exported.create(checked.data, env);
  }
  if (typeof exported === 'function')
    return new (exported as new (options: object, env: ModuleEnv) => unknown)(options, env);
  throw new Error(`${file}: expected a class, or a module with kind, schema and create`);
}

function isModule(value: unknown): value is Module<unknown, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const { schema, create } = value as Partial<Module<unknown, unknown>>;
  return typeof create === 'function' && typeof schema?.safeParse === 'function';
}
