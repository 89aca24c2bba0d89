/** What the decision API needs of the pipeline: the same classification and the same decision, without enforcing it. */
import type { Call, ClassifiedCall } from '../../core/call.ts';
import type { Decision } from '../../core/decision.ts';
import type { ErrorCode } from '../../core/errors.ts';
import type { Admitted } from '../../core/exchange.ts';
import type { JsonObject } from '../../core/json.ts';
import type { Principal } from '../../core/principal.ts';

/** What would happen to a call if it were made. */
export interface Advice {
  readonly call: ClassifiedCall;
  readonly decision: Decision;
  /** True only where the gateway itself would let the call through. */
  readonly allowed: boolean;
  /** The code a caller of the gateway would get; null when allowed. */
  readonly code: ErrorCode | null;
  /** What would be forwarded: without what obligations take out, numbers capped. Null when not allowed. */
  readonly parameters: JsonObject | null;
}

export interface Advisor {
  /**
   * The request as if this principal had sent it, counted in that principal's own window. Rejects with
   * STORE_UNAVAILABLE.
   */
  as(exchange: Admitted, principal: Principal): Admitted | Promise<Admitted>;
  /** Whether somebody is switched off, and so can see and do nothing. */
  isOff(principal: Principal): boolean;
  /** What the policy says of each call where it would be made. Never throws. */
  judge(exchange: Admitted, calls: readonly Call[]): readonly Decision[];
  /** Classifies and decides one call. Never throws. */
  advise(exchange: Admitted, call: Call): Advice;
}
