/** From the words of AuthZEN to the gateway's own: `docs/pdp-api.md` has the same table. */
import { GatewayError } from '../../core/errors.ts';
import type { JsonObject } from '../../core/json.ts';
import { isJsonObject } from '../../core/json.ts';
import type { Evaluation } from './authzen-schemas.ts';
import type { Askable, AuthorizeRequest, Person } from './schemas.ts';

type ResourceType = Evaluation['resource']['type'];

/** Action names by resource type. The gateway's own names are understood besides. */
export const ACTIONS: Readonly<Record<ResourceType, ReadonlyMap<string, Askable>>> = {
  tool: new Map<string, Askable>([
    ['invoke', 'gateway:tool:invoke'],
    ['call', 'gateway:tool:invoke'],
    ['discover', 'gateway:tool:discover'],
    ['list', 'gateway:tool:discover'],
  ]),
  server: new Map<string, Askable>([
    ['access', 'gateway:server:access'],
    ['list', 'gateway:server:list'],
    ['read', 'gateway:server:info'],
    ['info', 'gateway:server:info'],
  ]),
  resource: new Map<string, Askable>([
    ['read', 'gateway:resource:read'],
    ['discover', 'gateway:resource:discover'],
    ['list', 'gateway:resource:discover'],
  ]),
  prompt: new Map<string, Askable>([
    ['get', 'gateway:prompt:get'],
    ['read', 'gateway:prompt:get'],
    ['discover', 'gateway:prompt:discover'],
    ['list', 'gateway:prompt:discover'],
  ]),
  model: new Map<string, Askable>([
    ['chat', 'llm:chat:create'],
    ['responses', 'llm:responses:create'],
    ['messages', 'llm:messages:create'],
    ['embeddings', 'llm:embeddings:create'],
    ['list', 'llm:models:list'],
  ]),
};

/** The subject with its properties as the gateway spells them. */
export function personOf({ type, id, properties }: Evaluation['subject']): Person {
  return { ...properties, type, id };
}

/** Throws INVALID_REQUEST for an action that does not go with the resource. */
export function questionOf({ action, resource }: Evaluation): AuthorizeRequest {
  const names = ACTIONS[resource.type];
  const own = [...names.values()].find((known) => known === action.name);
  const asked = names.get(action.name) ?? own;
  if (asked === undefined) throw misfit(`action.name: not known for a ${resource.type}`);
  const parameters = parametersOf(action.properties);
  if (resource.type === 'model') {
    return { action: asked, model: resource.id, max_tokens: countIn(action.properties, 'max_tokens') };
  }
  if (resource.type === 'server') return { action: asked, server_name: resource.id };
  // Server names hold no colon, so the first one ends them.
  const colon = resource.id.indexOf(':');
  if (colon < 1 || colon === resource.id.length - 1) throw misfit('resource.id: expected SERVER:NAME');
  const server_name = resource.id.slice(0, colon);
  const name = resource.id.slice(colon + 1);
  const base = { action: asked, server_name, parameters };
  if (resource.type === 'tool') return { ...base, tool_name: name };
  return resource.type === 'prompt' ? { ...base, prompt_name: name } : { ...base, resource_uri: name };
}

function misfit(problem: string): GatewayError {
  return new GatewayError('INVALID_REQUEST', { message: problem, details: { problems: [problem] } });
}

function parametersOf(properties: Evaluation['action']['properties']): JsonObject | undefined {
  if (properties === undefined || !Object.hasOwn(properties, 'parameters')) return undefined;
  const value = properties.parameters;
  if (isJsonObject(value)) return value;
  throw misfit('action.properties.parameters: expected an object');
}

function countIn(properties: Evaluation['action']['properties'], name: string): number | undefined {
  const value = properties !== undefined && Object.hasOwn(properties, name) ? properties[name] : undefined;
  if (value === undefined) return undefined;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value > 0) return value;
  throw misfit(`action.properties.${name}: expected a count`);
}
