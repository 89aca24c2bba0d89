/**
 * A small MCP client for calls that the gateway makes for its own HTTP interface. It speaks to either generation and
 * never shares a session between principals. Source: mcp 1.4, 1.5, 1.8; contracts 2.
 */
import { GatewayError } from '../../core/errors.ts';
import type { JsonObject, JsonValue } from '../../core/json.ts';
import { isJsonObject } from '../../core/json.ts';
import { holderId, type Principal } from '../../core/principal.ts';
import type { BufferedResponse } from '../../upstreams/upstream.ts';
import { SseSplitter } from '../sse.ts';
import type { ToolCatalog } from './catalog.ts';
import { RPC } from './envelope.ts';
import type { Era } from './era.ts';
import { encodeMirror, META_CAPABILITIES, META_VERSION, MODERN_VERSION, valueAt } from './era.ts';
import { eraVerdict } from './era-probe.ts';
import type { McpServer } from './server.ts';
import { endpointOf } from './server.ts';

/** On whose behalf, and as part of which request. */
export interface Caller {
  readonly principal: Principal;
  /** X-Request-ID, X-Auth-User and the like. */
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

/** A JSON-RPC answer: the server's error is an outcome, not an exception. */
export type RpcOutcome =
  | { readonly kind: 'result'; readonly result: JsonObject }
  | { readonly kind: 'error'; readonly code: number; readonly message: string };

interface LegacySession {
  readonly id: string | null;
  readonly version: string;
}

const LEGACY_VERSION = '2025-11-25';
const CLIENT_INFO = { name: 'portcullis', version: '1' };
const MAX_ANSWER_BYTES = 33_554_432;

/** What is left of the bytes that a listing may have, however many pages it comes in. */
interface Room {
  left: number;
}

interface Asking extends Caller {
  readonly room?: Room;
}

const MAX_SESSIONS = 1000;
const MAX_PAGES = 50;

export class McpClient {
  readonly #catalog: ToolCatalog;
  readonly #eras = new Map<McpServer, Era>();
  readonly #sessions = new Map<string, LegacySession>();
  #lastId = 0;

  constructor(catalog: ToolCatalog) {
    this.#catalog = catalog;
  }

  /** Rejects with UPSTREAM_ERROR and the like when there is no answer. */
  async callTool(server: McpServer, name: string, parameters: JsonObject, caller: Caller): Promise<RpcOutcome> {
    const params = { name, arguments: parameters };
    const outcome = await this.#request(server, 'tools/call', params, caller);
    if (outcome.kind !== 'error' || outcome.code !== RPC.headerMismatch) return outcome;
    // The server mirrors arguments in headers that were not known yet; it refused before it did anything.
    await this.listTools(server, caller);
    return this.#request(server, 'tools/call', params, caller);
  }

  /** All pages. Each definition is kept in the catalog. The pages of one listing together are no longer than one answer may be. */
  async listTools(server: McpServer, by: Caller): Promise<readonly JsonObject[]> {
    const tools: JsonObject[] = [];
    const caller: Asking = { ...by, room: { left: MAX_ANSWER_BYTES } };
    let cursor: JsonValue | undefined;
    for (let page = 0; page < MAX_PAGES; page++) {
      const outcome = await this.#request(server, 'tools/list', cursor === undefined ? {} : { cursor }, caller);
      if (outcome.kind === 'error') throw unusable(`tools/list failed with ${outcome.code}`);
      const { tools: found, nextCursor } = outcome.result;
      for (const tool of Array.isArray(found) ? found : []) {
        if (isJsonObject(tool) && this.#catalog.record(server.facts.name, tool) !== null) tools.push(tool);
      }
      if (typeof nextCursor !== 'string') return tools;
      cursor = nextCursor;
    }
    return tools;
  }

  async #request(server: McpServer, method: string, params: JsonObject, caller: Asking): Promise<RpcOutcome> {
    const era = await this.#era(server, caller);
    return era === 'modern'
      ? this.#modern(server, method, params, caller)
      : this.#legacy(server, method, params, caller, true);
  }

  /** Verdicts are kept, questions in flight are not shared: the caller who asked first may leave. */
  async #era(server: McpServer, caller: Asking): Promise<Era> {
    const known = this.#eras.get(server);
    if (known !== undefined) return known;
    const verdict = await this.#probe(server, caller);
    this.#eras.set(server, verdict);
    return verdict;
  }

  async #probe(server: McpServer, caller: Asking): Promise<Era> {
    const id = this.#nextId();
    const response = await this.#post(server, modernMessage(id, 'server/discover', {}), caller, {
      'mcp-protocol-version': MODERN_VERSION,
      'mcp-method': 'server/discover',
    });
    return eraVerdict(response.status, messageOf(response, id));
  }

  async #modern(server: McpServer, method: string, params: JsonObject, caller: Asking): Promise<RpcOutcome> {
    const id = this.#nextId();
    const headers: Record<string, string> = { 'mcp-protocol-version': MODERN_VERSION, 'mcp-method': method };
    if (typeof params.name === 'string') headers['mcp-name'] = encodeMirror(params.name);
    this.#addMirrored(server, params, headers);
    const response = await this.#post(server, modernMessage(id, method, params), caller, headers);
    return outcomeOf(response, id);
  }

  #addMirrored(server: McpServer, params: JsonObject, headers: Record<string, string>): void {
    const { name } = params;
    const mirrored = typeof name === 'string' ? this.#catalog.get(server.facts.name, name)?.mirrored : null;
    for (const param of mirrored ?? []) {
      const value = valueAt(params.arguments, param.path);
      if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') {
        headers[param.header] = encodeMirror(String(value));
      }
    }
  }

  async #legacy(
    server: McpServer,
    method: string,
    params: JsonObject,
    caller: Asking,
    mayBeginAnew: boolean,
  ): Promise<RpcOutcome> {
    const key = sessionKey(server, caller.principal);
    const session = await this.#session(key, server, caller);
    const id = this.#nextId();
    const message = { jsonrpc: '2.0', id, method, params };
    const response = await this.#post(server, message, caller, sessionHeaders(session));
    if (response.status === 404 && session.id !== null && mayBeginAnew) {
      // The server has forgotten the session, so it did not do what was asked.
      this.#sessions.delete(key);
      return this.#legacy(server, method, params, caller, false);
    }
    return outcomeOf(response, id);
  }

  async #session(key: string, server: McpServer, caller: Asking): Promise<LegacySession> {
    const session = this.#sessions.get(key) ?? (await this.#initialize(server, caller));
    this.#sessions.delete(key);
    this.#sessions.set(key, session);
    if (this.#sessions.size > MAX_SESSIONS) {
      const oldest = this.#sessions.keys().next();
      if (!oldest.done) this.#sessions.delete(oldest.value);
    }
    return session;
  }

  async #initialize(server: McpServer, caller: Asking): Promise<LegacySession> {
    const id = this.#nextId();
    const params = { protocolVersion: LEGACY_VERSION, capabilities: {}, clientInfo: CLIENT_INFO };
    const response = await this.#post(server, { jsonrpc: '2.0', id, method: 'initialize', params }, caller, {});
    const outcome = outcomeOf(response, id);
    if (outcome.kind === 'error') throw unusable(`initialize failed with ${outcome.code}`);
    const issued = response.headers['mcp-session-id'];
    const version = outcome.result.protocolVersion;
    const session = {
      id: typeof issued === 'string' ? issued : null,
      version: typeof version === 'string' ? version : LEGACY_VERSION,
    };
    await this.#post(server, { jsonrpc: '2.0', method: 'notifications/initialized' }, caller, sessionHeaders(session));
    return session;
  }

  async #post(
    server: McpServer,
    message: object,
    caller: Asking,
    headers: Readonly<Record<string, string>>,
  ): Promise<BufferedResponse> {
    const request = {
      method: 'POST',
      path: endpointOf(server),
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        ...headers,
        ...caller.headers,
        ...server.credential,
        ...server.identity?.(caller.principal, caller.headers['x-request-id'] ?? ''),
      },
      body: Buffer.from(JSON.stringify(message)),
      headersTimeoutMs: server.headersTimeoutMs,
      idleTimeoutMs: server.idleTimeoutMs,
    };
    const { room = { left: MAX_ANSWER_BYTES } } = caller;
    const response = await server.upstream.request(request, caller.signal, room.left);
    room.left -= response.body.length;
    return response;
  }

  #nextId(): number {
    this.#lastId = (this.#lastId % Number.MAX_SAFE_INTEGER) + 1;
    return this.#lastId;
  }
}

/** Lengths make the parts unmistakable whatever they hold. */
function sessionKey(server: McpServer, principal: Principal): string {
  const { tenant_id } = principal;
  return `${server.facts.name}\n${tenant_id.length}:${tenant_id}${holderId(principal)}`;
}

function sessionHeaders({ id, version }: LegacySession): Record<string, string> {
  const headers: Record<string, string> = { 'mcp-protocol-version': version };
  if (id !== null) headers['mcp-session-id'] = id;
  return headers;
}

function modernMessage(id: number, method: string, params: JsonObject): object {
  const meta = {
    [META_VERSION]: MODERN_VERSION,
    [META_CAPABILITIES]: {},
    'io.modelcontextprotocol/clientInfo': CLIENT_INFO,
  };
  return { jsonrpc: '2.0', id, method, params: { ...params, _meta: meta } };
}

function unusable(why: string): GatewayError {
  return new GatewayError('UPSTREAM_ERROR', { cause: new Error(why) });
}

function outcomeOf(response: BufferedResponse, id: number): RpcOutcome {
  const message = messageOf(response, id);
  const error = message?.error;
  if (isJsonObject(error)) {
    const { code, message: text } = error;
    return { kind: 'error', code: typeof code === 'number' ? code : RPC.internal, message: String(text ?? '') };
  }
  const result = message?.result;
  if (!isJsonObject(result)) throw unusable(`no answer in an HTTP ${response.status}`);
  return { kind: 'result', result };
}

/** The answer to this request, in a JSON body or among the events of a stream; null when there is none. */
function messageOf(response: BufferedResponse, id: number): JsonObject | null {
  const type = String(response.headers['content-type'] ?? '');
  if (type.startsWith('application/json')) return answerIn(response.body.toString('utf8'), id);
  if (!type.startsWith('text/event-stream')) return null;
  for (const event of new SseSplitter().push(response.body)) {
    const found = event.data === null ? null : answerIn(event.data, id);
    if (found !== null) return found;
  }
  return null;
}

function answerIn(text: string, id: number): JsonObject | null {
  let value: JsonValue;
  try {
    value = JSON.parse(text) as JsonValue;
  } catch {
    return null;
  }
  if (!isJsonObject(value) || 'method' in value) return null;
  // Errors about a request whose id could not be read carry null.
  return value.id === id || (value.id === null && isJsonObject(value.error)) ? value : null;
}
