/**
 * A provider of your own: a file that exports a `Module` (kind, schema, create) or a class. It is loaded at start and at
 * reload, runs inside the gateway, and its answers go through the same checks as anybody's. Source: contracts 1, D-01.
 */
import { resolve } from 'node:path';
import { z } from 'zod';
import type { Module, ModuleEnv } from '../../core/module.ts';
import { loadOwn, OWN_MODULE, requireMethods } from '../../core/own-module.ts';
import type { IdentityEnv } from '../env.ts';
import { fromOwn, type OwnProvider } from '../own-provider.ts';
import type { IdentityProvider } from '../provider.ts';

const schema = z.strictObject({ kind: z.literal('custom'), ...OWN_MODULE });

type Config = z.output<typeof schema>;

/** What a module of yours is told of its surroundings. */
export type CustomEnv = ModuleEnv;

/** Throws with a sentence for the operator when the file is not there or exports nothing that can be used. */
async function load(config: Config, env: IdentityEnv): Promise<IdentityProvider> {
  const made = await loadOwn(config, env, `identity.${env.name}`);
  requireMethods(made, ['authenticate'], resolve(env.baseDir, config.module));
  return fromOwn(made as OwnProvider);
}

export const custom: Module<Config, IdentityProvider, IdentityEnv> & { readonly schema: typeof schema } = {
  kind: 'custom',
  schema,
  create: load,
};
