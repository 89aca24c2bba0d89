/** The tables as the query builder sees them. Times are epoch milliseconds. Booleans and lists live in JSON text: portable SQL. */

export interface MigrationRow {
  version: number;
  name: string;
  applied_at: number;
}

export interface ApiKeyRow {
  id: string;
  tenant_id: string;
  owner_id: string;
  name: string;
  prefix: string;
  environment: string;
  hash: string;
  facts: string;
  created_at: number;
  expires_at: number | null;
  revoked_at: number | null;
  last_used_at: number | null;
  replaced_by: string | null;
}

export interface ApprovalRow {
  id: string;
  tenant_id: string;
  state: string;
  open_key: string | null;
  requester_id: string;
  facts: string;
  created_at: number;
  expires_at: number;
  decided_at: number | null;
  decided_by: string | null;
  decision_reason: string | null;
  token_id: string | null;
  used_at: number | null;
}

export interface SwitchRow {
  id: string;
  kind: string;
  name: string;
  within: string;
  reason: string;
  is_public: number;
  created_at: number;
  created_by: string;
  until: number | null;
}

/** One row: grows with every change of `switches`. */
export interface SwitchVersionRow {
  version: number;
}

export interface AccountRow {
  id: string;
  tenant_id: string;
  username: string;
  /** As names are compared: lower case. */
  username_key: string;
  email: string;
  email_key: string;
  password_hash: string;
  full_name: string | null;
  role: string;
  is_active: number;
  is_verified: number;
  created_at: number;
  updated_at: number;
  last_login_at: number | null;
}

export interface AccountPasswordRow {
  id: string;
  account_id: string;
  password_hash: string;
  replaced_at: number;
}

export interface AccountLockRow {
  name: string;
  failures: number;
  strikes: number;
  locked_until: number;
  updated_at: number;
}

export interface AccountBootstrapRow {
  digest: string;
  created_at: number;
  expires_at: number;
  used_at: number | null;
}

export interface AccountSessionRow {
  id: string;
  account_id: string;
  generation: number;
  source: string;
  created_at: number;
  rotated_at: number;
  expires_at: number;
  revoked_at: number | null;
  /** The newest access token; empty for the session of a browser. */
  token_id: string;
  token_until: number;
  /** When a second factor was shown last. */
  mfa_at: number | null;
  /** Digest of the cookie of a browser's session. */
  cookie: string | null;
  /** When a browser's session ends unless it is used before. */
  idle_until: number | null;
}

export interface AccountTokenRow {
  token_id: string;
  session_id: string;
  until: number;
}

export interface AccountTotpRow {
  account_id: string;
  secret_box: string;
  created_at: number;
  confirmed_at: number | null;
  /** The time step of the last code that was taken. */
  last_step: number;
}

export interface AccountRecoveryCodeRow {
  digest: string;
  account_id: string;
  used_at: number | null;
}

export interface SigningKeyRow {
  kid: string;
  algorithm: string;
  generation: number;
  public_jwk: string;
  private_box: string;
  created_at: number;
  active_at: number;
}

export interface KeyUsageRow {
  key_id: string;
  hour: number;
  uses: number;
}

export interface SharedValueRow {
  key: string;
  value: string;
  until: number;
}

export interface SharedMessageRow {
  id: string;
  channel: string;
  message: string;
  sent_at: number;
}

export interface OAuthEntryRow {
  kind: string;
  /** Digest of what the entry is called by. */
  id: string;
  sealed: string;
  grant_id: string | null;
  uid: string | null;
  consumed_at: number | null;
  expires_at: number;
}

export interface AccountIdentityRow {
  issuer: string;
  subject: string;
  account_id: string;
  created_at: number;
}

export interface Tables {
  portcullis_migrations: MigrationRow;
  api_keys: ApiKeyRow;
  switches: SwitchRow;
  switch_version: SwitchVersionRow;
  approvals: ApprovalRow;
  accounts: AccountRow;
  account_passwords: AccountPasswordRow;
  account_locks: AccountLockRow;
  account_bootstraps: AccountBootstrapRow;
  account_sessions: AccountSessionRow;
  account_tokens: AccountTokenRow;
  account_totp: AccountTotpRow;
  account_recovery_codes: AccountRecoveryCodeRow;
  signing_keys: SigningKeyRow;
  key_usage: KeyUsageRow;
  shared_values: SharedValueRow;
  shared_messages: SharedMessageRow;
  oauth_entries: OAuthEntryRow;
  account_identities: AccountIdentityRow;
}
