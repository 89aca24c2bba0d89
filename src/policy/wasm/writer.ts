/** Builds values straight in the module's memory, without JSON. */
import type { Heap } from './heap.ts';
import { hashBytes, NUMBER, TYPE } from './heap.ts';
import type { Rego } from './values.ts';

/** Nesting beyond this is refused before the module sees it: its own recursion would exhaust the stack. */
export const MAX_INPUT_DEPTH = 128;

/** The value cannot be handed to the module: lone surrogate, too deep, not JSON. */
export class BadValue extends Error {
  override readonly name = 'BadValue';
}

/** Makes sure `bytes` more can be written at the cursor; may move nothing, only extend. */
export type Reserve = (cursor: number, bytes: number) => number;

/** Writes at a cursor that only goes up. Everything it writes is 8-byte aligned. */
export class HeapWriter {
  readonly heap: Heap;
  /** Next free address. */
  at = 0;
  /** First address that is not ours. */
  limit = 0;
  readonly #reserve: Reserve;

  constructor(heap: Heap, reserve: Reserve) {
    this.heap = heap;
    this.#reserve = reserve;
  }

  /** Address of `size` fresh bytes. */
  take(size: number): number {
    const start = this.at;
    const end = (start + size + 7) & ~7;
    if (end > this.limit) this.limit = this.#reserve(start, end - start);
    this.at = end;
    return start;
  }

  value(value: Rego | object | undefined, depth = 0): number {
    switch (typeof value) {
      case 'string':
        return this.text(value);
      case 'number':
        return this.number(value);
      case 'boolean':
        return this.boolean(value);
      case 'bigint':
        return this.bigint(value);
      case 'object':
        return value === null ? this.null() : this.composite(value, depth);
      default:
        throw new BadValue(`a ${typeof value} is no JSON value`);
    }
  }

  composite(value: object, depth: number): number {
    if (depth >= MAX_INPUT_DEPTH) throw new BadValue('nested too deep');
    if (Array.isArray(value)) return this.#array(value, depth);
    if (value instanceof Map) return this.#entries([...value.keys()], [...value.values()], depth);
    if (value instanceof Set) return this.#set([...value], depth);
    return this.#object(value as Record<string, Rego>, depth);
  }

  null(): number {
    const at = this.take(8);
    this.heap.words[at >> 2] = TYPE.null;
    return at;
  }

  boolean(value: boolean): number {
    const at = this.take(8);
    this.heap.words[at >> 2] = TYPE.boolean | (value ? 256 : 0);
    return at;
  }

  /**
   * Integers of 32 bits are held as such, all others as text, like the module's own JSON parser does: its arithmetic
   * cuts int64 values to 32 bits.
   */
  number(value: number): number {
    if ((value | 0) !== value) return this.#decimal(value);
    const at = this.take(16);
    const words = this.heap.words;
    words[at >> 2] = TYPE.number | (NUMBER.int << 8);
    words[(at >> 2) + 2] = value;
    words[(at >> 2) + 3] = value < 0 ? -1 : 0;
    return at;
  }

  bigint(value: bigint): number {
    const small = Number(value);
    return (small | 0) === small ? this.number(small) : this.#decimalText(value.toString());
  }

  #decimal(value: number): number {
    if (!Number.isFinite(value)) throw new BadValue('a number is not finite');
    return this.#decimalText(String(value));
  }

  #decimalText(text: string): number {
    const at = this.take(24);
    const start = this.take(text.length);
    this.heap.bytes.write(text, start, 'latin1');
    const words = this.heap.words;
    words[at >> 2] = TYPE.number | (NUMBER.text << 8);
    words[(at >> 2) + 2] = start;
    words[(at >> 2) + 3] = text.length;
    words[(at >> 2) + 4] = 0;
    return at;
  }

  /** A string value; refuses lone surrogates, which have no UTF-8. */
  text(text: string): number {
    const at = this.take(16 + text.length);
    const start = at + 16;
    const end = this.#ascii(text, start) ? start + text.length : this.#utf8(text, start);
    const words = this.heap.words;
    words[at >> 2] = TYPE.string;
    words[(at >> 2) + 1] = end - start;
    words[(at >> 2) + 2] = start;
    words[(at >> 2) + 3] = 0;
    return at;
  }

  /** Short ASCII texts by hand: faster than crossing into the runtime. */
  #ascii(text: string, start: number): boolean {
    const length = text.length;
    if (length > 40) return false;
    const bytes = this.heap.bytes;
    for (let i = 0; i < length; i++) {
      const code = text.charCodeAt(i);
      if (code >= 0x80) return false;
      bytes[start + i] = code;
    }
    return true;
  }

  #utf8(text: string, start: number): number {
    if (!text.isWellFormed()) throw new BadValue('a text holds a lone surrogate');
    const bytes = Buffer.byteLength(text);
    // The text is last: taking the difference leaves it in one piece.
    if (bytes > text.length) {
      this.at = start + text.length;
      this.take(bytes - text.length);
    }
    this.heap.bytes.write(text, start);
    return start + bytes;
  }

  #array(items: readonly Rego[], depth: number): number {
    const length = items.length;
    const at = this.take(16);
    const elems = length === 0 ? 0 : this.take(length * 8);
    const words = this.heap.words;
    words[at >> 2] = TYPE.array;
    words[(at >> 2) + 1] = elems;
    words[(at >> 2) + 2] = length;
    words[(at >> 2) + 3] = length;
    for (let i = 0; i < length; i++) {
      const index = this.index(i);
      const item = this.value(items[i], depth + 1);
      this.heap.words[(elems >> 2) + 2 * i] = index;
      this.heap.words[(elems >> 2) + 2 * i + 1] = item;
    }
    return at;
  }

  /** The number value of an array position. */
  index(position: number): number {
    return this.number(position);
  }

  /** The string value of an object key. */
  key(text: string): number {
    return this.text(text);
  }

  #object(value: Record<string, Rego>, depth: number): number {
    const names = Object.keys(value);
    const at = this.table(names.length, TYPE.object);
    for (const name of names) {
      const key = this.key(name);
      const item = this.value(value[name], depth + 1);
      this.insert(at, key, item, this.hashText(key));
    }
    return at;
  }

  /** Objects with keys of any type: made by builtins only. */
  #entries(keys: readonly Rego[], values: readonly Rego[], depth: number): number {
    const at = this.table(keys.length, TYPE.object);
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i];
      const address = this.value(key, depth + 1);
      this.insert(at, address, this.value(values[i], depth + 1), this.#hash(key, address));
    }
    return at;
  }

  #set(items: readonly Rego[], depth: number): number {
    const at = this.table(items.length, TYPE.set);
    for (const item of items) {
      const address = this.value(item, depth + 1);
      this.#link(at, this.take(8), address, 4, this.#hash(item, address));
    }
    return at;
  }

  #hash(value: Rego | undefined, address: number): number {
    if (typeof value === 'string') return this.hashText(address);
    if (value === null) return 0;
    if (typeof value === 'boolean') return value ? 0 : 1;
    if (typeof value === 'number') {
      const bytes = new Uint8Array(Float64Array.of(value).buffer);
      return hashBytes(bytes, 0, 8);
    }
    if (Array.isArray(value)) return this.#hashItems(address, value);
    throw new BadValue('a builtin gave a member of a type that cannot be hashed here');
  }

  #hashItems(address: number, items: readonly Rego[]): number {
    const elems = this.heap.words[(address >> 2) + 1] ?? 0;
    let sum = 0;
    for (let i = 0; i < items.length; i++) {
      sum += this.#hash(items[i], this.heap.words[(elems >> 2) + 2 * i + 1] ?? 0);
    }
    return sum >>> 0;
  }

  /** FNV-1 of the string value at `at`; kept in the spare fourth word of texts written here. */
  hashText(at: number): number {
    const words = this.heap.words;
    const known = words[(at >> 2) + 3] ?? 0;
    if (known !== 0) return known >>> 0;
    const start = words[(at >> 2) + 2] ?? 0;
    const hash = hashBytes(this.heap.bytes, start, start + (words[(at >> 2) + 1] ?? 0));
    words[(at >> 2) + 3] = hash;
    return hash;
  }

  /** An empty object or set with enough buckets for `count` members: at least 8, at most 70 % full. */
  table(count: number, type: number = TYPE.object): number {
    let buckets = 8;
    while (count > buckets * 0.7) buckets *= 2;
    const at = this.take(16);
    const start = this.take(buckets * 4);
    const words = this.heap.words;
    words.fill(0, start >> 2, (start >> 2) + buckets);
    words[at >> 2] = type;
    words[(at >> 2) + 1] = start;
    words[(at >> 2) + 2] = buckets;
    words[(at >> 2) + 3] = 0;
    return at;
  }

  /** Adds a member whose key is not there yet; gives the address of its element (key, value, next). */
  insert(object: number, key: number, value: number, hash: number): number {
    const elem = this.take(12);
    this.heap.words[(elem >> 2) + 1] = value;
    this.#link(object, elem, key, 8, hash);
    return elem;
  }

  /**
   * Chains of a bucket are sorted by key in the module, but only insertion relies on it, and only for where it puts a
   * new one; look-up and iteration walk the chain. So a member goes to the front.
   */
  #link(table: number, elem: number, key: number, next: number, hash: number): void {
    const words = this.heap.words;
    const buckets = words[(table >> 2) + 1] ?? 0;
    const slot = (buckets >> 2) + (hash % (words[(table >> 2) + 2] ?? 8));
    words[elem >> 2] = key;
    words[(elem + next) >> 2] = words[slot] ?? 0;
    words[slot] = elem;
    const length = (table >> 2) + 3;
    words[length] = (words[length] ?? 0) + 1;
  }
}
