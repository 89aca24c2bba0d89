/**
 * Tools over plain JSON: POST /tools/invoke, GET /tools, GET /servers[/{name}], under the same policy as MCP.
 * Source: acceptance S-24, SW-09; contracts 2 and 4; design 2.8.
 */
import type { Call } from '../core/call.ts';
import { GatewayError } from '../core/errors.ts';
import type {
  Admitted,
  Amendment,
  Decoded,
  Judge,
  LocalPlan,
  Message,
  Permitted,
  Reply,
  Routed,
} from '../core/exchange.ts';
import type { JsonObject, JsonValue } from '../core/json.ts';
import { isJsonObject } from '../core/json.ts';
import { readBody } from './body.ts';
import { parseStrict } from './json.ts';
import { tokenIn } from './mcp/approval-token.ts';
import { serverCall, toolCall, toolNameFault } from './mcp/calls.ts';
import type { ToolCatalog } from './mcp/catalog.ts';
import type { Caller, McpClient, RpcOutcome } from './mcp/client.ts';
import type { Definitions } from './mcp/definitions.ts';
import { isJsonType } from './mcp/headers.ts';
import type { McpServer } from './mcp/server.ts';
import type { ErrorContext, Protocol } from './protocol.ts';
import { clampMembers, foldNames, hideInReply, hideMembers, withoutMembers } from './redaction.ts';

export interface ToolsApiOptions {
  readonly servers: ReadonlyMap<string, McpServer>;
  readonly client: McpClient;
  /** The one that `client` fills. */
  readonly catalog: ToolCatalog;
  /** Absent: no server is asked for its tools before a call of one is approved. */
  readonly definitions?: Definitions;
  readonly judge: Judge;
  readonly problem: Protocol['encodeError'];
  /** What an upstream is told of the caller: X-Request-ID, X-Auth-User, X-Auth-Roles, X-Tenant-ID. */
  identityHeaders(exchange: Admitted): Readonly<Record<string, string>>;
}

export function createToolsProtocol(options: ToolsApiOptions): Protocol {
  return new ToolsProtocol(options);
}

/** Methods by path below the base, for `Allow`. */
const METHODS: Readonly<Record<string, string>> = { '/tools/invoke': 'POST', '/tools': 'GET', '/servers': 'GET' };

class ToolsProtocol implements Protocol {
  readonly #options: ToolsApiOptions;

  constructor(options: ToolsApiOptions) {
    this.#options = options;
  }

  async decode(exchange: Admitted): Promise<Message> {
    const { received } = exchange;
    const path = pathBelowBase(exchange);
    const isServer = path.startsWith('/servers/') && !path.slice('/servers/'.length).includes('/');
    const method = isServer ? 'GET' : METHODS[path];
    if (method === undefined) throw new GatewayError('ROUTE_NOT_FOUND');
    if (received.method !== method) throw new GatewayError('METHOD_NOT_ALLOWED');
    const query = new URLSearchParams(received.query);
    if (path === '/tools/invoke') return this.#invoke(exchange);
    if (path === '/tools') return this.#tools(exchange, query.get('server_name'));
    const isIncluded = query.get('include_tools') === 'true' || query.get('include_tools') === '1';
    return isServer
      ? this.#server(exchange, path.slice('/servers/'.length), isIncluded)
      : this.#list(exchange, isIncluded);
  }

  encodeError(error: GatewayError, context: ErrorContext, exchange: Routed | null): Reply {
    const reply = this.#options.problem(error, context, exchange);
    if (error.code !== 'METHOD_NOT_ALLOWED' || exchange === null) return reply;
    return { ...reply, headers: { ...reply.headers, allow: METHODS[pathBelowBase(exchange)] ?? 'GET' } };
  }

  async #invoke(exchange: Admitted): Promise<Message> {
    const { received, route } = exchange;
    if (!isJsonType(received.headers['content-type'])) throw new GatewayError('UNSUPPORTED_MEDIA_TYPE');
    const body = await readBody(received, route.limits.body_bytes);
    const { serverName, toolName, parameters, approvalToken } = readInvocation(parseStrict(body));
    const server = this.#usable(serverName);
    const call = toolCall(this.#options, server.facts.name, toolName, parameters);
    const message = this.#invocation(call, server, NO_AMENDMENT);
    return approvalToken === null ? message : { ...message, approvalToken };
  }

  #invocation(call: Call, server: McpServer, { headers, hidden }: Pick<Amendment, 'headers' | 'hidden'>): Message {
    const names = foldNames(hidden);
    return local([call], 'all', async (permitted) => {
      const known = this.#caller(permitted);
      const caller = headers === null ? known : { ...known, headers: { ...known.headers, ...headers } };
      const { client } = this.#options;
      const outcome = await client.callTool(server, call.tool ?? '', call.parameters ?? {}, caller);
      if (hasFailed(outcome) && (await this.#isUnknown(server, call.tool ?? '', caller))) {
        throw new GatewayError('TOOL_NOT_FOUND');
      }
      return json(200, invocationReply(permitted, names.size === 0 ? outcome : hiddenIn(outcome, names)));
    });
  }

  /** Servers tell in many ways that they have no such tool, so their list is asked where the tool was never seen in it. */
  async #isUnknown(server: McpServer, tool: string, caller: Caller): Promise<boolean> {
    const { catalog, client } = this.#options;
    if (catalog.get(server.facts.name, tool) !== null) return false;
    try {
      // Not the catalog again: of a very long list it has the end only.
      const listed = await client.listTools(server, caller);
      return !listed.some(({ name }) => name === tool);
    } catch (thrown) {
      if (thrown instanceof GatewayError) return false;
      throw thrown;
    }
  }

  async current(exchange: Decoded): Promise<readonly Call[] | null> {
    const { calls } = exchange.message;
    const { definitions } = this.#options;
    return definitions === undefined ? calls : definitions.current(exchange, calls);
  }

  /** The list of tools or servers has no parameters and no upstream of its own; only what it shows can be hidden. */
  amend({ message }: Decoded, amendment: Amendment): Message | null {
    const [call] = message.calls;
    const { plan } = message;
    if (plan.kind !== 'local') return null;
    if (call?.action !== 'gateway:tool:invoke') {
      return amendment.hidden.length === 0 ? message : { ...message, plan: hideInReply(plan, amendment.hidden) };
    }
    const kept = withoutMembers(call.parameters ?? {}, foldNames(amendment.removed));
    const parameters = clampMembers(kept, amendment.ceilings);
    if (parameters === null || call.server === null) return null;
    return this.#invocation({ ...call, parameters }, this.#usable(call.server), amendment);
  }

  #list(exchange: Admitted, includesTools: boolean): Message {
    const servers = [...this.#options.servers.values()];
    return this.#filtered(servers, 'gateway:server:list', async (permitted, visible) => {
      const tools = includesTools ? await this.#visibleTools(exchange, this.#caller(permitted), visible) : null;
      return json(200, { servers: visible.map((server) => describe(server, tools)) });
    });
  }

  #server(exchange: Admitted, name: string, includesTools: boolean): Message {
    const server = this.#known(name);
    return this.#filtered([server], 'gateway:server:info', async (permitted, visible) => {
      // What one may not see is as if it were not there.
      if (visible.length === 0) throw new GatewayError('SERVER_NOT_FOUND');
      const tools = includesTools ? await this.#visibleTools(exchange, this.#caller(permitted), visible) : null;
      return json(200, describe(server, tools));
    });
  }

  #tools(exchange: Admitted, serverName: string | null): Message {
    const all = [...this.#options.servers.values()].filter((server) => server.facts.enabled);
    const servers = serverName === null ? all : [this.#usable(serverName)];
    return this.#filtered(servers, 'gateway:server:list', async (permitted, visible) => {
      if (serverName !== null && visible.length === 0) throw new GatewayError('SERVER_NOT_FOUND');
      const found = await this.#visibleTools(exchange, this.#caller(permitted), visible);
      const tools = visible.flatMap((server) => found.byServer.get(server) ?? []);
      return json(200, found.errors.length === 0 ? { tools } : { tools, errors: found.errors });
    });
  }

  /** Asks once per server and answers with those the caller may see. */
  #filtered(
    servers: readonly McpServer[],
    action: 'gateway:server:list' | 'gateway:server:info',
    answer: (permitted: Permitted, visible: readonly McpServer[]) => Promise<Reply>,
  ): Message {
    const calls = servers.map((server) => serverCall(action, server.facts.name));
    return local(calls, 'filter', (permitted) =>
      answer(
        permitted,
        servers.filter((_, at) => isAllowed(permitted.decisions[at])),
      ),
    );
  }

  /** A server that does not answer is named and does not hide the others. */
  async #visibleTools(exchange: Admitted, caller: Caller, servers: readonly McpServer[]): Promise<Found> {
    const byServer = new Map<McpServer, readonly object[]>();
    const errors: { server_name: string; code: string }[] = [];
    await Promise.all(
      servers.map(async (server) => {
        if (!server.facts.enabled) return;
        try {
          const tools = await this.#options.client.listTools(server, caller);
          byServer.set(server, this.#discoverable(exchange, server, tools));
        } catch (thrown) {
          if (!(thrown instanceof GatewayError)) throw thrown;
          errors.push({ server_name: server.facts.name, code: thrown.code });
        }
      }),
    );
    return { byServer, errors };
  }

  #discoverable(exchange: Admitted, server: McpServer, tools: readonly JsonObject[]): readonly object[] {
    if (tools.length === 0) return [];
    const { name } = server.facts;
    const calls = tools.map((tool) => toolCall(this.#options, name, String(tool.name), null));
    const decisions = this.#options.judge(exchange, calls);
    return tools.filter((_, at) => isAllowed(decisions[at])).map((tool) => describeTool(server, tool));
  }

  #known(name: string): McpServer {
    const server = this.#options.servers.get(name);
    if (server === undefined) throw new GatewayError('SERVER_NOT_FOUND');
    return server;
  }

  #usable(name: string): McpServer {
    const server = this.#known(name);
    if (!server.facts.enabled) throw new GatewayError('SERVER_DISABLED');
    return server;
  }

  #caller(permitted: Permitted): Caller {
    return {
      principal: permitted.principal,
      headers: this.#options.identityHeaders(permitted),
      signal: permitted.received.signal,
    };
  }
}

const NO_AMENDMENT = { headers: null, hidden: [] } as const;

const hasFailed = (outcome: RpcOutcome): boolean => outcome.kind === 'error' || outcome.result.isError === true;

function hiddenIn(outcome: RpcOutcome, names: ReadonlySet<string>): RpcOutcome {
  return outcome.kind === 'result' ? { ...outcome, result: hideMembers(outcome.result, names) } : outcome;
}

interface Found {
  readonly byServer: ReadonlyMap<McpServer, readonly object[]>;
  readonly errors: readonly { readonly server_name: string; readonly code: string }[];
}

interface Invocation {
  readonly serverName: string;
  readonly toolName: string;
  readonly parameters: JsonObject;
  readonly approvalToken: string | null;
}

/**
 * Members besides the three mean nothing, but for an approval token below `_meta`: a caller's `gateway_metadata` is not
 * believed, whatever it says.
 */
function readInvocation(body: JsonValue): Invocation {
  if (!isJsonObject(body)) throw malformed('The body must be an object');
  const { server_name: serverName, tool_name: toolName, parameters } = body;
  if (typeof serverName !== 'string' || serverName === '') throw malformed('server_name must be a name');
  const fault = toolNameFault(toolName);
  if (fault !== null || typeof toolName !== 'string') throw malformed(`tool_name ${fault}`);
  if (parameters !== undefined && parameters !== null && !isJsonObject(parameters)) {
    throw malformed('parameters must be an object');
  }
  const approvalToken = tokenIn(body);
  if (approvalToken === undefined) {
    throw new GatewayError('APPROVAL_INVALID', { message: 'The approval token must be a text' });
  }
  return { serverName, toolName, parameters: parameters ?? {}, approvalToken };
}

function malformed(message: string): GatewayError {
  return new GatewayError('INVALID_REQUEST', { message });
}

/** The part of the path that names the resource, for routes on `/tools`, `/servers` or a prefix of both. */
function pathBelowBase({ received, route }: Routed): string {
  const base = route.match.replace(/\/(?:tools|servers)?$/, '');
  return received.path.slice(base.length);
}

function local(calls: readonly Call[], mode: Message['mode'], answer: LocalPlan['answer']): Message {
  return { calls, mode, body: null, dialect: 'problem', rpcId: undefined, plan: { kind: 'local', answer } };
}

function isAllowed(decision: Permitted['decisions'][number] | undefined): boolean {
  return decision?.allow === true && decision.failure === null;
}

function json(status: number, value: object): Reply {
  return { status, headers: { 'content-type': 'application/json' }, body: JSON.stringify(value) };
}

function invocationReply(permitted: Permitted, outcome: RpcOutcome): object {
  const ids = {
    audit_id: permitted.received.id,
    request_id: permitted.received.id,
    decision_id: permitted.decisions[0]?.decision_id ?? null,
  };
  if (outcome.kind === 'error') {
    return { success: false, result: null, error: { code: outcome.code, message: outcome.message }, ...ids };
  }
  const { result } = outcome;
  const isComplete = result.resultType === undefined || result.resultType === 'complete';
  const error = isComplete ? toolError(result) : { code: 'INPUT_REQUIRED', message: 'The tool asks for more input' };
  return { success: error === null, result, error, ...ids };
}

/** What a tool says of its own failure. */
function toolError(result: JsonObject): { readonly code: string; readonly message: string } | null {
  if (result.isError !== true) return null;
  const { content } = result;
  const texts = (Array.isArray(content) ? content : []).flatMap((part: JsonValue) =>
    isJsonObject(part) && typeof part.text === 'string' ? [part.text] : [],
  );
  return { code: 'TOOL_ERROR', message: texts.join('\n') };
}

/** What callers may know of a server. */
export function describeServer({ facts }: McpServer): object {
  return {
    name: facts.name,
    description: facts.description,
    enabled: facts.enabled,
    metadata: {
      server_type: facts.type,
      environment: facts.environment,
      sensitivity_level: facts.sensitivity_level,
    },
  };
}

function describe(server: McpServer, found: Found | null): object {
  const known = describeServer(server);
  if (found === null) return known;
  const tools = found.byServer.get(server);
  return tools === undefined ? { ...known, tools: [], tools_available: false } : { ...known, tools };
}

/** A tool of a list, as the gateway's own APIs spell it. `tool_id` is for showing: names may hold dashes themselves. */
export function describeTool({ facts, login }: McpServer, tool: JsonObject): object {
  const name = String(tool.name);
  const declared = Object.hasOwn(facts.tools, name) ? facts.tools[name] : undefined;
  return {
    tool_id: `${facts.name}-${name}`,
    server_name: facts.name,
    name,
    description: tool.description ?? null,
    input_schema: tool.inputSchema ?? null,
    annotations: tool.annotations ?? null,
    governance: {
      requires_hitl: declared?.requires_hitl ?? false,
      cost: declared?.cost ?? null,
      data_sensitivity: declared?.data_sensitivity ?? null,
    },
    auth: login?.(name) ?? null,
  };
}
