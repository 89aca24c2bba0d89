/**
 * Makes every part that the configuration names as a start does, as far as that takes neither network nor listener, and
 * throws it away: what a start would refuse is known before, all of it at once. Stores are in memory meanwhile, and nothing
 * is written. Files of the operator's own (`module`) are loaded and made, as it is the only way to know.
 */
import type { Path } from '../config/problem.ts';
import type { Config } from '../config/schema.ts';
import { readTls } from '../http/tls.ts';
import type { LocalAccounts } from '../identity/env.ts';
import { GIVEN } from '../modules.ts';
import { loadOwnShared } from '../stores/own-shared.ts';
import { knownPepper } from '../stores/pepper.ts';
import { buildAccounts } from './account-set.ts';
import { tlsFiles } from './listening.ts';
import type { OpenPlatform } from './platform.ts';
import { openPlatform } from './platform.ts';
import { bundlePath, policySource, signingRules } from './policy-sources.ts';
import { makeProvider } from './providers.ts';
import { making, SettingFault } from './setting-fault.ts';
import { openSigning } from './signing.ts';
import { readAuthority } from './upstream-set.ts';
import { writtenFiles } from './written-files.ts';

/** Every fault there is, in the order of the parts. Rejects for a defect of ours only. */
export async function rehearse(config: Config, baseDir: string): Promise<readonly SettingFault[]> {
  const faults: SettingFault[] = [];
  const attempt: Attempt = async (path, make) => {
    try {
      await making(path, make);
    } catch (error) {
      if (!(error instanceof SettingFault)) throw error;
      faults.push(error);
    }
  };
  await listeners(config, baseDir, attempt);
  for (const [path, file] of authorityFiles(config)) await attempt(path, () => readAuthority(path, file, baseDir));
  await attempt(['policy', 'bundle', 'signing'], () => signingRules(config.policy.bundle));
  const { pepper, database } = config.stores;
  for (const [path, check] of writtenFiles(config, baseDir)) await attempt(path, check);
  await attempt(['stores', 'pepper'], () => knownPepper(database, baseDir, pepper));
  const bundleIsGood = !faults.some(({ path }) => path[0] === 'policy' && path[1] === 'bundle');
  const platform = await openPlatform(inMemory(config), { baseDir, writeLog: () => undefined });
  try {
    if (bundleIsGood) await attempt(['policy', 'bundle'], () => policySource(config, platform));
    await ownStore(config, platform, attempt);
    await providers(config, platform, attempt);
  } finally {
    await platform.close();
  }
  return faults;
}

type Attempt = (path: Path, make: () => unknown) => Promise<void>;

function inMemory(config: Config): Config {
  const { pepper: _pepper, shared_ca: _ca, ...stores } = config.stores;
  const { audit } = config;
  return {
    ...config,
    stores: { ...stores, database: 'sqlite::memory:', shared: 'memory' },
    audit: { ...audit, mode: 'off' },
  };
}

async function listeners({ listen }: Config, baseDir: string, attempt: Attempt): Promise<void> {
  for (const name of ['data', 'admin', 'auth'] as const) {
    const files = tlsFiles(listen[name]?.tls, baseDir);
    if (files !== undefined) await attempt(['listen', name, 'tls'], () => readTls(files));
  }
}

/** Where the configuration says whom to trust at the other end of a connection of the gateway's own. */
function* authorityFiles({ servers, models, routes, policy, stores }: Config): Generator<[Path, string | undefined]> {
  for (const [name, { ca }] of Object.entries(servers)) yield [['servers', name, 'ca'], ca];
  for (const [name, { ca }] of Object.entries(models)) yield [['models', name, 'ca'], ca];
  for (const [at, route] of routes.entries()) if (route.protocol === 'http') yield [['routes', at, 'ca'], route.ca];
  if (bundlePath(policy.bundle) === null) yield [['policy', 'bundle', 'ca'], Reflect.get(Object(policy.bundle), 'ca')];
  yield [['policy', 'decision_log', 'service', 'ca'], policy.decision_log?.service?.ca];
  yield [['policy', 'status_reports', 'ca'], policy.status_reports?.ca];
  yield [['stores', 'shared_ca'], stores.shared_ca];
}

async function ownStore({ stores, mode }: Config, platform: OpenPlatform, attempt: Attempt): Promise<void> {
  const { shared } = stores;
  if (typeof shared === 'string') return;
  const { clock, logging, baseDir } = platform;
  const env = { name: 'shared', clock, logger: logging.component('stores'), mode, baseDir };
  await attempt(['stores', 'shared'], async () => (await loadOwnShared(shared, env))[Symbol.asyncDispose]());
}

async function providers(config: Config, platform: OpenPlatform, attempt: Attempt): Promise<void> {
  await using cleanup = new AsyncDisposableStack();
  const signing = await openSigning(config, platform);
  const accounts = await buildAccounts(config, platform, signing.accounts, cleanup);
  const local: LocalAccounts | null = accounts?.local ?? null;
  for (const [name, entry] of Object.entries(config.identity)) {
    if (entry.kind === GIVEN) continue;
    await attempt(['identity', name], async () => {
      const provider = await makeProvider(config, platform, local, name, entry);
      await provider.close?.();
    });
  }
}
