/** Makes the decision API of one generation: the same classification, policy and counters as the data path. */
import { adviceDraft, reportDraft } from '../audit/advice.ts';
import { keyOwners } from '../identity/directory.ts';
import { createAdvisor } from '../pipeline/advise.ts';
import { identityHeaders } from '../pipeline/stages/forward.ts';
import { authZenEndpoints } from '../protocols/authzen.ts';
import type { Endpoint } from '../protocols/endpoint.ts';
import type { ModelEntry } from '../protocols/llm/models.ts';
import { ModelCatalog } from '../protocols/llm/models.ts';
import type { ToolCatalog } from '../protocols/mcp/catalog.ts';
import type { McpClient } from '../protocols/mcp/client.ts';
import type { McpServer } from '../protocols/mcp/server.ts';
import type { PdpOptions } from '../protocols/pdp-api.ts';
import { pdpEndpoints } from '../protocols/pdp-api.ts';
import { listingEndpoints } from '../protocols/pdp-lists.ts';
import type { ProtocolParts } from './protocol-set.ts';

/** What the protocols of the generation share. */
export interface SharedParts {
  readonly servers: ReadonlyMap<string, McpServer>;
  readonly catalog: ToolCatalog;
  readonly client: McpClient;
  readonly models: ReadonlyMap<string, ModelEntry>;
}

export function decisionEndpoints(parts: ProtocolParts, shared: SharedParts): readonly Endpoint[] {
  const { config, judge, classify, admission, platform } = parts;
  const { servers, catalog, client } = shared;
  const entrypoints = new Map(
    config.routes.flatMap((route) => (route.protocol === 'mcp' ? [[route.server, route.entrypoint ?? null]] : [])),
  );
  const advisor = createAdvisor({
    classify,
    judge,
    admission,
    entrypointOf: (server) => (server === null ? null : (entrypoints.get(server) ?? null)),
  });
  const options: PdpOptions = {
    advisor,
    servers,
    catalog,
    models: new ModelCatalog([...shared.models.values()]),
    onAdvice: (exchange, advice, askedBy) => platform.audit.record(adviceDraft(exchange, advice, askedBy)),
    onReport: (exchange, report) => platform.audit.record(reportDraft(exchange, report)),
  };
  const directory = keyOwners(platform.keys);
  const publicUrl = config.public_url?.replace(/\/+$/, '');
  return [
    ...pdpEndpoints(options),
    ...listingEndpoints({
      ...{ advisor, judge, servers, catalog, client, identityHeaders },
      find: (tenant, id, now) => directory.find(tenant, id, now),
    }),
    ...authZenEndpoints({
      ...options,
      baseUrl: ({ received: { peer, headers } }) =>
        publicUrl ?? `${peer.encrypted ? 'https' : 'http'}://${headers.host ?? peer.host}`,
    }),
  ];
}
