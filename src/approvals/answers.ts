/** What is told a caller whose call a person has to approve first. Source: design 2.4, contracts 7. */
import type { Decision } from '../core/decision.ts';
import type { ErrorCode, ErrorExtras, PublicReason } from '../core/errors.ts';
import type { ApprovalRecord } from '../stores/approvals.ts';
import { linksOf, timeText } from './approval.ts';

const ASKED = 'This call needs the approval of another person';

/** The error for a call whose request for approval stands so. */
export function answerOf(
  record: ApprovalRecord,
  decision: Decision,
  { publicUrl, request_id }: { readonly publicUrl: string | null; readonly request_id: string },
): { readonly code: ErrorCode; readonly extras: ErrorExtras } {
  const { id, expires_at, state } = record;
  const links = linksOf(publicUrl, id);
  const data = { approval_id: id, state, ...links, expires_at: timeText(expires_at), ...toolCalls(record) };
  if (state === 'rejected') {
    const why = record.decision_reason;
    return {
      code: 'APPROVAL_INVALID',
      extras: {
        message: `The call was rejected by an approver${why === null ? '' : `: ${why}`}`,
        reasons: [{ code: 'APPROVAL_INVALID', message: 'The call was rejected' }],
        data: { ...data, why: 'rejected', rejection_reason: why, decision_id: decision.decision_id, request_id },
      },
    };
  }
  const next =
    state === 'approved'
      ? `Another person approved this call (approval ${id})`
      : `Another person has to approve this call (approval ${id})`;
  const message =
    `Human intervention required. ${next}. Read ${links.status_url} until its state is "approved"; then repeat the ` +
    'very same call with the token given there, as _meta["portcullis/approval"] or in the header X-Approval-Token, ' +
    `before ${timeText(expires_at)}.`;
  const reasons = reasonsOf(decision);
  return {
    code: 'APPROVAL_REQUIRED',
    extras: { message, reasons, data: { ...data, decision_id: decision.decision_id, request_id } },
  };
}

function toolCalls({ call }: ApprovalRecord): { readonly tool_calls?: readonly object[] } {
  return call.tool === null ? {} : { tool_calls: [{ server_name: call.server, tool_name: call.tool }] };
}

/** The words of the rule that asks for it, where it has some. */
export function reasonsOf({ deny, obligations }: Decision): readonly PublicReason[] {
  for (const obligation of obligations) {
    if (obligation.type !== 'require_approval' || obligation.reason === undefined) continue;
    return [{ code: 'APPROVAL_REQUIRED', message: obligation.reason }];
  }
  if (deny.length > 0) return deny.map(({ code, message }) => ({ code, message }));
  return [{ code: 'APPROVAL_REQUIRED', message: ASKED }];
}
