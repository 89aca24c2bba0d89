/**
 * One generation of the gateway: everything that is made from a configuration and thrown away with it. A reload
 * assembles the next one completely before the first request goes to it.
 */
import type { Socket } from 'node:net';
import { resolve } from 'node:path';
import type { ApprovalEvent } from '../approvals/approval.ts';
import type { AuditRecorder } from '../audit/event.ts';
import type { ServerFacts } from '../classification/classifier.ts';
import { createClassificationRegistry } from '../classification/registry.ts';
import type { Config } from '../config/schema.ts';
import { watchFiles } from '../config/watch.ts';
import type { Clock } from '../core/clock.ts';
import type { Judge, Received } from '../core/exchange.ts';
import type { ProtocolName, Route } from '../core/route.ts';
import type { Secret } from '../core/secret.ts';
import { regionTable } from '../http/addresses.ts';
import type { IdentityProvider } from '../identity/provider.ts';
import type { Logging } from '../observability/logger.ts';
import type { Metrics } from '../observability/metrics.ts';
import { createJudge } from '../pipeline/judge.ts';
import { createLimits } from '../pipeline/limits.ts';
import type { PipelineParts, RequestEnd } from '../pipeline/pipeline.ts';
import type { RunningExchanges } from '../pipeline/running.ts';
import type { Admission } from '../pipeline/stages/admit.ts';
import type { Authenticator } from '../pipeline/stages/authenticate.ts';
import type { FactSources } from '../pipeline/stages/classify.ts';
import { createClassify } from '../pipeline/stages/classify.ts';
import type { Performing } from '../pipeline/stages/decide.ts';
import type { Forwarding } from '../pipeline/stages/forward.ts';
import { RouteTable } from '../pipeline/stages/route.ts';
import type { Switchboard } from '../pipeline/switchboard.ts';
import type { ToolScopes } from '../pipeline/tool-scopes.ts';
import type { PolicyCompiler } from '../policy/activation.ts';
import { compile } from '../policy/compiler.ts';
import type { OpaEngine } from '../policy/opa-engine.ts';
import { createPolicyEngine } from '../policy/opa-engine.ts';
import type { Shadow } from '../policy/shadow.ts';
import { isQuestion } from '../protocols/pdp/questions-path.ts';
import { problem } from '../protocols/problem.ts';
import type { Protocol } from '../protocols/protocol.ts';
import type { ApiKeyStore } from '../stores/api-keys.ts';
import type { ApprovalStore } from '../stores/approvals.ts';
import type { KeyUsageStore } from '../stores/key-usage.ts';
import type { Counters } from '../stores/open-shared.ts';
import type { Shared } from '../stores/shared.ts';
import { type AccountStores, buildAccounts } from './account-set.ts';
import { agentEndpoints } from './agent-logins.ts';
import { buildApprovals } from './approval-set.ts';
import { buildAuthenticator, failureGuard, NOBODY } from './authenticators.ts';
import { delegating } from './delegations.ts';
import { letKeysAsk } from './key-service-set.ts';
import { oauthEndpoints, routeOAuth, routeScopes, scopeTerms } from './oauth.ts';
import { buildShadow, decisionLogOptions, reportStatus } from './policy-records.ts';
import { policyPaths, policySource } from './policy-sources.ts';
import { buildProtocols } from './protocol-set.ts';
import { buildProviders } from './providers.ts';
import { questionLimits } from './question-limits.ts';
import { buildRoutes, serverFacts } from './routes.ts';
import { openSigning } from './signing.ts';
import { toolScopes } from './tool-scope-rules.ts';
import { buildUpstreamIdentities, type UpstreamIdentities } from './upstream-identity.ts';
import type { Upstreams } from './upstream-set.ts';
import { buildUpstreams, createTunnel, credentialsByRoute, upstreamOf } from './upstream-set.ts';

/** What outlives a generation. */
export interface Platform {
  readonly baseDir: string;
  /** Of the package. */
  readonly version: string;
  readonly audit: AuditRecorder;
  readonly clock: Clock;
  readonly logging: Logging;
  readonly metrics: Metrics;
  readonly shared: Shared;
  /** The counting half of `shared`, which goes on in this process while that is away. */
  readonly counters: Counters;
  readonly keys: ApiKeyStore;
  readonly keyUsage: KeyUsageStore;
  readonly approvals: ApprovalStore;
  readonly accounts: AccountStores;
  readonly pepper: Secret;
  /** Providers that the program around the gateway brought, by name. They are its to close. */
  readonly given: ReadonlyMap<string, IdentityProvider>;
  /** The sockets of requests that want to become WebSockets. */
  readonly upgrades: WeakMap<Received, { readonly socket: Socket; readonly head: Buffer }>;
  readonly switches: Switchboard;
  readonly running: RunningExchanges;
  onEnd(end: RequestEnd): void;
  onApproval(event: ApprovalEvent): void;
}

export interface Generation extends AsyncDisposable {
  readonly config: Config;
  readonly parts: PipelineParts;
  readonly protocols: Readonly<Record<ProtocolName, Protocol>>;
  readonly engine: OpaEngine;
  /** The candidate policy that is tried out, if there is one. */
  readonly shadow: Shadow | null;
  readonly upstreams: Upstreams;
  readonly providers: ReadonlyMap<string, IdentityProvider>;
}

export async function assemble(config: Config, platform: Platform): Promise<Generation> {
  await using cleanup = new AsyncDisposableStack();
  const servers = new Map(Object.entries(config.servers).map(([name, server]) => [name, serverFacts(name, server)]));
  const upstreams = buildUpstreams(config, platform, cleanup);
  const shadow = buildShadow(config, platform, cleanup);
  const engine = await buildEngine(config, platform, servers, shadow);
  cleanup.defer(() => engine.close());
  followPolicy(config, platform, engine, cleanup);
  const classify = createClassify(await buildRegistry(config, platform, servers), servers);
  const facts: FactSources = {
    regionOf: regionTable(config.regions),
    upstreamEncrypted: (server) => server === null || (upstreams.mcp.get(server)?.encrypted ?? true),
  };
  const routes = buildRoutes(config);
  const terms = scopeTerms(config, routes);
  const scopes = toolScopes(config, terms);
  const judge: Judge = createJudge(classify, facts, engine, platform.switches, scopes);
  const admission = buildAdmission(config, platform, routeScopes(terms));
  const signing = await openSigning(config, platform);
  const identities = await buildUpstreamIdentities(config, platform, signing, cleanup);
  const accounts = await buildAccounts(config, platform, signing.accounts, cleanup);
  const providers = await buildProviders(config, platform, accounts?.local ?? null, cleanup);
  const agents = await agentEndpoints(config, platform, accounts, { ring: signing.accounts, providers }, cleanup);
  const plain = buildAuthenticators(config, platform, routes, providers);
  letKeysAsk(platform, plain);
  const { authenticators, endpoints } = delegating(config, platform, plain, cleanup);
  const approvals = buildApprovals(config, platform, cleanup);
  const protocols = buildProtocols({
    ...{ config, platform, servers, upstreams, identities, judge, classify, admission, approvals, accounts },
    endpoints: [...endpoints, ...oauthEndpoints(config, routes, providers, accounts), ...signing.endpoints, ...agents],
  });
  const parts: PipelineParts = {
    routes: new RouteTable(routes, (route, path) => protocols[route.protocol].serves?.(path) ?? true),
    authenticator: (route) => authenticators.get(route) ?? NOBODY,
    admission,
    protocol: (name) => protocols[name],
    fallback: (error, context) => problem(error, context, null),
    classify,
    facts,
    engine,
    performing: performingBy(protocols, platform, scopes),
    forwarding: forwardingTo(config, platform, { upstreams, identities, protocols }),
    running: platform.running,
    approvals,
    onEnd: (end) => platform.onEnd(end),
  };
  const kept = cleanup.move();
  return {
    config,
    parts,
    protocols,
    engine,
    shadow,
    upstreams,
    providers,
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

function buildAuthenticators(
  config: Config,
  platform: Platform,
  routes: readonly Route[],
  providers: ReadonlyMap<string, IdentityProvider>,
): Map<Route, Authenticator> {
  const guard = failureGuard(config, platform);
  const oauth = routeOAuth(config, routes, providers);
  return new Map(
    routes.map((route) => [route, guard(buildAuthenticator(route, providers, platform, oauth.get(route.match)))]),
  );
}

function forwardingTo(
  config: Config,
  platform: Platform,
  {
    upstreams,
    identities,
    protocols,
  }: Pick<Generation, 'upstreams' | 'protocols'> & { identities: UpstreamIdentities },
): Forwarding {
  const credentials = credentialsByRoute(config);
  return {
    upstream: ({ route }, plan) => upstreamOf(upstreams, route, plan.upstream),
    credential: ({ route }, plan) => credentials.get(`${route.protocol}:${plan.upstream}`) ?? null,
    ...(identities.tokens.size > 0 ? { identity: signedIdentity(identities) } : null),
    streamError: (permitted, error) =>
      protocols[permitted.route.protocol].encodeStreamError?.(error, {
        requestId: permitted.received.id,
        decisionId: permitted.decisions[0]?.decision_id ?? null,
        rpcId: permitted.message.rpcId,
      }) ?? null,
    tunnel: createTunnel(config, platform),
  };
}

function signedIdentity({ tokens, headers }: UpstreamIdentities): NonNullable<Forwarding['identity']> {
  return {
    names: headers,
    headers: ({ route, principal, received }, plan) =>
      tokens.get(`${route.protocol}:${plan.upstream}`)?.headers(principal, received.id) ?? null,
  };
}

function buildAdmission(
  { rate_limit, decision_api }: Config,
  { counters, switches }: Platform,
  refusalOf: NonNullable<Admission['refusalOf']>,
): Admission {
  const named = rate_limit.limits.map(({ limit, window_seconds, ...rule }) => ({
    ...rule,
    bucket: { limit, windowMs: window_seconds * 1000 },
  }));
  const limits = createLimits([...named, ...questionLimits(decision_api.limits)], counters);
  return { shared: counters, windowMs: rate_limit.window_ms, switches, limits, refusalOf, isUncounted: isQuestion };
}

function performingBy(
  protocols: Readonly<Record<ProtocolName, Protocol>>,
  { counters: shared, metrics, switches }: Platform,
  scopes: ToolScopes | null,
): PipelineParts['performing'] {
  const of = (protocol: Protocol): Performing => ({
    protocol,
    shared,
    switches,
    toolScopes: scopes,
    onFailure: metrics.decisionFailed,
  });
  const { mcp, llm, http, tools, api } = protocols;
  return { mcp: of(mcp), llm: of(llm), http: of(http), tools: of(tools), api: of(api) };
}

/** The compiler as the engine asks it: faults of the sources are problems, a missing compiler is an error. */
const compilePolicy: PolicyCompiler = async (dir, { out }) => {
  const result = await compile(dir, { out });
  if (result.kind === 'no-compiler') throw new Error(result.message);
  return result.kind === 'rejected' ? { problems: result.problems } : {};
};

async function buildEngine(
  config: Config,
  platform: Platform,
  servers: ReadonlyMap<string, ServerFacts>,
  observer: Shadow | null,
): Promise<OpaEngine> {
  const { policy } = config;
  return createPolicyEngine({
    ...(await policySource(config, platform)),
    dataFile: policy.data === undefined ? null : resolve(platform.baseDir, policy.data),
    entrypoint: policy.entrypoint,
    clock: platform.clock,
    cache: policy.cache,
    servers,
    decisionLog: decisionLogOptions(config, platform),
    observer,
    compile: compilePolicy,
    logger: platform.logging.component('policy'),
    onDecision: platform.metrics.decision,
  });
}

/**
 * Who wants to know is told how the policy does. A changed policy file takes effect by itself; a bad one is logged with its
 * place and changes nothing.
 */
function followPolicy(config: Config, platform: Platform, engine: OpaEngine, cleanup: AsyncDisposableStack): void {
  reportStatus(config, platform, engine, cleanup);
  if (!config.policy.watch) return;
  const logger = platform.logging.component('policy');
  const reload = async () => {
    const status = await engine.reload('change');
    platform.metrics.reload('policy', status.last_error === null);
  };
  const watcher = watchFiles(policyPaths(config, platform.baseDir), () => void reload(), {
    onError: (error) => logger.error({ err: error }, 'policy_watch_failed'),
  });
  cleanup.defer(() => watcher.close());
}

async function buildRegistry(config: Config, platform: Platform, servers: ReadonlyMap<string, ServerFacts>) {
  const registry = createClassificationRegistry({
    sensitiveResources: config.classification.sensitive_resources,
    rules: config.classification.rules,
    logger: platform.logging.component('classification'),
    onUnknown: platform.metrics.unknownServerType,
  });
  const dialects = [...servers.values()].flatMap(({ dialect }) => (dialect === null ? [] : [dialect]));
  await registry.prepare([...new Set(dialects)]);
  return registry;
}
