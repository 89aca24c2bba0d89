/** Stage 2: who asks. The body is still unread. Source: contracts 1, architecture 4. */
import { GatewayError } from '../../core/errors.ts';
import type { Authenticated, Received, Routed } from '../../core/exchange.ts';
import type { Principal } from '../../core/principal.ts';
import type { IdentityFacts } from '../../identity/provider.ts';

type Identified = Principal | GatewayError;

/** The ordered providers of one route, behind the reading of credentials. An outcome is a value; it never throws. */
export interface Authenticator {
  authenticate(received: Pick<Received, 'headers' | 'signal'>, facts: IdentityFacts): Identified | Promise<Identified>;
}

export function authenticate(authenticator: Authenticator, routed: Routed): Authenticated | Promise<Authenticated> {
  const { received, route } = routed;
  const facts: IdentityFacts = {
    request_id: received.id,
    source_ip: received.peer.address,
    user_agent: received.headers['user-agent'] ?? null,
    method: received.method,
    path: received.path,
    route: route.id,
    now: received.receivedAt,
    incoming: received.incoming,
  };
  const identified = authenticator.authenticate(received, facts);
  return identified instanceof Promise ? identified.then((later) => accept(routed, later)) : accept(routed, identified);
}

function accept({ received, route }: Routed, identified: Identified): Authenticated {
  if (identified instanceof GatewayError) throw identified;
  return { received, route, principal: identified };
}
