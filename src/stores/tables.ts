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

export interface Tables {
  portcullis_migrations: MigrationRow;
  api_keys: ApiKeyRow;
}
