/** `json.patch` and `object.subset`. Source: RFC 6902, RFC 6901; OPA policy reference. */
import { compareRego, equalRego, getRego, type Rego, type RegoObject } from '../values.ts';
import { asArray, asObject, asText, isSet, Mismatch, pure } from './support.ts';

/** Pointer text or array of segments. */
function segments(path: Rego | undefined): readonly Rego[] {
  if (Array.isArray(path)) return path as readonly Rego[];
  const text = asText(path);
  if (text === '') return [];
  return text
    .replace(/^\//, '')
    .split('/')
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function arrayIndex(segment: Rego | undefined, length: number): number {
  if (typeof segment === 'string' && !/^(0|[1-9]\d*)$/.test(segment)) throw new Mismatch('not an index');
  const index = Number(segment);
  if (!Number.isInteger(index) || index < 0 || index > length) throw new Mismatch('no such index');
  return index;
}

function lookUp(document: Rego, path: readonly Rego[]): Rego {
  let at: Rego | undefined = document;
  for (const segment of path) {
    if (Array.isArray(at)) at = (at as readonly Rego[])[arrayIndex(segment, at.length)];
    else if (at instanceof Map) at = getRego(at as RegoObject, segment);
    else if (isSet(at)) at = [...at].find((item) => equalRego(item, segment));
    else throw new Mismatch('no such path');
    if (at === undefined) throw new Mismatch('no such path');
  }
  return at;
}

type Change = 'add' | 'replace' | 'remove';

/** A copy of the document in which the place named by the path is changed. */
function change(document: Rego, path: readonly Rego[], kind: Change, value: Rego): Rego {
  const [segment, ...rest] = path;
  if (segment === undefined) {
    if (kind === 'remove') throw new Mismatch('the whole cannot be removed');
    return value;
  }
  if (Array.isArray(document)) return changeArray(document as readonly Rego[], segment, rest, kind, value);
  if (document instanceof Map) return changeObject(document as RegoObject, segment, rest, kind, value);
  if (isSet(document)) return changeSet([...document], segment, rest, kind, value);
  throw new Mismatch('no such path');
}

function changeArray(items: readonly Rego[], segment: Rego, rest: readonly Rego[], kind: Change, value: Rego): Rego {
  if (rest.length === 0 && kind === 'add') {
    const index = segment === '-' ? items.length : arrayIndex(segment, items.length);
    return items.toSpliced(index, 0, value);
  }
  const index = arrayIndex(segment, items.length - 1);
  if (rest.length === 0) return kind === 'remove' ? items.toSpliced(index, 1) : items.with(index, value);
  return items.with(index, change(items[index] ?? null, rest, kind, value));
}

function changeObject(object: RegoObject, segment: Rego, rest: readonly Rego[], kind: Change, value: Rego): Rego {
  const current = getRego(object, segment);
  const out = new Map([...object].filter(([key]) => !equalRego(key, segment)));
  if (rest.length > 0 || kind !== 'add') {
    if (current === undefined) throw new Mismatch('no such path');
    if (rest.length === 0 && kind === 'remove') return out;
  }
  out.set(segment, rest.length === 0 ? value : change(current ?? null, rest, kind, value));
  return out;
}

function changeSet(items: Rego[], segment: Rego, rest: readonly Rego[], kind: Change, value: Rego): Rego {
  const found = items.find((item) => equalRego(item, segment));
  const others = items.filter((item) => !equalRego(item, segment));
  if (rest.length === 0 && kind === 'add') {
    if (!equalRego(segment, value)) throw new Mismatch('the member and its path differ');
    return new Set([...others, value]);
  }
  if (found === undefined) throw new Mismatch('no such member');
  if (rest.length === 0) return new Set(kind === 'remove' ? others : [...others, value]);
  return new Set([...others, change(found, rest, kind, value)]);
}

function patch(document: Rego, operations: readonly Rego[]): Rego {
  let current = document;
  for (const operation of operations) {
    const fields = asObject(operation);
    const path = segments(fields.get('path'));
    const value = fields.get('value');
    const kind = asText(fields.get('op'));
    if (kind === 'add' || kind === 'replace') {
      if (value === undefined) throw new Mismatch('no value');
      current = change(current, path, kind, value);
    } else if (kind === 'remove') current = change(current, path, 'remove', null);
    else if (kind === 'test') {
      if (value === undefined || !equalRego(lookUp(current, path), value)) throw new Mismatch('the test failed');
    } else current = transfer(current, kind, segments(fields.get('from')), path);
  }
  return current;
}

function transfer(document: Rego, kind: string, from: readonly Rego[], path: readonly Rego[]): Rego {
  if (kind !== 'move' && kind !== 'copy') throw new Mismatch('no such operation');
  const value = lookUp(document, from);
  return change(kind === 'move' ? change(document, from, 'remove', null) : document, path, 'add', value);
}

/** Whether everything in `sub` is in `whole`. */
function isSubset(whole: Rego, sub: Rego): boolean {
  if (whole instanceof Map && sub instanceof Map) {
    return [...(sub as RegoObject)].every(([key, item]) => {
      const other = getRego(whole as RegoObject, key);
      return other !== undefined && matches(other, item);
    });
  }
  if (isSet(whole) && isSet(sub)) return contains([...whole], [...sub]);
  if (Array.isArray(whole) && isSet(sub)) return contains(whole as readonly Rego[], [...sub]);
  if (Array.isArray(whole) && Array.isArray(sub)) return hasRun(whole as readonly Rego[], sub as readonly Rego[]);
  throw new Mismatch('not comparable');
}

function matches(whole: Rego, sub: Rego): boolean {
  if (whole instanceof Map && sub instanceof Map) return isSubset(whole, sub);
  if (isSet(whole) && isSet(sub)) return isSubset(whole, sub);
  if (Array.isArray(whole) && Array.isArray(sub)) return isSubset(whole as readonly Rego[], sub as readonly Rego[]);
  return compareRego(whole, sub) === 0;
}

function contains(whole: readonly Rego[], sub: readonly Rego[]): boolean {
  return sub.every((item) => whole.some((other) => equalRego(other, item)));
}

function hasRun(whole: readonly Rego[], run: readonly Rego[]): boolean {
  for (let start = 0; start + run.length <= whole.length; start++) {
    if (run.every((item, i) => equalRego(whole[start + i] ?? null, item))) return true;
  }
  return false;
}

export const DOCUMENTS = pure({
  'json.patch': ([document, operations]) => (document === undefined ? undefined : patch(document, asArray(operations))),
  'object.subset': ([whole, sub]) => (whole === undefined || sub === undefined ? undefined : isSubset(whole, sub)),
});
