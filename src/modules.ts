/** THE list of built-in plug-ins. A new provider is one file and one line here. */
import { z } from 'zod';
import type { Module } from './core/module.ts';
import type { IdentityEnv } from './identity/env.ts';
import type { IdentityProvider } from './identity/provider.ts';
import { apiKey } from './identity/providers/api-key.ts';
import { custom } from './identity/providers/custom.ts';
import { introspection } from './identity/providers/introspection.ts';
import { jwt } from './identity/providers/jwt.ts';
import { ldap } from './identity/providers/ldap.ts';
import { local } from './identity/providers/local.ts';
import { mtls } from './identity/providers/mtls.ts';
import { oidc } from './identity/providers/oidc.ts';
import { remoteKey } from './identity/providers/remote-key.ts';
import { Breaker } from './upstreams/breaker.ts';

const remoteKeys = remoteKey((options) => new Breaker(options));
const IDENTITY_MODULES = [custom, jwt, oidc, introspection, apiKey, remoteKeys, local, ldap, mtls] as const;

/** What `identity.*` of the config file may hold: one schema per provider kind. */
export const IDENTITY_SCHEMA = z.union([
  jwt.schema,
  custom.schema,
  oidc.schema,
  introspection.schema,
  apiKey.schema,
  remoteKeys.schema,
  local.schema,
  ldap.schema,
  mtls.schema,
]);

/** Kind of a provider that the program around the gateway brings; a file cannot name it. */
export const GIVEN = 'given';

/** What `identity.*` may hold in a configuration that a program makes. */
export const PROGRAM_SCHEMA = z.union([...IDENTITY_SCHEMA.options, z.strictObject({ kind: z.literal(GIVEN) })]);

/** Every kind a configuration can name. */
export const IDENTITY_KINDS: readonly string[] = IDENTITY_MODULES.map(({ kind }) => kind);

/** Makes the provider that one `identity.*` entry describes. The entry has passed its module's schema. */
export async function createIdentityProvider(
  config: { readonly kind: string },
  env: IdentityEnv,
): Promise<IdentityProvider> {
  const found = IDENTITY_MODULES.find((module) => module.kind === config.kind);
  if (found === undefined) throw new Error(`no identity provider of kind "${config.kind}"`);
  // The kind names the module whose schema checked this entry.
  return (found as Module<{ readonly kind: string }, IdentityProvider, IdentityEnv>).create(config, env);
}
