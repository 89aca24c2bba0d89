/**
 * Remembers decisions. The key holds everything of the request that the policy reads, except the request's own id and
 * time; the count of the rate limit enters as its position among the limits that the policy's data names. Every part
 * is written with its length, so no two different requests have one key. Source: contracts 3, design 2.5.
 */
import { hash } from 'node:crypto';
import type { ServerFacts } from '../classification/classifier.ts';
import type { Sensitivity } from '../core/call.ts';
import type { DecisionRequest } from '../core/decision.ts';
import { isJsonObject, type JsonValue } from '../core/json.ts';
import type { Principal } from '../core/principal.ts';
import { mfaAge } from './input.ts';
import { parametersRead, type ReadSet, reads } from './input-shape.ts';
import type { Verdict } from './result.ts';

export interface CacheOptions {
  /** Decisions kept at most; 0 turns the cache off. */
  readonly entries: number;
  /** Life of a decision on a medium call. */
  readonly base_ttl_ms: number;
}

/** Share of the base life by class. Critical calls are decided each time. */
const FACTORS: Readonly<Record<Sensitivity, number>> = { low: 2, medium: 1, high: 0.5, critical: 0 };
const MAX_DENY_MS = 5000;
/** Longer keys are kept as their digest. */
const MAX_KEY_LENGTH = 1024;

interface Entry {
  readonly verdict: Verdict;
  readonly storedAt: number;
  readonly expiresAt: number;
  readonly user: string;
  readonly tenant: string;
  readonly server: string | null;
  readonly tool: string | null;
}

/** Which decisions an administrator wants to be made anew; absent members mean any. */
export interface Invalidation {
  readonly tenant?: string;
  readonly user?: string;
  readonly server?: string;
  readonly tool?: string;
}

/** Least recently used goes first: a Map keeps the order of insertion. */
export class DecisionCache {
  readonly #options: CacheOptions;
  readonly #entries = new Map<string, Entry>();

  constructor(options: CacheOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Whether a decision on this request may be remembered at all. */
  accepts(request: DecisionRequest): boolean {
    return (
      this.#options.entries > 0 &&
      !request.facts.approval.present &&
      FACTORS[request.call.classification.sensitivity_level] > 0
    );
  }

  get(key: string, now: number): Verdict | null {
    const entry = this.#entries.get(key);
    if (entry === undefined) return null;
    // A clock that was set back must not prolong a decision's life.
    if (now >= entry.expiresAt || now < entry.storedAt) {
      this.#entries.delete(key);
      return null;
    }
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry.verdict;
  }

  set(key: string, verdict: Verdict, request: DecisionRequest): void {
    const { now } = request.facts;
    const expiresAt = this.#expiry(verdict, request);
    if (expiresAt <= now) return;
    if (this.#entries.size >= this.#options.entries) this.#dropOldest();
    const { principal, call } = request;
    this.#entries.set(key, {
      ...{ verdict, storedAt: now, expiresAt },
      ...{ user: principal.id, tenant: principal.tenant_id, server: call.server, tool: call.tool },
    });
  }

  #dropOldest(): void {
    const oldest = this.#entries.keys().next();
    if (oldest.done !== true) this.#entries.delete(oldest.value);
  }

  #expiry(verdict: Verdict, request: DecisionRequest): number {
    if (verdict.failure !== null || !this.accepts(request)) return 0;
    if (verdict.volatile && verdict.validUntil === null) return 0;
    const { now } = request.facts;
    const life = this.#options.base_ttl_ms * FACTORS[request.call.classification.sensitivity_level];
    const expiresAt = now + (verdict.allow ? life : Math.min(life, MAX_DENY_MS));
    return verdict.validUntil === null ? expiresAt : Math.min(expiresAt, verdict.validUntil);
  }

  clear(): void {
    this.#entries.clear();
  }

  /** Forgets the decisions that match; gives how many. */
  invalidate(what: Invalidation): number {
    let count = 0;
    for (const [key, entry] of this.#entries) {
      if (what.tenant !== undefined && entry.tenant !== what.tenant) continue;
      if (what.user !== undefined && entry.user !== what.user) continue;
      if (what.server !== undefined && entry.server !== what.server) continue;
      if (what.tool !== undefined && entry.tool !== what.tool) continue;
      this.#entries.delete(key);
      count++;
    }
    return count;
  }
}

const UNIQUE = new Set(['request_id', 'timestamp', 'gateway_metadata.request_id', 'gateway_metadata.timestamp']);

/** Makes keys for one activated policy. */
export class KeyMaker {
  readonly #set: ReadSet;
  readonly #parameters: readonly string[] | null;
  readonly #thresholds: readonly number[] | null;
  readonly #has: Readonly<
    Record<'user' | 'age' | 'server' | 'tool' | 'metadata' | 'resource' | 'llm' | 'count', boolean>
  >;
  /** The policy asks for the request's own id or time: no two requests are alike. */
  readonly #perRequest: boolean;
  readonly #users = new Fingerprints<Principal>(userText);
  readonly #servers = new Fingerprints<ServerFacts>(JSON.stringify);

  /** `data` is the policy's data document, for its rate limits. */
  constructor(set: ReadSet, data: JsonValue) {
    this.#set = set;
    this.#parameters = parametersRead(set);
    this.#thresholds = rateThresholds(data);
    this.#perRequest = set?.some((path) => UNIQUE.has(path.join('.'))) ?? false;
    this.#has = {
      user: reads(set, 'user'),
      age: reads(set, 'user', 'mfa_age_seconds'),
      server: reads(set, 'server') || reads(set, 'tool') || reads(set, 'gateway_metadata') || reads(set, 'data_region'),
      tool: reads(set, 'tool'),
      metadata: ['endpoint', 'source_ip', 'source_region', 'user_agent', 'encryption_enabled', 'device_compliant']
        .concat('classification_resources')
        .some((name) => reads(set, 'gateway_metadata', name)),
      resource: reads(set, 'resource'),
      llm: reads(set, 'llm'),
      count: reads(set, 'rate_limit'),
    };
  }

  /** The key of a request, or null when the policy reads what differs each time. */
  key(entrypoint: string, request: DecisionRequest, server: ServerFacts | null): string | null {
    const { call, facts, principal } = request;
    const has = this.#has;
    if (this.#perRequest) return null;
    const { classification } = call;
    let key = `${part(entrypoint)}${part(principal.tenant_id)}${part(call.action)}${part(call.server)}${part(call.tool)}`;
    key += `${part(classification.tool_type)}${part(classification.sensitivity_level)}${list(classification.reasons)}`;
    if (has.user) key += `${this.#users.of(principal)},`;
    if (has.age) key += `${mfaAge(principal, facts.now)},`;
    if (has.server && server !== null) key += `${this.#servers.of(server)},`;
    if (has.tool) key += part(call.schema_hash);
    if (has.metadata) key += this.#metadata(request);
    if (has.resource) key += resourceText(request);
    if (has.count) key += this.#bucket(facts.rate.count, facts.rate.window_seconds);
    if (has.llm && call.llm !== null) key += part(JSON.stringify(call.llm));
    key += this.#parameterText(request);
    return key.length > MAX_KEY_LENGTH ? hash('sha256', key, 'base64') : key;
  }

  #metadata({ call, facts, principal }: DecisionRequest): string {
    const set = this.#set;
    let key = `${part(facts.endpoint)}${part(facts.source_region)}`;
    key += `${facts.encryption_enabled ? 1 : 0}${principal.device_compliant ? 1 : 0}`;
    if (set === null || reads(set, 'gateway_metadata', 'source_ip')) key += part(facts.source_ip);
    if (set === null || reads(set, 'gateway_metadata', 'user_agent')) key += part(facts.user_agent);
    return key + list(call.classification.resources);
  }

  /** The rules compare the count with the limits of the data only, so counts between the same limits are alike. */
  #bucket(count: number, window: number): string {
    const limits = this.#thresholds;
    if (limits === null) return `${window}/${count},`;
    let bucket = 0;
    while (bucket < limits.length && count >= (limits[bucket] ?? 0)) bucket++;
    return `${window}/${bucket},`;
  }

  #parameterText({ call }: DecisionRequest): string {
    const names = this.#parameters;
    const { parameters } = call;
    // The document takes these two from the caller where the server says nothing.
    if (parameters === null) return '-';
    if (names === null) return part(JSON.stringify(parameters));
    let key = '';
    for (const name of ['environment', 'data_region'])
      key += Object.hasOwn(parameters, name) ? part(JSON.stringify(parameters[name])) : '-';
    for (const name of names) key += Object.hasOwn(parameters, name) ? part(JSON.stringify(parameters[name])) : '-';
    return key;
  }
}

/** A text with its length: concatenations of such parts are unambiguous. */
function part(text: string | null): string {
  return text === null ? '-' : `${text.length}:${text}`;
}

function list(texts: readonly string[]): string {
  if (texts.length === 0) return '0;';
  let out = `${texts.length};`;
  for (const text of texts) out += part(text);
  return out;
}

function resourceText({ call: { resource } }: DecisionRequest): string {
  const permissions = resource.permissions === null ? '-' : part(JSON.stringify(resource.permissions));
  return `${resource.type},${part(resource.id)}${part(resource.tenant_id)}${part(resource.owner_id)}${permissions}`;
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
