/** What happens to a request for approval, and how it is shown. Source: design 2.4, contracts 7, acceptance TW-06. */
import type { Principal } from '../core/principal.ts';
import type { ApprovalRecord, ApprovalState } from '../stores/approvals.ts';

/** Every state there is. */
export const APPROVAL_STATES = [
  'pending',
  'approved',
  'rejected',
  'expired',
  'used',
] as const satisfies ApprovalState[];

export type ApprovalEventType = 'requested' | 'approved' | 'rejected' | 'expired' | 'used';

/** Where a request came from, as audit wants it. */
export interface Origin {
  readonly request_id: string;
  readonly source_ip: string;
  readonly user_agent: string | null;
}

/** One step in the life of a request for approval: for audit, metrics and the webhook. */
export interface ApprovalEvent {
  readonly type: ApprovalEventType;
  /** As it is after the step. */
  readonly approval: ApprovalRecord;
  /** Epoch milliseconds. */
  readonly at: number;
  /** Who did it; null when time did. */
  readonly principal: Principal | null;
  readonly origin: Origin | null;
}

/** The addresses of one approval; relative without a public URL. */
export interface ApprovalLinks {
  readonly status_url: string;
  readonly approval_url: string;
  readonly rejection_url: string;
}

export function linksOf(publicUrl: string | null, id: string): ApprovalLinks {
  const base = publicUrl === null ? '' : publicUrl.replace(/\/+$/, '');
  return {
    status_url: `${base}/approvals/${id}`,
    approval_url: `${base}/approve/${id}`,
    rejection_url: `${base}/reject/${id}`,
  };
}

/** Epoch milliseconds as RFC 3339. */
export const timeText = (ms: number): string => new Date(ms).toISOString();
const timeOrNull = (ms: number | null): string | null => (ms === null ? null : timeText(ms));

/** One approval as its requester and approvers see it: no secret, and never the token. */
export interface ApprovalView extends ApprovalLinks {
  readonly approval_id: string;
  readonly state: ApprovalState;
  readonly action: string;
  readonly server_name: string | null;
  readonly tool_name: string | null;
  readonly resource: string;
  readonly parameters: unknown;
  readonly arguments_digest: string;
  readonly schema_hash: string | null;
  readonly tool_type: string;
  readonly sensitivity_level: string;
  readonly classification_reasons: readonly string[];
  readonly resources: readonly string[];
  readonly reasons: readonly { readonly code: string; readonly message: string }[];
  readonly policy_revision: string;
  readonly requester: ApprovalRecord['requester'];
  readonly request_id: string;
  readonly source_ip: string;
  readonly created_at: string;
  readonly expires_at: string;
  readonly decided_at: string | null;
  readonly approver_id: string | null;
  readonly decision_reason: string | null;
  readonly used_at: string | null;
}

export function viewOf(record: ApprovalRecord, publicUrl: string | null): ApprovalView {
  const { call, context } = record;
  return {
    approval_id: record.id,
    state: record.state,
    action: call.action,
    server_name: call.server,
    tool_name: call.tool,
    resource: call.resource,
    parameters: context.parameters,
    arguments_digest: call.arguments_digest,
    schema_hash: call.schema_hash,
    tool_type: call.tool_type,
    sensitivity_level: call.sensitivity_level,
    classification_reasons: context.classification_reasons,
    resources: context.resources,
    reasons: context.reasons,
    policy_revision: call.policy_revision,
    requester: record.requester,
    request_id: context.request_id,
    source_ip: context.source_ip,
    created_at: timeText(record.created_at),
    expires_at: timeText(record.expires_at),
    decided_at: timeOrNull(record.decided_at),
    approver_id: record.decided_by?.id ?? null,
    decision_reason: record.decision_reason,
    used_at: timeOrNull(record.used_at),
    ...linksOf(publicUrl, record.id),
  };
}
