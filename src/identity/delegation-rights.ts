/**
 * What is left of rights when one acts for another: what all of them hold, and the weakest of the facts that trust is
 * built on. The composite principal is what lists and upstreams see; the policy is asked for each party by itself.
 * Source: acceptance SF-42.
 */
import { type Actor, makePrincipal, type Principal, type PrincipalType } from '../core/principal.ts';
import { freezePrincipal } from './credential-cache.ts';

/** What a delegation is narrowed to; a member left out is not narrowed. */
export interface Limits {
  readonly roles?: readonly string[] | undefined;
  readonly permissions?: readonly string[] | undefined;
  readonly scopes?: readonly string[] | undefined;
}

/** Whether holding `held` is holding `wanted`: a star at the end stands for what follows a separator, alone for all. */
export function covers(held: string, wanted: string): boolean {
  if (held === wanted || held === '*') return true;
  if (!held.endsWith('.*') && !held.endsWith(':*')) return false;
  return wanted.length > held.length - 1 && wanted.startsWith(held.slice(0, -1));
}

/** True when some of `held` covers each of `wanted`. */
export function coversAll(held: readonly string[], wanted: readonly string[]): boolean {
  return wanted.every((one) => held.some((other) => covers(other, one)));
}

/** What both lists grant, stars included; sorted, no duplicates. */
export function sharedGrants(a: readonly string[], b: readonly string[]): string[] {
  const both = [...a.filter((one) => coversAll(b, [one])), ...b.filter((one) => coversAll(a, [one]))];
  return [...new Set(both)].sort();
}

/** Words in both lists; sorted, no duplicates. */
export function sharedWords(a: readonly string[], b: readonly string[]): string[] {
  return [...new Set(a.filter((one) => b.includes(one)))].sort();
}

/** A principal that has nothing beyond the limits. */
export function limited(principal: Principal, limits: Limits): Principal {
  const { roles, permissions, scopes } = limits;
  if (roles === undefined && permissions === undefined && scopes === undefined) return principal;
  return {
    ...principal,
    roles: roles === undefined ? principal.roles : sharedWords(principal.roles, roles),
    permissions: permissions === undefined ? principal.permissions : sharedGrants(principal.permissions, permissions),
    ...(scopes === undefined ? {} : lentScopes(principal, scopes)),
  };
}

/** What a star covers counts where scopes are taken for permissions, and is no scope that was granted. */
function lentScopes(
  { scopes, granted = scopes }: Principal,
  limits: readonly string[],
): Pick<Principal, 'scopes' | 'granted'> {
  return { scopes: sharedGrants(scopes, limits), granted: granted.filter((one) => coversAll(limits, [one])) };
}

/** Least trusted last. */
const TYPES: readonly PrincipalType[] = ['user', 'service', 'agent', 'anonymous'];

/** What a delegation token says of itself. */
export interface DelegationFacts {
  readonly token_id: string;
  /** Unix seconds. */
  readonly expires_at: number;
  /** Who acts, the current actor first. */
  readonly actor: Actor;
}

/** The delegator as seen through everyone in the chain. `parties`: the delegator first, the current actor last; at least two. */
export function joinParties(parties: readonly Principal[], facts: DelegationFacts): Principal {
  const [delegator] = parties;
  const actor = parties[parties.length - 1];
  if (delegator === undefined || actor === undefined) throw new RangeError('a delegation has two parties at least');
  const composite = makePrincipal(
    {
      id: delegator.id,
      tenant_id: delegator.tenant_id,
      type: weakestType(parties),
      email: delegator.email,
      username: delegator.username,
      ...sharedRights(parties),
      actor: facts.actor,
      tenure_months: least(parties.map(({ tenure_months }) => tenure_months)),
      device_compliant: parties.every(({ device_compliant }) => device_compliant),
      auth: {
        mfa_verified: parties.every(({ auth }) => auth.mfa_verified),
        mfa_at: least(parties.map(({ auth }) => auth.mfa_at)),
        key_id: actor.auth.key_id,
        token_id: facts.token_id,
        expires_at: Math.min(facts.expires_at, actor.auth.expires_at ?? facts.expires_at),
      },
      metadata: sharedMetadata(parties),
    },
    actor.auth.provider,
    actor.auth.method,
  );
  return freezePrincipal({ ...composite, parties: Object.freeze(parties.map((party) => freezePrincipal(party))) });
}

function weakestType(parties: readonly Principal[]): PrincipalType {
  return TYPES[Math.max(...parties.map(({ type }) => TYPES.indexOf(type)))] ?? 'anonymous';
}

function sharedRights(
  parties: readonly Principal[],
): Pick<Principal, 'roles' | 'teams' | 'groups' | 'permissions' | 'scopes'> {
  const all = (of: (party: Principal) => readonly string[], share: typeof sharedWords): readonly string[] =>
    parties.map(of).reduce((held, next) => share(held, next));
  return {
    roles: all(({ roles }) => roles, sharedWords),
    teams: all(({ teams }) => teams, sharedWords),
    groups: all(({ groups }) => groups, sharedWords),
    permissions: all(({ permissions }) => permissions, sharedGrants),
    scopes: all(({ scopes }) => scopes, sharedGrants),
  };
}

/** The smallest; null, the least of all, when one is not known. */
function least(values: readonly (number | null)[]): number | null {
  return values.reduce((a, b) => (a === null || b === null ? null : Math.min(a, b)), Number.POSITIVE_INFINITY);
}

/** The hourly limit of a key travels here: the smallest of all goes on holding, whoever else has none. */
const HOURLY = 'rate_limit_per_hour';

function sharedMetadata(parties: readonly Principal[]): Record<string, string> {
  const [first, ...rest] = parties;
  const entries = Object.entries(first?.metadata ?? {});
  const shared = entries.filter(([name, value]) => rest.every(({ metadata }) => metadata[name] === value));
  const limits = parties.flatMap(({ metadata }) => (metadata[HOURLY] === undefined ? [] : [Number(metadata[HOURLY])]));
  // One that cannot be read becomes NaN, which whoever reads it takes for the least.
  return Object.fromEntries(limits.length === 0 ? shared : [...shared, [HOURLY, String(Math.min(...limits))]]);
}
