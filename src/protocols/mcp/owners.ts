/**
 * Who may use a handle that an upstream issued (session, task): only the principal it was issued to. Bounded; what was
 * forgotten is unknown, and unknown is refused. Source: security 2.5 (older sessions, state), mcp 6.7.
 */
import { holderId, type Principal } from '../../core/principal.ts';

export interface Owner {
  readonly tenant_id: string;
  readonly id: string;
  /** Who may use it: somebody who acts for `id` holds other handles than that person. */
  readonly holder: string;
  /** Of a task: the tool whose call began it, where that was seen. */
  readonly tool: string | null;
}

export function isOwner(owner: Owner | null, principal: Principal): boolean {
  return owner !== null && owner.holder === holderId(principal) && owner.tenant_id === principal.tenant_id;
}

/** Least recently used entries go first. */
export class OwnerTable {
  readonly #max: number;
  readonly #owners = new Map<string, Owner>();

  constructor(max = 100_000) {
    this.#max = max;
  }

  /** False when the handle already belongs to somebody else; then nothing changes. */
  bind(server: string, handle: string, principal: Principal, tool: string | null = null): boolean {
    const key = keyOf(server, handle);
    const known = this.#owners.get(key);
    if (known !== undefined && !isOwner(known, principal)) return false;
    const { tenant_id, id } = principal;
    this.#put(key, known ?? { tenant_id, id, holder: holderId(principal), tool });
    return true;
  }

  owner(server: string, handle: string): Owner | null {
    const key = keyOf(server, handle);
    const known = this.#owners.get(key);
    if (known === undefined) return null;
    this.#put(key, known);
    return known;
  }

  forget(server: string, handle: string): void {
    this.#owners.delete(keyOf(server, handle));
  }

  get size(): number {
    return this.#owners.size;
  }

  #put(key: string, owner: Owner): void {
    this.#owners.delete(key);
    this.#owners.set(key, owner);
    if (this.#owners.size <= this.#max) return;
    const oldest = this.#owners.keys().next();
    if (!oldest.done) this.#owners.delete(oldest.value);
  }
}

/** Server names hold no line break, so the two parts cannot run into each other. */
function keyOf(server: string, handle: string): string {
  return `${server}\n${handle}`;
}
