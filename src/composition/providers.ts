/** The identity providers of one generation. */
import { resolve } from 'node:path';
import type { Config } from '../config/schema.ts';
import type { LocalAccounts } from '../identity/env.ts';
import type { IdentityProvider } from '../identity/provider.ts';
import { createIdentityProvider, GIVEN } from '../modules.ts';
import type { Platform } from './assembly.ts';
import { making, SettingFault } from './setting-fault.ts';

type Entry = Config['identity'][string];

/** Those of the configuration and those that the program brought, by name. Rejects with a SettingFault for the first that cannot be made. */
export async function buildProviders(
  config: Config,
  platform: Platform,
  accounts: LocalAccounts | null,
  cleanup: AsyncDisposableStack,
): Promise<ReadonlyMap<string, IdentityProvider>> {
  const providers = new Map<string, IdentityProvider>();
  for (const [name, entry] of Object.entries(config.identity)) {
    const given = entry.kind === GIVEN ? platform.given.get(name) : undefined;
    const provider = given ?? (await makeProvider(config, platform, accounts, name, entry));
    if (given === undefined) cleanup.defer(() => provider.close?.());
    providers.set(name, provider);
  }
  return providers;
}

/** One provider, as one entry of `identity` describes it. Rejects with a SettingFault. */
export async function makeProvider(
  config: Config,
  platform: Platform,
  accounts: LocalAccounts | null,
  name: string,
  entry: Entry,
): Promise<IdentityProvider> {
  const { clock, logging, baseDir, keys, shared, pepper } = platform;
  const env = {
    ...{ name, clock, logger: logging.component('identity'), mode: config.mode, baseDir, keys, shared, pepper },
    ...{ environment: config.environment, publicUrl: config.public_url ?? null, accounts },
  };
  try {
    return await making(['identity', name], () => createIdentityProvider(entry, env));
  } catch (error) {
    throw error instanceof SettingFault ? inOption(entry, baseDir, error) : error;
  }
}

/** Providers name the file that is at fault; the operator also wants to know which option names it. */
function inOption(entry: Entry, baseDir: string, fault: SettingFault): SettingFault {
  if (fault.path.length > 2) return fault;
  const names = (value: unknown) =>
    typeof value === 'string' && fault.reason.startsWith(`${resolve(baseDir, value)}: `);
  const option = Object.entries(entry).find(([, value]) => [value].flat().some(names));
  return option === undefined ? fault : new SettingFault([...fault.path, option[0]], fault.reason, fault.cause);
}
