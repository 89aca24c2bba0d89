/** The order of tool types and levels, and the base level of each type. Source: acceptance S-10, S-11, S-13, SF-09. */
import type { Sensitivity, ToolType } from '../core/call.ts';
import { sensitivityRank } from '../core/call.ts';

const BASE: Readonly<Record<string, Sensitivity>> = {
  query: 'low',
  analytics: 'low',
  mutation: 'medium',
  integration: 'medium',
  custom: 'high',
  admin: 'critical',
};

const TYPE_RANK: Readonly<Record<string, number>> = {
  query: 0,
  analytics: 1,
  mutation: 2,
  integration: 3,
  custom: 5,
  admin: 6,
};
/** Types a deployment registered: above the built-in ones with known rights, below "nobody knows". */
const REGISTERED_RANK = 4;

/** The level a type has when nothing says more; registered types start at `medium`. */
export function baseLevel(type: ToolType): Sensitivity {
  return Object.hasOwn(BASE, type) ? (BASE[type] ?? 'high') : 'medium';
}

function typeRank(type: ToolType): number {
  return Object.hasOwn(TYPE_RANK, type) ? (TYPE_RANK[type] ?? REGISTERED_RANK) : REGISTERED_RANK;
}

/** The more dangerous of two types; two registered types are told apart by name, so that order does not matter. */
export function maxType(a: ToolType, b: ToolType): ToolType {
  const difference = typeRank(a) - typeRank(b);
  if (difference !== 0) return difference > 0 ? a : b;
  return a < b ? b : a;
}

/** The more dangerous of two levels. */
export function maxLevel(a: Sensitivity, b: Sensitivity): Sensitivity {
  return sensitivityRank(a) >= sensitivityRank(b) ? a : b;
}
