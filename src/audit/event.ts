/** The closed union of audit events: S-90 and V-35. Every end of every request is one `request_completed`-like event of these kinds. */
import type { Classification } from '../core/call.ts';

interface Base {
  /** Time-ordered unique id. */
  readonly event_id: string;
  /** RFC 3339, UTC, milliseconds. */
  readonly timestamp: string;
  readonly request_id: string | null;
  readonly tenant_id: string | null;
  readonly user_id: string | null;
  readonly principal_type: string | null;
  readonly auth_provider: string | null;
  readonly key_id: string | null;
  readonly source_ip: string | null;
  readonly user_agent: string | null;
  readonly session_id: string | null;
  /** Who acted, when that was somebody else than `user_id`. */
  readonly actor_id?: string;
}

/** How a request ended; `flag` is the catalogue's two letters, `OK` when nothing went wrong. */
export interface Outcome {
  readonly outcome: 'allowed' | 'denied' | 'failed';
  readonly status: number;
  readonly code: string | null;
  readonly flag: string;
  readonly duration_ms: number;
  /** The approval that was presented or asked for. */
  readonly approval_id?: string;
}

/** The class of the call; its reasons have a name of their own because `reasons` are those of the decision. */
export interface ClassFacts extends Pick<Classification, 'tool_type' | 'sensitivity_level' | 'resources'> {
  readonly classification_reasons: Classification['reasons'];
}

export interface DecisionFacts {
  readonly decision_id: string | null;
  readonly policy_revision: string | null;
  readonly decision_cached: boolean;
  readonly reasons: readonly { readonly code: string; readonly message: string }[];
  /** On a route that only reports: what the caller would have been told, and why. */
  readonly would_deny?: {
    readonly code: string;
    readonly reasons: readonly { readonly code: string; readonly message: string }[];
  };
}

export interface RequestFactsEvent {
  readonly route: string | null;
  readonly method: string;
  readonly path: string;
  readonly action: string | null;
  readonly server_name: string | null;
  readonly tool_name: string | null;
}

export type ToolInvocation = Base &
  RequestFactsEvent &
  Outcome &
  DecisionFacts &
  Partial<ClassFacts> & {
    readonly event_type: 'tool_invocation';
    readonly parameters: unknown;
    readonly parameters_sha256: string | null;
  };

export type AuthorizationDecision = Base &
  RequestFactsEvent &
  Outcome &
  DecisionFacts &
  Partial<ClassFacts> & {
    readonly event_type: 'authorization_decision';
    /** Of a filtered list: how many entries there were, and how many the caller was shown. */
    readonly offered?: number;
    /** On the decision API: who asked. What was decided is enforced elsewhere. */
    readonly asked_by?: string;
    readonly shown?: number;
    /** On a route that only reports: how many of the shown ones the policy would have left out. */
    readonly would_hide?: number;
  };

export type DataAccess = Base &
  RequestFactsEvent &
  Outcome &
  DecisionFacts & { readonly event_type: 'data_access'; readonly model: string | null };

export type PolicyViolation = Base &
  RequestFactsEvent & {
    readonly event_type: 'policy_violation';
    readonly policy_name: string;
    readonly violation_reason: string;
    readonly attempted_action: string;
    readonly resource: string;
    readonly severity: string;
    /** False on a route that only reports. */
    readonly enforced?: boolean;
  };

export type RateLimitExceeded = Base &
  RequestFactsEvent &
  Outcome & { readonly event_type: 'rate_limit_exceeded'; readonly limit: number | null };

export type DelegationRequest = Base &
  RequestFactsEvent &
  Outcome &
  DecisionFacts & { readonly event_type: 'delegation_request'; readonly delegation: DelegationRecord };

/** Who lent rights to whom: when they are handed on, when they are used, or when one agent calls another. */
export interface DelegationRecord {
  readonly phase: 'issue' | 'use' | 'invoke';
  /** Id of the token, which is found again in everything made from it; null where there is none. */
  readonly delegation_id: string | null;
  readonly delegator_id: string;
  /** Who acts, the current actor first. */
  readonly actors: readonly string[];
  readonly target_id: string | null;
}

export type SuspiciousActivity = Base & {
  readonly event_type: 'suspicious_activity';
  readonly activity_type: string;
  readonly indicators: readonly string[];
  readonly risk_score: number;
  readonly automated_response: string | null;
};

export type AdminAction = Base & {
  readonly event_type: 'admin_action';
  readonly operation: string;
  readonly outcome: 'allowed' | 'denied' | 'failed';
  readonly details: Readonly<Record<string, unknown>>;
};

/** Account life: V-35. */
export type AccountEvent = Base & {
  readonly event_type:
    | 'user_registered'
    | 'login_succeeded'
    | 'login_failed'
    | 'password_changed'
    | 'api_key_created'
    | 'api_key_revoked'
    | 'permission_denied'
    | 'oauth_client_registered'
    | 'oauth_authorization_granted'
    | 'oauth_authorization_denied'
    | 'oauth_token_issued'
    | 'token_revoked'
    | 'mfa_enrolled'
    | 'mfa_removed'
    | 'mfa_verified'
    | 'mfa_failed'
    | 'mfa_codes_renewed';
  readonly details: Readonly<Record<string, unknown>>;
};

/** The life of a request for approval: `user_id` is who took the step, nobody where time did. */
export type ApprovalStep = Base & {
  readonly event_type:
    | 'approval_requested'
    | 'approval_approved'
    | 'approval_rejected'
    | 'approval_expired'
    | 'approval_used';
  readonly approval_id: string;
  /** After the step. */
  readonly state: string;
  readonly requester_id: string;
  readonly approver_id: string | null;
  readonly approver_key_id: string | null;
  /** What the approver said. */
  readonly reason: string | null;
  readonly action: string;
  readonly server_name: string | null;
  readonly tool_name: string | null;
  readonly tool_type: string;
  readonly sensitivity_level: Classification['sensitivity_level'];
  readonly arguments_digest: string;
  readonly policy_revision: string;
  /** The request that asked for it. */
  readonly requested_by_request: string;
  readonly expires_at: string;
};

/** What a gateway elsewhere says it did (`POST /api/v1/gateway/audit`): its word, under its own identity. */
export type ReportedEvent = Base & {
  readonly event_type: 'reported_event';
  readonly reported_type: string;
  readonly reported: Readonly<Record<string, unknown>>;
  readonly details: Readonly<Record<string, unknown>>;
};

/** A request refused before a decision could be asked for (bad path, no credentials, malformed). */
export type RequestRefused = Base & RequestFactsEvent & Outcome & { readonly event_type: 'request_refused' };

export type AuditEvent =
  | ToolInvocation
  | AuthorizationDecision
  | DataAccess
  | PolicyViolation
  | RateLimitExceeded
  | DelegationRequest
  | SuspiciousActivity
  | AdminAction
  | AccountEvent
  | ReportedEvent
  | ApprovalStep
  | RequestRefused;

/** What producers hand over: the recorder adds id and time. */
export type AuditDraft = AuditEvent extends infer E
  ? E extends AuditEvent
    ? Omit<E, 'event_id' | 'timestamp'>
    : never
  : never;

export interface AuditRecorder extends AsyncDisposable {
  /** Never throws and never waits; a sink that fails is counted and shown in readiness. */
  record(event: AuditDraft): void;
  flush(): Promise<void>;
}
