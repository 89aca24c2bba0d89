/** Makes the decision API of one generation: the same classification, policy and counters as the data path. */
import { adviceDraft, reportDraft } from '../audit/advice.ts';
import type { Config } from '../config/schema.ts';
import type { ErrorCode } from '../core/errors.ts';
import type { Route } from '../core/route.ts';
import { keyOwners } from '../identity/directory.ts';
import type { AdvisorParts } from '../pipeline/advise.ts';
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
import { a2aEndpoint, pdpEndpoints } from '../protocols/pdp-api.ts';
import { listingEndpoints } from '../protocols/pdp-lists.ts';
import type { ProtocolParts } from './protocol-set.ts';
import { buildRoutes } from './routes.ts';

/** What the protocols of the generation share. */
export interface SharedParts {
  readonly servers: ReadonlyMap<string, McpServer>;
  readonly catalog: ToolCatalog;
  readonly client: McpClient;
  readonly models: ReadonlyMap<string, ModelEntry>;
}

/** The routes that lead to the server or the model that a call is about. */
function routesByTarget(config: Config): AdvisorParts['routesOf'] {
  const servers = new Map<string, Route[]>();
  const models = new Map<string, Route[]>();
  const add = (to: Map<string, Route[]>, name: string, route: Route) => to.set(name, [...(to.get(name) ?? []), route]);
  for (const route of buildRoutes(config)) {
    if (route.server !== null) add(servers, route.server, route);
    for (const model of route.models) add(models, model, route);
  }
  return ({ server, resource }) => {
    if (server !== null) return servers.get(server) ?? [];
    return resource.type === 'model' ? (models.get(resource.id) ?? []) : [];
  };
}

export function decisionEndpoints(parts: ProtocolParts, shared: SharedParts): readonly Endpoint[] {
  const { config, judge, classify, admission, platform } = parts;
  const { servers, catalog, client } = shared;
  const advisor = createAdvisor({ classify, judge, admission, routesOf: routesByTarget(config) });
  const options: PdpOptions = {
    advisor,
    servers,
    catalog,
    models: new ModelCatalog([...shared.models.values()]),
    onAdvice: (exchange, advice, askedBy) => platform.audit.record(adviceDraft(exchange, advice, askedBy)),
    onReport: (exchange, report) => platform.audit.record(reportDraft(exchange, report)),
  };
  const { gateway, a2a } = config.decision_api;
  const directory = keyOwners(platform.keys);
  const publicUrl = config.public_url?.replace(/\/+$/, '');
  return [
    ...unless(gateway, 'GATEWAY_NOT_ENABLED', [
      ...pdpEndpoints(options),
      ...unless(a2a, 'A2A_NOT_ENABLED', [a2aEndpoint(options) as Endpoint]),
      ...listingEndpoints({
        ...{ advisor, servers, catalog, client, identityHeaders },
        find: (tenant, id, now) => directory.find(tenant, id, now),
      }),
    ]),
    ...authZenEndpoints({
      ...options,
      baseUrl: ({ received: { peer, headers } }) =>
        publicUrl ?? `${peer.encrypted ? 'https' : 'http'}://${headers.host ?? peer.host}`,
    }),
  ];
}

/** The endpoints as they are where they are enabled; otherwise each says that it is not. */
function unless(isEnabled: boolean, code: ErrorCode, endpoints: readonly Endpoint[]): readonly Endpoint[] {
  return isEnabled ? endpoints : endpoints.map((endpoint) => ({ ...endpoint, off: code }));
}
