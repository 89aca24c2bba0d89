/**
 * Builds the policy input. Everything in it comes from the gateway; of the caller there is only what stands in
 * `parameters`. Every field is always present. What stays the same between requests is built once and shared, so that
 * the engine can recognise it. Source: design 2.3.
 */

import type { ServerFacts } from '../classification/classifier.ts';
import type { ClassifiedCall } from '../core/call.ts';
import type { ApprovalFacts, DecisionRequest, RequestFacts } from '../core/decision.ts';
import type { JsonObject, JsonValue } from '../core/json.ts';
import type { Principal } from '../core/principal.ts';
import { declaredAlike } from '../core/tool-name.ts';
import { a2aMembers, chainOf } from './a2a-input.ts';
import { part } from './sized-text.ts';
import { markLasting } from './wasm/input-writer.ts';

/** Version of the document's shape. */
export const INPUT_VERSION = '1';
export const GATEWAY_VERSION = '0.1.0';

/** The document as policies see it. */
export interface PolicyInput {
  readonly version: string;
  readonly request_id: string;
  readonly timestamp: string;
  readonly action: string;
  readonly server_name: string | null;
  readonly tool_name: string | null;
  readonly parameters: JsonObject | null;
  readonly user: JsonObject;
  readonly gateway_metadata: Readonly<Record<string, JsonValue>>;
  readonly server: JsonObject | null;
  readonly tool: JsonObject | null;
  readonly resource: Readonly<Record<string, JsonValue>>;
  readonly rate_limit: { readonly window_seconds: number; readonly count: number };
  readonly source_user: JsonValue;
  readonly target_user: JsonValue;
  readonly delegation_depth: number;
  readonly delegation_chain: readonly JsonValue[];
  readonly source_agent: JsonValue;
  readonly target_agent: JsonValue;
  readonly capability: string | null;
  readonly context: JsonObject;
  readonly llm: JsonValue;
  readonly data_region: string | null;
}

/** The document with the calls to decide in one go; an element holds only what differs from the document. */
export interface BatchInput extends PolicyInput {
  readonly calls: readonly JsonObject[];
}

const NO_CLASSES: JsonObject = markLasting({});
/** Names of tools come from callers: no more of them are remembered per server. */
const MAX_REMEMBERED = 2000;

/** The document for one call. */
export function buildInput(request: DecisionRequest, server: ServerFacts | null): PolicyInput {
  const { facts, principal, call } = request;
  const timestamp = isoTime(facts.now);
  const described = server === null ? null : describe(server);
  const chain = chainOf(principal.actor);
  const a2a = a2aMembers(call.a2a, chain.length);
  return {
    version: INPUT_VERSION,
    request_id: facts.request_id,
    timestamp,
    action: call.action,
    server_name: call.server,
    tool_name: call.tool,
    parameters: call.parameters,
    user: userOf(principal, facts.now),
    gateway_metadata: gatewayMetadata(facts, principal, call, server, timestamp),
    server: described === null ? null : described.document,
    tool: toolOf(call, described),
    resource: call.resource as unknown as JsonObject,
    rate_limit: facts.rate,
    source_user: a2a.source_user,
    target_user: a2a.target_user,
    delegation_depth: chain.length,
    delegation_chain: chain,
    source_agent: a2a.source_agent,
    target_agent: a2a.target_agent,
    capability: a2a.capability,
    context: a2a.context,
    llm: call.llm as unknown as JsonValue,
    data_region: server?.data_region ?? textParameter(call.parameters, 'data_region'),
  };
}

/** The server's truth first; what the caller says stands in only where the server says nothing. */
function gatewayMetadata(
  facts: RequestFacts,
  principal: Principal,
  call: ClassifiedCall,
  server: ServerFacts | null,
  timestamp: string,
): Readonly<Record<string, JsonValue>> {
  const { classification } = call;
  return {
    tool_type: classification.tool_type,
    sensitivity_level: classification.sensitivity_level,
    classification_reasons: classification.reasons,
    classification_resources: classification.resources,
    possible_classes: classification.possible ?? NO_CLASSES,
    server_type: server?.type ?? null,
    environment: server?.environment ?? textParameter(call.parameters, 'environment'),
    gateway_version: GATEWAY_VERSION,
    endpoint: facts.endpoint,
    request_id: facts.request_id,
    timestamp,
    source_ip: facts.source_ip,
    source_region: facts.source_region,
    user_agent: facts.user_agent,
    encryption_enabled: facts.encryption_enabled,
    device_compliant: principal.device_compliant,
    approval_token: null,
    approval: approvalOf(facts.approval),
  };
}

function textParameter(parameters: JsonObject | null, name: string): string | null {
  if (parameters === null || !Object.hasOwn(parameters, name)) return null;
  const value = parameters[name];
  return typeof value === 'string' ? value : null;
}

let noApproval: ApprovalFacts | null = null;

/** Nearly always the one constant that says there is none. */
function approvalOf(approval: ApprovalFacts): JsonObject {
  if (!approval.present && approval !== noApproval) noApproval = markLasting(approval);
  return approval as unknown as JsonObject;
}

interface KnownUser {
  readonly document: JsonObject;
  /** Seconds since the second factor the document was built for. */
  readonly age: number | null;
}

const users = new WeakMap<Principal, KnownUser>();

/** Whole seconds since the second factor, or null. */
export function mfaAge(principal: Principal, now: number): number | null {
  const at = principal.auth.mfa_at;
  return at === null ? null : Math.max(0, Math.floor(now / 1000 - at));
}

function userOf(principal: Principal, now: number): JsonObject {
  const age = mfaAge(principal, now);
  const known = users.get(principal);
  if (known !== undefined && known.age === age) return known.document;
  const document = markLasting(userDocument(principal, age));
  users.set(principal, { document, age });
  return document;
}

function userDocument(principal: Principal, age: number | null): JsonObject {
  return {
    id: principal.id,
    type: principal.type,
    tenant_id: principal.tenant_id,
    email: principal.email,
    username: principal.username,
    roles: principal.roles,
    teams: principal.teams,
    groups: principal.groups,
    permissions: principal.permissions,
    scopes: principal.scopes,
    actor: principal.actor as unknown as JsonValue,
    tenure_months: principal.tenure_months,
    mfa_verified: principal.auth.mfa_verified,
    mfa_age_seconds: age,
    auth_provider: principal.auth.provider,
    auth_method: principal.auth.method,
    key_id: principal.auth.key_id,
    session_id: principal.auth.session_id,
    metadata: principal.metadata,
  };
}

/** What is known of a server, built once. */
interface Described {
  readonly facts: ServerFacts;
  readonly document: JsonObject;
  readonly tools: Map<string, JsonObject>;
  /** Elements of lists by tool or resource, with the call each was made for. */
  readonly elements: Map<string, { readonly call: ClassifiedCall; readonly element: JsonObject }>;
}

const servers = new WeakMap<ServerFacts, Described>();

function describe(server: ServerFacts): Described {
  const known = servers.get(server);
  if (known !== undefined) return known;
  const document = markLasting({
    name: server.name,
    type: server.type,
    dialect: server.dialect,
    environment: server.environment,
    region: server.region,
    data_region: server.data_region,
    sensitivity_level: server.sensitivity_level,
    sensitivity_floor: server.sensitivity_floor,
    tags: server.tags,
    owner_team: server.owner_team,
    enabled: server.enabled,
    description: server.description,
    allow: server.allow,
  });
  const made: Described = { facts: server, document, tools: new Map(), elements: new Map() };
  servers.set(server, made);
  return made;
}

function toolOf(call: ClassifiedCall, described: Described | null): JsonObject | null {
  if (call.tool === null) return null;
  if (described === null) return toolDocument(call, null);
  // Callers choose the name: the hash stands with its length, so that no name reads like another tool's hash and name.
  const key = part(call.schema_hash) + call.tool;
  const known = described.tools.get(key);
  if (known !== undefined) return known;
  const made = toolDocument(call, described.facts);
  remember(described.tools, key, made);
  return made;
}

function toolDocument(call: ClassifiedCall, server: ServerFacts | null): JsonObject {
  const name = call.tool ?? '';
  const declared = server !== null && Object.hasOwn(server.tools, name) ? server.tools[name] : undefined;
  const alike = server === null ? undefined : declaredAlike(server.tools, name);
  return {
    name,
    type: declared?.type ?? null,
    sensitivity_level: declared?.sensitivity ?? null,
    sensitivity_floor: alike?.floor ?? null,
    requires_hitl: alike?.requires_hitl ?? false,
    cost: declared?.cost ?? null,
    data_sensitivity: declared?.data_sensitivity ?? null,
    sensitive_params: alike?.sensitive_params ?? [],
    required_capabilities: [],
    auth: null,
    schema_hash: call.schema_hash,
  };
}

function remember(map: Map<string, JsonObject>, key: string, value: JsonObject): void {
  if (map.size >= MAX_REMEMBERED) map.clear();
  map.set(key, markLasting(value));
}

/** The document for many calls of one request. There is at least one. */
export function buildBatchInput(
  requests: readonly DecisionRequest[],
  serverOf: (name: string | null) => ServerFacts | null,
): BatchInput {
  const first = requests[0];
  if (first === undefined) throw new RangeError('nothing to decide');
  const server = serverOf(first.call.server);
  // What only the first call has must not stand in the document, where every element would inherit it.
  const { possible, ...classification } = first.call.classification;
  const { a2a, ...shared } = first.call;
  const document = buildInput({ ...first, call: { ...shared, parameters: null, llm: null, classification } }, server);
  const calls = requests.map(({ call }) => element(call, serverOf(call.server), document));
  return { ...document, calls };
}

function element(call: ClassifiedCall, server: ServerFacts | null, document: PolicyInput): JsonObject {
  const described = server === null ? null : describe(server);
  const plain =
    described !== null &&
    described.document === document.server &&
    call.server === document.server_name &&
    call.parameters === null &&
    call.llm === null &&
    call.a2a === undefined &&
    call.resource.permissions === null;
  if (!plain) return makeElement(call, described, server, document);
  const known = described.elements.get(call.tool ?? call.resource.id);
  if (known !== undefined && sameCall(known.call, call)) return known.element;
  const made = markLasting(makeElement(call, described, server, document));
  if (described.elements.size >= MAX_REMEMBERED) described.elements.clear();
  described.elements.set(call.tool ?? call.resource.id, { call, element: made });
  return made;
}

/** Whether two calls without parameters say the same of the same thing. */
function sameCall(a: ClassifiedCall, b: ClassifiedCall): boolean {
  if (a.action !== b.action || a.tool !== b.tool || a.schema_hash !== b.schema_hash) return false;
  const { classification: c, resource: r } = a;
  const { classification: d, resource: s } = b;
  return (
    c.tool_type === d.tool_type &&
    c.sensitivity_level === d.sensitivity_level &&
    sameTexts(c.reasons, d.reasons) &&
    sameTexts(c.resources, d.resources) &&
    c.possible === d.possible &&
    r.type === s.type &&
    r.id === s.id &&
    r.tenant_id === s.tenant_id &&
    r.owner_id === s.owner_id
  );
}

function sameTexts(a: readonly string[], b: readonly string[]): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function makeElement(
  call: ClassifiedCall,
  described: Described | null,
  server: ServerFacts | null,
  document: PolicyInput,
): JsonObject {
  const { classification } = call;
  const same = (described?.document ?? null) === document.server && call.server === document.server_name;
  const metadata: Record<string, JsonValue> = {
    tool_type: classification.tool_type,
    sensitivity_level: classification.sensitivity_level,
    classification_reasons: classification.reasons,
    classification_resources: classification.resources,
  };
  if (classification.possible !== undefined) metadata.possible_classes = classification.possible;
  const out: Record<string, JsonValue> = {
    action: call.action,
    tool_name: call.tool,
    gateway_metadata: metadata,
    tool: toolOf(call, described),
    resource: call.resource as unknown as JsonObject,
  };
  if (call.parameters !== null) out.parameters = call.parameters;
  if (call.llm !== null) out.llm = call.llm as unknown as JsonValue;
  if (call.a2a !== undefined) Object.assign(out, a2aMembers(call.a2a, document.delegation_depth));
  const environment = server?.environment ?? textParameter(call.parameters, 'environment');
  const region = server?.data_region ?? textParameter(call.parameters, 'data_region');
  if (environment !== document.gateway_metadata.environment) metadata.environment = environment;
  if (region !== document.data_region) out.data_region = region;
  if (same) return out;
  metadata.server_type = server?.type ?? null;
  out.server_name = call.server;
  out.server = described?.document ?? null;
  return out;
}

let isoSecond = Number.NaN;
let isoPrefix = '';

/** RFC 3339 with milliseconds; `Date` is asked once a second. */
export function isoTime(now: number): string {
  const second = Math.floor(now / 1000);
  if (second !== isoSecond) {
    isoPrefix = new Date(second * 1000).toISOString().slice(0, 20);
    isoSecond = second;
  }
  const ms = Math.floor(now) - second * 1000;
  return `${isoPrefix}${ms < 10 ? '00' : ms < 100 ? '0' : ''}${ms}Z`;
}
