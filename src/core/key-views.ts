/** Keys as the gateway's interface for them writes them: what the client's callers read. Source: acceptance H-17. */

export interface NewKey {
  readonly name: string;
  readonly service_id?: string;
  readonly environment?: 'production' | 'staging' | 'test' | 'development';
  readonly scopes?: readonly string[];
  readonly permissions?: readonly string[];
  readonly roles?: readonly string[];
  readonly allowed_ips?: readonly string[];
  readonly rate_limit_per_hour?: number;
  readonly expires_at?: string;
  readonly expires_in_days?: number;
  readonly owner_id?: string;
}

/** What may be seen of a key. Times are RFC 3339. */
export interface KeyView {
  readonly key_id: string;
  readonly name: string;
  readonly environment: string;
  readonly service_id: string | null;
  readonly owner_id: string;
  readonly scopes: readonly string[];
  readonly permissions: readonly string[];
  readonly roles: readonly string[];
  readonly allowed_ips: readonly string[];
  readonly rate_limit_per_hour: number | null;
  readonly created_at: string;
  readonly expires_at: string | null;
  readonly revoked_at: string | null;
  readonly last_used_at: string | null;
  readonly replaced_by: string | null;
}

/** The text of a key is in no later answer. */
export interface NewKeyView extends KeyView {
  readonly api_key: string;
}

export interface KeyUsage {
  readonly key_id: string;
  readonly created_at: string;
  readonly last_used_at: string | null;
  readonly uses: { readonly total: number; readonly last_24_hours: number };
}
