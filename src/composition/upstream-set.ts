/** The upstreams of one generation: pools, breakers, credentials, and the tunnels of WebSockets. */
import { resolve } from 'node:path';
import { readAuthorityFile } from '../config/authority-file.ts';
import type { Path } from '../config/problem.ts';
import type { Config, UpstreamOptions } from '../config/schema.ts';
import { GatewayError } from '../core/errors.ts';
import type { Route } from '../core/route.ts';
import type { Forwarding } from '../pipeline/stages/forward.ts';
import { createHttpUpstream } from '../upstreams/http-pool.ts';
import type { UpgradeTarget } from '../upstreams/upgrade.ts';
import { proxyUpgrade } from '../upstreams/upgrade.ts';
import type { Upstream } from '../upstreams/upstream.ts';
import type { Platform } from './assembly.ts';
import { credentialHeaders } from './routes.ts';
import { reading } from './setting-fault.ts';

/** Upstreams by the kind of route that leads to them; names are unique only within a kind. */
export interface Upstreams {
  readonly mcp: ReadonlyMap<string, Upstream>;
  readonly llm: ReadonlyMap<string, Upstream>;
  readonly http: ReadonlyMap<string, Upstream>;
}

/** WebSockets live on plain HTTP routes only; the door refuses them elsewhere. */
export function createTunnel(config: Config, platform: Platform): Forwarding['tunnel'] {
  const targets = new Map<string, UpgradeTarget>();
  for (const [at, route] of config.routes.entries()) {
    if (route.protocol !== 'http') continue;
    targets.set(route.match, {
      url: route.url,
      ca: readAuthority(['routes', at, 'ca'], route.ca, platform.baseDir),
      headersTimeoutMs: route.headers_timeout_ms,
      idleTimeoutMs: route.idle_timeout_ms,
    });
  }
  return ({ received, route, decisions }, path, headers) => {
    const upgrade = platform.upgrades.get(received);
    if (upgrade === undefined) return null;
    const target = targets.get(route.match);
    if (target === undefined) throw new GatewayError('NOT_IMPLEMENTED');
    const answerHeaders = { 'x-request-id': received.id, 'x-decision-id': decisions[0]?.decision_id ?? '' };
    const { outgoing, signal } = received;
    return proxyUpgrade(target, { path, headers, ...upgrade, outgoing, signal, answerHeaders });
  };
}

/** PEM text of the certificate authority that this setting names; null where it names none. Throws a SettingFault. */
export function readAuthority(path: Path, file: string | undefined, baseDir: string): string | null {
  return file === undefined ? null : reading(path, () => readAuthorityFile(resolve(baseDir, file)));
}

/** Throws for a route that leads nowhere: a defect of ours. */
export function upstreamOf(upstreams: Upstreams, route: Route, name: string): Upstream {
  const kind = route.protocol === 'tools' ? 'mcp' : route.protocol;
  const upstream = kind === 'api' ? undefined : upstreams[kind].get(name);
  // The configuration was checked: a missing one is a defect of ours.
  if (upstream === undefined) throw new Error(`route ${route.id} leads to no upstream`);
  return upstream;
}

/** Disposed with `cleanup`. */
export function buildUpstreams(config: Config, platform: Platform, cleanup: AsyncDisposableStack): Upstreams {
  const make = (path: Path, name: string, options: UpstreamOptions & { readonly url: string }): Upstream =>
    cleanup.use(
      createHttpUpstream({
        name,
        url: options.url,
        options,
        ca: readAuthority([...path, 'ca'], options.ca, platform.baseDir),
        onStateChange: (state) => platform.metrics.breaker(name, state),
      }),
    );
  const each = (kind: string, entries: Record<string, UpstreamOptions & { readonly url: string }>) =>
    new Map(Object.entries(entries).map(([name, options]) => [name, make([kind, name], name, options)]));
  const routes = config.routes.flatMap((route, at) => (route.protocol === 'http' ? [{ route, at }] : []));
  return {
    mcp: each('servers', config.servers),
    llm: each('models', config.models),
    http: new Map(routes.map(({ route, at }) => [route.match, make(['routes', at], route.match, route)])),
  };
}

/** The headers that carry each upstream's credential, by `protocol:name`. */
export function credentialsByRoute(config: Config): ReadonlyMap<string, Readonly<Record<string, string>>> {
  const found = new Map<string, Readonly<Record<string, string>>>();
  const add = (key: string, headers: Readonly<Record<string, string>> | null) => headers && found.set(key, headers);
  for (const [name, server] of Object.entries(config.servers)) add(`mcp:${name}`, credentialHeaders(server.credential));
  for (const [name, model] of Object.entries(config.models)) add(`llm:${name}`, credentialHeaders(model.credential));
  for (const route of config.routes) {
    if (route.protocol === 'http') add(`http:${route.match}`, credentialHeaders(route.credential));
  }
  return found;
}
