/**
 * The policy's data document, which changes while it is in use. Operations are those of OPA's delta bundles
 * (openpolicyagent.org/docs/latest/management-bundles); a change is made as a whole or not at all.
 */
import { isJsonObject, type JsonObject, type JsonValue } from '../core/json.ts';

/**
 * One change as the module is told it: set what is at the path, or (without a value) remove it. Both are JSON text:
 * values become parts of the document, and later changes go through them.
 */
export interface DataOperation {
  readonly path: string;
  readonly value: string | null;
}

/** One change as a delta bundle asks for it. */
export interface PatchOperation {
  /** `upsert` sets and makes what is missing on the way; `replace` and `remove` need what they name to be there. */
  readonly op: 'upsert' | 'replace' | 'remove';
  readonly path: readonly string[];
  readonly value?: JsonValue;
}

/** The change cannot be made; the message says which operation and why. Nothing has changed. */
export class PatchRefused extends Error {
  override readonly name = 'PatchRefused';
}

type Mutable = Record<string, JsonValue>;

export class DataDocument {
  readonly #root: Mutable;
  #text: string | null;

  /** Takes the document over: nobody else may change it. */
  constructor(root: JsonObject, text: string | null = null) {
    this.#root = root as Mutable;
    this.#text = text;
  }

  get root(): JsonObject {
    return this.#root;
  }

  /** The document as JSON, made again only after a change. */
  text(): string {
    this.#text ??= JSON.stringify(this.#root);
    return this.#text;
  }

  /** Makes all changes and gives those that take them back. Throws PatchRefused. */
  apply(operations: readonly PatchOperation[]): readonly PatchOperation[] {
    const undo: PatchOperation[] = [];
    try {
      for (const operation of operations) undo.unshift(this.#one(operation));
    } catch (cause) {
      for (const operation of undo) this.#one(operation);
      throw cause;
    } finally {
      this.#text = null;
    }
    return undo;
  }

  #one(operation: PatchOperation): PatchOperation {
    const { op, path } = operation;
    const name = path.at(-1);
    if (name === undefined) throw refused(operation, 'a delta cannot replace the whole document');
    let parent: Mutable = this.#root;
    for (let at = 0; at < path.length - 1; at++) {
      const key = path[at] ?? '';
      const next = Object.hasOwn(parent, key) ? parent[key] : undefined;
      if (next === undefined && op === 'upsert') return grow(parent, operation, at);
      if (next === undefined) throw refused(operation, 'there is no such member');
      if (!isJsonObject(next)) throw refused(operation, 'the path leads through something that is no object');
      parent = next as Mutable;
    }
    const before = Object.hasOwn(parent, name) ? parent[name] : undefined;
    if (before === undefined && op !== 'upsert') throw refused(operation, 'there is no such member');
    if (op === 'remove') delete parent[name];
    else define(parent, name, operation.value ?? null);
    return before === undefined ? { op: 'remove', path } : { op: 'upsert', path, value: before };
  }
}

/** Makes the objects that are missing from `at` on; taking it back removes the uppermost of them. */
function grow(parent: Mutable, { path, value = null }: PatchOperation, at: number): PatchOperation {
  let made: JsonValue = value;
  for (let i = path.length - 1; i > at; i--) {
    const holder: Mutable = {};
    define(holder, path[i] ?? '', made);
    made = holder;
  }
  define(parent, path[at] ?? '', made);
  return { op: 'remove', path: path.slice(0, at + 1) };
}

/** A member called `__proto__` is a member like any other. */
function define(target: Mutable, name: string, value: JsonValue): void {
  if (name === '__proto__') {
    Object.defineProperty(target, name, { value, enumerable: true, configurable: true, writable: true });
  } else target[name] = value;
}

function refused({ op, path }: PatchOperation, why: string): PatchRefused {
  return new PatchRefused(`${op} /${path.join('/')}: ${why}`);
}

/** The same operations as the module is told them; made before they are applied. */
export function dataOperations(operations: readonly PatchOperation[]): readonly DataOperation[] {
  return operations.map(({ op, path, value = null }) => ({
    path: JSON.stringify(path),
    value: op === 'remove' ? null : JSON.stringify(value),
  }));
}
