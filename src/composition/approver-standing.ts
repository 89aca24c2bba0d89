/** Whether somebody who said yes to a call may still say anything: their yes is worth nothing otherwise. Source: security 2.10. */
import type { Config } from '../config/schema.ts';
import { makePrincipal } from '../core/principal.ts';
import type { Switchboard } from '../pipeline/switchboard.ts';
import type { AccountStore } from '../stores/accounts.ts';
import type { ApiKeyStore } from '../stores/api-keys.ts';
import type { ApprovalRecord, Approver } from '../stores/approvals.ts';

export interface ApproverStanding {
  readonly switches: Pick<Switchboard, 'refusalOf'>;
  readonly accounts: { readonly store: Pick<AccountStore, 'find'> };
  readonly keys: Pick<ApiKeyStore, 'find'>;
}

/**
 * True for who is switched off, for an account here that is disabled or gone, and for a key that was revoked, which may have
 * been stolen: one that just ended was good. Of people elsewhere no more is known.
 */
export function approverOff({ identity }: Pick<Config, 'identity'>, { switches, accounts, keys }: ApproverStanding) {
  return async ({ tenant_id }: Pick<ApprovalRecord, 'tenant_id'>, approver: Approver): Promise<boolean> => {
    const { id, key_id, provider } = approver;
    const principal = makePrincipal({ id, tenant_id, auth: { key_id } }, 'approvals', 'none');
    if (switches.refusalOf(principal) !== null) return true;
    const kind = provider === undefined ? undefined : identity[provider]?.kind;
    if (kind === 'api-key') {
      const key = await keys.find(key_id ?? '');
      return key === null || key.revoked_at !== null;
    }
    if (kind !== 'local') return false;
    const account = await accounts.store.find(id);
    return account === null || !account.is_active || account.tenant_id !== tenant_id;
  };
}
