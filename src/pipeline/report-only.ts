/**
 * Routes that only report: what the policy refuses is recorded and let through, so that a policy can be watched before it
 * binds anybody. Only decisions are waived. Who has no valid credential, sends what cannot be read, or asks for something
 * that is switched off, is refused as everywhere. Source: acceptance X-10.
 */
import type { Decision } from '../core/decision.ts';
import { CATALOGUE, type ErrorCode } from '../core/errors.ts';
import type { Route } from '../core/route.ts';

export function isReportOnly({ mode }: Pick<Route, 'mode'>): boolean {
  return mode === 'report';
}

/** Whether a refusal with this code stays one: it does not speak of what a caller may do. */
function isBinding(code: ErrorCode, { failure }: Decision): boolean {
  return code === 'SERVER_DISABLED' || failure === 'bad_input' || CATALOGUE[code].status === 401;
}

/**
 * The decision as it takes effect on such a route. `code`: what the caller would have been told; null for a permission.
 * Nothing about the call changes: of the obligations only the one on records stays.
 */
export function waived(decision: Decision, code: ErrorCode | null): Decision {
  if (code !== null && isBinding(code, decision)) return decision;
  if (code === null && decision.obligations.length === 0) return decision;
  const { deny, failure } = decision;
  const obligations = decision.obligations.filter(({ type }) => type === 'audit');
  if (code === null) return { ...decision, obligations };
  return { ...decision, allow: true, deny: [], obligations, failure: null, would_deny: { code, deny, failure } };
}
