/** An MCP server behind the gateway. */
import type { ServerFacts } from '../../classification/classifier.ts';
import type { Principal } from '../../core/principal.ts';
import type { Upstream } from '../../upstreams/upstream.ts';

/** A configured server as this protocol needs it. */
export interface McpServer {
  readonly facts: ServerFacts;
  readonly upstream: Upstream;
  /** The gateway's own credential for this server, as request headers; the caller's never leaves. */
  readonly credential: Readonly<Record<string, string>> | null;
  /** The header with a caller's signed identity for this server. Absent: it is sent none. */
  readonly identity?: (principal: Principal, requestId: string) => Readonly<Record<string, string>> | null;
  readonly headersTimeoutMs: number;
  readonly idleTimeoutMs: number;
}

/** Path of the MCP endpoint on its upstream. */
export function endpointOf(server: McpServer): string {
  return server.upstream.basePath === '' ? '/' : server.upstream.basePath;
}
