/** The contract of identity providers. Source: contracts 1. */
import type { IncomingMessage } from 'node:http';
import type { CredentialKind, Principal } from '../core/principal.ts';
import type { Secret } from '../core/secret.ts';

/** What the client presented. The value is never printed. */
export interface Credential {
  readonly kind: CredentialKind;
  readonly value: Secret<string>;
  readonly source: 'authorization' | 'x-api-key' | 'cookie' | 'tls' | 'trusted-proxy' | 'body' | 'none';
}

/** Facts a provider may look at besides the credential. */
export interface IdentityFacts {
  readonly request_id: string;
  readonly source_ip: string;
  readonly user_agent: string | null;
  readonly method: string;
  readonly path: string;
  readonly route: string;
  /** Epoch milliseconds. */
  readonly now: number;
  /** The request as Node has it, for what its connection proves (`link.ts`); absent where there is none. */
  readonly incoming?: IncomingMessage;
}

export type RejectionReason =
  | 'invalid'
  | 'expired'
  | 'locked'
  | 'forbidden'
  | 'mfa-required'
  | 'no-balance'
  | 'rate-limited'
  | 'unavailable';

/** An outcome is a value. A throw or a time-out is a technical failure and becomes `unavailable` (503). */
export type AuthResult =
  | { readonly kind: 'authenticated'; readonly principal: Principal }
  | { readonly kind: 'not-applicable' }
  | {
      readonly kind: 'rejected';
      readonly reason: RejectionReason;
      /** Why, in fixed words for the operator's log. The caller never learns it. */
      readonly detail?: string;
      /** Value for `WWW-Authenticate`. */
      readonly challenge?: string;
      /** Seconds. */
      readonly retryAfter?: number;
    };

export interface ProviderHealth {
  readonly state: 'ok' | 'degraded' | 'down';
  readonly detail?: string;
}

export interface Asked {
  /** Value for `WWW-Authenticate`; null where no scheme of HTTP says it. */
  readonly challenge: string | null;
  /** Said where everybody who is asked on the route wants the same. */
  readonly words: string;
}

export interface IdentityProvider {
  /** True: the client certificate of a request counts as a credential on routes with this provider. */
  readonly takesCertificates?: boolean;
  /** Where it takes no bearer token: what is asked for of who shows nothing. */
  readonly asksFor?: Asked;
  /** Answering at once (a cached result) spares the request a promise and a timer. */
  authenticate(credential: Credential, facts: IdentityFacts, signal: AbortSignal): AuthResult | Promise<AuthResult>;
  health?(): Promise<ProviderHealth>;
  close?(): Promise<void>;
}
