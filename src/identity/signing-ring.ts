/**
 * The keys that sign the gateway's tokens: made here, kept in the database with the private half encrypted, replaced in time.
 * A new key is published before it signs and an old one stays until the last of its tokens has ended, so that nobody
 * meets a token whose key is not there. Source: acceptance VF-01, VF-02; RFC 7517.
 */
import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  hash,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from 'node:crypto';
import { z } from 'zod';
import type { Secret } from '../core/secret.ts';
import type { SigningKeyRecord, SigningKeyStore } from '../stores/signing-keys.ts';
import type { VerificationKey } from './verification-keys.ts';

export type SigningAlgorithm = 'EdDSA' | 'ES256' | 'RS256';

/** What signs now. `kid` is null for the shared secret, of which there is one. */
export interface Signer {
  readonly kid: string | null;
  readonly algorithm: string;
  readonly key: KeyObject | Uint8Array;
}

/** A JWK set: public halves only. */
export interface PublicKeys {
  readonly keys: readonly Readonly<Record<string, string>>[];
}

export interface SigningRing {
  signer(now: number): Promise<Signer>;
  /** Null when no key has this name and algorithm. */
  find(kid: string | null, algorithm: string, now: number): Promise<VerificationKey | null>;
  published(now: number): Promise<PublicKeys>;
}

export interface SigningRingOptions {
  readonly algorithm: SigningAlgorithm;
  readonly store: SigningKeyStore;
  readonly pepper: Secret;
  /** Milliseconds a key signs. */
  readonly rotateMs: number;
  /** Milliseconds the longest token lives. */
  readonly tokenMs: number;
}

/** Milliseconds a key is published before it signs: others may keep the set for ten minutes. */
export const LEAD_MS = 900_000;
/** Milliseconds between two looks at the database, and for the sake of unknown names. */
const RELOAD_MS = 60_000;
const UNKNOWN_RELOAD_MS = 1000;

/** The ring of a shared secret (HS256): nothing is published, for who can check can also sign. */
export function secretRing(secret: Secret): SigningRing {
  const key = new Uint8Array(Buffer.from(secret.reveal()));
  return {
    signer: async () => ({ kid: null, algorithm: 'HS256', key }),
    find: async (kid, algorithm) =>
      kid === null && algorithm === 'HS256' ? { kid: null, algorithms: ['HS256'], key } : null,
    published: async () => ({ keys: [] }),
  };
}

/** Reads the keys, makes the first one where there is none. Rejects when they were encrypted with another pepper. */
export async function openSigningRing(options: SigningRingOptions, now: number): Promise<SigningRing> {
  const ring = new StoredRing(options);
  await ring.signer(now);
  return ring;
}

interface LoadedKey {
  readonly record: SigningKeyRecord;
  readonly verification: VerificationKey;
  readonly jwk: Readonly<Record<string, string>>;
}

class StoredRing implements SigningRing {
  readonly #options: SigningRingOptions;
  #keys: readonly LoadedKey[] = [];
  #loadedAt = Number.NEGATIVE_INFINITY;
  #loading: Promise<void> | null = null;
  #signer: { readonly kid: string; readonly key: KeyObject } | null = null;

  constructor(options: SigningRingOptions) {
    this.#options = options;
  }

  async signer(now: number): Promise<Signer> {
    await this.#fresh(now, RELOAD_MS);
    const record = this.#keys.findLast((key) => key.record.active_at <= now)?.record ?? this.#keys[0]?.record;
    if (record === undefined) throw new Error('there is no signing key');
    if (this.#signer?.kid !== record.kid)
      this.#signer = { kid: record.kid, key: openBox(record, this.#options.pepper) };
    return { ...this.#signer, algorithm: this.#options.algorithm };
  }

  async find(kid: string | null, algorithm: string, now: number): Promise<VerificationKey | null> {
    if (kid === null || algorithm !== this.#options.algorithm) return null;
    const known = this.#named(kid);
    if (known !== null) return known;
    // Another gateway may have made it a moment ago.
    await this.#fresh(now, UNKNOWN_RELOAD_MS);
    return this.#named(kid);
  }

  #named(kid: string): VerificationKey | null {
    return this.#keys.find((key) => key.record.kid === kid)?.verification ?? null;
  }

  async published(now: number): Promise<PublicKeys> {
    await this.#fresh(now, RELOAD_MS);
    return { keys: this.#keys.map(({ jwk }) => jwk) };
  }

  async #fresh(now: number, maxAgeMs: number): Promise<void> {
    // A clock that steps back must not stop it either.
    if (Math.abs(now - this.#loadedAt) < maxAgeMs) return;
    this.#loading ??= this.#load(now).finally(() => {
      this.#loading = null;
    });
    await this.#loading;
  }

  async #load(now: number): Promise<void> {
    const { store, algorithm, rotateMs, pepper } = this.#options;
    let records = await store.list(algorithm);
    const newest = records.at(-1);
    if (newest === undefined || now >= newest.active_at + rotateMs - LEAD_MS) {
      const activeAt = newest === undefined ? now : Math.max(now + LEAD_MS, newest.active_at);
      await store.insert(makeKey(algorithm, (newest?.generation ?? 0) + 1, pepper, { now, activeAt }));
      // Whoever was first: everybody goes on with the same one.
      records = await store.list(algorithm);
    }
    const over = records.filter((_, at) => this.#isOver(records[at + 1], now));
    await store.delete(over.map(({ kid }) => kid));
    this.#keys = records.filter((record) => !over.includes(record)).map((record) => loaded(record, algorithm));
    this.#loadedAt = now;
  }

  /** The last token of a key ends when the next one has signed for as long as a token lives. */
  #isOver(next: SigningKeyRecord | undefined, now: number): boolean {
    return next !== undefined && next.active_at + Math.max(this.#options.tokenMs, 86_400_000) + RELOAD_MS * 2 < now;
  }
}

const jwkSchema = z.record(z.string(), z.string());

function loaded(record: SigningKeyRecord, algorithm: string): LoadedKey {
  const bare = jwkSchema.parse(JSON.parse(record.public_jwk));
  const key = createPublicKey({ key: bare, format: 'jwk' });
  return {
    record,
    verification: { kid: record.kid, algorithms: [algorithm], key },
    jwk: { ...bare, kid: record.kid, alg: algorithm, use: 'sig' },
  };
}

function makePair(algorithm: SigningAlgorithm) {
  if (algorithm === 'EdDSA') return generateKeyPairSync('ed25519');
  if (algorithm === 'ES256') return generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return generateKeyPairSync('rsa', { modulusLength: 2048 });
}

function makeKey(
  algorithm: SigningAlgorithm,
  generation: number,
  pepper: Secret,
  { now, activeAt }: { readonly now: number; readonly activeAt: number },
): SigningKeyRecord {
  const { publicKey, privateKey } = makePair(algorithm);
  const public_jwk = JSON.stringify(publicKey.export({ format: 'jwk' }));
  const kid = hash('sha256', public_jwk, 'base64url').slice(0, 22);
  const private_box = closeBox(kid, privateKey.export({ format: 'der', type: 'pkcs8' }), pepper);
  return { kid, algorithm, generation, public_jwk, private_box, created_at: now, active_at: activeAt };
}

const IV_BYTES = 12;
const TAG_BYTES = 16;

const boxKey = (pepper: Secret, kid: string): Buffer =>
  Buffer.from(hkdfSync('sha256', pepper.reveal(), kid, 'portcullis signing key 1', 32));

/** AES-256-GCM; each key has its own, and the name belongs to what is protected. */
function closeBox(kid: string, secret: Buffer, pepper: Secret): string {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv('aes-256-gcm', boxKey(pepper, kid), iv).setAAD(Buffer.from(kid));
  const sealed = Buffer.concat([cipher.update(secret), cipher.final()]);
  return Buffer.concat([iv, cipher.getAuthTag(), sealed]).toString('base64url');
}

function openBox({ kid, private_box }: SigningKeyRecord, pepper: Secret): KeyObject {
  const box = Buffer.from(private_box, 'base64url');
  const tagEnd = IV_BYTES + TAG_BYTES;
  try {
    const decipher = createDecipheriv('aes-256-gcm', boxKey(pepper, kid), box.subarray(0, IV_BYTES), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(Buffer.from(kid)).setAuthTag(box.subarray(IV_BYTES, tagEnd));
    const key = Buffer.concat([decipher.update(box.subarray(tagEnd)), decipher.final()]);
    return createPrivateKey({ key, format: 'der', type: 'pkcs8' });
  } catch (cause) {
    throw new Error('the signing keys were encrypted with another pepper: restore stores.pepper', {
      cause,
    });
  }
}
