/** From `policy.bundle` to the place policies come from. */
import { join, resolve } from 'node:path';
import type { Config } from '../config/schema.ts';
import { openBundleService } from '../policy/bundle-service.ts';
import type { SigningRules } from '../policy/bundle-signing.ts';
import { BundleStore } from '../policy/bundle-store.ts';
import { keyProblem } from '../policy/jws.ts';
import type { PolicyEngineOptions } from '../policy/opa-engine.ts';
import type { Platform } from './assembly.ts';
import { bindableRoutes, credentialHeaders } from './routes.ts';
import { making } from './setting-fault.ts';
import { readAuthority } from './upstream-set.ts';

type Bundle = Config['policy']['bundle'];

/** The directory or file of the bundle; null when it comes from a service. */
export function bundlePath(bundle: Bundle): string | null {
  if (typeof bundle === 'string') return bundle;
  return 'file' in bundle ? bundle.file : null;
}

/** What is watched for changes, absolute. */
export function policyPaths({ policy }: Config, baseDir: string): readonly string[] {
  const paths = [bundlePath(policy.bundle), policy.data ?? null];
  return paths.filter((path) => path !== null).map((path) => resolve(baseDir, path));
}

/** Throws Error when a configured key cannot be used. */
export function signingRules(bundle: Bundle): SigningRules | null {
  if (typeof bundle === 'string' || bundle.signing === undefined) return null;
  for (const [id, { algorithm, key }] of Object.entries(bundle.signing.keys)) {
    const problem = keyProblem(algorithm, key.reveal(), 'verify');
    if (problem !== null) throw new Error(`policy.bundle.signing.keys.${id}: ${problem}`);
  }
  return bundle.signing;
}

type SourceOptions = Pick<
  PolicyEngineOptions,
  'bundleDir' | 'source' | 'signing' | 'required' | 'routes' | 'maxAgeMs' | 'onDelivery'
>;

/** Rejects when a key or certificate authority cannot be used. */
export async function policySource(config: Config, platform: Platform): Promise<SourceOptions> {
  const { bundle, max_age_seconds } = config.policy;
  const path = bundlePath(bundle);
  const required = config.routes.flatMap(({ entrypoint }) => (entrypoint === undefined ? [] : [entrypoint]));
  const signing = signingRules(bundle);
  const common = { required: [...new Set(required)], routes: bindableRoutes(config), signing };
  if (typeof bundle === 'string' || 'file' in bundle) {
    return { ...common, bundleDir: resolve(platform.baseDir, path ?? ''), source: null };
  }
  const { url, resource, credential, ca, polling, persist, require_newer, max_bytes, max_unpacked_bytes } = bundle;
  const options = {
    url: resource === undefined ? url : `${url.replace(/\/+$/, '')}/${resource.replace(/^\/+/, '')}`,
    headers: { ...credentialHeaders(credential) },
    ca: readAuthority(['policy', 'bundle', 'ca'], ca, platform.baseDir),
    signing,
    minMs: polling.min_seconds * 1000,
    maxMs: polling.max_seconds * 1000,
    longPollSeconds: polling.long_poll_seconds ?? null,
    maxBytes: max_bytes,
    maxUnpackedBytes: max_unpacked_bytes ?? max_bytes * 4,
    store: persist === undefined ? null : new BundleStore(join(resolve(platform.baseDir, persist))),
    requireNewer: require_newer,
    now: () => platform.clock.now(),
    logger: platform.logging.component('policy'),
  };
  const source = await making(['policy', 'bundle'], () => openBundleService(options));
  return {
    ...common,
    bundleDir: '',
    source,
    maxAgeMs: max_age_seconds === undefined ? null : max_age_seconds * 1000,
    onDelivery: (ok) => platform.metrics.reload('policy', ok),
  };
}
