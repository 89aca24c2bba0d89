/** What is asked for, and how dangerous it is. Source: contracts 2 and 3, acceptance 1.3.2. */
import type { JsonObject } from './json.ts';
import type { Principal, PrincipalType } from './principal.ts';

/** Every action a policy can be asked about. A closed list: the policy input never carries another. */
export const ACTIONS = [
  'mcp:protocol',
  'gateway:tool:discover',
  'gateway:tool:invoke',
  'gateway:prompt:discover',
  'gateway:prompt:get',
  'gateway:resource:discover',
  'gateway:resource:read',
  'gateway:task:access',
  'gateway:sampling:create',
  'gateway:elicitation:create',
  'gateway:roots:list',
  'gateway:method:call',
  'gateway:server:list',
  'gateway:server:info',
  'gateway:server:access',
  'llm:chat:create',
  'llm:responses:create',
  'llm:messages:create',
  'llm:embeddings:create',
  'llm:models:list',
  'responses:read',
  'responses:delete',
  'responses:list',
  'conversations:create',
  'conversations:read',
  'conversations:write',
  'conversations:delete',
  'a2a:invoke',
  'a2a:delegate',
  'keys:create',
  'keys:list',
  'keys:revoke',
  'keys:rotate',
  'approvals:decide',
] as const;

/** `http:<method>` for plain HTTP routes, `admin:<what>` for the administration plane. */
export type Action = (typeof ACTIONS)[number] | `http:${string}` | `admin:${string}`;

/** Ordered: least dangerous first. */
export const SENSITIVITIES = ['low', 'medium', 'high', 'critical'] as const;
export type Sensitivity = (typeof SENSITIVITIES)[number];

/** What an operator may say of a tool for rules of their own (TW-05). */
export const TOOL_COSTS = ['low', 'medium', 'high'] as const;
export type ToolCost = (typeof TOOL_COSTS)[number];
export const DATA_SENSITIVITIES = ['public', 'proprietary', 'confidential', 'sensitive'] as const;
export type DataSensitivity = (typeof DATA_SENSITIVITIES)[number];

/** Built-in tool types; deployments may register more, hence `string` in Classification. */
export const TOOL_TYPES = ['query', 'analytics', 'mutation', 'integration', 'admin', 'custom'] as const;
export type ToolType = (typeof TOOL_TYPES)[number] | (string & {});

export const SERVER_TYPES = ['sql', 'api', 'file', 'k8s', 'llm', 'custom'] as const;
export type ServerType = (typeof SERVER_TYPES)[number] | (string & {});

export interface Classification {
  readonly tool_type: ToolType;
  readonly sensitivity_level: Sensitivity;
  /** Stable reason ids, e.g. `sql:select`, `floor:production`; sorted, no duplicates. */
  readonly reasons: readonly string[];
  /** Names of things touched, e.g. tables or paths; sorted, no duplicates. */
  readonly resources: readonly string[];
  /** List phase: the other types that arguments can give this tool, each with its least level. Absent: none. */
  readonly possible?: Readonly<Record<string, Sensitivity>>;
}

/** What the action is done to; `owner_id` and `tenant_id` let policy speak of ownership. */
export interface ResourceRef {
  readonly type:
    | 'tool'
    | 'prompt'
    | 'resource'
    | 'server'
    | 'model'
    | 'http'
    | 'response'
    | 'conversation'
    | 'task'
    | 'protocol'
    | 'key'
    | 'agent'
    | 'principal'
    | 'approval';
  readonly id: string;
  readonly tenant_id: string | null;
  readonly owner_id: string | null;
  /** Permissions a plain HTTP route asks for. */
  readonly permissions: { readonly allOf?: readonly string[]; readonly anyOf?: readonly string[] } | null;
}

/** Facts of an LLM call that policy may read (models and ceilings per role). */
export interface LlmFacts {
  readonly model: string | null;
  readonly resolved_model: string | null;
  readonly stream: boolean;
  readonly max_tokens: number | null;
  readonly message_count: number;
  readonly tools: readonly string[];
}

/** Somebody named in a call that one party asks to have another act for it. The host looked it up; nobody claims it. */
export interface A2aUser {
  readonly id: string;
  readonly type: PrincipalType;
  readonly tenant_id: string;
  readonly roles: readonly string[];
  readonly teams: readonly string[];
  readonly permissions: readonly string[];
  readonly scopes: readonly string[];
  readonly tenure_months: number | null;
  readonly mfa_verified: boolean;
  readonly device_compliant: boolean;
}

/** An agent on either side of `a2a:invoke`. */
export interface A2aAgent {
  readonly id: string;
  readonly name: string | null;
  /** A name the policy's data ranks; one it does not know is the least trusted. */
  readonly trust_level: string | null;
  readonly capabilities: readonly string[];
}

/** Facts of a call between parties (`a2a:invoke`, `a2a:delegate`). Source: design 2.3, acceptance SW-04. */
export interface A2aFacts {
  /** Who hands rights on: the verified caller. */
  readonly source_user: A2aUser | null;
  /** Who gets them, as the directory knows it. */
  readonly target_user: A2aUser | null;
  readonly source_agent: A2aAgent | null;
  readonly target_agent: A2aAgent | null;
  /** What is asked of the target agent, or null. */
  readonly capability: string | null;
  readonly context: {
    readonly workflow_id: string | null;
    readonly user_id: string | null;
    readonly delegation_depth: number;
  };
}

/** One thing to decide. A tools/list yields one per tool; nearly everything else yields exactly one. */
export interface Call {
  readonly action: Action;
  /** Configured server (or model) name, or null. */
  readonly server: string | null;
  readonly tool: string | null;
  /** The caller's arguments, exactly as parsed from the bytes that will be forwarded. `null`: not known yet (list phase). */
  readonly parameters: JsonObject | null;
  /** The untrusted MCP annotations of the tool, when its definition was seen. */
  readonly annotations: JsonObject | null;
  /** `sha256:<hex>` of the tool's definition, when it was seen. */
  readonly schema_hash: string | null;
  readonly resource: ResourceRef;
  readonly llm: LlmFacts | null;
  /** Absent: no call between agents. */
  readonly a2a?: A2aFacts;
  /** Of a task: the tool whose call began it, null where that is not known. Absent: no task. */
  readonly begunBy?: string | null;
}

/** A call with its class. */
export interface ClassifiedCall extends Call {
  readonly classification: Classification;
}

export function sensitivityRank(level: Sensitivity): number {
  return SENSITIVITIES.indexOf(level);
}

/** A principal as the policy sees the source or the target of a delegation. */
export function a2aUser(principal: Principal): A2aUser {
  return {
    id: principal.id,
    type: principal.type,
    tenant_id: principal.tenant_id,
    roles: principal.roles,
    teams: principal.teams,
    permissions: principal.permissions,
    scopes: principal.scopes,
    tenure_months: principal.tenure_months,
    mfa_verified: principal.auth.mfa_verified,
    device_compliant: principal.device_compliant,
  };
}
