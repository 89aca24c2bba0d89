/**
 * Stage 3: turns away who is switched off or has no business on the route, and counts the request once. Policy reads the
 * figure and decides what is too much. Source: contracts 3.
 */
import { GatewayError } from '../../core/errors.ts';
import type { Admitted, Authenticated } from '../../core/exchange.ts';
import { networkOf } from '../../core/network.ts';
import { actorIds, type Principal } from '../../core/principal.ts';
import type { Counters } from '../../stores/open-shared.ts';
import type { WindowCount } from '../../stores/shared.ts';
import type { Limits } from '../limits.ts';
import type { Switchboard } from '../switchboard.ts';

export interface Admission {
  readonly shared: Counters;
  readonly windowMs: number;
  readonly switches: Switchboard;
  readonly limits: Limits;
  /** Why whoever is known, and paid for the request, has no business on the route; null who has. Absent: everybody has. */
  refusalOf?(authenticated: Authenticated): GatewayError | null;
  /** Requests that are no calls, so that the policy's figure says nothing of them. Absent: all are calls. */
  isUncounted?(authenticated: Authenticated): boolean;
}

export function admit(admission: Admission, authenticated: Authenticated): Admitted | Promise<Admitted> {
  const off = admission.switches.refusalOf(authenticated.principal);
  if (off !== null) throw off;
  const taking = admission.limits.take(authenticated);
  if (taking instanceof Promise) return orUnavailable(taking).then(() => countOnce(admission, authenticated));
  return countOnce(admission, authenticated);
}

function countOnce(admission: Admission, authenticated: Authenticated): Admitted | Promise<Admitted> {
  const refused = admission.refusalOf?.(authenticated) ?? null;
  if (refused !== null) throw refused;
  if (admission.isUncounted?.(authenticated)) return uncounted(admission, authenticated);
  const hit = count(admission, authenticated);
  return hit instanceof Promise
    ? orUnavailable(hit).then((window) => counted(admission, authenticated, window))
    : counted(admission, authenticated, hit);
}

function uncounted({ windowMs }: Admission, { received, route, principal }: Authenticated): Admitted {
  const rate = { window_seconds: windowMs / 1000, count: 0 };
  return { received, route, principal, rate, rateResetAt: received.receivedAt + windowMs };
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
  if (principal.actor !== null) return countAll(admission, principal);
  // Anonymous callers share no identity, so they are told apart by where they come from.
  const who = principal.type === 'anonymous' ? networkOf(received.peer.address) : principal.id;
  return hitFor(admission, principal.tenant_id, who);
}

function hitFor({ shared, windowMs }: Admission, tenant: string, who: string): WindowCount | Promise<WindowCount> {
  return shared.hit(`rate:${tenant.length}:${tenant}:${who}`, windowMs);
}

/** A delegated call counts for everyone in the chain, and the one with the most calls is the one that limits it. */
async function countAll(admission: Admission, principal: Principal): Promise<WindowCount> {
  let most = await hitFor(admission, principal.tenant_id, principal.id);
  for (const id of new Set(actorIds(principal))) {
    if (id === principal.id) continue;
    const window = await hitFor(admission, principal.tenant_id, id);
    if (window.count > most.count) most = window;
  }
  return most;
}

async function orUnavailable<T>(hit: Promise<T>): Promise<T> {
  try {
    return await hit;
  } catch (cause) {
    if (cause instanceof GatewayError && cause.code === 'RATE_LIMIT_EXCEEDED') throw cause;
    throw new GatewayError('STORE_UNAVAILABLE', { retryAfter: 1, cause });
  }
}
