/** Stage 2: who asks. The body is still unread. Source: contracts 1, architecture 4. */
import { GatewayError } from '../../core/errors.ts';
import type { Authenticated, Routed } from '../../core/exchange.ts';
import type { Principal } from '../../core/principal.ts';
import type { IdentityFacts } from '../../identity/provider.ts';

type Identified = Principal | GatewayError;

/** The ordered providers of one route, behind the reading of credentials. An outcome is a value; it never throws. */
export interface Authenticator {
  authenticate(
    headers: Readonly<Record<string, string>>,
    facts: IdentityFacts,
    signal: AbortSignal,
  ): Identified | Promise<Identified>;
}

export async function authenticate(authenticator: Authenticator, { received, route }: Routed): Promise<Authenticated> {
  const facts: IdentityFacts = {
    request_id: received.id,
    source_ip: received.peer.address,
    user_agent: received.headers['user-agent'] ?? null,
    method: received.method,
    path: received.path,
    route: route.id,
    now: received.receivedAt,
  };
  const identified = await authenticator.authenticate(received.headers, facts, received.signal);
  if (identified instanceof GatewayError) throw identified;
  return { received, route, principal: identified };
}
