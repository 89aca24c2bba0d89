/**
 * A provider of your own: a file that exports a `Module` (kind, schema, create) or a class. It is loaded at start and at
 * reload, runs inside the gateway, and its answers go through the same checks as anybody's. Source: contracts 1, D-01.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { z } from 'zod';
import type { Module, ModuleEnv } from '../../core/module.ts';
import type { IdentityEnv } from '../env.ts';
import type { IdentityProvider } from '../provider.ts';

const schema = z.strictObject({
  kind: z.literal('custom'),
  module: z
    .string()
    .min(1)
    .refine((path) => !/^[a-z][a-z0-9+.-]+:/i.test(path), 'a path to a file; addresses are refused')
    .describe('JavaScript or TypeScript file, relative to the configuration'),
  class: z.string().min(1).optional().describe('the export to use; default: the default export, else the only one'),
  options: z.record(z.string(), z.unknown()).default({}).describe('handed to the module as they are'),
});

type Config = z.output<typeof schema>;

/** What a module of yours is told of its surroundings. */
export type CustomEnv = ModuleEnv;

/** Throws with a sentence for the operator when the file is not there or exports nothing that can be used. */
async function load(config: Config, env: IdentityEnv): Promise<IdentityProvider> {
  const file = resolve(env.baseDir, config.module);
  if (!existsSync(file)) throw new Error(`identity.${env.name}.module: there is no file ${file}`);
  const exported = pick((await import(pathToFileURL(file).href)) as Record<string, unknown>, config.class, file);
  const { name, clock, logger, mode, baseDir } = env;
  const made: unknown = await make(exported, config.options, { name, clock, logger, mode, baseDir }, file);
  if (!isProvider(made)) throw new Error(`${file}: what it makes has no method "authenticate"`);
  return made;
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

async function make(exported: unknown, options: Record<string, unknown>, env: CustomEnv, file: string) {
  if (isModule(exported)) {
    const checked = exported.schema.safeParse(options);
    if (!checked.success) throw new Error(`identity.${env.name}.options: ${z.prettifyError(checked.error)}`);
    return exported.create(checked.data, env);
  }
  if (typeof exported === 'function')
    return new (exported as new (options: object, env: CustomEnv) => unknown)(options, env);
  throw new Error(`${file}: expected a class, or a module with kind, schema and create`);
}

function isModule(value: unknown): value is Module<unknown, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const { schema, create } = value as Partial<Module<unknown, unknown>>;
  return typeof create === 'function' && typeof schema?.safeParse === 'function';
}

function isProvider(value: unknown): value is IdentityProvider {
  return (
    typeof value === 'object' && value !== null && 'authenticate' in value && typeof value.authenticate === 'function'
  );
}

export const custom: Module<Config, IdentityProvider, IdentityEnv> & { readonly schema: typeof schema } = {
  kind: 'custom',
  schema,
  create: load,
};
