/**
 * Where the authorization server library keeps things: in our database, sealed, under digests. What is used up is used up
 * by one statement, so that of two gateways that are shown the same code or refresh token one wins and the other takes it
 * for the second use it is. Source: RFC 9700 2.1.1 and 4.14.2.
 */
import type { Adapter, AdapterPayload } from 'oidc-provider';
import type { Clock } from '../../core/clock.ts';
import { GatewayError } from '../../core/errors.ts';
import type { OAuthEntry, OAuthEntryStore } from '../../stores/oauth-entries.ts';
import type { Origin } from '../account.ts';

/** Nobody else can read, make or change what was closed, nor use it elsewhere. */
export interface Sealing {
  close(text: string, context: string): string;
  open(sealed: string, context: string): string | null;
  /** A name that stands for a secret and does not tell it. */
  nameOf(secret: string): string;
}

export interface EntriesOptions {
  readonly store: OAuthEntryStore;
  readonly seal: Sealing;
  readonly clock: Clock;
  readonly clients: { readonly max: number; readonly unusedMs: number };
  /** Who asks at this moment. */
  origin(): Origin;
  /** Milliseconds after a refresh in which another one by the same token is taken for one at the same moment. */
  readonly graceMs: number;
  /** A grant is over: revoked, or its refresh token was used twice. */
  onGrantEnd(grantId: string): Promise<void>;
  /** A client registers and there is no room for it. */
  full(): Error;
}

/** Kinds that belong to a grant and go with it. */
const OF_GRANT = new Set(['AuthorizationCode', 'RefreshToken', 'AccessToken']);

/** What is kept, by kind and by what it is called. Also keeps what is our own: kinds of the library begin with a capital. */
export class Entries {
  readonly #options: EntriesOptions;
  /** Access tokens that are being revoked at this moment: they are kept nowhere, for they are signed. */
  readonly presented = new Map<string, { readonly payload: AdapterPayload; revoke(): Promise<void> }>();

  /** Who came with a refresh token that somebody else used up at this moment. */
  readonly raced = new WeakSet<Origin>();

  constructor(options: EntriesOptions) {
    this.#options = options;
  }

  /** For the library: one per kind. */
  adapter(kind: string): Adapter {
    const bound: Adapter = {
      upsert: (id, payload, seconds) => this.save(kind, id, payload, seconds),
      find: (id) => this.load(kind, id),
      findByUid: (uid) => this.#loadByUid(kind, uid),
      findByUserCode: async () => undefined,
      consume: (id) => this.#consume(kind, id),
      destroy: (id) => this.remove(kind, id),
      revokeByGrantId: (grantId) => this.#options.store.removeByGrant(kind, this.#name(grantId)),
    };
    return bound;
  }

  #name(id: string): string {
    return this.#options.seal.nameOf(id);
  }

  /** @param seconds until it ends; clients have an end of their own */
  async save(kind: string, id: string, payload: AdapterPayload, seconds = 0): Promise<void> {
    const { store, seal, clock, clients } = this.#options;
    const now = clock.now();
    const name = this.#name(id);
    const { grantId, uid } = payload;
    const isClient = kind === 'Client';
    const entry: OAuthEntry = {
      ...{ kind, id: name, sealed: seal.close(JSON.stringify({ ...payload, jti: undefined }), `${kind}\n${name}`) },
      grant_id: OF_GRANT.has(kind) && typeof grantId === 'string' ? this.#name(grantId) : null,
      uid: typeof uid === 'string' ? this.#name(uid) : null,
      consumed_at: null,
      expires_at: now + (isClient ? clients.unusedMs : Math.ceil(seconds * 1000)),
    };
    if (!isClient) await store.put(entry);
    else if (!(await store.putBounded(entry, clients.max, now))) throw this.#options.full();
  }

  async load(kind: string, id: string): Promise<AdapterPayload | undefined> {
    const presented = kind === 'AccessToken' ? this.presented.get(id) : undefined;
    if (presented !== undefined) return presented.payload;
    const { store, clock } = this.#options;
    const entry = await store.find(kind, this.#name(id), clock.now());
    const payload = entry === null ? undefined : this.#opened(entry);
    // What it is called by is not kept with it. A client has no such name.
    return payload === undefined || kind === 'Client' ? payload : { ...payload, jti: id };
  }

  async #loadByUid(kind: string, uid: string): Promise<AdapterPayload | undefined> {
    const { store, clock } = this.#options;
    const entry = await store.findByUid(kind, this.#name(uid), clock.now());
    return entry === null ? undefined : this.#opened(entry);
  }

  /** Everything of this kind that was saved with this uid. */
  async loadAllByUid(kind: string, uid: string): Promise<AdapterPayload[]> {
    const { store, clock } = this.#options;
    const entries = await store.listByUid(kind, this.#name(uid), clock.now());
    return entries.flatMap((entry): AdapterPayload[] => {
      const payload = this.#opened(entry);
      return payload === undefined ? [] : [payload];
    });
  }

  #opened({ kind, id, sealed, consumed_at }: OAuthEntry): AdapterPayload | undefined {
    const text = this.#options.seal.open(sealed, `${kind}\n${id}`);
    if (text === null) return undefined;
    const payload = JSON.parse(text) as AdapterPayload;
    const isSpent = consumed_at !== null && !this.#isAtOnce(kind, consumed_at);
    return isSpent ? { ...payload, consumed: Math.floor(consumed_at / 1000) } : payload;
  }

  /** Whether who asks was on the way before a refresh token was used up: whose token it is, is to be checked first. */
  #isAtOnce(kind: string, consumedAt: number): boolean {
    const { origin, graceMs } = this.#options;
    return kind === 'RefreshToken' && origin().now < consumedAt + graceMs;
  }

  /** Whether it was used up, or is gone. */
  async isUsed(kind: string, id: string): Promise<boolean> {
    const { store, clock } = this.#options;
    return (await store.find(kind, this.#name(id), clock.now()))?.consumed_at !== null;
  }

  async #consume(kind: string, id: string): Promise<void> {
    const { store, clock } = this.#options;
    const payload = await this.load(kind, id);
    if (await store.consume(kind, this.#name(id), clock.now())) return;
    const consumedAt = (await store.find(kind, this.#name(id), clock.now()))?.consumed_at ?? null;
    if (consumedAt !== null && this.#isAtOnce(kind, consumedAt)) {
      this.raced.add(this.#options.origin());
      throw new GatewayError('CONFLICT', { message: 'refreshed by another request at this moment' });
    }
    // The other one is a moment ahead; both know the secret, so neither is believed.
    if (typeof payload?.grantId === 'string') await this.endGrant(payload.grantId);
    throw new GatewayError('CONFLICT', { message: 'already used' });
  }

  async remove(kind: string, id: string): Promise<void> {
    const presented = kind === 'AccessToken' ? this.presented.get(id) : undefined;
    if (presented !== undefined) return presented.revoke();
    if (kind === 'Grant') await this.#options.onGrantEnd(id);
    await this.#options.store.remove(kind, this.#name(id));
  }

  /** Ends a grant with everything that was given out under it. */
  async endGrant(grantId: string): Promise<void> {
    await this.remove('Grant', grantId);
    for (const kind of OF_GRANT) await this.#options.store.removeByGrant(kind, this.#name(grantId));
  }

  /** A client that is used stays. */
  async prolongClient(clientId: string, ms: number): Promise<void> {
    const { store, clock } = this.#options;
    await store.prolong('Client', this.#name(clientId), clock.now() + ms);
  }
}
