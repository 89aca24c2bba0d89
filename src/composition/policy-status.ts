/** How the policy in force does: for `policy status`, `/health/detailed` and the metrics. Source: policy-engine 7. */

import type { PolicyStatus } from '../policy/engine.ts';
import type { EngineStats } from '../policy/opa-engine.ts';
import type { Generation } from './assembly.ts';
import type { OpenPlatform } from './platform.ts';

type Figures = Omit<EngineStats, 'log'> & {
  /** Since the activation; null without a policy. */
  readonly age_seconds: number | null;
  /** Routes whose decisions bind nobody. */
  readonly report_only: readonly string[];
  readonly decision_log?: EngineStats['log'];
};

function ageOf({ activated_at }: PolicyStatus, now: number): number | null {
  return activated_at === null ? null : Math.max(0, Math.round((now - activated_at) / 1000));
}

/** The engine's own status with its figures. */
export function policyStatus<S extends PolicyStatus>(
  status: S,
  { engine, parts }: Generation,
  { clock }: OpenPlatform,
): S & Figures {
  const { log, ...stats } = engine.stats();
  return {
    ...status,
    age_seconds: ageOf(status, clock.now()),
    ...stats,
    report_only: parts.routes.all.filter(({ mode }) => mode === 'report').map(({ id }) => id),
    ...(log === null ? {} : { decision_log: log }),
  };
}

/** Puts what nobody counts as it happens where the metrics are read from. */
export function measurePolicy({ engine }: Generation, { clock, metrics }: OpenPlatform): void {
  const { host, latency, log } = engine.stats();
  const figures: Record<string, number> = {};
  if (host !== null) {
    Object.assign(figures, {
      made: host.instances,
      set_back: host.discarded,
      recycled: host.recycled,
      aborts: host.failures.abort ?? 0,
      timeouts: host.failures.timeout ?? 0,
      out_of_memory: host.failures.memory ?? 0,
      builtin_faults: host.builtinFaults,
    });
  }
  metrics.policyHost(figures, ageOf(engine.status(), clock.now()));
  for (const [entrypoint, { p99_us }] of Object.entries(latency)) {
    if (p99_us !== null) metrics.policyLatency(entrypoint, p99_us / 1e6);
  }
  if (log !== null) metrics.logWaiting(log.waiting);
}
