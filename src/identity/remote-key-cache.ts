/**
 * What an external service said of a key, kept where several gateways find it. The name of an entry is an HMAC, so the
 * store never sees a key; the entry is signed under that name, so who can write to the store can mint nobody; and it is
 * worth nothing once its key was withdrawn. Source: acceptance HF-01, HF-02, HF-06, HF-12.
 */
import { createHmac, hash, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import type { Secret } from '../core/secret.ts';
import type { Shared } from '../stores/shared.ts';
import { factsSchema, type RemoteKeyFacts } from './remote-answer.ts';
import { announceKeyChange } from './revocations.ts';

/** Milliseconds that anything is remembered at most. */
export const LONGEST_MS = 900_000;
/** Milliseconds that clocks of gateways may differ. */
const SKEW_MS = 5000;
const VERSION = 1;
const PREFIX = 'remote-key:';

/** What was found, and when it was asked. Epoch milliseconds. */
export interface KeptFacts {
  readonly facts: RemoteKeyFacts;
  readonly askedAt: number;
  readonly until: number;
}

const entrySchema = z.strictObject({
  v: z.literal(VERSION),
  asked_at: z.int(),
  until: z.int(),
  facts: factsSchema,
});

export class SharedKeyCache {
  readonly #shared: Shared;
  readonly #secret: string;
  readonly #scope: string;

  /** @param scope what else an answer depends on: the service that gave it and what it was asked */
  constructor(shared: Shared, pepper: Secret, scope: string) {
    this.#shared = shared;
    this.#secret = createHmac('sha256', pepper.reveal()).update('portcullis remote-key cache').digest('base64');
    this.#scope = scope;
  }

  /** The name under which a key is kept; tells nothing of it. */
  name(key: string, clientIp: string | null): string {
    return createHmac('sha256', this.#secret)
      .update(JSON.stringify([this.#scope, clientIp, key]))
      .digest('base64url');
  }

  /** Null: nothing that can be relied on. Rejects when the store is away. */
  async read(name: string, now: number): Promise<KeptFacts | null> {
    const text = await this.#shared.get(PREFIX + name);
    const kept = text === null ? null : this.#open(name, text);
    if (kept === null || kept.until <= now || kept.askedAt > now + SKEW_MS) return null;
    const withdrawn = await this.#shared.get(withdrawnName(kept.facts.key_id));
    if (withdrawn !== null && !(kept.askedAt > Number(withdrawn) + SKEW_MS)) return null;
    return kept;
  }

  async write(name: string, { facts, askedAt, until }: KeptFacts, now: number): Promise<void> {
    if (until <= now) return;
    const payload = JSON.stringify({ v: VERSION, asked_at: askedAt, until, facts });
    await this.#shared.set(PREFIX + name, `${this.#mac(name, payload)}.${payload}`, until - now);
  }

  /** Over the name as well: an entry is not worth anything under another key's. */
  #mac(name: string, payload: string): string {
    return createHmac('sha256', this.#secret).update(`${name}\n${payload}`).digest('base64url');
  }

  #open(name: string, text: string): KeptFacts | null {
    const dot = text.indexOf('.');
    if (dot < 0) return null;
    const payload = text.slice(dot + 1);
    const given = Buffer.from(text.slice(0, dot));
    const right = Buffer.from(this.#mac(name, payload));
    if (given.length !== right.length || !timingSafeEqual(given, right)) return null;
    const parsed = entrySchema.safeParse(JSON.parse(payload));
    if (!parsed.success) return null;
    const { facts, asked_at, until } = parsed.data;
    return { facts, askedAt: asked_at, until };
  }
}

const withdrawnName = (keyId: string): string => `${PREFIX}withdrawn:${hash('sha256', keyId, 'base64url')}`;

/**
 * Makes every gateway forget a key of an external service. What was asked before now is not believed any more; written
 * before it is announced. Rejects when the store is away: then nothing was achieved.
 */
export async function forgetRemoteKey(shared: Shared, keyId: string, now: number): Promise<void> {
  await shared.set(withdrawnName(keyId), String(now), LONGEST_MS + SKEW_MS);
  await announceKeyChange(shared, keyId);
}
