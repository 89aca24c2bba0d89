/**
 * Every figure the gateway shows at `/metrics`, in one registry of its own. Labels are names from the configuration or
 * closed lists, never anything a caller sends. Hot paths keep the children (`RouteMeter`), because finding a child by
 * its labels costs more than counting. The one user of prom-client. Source: acceptance D-62, V-34, S-98; performance 3.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { DecisionFailure } from '../core/decision.ts';

export type Outcome = 'allowed' | 'denied' | 'failed';
export type BreakerState = 'closed' | 'half_open' | 'open';
export type LimitKind = 'principal' | 'ip' | 'key' | 'tenant';

/** What an authentication attempt came to; `error`: the provider itself failed. */
export type AuthOutcome = 'authenticated' | 'rejected' | 'not_applicable' | 'error';

interface Child {
  inc(value?: number): void;
}
interface Observed {
  observe(value: number): void;
}

const REQUEST_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120];
const POLICY_SECONDS = [
  0.000_002, 0.000_005, 0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025, 0.1,
];
const STORE_SECONDS = [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 5];
const STATUS_CLASS = [undefined, '1xx', '2xx', '3xx', '4xx', '5xx'] as const;
const BREAKER_VALUE: Record<BreakerState, number> = { closed: 0, half_open: 1, open: 2 };

/**
 * Counts of the hot path: added up as plain numbers and handed to the library when somebody looks, for its own counting
 * costs a third of a microsecond and three objects each time.
 */
class Tally implements Child {
  readonly #child: Child;
  #pending = 0;

  constructor(child: Child) {
    this.#child = child;
  }

  inc(value = 1): void {
    this.#pending += value;
  }

  handOver(): void {
    if (this.#pending !== 0) this.#child.inc(this.#pending);
    this.#pending = 0;
  }
}

/** All of them, to be handed over together. */
class Tallies {
  readonly #all: Tally[] = [];

  readonly of = (child: Child): Child => {
    const tally = new Tally(child);
    this.#all.push(tally);
    return tally;
  };

  handOver(): void {
    for (const tally of this.#all) tally.handOver();
  }
}

/** The kept children of one route. Made once per route of a configuration. */
export class RouteMeter {
  readonly #tallies: Tallies;
  readonly #requests: Counter<'route' | 'protocol' | 'outcome' | 'flag'>;
  readonly #labels: { readonly route: string; readonly protocol: string };
  readonly #children: Record<Outcome, Map<string, Child>> = {
    allowed: new Map(),
    denied: new Map(),
    failed: new Map(),
  };
  readonly #duration: Observed;

  constructor(
    tallies: Tallies,
    requests: Counter<'route' | 'protocol' | 'outcome' | 'flag'>,
    duration: Histogram<'route'>,
    labels: { readonly route: string; readonly protocol: string },
  ) {
    this.#tallies = tallies;
    this.#requests = requests;
    this.#labels = labels;
    this.#duration = duration.labels({ route: labels.route });
  }

  /** Counts one finished request. `flag` comes from the error catalogue (or `OK`), so the number of children is bounded. */
  observe(outcome: Outcome, flag: string, seconds: number): void {
    let child = this.#children[outcome].get(flag);
    if (child === undefined) {
      child = this.#tallies.of(this.#requests.labels({ ...this.#labels, outcome, flag }));
      this.#children[outcome].set(flag, child);
    }
    child.inc();
    this.#duration.observe(seconds);
  }
}

/** Children by one label, made when first seen: the label must come from a bounded list. */
class ByName<T> {
  readonly #make: (name: string) => T;
  readonly #made = new Map<string, T>();

  constructor(make: (name: string) => T) {
    this.#make = make;
  }

  get(name: string): T {
    let child = this.#made.get(name);
    if (child === undefined) {
      child = this.#make(name);
      this.#made.set(name, child);
    }
    return child;
  }
}

export interface BuildInfo {
  readonly version: string;
  readonly node: string;
}

/** Makes metrics with the product's prefix in one registry. */
function factory(registers: Registry[]) {
  return {
    counter: <L extends string>(name: string, help: string, labels: readonly L[] = []) =>
      new Counter<L>({ name: `portcullis_${name}`, help, labelNames: [...labels], registers }),
    gauge: <L extends string>(name: string, help: string, labels: readonly L[] = []) =>
      new Gauge<L>({ name: `portcullis_${name}`, help, labelNames: [...labels], registers }),
    histogram: <L extends string>(name: string, help: string, buckets: number[], labels: readonly L[] = []) =>
      new Histogram<L>({ name: `portcullis_${name}`, help, buckets, labelNames: [...labels], registers }),
  };
}
type Factory = ReturnType<typeof factory>;

/** Children under two labels, kept by both. */
function pairs<T>(make: (first: string, second: string) => T): (first: string, second: string) => T {
  const outer = new ByName((first) => new ByName((second) => make(first, second)));
  return (first, second) => outer.get(first).get(second);
}

function requestMetrics(make: Factory, tallies: Tallies) {
  const requests = make.counter('requests_total', 'Finished requests', ['route', 'protocol', 'outcome', 'flag']);
  const duration = make.histogram('request_duration_seconds', 'Arrival to last byte', REQUEST_SECONDS, ['route']);
  const inFlight = tallies.of(make.gauge('requests_in_flight', 'Requests being worked on'));
  const refused = make.counter('requests_refused_total', 'Requests refused before a route was known', ['flag']);
  const rateLimited = make.counter('rate_limited_total', 'Requests over a limit', ['kind']);
  const connections = make.counter('connections_refused_total', 'Connections over a limit', ['reason']);
  const suspicious = make.counter('suspicious_activity_total', 'Suspicious patterns noticed', ['type']);
  const meters = pairs((route, protocol) => new RouteMeter(tallies, requests, duration, { route, protocol }));
  const refusals = new ByName((flag) => tallies.of(refused.labels(flag)));
  return {
    /** Kept children of a route; the same object each time. */
    route: (route: string, protocol: string): RouteMeter => meters(route, protocol),
    /** A request that ended before a route was found. */
    refused: (flag: string): void => refusals.get(flag).inc(),
    started: (): void => inFlight.inc(),
    finished: (): void => inFlight.inc(-1),
    rateLimited: (kind: LimitKind): void => rateLimited.inc({ kind }),
    /** A connection that was not taken: too many in all, or from one address. */
    connectionRefused: (reason: 'total' | 'address'): void => connections.inc({ reason }),
    suspicious: (type: string): void => suspicious.inc({ type }),
  };
}

function decisionMetrics(make: Factory, tallies: Tallies) {
  const decisions = make.counter('decisions_total', 'Policy decisions', ['outcome', 'cached']);
  const evaluation = make.histogram('policy_evaluation_seconds', 'Uncached policy evaluations', POLICY_SECONDS);
  const failures = make.counter('decision_failures_total', 'Decisions that do not exist, each a deny', ['kind']);
  const results = make.counter('auth_results_total', 'Authentication attempts', ['provider', 'result']);
  const seconds = make.histogram('auth_duration_seconds', 'Time an identity provider took', STORE_SECONDS, [
    'provider',
  ]);
  const unknown = make.counter('unknown_server_types_total', 'Calls to servers of a type nobody classifies', ['type']);
  const count = (outcome: 'allow' | 'deny', cached: 'true' | 'false') => tallies.of(decisions.labels(outcome, cached));
  const allowed = [count('allow', 'false'), count('allow', 'true')] as const;
  const denied = [count('deny', 'false'), count('deny', 'true')] as const;
  const auth = pairs((provider, result) => tallies.of(results.labels(provider, result)));
  const authTimes = new ByName<Observed>((provider) => seconds.labels(provider));
  return {
    /** One decision; `evalUs` (microseconds) does not count for a cache hit. */
    decision(allow: boolean, cached: boolean, evalUs: number, failure: DecisionFailure | null): void {
      (allow ? allowed : denied)[cached ? 1 : 0].inc();
      if (!cached) evaluation.observe(evalUs / 1e6);
      if (failure !== null) failures.inc({ kind: failure });
    },
    /** `type` as it stands in the configuration. */
    unknownServerType: (type: string): void => unknown.inc({ type }),
    /** A decision that became a deny after it was made: what it demands cannot be done. */
    decisionFailed: (failure: DecisionFailure): void => failures.inc({ kind: failure }),
    auth: (provider: string, result: AuthOutcome): void => auth(provider, result).inc(),
    authDuration: (provider: string, time: number): void => authTimes.get(provider).observe(time),
  };
}

function upstreamMetrics(make: Factory, tallies: Tallies) {
  const answers = make.counter('upstream_requests_total', 'Upstream answers', ['upstream', 'status_class']);
  const breakers = make.gauge('upstream_breaker_state', '0 closed, 1 half open, 2 open', ['upstream']);
  const connections = make.gauge('upstream_connections', 'Pooled connections', ['upstream', 'state']);
  const children = pairs((upstream, status) => tallies.of(answers.labels(upstream, status)));
  return {
    /** `status` 0: no answer at all. */
    upstream(name: string, status: number): void {
      children(name, STATUS_CLASS[Math.floor(status / 100)] ?? 'none').inc();
    },
    breaker: (upstream: string, state: BreakerState): void => breakers.set({ upstream }, BREAKER_VALUE[state]),
    connections(upstream: string, active: number, idle: number, waiting: number): void {
      connections.set({ upstream, state: 'active' }, active);
      connections.set({ upstream, state: 'idle' }, idle);
      connections.set({ upstream, state: 'waiting' }, waiting);
    },
  };
}

function recordMetrics(make: Factory, tallies: Tallies, registers: Registry[]) {
  const events = make.counter('audit_events_total', 'Audit events accepted', ['type']);
  const dropped = make.counter('audit_dropped_total', 'Audit events lost to overflow');
  const failures = make.counter('audit_write_failures_total', 'Writes the audit sink refused');
  const seconds = make.histogram('store_operation_seconds', 'Store operations', STORE_SECONDS, ['store', 'operation']);
  const errors = make.counter('store_errors_total', 'Store operations that failed', ['store']);
  const reloads = make.counter('reloads_total', 'Reloads of configuration, policy and certificates', [
    'what',
    'result',
  ]);
  // Known by this name to the systems that alert on it: it must stay 0.
  const violations = new Counter({
    name: 'tenant_isolation_violations_total',
    help: 'Rows of a foreign tenant that a store handed out and the gateway held back',
    registers,
  });
  const types = new ByName((type) => tallies.of(events.labels(type)));
  const times = pairs<Observed>((store, operation) => seconds.labels(store, operation));
  return {
    auditEvent: (type: string): void => types.get(type).inc(),
    auditDropped: (count: number): void => dropped.inc(count),
    auditWriteFailed: (): void => failures.inc(),
    store: (store: string, operation: string, time: number): void => times(store, operation).observe(time),
    storeError: (store: string): void => errors.inc({ store }),
    reload: (what: 'config' | 'policy' | 'tls', ok: boolean): void =>
      reloads.inc({ what, result: ok ? 'ok' : 'failed' }),
    tenantViolation: (): void => violations.inc(),
  };
}

function switchMetrics(make: Factory) {
  const off = make.gauge('switched_off', 'What operators have switched off', ['kind']);
  const stale = make.gauge('switches_stale', '1 while the database with the switches cannot be read');
  const cut = make.counter('exchanges_cut_total', 'Running exchanges ended because permission was withdrawn', ['code']);
  return {
    /** `kind` of a switch. */
    switchedOff: (kind: string, count: number): void => off.set({ kind }, count),
    switchesStale: (isStale: boolean): void => stale.set(isStale ? 1 : 0),
    /** `code` of the error catalogue. */
    exchangeCut: (code: string): void => cut.inc({ code }),
  };
}

/** What becomes of the records of decisions, of routes that only report, and of a candidate policy. */
function policyMetrics(make: Factory) {
  const dropped = make.counter('decision_log_dropped_total', 'Decision log events that are in no log', ['reason']);
  const faults = make.counter('decision_log_rule_failures_total', 'Mask or drop rules without an answer', ['kind']);
  const uploads = make.counter('decision_log_uploads_total', 'Uploads of the decision log', ['result']);
  const uploaded = make.counter('decision_log_uploaded_total', 'Decision log events a service took');
  const waiting = make.gauge('decision_log_waiting', 'Decision log events in memory');
  const wouldDeny = make.counter('would_deny_total', 'Calls a report-only route let through', ['route', 'code']);
  const shadow = make.counter('shadow_decisions_total', 'Decisions a candidate policy was asked about', ['result']);
  const codes = make.counter('shadow_violations_total', 'Violations only one of two policies sees', ['code', 'change']);
  const lost = make.counter('shadow_dropped_total', 'Decisions a candidate policy was not asked about', ['reason']);
  const host = make.gauge('policy_host', 'Instances of the policy in force, by what became of them', ['what']);
  const age = make.gauge('policy_age_seconds', 'Since the policy in force was activated');
  const latency = make.gauge('policy_p99_seconds', '99 of 100 uncached evaluations are faster', ['entrypoint']);
  return {
    logDropped: (reason: string, count: number): void => dropped.inc({ reason }, count),
    logRuleFailed: (kind: string): void => faults.inc({ kind }),
    logUploaded(ok: boolean, events: number): void {
      uploads.inc({ result: ok ? 'ok' : 'failed' });
      if (ok) uploaded.inc(events);
    },
    logWaiting: (count: number): void => waiting.set(count),
    /** `code` from the catalogue of errors. */
    wouldDeny: (route: string, code: string): void => wouldDeny.inc({ route, code }),
    shadow: (result: string, count: number): void => shadow.inc({ result }, count),
    /** `change`: `added` by the candidate, or `removed`. */
    shadowViolation: (code: string, change: 'added' | 'removed', count: number): void =>
      codes.inc({ code, change }, count),
    shadowDropped: (reason: string, count: number): void => lost.inc({ reason }, count),
    /** Read when somebody looks. */
    policyHost(figures: Readonly<Record<string, number>>, ageSeconds: number | null): void {
      for (const [what, value] of Object.entries(figures)) host.set({ what }, value);
      if (ageSeconds !== null) age.set(ageSeconds);
    },
    policyLatency: (entrypoint: string, p99Seconds: number): void => latency.set({ entrypoint }, p99Seconds),
  };
}

function approvalMetrics(make: Factory) {
  const steps = make.counter('approvals_total', 'Steps in the life of requests for approval', ['step']);
  const pending = make.gauge('approvals_pending', 'Requests for approval that wait for a decision');
  const hooks = make.counter('approval_webhooks_total', 'Webhook deliveries about approvals', ['outcome']);
  for (const step of ['requested', 'approved', 'rejected', 'expired', 'used']) steps.inc({ step }, 0);
  return {
    approvalStep: (step: string): void => steps.inc({ step }),
    approvalsPending: (count: number): void => pending.set(count),
    approvalWebhook: (outcome: 'delivered' | 'failed' | 'dropped'): void => hooks.inc({ outcome }),
  };
}

function accountMetrics(make: Factory) {
  const events = make.counter('account_events_total', 'What happened to accounts, sessions and their keys', ['event']);
  const refreshes = make.counter('token_refreshes_total', 'Refresh tokens shown', ['outcome']);
  const lookups = make.counter('shared_lookups_total', 'Looks into the shared store for withdrawn tokens', ['result']);
  const kinds = ['user_registered', 'login_succeeded', 'login_failed', 'password_changed', 'api_key_created'];
  const factors = ['mfa_enrolled', 'mfa_removed', 'mfa_verified', 'mfa_failed', 'mfa_codes_renewed'];
  for (const event of [...kinds, 'api_key_revoked', 'permission_denied', 'token_revoked', ...factors])
    events.inc({ event }, 0);
  for (const outcome of ['ok', 'refused', 'reused']) refreshes.inc({ outcome }, 0);
  return {
    accountEvent: (event: string): void => events.inc({ event }),
    /** `hit`: it was withdrawn. */
    sharedLookup: (result: 'hit' | 'miss'): void => lookups.inc({ result }),
    tokenRefresh: (outcome: 'ok' | 'refused' | 'reused'): void => refreshes.inc({ outcome }),
  };
}

/** Creates the registry with all metrics at zero. `defaults: false` leaves the process's own figures out (tests). */
export function createMetrics(build: BuildInfo, options: { readonly defaults?: boolean } = {}) {
  const registry = new Registry();
  if (options.defaults !== false) collectDefaultMetrics({ register: registry });
  const make = factory([registry]);
  const tallies = new Tallies();
  make.gauge('build_info', 'Constant 1; the labels say what runs', ['version', 'node']).set({ ...build }, 1);
  return {
    contentType: registry.contentType,
    /** The exposition text. */
    text(): Promise<string> {
      tallies.handOver();
      return registry.metrics();
    },
    ...requestMetrics(make, tallies),
    ...decisionMetrics(make, tallies),
    ...upstreamMetrics(make, tallies),
    ...approvalMetrics(make),
    ...accountMetrics(make),
    ...recordMetrics(make, tallies, [registry]),
    ...policyMetrics(make),
    ...switchMetrics(make),
  };
}

export type Metrics = ReturnType<typeof createMetrics>;
