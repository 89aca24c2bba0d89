/** Taking up a delegation: the actor's own credential first, then the token that was made for it. Neither is enough alone. */
import { GatewayError } from '../core/errors.ts';
import type { Principal } from '../core/principal.ts';
import type { Authenticator } from '../pipeline/stages/authenticate.ts';
import type { Delegation } from './delegation.ts';

/** The header that carries a delegation token; it is never sent on. */
export const DELEGATION_HEADER = 'x-delegation-token';

type Identified = Principal | GatewayError;

/** The same authenticator, which also reads the delegation header. A token that is not good is never passed over. */
export function withDelegation(authenticator: Authenticator, delegation: Delegation): Authenticator {
  return {
    authenticate(received, facts) {
      const identified = authenticator.authenticate(received, facts);
      const token = received.headers[DELEGATION_HEADER];
      if (token === undefined) return identified;
      const accept = (actor: Identified): Identified | Promise<Identified> =>
        actor instanceof GatewayError ? actor : delegation.accept(actor, token, facts.now);
      return identified instanceof Promise ? identified.then(accept) : accept(identified);
    },
  };
}
