/** Sets whose members may be composite: equality is by value, which JavaScript's own sets do not know. */
import { equalRego, type Rego, type RegoSet } from '../../wasm/values.ts';

/** Whether a set holds a value. */
export function hasRego(set: RegoSet, value: Rego): boolean {
  if (set.has(value)) return true;
  if (typeof value !== 'object' || value === null) return false;
  for (const item of set) if (typeof item === 'object' && equalRego(item, value)) return true;
  return false;
}

/** Adds in place; a value that is there already is not added again. */
export function addRego(set: Set<Rego>, value: Rego): void {
  if (!hasRego(set, value)) set.add(value);
}

export function unionOf(...sets: readonly RegoSet[]): RegoSet {
  const out = new Set<Rego>();
  for (const set of sets) for (const item of set) addRego(out, item);
  return out;
}

export function intersectionOf(first: RegoSet, ...others: readonly RegoSet[]): RegoSet {
  return new Set([...first].filter((item) => others.every((other) => hasRego(other, item))));
}

export function differenceOf(a: RegoSet, b: RegoSet): RegoSet {
  return new Set([...a].filter((item) => !hasRego(b, item)));
}
