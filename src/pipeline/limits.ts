/**
 * How many requests are let in: token buckets per principal, key, address or tenant, for chosen routes, roles, types and
 * ways to authenticate. All that apply must have a token, so the strictest wins. Source: contracts 3; acceptance H-09,
 * SW-06, HW-11; draft-ietf-httpapi-ratelimit-headers-10.
 */
import { GatewayError, type Spent } from '../core/errors.ts';
import type { Authenticated, Received } from '../core/exchange.ts';
import { networkOf } from '../core/network.ts';
import type { CredentialKind, Principal, PrincipalType } from '../core/principal.ts';
import { actorIds, everyAuth } from '../core/principal.ts';
import type { Counters } from '../stores/open-shared.ts';
import type { Bucket, Taken } from '../stores/shared.ts';

export interface LimitRule {
  readonly name: string;
  readonly bucket: Bucket;
  /** `credential`: the key that was shown, else the principal; of a delegated call everyone's. */
  readonly per: 'principal' | 'key' | 'credential' | 'address' | 'tenant';
  /** Matches of routes; empty: all, counted together. With routes each is counted apart. */
  readonly routes: readonly string[];
  readonly roles: readonly string[];
  readonly types: readonly PrincipalType[];
  readonly methods: readonly CredentialKind[];
  /** Only these requests. Absent: all. */
  isMeantFor?(authenticated: Authenticated): boolean;
}

/** One bucket a request takes from. */
interface Claim {
  readonly rule: string;
  readonly key: string;
  readonly bucket: Bucket;
}

interface Tightest {
  readonly claim: Claim;
  readonly taken: Taken;
}

/** Takes the tokens of one request and tells the caller what is left. */
export interface Limits {
  /** @throws GatewayError RATE_LIMIT_EXCEEDED, at once or by rejecting */
  take(authenticated: Authenticated): void | Promise<void>;
}

const HOUR_MS = 3_600_000;

export function createLimits(rules: readonly LimitRule[], counters: Counters): Limits {
  return {
    take(authenticated) {
      const claims = claimsOf(rules, authenticated);
      if (claims.length === 0) return undefined;
      const taken = claims.map(({ key, bucket }) => counters.take(key, bucket));
      if (taken.some((one) => one instanceof Promise)) {
        return Promise.all(taken).then((all) => conclude(authenticated, claims, all));
      }
      return conclude(authenticated, claims, taken as readonly Taken[]);
    },
  };
}

function claimsOf(rules: readonly LimitRule[], authenticated: Authenticated): readonly Claim[] {
  const { principal } = authenticated;
  const claims: Claim[] = [];
  // Lending shakes no limit off: everyone in the chain of a delegated call pays.
  for (const party of principal.parties ?? [principal]) {
    const own = ownLimit(party);
    if (own !== null) claims.push(own);
  }
  for (const rule of rules) {
    if (!applies(rule, authenticated)) continue;
    const prefix = `${rule.name}:${rule.routes.length === 0 ? '' : authenticated.route.match}:`;
    for (const who of everyoneOf(rule.per, authenticated)) {
      claims.push({ rule: rule.name, key: prefix + who, bucket: rule.bucket });
    }
  }
  return claims;
}

/** A key may carry an hourly limit of its own. */
function ownLimit({ auth, metadata }: Principal): Claim | null {
  const { rate_limit_per_hour } = metadata;
  if (rate_limit_per_hour === undefined || auth.key_id === null) return null;
  const limit = Number(rate_limit_per_hour);
  // What cannot be read must not come to mean unlimited.
  const bucket = { limit: limit >= 1 ? Math.floor(limit) : 1, windowMs: HOUR_MS };
  return { rule: 'key', key: `key:${auth.provider}:${auth.key_id}`, bucket };
}

function applies(rule: LimitRule, authenticated: Authenticated): boolean {
  const { route, principal } = authenticated;
  if (rule.routes.length > 0 && !rule.routes.includes(route.match)) return false;
  if (rule.isMeantFor?.(authenticated) === false) return false;
  // A rule that holds for one who takes part in a delegated call holds for the call: none is shaken off by lending.
  return principal.parties === undefined
    ? isMeant(rule, principal)
    : principal.parties.some((one) => isMeant(rule, one));
}

function isMeant(rule: LimitRule, { type, auth, roles }: Principal): boolean {
  return (
    (rule.types.length === 0 || rule.types.includes(type)) &&
    (rule.methods.length === 0 || rule.methods.includes(auth.method)) &&
    (rule.roles.length === 0 || rule.roles.some((role) => roles.includes(role)))
  );
}

/** Whose buckets this request takes from; nobody's when the rule counts something that it has not. */
function everyoneOf(per: LimitRule['per'], authenticated: Authenticated): readonly string[] {
  const { principal, received } = authenticated;
  const { tenant_id, type, actor, id } = principal;
  switch (per) {
    case 'address':
      return [networkOf(received.peer.address)];
    case 'tenant':
      return [tenant_id];
    case 'key':
      return keysOf(principal);
    case 'credential':
      // Where somebody in the chain showed no key, the key of another is not all that pays.
      return everyAuth(principal).every(({ key_id }) => key_id !== null)
        ? keysOf(principal)
        : [...keysOf(principal), ...everyoneOf('principal', authenticated)];
    case 'principal':
      // Anonymous callers share no identity, so they are told apart by where they come from.
      if (type === 'anonymous') return [networkOf(received.peer.address)];
      if (actor === null) return [JSON.stringify([tenant_id, id])];
      return [...new Set([id, ...actorIds(principal)])].map((one) => JSON.stringify([tenant_id, one]));
  }
}

function keysOf(principal: Principal): readonly string[] {
  const keys = new Set<string>();
  for (const { provider, key_id } of everyAuth(principal)) if (key_id !== null) keys.add(`${provider}:${key_id}`);
  return [...keys];
}

/**
 * The same headers for a limit that the policy or the guard of passwords keeps: of all that hold, the one that refuses is the tightest, so that it
 * takes the place of what was said at admission. Source: acceptance S-51.
 */
export function tellSpent({ outgoing, receivedAt }: Received, { rule, limit, windowSeconds, resetAt }: Spent): void {
  const name = `"${rule}"`;
  if (limit !== null) {
    const told = outgoing.getHeader('ratelimit-policy');
    const policy = `${name};q=${limit};w=${windowSeconds}`;
    outgoing.setHeader('ratelimit-policy', told === undefined ? policy : `${String(told)}, ${policy}`);
    outgoing.setHeader('x-ratelimit-limit', String(limit));
  } else outgoing.removeHeader('x-ratelimit-limit');
  outgoing.setHeader('ratelimit', `${name};r=0;t=${Math.max(0, seconds(resetAt - receivedAt))}`);
  outgoing.setHeader('x-ratelimit-remaining', '0');
  outgoing.setHeader('x-ratelimit-reset', String(Math.ceil(resetAt / 1000)));
}

function conclude({ received }: Authenticated, claims: readonly Claim[], taken: readonly Taken[]): void {
  const tightest = tightestOf(claims, taken);
  const policies = claims.map(({ rule, bucket }) => `"${rule}";q=${bucket.limit};w=${seconds(bucket.windowMs)}`);
  // Of a delegated call one rule may hold for several; it is told once.
  const told = claims.length === 1 ? policies : [...new Set(policies)];
  const { outgoing, receivedAt } = received;
  const { remaining, fullInMs, retryInMs, isAllowed } = tightest.taken;
  const resetInMs = isAllowed ? fullInMs : retryInMs;
  outgoing.setHeader('ratelimit-policy', told.join(', '));
  outgoing.setHeader('ratelimit', `"${tightest.claim.rule}";r=${remaining};t=${seconds(resetInMs)}`);
  outgoing.setHeader('x-ratelimit-limit', String(tightest.claim.bucket.limit));
  outgoing.setHeader('x-ratelimit-remaining', String(remaining));
  outgoing.setHeader('x-ratelimit-reset', String(Math.ceil((receivedAt + resetInMs) / 1000)));
  if (!isAllowed) throw refusal(tightest);
}

const seconds = (ms: number): number => Math.ceil(ms / 1000);

/** The one that refuses for longest, else the one with the least left. */
function tightestOf(claims: readonly Claim[], taken: readonly Taken[]): Tightest {
  const all = claims.flatMap((claim, i): Tightest[] => {
    const one = taken[i];
    return one === undefined ? [] : [{ claim, taken: one }];
  });
  return all.reduce((worst, one) => (isTighter(one.taken, worst.taken) ? one : worst));
}

function isTighter(one: Taken, other: Taken): boolean {
  if (one.isAllowed !== other.isAllowed) return !one.isAllowed;
  return one.isAllowed ? one.remaining < other.remaining : one.retryInMs > other.retryInMs;
}

function refusal({ claim, taken }: Tightest): GatewayError {
  const { limit, windowMs } = claim.bucket;
  const message = `Rate limit exceeded: ${limit} requests in ${seconds(windowMs)} s allowed (${claim.rule})`;
  return new GatewayError('RATE_LIMIT_EXCEEDED', {
    message,
    reasons: [{ code: 'RATE_LIMIT_EXCEEDED', message }],
    details: { limit, window_seconds: seconds(windowMs), rule: claim.rule },
    retryAfter: Math.max(1, seconds(taken.retryInMs)),
  });
}
