/** The re-entry: classify and decide calls that were found on the way, by the same stages and never a second code path. */
import type { Call } from '../core/call.ts';
import type { Decision, DecisionRequest } from '../core/decision.ts';
import type { AskedRoute, Judge } from '../core/exchange.ts';
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
  return (exchange, calls, routesOf) => {
    const facts = requestFacts(sources, exchange, calls[0]?.server ?? null);
    const { principal, route } = exchange;
    const isReport = isReportOnly(route);
    const here = [route];
    const requests: DecisionRequest[] = [];
    // How many of the requests are about each call.
    const counts = calls.map((call) => {
      const about = run(call);
      const doors = routesOf === undefined ? here : differing(routesOf(call), engine);
      for (const { entrypoint, place } of doors) {
        const request = { facts, principal, call: about, entrypoint, place };
        requests.push(isReport ? { ...request, mode: 'report' } : request);
      }
      return doors.length;
    });
    const made = strictest(engine.decideMany(requests), counts);
    if (!isReport) return withhold(principal, calls, made);
    const waive = (decision: Decision) => waived(decision, isPermission(decision) ? null : refusalCode(decision));
    return withhold(principal, calls, made.map(waive));
  };
}

/** Of several routes those on which different entrypoints decide. */
function differing(routes: readonly AskedRoute[], engine: PolicyEngine): readonly AskedRoute[] {
  if (routes.length <= 1) return routes;
  return [...new Map(routes.map((route) => [engine.entrypointAt(route), route])).values()];
}

/** One decision for each call, of as many as `counts` says: what one refuses is refused, and what any demands is demanded. */
function strictest(decisions: readonly Decision[], counts: readonly number[]): readonly Decision[] {
  if (decisions.length === counts.length && !counts.includes(0)) return decisions;
  let from = 0;
  return counts.map((count) => {
    const these = decisions.slice(from, from + count);
    from += count;
    const refused = these.find(({ allow, failure }) => !allow || failure !== null);
    const one = refused ?? these.find((decision) => !isPermission(decision)) ?? these[0];
    if (one === undefined) throw new TypeError('a call is decided on no route');
    if (refused !== undefined || these.length === 1) return one;
    const obligations = new Map(these.flatMap((each) => each.obligations).map((each) => [JSON.stringify(each), each]));
    return { ...one, obligations: [...obligations.values()] };
  });
}
