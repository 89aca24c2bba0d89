/** The re-entry: classify and decide calls that were found on the way, by the same stages and never a second code path. */
import type { Call } from '../core/call.ts';
import type { Decision } from '../core/decision.ts';
import type { Judge } from '../core/exchange.ts';
import type { Principal } from '../core/principal.ts';
import type { PolicyEngine } from '../policy/engine.ts';
import { isReportOnly, waived } from './report-only.ts';
import type { Classify, FactSources } from './stages/classify.ts';
import { requestFacts } from './stages/classify.ts';
import { isPermission, refusalCode } from './stages/decide.ts';
import type { Switchboard } from './switchboard.ts';
import type { ToolScopes } from './tool-scopes.ts';

export function createJudge(
  run: Classify,
  sources: FactSources,
  engine: PolicyEngine,
  switches: Switchboard,
  toolScopes: ToolScopes | null = null,
): Judge {
  const withhold = (principal: Principal, calls: readonly Call[], decisions: readonly Decision[]) => {
    const left = switches.withhold(calls, decisions);
    return toolScopes === null ? left : toolScopes.withhold(principal, calls, left);
  };
  return (exchange, calls, routeOf) => {
    const facts = requestFacts(sources, exchange, calls[0]?.server ?? null);
    const { principal, route } = exchange;
    if (isReportOnly(route)) {
      const requests = calls.map((call) => {
        const { entrypoint, place } = routeOf?.(call) ?? route;
        return { facts, principal, call: run(call), entrypoint, place, mode: 'report' } as const;
      });
      const made = engine.decideMany(requests);
      return withhold(
        principal,
        calls,
        made.map((decision) => waived(decision, isPermission(decision) ? null : refusalCode(decision))),
      );
    }
    const decisions = engine.decideMany(
      calls.map((call) => {
        const { entrypoint, place } = routeOf?.(call) ?? route;
        return { facts, principal, call: run(call), entrypoint, place };
      }),
    );
    return withhold(principal, calls, decisions);
  };
}
