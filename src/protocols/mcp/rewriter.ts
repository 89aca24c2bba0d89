/**
 * Looks at what an upstream sends: filters lists, judges requests that servers send back, keeps the owners of sessions
 * and tasks. Everything else passes byte for byte. Source: contracts 2, mcp 1.2, 1.4, 1.5, security 2.5.
 */
import type { Action } from '../../core/call.ts';
import { GatewayError } from '../../core/errors.ts';
import type { MessageRewriter, ResponseHeaders } from '../../core/exchange.ts';
import type { JsonObject, JsonValue } from '../../core/json.ts';
import { isJsonObject } from '../../core/json.ts';
import { errorText } from './answers.ts';
import { protocolCall } from './calls.ts';
import type { RpcId } from './envelope.ts';
import { hasTwinKey, RPC } from './envelope.ts';
import type { ListContext } from './lists.ts';
import { filterList } from './lists.ts';
import type { ListSpec } from './methods.ts';
import { serverRequestAction } from './methods.ts';
import type { OwnerTable } from './owners.ts';
import type { ParsedLists, ParsedText } from './parsed-lists.ts';
import { parseText } from './parsed-lists.ts';

export interface RewriterContext extends ListContext {
  readonly sessions: OwnerTable;
  readonly parsed: ParsedLists;
  /** Id of the client's request; undefined for notifications and streams. */
  readonly rpcId: RpcId | undefined;
  /** The tool that the client calls; null where it calls none, or the answer of any call can come. */
  readonly tool: string | null;
  /** Lists an answer on this response can hold. */
  readonly lists: readonly ListSpec[];
  /** The session the client named, already known to be its own. */
  readonly session: string | null;
  /** What may happen to the session by this request. */
  readonly sessionEffect: 'none' | 'begins' | 'ends';
  /** Tells the upstream that a request of its own was refused. */
  refuse(id: JsonValue, session: string | null): void;
}

/**
 * Texts without any of these need no parsing: no request can be in them, no input request and no task. A letter can also
 * be written as an escape, and some readers ignore case.
 */
const INTERESTING = /method|inputRequests|input_required|taskId|\\u00[4-7][0-9a-f]/i;

const SESSION_ID = /^[\x21-\x7e]{1,1024}$/;

export class McpRewriter implements MessageRewriter {
  readonly #context: RewriterContext;
  #isStream = false;
  #session: string | null;

  constructor(context: RewriterContext) {
    this.#context = context;
    this.#session = context.session;
  }

  /** Binds a new session to its principal; hides session ids that mean nothing. Refuses what could not be filtered. */
  head(status: number, received: ResponseHeaders): ResponseHeaders {
    const headers = plainType(received);
    const type = String(headers['content-type'] ?? '');
    this.#isStream = type.startsWith('text/event-stream');
    const isReadable = this.#isStream || type.startsWith('application/json');
    const hasBody = status < 300 && status !== 202 && status !== 204;
    if (hasBody && this.#context.lists.length > 0 && !isReadable) {
      throw new GatewayError('UPSTREAM_ERROR', { message: 'The list came in a form that cannot be filtered' });
    }
    this.#trackSession(status);
    const issued = headers['mcp-session-id'];
    return issued === undefined ? headers : this.#sessionHeaders(status, headers, issued);
  }

  #trackSession(status: number): void {
    const { sessions, server, session, sessionEffect } = this.#context;
    if (session === null) return;
    if (status === 404 || (sessionEffect === 'ends' && status < 300)) sessions.forget(server, session);
  }

  #sessionHeaders(status: number, headers: ResponseHeaders, issued: string | readonly string[]): ResponseHeaders {
    const { sessions, server, exchange, session, sessionEffect, isModern } = this.#context;
    if (!isModern && sessionEffect === 'begins' && status < 300) {
      const isUsable = typeof issued === 'string' && SESSION_ID.test(issued);
      if (!isUsable || !sessions.bind(server, issued, exchange.principal)) {
        throw new GatewayError('UPSTREAM_ERROR', { message: 'The upstream issued an unusable session' });
      }
      this.#session = issued;
      return headers;
    }
    if (issued === session) return headers;
    const { 'mcp-session-id': _, ...rest } = headers;
    return rest;
  }

  message(text: string): string | null | 'drop' {
    const { lists } = this.#context;
    if (lists.length === 0 && !INTERESTING.test(text)) return null;
    const { value, isLoose } = this.#parse(text);
    if (!isJsonObject(value) || hasTwinKey(value)) return this.#unreadable();
    if ('method' in value) return isLoose ? this.#unreadable() : this.#fromServer(value);
    const { result } = value;
    if (!isJsonObject(result)) return null;
    return this.#answer(value, result, isLoose);
  }

  /** Only answers to a list request are worth remembering. */
  #parse(text: string): ParsedText {
    const { lists, parsed } = this.#context;
    return lists.length === 1 ? parsed.parse(text) : parseText(text);
  }

  /** What cannot be read in exactly one way is not passed on. */
  #unreadable(): string | 'drop' {
    if (this.#isStream) return 'drop';
    return errorText(this.#context.rpcId ?? null, RPC.unavailable, 'The upstream sent an answer that cannot be read');
  }

  /** A message that a server started: notifications pass, requests are judged. */
  #fromServer(value: JsonObject): string | null | 'drop' {
    if (!('id' in value)) return null;
    const { method, id } = value;
    const { isModern, rpcId } = this.#context;
    // A modern server never sends requests, and a body that is no stream has room for the answer alone.
    const mayAsk = !isModern && this.#isStream && typeof method === 'string';
    if (mayAsk && this.#isPermitted([serverRequestAction(method)], method)) return null;
    if (!isModern && this.#isStream) this.#context.refuse(id ?? null, this.#session);
    if (this.#isStream) return 'drop';
    return errorText(rpcId ?? null, RPC.denied, 'The server’s request was refused');
  }

  #isPermitted(actions: readonly Action[], what: string): boolean {
    const { judge, exchange, server } = this.#context;
    const wanted = actions.filter((action) => action !== 'mcp:protocol');
    if (wanted.length === 0) return true;
    const decisions = judge(
      exchange,
      wanted.map((action) => protocolCall(action, server, what)),
    );
    return (
      decisions.length === wanted.length &&
      decisions.every((decision) => decision.allow && decision.failure === null && decision.obligations.length === 0)
    );
  }

  /** `isLoose`: the bytes can be read in more than one way, so if they matter they are written anew. */
  #answer(value: JsonObject, result: JsonObject, isLoose: boolean): string | null {
    this.#keepTask(result);
    const refused = this.#refusedInput(value, result);
    if (refused !== null) return refused;
    const rewritten = this.#filtered(result);
    if (rewritten !== null) return JSON.stringify({ ...value, result: rewritten });
    const matters = this.#context.lists.length > 0 || 'inputRequests' in result;
    return isLoose && matters ? JSON.stringify(value) : null;
  }

  #filtered(result: JsonObject): JsonObject | null {
    let current = result;
    for (const spec of this.#context.lists) {
      if (Object.hasOwn(current, spec.key)) current = filterList(this.#context, spec, current) ?? current;
    }
    return current === result ? null : current;
  }

  /** Modern: what the server wants to know from the client (sampling, elicitation, roots) is judged like a request. */
  #refusedInput(value: JsonObject, result: JsonObject): string | null {
    const requests = result.inputRequests;
    if (requests === undefined || requests === null) return null;
    const methods = isJsonObject(requests) ? Object.values(requests).map(methodOf) : [null];
    const actions = methods.map((method) => (method === null ? 'gateway:method:call' : serverRequestAction(method)));
    if (this.#isPermitted(actions, methods.join(','))) return null;
    return errorText(value.id ?? null, RPC.denied, 'The server’s request for input was refused', {
      code: 'POLICY_DENIED',
      request_id: this.#context.exchange.received.id,
    });
  }

  /** A task belongs to whoever started it. */
  #keepTask(result: JsonObject): void {
    const { tasks, server, exchange, tool } = this.#context;
    const task = isJsonObject(result.task) ? result.task : result;
    const id = task.taskId;
    const isNew = task !== result || result.resultType === 'task';
    if (isNew && typeof id === 'string') tasks.bind(server, id, exchange.principal, tool);
  }
}

/**
 * The headers with a media type in lower case, so that everyone who looks for it finds it. Refused is what clients could
 * read and the gateway could not: two media types, and a compression that was not asked for.
 */
function plainType(headers: ResponseHeaders): ResponseHeaders {
  const { 'content-type': type, 'content-encoding': encoding } = headers;
  const isPlain = encoding === undefined || encoding === 'identity';
  if (!isPlain || (type !== undefined && typeof type !== 'string')) {
    throw new GatewayError('UPSTREAM_ERROR', { message: 'The upstream sent an answer in a form that cannot be read' });
  }
  const lower = type?.toLowerCase();
  return lower === type || lower === undefined ? headers : { ...headers, 'content-type': lower };
}

function methodOf(request: JsonValue): string | null {
  return isJsonObject(request) && typeof request.method === 'string' ? request.method : null;
}
