/**
 * Providers that are not of this package: a module named in the configuration, or an object of the program around the
 * gateway. They see what was presented as text. Source: contracts 1, acceptance D-01, D-02, D-18.
 */
import type { AuthResult, Credential, IdentityFacts, IdentityProvider, ProviderHealth } from './provider.ts';

export interface OwnCredential extends Omit<Credential, 'value'> {
  /** The token, the key, or base64 of `name:password`. A secret: it belongs into no log and no error. */
  readonly value: string;
}

export interface OwnProvider {
  /** See `IdentityProvider`. */
  readonly takesCertificates?: boolean;
  /**
   * An `AuthResult`, or a promise of one; of its principal only `id` must be there. It is checked before it is believed,
   * and a throw, anything else, or no answer in time is an outage (503).
   */
  authenticate(credential: OwnCredential, facts: IdentityFacts, signal: AbortSignal): unknown;
  health?(): Promise<ProviderHealth>;
  close?(): Promise<void>;
}

export interface NamedOwnProvider {
  /** What routes call it, and `auth_provider` in the audit. */
  readonly name: string;
  readonly provider: OwnProvider;
}

const NOT_APPLICABLE: AuthResult = Object.freeze({ kind: 'not-applicable' });

/** As the chain asks it. */
export function fromOwn(own: OwnProvider): IdentityProvider {
  const takesCertificates = own.takesCertificates === true;
  return {
    takesCertificates,
    // The chain checks what comes back, whatever it is.
    authenticate: ({ kind, value, source }, facts, signal) => {
      // Another provider of the route takes certificates; this one would refuse what it does not know.
      if (kind === 'client-cert' && !takesCertificates) return NOT_APPLICABLE;
      const credential = { kind, value: value.reveal(), source };
      return own.authenticate(credential, facts, signal) as ReturnType<IdentityProvider['authenticate']>;
    },
    ...(own.health === undefined ? {} : { health: () => own.health?.() ?? Promise.resolve({ state: 'down' }) }),
    close: async () => own.close?.(),
  };
}
