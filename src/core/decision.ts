/** The question to the PDP and its answer. Source: design 2.3 and 2.5. */
import type { ClassifiedCall } from './call.ts';
import type { ErrorCode, PublicReason } from './errors.ts';
import type { Principal } from './principal.ts';

/** Facts of the request that are the same for each of its calls. */
export interface RequestFacts {
  readonly request_id: string;
  /** Epoch milliseconds: the one clock reading of this request; `time.now_ns()` in policy gives the same instant. */
  readonly now: number;
  readonly endpoint: string;
  readonly source_ip: string;
  readonly source_region: string;
  readonly user_agent: string | null;
  /** TLS towards the client (or a trusted proxy says so) and towards the upstream. */
  readonly encryption_enabled: boolean;
  /** Requests of this principal already counted in the window, the current one excluded. */
  readonly rate: { readonly window_seconds: number; readonly count: number };
  readonly approval: ApprovalFacts;
}

export interface ApprovalFacts {
  readonly present: boolean;
  readonly verified: boolean;
  readonly id: string | null;
  readonly approver_id: string | null;
  readonly expires_at: number | null;
  readonly reason: string | null;
}

export const NO_APPROVAL: ApprovalFacts = {
  present: false,
  verified: false,
  id: null,
  approver_id: null,
  expires_at: null,
  reason: null,
};

export interface DecisionRequest {
  readonly facts: RequestFacts;
  readonly principal: Principal;
  readonly call: ClassifiedCall;
  /** Policy entrypoint, e.g. `portcullis/main/decision`, where the configuration names one; else null. */
  readonly entrypoint: string | null;
  /** Place of the route, for which the policy itself may name its entrypoint. Absent: the default one decides. */
  readonly place?: number | undefined;
  /** Present on routes that only report: the decision is recorded as one that nobody has to obey. */
  readonly mode?: 'report';
}

/** What the PEP must do besides letting the call through. A type it does not know makes the decision a deny. */
export type Obligation =
  | { readonly type: 'require_approval'; readonly reason?: string; readonly ttl_seconds?: number }
  | { readonly type: 'require_mfa' }
  | { readonly type: 'redact_parameters'; readonly names: readonly string[] }
  | { readonly type: 'redact_result'; readonly names: readonly string[] }
  | { readonly type: 'inject_credential'; readonly auth_type: string; readonly key: string }
  | { readonly type: 'rate_limit'; readonly limit: number; readonly window_seconds: number; readonly name?: string }
  | { readonly type: 'clamp'; readonly name: string; readonly maximum: number }
  | { readonly type: 'set_header'; readonly name: string; readonly value: string }
  | { readonly type: 'audit'; readonly level: 'full' | 'metadata' };

export interface Violation extends PublicReason {
  /** Rego package that said so: for the audit and decision log, never for the caller. */
  readonly package: string;
  readonly severity: 'low' | 'medium' | 'high' | 'critical';
}

export interface Decision {
  readonly decision_id: string;
  readonly allow: boolean;
  /** Empty when allowed. Sorted by package, code, message, so that equal decisions are equal bytes. */
  readonly deny: readonly Violation[];
  readonly obligations: readonly Obligation[];
  /** Bundle revision, e.g. `sha256:…`. */
  readonly revision: string;
  readonly cached: boolean;
  /** Microseconds spent evaluating; 0 for a cache hit. */
  readonly eval_us: number;
  /** Set when no decision exists: why. Always a deny. */
  readonly failure: DecisionFailure | null;
  /** Only on routes that report: what the policy refused, and the gateway let through all the same. */
  readonly would_deny?: WouldDeny;
}

/** The refusal that was not carried out. */
export interface WouldDeny {
  /** The code the caller would have got. */
  readonly code: ErrorCode;
  readonly deny: readonly Violation[];
  readonly failure: DecisionFailure | null;
}

/** Each way for a decision not to exist has its own name and counter, and denies. */
export type DecisionFailure =
  | 'no_bundle'
  | 'undefined'
  | 'abort'
  | 'timeout'
  | 'memory'
  | 'bad_input'
  | 'bad_result'
  | 'unknown_obligation';
