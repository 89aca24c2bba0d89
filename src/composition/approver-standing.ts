/** Whether somebody who said yes to a call may still say anything: their yes is worth nothing otherwise. Source: security 2.10. */
import type { Config } from '../config/schema.ts';
import { makePrincipal } from '../core/principal.ts';
import type { Switchboard } from '../pipeline/switchboard.ts';
import type { AccountStore } from '../stores/accounts.ts';
import type { ApprovalRecord, Approver } from '../stores/approvals.ts';

export interface ApproverStanding {
  readonly switches: Pick<Switchboard, 'refusalOf'>;
  readonly accounts: { readonly store: Pick<AccountStore, 'find'> };
}

/** True for who is switched off, and for an account here that is disabled or gone. Of people elsewhere no more is known. */
export function approverOff({ identity }: Pick<Config, 'identity'>, { switches, accounts }: ApproverStanding) {
  return async ({ tenant_id }: Pick<ApprovalRecord, 'tenant_id'>, approver: Approver): Promise<boolean> => {
    const { id, key_id, provider } = approver;
    const principal = makePrincipal({ id, tenant_id, auth: { key_id } }, 'approvals', 'none');
    if (switches.refusalOf(principal) !== null) return true;
    if (provider === undefined || identity[provider]?.kind !== 'local') return false;
    const account = await accounts.store.find(id);
    return account === null || !account.is_active || account.tenant_id !== tenant_id;
  };
}
