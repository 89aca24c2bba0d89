/**
 * Keys of remembered decisions. A key holds everything of the request that the policy reads, except the request's own id
 * and time; the count of the rate limit enters as its position among the limits that the policy's data names, unless a
 * package of the operator reads it. Every part is written with its length, so no two different requests have one key.
 * Source: contracts 3, design 2.5.
 */
import { hash } from 'node:crypto';
import type { ServerFacts } from '../classification/classifier.ts';
import type { DecisionRequest } from '../core/decision.ts';
import { isJsonObject, type JsonObject, type JsonValue } from '../core/json.ts';
import type { Principal } from '../core/principal.ts';
import { mfaAge } from './input.ts';
import { EXACT_COUNT, parametersRead, type ReadSet, reads } from './input-shape.ts';
import { list, part } from './sized-text.ts';

/** Longer keys are kept as their digest. */
const MAX_KEY_LENGTH = 1024;
const UNIQUE = new Set(['request_id', 'timestamp', 'gateway_metadata.request_id', 'gateway_metadata.timestamp']);

const A2A_MEMBERS = ['source_user', 'target_user', 'source_agent', 'target_agent', 'capability', 'context'];
/** What the document says of who acts for whom; `user.actor` is the user's. */
const OF_THE_CHAIN = ['delegation_depth', 'delegation_chain', 'context'];

/** One thing a policy may read, as text that cannot run into its neighbours. */
type Part = (request: DecisionRequest, server: ServerFacts | null) => string;

/** Makes keys for one activated policy. */
export class KeyMaker {
  readonly #parts: readonly Part[];
  /** The policy asks for the request's own id or time: no two requests are alike. */
  readonly #perRequest: boolean;

  /** `data` is the policy's data document, for its rate limits. */
  constructor(set: ReadSet, data: JsonValue) {
    this.#perRequest = set?.some((path) => UNIQUE.has(path.join('.'))) ?? false;
    this.#parts = [...callParts(set), ...callerParts(set), ...requestParts(set, data), ...parameterParts(set)];
  }

  /** The key of a request, or null when the policy reads what differs each time. */
  key(entrypoint: string, request: DecisionRequest, server: ServerFacts | null): string | null {
    if (this.#perRequest) return null;
    // Always there, whatever is read: tenants never share, and classes have lives of their own.
    let key = part(entrypoint) + part(request.principal.tenant_id) + request.call.classification.sensitivity_level;
    for (const piece of this.#parts) key += piece(request, server);
    return key.length > MAX_KEY_LENGTH ? hash('sha256', key, 'base64') : key;
  }
}

function callParts(set: ReadSet): Part[] {
  const metadata = (name: string): boolean => reads(set, 'gateway_metadata', name);
  return choose([
    [reads(set, 'action'), ({ call }) => part(call.action)],
    [reads(set, 'server_name'), ({ call }) => part(call.server)],
    [reads(set, 'tool_name') || reads(set, 'tool'), ({ call }) => part(call.tool)],
    [reads(set, 'tool', 'schema_hash'), ({ call }) => part(call.schema_hash)],
    [metadata('tool_type'), ({ call }) => part(call.classification.tool_type)],
    [metadata('classification_reasons'), ({ call }) => list(call.classification.reasons)],
    [metadata('classification_resources'), ({ call }) => list(call.classification.resources)],
    [metadata('possible_classes'), ({ call }) => json(call.classification.possible ?? null)],
    [reads(set, 'resource', 'type'), ({ call }) => part(call.resource.type)],
    [reads(set, 'resource', 'id'), ({ call }) => part(call.resource.id)],
    [reads(set, 'resource', 'tenant_id'), ({ call }) => part(call.resource.tenant_id)],
    [reads(set, 'resource', 'owner_id'), ({ call }) => part(call.resource.owner_id)],
    [reads(set, 'resource', 'permissions'), ({ call }) => json(call.resource.permissions)],
    [reads(set, 'llm'), ({ call }) => json(call.llm)],
    [A2A_MEMBERS.some((name) => reads(set, name)), ({ call }) => json(call.a2a ?? null)],
  ]);
}

function callerParts(set: ReadSet): Part[] {
  const users = new Fingerprints<Principal>(userText);
  const servers = new Fingerprints<ServerFacts>(JSON.stringify);
  const fromServer = ['server', 'tool', 'data_region'].some((name) => reads(set, name));
  const inMetadata = ['server_type', 'environment'].some((name) => reads(set, 'gateway_metadata', name));
  return choose([
    [reads(set, 'user'), ({ principal }) => `u${users.of(principal)},`],
    [OF_THE_CHAIN.some((name) => reads(set, name)), ({ principal }) => json(principal.actor)],
    [reads(set, 'user', 'mfa_age_seconds'), ({ principal, facts }) => `${mfaAge(principal, facts.now)},`],
    [reads(set, 'gateway_metadata', 'device_compliant'), ({ principal }) => (principal.device_compliant ? '1' : '0')],
    [fromServer || inMetadata, (_, server) => (server === null ? '-' : `s${servers.of(server)},`)],
  ]);
}

function requestParts(set: ReadSet, data: JsonValue): Part[] {
  const metadata = (name: string): boolean => reads(set, 'gateway_metadata', name);
  const limits = reads(set, ...EXACT_COUNT) ? null : rateThresholds(data);
  return choose([
    [metadata('endpoint'), ({ facts }) => part(facts.endpoint)],
    [metadata('source_ip'), ({ facts }) => part(facts.source_ip)],
    [metadata('source_region'), ({ facts }) => part(facts.source_region)],
    [metadata('user_agent'), ({ facts }) => part(facts.user_agent)],
    [metadata('encryption_enabled'), ({ facts }) => (facts.encryption_enabled ? '1' : '0')],
    [reads(set, 'rate_limit', 'window_seconds'), ({ facts }) => `${facts.rate.window_seconds},`],
    [reads(set, 'rate_limit', 'count'), ({ facts }) => `${position(limits, facts.rate.count)},`],
  ]);
}

/** The document takes environment and region from the caller where the server says nothing. */
function parameterParts(set: ReadSet): Part[] {
  const named = parametersRead(set);
  if (named === null) return [({ call }) => json(call.parameters)];
  const names = new Set(named);
  if (reads(set, 'gateway_metadata', 'environment')) names.add('environment');
  if (reads(set, 'data_region')) names.add('data_region');
  const wanted = [...names];
  if (wanted.length === 0) return [];
  return [({ call }) => (call.parameters === null ? '-' : members(call.parameters, wanted))];
}

function members(parameters: JsonObject, names: readonly string[]): string {
  let text = '+';
  for (const name of names) text += Object.hasOwn(parameters, name) ? json(parameters[name]) : '-';
  return text;
}

function choose(parts: readonly (readonly [boolean, Part])[]): Part[] {
  return parts.filter(([wanted]) => wanted).map(([, piece]) => piece);
}

/** The rules compare the count with the limits of the data only, so counts between the same limits are alike. */
function position(limits: readonly number[] | null, count: number): number {
  if (limits === null) return count;
  let at = 0;
  while (at < limits.length && count >= (limits[at] ?? 0)) at++;
  return at;
}

function json(value: unknown): string {
  return value === null ? '-' : part(JSON.stringify(value));
}

/** All of a principal that the document shows, except what changes with time. */
function userText(principal: Principal): string {
  const { auth, ...rest } = principal;
  return JSON.stringify([rest, auth.provider, auth.method, auth.mfa_verified, auth.key_id, auth.session_id]);
}

/** Gives equal objects the same small number; numbers are never used twice. */
class Fingerprints<T extends object> {
  static readonly #limit = 50_000;
  readonly #text: (value: T) => string;
  readonly #byObject = new WeakMap<T, number>();
  readonly #byText = new Map<string, number>();
  #next = 1;

  constructor(text: (value: T) => string) {
    this.#text = text;
  }

  of(value: T): number {
    const known = this.#byObject.get(value);
    if (known !== undefined) return known;
    const text = this.#text(value);
    const same = this.#byText.get(text);
    const id = same ?? this.#next++;
    if (same === undefined) {
      if (this.#byText.size >= Fingerprints.#limit) this.#byText.clear();
      this.#byText.set(text, id);
    }
    this.#byObject.set(value, id);
    return id;
  }
}

/**
 * All numbers below `config.rate_limits`, each with its neighbours (so that `>` and `>=`, with or without the current
 * request, all fall on a border), sorted; null when the data names none: then the count itself is part of the key.
 */
export function rateThresholds(data: JsonValue): readonly number[] | null {
  const config = isJsonObject(data) ? data.config : undefined;
  const limits = isJsonObject(config) ? config.rate_limits : undefined;
  if (limits === undefined) return null;
  const found = new Set<number>();
  const collect = (value: JsonValue): void => {
    if (typeof value === 'number') for (const near of [value - 1, value, value + 1]) found.add(near);
    else if (Array.isArray(value)) value.forEach(collect);
    else if (isJsonObject(value)) Object.values(value).forEach(collect);
  };
  collect(limits);
  return [...found].sort((a, b) => a - b);
}
