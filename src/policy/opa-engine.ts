/** The PDP: OPA policies as WebAssembly, in process. Source: architecture 3, contracts 3. */

import type { ServerFacts } from '../classification/classifier.ts';
import type { Clock } from '../core/clock.ts';
import type { Decision, DecisionFailure, DecisionRequest } from '../core/decision.ts';
import type { AskedRoute } from '../core/exchange.ts';
import { makeId } from '../core/ids.ts';
import type { Logger } from '../core/module.ts';
import { type ActivationOptions, type ActivePolicy, entrypointOf, type PolicyCompiler } from './activation.ts';
import type { BindableRoute } from './bindings.ts';
import type { Bundle } from './bundle.ts';
import type { SigningRules } from './bundle-signing.ts';
import { type CacheOptions, DecisionCache, type Invalidation } from './cache.ts';
import { type DecisionLog, type DecisionLogFigures, type DecisionLogOptions, openDecisionLog } from './decision-log.ts';
import type { PolicyEngine, PolicyStatus } from './engine.ts';
import { type BatchInput, buildBatchInput, buildInput, type PolicyInput } from './input.ts';
import { decideJointly, decideManyJointly } from './joint.ts';
import { LatencyByEntrypoint, type LatencyFigures } from './latency.ts';
import { PolicySlot } from './policy-slot.ts';
import { failedVerdict, readVerdict, readVerdicts, type Verdict } from './result.ts';
import { createLocalSource, type LoadReason, type PolicySource } from './sources.ts';
import type { HostStats } from './wasm/host.ts';
import type { HostLimits } from './wasm/program.ts';

export interface PolicyEngineOptions {
  /** Directory with .rego files and the compiled bundle, or a bundle file; absolute. */
  readonly bundleDir: string;
  /** Data document instead of the bundle's; absolute. */
  readonly dataFile: string | null;
  /** Where the policy comes from instead of `bundleDir`. */
  readonly source?: PolicySource | null;
  /** Whose signatures a bundle file needs. */
  readonly signing?: SigningRules | null;
  readonly entrypoint: string;
  /** Entrypoints that routes name: a bundle has to have them all. */
  readonly required?: readonly string[];
  /** Routes that a bundle may bind to its entrypoints, at the places that requests name. */
  readonly routes?: readonly BindableRoute[];
  /** Milliseconds without a word of the bundle service after which the policy counts as stale. */
  readonly maxAgeMs?: number | null;
  /** Hears of each bundle that a service offered. */
  readonly onDelivery?: (ok: boolean) => void;
  /** Entrypoint that decides many calls at once. */
  readonly listEntrypoint?: string;
  readonly clock: Clock;
  readonly cache: CacheOptions;
  readonly servers: ReadonlyMap<string, ServerFacts>;
  readonly decisionLog: DecisionLogOptions | null;
  /** Shown every decision after it was made; must not throw and must be quick. */
  readonly observer?: DecisionObserver | null;
  readonly compile?: PolicyCompiler;
  readonly limits?: HostLimits;
  readonly logger: Logger;
  /** Called once per decision; `evalUs` is 0 for one from the cache. */
  readonly onDecision?: (allow: boolean, cached: boolean, evalUs: number, failure: DecisionFailure | null) => void;
}

/** Looks on: a candidate that is tried out on what the policy in force decides. */
export interface DecisionObserver {
  /** False when this decision is not wanted; then nothing is built for it. */
  wants(): boolean;
  observe(seen: ObservedDecision): void;
}

export interface ObservedDecision {
  readonly entrypoint: string;
  readonly input: PolicyInput;
  /** One, or one per call of a list that was decided at once. */
  readonly decisions: readonly Decision[];
  readonly requests: readonly DecisionRequest[];
}

/** What administration needs besides the pipeline's view. */
export interface OpaEngine extends PolicyEngine {
  /** Forgets remembered decisions; gives how many. */
  invalidate(what: Invalidation): number;
  /** Also what a watcher asks for, which does not end a pin as a person does. */
  reload(why?: LoadReason): Promise<PolicyStatus>;
  /** Takes back the last activation, and keeps it out; false when there is none before it. */
  rollback(): boolean;
  stats(): EngineStats;
  /** What decides now, with its data as they are now; null without a policy. */
  activeBundle(): Bundle | null;
}

export interface EngineStats {
  readonly host: Readonly<HostStats> | null;
  readonly cached: number;
  readonly hits: number;
  readonly misses: number;
  readonly logDropped: number;
  readonly log: DecisionLogFigures | null;
  /** Uncached evaluations, by entrypoint. */
  readonly latency: Readonly<Record<string, LatencyFigures>>;
}

/** Calls decided in one evaluation; longer lists are cut into pieces. */
const MAX_BATCH = 250;

const REPORT_EVERY_MS = 1000;

/** Resolves also when no policy could be loaded: then everything is denied, and the status says why. */
export async function createPolicyEngine(options: PolicyEngineOptions): Promise<OpaEngine> {
  const engine = new Engine(options);
  await engine.reload('start');
  engine.follow();
  return engine;
}

class Engine implements OpaEngine {
  readonly #options: PolicyEngineOptions;
  readonly #activation: ActivationOptions;
  readonly #source: PolicySource;
  readonly #slot: PolicySlot;
  readonly #cache: DecisionCache;
  readonly #log: DecisionLog | null;
  readonly #observer: DecisionObserver | null;
  readonly #latency = new LatencyByEntrypoint();
  #hits = 0;
  #misses = 0;
  #reportedAt = Number.NEGATIVE_INFINITY;
  #unreported = 0;

  constructor(options: PolicyEngineOptions) {
    this.#options = options;
    this.#activation = {
      bundleDir: options.bundleDir,
      dataFile: options.dataFile,
      entrypoint: options.entrypoint,
      listEntrypoint: options.listEntrypoint ?? 'portcullis/main/decisions',
      compile: options.compile,
      limits: options.limits,
      logged: options.decisionLog !== null,
      required: options.required,
      routes: options.routes,
      signing: options.signing,
    };
    this.#source = options.source ?? createLocalSource(this.#activation, () => options.clock.now());
    this.#slot = new PolicySlot({
      ...{ source: this.#source, activation: this.#activation, clock: options.clock, logger: options.logger },
      onSwap: () => this.#cache.clear(),
      onDelivery: options.onDelivery,
    });
    this.#cache = new DecisionCache(options.cache);
    this.#log = options.decisionLog === null ? null : openDecisionLog(options.decisionLog, options.logger);
    this.#observer = options.observer ?? null;
  }

  /** Begins to hear of news. */
  follow(): void {
    this.#source.follow((news) => this.#slot.deliver(news));
  }

  get #active(): ActivePolicy | null {
    return this.#slot.active;
  }

  get revision(): string | null {
    return this.#active?.revision ?? null;
  }

  entrypointAt(route: AskedRoute): string {
    const policy = this.#active;
    const { entrypoint: standard } = this.#options;
    return policy === null ? (route.entrypoint ?? standard) : entrypointOf(route, policy, standard);
  }

  decide(request: DecisionRequest): Decision {
    const { parties } = request.principal;
    if (parties !== undefined) return decideJointly(this, request, parties);
    const policy = this.#active;
    const standard = this.#options.entrypoint;
    if (policy === null) {
      const verdict = failedVerdict('no_bundle', this.#slot.lastError);
      return this.#answer(request, request.entrypoint ?? standard, null, verdict, 0);
    }
    const entrypoint = entrypointOf(request, policy, standard);
    const server = this.#server(request.call.server);
    const key = this.#cache.accepts(request) ? policy.keys.key(entrypoint, request, server) : null;
    const known = key === null ? null : this.#cache.get(key, request.facts.now);
    if (key !== null) this.#cache.note(request.call.classification.sensitivity_level, known !== null);
    if (known !== null) return this.#remembered(request, entrypoint, policy, known, server);
    this.#misses++;
    const input = buildInput(request, server);
    const started = performance.now();
    const verdict = readVerdict(policy.host.evaluate(entrypoint, input, request.facts.now, policy.shape));
    const evalUs = (performance.now() - started) * 1000;
    this.#latency.record(entrypoint, evalUs);
    if (key !== null) this.#cache.set(key, verdict, request);
    return this.#answer(request, entrypoint, policy, verdict, evalUs, input);
  }

  #remembered(
    request: DecisionRequest,
    entrypoint: string,
    policy: ActivePolicy,
    verdict: Verdict,
    server: ServerFacts | null,
  ): Decision {
    this.#hits++;
    const decision = makeDecision(makeId('dec_', request.facts.now), policy.revision, verdict, true, 0);
    this.#options.onDecision?.(verdict.allow, true, 0, null);
    const isObserved = this.#observer?.wants() === true;
    if (this.#log === null && !isObserved) return decision;
    const input = buildInput(request, server);
    this.#log?.record({ decision, request, entrypoint, input, rules: policy.logRules });
    if (isObserved) this.#observer?.observe({ entrypoint, input, decisions: [decision], requests: [request] });
    return decision;
  }

  weigh(request: DecisionRequest): Decision {
    const { principal, call, facts } = request;
    if (principal.parties !== undefined) return decideJointly(this.#weighing, request, principal.parties);
    const policy = this.#active;
    const id = makeId('dec_', facts.now);
    if (policy === null) return makeDecision(id, '', failedVerdict('no_bundle', this.#slot.lastError), false, 0);
    const entrypoint = entrypointOf(request, policy, this.#options.entrypoint);
    const input = buildInput(request, this.#server(call.server));
    const verdict = readVerdict(policy.host.evaluate(entrypoint, input, facts.now, policy.shape));
    return makeDecision(id, policy.revision, verdict, false, 0);
  }

  readonly #weighing = {
    decide: (request: DecisionRequest) => this.weigh(request),
    decideMany: (requests: readonly DecisionRequest[]) => requests.map((request) => this.weigh(request)),
  };

  decideMany(requests: readonly DecisionRequest[]): readonly Decision[] {
    if (requests.length <= 1) return requests.map((request) => this.decide(request));
    const principal = requests[0]?.principal;
    if (principal?.parties !== undefined && requests.every((request) => request.principal === principal)) {
      return decideManyJointly(this, requests, principal.parties);
    }
    const decisions: Decision[] = [];
    for (let from = 0; from < requests.length; from += MAX_BATCH) {
      decisions.push(...this.#decideBatch(requests.slice(from, from + MAX_BATCH)));
    }
    return decisions;
  }

  #decideBatch(requests: readonly DecisionRequest[]): Decision[] {
    const policy = this.#active;
    const first = requests[0];
    const entrypoint = this.#activation.listEntrypoint;
    // A route with an entrypoint of its own has no list form, and mixed callers share no document.
    if (policy === null || first === undefined || !this.#belongTogether(requests, first, policy)) {
      return requests.map((request) => this.decide(request));
    }
    const started = performance.now();
    const input = buildBatchInput(requests, (name) => this.#server(name));
    const outcome = policy.host.evaluate(entrypoint, input, first.facts.now, policy.listShape);
    const verdicts = readVerdicts(outcome, requests.length);
    const evalUs = ((performance.now() - started) * 1000) / requests.length;
    this.#latency.record(entrypoint, evalUs * requests.length);
    const batchId = makeId('dec_', first.facts.now);
    const decisions = requests.map((request, i) => {
      const verdict = verdicts[i] ?? failedVerdict('bad_result', null);
      return this.#answer(request, entrypoint, policy, verdict, evalUs, i === 0 ? input : null, batchId, i);
    });
    if (this.#observer?.wants() === true) this.#observer.observe({ entrypoint, input, decisions, requests });
    return decisions;
  }

  #belongTogether(requests: readonly DecisionRequest[], first: DecisionRequest, policy: ActivePolicy): boolean {
    const standard = this.#options.entrypoint;
    return requests.every(
      (request) =>
        request.facts === first.facts &&
        request.principal === first.principal &&
        entrypointOf(request, policy, standard) === standard,
    );
  }

  #server(name: string | null): ServerFacts | null {
    return name === null ? null : (this.#options.servers.get(name) ?? null);
  }

  #answer(
    request: DecisionRequest,
    entrypoint: string,
    policy: ActivePolicy | null,
    verdict: Verdict,
    evalUs: number,
    input: PolicyInput | BatchInput | null = null,
    batchId?: string,
    place = 0,
  ): Decision {
    const id = batchId === undefined ? makeId('dec_', request.facts.now) : `${batchId}-${place}`;
    const decision = makeDecision(id, policy?.revision ?? '', verdict, false, evalUs);
    this.#options.onDecision?.(verdict.allow, false, evalUs, verdict.failure);
    if (verdict.failure !== null) this.#report(request, entrypoint, verdict);
    const rules = policy?.logRules ?? null;
    const drawn = policy?.host.drawn ?? null;
    this.#log?.record({ decision, request, entrypoint, input, batchId, rules, drawn });
    if (batchId === undefined && input !== null && this.#observer?.wants() === true) {
      this.#observer.observe({ entrypoint, input, decisions: [decision], requests: [request] });
    }
    return decision;
  }

  /** At most one line a second: a policy that fails on every request must not flood the log as well. */
  #report(request: DecisionRequest, entrypoint: string, verdict: Verdict): void {
    const { failure, detail } = verdict;
    this.#unreported++;
    const { now } = request.facts;
    if (Math.abs(now - this.#reportedAt) < REPORT_EVERY_MS) return;
    const failures = this.#unreported;
    this.#unreported = 0;
    this.#reportedAt = now;
    this.#options.logger.error(
      { request_id: request.facts.request_id, entrypoint, failure, detail, failures },
      'no decision could be made; the call is denied',
    );
  }

  status(): PolicyStatus {
    return this.#slot.status(this.#options.maxAgeMs ?? null);
  }

  /** One at a time: a second call waits for the first. */
  async reload(why: LoadReason = 'reload'): Promise<PolicyStatus> {
    await this.#slot.load(why);
    return this.status();
  }

  rollback(): boolean {
    return this.#slot.rollback();
  }

  invalidate(what: Invalidation): number {
    return this.#cache.invalidate(what);
  }

  activeBundle(): Bundle | null {
    const active = this.#active;
    return active === null ? null : { ...active.bundle, data: active.document.root, revision: active.revision };
  }

  stats(): EngineStats {
    return {
      host: this.#active?.host.stats ?? null,
      cached: this.#cache.size,
      hits: this.#hits,
      misses: this.#misses,
      logDropped: this.#log?.dropped ?? 0,
      log: this.#log?.figures() ?? null,
      latency: this.#latency.figures(),
    };
  }

  async close(): Promise<void> {
    await this.#source.close();
    await this.#slot.idle();
    await this.#log?.close();
  }
}

function makeDecision(
  decision_id: string,
  revision: string,
  verdict: Verdict,
  cached: boolean,
  evalUs: number,
): Decision {
  return {
    decision_id,
    allow: verdict.allow,
    deny: verdict.deny,
    obligations: verdict.obligations,
    revision,
    cached,
    eval_us: evalUs,
    failure: verdict.failure,
  };
}
