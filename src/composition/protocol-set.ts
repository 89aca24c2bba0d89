/** Makes the protocols of one generation and hands each the few things it needs. */

import type { Approvals } from '../approvals/approvals.ts';
import type { ServerFacts } from '../classification/classifier.ts';
import type { Config } from '../config/schema.ts';
import type { Judge } from '../core/exchange.ts';
import type { ProtocolName } from '../core/route.ts';
import { upstreamHeaders } from '../http/headers.ts';
import type { Admission } from '../pipeline/stages/admit.ts';
import type { Classify } from '../pipeline/stages/classify.ts';
import { identityHeaders } from '../pipeline/stages/forward.ts';
import { createApiProtocol } from '../protocols/api.ts';
import { withRequestId } from '../protocols/authzen.ts';
import type { Endpoint } from '../protocols/endpoint.ts';
import type { ModelEntry } from '../protocols/llm/models.ts';
import { createOpenAiProtocol } from '../protocols/llm/openai.ts';
import { ToolCatalog } from '../protocols/mcp/catalog.ts';
import { McpClient } from '../protocols/mcp/client.ts';
import { Definitions } from '../protocols/mcp/definitions.ts';
import { createMcpProtocol } from '../protocols/mcp/protocol.ts';
import type { McpServer } from '../protocols/mcp/server.ts';
import { createHttpProtocol } from '../protocols/plain-http.ts';
import { problem } from '../protocols/problem.ts';
import type { Protocol } from '../protocols/protocol.ts';
import { createToolsProtocol } from '../protocols/tools-api.ts';
import type { AccountService } from './account-set.ts';
import type { Platform } from './assembly.ts';
import { buildEndpoints } from './endpoints.ts';
import { credentialHeaders } from './routes.ts';
import { toolLogins } from './tool-logins.ts';
import type { UpstreamIdentities } from './upstream-identity.ts';
import type { Upstreams } from './upstream-set.ts';

export interface ProtocolParts {
  readonly config: Config;
  readonly platform: Platform;
  readonly servers: ReadonlyMap<string, ServerFacts>;
  readonly upstreams: Upstreams;
  readonly identities: UpstreamIdentities;
  readonly judge: Judge;
  readonly classify: Classify;
  readonly admission: Admission;
  readonly approvals: Approvals;
  /** Null while the gateway keeps no accounts. */
  readonly accounts: AccountService | null;
  /** Endpoints that were made before: those on tokens need the authenticators. */
  readonly endpoints: readonly Endpoint[];
}

export function buildProtocols(parts: ProtocolParts): Readonly<Record<ProtocolName, Protocol>> {
  const { judge, platform, upstreams } = parts;
  const servers = mcpServers(parts);
  const catalog = new ToolCatalog();
  const client = new McpClient(catalog);
  const definitions = new Definitions({ servers, client, catalog, identityHeaders });
  const models = modelEntries(parts);
  return {
    mcp: createMcpProtocol({
      servers,
      judge,
      logger: platform.logging.component('mcp'),
      catalog,
      definitions,
      problem,
    }),
    tools: createToolsProtocol({
      servers,
      client,
      catalog,
      definitions,
      judge,
      problem,
      identityHeaders,
    }),
    llm: createOpenAiProtocol({ models }),
    http: createHttpProtocol({ upstreamHeaders, basePath: (name) => upstreams.http.get(name)?.basePath ?? '' }),
    api: createApiProtocol({
      endpoints: buildEndpoints(parts, { servers, catalog, client, models }),
      problem: withRequestId(problem),
    }),
  };
}

function mcpServers({ config, servers, upstreams, identities }: ProtocolParts): ReadonlyMap<string, McpServer> {
  const found = new Map<string, McpServer>();
  const logins = toolLogins(config);
  for (const [name, facts] of servers) {
    const server = config.servers[name];
    const upstream = upstreams.mcp.get(name);
    if (server === undefined || upstream === undefined) continue;
    const login = logins.get(name);
    const tokens = identities.tokens.get(`mcp:${name}`);
    found.set(name, {
      ...(tokens === undefined ? null : { identity: (who, request) => tokens.headers(who, request) }),
      ...(login === undefined ? null : { login }),
      facts,
      upstream,
      credential: credentialHeaders(server.credential),
      headersTimeoutMs: server.headers_timeout_ms,
      idleTimeoutMs: server.idle_timeout_ms,
    });
  }
  return found;
}

function modelEntries({ config, upstreams }: ProtocolParts): ReadonlyMap<string, ModelEntry> {
  const entries = Object.entries(config.models).map(([name, model]): [string, ModelEntry] => [
    name,
    { name, serves: model.serves, basePath: upstreams.llm.get(name)?.basePath ?? '' },
  ]);
  return new Map(entries);
}
