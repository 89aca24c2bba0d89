/** Who asks, for each route: the providers in their order behind the reading of credentials. */

import type { Config } from '../config/schema.ts';
import { GatewayError } from '../core/errors.ts';
import { ANONYMOUS } from '../core/principal.ts';
import type { Route } from '../core/route.ts';
import { createIdentityChain } from '../identity/chain.ts';
import { certificateCredential } from '../identity/client-certificate.ts';
import { readCredentials } from '../identity/credentials.ts';
import { metered } from '../identity/metered.ts';
import type { SessionCookie } from '../identity/oauth/session-cookie.ts';
import type { Credential, IdentityFacts, IdentityProvider } from '../identity/provider.ts';
import { createFailureGuard, guarded } from '../pipeline/failure-guard.ts';
import type { Authenticator } from '../pipeline/stages/authenticate.ts';
import type { Platform } from './assembly.ts';
import type { RouteOAuth } from './oauth.ts';
import { OAUTH_PATH } from './routes.ts';

const NEVER = new AbortController().signal;

/** For a route this generation does not know; it cannot happen, and if it did nobody would get in. */
export const NOBODY: Authenticator = { authenticate: () => new GatewayError('AUTH_UNAVAILABLE', { retryAfter: 1 }) };

/** Clients of the authorization server show credentials of their own, which it checks itself. */
const ANYONE: Authenticator = { authenticate: () => ANONYMOUS };

/** The ordered providers of one route. */
export function buildAuthenticator(
  route: Route,
  providers: ReadonlyMap<string, IdentityProvider>,
  platform: Platform,
  { challenge, cookie }: RouteOAuth = { challenge: null, cookie: null },
): Authenticator {
  if (route.protocol === 'api' && route.match === OAUTH_PATH) return ANYONE;
  const named = route.identity.flatMap((name) => {
    const provider = providers.get(name);
    return provider === undefined ? [] : [{ name, provider: metered(name, provider, platform.metrics) }];
  });
  const logger = platform.logging.component('identity');
  const chain = createIdentityChain(named, {
    anonymous: route.anonymous,
    ...(challenge === null ? {} : { challenge }),
    onFailure: (provider, error) => {
      platform.metrics.auth(provider, 'error');
      logger.error({ provider, err: error }, 'identity_provider_failed');
    },
    // Refusals are the everyday; who looks for the cause of one turns `logging.levels: { identity: debug }` on.
    onRejection: (provider, { reason, detail }, { request_id }) =>
      logger.debug({ request_id, provider, reason, detail: detail ?? null }, 'credential_refused'),
  });
  const takesCertificates = route.identity.some((name) => providers.get(name)?.takesCertificates === true);
  return {
    authenticate(received, facts) {
      const found = presented(received.headers, facts, cookie);
      const credentials = takesCertificates ? withCertificate(found, received.headers, facts) : found;
      if (credentials instanceof GatewayError) return explained(credentials, challenge);
      // Nobody to ask, nothing to abort: the signal is not made.
      const signal = credentials.length === 0 ? NEVER : received.signal;
      return chain.authenticate(credentials, facts, signal);
    },
  };
}

/** What was presented by a header; the cookie of a session counts only where nothing was. */
function presented(
  headers: Readonly<Record<string, string>>,
  facts: IdentityFacts,
  cookie: SessionCookie | null,
): readonly Credential[] | GatewayError {
  const credentials = readCredentials(headers);
  if (cookie === null || credentials instanceof GatewayError || credentials.length > 0) return credentials;
  const session = cookie.read(headers, facts);
  return session === null ? credentials : session instanceof GatewayError ? session : [session];
}

/** With the client certificate as one more credential: who shows several must be one and the same by each. */
function withCertificate(
  found: readonly Credential[] | GatewayError,
  headers: Readonly<Record<string, string>>,
  facts: IdentityFacts,
): readonly Credential[] | GatewayError {
  const certificate = found instanceof GatewayError ? null : certificateCredential(headers, facts);
  return certificate === null || found instanceof GatewayError ? found : [...found, certificate];
}

/** A header that cannot be read is told where to find out more, as every other refusal is. */
function explained(error: GatewayError, challenge: string | null): GatewayError {
  if (challenge === null || error.extras.challenge === undefined) return error;
  return new GatewayError(error.code, { ...error.extras, challenge: `${error.extras.challenge}, ${challenge}` });
}

/** Puts the guard against guessing, if there is one, before an authenticator. */
export function failureGuard(
  { rate_limit }: Config,
  { counters }: Platform,
): (authenticator: Authenticator) => Authenticator {
  const { refused_per_address: rule } = rate_limit;
  if (rule === undefined) return (authenticator) => authenticator;
  const guard = createFailureGuard({ limit: rule.limit, windowMs: rule.window_seconds * 1000 }, counters);
  return (authenticator) => guarded(authenticator, guard);
}
