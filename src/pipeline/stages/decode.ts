/** Stage 4: what is asked for, read by the route's protocol from the bytes that will be forwarded. */
import type { Admitted, Decoded } from '../../core/exchange.ts';
import type { Protocol } from '../../protocols/protocol.ts';

export async function decode(protocol: Protocol, admitted: Admitted): Promise<Decoded> {
  const message = await protocol.decode(admitted);
  return {
    received: admitted.received,
    route: admitted.route,
    principal: admitted.principal,
    rate: admitted.rate,
    rateResetAt: admitted.rateResetAt,
    message,
  };
}
