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
    const life = this.#options.base_ttl_ms * FACTORS[request.call.classification.sensitivity_level];
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
