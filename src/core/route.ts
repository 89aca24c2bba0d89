/** What serves a path. Built once from config, immutable, shared by all requests. */

export type ProtocolName = 'mcp' | 'llm' | 'http' | 'tools' | 'api';

export interface PermissionRule {
  readonly allOf?: readonly string[];
  readonly anyOf?: readonly string[];
}

export interface RouteLimits {
  /** Bytes of request body; more is 413. */
  readonly body_bytes: number;
  /** Milliseconds until the upstream's response headers. */
  readonly headers_timeout_ms: number;
  /** Milliseconds between two pieces of the upstream's body (also of a stream). */
  readonly idle_timeout_ms: number;
}

export interface Route {
  /** Label in metrics, logs and audit: the match itself. */
  readonly id: string;
  /** Path prefix, matched by whole segments on the canonical path. */
  readonly match: string;
  readonly protocol: ProtocolName;
  /** Names of identity providers, tried in order. */
  readonly identity: readonly string[];
  /** Only with this line may a request without any credential pass, as `anonymous`. */
  readonly anonymous: boolean;
  /** Policy entrypoint that the configuration names for this route; null: the policy's own word, or the default one. */
  readonly entrypoint: string | null;
  /** Place among the routes that a policy may bind to an entrypoint. Absent: none of them. */
  readonly place?: number | undefined;
  /** Server of an MCP route; null for others. */
  readonly server: string | null;
  /** Model entries of an LLM route, in order of preference. */
  readonly models: readonly string[];
  /** Upstream of a plain HTTP route: the name under which it is pooled. */
  readonly upstream: string | null;
  /** Replaces the match before the rest of the path when forwarding plain HTTP; null keeps the path. */
  readonly rewrite: string | null;
  /** Plain HTTP: permissions by upper-case method; `*` stands for the others. */
  readonly permissions: Readonly<Record<string, PermissionRule>>;
  /** How an MCP denial is told: JSON-RPC error, or an `isError` result a model can read. */
  readonly denial: 'error' | 'result';
  /** Send X-Tenant-ID upstream. */
  readonly tenant_header: boolean;
  /** Send X-User-ID upstream, besides X-Auth-User. Absent: no. */
  readonly user_header?: boolean;
  /** OAuth scopes that every caller must have been granted. Absent: none. */
  readonly scopes?: readonly string[];
  /** `report`: what the policy refuses is recorded and let through. Absent: it is refused. */
  readonly mode?: 'enforce' | 'report';
  readonly limits: RouteLimits;
}
