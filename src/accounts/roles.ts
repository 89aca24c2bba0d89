/** What the roles of accounts may do. Source: acceptance V-20, V-21, VF-10, VF-12. */
import type { AccountsConfig } from '../config/accounts-schema.ts';
import { STANDARD_ROLES } from '../config/accounts-schema.ts';

export interface RoleRights {
  readonly permissions: readonly string[];
  /** What belongs to another account is not for this role. */
  readonly own_only: boolean;
}

export type Roles = ReadonlyMap<string, RoleRights>;

/** The three that every installation has, and those of the configuration. */
export function rolesOf({ roles }: Pick<AccountsConfig, 'roles'>): Roles {
  return new Map<string, RoleRights>(Object.entries({ ...STANDARD_ROLES, ...roles }));
}

/**
 * Whether holding `held` is holding `wanted`, by segments: `tasks.*` covers `tasks.create`, but neither `tasks` nor
 * `tasksfoo`; a star alone covers everything.
 */
export function covers(held: string, wanted: string): boolean {
  if (held === wanted || held === '*') return true;
  if (!held.endsWith('.*') && !held.endsWith(':*')) return false;
  return wanted.length > held.length - 1 && wanted.startsWith(held.slice(0, -1));
}

/** True when some of `held` covers each of `wanted`. */
export function coversAll(held: readonly string[], wanted: readonly string[]): boolean {
  return wanted.every((one) => held.some((other) => covers(other, one)));
}
