/** What callers are told of approvals that are good for nothing, or not any more. Source: design 2.4, contracts 7. */
import { GatewayError } from '../core/errors.ts';
import type { ApprovalRecord } from '../stores/approvals.ts';

/** 403 `APPROVAL_INVALID`; `why` is the word for programs. */
export function invalid(why: string, message: string, id?: string): GatewayError {
  return new GatewayError('APPROVAL_INVALID', {
    message,
    reasons: [{ code: 'APPROVAL_INVALID', message }],
    data: { why, ...(id === undefined ? {} : { approval_id: id }) },
  });
}

/** Why an approval that was good once is not any more, or never was. */
export function closed(record: ApprovalRecord): GatewayError {
  switch (record.state) {
    case 'used':
      return invalid('used', 'The approval was used before; each is good for one call', record.id);
    case 'rejected':
      return invalid('rejected', `The call was rejected: ${record.decision_reason ?? 'no reason given'}`, record.id);
    case 'expired':
      return invalid('expired', 'The approval has expired; ask again', record.id);
    default:
      return invalid('not_approved', 'The call is not approved', record.id);
  }
}

/** 409: somebody, or time, decided before. */
export function decided({ id, state }: ApprovalRecord): GatewayError {
  return new GatewayError('CONFLICT', {
    message: state === 'expired' ? 'The request has expired: it counts as rejected' : `It was decided before: ${state}`,
    details: { approval_id: id, state },
  });
}

/** A call that lacks nothing but a yes, which nobody can give; `why` goes on with the sentence. */
export function unaskable(why: string): GatewayError {
  const message = `This call would need an approval, and nobody can approve it: ${why}`;
  return new GatewayError('POLICY_DENIED', { message, reasons: [{ code: 'POLICY_DENIED', message }] });
}
