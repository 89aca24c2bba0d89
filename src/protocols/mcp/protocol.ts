/**
 * MCP over Streamable HTTP, one server per route, both generations passed through as they are. The received bytes are
 * what is forwarded. Source: contracts 2 and 4, mcp 1.4 and 1.5, acceptance X-12.
 */
import type { Call } from '../../core/call.ts';
import { GatewayError } from '../../core/errors.ts';
import type { Admitted, Amendment, Decoded, Judge, Message, Received, Reply, Routed } from '../../core/exchange.ts';
import type { JsonValue } from '../../core/json.ts';
import type { Logger } from '../../core/module.ts';
import { readBody } from '../body.ts';
import { parseStrict } from '../json.ts';
import type { ErrorContext, Protocol } from '../protocol.ts';
import { amendMessage } from './amend.ts';
import { errorText } from './answers.ts';
import { approvalTokenIn, withoutApprovalToken } from './approval-token.ts';
import { callsOf, protocolCall } from './calls.ts';
import { ToolCatalog } from './catalog.ts';
import type { Definitions } from './definitions.ts';
import type { DenialNote } from './denial.ts';
import { encodeDenial } from './denial.ts';
import type { Envelope, RpcCall, RpcId } from './envelope.ts';
import { badRequest, detailOf, RPC, readEnvelope, withDetail } from './envelope.ts';
import { callEra, checkMirrors, checkParams, headerEra, looksModern } from './era.ts';
import { acceptedTypes, isJsonType, upstreamHeaders } from './headers.ts';
import type { ListSpec } from './methods.ts';
import { ALL_LISTS, isUnknownMethod, methodSpec } from './methods.ts';
import { isOwner, OwnerTable } from './owners.ts';
import { ParsedLists } from './parsed-lists.ts';
import type { RewriterContext } from './rewriter.ts';
import { McpRewriter } from './rewriter.ts';
import type { McpServer } from './server.ts';
import { endpointOf } from './server.ts';

export interface McpOptions {
  readonly servers: ReadonlyMap<string, McpServer>;
  readonly judge: Judge;
  readonly logger: Logger;
  /** Renders errors of requests without a JSON-RPC message (GET, DELETE). */
  readonly problem: Protocol['encodeError'];
  /** Shared with the tools API; made here when absent. */
  readonly catalog?: ToolCatalog;
  /** Absent: no server is asked for its tools before a call of one is approved. */
  readonly definitions?: Definitions;
  /** How many sessions, and how many tasks, are remembered. */
  readonly maxHandles?: number;
}

export function createMcpProtocol(options: McpOptions): Protocol {
  return new McpProtocol(options);
}

/** What a request turned out to be. */
interface Reading {
  readonly calls: readonly Call[];
  readonly body: Buffer | null;
  readonly rpcId: RpcId | undefined;
  readonly isModern: boolean;
  readonly session: string | null;
  readonly sessionEffect: RewriterContext['sessionEffect'];
  readonly lists: readonly ListSpec[];
  readonly approvalToken?: string;
}

const NO_LISTS: readonly ListSpec[] = [];
/** A refusal has no body worth reading; an upstream that sends more is cut off. */
const MAX_IGNORED_BYTES = 65_536;

class McpProtocol implements Protocol {
  readonly #servers: ReadonlyMap<string, McpServer>;
  readonly #judge: Judge;
  readonly #logger: Logger;
  readonly #problem: Protocol['encodeError'];
  readonly #sessions: OwnerTable;
  readonly #definitions: Definitions | undefined;
  readonly #parsed = new ParsedLists();
  readonly #seen: { readonly catalog: ToolCatalog; readonly tasks: OwnerTable };
  /** Only for the few requests whose refusal is told differently. */
  readonly #notes = new WeakMap<Received, DenialNote>();

  constructor(options: McpOptions) {
    this.#servers = options.servers;
    this.#judge = options.judge;
    this.#logger = options.logger;
    this.#problem = options.problem;
    this.#definitions = options.definitions;
    this.#sessions = new OwnerTable(options.maxHandles);
    this.#seen = { catalog: options.catalog ?? new ToolCatalog(), tasks: new OwnerTable(options.maxHandles) };
  }

  async decode(exchange: Admitted): Promise<Message> {
    const { received, route } = exchange;
    if (received.path !== route.match) throw new GatewayError('ROUTE_NOT_FOUND');
    const server = route.server === null ? undefined : this.#servers.get(route.server);
    if (server === undefined) throw new GatewayError('SERVER_NOT_FOUND');
    if (received.method === 'POST') return this.#message(exchange, server, await this.#readPost(exchange, server));
    if (received.method !== 'GET' && received.method !== 'DELETE') throw new GatewayError('METHOD_NOT_ALLOWED');
    requireEnabled(server, undefined);
    return this.#message(exchange, server, this.#readBare(exchange, server));
  }

  async current(exchange: Decoded): Promise<readonly Call[] | null> {
    const { calls } = exchange.message;
    return this.#definitions === undefined ? calls : this.#definitions.current(exchange, calls);
  }

  amend({ message }: Decoded, amendment: Amendment): Message | null {
    return amendMessage(this.#seen.catalog, message, amendment);
  }

  encodeError(error: GatewayError, context: ErrorContext, exchange: Routed | null): Reply {
    if (exchange === null) return this.#problem(error, context, null);
    const { received } = exchange;
    if (received.method === 'POST') {
      return encodeDenial(error, context, detailOf(error), this.#notes.get(received));
    }
    const reply = this.#problem(error, context, exchange);
    if (error.code !== 'METHOD_NOT_ALLOWED') return reply;
    const allow = looksModern(received.headers) ? 'POST' : 'GET, POST, DELETE';
    return { ...reply, headers: { ...reply.headers, allow } };
  }

  async #readPost(exchange: Admitted, server: McpServer): Promise<Reading> {
    const { received, route } = exchange;
    const { headers } = received;
    if (!isJsonType(headers['content-type'])) throw new GatewayError('UNSUPPORTED_MEDIA_TYPE');
    const body = await readBody(received, route.limits.body_bytes);
    const envelope = readEnvelope(parseBody(body));
    requireEnabled(server, envelope.id);
    if (envelope.kind !== 'call') return this.#readAnswer(exchange, server, body, envelope);
    const token = approvalTokenIn(envelope);
    if (token === null) return this.#readCall(exchange, server, body, envelope);
    return { ...this.#readCall(exchange, server, withoutApprovalToken(body), envelope), approvalToken: token };
  }

  #readCall(exchange: Admitted, server: McpServer, body: Buffer, call: RpcCall): Reading {
    const { headers } = exchange.received;
    const isModern = callEra(headers, call) === 'modern';
    checkAccept(headers, isModern, call.id);
    if (isModern) this.#checkHeaders(server, headers, call);
    const session = isModern ? null : this.#ownSession(exchange, server, call.id);
    const spec = methodSpec(call.method, call.id === undefined, isModern);
    this.#note(exchange, call, isModern, isUnknownMethod(spec));
    return {
      calls: callsOf(this.#seen, server.facts.name, spec, call),
      body,
      rpcId: call.id,
      isModern,
      session,
      sessionEffect: call.method === 'initialize' ? 'begins' : 'none',
      lists: spec.list === null ? NO_LISTS : [spec.list],
    };
  }

  #checkHeaders(server: McpServer, headers: Received['headers'], call: RpcCall): void {
    checkMirrors(headers, call);
    const { name } = call.params;
    if (call.method !== 'tools/call' || typeof name !== 'string') return;
    const mirrored = this.#seen.catalog.get(server.facts.name, name)?.mirrored;
    if (mirrored) checkParams(headers, call, mirrored);
  }

  #note(exchange: Admitted, call: RpcCall, isModern: boolean, isUnknown: boolean): void {
    const asResult = exchange.route.denial === 'result' && call.method === 'tools/call';
    const isUnknownMethod = isUnknown && isModern;
    if (asResult || isUnknownMethod) this.#notes.set(exchange.received, { asResult, isUnknownMethod, isModern });
  }

  /** A legacy client answers what its server asked on a stream. */
  #readAnswer(exchange: Admitted, server: McpServer, body: Buffer, { id }: Envelope): Reading {
    if (headerEra(exchange.received.headers) === 'modern') {
      throw badRequest('A body must be a request or a notification', RPC.invalidRequest, id ?? null);
    }
    const session = this.#ownSession(exchange, server, undefined);
    return { ...this.#bare(server, 'response'), body, session };
  }

  /** GET opens the stream of a session, DELETE ends it; the modern era has neither. */
  #readBare(exchange: Admitted, server: McpServer): Reading {
    const { headers, method } = exchange.received;
    if (headerEra(headers) === 'modern') throw new GatewayError('METHOD_NOT_ALLOWED');
    const isEnd = method === 'DELETE';
    if (!isEnd && !acceptedTypes(headers.accept).stream) throw new GatewayError('NOT_ACCEPTABLE');
    const session = this.#ownSession(exchange, server, undefined);
    const reading = this.#bare(server, isEnd ? 'session/delete' : 'stream');
    return isEnd
      ? { ...reading, session, sessionEffect: 'ends' }
      : // A stream can replay the answer of any request, so every kind of list is looked for.
        { ...reading, session, lists: ALL_LISTS };
  }

  #bare(server: McpServer, what: string): Reading {
    return {
      calls: [protocolCall('mcp:protocol', server.facts.name, what)],
      body: null,
      rpcId: undefined,
      isModern: false,
      session: null,
      sessionEffect: 'none',
      lists: NO_LISTS,
    };
  }

  /** Unknown, foreign and forgotten sessions look the same: 404, and the client begins anew. */
  #ownSession(exchange: Admitted, server: McpServer, id: RpcId | undefined): string | null {
    const session = exchange.received.headers['mcp-session-id'];
    if (session === undefined) return null;
    if (isOwner(this.#sessions.owner(server.facts.name, session), exchange.principal)) return session;
    const error = new GatewayError('NOT_FOUND', { message: 'The session is not known; initialize again' });
    throw withDetail(error, { code: RPC.notFound, id: id ?? null });
  }

  #message(exchange: Admitted, server: McpServer, reading: Reading): Message {
    const { received } = exchange;
    const { catalog, tasks } = this.#seen;
    const headers = upstreamHeaders(received.headers, reading.isModern);
    const context: RewriterContext = {
      exchange,
      server: server.facts.name,
      judge: this.#judge,
      catalog,
      tasks,
      sessions: this.#sessions,
      parsed: this.#parsed,
      isModern: reading.isModern,
      rpcId: reading.rpcId,
      tool: reading.calls[0]?.tool ?? null,
      lists: reading.lists,
      session: reading.session,
      sessionEffect: reading.sessionEffect,
      refuse: (id, session) => this.#refuseUpstream(server, exchange, id, session),
    };
    const token = reading.approvalToken;
    return {
      ...(token === undefined ? null : { approvalToken: token }),
      calls: reading.calls,
      mode: 'all',
      body: reading.body,
      dialect: received.method === 'POST' ? 'jsonrpc' : 'problem',
      rpcId: reading.rpcId,
      plan: {
        kind: 'upstream',
        upstream: server.facts.name,
        method: received.method,
        path: endpointOf(server),
        headers,
        rewrite: new McpRewriter(context),
      },
    };
  }

  /** The upstream waits for an answer to its own request; without one it would hang. */
  #refuseUpstream(server: McpServer, exchange: Admitted, id: JsonValue, session: string | null): void {
    const { received, principal } = exchange;
    const headers: Record<string, string> = {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': received.headers['mcp-protocol-version'] ?? '2025-03-26',
      'x-request-id': received.id,
      ...server.credential,
      ...server.identity?.(principal, received.id),
    };
    if (session !== null) headers['mcp-session-id'] = session;
    const request = {
      method: 'POST',
      path: endpointOf(server),
      headers,
      body: Buffer.from(errorText(id, RPC.denied, 'Denied by policy')),
      headersTimeoutMs: server.headersTimeoutMs,
      idleTimeoutMs: server.idleTimeoutMs,
    };
    // Not the client's signal: the upstream waits even when the client has left.
    const { signal } = new AbortController();
    server.upstream.request(request, signal, MAX_IGNORED_BYTES).catch((cause: unknown) => {
      this.#logger.warn({ server: server.facts.name, request_id: received.id, cause }, 'refusal not delivered');
    });
  }
}

function parseBody(body: Buffer): JsonValue {
  try {
    return parseStrict(body);
  } catch (thrown) {
    if (thrown instanceof GatewayError) throw withDetail(thrown, { code: RPC.parse, id: null });
    throw thrown;
  }
}

function requireEnabled(server: McpServer, id: RpcId | undefined): void {
  if (server.facts.enabled) return;
  throw withDetail(new GatewayError('SERVER_DISABLED'), { code: RPC.unavailable, id: id ?? null });
}

function checkAccept(headers: Received['headers'], isModern: boolean, id: RpcId | undefined): void {
  const { json, stream } = acceptedTypes(headers.accept);
  const isMissing = headers.accept === undefined;
  if (isModern ? json && stream && !isMissing : json || stream) return;
  const message = 'Accept must list application/json and text/event-stream';
  throw withDetail(new GatewayError('NOT_ACCEPTABLE', { message }), { code: RPC.invalidRequest, id: id ?? null });
}
