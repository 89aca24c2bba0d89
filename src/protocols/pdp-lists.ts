/**
 * `GET /api/v1/gateway/servers` and `/tools`: what the policy lets somebody see, for gateways that show a catalogue of
 * their own. Source: acceptance SW-01.
 */
import type { Call } from '../core/call.ts';
import { GatewayError } from '../core/errors.ts';
import type { Admitted } from '../core/exchange.ts';
import type { Principal } from '../core/principal.ts';
import { endpointCall } from './api.ts';
import type { Endpoint, EndpointReply, EndpointRequest } from './endpoint.ts';
import { checked } from './endpoint-body.ts';
import { serverCall, toolCall } from './mcp/calls.ts';
import type { ToolCatalog } from './mcp/catalog.ts';
import type { McpClient } from './mcp/client.ts';
import type { McpServer } from './mcp/server.ts';
import type { Advisor } from './pdp/advisor.ts';
import { GATEWAY_API } from './pdp/questions-path.ts';
import type { Person } from './pdp/schemas.ts';
import { person } from './pdp/schemas.ts';
import { isSelf, subjectOf } from './pdp/subjects.ts';
import { needs } from './pdp-api.ts';
import { describeServer, describeTool } from './tools-api.ts';

export interface ListingOptions {
  readonly advisor: Advisor;
  readonly servers: ReadonlyMap<string, McpServer>;
  readonly catalog: ToolCatalog;
  readonly client: McpClient;
  /** Somebody of a tenant by id, with what the gateway itself knows; null when it knows nobody by that id. */
  find(tenant: string, id: string, now: number): Promise<Principal | null>;
  /** What an upstream is told of the caller. */
  identityHeaders(exchange: Admitted): Readonly<Record<string, string>>;
}

type Request = EndpointRequest<undefined>;

export function listingEndpoints(options: ListingOptions): readonly Endpoint[] {
  return [
    listing(`${GATEWAY_API}/servers`, 'gateway:servers:read', (request) => answerServers(options, request)),
    listing(`${GATEWAY_API}/tools`, 'gateway:tools:read', (request) => answerTools(options, request)),
  ];
}

function listing(path: string, permission: string, answer: (request: Request) => Promise<EndpointReply>): Endpoint {
  return {
    method: 'GET',
    path,
    access: 'authenticated',
    body: null,
    call: ({ exchange, query }) =>
      endpointCall(exchange, path, needs(permission, !isSelf(exchange.principal, personIn(query)))),
    answer: (request) => answer(request as Request),
  };
}

/** `user_id` with the roles that user has, as the caller knows them: `roles=a,b` or several `roles`. */
function personIn(query: URLSearchParams): Person | null {
  const id = query.get('user_id');
  if (id === null) return null;
  const roles = query.getAll('roles').flatMap((text) => text.split(',').filter((role) => role !== ''));
  return checked(person, { id, roles }, 'INVALID_REQUEST');
}

async function asSubject(options: ListingOptions, { exchange, query }: Request): Promise<Admitted> {
  const { principal: caller, received } = exchange;
  const person = personIn(query);
  const stated = subjectOf(caller, person);
  if (stated === caller) return await options.advisor.as(exchange, caller);
  // Who is only named is taken for what the gateway knows of that name; nobody known sees what nobody may see.
  const known = query.has('roles') ? null : await found(options, caller.tenant_id, stated.id, received.receivedAt);
  return await options.advisor.as(exchange, known ?? stated);
}

async function found({ find }: ListingOptions, tenant: string, id: string, now: number): Promise<Principal | null> {
  try {
    return await find(tenant, id, now);
  } catch (cause) {
    throw new GatewayError('STORE_UNAVAILABLE', { retryAfter: 1, cause });
  }
}

async function answerServers(options: ListingOptions, request: Request): Promise<EndpointReply> {
  const as = await asSubject(options, request);
  const visible = seen(options, as, [...options.servers.values()], ({ facts }) =>
    serverCall('gateway:server:list', facts.name),
  );
  const wanted = request.query.get('include_tools');
  const isWithTools = wanted === 'true' || wanted === '1';
  const found = isWithTools ? await toolsOf(options, request.exchange, as, visible) : null;
  const servers = visible.map((server) => {
    const known = describeServer(server);
    if (found === null) return known;
    const tools = found.byServer.get(server);
    return tools === undefined ? { ...known, tools: [], tools_available: false } : { ...known, tools };
  });
  return { status: 200, body: { servers } };
}

async function answerTools(options: ListingOptions, request: Request): Promise<EndpointReply> {
  const as = await asSubject(options, request);
  const name = request.query.get('server_name');
  const only = name === null ? null : options.servers.get(name);
  if (only === undefined) throw new GatewayError('SERVER_NOT_FOUND');
  const all = only === null ? [...options.servers.values()] : [only];
  const visible = seen(options, as, all, ({ facts }) => serverCall('gateway:server:list', facts.name));
  // What one may not see is as if it were not there.
  if (only !== null && visible.length === 0) throw new GatewayError('SERVER_NOT_FOUND');
  const wanted = request.query.get('tool_name');
  const { byServer, errors } = await toolsOf(options, request.exchange, as, visible, wanted);
  const tools = visible.flatMap((server) => byServer.get(server) ?? []);
  // Of a server that does not answer nobody knows what it has.
  if (wanted !== null && tools.length === 0 && errors.length === 0) throw new GatewayError('TOOL_NOT_FOUND');
  return { status: 200, body: errors.length === 0 ? { tools } : { tools, errors } };
}

interface FoundTools {
  readonly byServer: ReadonlyMap<McpServer, readonly object[]>;
  readonly errors: readonly { readonly server_name: string; readonly code: string }[];
}

/** Upstream the caller asks, for it holds the connection; what is shown is what the subject may see. */
async function toolsOf(
  options: ListingOptions,
  caller: Admitted,
  as: Admitted,
  servers: readonly McpServer[],
  wanted: string | null = null,
): Promise<FoundTools> {
  const { client, identityHeaders } = options;
  const by = { principal: caller.principal, headers: identityHeaders(caller), signal: caller.received.signal };
  const byServer = new Map<McpServer, readonly object[]>();
  const errors: { server_name: string; code: string }[] = [];
  const ask = async (server: McpServer): Promise<void> => {
    if (!server.facts.enabled) return;
    const { name } = server.facts;
    try {
      const all = await client.listTools(server, by);
      const tools = wanted === null ? all : all.filter((tool) => tool.name === wanted);
      const shown = seen(options, as, tools, (tool) => toolCall(options, name, String(tool.name), null));
      byServer.set(
        server,
        shown.map((tool) => describeTool(server, tool)),
      );
    } catch (thrown) {
      if (!(thrown instanceof GatewayError)) throw thrown;
      errors.push({ server_name: name, code: thrown.code });
    }
  };
  await Promise.all(servers.map(ask));
  return { byServer, errors };
}

/** The things the policy lets the subject see. */
function seen<T>(
  { advisor }: Pick<ListingOptions, 'advisor'>,
  as: Admitted,
  things: readonly T[],
  callOf: (thing: T) => Call,
): readonly T[] {
  if (things.length === 0) return things;
  if (advisor.isOff(as.principal)) return [];
  const decisions = advisor.judge(as, things.map(callOf));
  return things.filter((_, at) => decisions[at]?.allow === true && decisions[at]?.failure === null);
}
