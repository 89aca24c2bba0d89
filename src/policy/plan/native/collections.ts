/** Arrays, sets, objects and graphs, as OPA compiles them into the module. Source: OPA policy reference. */
import { asArray, asInteger, asItems, asObject, asText, isSet, Mismatch, pure } from '../../wasm/builtins/support.ts';
import { equalRego, getRego, type Rego, type RegoObject, type RegoSet, sortRego } from '../../wasm/values.ts';
import { differenceOf, hasRego, intersectionOf, unionOf } from './sets.ts';

function asSet(value: Rego | undefined): RegoSet {
  if (!isSet(value)) throw new Mismatch('not a set');
  return value;
}

/** The member of any value under a key, or undefined: what a reference finds. */
export function memberOf(value: Rego | undefined, key: Rego): Rego | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  if (Array.isArray(value)) return typeof key === 'number' ? (value as readonly Rego[])[key] : undefined;
  if (value instanceof Map) return getRego(value as RegoObject, key);
  return hasRego(value as RegoSet, key) ? key : undefined;
}

/** Sets a member in place, replacing one whose key is equal. */
export function setMember(object: Map<Rego, Rego>, key: Rego, value: Rego): void {
  if (typeof key === 'object' && key !== null && !object.has(key)) {
    for (const known of object.keys()) {
      if (typeof known === 'object' && equalRego(known, key)) return void object.set(known, value);
    }
  }
  object.set(key, value);
}

/** Members of both, objects under the same key joined; of anything else the second's. */
export function joinObjects(a: RegoObject, b: RegoObject): RegoObject {
  const out = new Map(a);
  for (const [key, value] of b) {
    const there = getRego(a, key);
    const both = there instanceof Map && value instanceof Map;
    setMember(out, key, both ? joinObjects(there as RegoObject, value as RegoObject) : value);
  }
  return out;
}

/** Keys given as array, set or object. */
function keysOf(value: Rego | undefined): readonly Rego[] {
  return value instanceof Map ? [...value.keys()] : asItems(value);
}

function filterObject(object: RegoObject, keys: readonly Rego[], keep: boolean): Rego {
  return new Map([...object].filter(([key]) => keys.some((one) => equalRego(one, key)) === keep));
}

function get(object: RegoObject, key: Rego, otherwise: Rego): Rego {
  if (!Array.isArray(key)) return getRego(object, key) ?? otherwise;
  let at: Rego | undefined = object;
  for (const segment of key as readonly Rego[]) {
    at = memberOf(at, segment);
    if (at === undefined) return otherwise;
  }
  return at;
}

function reachable(graph: RegoObject, initial: readonly Rego[]): Rego {
  const queue = [...initial];
  const reached = new Set<Rego>();
  for (const node of queue) {
    const edges = getRego(graph, node);
    if (edges === undefined || hasRego(reached, node)) continue;
    reached.add(node);
    if (Array.isArray(edges) || isSet(edges)) queue.push(...asItems(edges));
  }
  return reached;
}

const MAX_WALK = 1_000_000;

/** Every value of a document with its path, the document itself first. */
function walk(value: Rego, path: readonly Rego[] = [], out: Rego[] = []): readonly Rego[] {
  if (out.length > MAX_WALK) throw new Mismatch('the document is too large');
  out.push([path, value]);
  if (typeof value !== 'object' || value === null) return out;
  if (Array.isArray(value)) for (const [i, item] of value.entries()) walk(item as Rego, [...path, i], out);
  else if (value instanceof Map) for (const [key, item] of value) walk(item as Rego, [...path, key as Rego], out);
  else for (const item of value as RegoSet) walk(item, [...path, item], out);
  return out;
}

/** Pointer texts or arrays of segments. */
function paths(value: Rego | undefined): readonly (readonly Rego[])[] {
  return asItems(value).map((path) => {
    if (Array.isArray(path)) return path as readonly Rego[];
    const text = asText(path).replace(/^\//, '');
    return text === '' ? [] : text.split('/').map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
  });
}

/** Array members may be named by number or by its text. */
function segmentOf(list: readonly (readonly Rego[])[], key: Rego): readonly (readonly Rego[])[] {
  return list.filter(([head]) => head !== undefined && (equalRego(head, key) || head === String(key)));
}

function filterPaths(value: Rego, list: readonly (readonly Rego[])[]): Rego {
  if (list.some((path) => path.length === 0) || typeof value !== 'object' || value === null) return value;
  const below = (key: Rego) => segmentOf(list, key).map((path) => path.slice(1));
  if (Array.isArray(value)) {
    const items = value as readonly Rego[];
    return items.flatMap((item, i) => (below(i).length === 0 ? [] : [filterPaths(item, below(i))]));
  }
  if (value instanceof Map) {
    const members = [...(value as RegoObject)].filter(([key]) => below(key).length > 0);
    return new Map(members.map(([key, item]) => [key, filterPaths(item, below(key))]));
  }
  return new Set([...(value as RegoSet)].filter((item) => below(item).length > 0));
}

function removePaths(value: Rego, list: readonly (readonly Rego[])[]): Rego {
  if (typeof value !== 'object' || value === null) return value;
  const below = (key: Rego) => segmentOf(list, key).map((path) => path.slice(1));
  const gone = (key: Rego) => below(key).some((path) => path.length === 0);
  if (Array.isArray(value)) {
    const items = value as readonly Rego[];
    return items.flatMap((item, i) => (gone(i) ? [] : [removePaths(item, below(i))]));
  }
  if (value instanceof Map) {
    const members = [...(value as RegoObject)].filter(([key]) => !gone(key));
    return new Map(members.map(([key, item]) => [key, removePaths(item, below(key))]));
  }
  return new Set([...(value as RegoSet)].filter((item) => !gone(item)));
}

function slice(items: readonly Rego[], from: number, to: number): Rego {
  const stop = Math.min(Math.max(to, 0), items.length);
  return items.slice(Math.min(Math.max(from, 0), stop), stop);
}

function isMember(value: Rego, collection: Rego | undefined): boolean {
  if (typeof collection !== 'object' || collection === null) return false;
  if (isSet(collection)) return hasRego(collection, value);
  const items = collection instanceof Map ? [...collection.values()] : (collection as readonly Rego[]);
  return items.some((item) => equalRego(item as Rego, value));
}

function hasPair(key: Rego, value: Rego, collection: Rego | undefined): boolean {
  const found = memberOf(collection, key);
  return found !== undefined && equalRego(found, value);
}

export const COLLECTIONS = pure({
  'array.concat': ([a, b]) => [...asArray(a), ...asArray(b)],
  'array.flatten': ([value]) => asArray(value).flatMap((item) => (Array.isArray(item) ? (item as Rego[]) : [item])),
  'array.reverse': ([value]) => asArray(value).toReversed(),
  'array.slice': ([value, from, to]) => slice(asArray(value), asInteger(from), asInteger(to)),
  set_diff: ([a, b]) => differenceOf(asSet(a), asSet(b)),
  and: ([a, b]) => intersectionOf(asSet(a), asSet(b)),
  or: ([a, b]) => unionOf(asSet(a), asSet(b)),
  union: ([sets]) => unionOf(...[...asSet(sets)].map(asSet)),
  intersection: ([sets]) => {
    const [first, ...others] = [...asSet(sets)].map(asSet);
    return first === undefined ? new Set<Rego>() : intersectionOf(first, ...others);
  },
  'internal.member_2': ([value, collection]) => isMember(value ?? null, collection),
  'internal.member_3': ([key, value, collection]) => hasPair(key ?? null, value ?? null, collection),
  'object.get': ([object, key, otherwise]) => get(asObject(object), key ?? null, otherwise ?? null),
  'object.keys': ([object]) => new Set(asObject(object).keys()),
  'object.filter': ([object, keys]) => filterObject(asObject(object), keysOf(keys), true),
  'object.remove': ([object, keys]) => filterObject(asObject(object), keysOf(keys), false),
  'object.union': ([a, b]) => joinObjects(asObject(a), asObject(b)),
  'object.union_n': ([objects]) => asArray(objects).map(asObject).reduce(joinObjects, new Map()),
  'json.filter': ([object, list]) => filterPaths(asObject(object), paths(list)),
  'json.remove': ([object, list]) => removePaths(asObject(object), paths(list)),
  'graph.reachable': ([graph, initial]) => reachable(asObject(graph), asItems(initial)),
  walk: ([value]) => walk(value ?? null),
});

/** In Rego's order where order matters to whoever looks, which is that of OPA itself; arrays as they are. */
export function entriesOf(value: Rego | undefined): readonly (readonly [Rego, Rego])[] {
  if (typeof value !== 'object' || value === null) return [];
  if (Array.isArray(value)) return (value as readonly Rego[]).map((item, i) => [i, item] as const);
  if (value instanceof Map) {
    const object = value as RegoObject;
    return sortRego([...object.keys()]).map((key) => [key, object.get(key) ?? null] as const);
  }
  return sortRego([...(value as RegoSet)]).map((item) => [item, item] as const);
}
