/**
 * Every MCP method and the action a policy is asked about: one table for calls, lists, and what servers send back.
 * A method that is not here is `gateway:method:call`, which the default policy denies. Source: contracts 2, mcp 1.2.
 */
import type { Action } from '../../core/call.ts';

/** What the parameters of a method name. */
export type Subject = 'none' | 'tool' | 'prompt' | 'resource' | 'task' | 'completion' | 'listen';

/** A method whose result is a list that is shown item by item. */
export interface ListSpec {
  /** Member of the result that holds the items. */
  readonly key: 'tools' | 'prompts' | 'resources' | 'resourceTemplates' | 'tasks';
  /** Member of an item that names it. */
  readonly id: 'name' | 'uri' | 'uriTemplate' | 'taskId';
  /** Asked once per item. */
  readonly action: Action;
  readonly type: 'tool' | 'prompt' | 'resource' | 'task';
}

export interface MethodSpec {
  readonly action: Action;
  readonly subject: Subject;
  readonly list: ListSpec | null;
}

const protocol: MethodSpec = { action: 'mcp:protocol', subject: 'none', list: null };

function on(action: Action, subject: Subject): MethodSpec {
  return { action, subject, list: null };
}

/** The up-front question of a list is `mcp:protocol`; the real ones follow per item, when the items are known. */
function list(spec: ListSpec): MethodSpec {
  return { action: 'mcp:protocol', subject: 'none', list: spec };
}

export const LISTS = {
  tools: { key: 'tools', id: 'name', action: 'gateway:tool:discover', type: 'tool' },
  prompts: { key: 'prompts', id: 'name', action: 'gateway:prompt:discover', type: 'prompt' },
  resources: { key: 'resources', id: 'uri', action: 'gateway:resource:discover', type: 'resource' },
  resourceTemplates: {
    key: 'resourceTemplates',
    id: 'uriTemplate',
    action: 'gateway:resource:discover',
    type: 'resource',
  },
  tasks: { key: 'tasks', id: 'taskId', action: 'gateway:task:access', type: 'task' },
} as const satisfies Record<string, ListSpec>;

/** For streams where a replayed answer can be of any method. */
export const ALL_LISTS: readonly ListSpec[] = Object.values(LISTS);

/** What clients send. */
export const METHODS: ReadonlyMap<string, MethodSpec> = new Map([
  ['initialize', protocol],
  ['server/discover', protocol],
  ['ping', protocol],
  ['logging/setLevel', protocol],
  ['tools/list', list(LISTS.tools)],
  ['tools/call', on('gateway:tool:invoke', 'tool')],
  ['prompts/list', list(LISTS.prompts)],
  ['prompts/get', on('gateway:prompt:get', 'prompt')],
  ['resources/list', list(LISTS.resources)],
  ['resources/templates/list', list(LISTS.resourceTemplates)],
  ['resources/read', on('gateway:resource:read', 'resource')],
  ['resources/subscribe', on('gateway:resource:read', 'resource')],
  ['resources/unsubscribe', on('gateway:resource:read', 'resource')],
  ['completion/complete', on('gateway:prompt:get', 'completion')],
  ['subscriptions/listen', on('mcp:protocol', 'listen')],
  ['tasks/get', on('gateway:task:access', 'task')],
  ['tasks/result', on('gateway:task:access', 'task')],
  ['tasks/update', on('gateway:task:access', 'task')],
  ['tasks/cancel', on('gateway:task:access', 'task')],
  ['tasks/list', list(LISTS.tasks)],
]);

const UNKNOWN: MethodSpec = on('gateway:method:call', 'none');

/** Gone since 2026-07-28: there a server answers that they do not exist. */
const REMOVED: ReadonlySet<string> = new Set([
  'initialize',
  'ping',
  'logging/setLevel',
  'resources/subscribe',
  'resources/unsubscribe',
  'tasks/list',
  'tasks/result',
]);

/** The entry of a method. Notifications are protocol traffic, but only without an id: with one they ask for an answer. */
export function methodSpec(method: string, isNotification: boolean, isModern: boolean): MethodSpec {
  const known = METHODS.get(method);
  if (known !== undefined) return isModern && REMOVED.has(method) ? UNKNOWN : known;
  return isNotification && method.startsWith('notifications/') ? protocol : UNKNOWN;
}

/** True for a method the table does not list. */
export function isUnknownMethod(spec: MethodSpec): boolean {
  return spec === UNKNOWN;
}

/** What servers send to clients as requests, on a stream (legacy) or inside an `input_required` result (modern). */
const SERVER_REQUESTS: ReadonlyMap<string, Action> = new Map<string, Action>([
  ['ping', 'mcp:protocol'],
  ['sampling/createMessage', 'gateway:sampling:create'],
  ['elicitation/create', 'gateway:elicitation:create'],
  ['roots/list', 'gateway:roots:list'],
]);

export function serverRequestAction(method: string): Action {
  return SERVER_REQUESTS.get(method) ?? 'gateway:method:call';
}
