/** How a candidate's decision differs from the one that took effect. Source: policy-engine 5. */
import type { Decision } from '../core/decision.ts';

/** The part of a decision that two policies can disagree on. */
export type Compared = Pick<Decision, 'allow' | 'deny' | 'obligations' | 'failure'>;

/**
 * `failure`: the candidate gives no decision where the policy in force gives one. `reasons`: both deny, for other
 * reasons. A candidate that would cure a failure shows as `deny_to_allow` or `reasons`.
 */
export const DIFFERENCES = ['allow_to_deny', 'deny_to_allow', 'obligations', 'reasons', 'failure'] as const;
export type Difference = (typeof DIFFERENCES)[number];

export interface Comparison {
  readonly kind: Difference | 'same';
  /** Violation codes of the candidate alone. */
  readonly added: readonly string[];
  /** Violation codes of the policy in force alone. */
  readonly removed: readonly string[];
}

const SAME: Comparison = { kind: 'same', added: [], removed: [] };

export function compare(live: Compared, candidate: Compared): Comparison {
  if (candidate.failure !== null) return live.failure === null ? { ...SAME, kind: 'failure' } : SAME;
  const added = codesOnlyIn(candidate, live);
  const removed = codesOnlyIn(live, candidate);
  if (live.allow !== candidate.allow) {
    return { kind: live.allow ? 'allow_to_deny' : 'deny_to_allow', added, removed };
  }
  if (canonical(live.obligations) !== canonical(candidate.obligations)) return { kind: 'obligations', added, removed };
  return added.length > 0 || removed.length > 0 ? { kind: 'reasons', added, removed } : SAME;
}

function codesOnlyIn(one: Compared, other: Compared): readonly string[] {
  if (one.deny.length === 0) return [];
  const known = new Set(other.deny.map(({ code }) => code));
  return [...new Set(one.deny.map(({ code }) => code))].filter((code) => !known.has(code));
}

/** The order of obligations and of their members says nothing. */
function canonical(obligations: Compared['obligations']): string {
  if (obligations.length === 0) return '';
  return obligations
    .map((one) => JSON.stringify(Object.entries(one).sort(([a], [b]) => (a < b ? -1 : 1))))
    .sort()
    .join();
}
