/** The re-entry: classify and decide calls that were found on the way, by the same stages and never a second code path. */
import type { Judge } from '../core/exchange.ts';
import type { PolicyEngine } from '../policy/engine.ts';
import { isReportOnly, waived } from './report-only.ts';
import type { Classify, FactSources } from './stages/classify.ts';
import { requestFacts } from './stages/classify.ts';
import { isPermission, refusalCode } from './stages/decide.ts';
import type { Switchboard } from './switchboard.ts';

export function createJudge(run: Classify, sources: FactSources, engine: PolicyEngine, switches: Switchboard): Judge {
  return (exchange, calls) => {
    const facts = requestFacts(sources, exchange, calls[0]?.server ?? null);
    const { principal, route } = exchange;
    if (isReportOnly(route)) {
      const requests = calls.map((call) => {
        return { facts, principal, call: run(call), entrypoint: route.entrypoint, mode: 'report' } as const;
      });
      const made = engine.decideMany(requests);
      return switches.withhold(
        calls,
        made.map((decision) => waived(decision, isPermission(decision) ? null : refusalCode(decision))),
      );
    }
    const decisions = engine.decideMany(
      calls.map((call) => ({ facts, principal, call: run(call), entrypoint: route.entrypoint })),
    );
    return switches.withhold(calls, decisions);
  };
}
