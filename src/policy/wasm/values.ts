/** Rego values in JavaScript, for builtins: arrays, `Set`, `Map`, and `bigint` for integers a double cannot hold. */
import type { JsonValue } from '../../core/json.ts';

export type Rego = null | boolean | number | bigint | string | readonly Rego[] | RegoSet | RegoObject;
export type RegoSet = ReadonlySet<Rego>;
export type RegoObject = ReadonlyMap<Rego, Rego>;

/**
 * How numbers of lists were written where a JavaScript number does not tell: an integer spelled with a point or an
 * exponent, or one beyond doubles. By list and index; `sprintf` needs it, for which 100.0 is no integer.
 */
export const spellings = new WeakMap<readonly Rego[], ReadonlyMap<number, string>>();

/** Rego's order of types: null < boolean < number < string < array < object < set. */
function rank(value: Rego): number {
  if (value === null) return 0;
  if (typeof value === 'boolean') return 1;
  if (typeof value === 'number' || typeof value === 'bigint') return 2;
  if (typeof value === 'string') return 3;
  if (Array.isArray(value)) return 4;
  return value instanceof Map ? 5 : 6;
}

/** Total order of Rego values; texts by code point, as in Go. */
export function compareRego(a: Rego, b: Rego): number {
  const difference = rank(a) - rank(b);
  if (difference !== 0 || a === null || b === null) return difference;
  if (typeof a === 'string') return compareText(a, b as string);
  if (typeof a !== 'object')
    return a === b ? 0 : (a as number) < (b as number) ? -1 : (a as number) > (b as number) ? 1 : 0;
  if (Array.isArray(a)) return compareLists(a, b as readonly Rego[]);
  if (a instanceof Map) return compareObjects(a, b as RegoObject);
  return compareLists(sortRego([...(a as RegoSet)]), sortRego([...(b as RegoSet)]));
}

/** Sorts in place. */
export function sortRego(values: Rego[]): Rego[] {
  return values.sort(compareRego);
}

/** Order of UTF-8 bytes, which is the order of code points: JavaScript's own differs beyond the basic plane. */
export function compareText(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    const high = (x & 0xf800) === 0xd800;
    return high === ((y & 0xf800) === 0xd800) ? x - y : high ? 1 : -1;
  }
  return a.length - b.length;
}

function compareLists(a: readonly Rego[], b: readonly Rego[]): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const difference = compareRego(a[i] ?? null, b[i] ?? null);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

function compareObjects(a: RegoObject, b: RegoObject): number {
  const left = sortRego([...a.keys()]);
  const right = sortRego([...b.keys()]);
  const length = Math.min(left.length, right.length);
  for (let i = 0; i < length; i++) {
    const difference =
      compareRego(left[i] ?? null, right[i] ?? null) ||
      compareRego(a.get(left[i] ?? null) ?? null, b.get(right[i] ?? null) ?? null);
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}

export function equalRego(a: Rego, b: Rego): boolean {
  return a === b || compareRego(a, b) === 0;
}

/** The member of a map whose key is equal; needed because composite keys have no identity. */
export function getRego(object: RegoObject, key: Rego): Rego | undefined {
  const direct = object.get(key);
  if (direct !== undefined || typeof key !== 'object' || key === null) return direct;
  for (const [k, v] of object) if (compareRego(k, key) === 0) return v;
  return undefined;
}

/** A JSON value as Rego value. */
export function fromJson(value: JsonValue): Rego {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(fromJson);
  const map = new Map<Rego, Rego>();
  for (const [key, item] of Object.entries(value)) map.set(key, fromJson(item as JsonValue));
  return map;
}

/** As JSON: sets become sorted arrays, keys that are no texts become their JSON text, bigints become numbers. */
export function toJson(value: Rego): JsonValue {
  if (typeof value === 'bigint') return Number(value);
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(toJson);
  if (value instanceof Map) {
    const out: Record<string, JsonValue> = Object.create(null);
    for (const [key, item] of value) out[typeof key === 'string' ? key : JSON.stringify(toJson(key))] = toJson(item);
    return out;
  }
  return sortRego([...(value as RegoSet)]).map(toJson);
}
