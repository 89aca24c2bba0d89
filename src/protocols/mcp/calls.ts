/** From a JSON-RPC message to the questions a policy is asked. Source: contracts 2, design 2.3 (resource ids). */
import type { Action, Call, ResourceRef } from '../../core/call.ts';
import type { JsonObject, JsonValue } from '../../core/json.ts';
import { isJsonObject } from '../../core/json.ts';
import type { ToolCatalog } from './catalog.ts';
import type { RpcCall } from './envelope.ts';
import { badRequest, EMPTY, RPC } from './envelope.ts';
import type { MethodSpec } from './methods.ts';
import type { Owner, OwnerTable } from './owners.ts';

/** What the gateway has seen of the servers behind it. */
export interface Seen {
  readonly catalog: ToolCatalog;
  readonly tasks: OwnerTable;
}

type SeenTools = Pick<Seen, 'catalog'>;

function ref(type: ResourceRef['type'], id: string, owner: Owner | null = null): ResourceRef {
  return { type, id, tenant_id: owner?.tenant_id ?? null, owner_id: owner?.id ?? null, permissions: null };
}

function callOf(action: Action, server: string, resource: ResourceRef, parameters: JsonObject | null): Call {
  return {
    action,
    server,
    tool: null,
    parameters,
    annotations: null,
    schema_hash: null,
    resource,
    llm: null,
  };
}

/** Traffic of the protocol itself, and methods nobody knows. */
export function protocolCall(action: Action, server: string, what: string): Call {
  return callOf(action, server, ref('protocol', `${server}:${what}`), EMPTY);
}

/** A tool by name: invoked with `parameters`, or looked at (`null`). */
export function toolCall(seen: SeenTools, server: string, tool: string, parameters: JsonObject | null): Call {
  const definition = seen.catalog.get(server, tool);
  return {
    action: parameters === null ? 'gateway:tool:discover' : 'gateway:tool:invoke',
    server,
    tool,
    parameters,
    annotations: definition?.annotations ?? null,
    schema_hash: definition?.schema_hash ?? null,
    resource: ref('tool', `${server}:${tool}`),
    llm: null,
  };
}

/** A configured server as a thing to look at. */
export function serverCall(action: 'gateway:server:list' | 'gateway:server:info', server: string): Call {
  return callOf(action, server, ref('server', server), EMPTY);
}

/** One item of a list: no arguments are known yet. */
export function itemCall(seen: Seen, action: Action, type: ResourceRef['type'], server: string, id: string): Call {
  if (type === 'tool') return toolCall(seen, server, id, null);
  const owner = type === 'task' ? seen.tasks.owner(server, id) : null;
  return callOf(action, server, ref(type, `${server}:${id}`, owner), null);
}

/** The questions a client's message raises. Throws INVALID_REQUEST (-32602) when a parameter it needs is missing. */
export function callsOf(seen: Seen, server: string, spec: MethodSpec, message: RpcCall): readonly Call[] {
  const { params, method } = message;
  switch (spec.subject) {
    case 'none':
      return [protocolCall(spec.action, server, method)];
    case 'tool':
      return [toolCall(seen, server, nameIn(message, 'name'), argumentsIn(message))];
    case 'prompt':
      return [promptCall(server, nameIn(message, 'name'), argumentsIn(message))];
    case 'resource':
      return [resourceCall(server, uriIn(message, params.uri))];
    case 'task': {
      const id = nameIn(message, 'taskId');
      const owner = seen.tasks.owner(server, id);
      const call = callOf(spec.action, server, ref('task', `${server}:${id}`, owner), { taskId: id });
      return [{ ...call, begunBy: owner?.tool ?? null }];
    }
    case 'completion':
      return [completionCall(server, message)];
    case 'listen':
      return listenCalls(server, message);
  }
}

function promptCall(server: string, name: string, parameters: JsonObject): Call {
  return callOf('gateway:prompt:get', server, ref('prompt', `${server}:${name}`), parameters);
}

function resourceCall(server: string, uri: string): Call {
  return callOf('gateway:resource:read', server, ref('resource', `${server}:${uri}`), { uri });
}

/** Completion reveals what the thing it completes for would reveal. */
function completionCall(server: string, message: RpcCall): Call {
  const target = message.params.ref;
  if (isJsonObject(target)) {
    if (target.type === 'ref/prompt') return promptCall(server, checkedName(message, target.name, 'name'), EMPTY);
    if (target.type === 'ref/resource') return resourceCall(server, uriIn(message, target.uri));
  }
  throw badRequest('params.ref must name a prompt or a resource', RPC.invalidParams, message.id ?? null);
}

/** Change notices of lists are protocol traffic; those of a resource are as good as reading it. */
function listenCalls(server: string, message: RpcCall): readonly Call[] {
  const base = protocolCall('mcp:protocol', server, message.method);
  const filter = message.params.notifications;
  // A server may read either place, so both count.
  const uris = [...urisIn(message, message.params), ...(isJsonObject(filter) ? urisIn(message, filter) : [])];
  return [base, ...uris.map((uri) => resourceCall(server, uriIn(message, uri)))];
}

function urisIn(message: RpcCall, { resourceSubscriptions: uris }: JsonObject): readonly JsonValue[] {
  if (uris === undefined || uris === null) return [];
  if (Array.isArray(uris) && uris.length <= MAX_SUBSCRIPTIONS) return uris;
  throw badRequest('resourceSubscriptions must be a list of URIs', RPC.invalidParams, message.id ?? null);
}

function nameIn(message: RpcCall, member: 'name' | 'taskId'): string {
  return checkedName(message, message.params[member], member);
}

/** Absent and null arguments are the same to servers. */
function argumentsIn(message: RpcCall): JsonObject {
  const value = message.params.arguments;
  if (value === undefined || value === null) return EMPTY;
  if (isJsonObject(value)) return value;
  throw badRequest('params.arguments must be an object', RPC.invalidParams, message.id ?? null);
}

const MAX_SUBSCRIPTIONS = 1000;
const MAX_NAME = 256;
const MAX_URI = 8192;

/** What is wrong with a name, or null. */
export function toolNameFault(value: JsonValue | undefined): string | null {
  const isName = typeof value === 'string' && value !== '' && value.length <= MAX_NAME && isPlainName(value);
  return isName ? null : 'must be a plain name';
}

function checkedName(message: RpcCall, value: JsonValue | undefined, member: string): string {
  const fault = toolNameFault(value);
  if (fault === null && typeof value === 'string') return value;
  throw badRequest(`params.${member} ${fault}`, RPC.invalidParams, message.id ?? null);
}

function uriIn(message: RpcCall, value: JsonValue | undefined): string {
  if (typeof value === 'string' && value !== '' && value.length <= MAX_URI && isVisible(value)) return value;
  throw badRequest('params.uri must be a URI', RPC.invalidParams, message.id ?? null);
}

/** Invisible and direction-changing characters: what a person would read is not what a policy compares. */
const HIDDEN = /[\p{C}\p{Z}\p{Default_Ignorable_Code_Point}]/u;

/** False for text with control, format, bidi, zero-width or tag characters, or any space but the plain one. */
function isVisible(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x20 || code === 0x7f) return false;
    if (code > 0x7f) return !HIDDEN.test(text.replaceAll(' ', ''));
  }
  return true;
}

/** A name may not begin or end with a space or end with a dot either: some servers strip them. */
function isPlainName(text: string): boolean {
  const last = text.charCodeAt(text.length - 1);
  return last !== 0x2e && last !== 0x20 && text.charCodeAt(0) !== 0x20 && isVisible(text);
}
