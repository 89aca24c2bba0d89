/**
 * Remembers what a credential was found to be, by digest and never by the credential. One per provider, so that what
 * one issuer vouched for can never answer for another. The same frozen Principal object comes back on every hit: later
 * stages keep what they derive from it in WeakMaps.
 */
import { hash, randomBytes } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { Principal } from '../core/principal.ts';
import type { AuthResult } from './provider.ts';

export type Authenticated = Extract<AuthResult, { kind: 'authenticated' }>;

interface Entry {
  readonly result: Authenticated;
  /** Epoch milliseconds. */
  readonly until: number;
}

/** Random per process: a digest in a heap dump cannot be matched with a guessed token. */
const PROCESS_PEPPER = randomBytes(32).toString('base64');

export class CredentialCache {
  readonly #entries: LRUCache<string, Entry>;
  #epoch = 0;

  constructor(maximum: number) {
    this.#entries = new LRUCache({ max: maximum });
  }

  /** The digest that stands for a credential. */
  key(credential: string): string {
    return hash('sha256', PROCESS_PEPPER + credential, 'binary');
  }

  /** `now` is epoch milliseconds. */
  get(key: string, now: number): Authenticated | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    if (now < entry.until) return entry.result;
    this.#entries.delete(key);
    return undefined;
  }

  /** Read before a check begins and given to `set`: what was found before an invalidation is not stored after it. */
  get epoch(): number {
    return this.#epoch;
  }

  set(key: string, result: Authenticated, until: number, epoch: number): void {
    if (epoch === this.#epoch) this.#entries.set(key, { result, until });
  }

  /** Drops entries whose principal is meant. Rare, so a scan is better than an index on the hot path. */
  drop(isMeant: (principal: Principal) => boolean): void {
    this.#epoch++;
    for (const [key, entry] of this.#entries.entries()) {
      if (isMeant(entry.result.principal)) this.#entries.delete(key);
    }
  }

  clear(): void {
    this.#epoch++;
    this.#entries.clear();
  }

  get size(): number {
    return this.#entries.size;
  }
}

/** Principals that went through `freezePrincipal`. */
const frozen = new WeakSet<object>();

/** True for principals made by our own code, which nobody can have changed since. */
export function isFrozenPrincipal(value: object): value is Principal {
  return frozen.has(value);
}

/** A principal nobody can change any more, lists included. */
export function freezePrincipal(principal: Principal): Principal {
  for (const list of [principal.roles, principal.teams, principal.groups, principal.permissions, principal.scopes]) {
    Object.freeze(list);
  }
  for (let actor = principal.actor; actor !== null; actor = actor.actor) Object.freeze(actor);
  Object.freeze(principal.auth);
  Object.freeze(principal.metadata);
  frozen.add(principal);
  return Object.freeze(principal);
}
