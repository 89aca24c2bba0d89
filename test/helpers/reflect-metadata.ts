/** The part of the metadata reflection API that `@peculiar/x509` stands on: a note per class and name, seen by subclasses. */

type Notes = Map<unknown, unknown>;

const notes = new WeakMap<object, Notes>();

function find(key: unknown, target: object): unknown {
  for (let at: object | null = target; at !== null; at = Object.getPrototypeOf(at) as object | null) {
    const found = notes.get(at);
    if (found?.has(key) === true) return found.get(key);
  }
  return undefined;
}

function define(key: unknown, value: unknown, target: object): void {
  const own: Notes = notes.get(target) ?? new Map<unknown, unknown>();
  own.set(key, value);
  notes.set(target, own);
}

Object.assign(Reflect, {
  defineMetadata: define,
  getMetadata: find,
  getOwnMetadata: (key: unknown, target: object) => notes.get(target)?.get(key),
  hasOwnMetadata: (key: unknown, target: object) => notes.get(target)?.has(key) === true,
});
