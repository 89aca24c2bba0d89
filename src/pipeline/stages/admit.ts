/** Stage 3: counts the request once. Policy reads the figure and decides what is too much. Source: contracts 3. */
import { GatewayError } from '../../core/errors.ts';
import type { Admitted, Authenticated } from '../../core/exchange.ts';
import type { Shared, WindowCount } from '../../stores/shared.ts';

export interface Admission {
  readonly shared: Shared;
  readonly windowMs: number;
}

export function admit(admission: Admission, authenticated: Authenticated): Admitted | Promise<Admitted> {
  const hit = count(admission, authenticated);
  return hit instanceof Promise
    ? orUnavailable(hit).then((window) => counted(admission, authenticated, window))
    : counted(admission, authenticated, hit);
}

function counted(admission: Admission, authenticated: Authenticated, window: WindowCount): Admitted {
  return {
    received: authenticated.received,
    route: authenticated.route,
    principal: authenticated.principal,
    // The current request is not held against itself (S-51).
    rate: { window_seconds: admission.windowMs / 1000, count: window.count - 1 },
    rateResetAt: window.resetAt,
  };
}

function count(admission: Admission, { principal, received }: Authenticated): WindowCount | Promise<WindowCount> {
  // Anonymous callers share no identity, so they are told apart by address.
  const who = principal.type === 'anonymous' ? received.peer.address : principal.id;
  return admission.shared.hit(`rate:${principal.tenant_id.length}:${principal.tenant_id}:${who}`, admission.windowMs);
}

async function orUnavailable(hit: Promise<WindowCount>): Promise<WindowCount> {
  try {
    return await hit;
  } catch (cause) {
    throw new GatewayError('STORE_UNAVAILABLE', { retryAfter: 1, cause });
  }
}
