/** The words of the account service: what callers see of an account, and what it reports. Source: contracts 6, acceptance V-06, V-07, V-35. */
import type { AccountEvent as AuditEvent } from '../audit/event.ts';
import type { AccountRecord } from '../stores/accounts.ts';

/** Where a request came from, for the audit. */
export interface Origin {
  readonly request_id: string | null;
  readonly source_ip: string;
  readonly user_agent: string | null;
  /** Epoch milliseconds at which the request came in. */
  readonly now: number;
}

export type AccountEventType = AuditEvent['event_type'];

/** One thing that happened. `account`: whose it is, null where the name belongs to nobody. */
export interface AccountEvent {
  readonly type: AccountEventType;
  readonly origin: Origin | null;
  readonly account: Pick<AccountRecord, 'id' | 'tenant_id'> | null;
  readonly session_id: string | null;
  readonly key_id: string | null;
  readonly details: Readonly<Record<string, unknown>>;
}

/** Patterns that somebody should look at. */
export type SuspiciousPattern = 'account_locked' | 'refresh_token_reused' | 'authorization_code_reused';

/** Told of what happens; never throws. */
export interface AccountReports {
  event(event: AccountEvent): void;
  suspicious(pattern: SuspiciousPattern, event: Omit<AccountEvent, 'type' | 'key_id'>): void;
  /** A refresh: for figures. */
  refreshed(outcome: 'ok' | 'refused' | 'reused'): void;
}

const time = (ms: number): string => new Date(ms).toISOString();

/** An account as it is shown: never its hash. */
export interface AccountView {
  readonly id: string;
  readonly username: string;
  readonly email: string;
  readonly full_name: string | null;
  readonly role: string;
  readonly is_active: boolean;
  readonly is_verified: boolean;
  readonly created_at: string;
  readonly last_login: string | null;
}

export function viewOf(record: AccountRecord): AccountView {
  return {
    id: record.id,
    username: record.username,
    email: record.email,
    full_name: record.full_name,
    role: record.role,
    is_active: record.is_active,
    is_verified: record.is_verified,
    created_at: time(record.created_at),
    last_login: record.last_login_at === null ? null : time(record.last_login_at),
  };
}

/** What login and refresh answer. */
export interface TokenPair {
  readonly access_token: string;
  readonly refresh_token: string;
  readonly token_type: 'bearer';
  /** Seconds. */
  readonly expires_in: number;
  readonly user_id: string;
  readonly username: string;
  readonly role: string;
  /** True where nothing but enrolling a second factor is possible with these tokens. */
  readonly mfa_enrolment_required?: boolean;
}
