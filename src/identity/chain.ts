/**
 * Asks a route's identity providers in order. The first that knows the credential decides; a failure of any kind ends
 * in an error, never in an anonymous or a weaker principal. Source: contracts 1, design 2.2.
 */
import { type ErrorCode, type ErrorExtras, GatewayError } from '../core/errors.ts';
import { ANONYMOUS, type Principal } from '../core/principal.ts';
import { completePrincipal } from './completion.ts';
import type { AuthResult, Credential, IdentityFacts, IdentityProvider, RejectionReason } from './provider.ts';

export interface NamedProvider {
  readonly name: string;
  readonly provider: IdentityProvider;
}

export interface ChainOptions {
  /** Milliseconds a provider may take. */
  readonly timeoutMs?: number;
  /** Parameters of the Bearer challenge besides `error`, e.g. `resource_metadata="…"`. */
  readonly challenge?: string;
  /** Lets a request without any credential pass as `anonymous` (the route's own line). */
  readonly anonymous?: boolean;
  /** Told of technical failures; the caller only learns that authentication is unavailable. */
  readonly onFailure?: (provider: string, error: unknown) => void;
  /** Told of refused credentials, for the operator; `provider` is null when none of the route knows the credential. */
  readonly onRejection?: (provider: string | null, result: Rejection, facts: IdentityFacts) => void;
}

export type Rejection = Extract<AuthResult, { kind: 'rejected' }>;
export type Identified = Principal | GatewayError;

export interface IdentityChain {
  /**
   * Who presents these credentials. An outcome is a value: a GatewayError is returned, not thrown. Answers without a
   * promise when a provider does (a cache hit).
   */
  authenticate(
    credentials: readonly Credential[],
    facts: IdentityFacts,
    signal: AbortSignal,
  ): Identified | Promise<Identified>;
}

const DEFAULT_TIMEOUT_MS = 5000;
/** RFC 9110 10.2.3: seconds, when the provider names none. */
const RETRY_AFTER = 1;

/** A token of another issuer, a key of another form. */
const UNKNOWN: Rejection = Object.freeze({
  kind: 'rejected',
  reason: 'invalid',
  detail: 'no provider of the route knows a credential like this; a token may name another issuer',
});

const CODES: Readonly<Record<RejectionReason, ErrorCode>> = {
  invalid: 'INVALID_CREDENTIALS',
  expired: 'TOKEN_EXPIRED',
  locked: 'ACCOUNT_LOCKED',
  forbidden: 'FORBIDDEN',
  'mfa-required': 'MFA_REQUIRED',
  'no-balance': 'INSUFFICIENT_BALANCE',
  'rate-limited': 'RATE_LIMIT_EXCEEDED',
  unavailable: 'AUTH_UNAVAILABLE',
};

export function createIdentityChain(providers: readonly NamedProvider[], options: ChainOptions = {}): IdentityChain {
  return new Chain(providers, options);
}

class Chain implements IdentityChain {
  readonly #providers: readonly NamedProvider[];
  readonly #options: ChainOptions;
  readonly #timeoutMs: number;
  readonly #challenge: string;
  /** Whether the challenge is that of bearer tokens, for which RFC 6750 has words of its own. */
  readonly #isBearer: boolean;
  readonly #askFor: ErrorExtras;

  constructor(providers: readonly NamedProvider[], options: ChainOptions) {
    this.#providers = providers;
    this.#options = options;
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    const asked = providers.map(({ provider }) => provider.asksFor);
    const bearer = `Bearer realm="portcullis"${options.challenge === undefined ? '' : `, ${options.challenge}`}`;
    const others = [...new Set(asked.flatMap((one) => one?.challenge ?? []))];
    // RFC 9110 11.6.1: a 401 has a challenge, and no certificate has a scheme.
    this.#isBearer = others.length === 0 || asked.includes(undefined);
    this.#challenge = this.#isBearer ? bearer : others.join(', ');
    const words = asked[0]?.words;
    this.#askFor = {
      challenge: this.#isBearer ? [bearer, ...others].join(', ') : this.#challenge,
      ...(words !== undefined && asked.every((one) => one?.words === words) ? { message: words } : {}),
    };
  }

  authenticate(credentials: readonly Credential[], facts: IdentityFacts, signal: AbortSignal) {
    const first = credentials[0];
    if (first === undefined) {
      if (this.#options.anonymous === true) return ANONYMOUS;
      return new GatewayError('MISSING_CREDENTIALS', this.#askFor);
    }
    if (credentials.length === 1) return this.#one(first, facts, signal, 0);
    return this.#all(credentials, facts, signal);
  }

  /** Several credentials must be good, each of them, and mean the same principal. */
  async #all(credentials: readonly Credential[], facts: IdentityFacts, signal: AbortSignal): Promise<Identified> {
    let agreed: Principal | null = null;
    for (const credential of credentials) {
      const one = await this.#one(credential, facts, signal, 0);
      if (one instanceof GatewayError) return one;
      if (agreed !== null && (agreed.id !== one.id || agreed.tenant_id !== one.tenant_id)) {
        return new GatewayError('INVALID_REQUEST', { message: 'The credentials belong to different principals' });
      }
      agreed ??= one;
    }
    return agreed ?? new GatewayError('MISSING_CREDENTIALS', this.#askFor);
  }

  #one(
    credential: Credential,
    facts: IdentityFacts,
    signal: AbortSignal,
    from: number,
  ): Identified | Promise<Identified> {
    for (let i = from; i < this.#providers.length; i++) {
      const named = this.#providers[i];
      if (named === undefined) break;
      let result: AuthResult | Promise<AuthResult>;
      let isPending: boolean;
      try {
        result = named.provider.authenticate(credential, facts, signal);
        isPending = isThenable(result);
      } catch (error) {
        return this.#failed(named.name, error);
      }
      if (isPending) return this.#later(named, result as Promise<AuthResult>, credential, facts, signal, i);
      const identified = this.#settle(named.name, result as AuthResult, credential, facts);
      if (identified !== null) return identified;
    }
    this.#options.onRejection?.(null, UNKNOWN, facts);
    return this.#reject(UNKNOWN);
  }

  async #later(
    named: NamedProvider,
    pending: Promise<AuthResult>,
    credential: Credential,
    facts: IdentityFacts,
    signal: AbortSignal,
    at: number,
  ): Promise<Identified> {
    let result: AuthResult;
    try {
      result = await within(pending, this.#timeoutMs, signal);
    } catch (error) {
      // A client that leaves says nothing about the provider: no alarm.
      return signal.aborted ? new GatewayError('CLIENT_CLOSED') : this.#failed(named.name, error);
    }
    return this.#settle(named.name, result, credential, facts) ?? this.#one(credential, facts, signal, at + 1);
  }

  /** Null: ask the next provider. */
  #settle(name: string, result: AuthResult, credential: Credential, facts: IdentityFacts): Identified | null {
    try {
      switch (result.kind) {
        case 'authenticated':
          return completePrincipal(result.principal, name, credential.kind);
        case 'not-applicable':
          return null;
        case 'rejected':
          this.#options.onRejection?.(name, result, facts);
          return this.#reject(result);
        default:
          throw new TypeError('the provider gave no outcome');
      }
    } catch (error) {
      return this.#failed(name, error);
    }
  }

  #failed(provider: string, error: unknown): GatewayError {
    this.#options.onFailure?.(provider, error);
    return new GatewayError('AUTH_UNAVAILABLE', { retryAfter: RETRY_AFTER, cause: error });
  }

  #reject(result: Rejection): GatewayError {
    const { reason } = result;
    const challenge = result.challenge ?? undefined;
    const told = result.retryAfter ?? undefined;
    if (!Object.hasOwn(CODES, reason)) throw new TypeError('the provider gave an unknown reason');
    if (challenge !== undefined && !isHeaderText(challenge)) throw new TypeError('the challenge is no header');
    if (told !== undefined && !(Number.isFinite(told) && told >= 0)) throw new TypeError('retryAfter is no time');
    const code = CODES[reason];
    const extras: { -readonly [K in keyof ErrorExtras]: ErrorExtras[K] } = {};
    if (code === 'INVALID_CREDENTIALS' || code === 'TOKEN_EXPIRED') {
      // RFC 6750 3.1: one error word for every bad token; the text does not say why.
      extras.challenge = challenge ?? (this.#isBearer ? `${this.#challenge}, error="invalid_token"` : this.#challenge);
    }
    const retryAfter = told ?? (reason === 'unavailable' ? RETRY_AFTER : undefined);
    if (retryAfter !== undefined) extras.retryAfter = Math.ceil(retryAfter);
    return new GatewayError(code, extras);
  }
}

function isThenable(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}

const isHeaderText = (value: unknown): boolean => typeof value === 'string' && /^[\x20-\x7e]+$/.test(value);

/** Rejects when the time is over or the client went away, whatever the provider makes of the signal. */
function within<T>(pending: Promise<T>, ms: number, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const end = (error: Error) => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      reject(error);
    };
    const onAbort = () => end(new Error('the client went away'));
    const timer = setTimeout(() => end(new Error(`no answer within ${ms} ms`)), ms);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    // Not every provider's promise is a real one: what it promises may be another promise, or its `then` may throw.
    Promise.resolve(pending).then(
      (value) => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
        resolve(value);
      },
      (error: unknown) => end(error instanceof Error ? error : new Error('the provider failed', { cause: error })),
    );
  });
}
