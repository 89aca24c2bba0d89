/** Shapes of the decision API, checked on the way in and published as OpenAPI. Source: acceptance SW-01..SW-05, design 2.5. */
import { z } from 'zod';
import { DATA_SENSITIVITIES, SENSITIVITIES, TOOL_COSTS } from '../../core/call.ts';
import type { JsonObject } from '../../core/json.ts';

const LINE = /^[^\p{Cc}\p{Zl}\p{Zp}]*$/u;
const line = (max: number) => z.string().min(1).max(max).regex(LINE, 'must be one line of text');
const names = (max: number) => z.array(line(256)).max(max);
/** Whatever is in it was parsed strictly before. */
export const jsonObject = z.record(z.string(), z.unknown()) as unknown as z.ZodType<JsonObject>;
const depth = z.int().min(0).max(16);

/** Somebody else, as the caller knows them. Members besides these mean nothing. */
export const person = z
  .strictObject({
    id: line(256),
    type: z.enum(['user', 'service', 'agent']).optional(),
    tenant_id: line(128).nullish().describe('if given, the caller’s own tenant'),
    email: line(320).nullish(),
    username: line(256).nullish(),
    roles: names(100).nullish(),
    teams: names(100).nullish(),
    groups: names(1000).nullish(),
    permissions: names(1000).nullish(),
    scopes: names(1000).nullish(),
    tenure_months: z.int().min(0).max(1200).nullish(),
    mfa_verified: z.boolean().nullish(),
    device_compliant: z.boolean().nullish(),
  })
  .meta({ id: 'Person' });
export type Person = z.output<typeof person>;

/** Actions that can be asked about; the ones a gateway enforces between clients and servers or models. */
export const ASKABLE = [
  'gateway:tool:invoke',
  'gateway:tool:discover',
  'gateway:server:access',
  'gateway:server:list',
  'gateway:server:info',
  'gateway:resource:read',
  'gateway:resource:discover',
  'gateway:prompt:get',
  'gateway:prompt:discover',
  'llm:chat:create',
  'llm:responses:create',
  'llm:messages:create',
  'llm:embeddings:create',
  'llm:models:list',
] as const;
export type Askable = (typeof ASKABLE)[number];

export const authorizeRequest = z
  .strictObject({
    action: z.enum(ASKABLE),
    server_name: line(64).nullish().describe('needed for everything but models and gateway:server:list'),
    tool_name: line(256).nullish().describe('needed for gateway:tool:*'),
    resource_uri: line(8192).nullish().describe('needed for gateway:resource:*'),
    prompt_name: line(256).nullish().describe('needed for gateway:prompt:*'),
    model: line(256).nullish().describe('needed for llm:*'),
    max_tokens: z.int().min(1).nullish().describe('of llm:*: the longest answer that would be asked for'),
    parameters: jsonObject.nullish(),
    user: person.nullish().describe('somebody other than the caller: needs the permission gateway:authorize'),
    gateway_metadata: jsonObject.nullish().describe('accepted and not believed: the gateway finds these facts itself'),
  })
  .meta({ id: 'AuthorizeRequest' });
export type AuthorizeRequest = z.output<typeof authorizeRequest>;

const agent = z
  .strictObject({
    id: line(256),
    name: line(256).nullish(),
    trust_level: line(64).nullish(),
    capabilities: names(1000).nullish(),
  })
  .meta({ id: 'Agent' });
export type Agent = z.output<typeof agent>;

export const authorizeA2aRequest = z
  .strictObject({
    action: z.enum(['a2a:invoke', 'a2a:delegate']).default('a2a:invoke'),
    source_agent: agent.nullish(),
    target_agent: agent.nullish(),
    source_user: person.nullish().describe('of a2a:delegate: who hands rights on'),
    target_user: person.nullish().describe('of a2a:delegate: who gets them'),
    tool_name: line(256).nullish().describe('the capability that is asked of the target'),
    parameters: jsonObject.nullish(),
    context: z
      .strictObject({
        workflow_id: line(256).nullish(),
        user_id: line(256).nullish(),
        delegation_depth: depth.nullish(),
      })
      .nullish(),
  })
  .meta({ id: 'AuthorizeA2aRequest' });
export type AuthorizeA2aRequest = z.output<typeof authorizeA2aRequest>;

const reason = z.object({ code: z.string(), message: z.string() }).meta({ id: 'Reason' });

const obligation = z
  .discriminatedUnion('type', [
    z.object({
      type: z.literal('require_approval'),
      reason: z.string().optional(),
      ttl_seconds: z.number().optional(),
    }),
    z.object({ type: z.literal('require_mfa') }),
    z.object({ type: z.literal('redact_parameters'), names: z.array(z.string()) }),
    z.object({ type: z.literal('redact_result'), names: z.array(z.string()) }),
    z.object({ type: z.literal('inject_credential'), auth_type: z.string(), key: z.string() }),
    z.object({
      type: z.literal('rate_limit'),
      limit: z.number(),
      window_seconds: z.number(),
      name: z.string().optional(),
    }),
    z.object({ type: z.literal('clamp'), name: z.string(), maximum: z.number() }),
    z.object({ type: z.literal('set_header'), name: z.string(), value: z.string() }),
    z.object({ type: z.literal('audit'), level: z.enum(['full', 'metadata']) }),
  ])
  .meta({ id: 'Obligation' });

/** The published decision document, version 1. */
export const decisionDocument = z
  .strictObject({
    version: z.literal('1'),
    allow: z.boolean(),
    decision: z.enum(['allow', 'deny']),
    code: z.string().nullable().describe('what the gateway would refuse with; null for an allow'),
    status: z.int().describe('the HTTP status the gateway would refuse with; 200 for an allow'),
    reason: z.string().nullable(),
    deny: z.array(reason),
    obligations: z.array(obligation).describe('what has to be done for an allow to hold'),
    filtered_parameters: jsonObject.nullable().describe('what may be forwarded; null for a deny'),
    classification: z.strictObject({
      tool_type: z.string(),
      sensitivity_level: z.enum(SENSITIVITIES),
      reasons: z.array(z.string()),
      resources: z.array(z.string()),
    }),
    request_id: z.string(),
    audit_id: z.string().describe('the audit trail finds this decision under it'),
    decision_id: z.string(),
    cache_ttl: z.int().describe('seconds for which the same question has the same answer; 0: ask again'),
    valid_until: z.string().nullable().describe('RFC 3339: the end of cache_ttl; null where nothing may be kept'),
    policy: z.strictObject({
      revision: z.string(),
      eval_us: z.number().describe('microseconds of evaluation; 0 for a decision that was remembered'),
      cached: z.boolean().describe('a decision on an equal input was remembered'),
    }),
    metadata: z.strictObject({
      policy_version: z.string().describe('revision of the policy'),
      evaluated_at: z.string().describe('RFC 3339'),
    }),
  })
  .meta({ id: 'DecisionDocument' });
export type DecisionDocument = z.output<typeof decisionDocument>;

export const a2aDecisionDocument = decisionDocument
  .extend({ max_delegation_depth: z.int().describe('depth at which the policy would refuse; 0 for a deny') })
  .meta({ id: 'A2aDecisionDocument' });
export type A2aDecisionDocument = z.output<typeof a2aDecisionDocument>;

/** What a gateway elsewhere reports of a call it let through or refused. */
export const auditRequest = z
  .object({
    event_type: line(64),
    user_id: line(256).nullish(),
    server_name: line(64).nullish(),
    tool_name: line(256).nullish(),
    action: line(64).nullish(),
    decision: z.enum(['allow', 'deny']).nullish(),
    reason: z.string().max(2000).nullish(),
    timestamp: z.union([z.iso.datetime({ offset: true }), z.number()]).nullish(),
    gateway_request_id: line(256).nullish(),
    metadata: jsonObject.nullish(),
  })
  .meta({ id: 'AuditRequest' });
export type AuditRequest = z.output<typeof auditRequest>;

export const auditReceipt = z
  .strictObject({ audit_id: z.string(), request_id: z.string(), recorded: z.boolean() })
  .meta({ id: 'AuditReceipt' });

const tool = z
  .object({
    tool_id: z.string().describe('SERVER-TOOL, for showing'),
    server_name: z.string(),
    name: z.string(),
    description: z.unknown(),
    input_schema: z.unknown(),
    annotations: z.unknown(),
    governance: z
      .object({
        requires_hitl: z.boolean(),
        cost: z.enum(TOOL_COSTS).nullable(),
        data_sensitivity: z.enum(DATA_SENSITIVITIES).nullable(),
      })
      .describe('what the operator says of it'),
    auth: z
      .object({ auth_type: z.literal('oauth2'), auth_server: z.string(), scopes: z.array(z.string()) })
      .nullable()
      .describe('where a token for it comes from; null where no authorization server is known'),
  })
  .meta({ id: 'Tool' });

const server = z
  .object({
    name: z.string(),
    description: z.string().nullable(),
    enabled: z.boolean(),
    metadata: z.object({
      server_type: z.string(),
      environment: z.string().nullable(),
      sensitivity_level: z.enum(SENSITIVITIES).nullable(),
    }),
    tools: z.array(tool).optional(),
    tools_available: z.literal(false).optional(),
  })
  .meta({ id: 'Server' });

export const serverList = z.object({ servers: z.array(server) }).meta({ id: 'ServerList' });
export const toolList = z
  .object({
    tools: z.array(tool),
    errors: z.array(z.object({ server_name: z.string(), code: z.string() })).optional(),
  })
  .meta({ id: 'ToolList' });

export const versionDocument = z
  .object({
    name: z.literal('portcullis'),
    version: z.string(),
    api_version: z.string(),
    features: z.record(z.string(), z.boolean()),
  })
  .meta({ id: 'Version' });

export const problemDocument = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    instance: z.string(),
    error: z.object({ code: z.string(), message: z.string(), details: jsonObject }),
    request_id: z.string(),
  })
  .meta({ id: 'Problem' });
