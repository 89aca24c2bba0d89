/** Stage 2: who asks. The body is still unread. Source: contracts 1, architecture 4. */

import type { Authenticated, Routed } from '../../core/exchange.ts';
import type { Principal } from '../../core/principal.ts';
import { ANONYMOUS } from '../../core/principal.ts';
import type { IdentityFacts } from '../../identity/provider.ts';

/** The ordered providers of one route. Throws a GatewayError for everything that is not a principal. */
export interface Authenticator {
  /** Null: no credential was presented. */
  authenticate(
    headers: Readonly<Record<string, string>>,
    facts: IdentityFacts,
    signal: AbortSignal,
  ): Promise<Principal | null>;
  /** The error for a request that presented nothing. */
  missing(): Error;
}

export async function authenticate(chain: Authenticator, { received, route }: Routed): Promise<Authenticated> {
  const facts: IdentityFacts = {
    request_id: received.id,
    source_ip: received.peer.address,
    user_agent: received.headers['user-agent'] ?? null,
    method: received.method,
    path: received.path,
    route: route.id,
    now: received.receivedAt,
  };
  const principal = await chain.authenticate(received.headers, facts, received.signal);
  if (principal !== null) return { received, route, principal };
  // Nothing presented: only a route that says so lets it pass. A bad credential never gets here.
  if (!route.anonymous) throw chain.missing();
  return { received, route, principal: ANONYMOUS };
}
