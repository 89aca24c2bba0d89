/** Browser sessions in the shared store: sealed, named by a digest, ended on all gateways at once. */
import { randomBytes } from 'node:crypto';
import { isJsonObject } from '../../core/json.ts';
import type { Principal } from '../../core/principal.ts';
import type { Secret } from '../../core/secret.ts';
import type { Shared } from '../../stores/shared.ts';
import { completePrincipal } from '../completion.ts';
import { readJsonObject } from '../strict-json.ts';
import { Seal } from './seal.ts';

/** What a session is of, and until when. */
export interface OpenSession {
  readonly provider: string;
  readonly principal: Principal;
  /** Epoch milliseconds. */
  readonly until: number;
}

const CHANNEL = 'identity:session-ended';
const ID_BYTES = 32;

export class BrowserSessions {
  readonly #shared: Shared;
  readonly #seal: Seal;

  constructor(shared: Shared, pepper: Secret) {
    this.#shared = shared;
    this.#seal = new Seal(pepper, 'session');
  }

  /** The text for the cookie. It is kept nowhere. */
  async begin(session: Omit<OpenSession, 'principal'>, principal: Principal, now: number): Promise<string> {
    const id = randomBytes(ID_BYTES).toString('base64url');
    const name = this.#seal.nameOf(id);
    const facts = { ...principal, auth: { ...principal.auth, session_id: name.slice(0, 22) } };
    const text = JSON.stringify({ ...session, principal: facts });
    await this.#shared.set(storeKey(name), this.#seal.close(text, name), session.until - now);
    return id;
  }

  /** Null when there is none, or it has ended. Rejects when the store cannot say. `now` is epoch milliseconds. */
  async find(id: string, now: number): Promise<OpenSession | null> {
    const name = this.#seal.nameOf(id);
    const sealed = await this.#shared.get(storeKey(name));
    const text = sealed === null ? null : this.#seal.open(sealed, name);
    const record = text === null ? null : readJsonObject(Buffer.from(text));
    if (record === null || !isJsonObject(record.principal)) return null;
    const { provider, until } = record;
    if (typeof provider !== 'string' || typeof until !== 'number' || until <= now) return null;
    return { provider, until, principal: completePrincipal(record.principal, provider, 'session') };
  }

  async end(id: string): Promise<void> {
    const name = this.#seal.nameOf(id);
    await this.#shared.delete(storeKey(name));
    await this.#shared.publish(CHANNEL, name.slice(0, 22));
  }

  /** Calls `listener` with the `auth.session_id` of each session that is ended. Returns the way to stop. */
  onEnd(listener: (sessionId: string) => void): () => void {
    return this.#shared.subscribe(CHANNEL, listener);
  }
}

const storeKey = (name: string): string => `oauth-session:${name}`;
