/**
 * Remembers decisions for a while. What a key is, is the business of decision-key.ts. Source: contracts 3, design 2.5.
 */
import type { Sensitivity } from '../core/call.ts';
import type { DecisionRequest } from '../core/decision.ts';
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
/** Weight of one look-up in the moving hit rate of its class. */
const RATE_WEIGHT = 0.1;
/** What is asked for again and again lives longer; what is dangerous never does, however often it is asked for. */
const BOOSTED: Readonly<Record<Sensitivity, boolean>> = { low: true, medium: true, high: false, critical: false };

/** How much longer a decision lives at this share of hits. Source: acceptance S-84. */
function boostAt(rate: number): number {
  if (rate > 0.9) return 1.5;
  return rate > 0.7 ? 1.2 : 1;
}

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

/**
 * Bounded in two generations: when the young one holds half of what is allowed it becomes the old one, and what was old
 * and not asked for is gone. A hit among the young is one look-up; moving entries on each hit would cost thrice that.
 */
export class DecisionCache {
  readonly #options: CacheOptions;
  #young = new Map<string, Entry>();
  #old = new Map<string, Entry>();
  /** One figure per class: bounded whatever is asked for. */
  readonly #hitRate: Record<Sensitivity, number> = { low: 0, medium: 0, high: 0, critical: 0 };

  constructor(options: CacheOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#young.size + this.#old.size;
  }

  /** Whether a decision on this request may be remembered at all. */
  accepts(request: DecisionRequest): boolean {
    return (
      this.#options.entries > 0 &&
      !request.facts.approval.present &&
      FACTORS[request.call.classification.sensitivity_level] > 0
    );
  }

  /** Takes note of one look-up of a call of this class. */
  note(level: Sensitivity, hit: boolean): void {
    const rate = this.#hitRate[level];
    this.#hitRate[level] = rate + ((hit ? 1 : 0) - rate) * RATE_WEIGHT;
  }

  get(key: string, now: number): Verdict | null {
    let entry = this.#young.get(key);
    if (entry === undefined) {
      entry = this.#old.get(key);
      if (entry === undefined) return null;
      this.#old.delete(key);
      this.#keep(key, entry);
    }
    // A clock that was set back must not prolong a decision's life.
    if (now < entry.expiresAt && now >= entry.storedAt) return entry.verdict;
    this.#young.delete(key);
    return null;
  }

  set(key: string, verdict: Verdict, request: DecisionRequest): void {
    const { now } = request.facts;
    const expiresAt = this.#expiry(verdict, request);
    if (expiresAt <= now) return;
    const { principal, call } = request;
    this.#old.delete(key);
    this.#keep(key, {
      ...{ verdict, storedAt: now, expiresAt },
      ...{ user: principal.id, tenant: principal.tenant_id, server: call.server, tool: call.tool },
    });
  }

  #keep(key: string, entry: Entry): void {
    if (this.#young.size >= Math.ceil(this.#options.entries / 2) && !this.#young.has(key)) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(key, entry);
  }

  #expiry(verdict: Verdict, request: DecisionRequest): number {
    if (verdict.failure !== null || !this.accepts(request)) return 0;
    if (verdict.volatile && verdict.validUntil === null) return 0;
    const { now } = request.facts;
    const level = request.call.classification.sensitivity_level;
    const boost = BOOSTED[level] ? boostAt(this.#hitRate[level]) : 1;
    const life = this.#options.base_ttl_ms * FACTORS[level] * boost;
    const expiresAt = now + (verdict.allow ? life : Math.min(life, MAX_DENY_MS));
    return verdict.validUntil === null ? expiresAt : Math.min(expiresAt, verdict.validUntil);
  }

  clear(): void {
    this.#young.clear();
    this.#old.clear();
  }

  /** Forgets the decisions that match; gives how many. */
  invalidate(what: Invalidation): number {
    return forget(this.#young, what) + forget(this.#old, what);
  }
}

function forget(entries: Map<string, Entry>, what: Invalidation): number {
  let count = 0;
  for (const [key, entry] of entries) {
    if (what.tenant !== undefined && entry.tenant !== what.tenant) continue;
    if (what.user !== undefined && entry.user !== what.user) continue;
    if (what.server !== undefined && entry.server !== what.server) continue;
    if (what.tool !== undefined && entry.tool !== what.tool) continue;
    entries.delete(key);
    count++;
  }
  return count;
}
