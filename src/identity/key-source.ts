/**
 * Keeps an issuer's keys fresh without letting anybody hammer the issuer: one load at a time, unknown kids refresh at
 * most twice a minute, and old keys serve through an outage for a bounded time only. Source: security 2.3.
 */
import type { Clock } from '../core/clock.ts';
import type { Logger } from '../core/module.ts';
import type { ProviderHealth } from './provider.ts';
import { type KeySet, readKeySet, selectKey, type VerificationKey } from './verification-keys.ts';

export type KeyLookup =
  | { readonly kind: 'found'; readonly key: VerificationKey }
  | { readonly kind: 'unknown' }
  | { readonly kind: 'unavailable' };

export interface KeySource {
  find(kid: string | null, algorithm: string): KeyLookup | Promise<KeyLookup>;
  health(): Promise<ProviderHealth>;
}

export interface KeySourceOptions {
  /** Gives the JWK set document; a rejection is an outage. */
  readonly load: () => Promise<Uint8Array>;
  readonly clock: Clock;
  /** Name of the provider whose keys these are: the operator's log says it. */
  readonly provider: string;
  readonly logger: Logger;
  /** Milliseconds a set counts as fresh. */
  readonly maxAgeMs: number;
  /** Milliseconds beyond `maxAgeMs` that a set may serve while loading fails. */
  readonly staleMs: number;
  /** Told when the set changed, e.g. to forget tokens that a removed key had signed. */
  readonly onChange?: () => void;
}

/** Milliseconds between two loads for the sake of unknown kids. */
export const UNKNOWN_KID_INTERVAL_MS = 30_000;
/** Milliseconds between two tries while loading fails: an outage costs one slow request in five seconds. */
export const RETRY_INTERVAL_MS = 5000;

const UNKNOWN: KeyLookup = Object.freeze({ kind: 'unknown' });
const UNAVAILABLE: KeyLookup = Object.freeze({ kind: 'unavailable' });

/** A source that never changes: a configured key. The token's kid does not matter, for there is no choice. */
export function fixedKeySource(keys: KeySet): KeySource {
  return {
    find: (kid, algorithm) => found(selectKey(keys, kid, algorithm, false)),
    health: async () => ({ state: 'ok' }),
  };
}

function found(key: VerificationKey | null): KeyLookup {
  return key === null ? UNKNOWN : { kind: 'found', key };
}

export function createKeySource(options: KeySourceOptions): KeySource {
  return new LoadedKeySource(options);
}

class LoadedKeySource implements KeySource {
  readonly #options: KeySourceOptions;
  #keys: KeySet | null = null;
  #digest = '';
  #loadedAt = 0;
  #triedAt = Number.NEGATIVE_INFINITY;
  #failing = false;
  #loading: Promise<boolean> | null = null;

  constructor(options: KeySourceOptions) {
    this.#options = options;
  }

  find(kid: string | null, algorithm: string): KeyLookup | Promise<KeyLookup> {
    const keys = this.#keys;
    if (keys !== null && this.#age() <= this.#options.maxAgeMs) {
      const key = selectKey(keys, kid, algorithm, true);
      if (key !== null) return { kind: 'found', key };
    }
    return this.#refreshAndFind(kid, algorithm);
  }

  #age(): number {
    return this.#options.clock.now() - this.#loadedAt;
  }

  async #refreshAndFind(kid: string | null, algorithm: string): Promise<KeyLookup> {
    const fresh = this.#keys !== null && this.#age() <= this.#options.maxAgeMs;
    // With fresh keys we only come here for an unknown kid. One that is there but does not fit is simply wrong.
    if (fresh && kid !== null && this.#keys?.some((key) => key.kid === kid)) return UNKNOWN;
    const wait = this.#failing ? RETRY_INTERVAL_MS : fresh ? UNKNOWN_KID_INTERVAL_MS : 0;
    const mayLoad = this.#loading !== null || this.#options.clock.now() - this.#triedAt >= wait;
    const loaded = mayLoad && (await this.#load());
    const keys = this.#keys;
    if (keys === null || this.#age() > this.#options.maxAgeMs + this.#options.staleMs) return UNAVAILABLE;
    const key = selectKey(keys, kid, algorithm, true);
    // When the issuer could not be asked, "not known" is not an answer.
    return key === null && mayLoad && !loaded ? UNAVAILABLE : found(key);
  }

  #load(): Promise<boolean> {
    this.#loading ??= this.#loadOnce().finally(() => {
      this.#loading = null;
    });
    return this.#loading;
  }

  async #loadOnce(): Promise<boolean> {
    this.#triedAt = this.#options.clock.now();
    try {
      const document = await this.#options.load();
      const keys = readKeySet(document);
      if (keys === null) throw new Error('is not a JWK set');
      if (keys.length === 0) throw new Error('holds no usable key');
      this.#take(keys, Buffer.from(document).toString('latin1'));
      return true;
    } catch (error) {
      this.#failing = true;
      this.#options.logger.warn(
        { provider: this.#options.provider, err: error },
        'the key set of the issuer could not be loaded',
      );
      return false;
    }
  }

  #take(keys: KeySet, document: string): void {
    const changed = this.#keys !== null && this.#digest !== document;
    this.#loadedAt = this.#options.clock.now();
    this.#failing = false;
    this.#digest = document;
    if (this.#keys === null || changed) this.#keys = keys;
    if (changed) this.#options.onChange?.();
  }

  async health(): Promise<ProviderHealth> {
    if (this.#keys === null || this.#age() > this.#options.maxAgeMs) await this.#load();
    if (this.#keys === null) return { state: 'down', detail: 'no key set' };
    if (!this.#failing) return { state: 'ok' };
    const over = this.#age() > this.#options.maxAgeMs + this.#options.staleMs;
    return { state: over ? 'down' : 'degraded', detail: 'the key set cannot be refreshed' };
  }
}
