/** The published decision: what a caller may know of one. Packages, rules and input stay inside. Source: design 2.5. */
import type { Sensitivity } from '../../core/call.ts';
import { CATALOGUE, GatewayError } from '../../core/errors.ts';
import type { Admitted } from '../../core/exchange.ts';
import type { Advice } from './advisor.ts';
import type { DecisionDocument } from './schemas.ts';

/** Throws POLICY_UNAVAILABLE or POLICY_EVALUATION_ERROR where no decision exists: that is no answer to a question. */
export function decisionDocumentOf({ received }: Pick<Admitted, 'received'>, advice: Advice): DecisionDocument {
  const { call, decision, allowed, code, parameters } = advice;
  refuseFailure(advice);
  const { tool_type, sensitivity_level, reasons, resources } = call.classification;
  const deny = decision.deny.map(({ code: of, message }) => ({ code: of, message }));
  const at = received.receivedAt;
  const seconds = cacheSeconds(advice, at);
  return {
    version: '1',
    allow: allowed,
    decision: allowed ? 'allow' : 'deny',
    code,
    status: code === null ? 200 : CATALOGUE[code].status,
    reason: reasonOf(advice),
    deny,
    // Copies: what is remembered of a decision is not handed out.
    obligations: decision.obligations.map((one) =>
      'names' in one ? { ...one, names: [...one.names] } : { ...one },
    ) as DecisionDocument['obligations'],
    filtered_parameters: parameters,
    classification: { tool_type, sensitivity_level, reasons: [...reasons], resources: [...resources] },
    request_id: received.id,
    audit_id: received.id,
    decision_id: decision.decision_id,
    cache_ttl: seconds,
    valid_until: seconds === 0 ? null : new Date(at + seconds * 1000).toISOString(),
    policy: { revision: decision.revision, eval_us: decision.eval_us, cached: decision.cached },
    metadata: { policy_version: decision.revision, evaluated_at: new Date(at).toISOString() },
  };
}

const CACHE_SECONDS: Readonly<Record<Sensitivity, number>> = { low: 120, medium: 60, high: 30, critical: 0 };
const HOUR_MS = 3_600_000;

/** Only an allow without conditions keeps, and not past a full hour: there the rules on working hours may change it. */
function cacheSeconds({ allowed, call, decision }: Advice, now: number): number {
  if (!allowed || decision.obligations.length > 0) return 0;
  const untilHour = Math.floor((HOUR_MS - (now % HOUR_MS)) / 1000);
  return Math.min(CACHE_SECONDS[call.classification.sensitivity_level], untilHour);
}

/** Throws where the policy came to no decision. */
export function refuseFailure({ decision }: Advice): void {
  if (decision.failure === null) return;
  const code = decision.failure === 'no_bundle' ? 'POLICY_UNAVAILABLE' : 'POLICY_EVALUATION_ERROR';
  throw new GatewayError(code, { data: { decision_id: decision.decision_id } });
}

/** The sentences of a deny, or null for an allow. */
export function reasonOf({ allowed, decision, code }: Advice): string | null {
  if (allowed) return null;
  const sentences = decision.deny.map(({ message }) => message);
  return sentences.length > 0 ? sentences.join('; ') : CATALOGUE[code ?? 'POLICY_DENIED'].title;
}
