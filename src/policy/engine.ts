/** The PDP as the pipeline sees it. Source: architecture 3. */
import type { Decision, DecisionRequest } from '../core/decision.ts';
import type { AskedRoute } from '../core/exchange.ts';
import type { RouteBinding, RouteClaim } from './bindings.ts';
import type { SourceStatus } from './sources.ts';

export interface PolicyStatus {
  readonly revision: string | null;
  /** Epoch milliseconds of the last activation. */
  readonly activated_at: number | null;
  /** Why the last candidate was refused, or null. */
  readonly last_error: string | null;
  readonly entrypoints: readonly string[];
  /** Who decides on which route, and who says so; none without a policy. */
  readonly routes?: readonly RouteBinding[];
  /** What the policy binds to routes that there are none of. */
  readonly unknown_routes?: readonly RouteClaim[];
  /** What the bundle calls itself, or null. */
  readonly bundle_revision?: string | null;
  /** What a rollback would return to. */
  readonly previous_revision?: string | null;
  /** A rollback took a policy away that stays out until there is another, or somebody reloads. */
  readonly pinned?: boolean;
  /** Nothing was heard of the bundle service for longer than `policy.max_age_seconds`. */
  readonly stale?: boolean;
  readonly source?: SourceStatus;
}

/** Synchronous on purpose: evaluation is microseconds of CPU; there is nothing to wait for. Never throws. */
export interface PolicyEngine {
  decide(request: DecisionRequest): Decision;
  /** What would be decided if these were the facts: nobody acts on it, so it is neither counted, logged nor remembered. */
  weigh(request: DecisionRequest): Decision;
  /** One evaluation for many calls of the same principal and request (list filtering). Same order as asked. */
  decideMany(requests: readonly DecisionRequest[]): readonly Decision[];
  /** Who would decide on this route now. */
  entrypointAt(route: AskedRoute): string;
  readonly revision: string | null;
  status(): PolicyStatus;
  /** Loads, validates, warms and swaps; on any fault the old bundle stays and the error says why, with file and line. */
  reload(): Promise<PolicyStatus>;
  close(): Promise<void>;
}
