/** Tells every gateway that an account or one of its sessions is no longer what it was. The database is the truth. */
import type { Shared } from '../stores/shared.ts';

const CHANNEL = 'identity:account-changed';

/** Empties what is remembered of this account. */
export function announceAccountChange(shared: Shared, accountId: string): Promise<void> {
  return shared.publish(CHANNEL, accountId);
}

/** Calls `listener` with the id of each account that changed. Returns the way to stop. */
export function onAccountChange(shared: Shared, listener: (accountId: string) => void): () => void {
  return shared.subscribe(CHANNEL, listener);
}
