/** What the administration listener is made of: views of the running generation and the few things it may change. */
import type { AdminParts } from '../admin/app.ts';
import type { KeyAdmin } from '../admin/keys.ts';
import type { SwitchAdmin } from '../admin/switches.ts';
import { redactConfig } from '../config/print.ts';
import { GatewayError } from '../core/errors.ts';
import type { Reply } from '../core/exchange.ts';
import type { Readiness } from '../http/app.ts';
import { createHealthApp } from '../http/app.ts';
import type { IssuedKey, KeyIssuing } from '../identity/key-issuing.ts';
import { addressList, issueKey, revokeKey, rotateKey } from '../identity/key-issuing.ts';
import { forgetRemoteKey } from '../identity/remote-key-cache.ts';
import { problem } from '../protocols/problem.ts';
import type { ApiKeyRecord } from '../stores/api-keys.ts';
import { EVERY_TENANT } from '../stores/api-keys.ts';
import type { Upstream, UpstreamHealth } from '../upstreams/upstream.ts';
import type { Generation } from './assembly.ts';
import type { OpenPlatform } from './platform.ts';
import { reportAdminAction } from './platform.ts';
import { explainAdmin } from './policy-explain.ts';
import { measurePolicy, policyStatus } from './policy-status.ts';
import { switchWarnings } from './switch-warnings.ts';
import type { Upstreams } from './upstream-set.ts';

export interface AdministrationSources {
  readonly platform: OpenPlatform;
  generation(): Generation;
  readiness(): Readiness;
  issuing(): KeyIssuing;
  readonly reloadConfig: AdminParts['reloadConfig'];
}

/** Errors outside any route. */
export function renderError(error: GatewayError, requestId: string): Reply {
  return problem(error, { requestId, decisionId: null, rpcId: undefined }, null);
}

export function administrationParts(sources: AdministrationSources): AdminParts {
  const { platform, generation } = sources;
  const logger = platform.logging.component('admin');
  const onDefect = (error: unknown, request_id: string) =>
    logger.error({ err: error, request_id }, 'admin_request_failed');
  const health = createHealthApp({ readiness: () => sources.readiness(), renderError, onDefect });
  return {
    // A rotated token takes effect with the next reload.
    get token() {
      return generation().config.listen.admin.token ?? null;
    },
    health: (request, env) => health.fetch(request, env),
    metrics: { contentType: platform.metrics.contentType, text: () => metricsText(sources) },
    details: () => details(sources),
    cache: {
      invalidate: (what) => generation().engine.invalidate(what),
      size: () => generation().engine.stats().cached,
      forgetKey: (id) => forgetRemoteKey(platform.shared, id, platform.clock.now()),
    },
    policy: {
      rollback: () => generation().engine.rollback(),
      status: () => policyStatus(generation().engine.status(), generation(), platform),
      shadow: () => generation().shadow?.status() ?? null,
      async reload() {
        const status = await generation().engine.reload();
        platform.metrics.reload('policy', status.last_error === null);
        return status;
      },
    },
    upstreams: {
      states: () => upstreamStates(generation().upstreams),
      reset(name) {
        const upstream = namedUpstreams(generation().upstreams).get(name);
        upstream?.reset();
        return upstream !== undefined;
      },
    },
    config: () => redactConfig(generation().config),
    reloadConfig: sources.reloadConfig,
    version: { version: platform.version, node: process.version },
    keys: keyAdmin(sources),
    switches: switchAdmin(sources),
    explain: explainAdmin(generation, platform),
    onAction: (action) => reportAdminAction(platform, action),
    renderError,
    onDefect,
  };
}

/** The exposition text; what only the pools know is read when somebody looks. */
async function metricsText({ platform, generation }: AdministrationSources): Promise<string> {
  for (const [name, upstream] of namedUpstreams(generation().upstreams)) {
    const { active, idle, waiting } = upstream.health();
    platform.metrics.connections(name, active, idle, waiting);
  }
  measurePolicy(generation(), platform);
  // With the database away the other figures matter most.
  const pending = await platform.approvals.countPending(EVERY_TENANT, platform.clock.now()).catch(() => null);
  if (pending !== null) platform.metrics.approvalsPending(pending);
  return platform.metrics.text();
}

/** Every upstream under the name operators use: `server/orders`, `model/local`, `http/api/tasks`. */
function namedUpstreams(upstreams: Upstreams): ReadonlyMap<string, Upstream> {
  const named = (kind: string, of: ReadonlyMap<string, Upstream>) =>
    [...of].map(([name, upstream]): [string, Upstream] => [`${kind}:${name}`, upstream]);
  return new Map([
    ...named('server', upstreams.mcp),
    ...named('model', upstreams.llm),
    ...named('http', upstreams.http),
  ]);
}

function upstreamStates(upstreams: Upstreams): Record<string, UpstreamHealth> {
  return Object.fromEntries([...namedUpstreams(upstreams)].map(([name, upstream]) => [name, upstream.health()]));
}

async function details({ platform, generation, readiness }: AdministrationSources): Promise<Record<string, unknown>> {
  const { engine, upstreams, providers } = generation();
  const identity: Record<string, unknown> = {};
  for (const [name, provider] of providers) identity[name] = (await provider.health?.()) ?? { state: 'ok' };
  return {
    ...readiness(),
    version: platform.version,
    policy: policyStatus(engine.status(), generation(), platform),
    identity,
    upstreams: upstreamStates(upstreams),
    audit: platform.audit.status(),
  };
}

function switchAdmin({ platform, generation }: AdministrationSources): SwitchAdmin {
  const { switching, clock, keys } = platform;
  return {
    list: () => switching.list(),
    off: (target, by) => switching.off(target, by),
    on: (id) => switching.on(id),
    warnings: (target) => switchWarnings(target, generation().config, async (id) => (await keys.find(id)) !== null),
    now: () => clock.now(),
  };
}

const withoutHash = ({ hash: _hash, ...record }: ApiKeyRecord) => record;
const shown = ({ record, key }: IssuedKey) => ({ api_key: key.reveal(), key_id: record.id, ...withoutHash(record) });

/** @throws GatewayError UNPROCESSABLE that names the bad entry */
function checkAddresses(ranges: readonly string[]): void {
  try {
    addressList(ranges);
  } catch (error) {
    throw new GatewayError('UNPROCESSABLE', { details: { problems: [`allowed_ips: ${(error as Error).message}`] } });
  }
}

function keyAdmin({ platform, issuing }: AdministrationSources): KeyAdmin {
  return {
    async create({ owner_id, expires_at, ...wanted }) {
      checkAddresses(wanted.allowed_ips);
      const owner = owner_id === undefined ? {} : { owner_id };
      const expires = expires_at === null ? null : Date.parse(expires_at);
      return shown(await issueKey(issuing(), { ...wanted, ...owner, expires_at: expires }));
    },
    async list({ tenant, after, limit }) {
      const page = { limit, ...(after === null ? {} : { after }) };
      return (await platform.keys.list(tenant ?? EVERY_TENANT, page)).map(withoutHash);
    },
    async revoke(id) {
      const record = await platform.keys.find(id);
      return record !== null && revokeKey(issuing(), record.tenant_id, id);
    },
    async rotate(id, graceMs) {
      const record = await platform.keys.find(id);
      const next = record === null ? null : await rotateKey(issuing(), record.tenant_id, id, graceMs);
      return next === null ? null : shown(next);
    },
  };
}
