/** The re-entry: classify and decide calls that were found on the way, by the same stages and never a second code path. */
import type { Judge } from '../core/exchange.ts';
import type { PolicyEngine } from '../policy/engine.ts';
import type { Classify, FactSources } from './stages/classify.ts';
import { requestFacts } from './stages/classify.ts';

export function createJudge(run: Classify, sources: FactSources, engine: PolicyEngine): Judge {
  return (exchange, calls) => {
    const facts = requestFacts(sources, exchange, calls[0]?.server ?? null);
    const { principal, route } = exchange;
    return engine.decideMany(
      calls.map((call) => ({ facts, principal, call: run(call), entrypoint: route.entrypoint })),
    );
  };
}
