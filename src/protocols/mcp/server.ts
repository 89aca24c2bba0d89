/** An MCP server behind the gateway. */
import type { ServerFacts } from '../../classification/classifier.ts';
import type { Principal } from '../../core/principal.ts';
import type { Upstream } from '../../upstreams/upstream.ts';

/** What a token for a tool is asked for. Source: acceptance TW-05. */
export interface ToolLogin {
  readonly auth_type: 'oauth2';
  /** The issuer. */
  readonly auth_server: string;
  readonly scopes: readonly string[];
}

/** A configured server as this protocol needs it. */
export interface McpServer {
  readonly facts: ServerFacts;
  readonly upstream: Upstream;
  /** The gateway's own credential for this server, as request headers; the caller's never leaves. */
  readonly credential: Readonly<Record<string, string>> | null;
  /** The header with a caller's signed identity for this server. Absent: it is sent none. */
  readonly identity?: (principal: Principal, requestId: string) => Readonly<Record<string, string>> | null;
  /** Where a caller's token for a tool comes from. Absent: no authorization server is known for it. */
  readonly login?: (tool: string) => ToolLogin;
  readonly headersTimeoutMs: number;
  readonly idleTimeoutMs: number;
}

/** Path of the MCP endpoint on its upstream. */
export function endpointOf(server: McpServer): string {
  return server.upstream.basePath === '' ? '/' : server.upstream.basePath;
}
