/**
 * Whether a caller is still what a gateway remembers. A credential that was checked a moment ago may have been withdrawn
 * elsewhere since: for a call that is soon over, and for nothing that outlives it, such as a key or an account.
 * Source: acceptance VF-03, VF-09, VF-17.
 */
import { GatewayError } from '../core/errors.ts';
import type { Admitted } from '../core/exchange.ts';
import type { Principal } from '../core/principal.ts';
import type { ApiKeyStore } from '../stores/api-keys.ts';
import type { SessionStore } from '../stores/sessions.ts';

export interface StandingOptions {
  readonly sessions: Pick<SessionStore, 'standing'>;
  readonly keys: Pick<ApiKeyStore, 'find'>;
  /** What kind of provider has this name. */
  kindOf(provider: string): string | undefined;
  needsSecondFactor(role: string): boolean;
}

/** Who asks, and when. */
export interface Asking {
  readonly principal: Admitted['principal'];
  readonly received: Pick<Admitted['received'], 'receivedAt'>;
}

/** @throws GatewayError INVALID_CREDENTIALS where the database says otherwise by now */
export type RequireStanding = (exchange: Asking) => Promise<void>;

/** Asks the database, past everything that is remembered. Callers of other kinds are nowhere else than in their credential. */
export function standingCheck(options: StandingOptions): RequireStanding {
  return async ({ principal, received }) => {
    const kind = options.kindOf(principal.auth.provider);
    const now = received.receivedAt;
    const isGood =
      kind === 'local'
        ? await isSessionGood(options, principal, now)
        : kind !== 'api-key' || (await isKeyGood(options, principal, now));
    if (!isGood) throw new GatewayError('INVALID_CREDENTIALS', { challenge: 'Bearer realm="portcullis"' });
  };
}

async function isSessionGood(
  { sessions, needsSecondFactor }: StandingOptions,
  { id, roles, auth }: Principal,
  now: number,
): Promise<boolean> {
  const standing = await sessions.standing(auth.session_id ?? '');
  if (standing === null || standing.account_id !== id || !standing.is_active) return false;
  if (standing.revoked_at !== null || standing.expires_at <= now) return false;
  if (standing.mfa_at === null && needsSecondFactor(standing.role)) return false;
  return roles.every((role) => role === standing.role);
}

async function isKeyGood({ keys }: StandingOptions, { auth }: Principal, now: number): Promise<boolean> {
  const record = await keys.find(auth.key_id ?? '');
  return record !== null && record.revoked_at === null && (record.expires_at === null || record.expires_at > now);
}
