/** From what somebody asks about to the call that would be decided if it were made. */
import type { A2aAgent, Call, ResourceRef } from '../../core/call.ts';
import { a2aUser } from '../../core/call.ts';
import { GatewayError } from '../../core/errors.ts';
import type { JsonObject } from '../../core/json.ts';
import type { Principal } from '../../core/principal.ts';
import type { ModelCatalog } from '../llm/models.ts';
import { toolCall, toolNameFault } from '../mcp/calls.ts';
import type { ToolCatalog } from '../mcp/catalog.ts';
import type { Agent, Askable, AuthorizeA2aRequest, AuthorizeRequest } from './schemas.ts';

export interface KnownTargets {
  readonly servers: ReadonlyMap<string, unknown>;
  readonly catalog: ToolCatalog;
  readonly models: ModelCatalog;
}

type Question = Omit<AuthorizeRequest, 'user' | 'gateway_metadata'>;

const NOTHING: JsonObject = Object.freeze({});

/** Throws INVALID_REQUEST when something that the action needs is missing, SERVER_NOT_FOUND and MODEL_NOT_FOUND. */
export function callAbout(known: KnownTargets, question: Question): Call {
  if (question.action.startsWith('llm:')) return modelCall(known, question, needed(question, 'model'));
  if (question.action === 'gateway:server:list' && !isGiven(question.server_name)) {
    // The list as such: what is in it is decided server by server.
    return plainCall(question.action, null, ref('server', '*'), NOTHING);
  }
  const server = needed(question, 'server_name');
  if (!known.servers.has(server)) throw new GatewayError('SERVER_NOT_FOUND');
  const parameters = question.parameters ?? NOTHING;
  switch (question.action) {
    case 'gateway:tool:invoke':
      return toolCall(known, server, toolName(question), parameters);
    case 'gateway:tool:discover':
      return toolCall(known, server, toolName(question), null);
    case 'gateway:resource:read':
    case 'gateway:resource:discover': {
      const uri = needed(question, 'resource_uri');
      return serverCall(question, server, 'resource', `${server}:${uri}`, { uri });
    }
    case 'gateway:prompt:get':
    case 'gateway:prompt:discover':
      return serverCall(question, server, 'prompt', `${server}:${needed(question, 'prompt_name')}`, parameters);
    default:
      return serverCall(question, server, 'server', server, NOTHING);
  }
}

type TextField = 'server_name' | 'tool_name' | 'resource_uri' | 'prompt_name' | 'model';

function needed(question: Question, field: TextField): string {
  const value = question[field];
  if (isGiven(value)) return value;
  throw misfit(`${field}: needed for ${question.action}`);
}

const isGiven = <T>(value: T | null | undefined): value is T => value !== undefined && value !== null;

function toolName(question: Question): string {
  const name = needed(question, 'tool_name');
  const fault = toolNameFault(name);
  if (fault !== null) throw misfit(`tool_name: ${fault}`);
  return name;
}

function misfit(problem: string): GatewayError {
  return new GatewayError('INVALID_REQUEST', { message: problem, details: { problems: [problem] } });
}

function serverCall(
  { action }: { readonly action: Askable },
  server: string,
  type: ResourceRef['type'],
  id: string,
  parameters: JsonObject,
): Call {
  // What is listed is looked at without arguments.
  return plainCall(action, server, ref(type, id), action.endsWith(':discover') ? null : parameters);
}

function ref(type: ResourceRef['type'], id: string): ResourceRef {
  return { type, id, tenant_id: null, owner_id: null, permissions: null };
}

function plainCall(
  action: Call['action'],
  server: string | null,
  resource: ResourceRef,
  parameters: JsonObject | null,
) {
  return { action, server, tool: null, parameters, annotations: null, schema_hash: null, resource, llm: null };
}

function modelCall({ models }: KnownTargets, question: Question, model: string): Call {
  const entry = models.resolve(model);
  const { max_tokens = null } = question;
  const llm = { model, resolved_model: entry.name, stream: false, max_tokens, message_count: 0, tools: [] };
  const parameters = { model, ...(max_tokens === null ? {} : { max_tokens }) };
  return { ...plainCall(question.action, null, ref('model', entry.name), parameters), llm };
}

/** The people in a question between parties, found by the endpoint beforehand. */
export interface Parties {
  readonly source: Principal | null;
  readonly target: Principal | null;
}

/** The call of one agent to another, or the handing on of rights. */
export function callBetween(request: AuthorizeA2aRequest, { source, target }: Parties): Call {
  const { action, context, target_agent: to } = request;
  const isDelegation = action === 'a2a:delegate';
  const id = isDelegation ? target?.id : to?.id;
  return {
    ...plainCall(action, null, ref(isDelegation ? 'principal' : 'agent', id ?? ''), request.parameters ?? NOTHING),
    a2a: {
      source_user: source === null ? null : a2aUser(source),
      target_user: target === null ? null : a2aUser(target),
      source_agent: agentOf(request.source_agent),
      target_agent: agentOf(to),
      capability: request.tool_name ?? null,
      context: {
        workflow_id: context?.workflow_id ?? null,
        user_id: context?.user_id ?? null,
        delegation_depth: context?.delegation_depth ?? 0,
      },
    },
  };
}

function agentOf(agent: Agent | null | undefined): A2aAgent | null {
  if (agent === null || agent === undefined) return null;
  const { id, name, trust_level, capabilities } = agent;
  return { id, name: name ?? null, trust_level: trust_level ?? null, capabilities: capabilities ?? [] };
}

/** The same call one or more hands further. */
export function atDepth(call: Call, depth: number): Call {
  if (call.a2a === undefined) return call;
  return { ...call, a2a: { ...call.a2a, context: { ...call.a2a.context, delegation_depth: depth } } };
}
