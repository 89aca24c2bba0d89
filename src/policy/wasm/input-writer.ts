/**
 * Writes policy inputs. Most of an input is the same from one request to the next: the caller, the server, the tool,
 * the words of the vocabulary. Those stand once in an arena below the evaluation heap and are pointed to; only what is
 * new is written. Fixed parts of the document ("shapes") stay built, and only their changed members are replaced.
 */
import type { Heap } from './heap.ts';
import type { Rego } from './values.ts';
import { BadValue, HeapWriter, type Reserve } from './writer.ts';

/** Bytes kept for what outlives one evaluation. When they are used up, everything in them is forgotten at once. */
export const ARENA_BYTES = 512 * 1024;
const MAX_WORDS = 4096;
const MAX_WORD_LENGTH = 64;
const SMALL_INTEGERS = 256;
const RESERVED = 64 * 1024;

/** A document part with a fixed list of members. */
export interface ShapeSpec {
  readonly keys: readonly string[];
  /** Members that are shapes themselves. */
  readonly children?: Readonly<Record<string, ShapeSpec>>;
  /** Members that are different each time: never remembered. */
  readonly volatile?: readonly string[];
  /** Members the policy does not read: they stay null. */
  readonly unread?: readonly string[];
  /** Of these members only the named keys are written, because the policy reads no other. */
  readonly picks?: Readonly<Record<string, readonly string[]>>;
}

/** Objects that are never changed and come again: written once and then pointed to. */
const lasting = new WeakSet<object>();

/** Marks an object (with all in it) as never changing. */
export function markLasting<T extends object>(value: T): T {
  lasting.add(value);
  return value;
}

interface Shape {
  readonly address: number;
  readonly keys: readonly string[];
  readonly slots: Int32Array;
  readonly last: unknown[];
  readonly children: readonly (Shape | null)[];
  readonly picks: readonly (readonly string[] | null)[];
  readonly remembers: readonly boolean[];
}

const NEVER = Symbol('never equal to a member');

export class InputWriter extends HeapWriter {
  readonly #arenaStart: number;
  readonly #arenaEnd: number;
  readonly #scratchLimit: number;
  #arenaAt = 0;
  #inArena = false;
  #full = false;
  #words = new Map<string, number>();
  #lasting = new WeakMap<object, number>();
  #shapes = new Map<ShapeSpec, Shape>();
  #null = 0;
  #true = 0;
  #false = 0;
  #integers: number[] = [];

  /** The arena begins at `start`; scratch space reaches up to `scratchLimit` and further through `reserve`. */
  constructor(heap: Heap, start: number, scratchLimit: number, reserve: Reserve) {
    super(heap, reserve);
    this.#arenaStart = (start + 7) & ~7;
    this.#arenaEnd = this.#arenaStart + ARENA_BYTES;
    this.#scratchLimit = scratchLimit;
    this.#reset();
  }

  /** Starts a new input: scratch begins after the arena. */
  begin(): void {
    if (this.#full) this.#reset();
    this.at = this.#arenaEnd;
    this.limit = this.#scratchLimit;
  }

  /** Writes a document of a known shape. Throws BadValue. */
  document(spec: ShapeSpec, value: object): number {
    const known = this.#shapes.get(spec);
    if (known === undefined) {
      if (this.#arenaEnd - this.#arenaAt < RESERVED) this.#reset();
      const made = this.#persistent(() => this.#makeShape(spec));
      this.#shapes.set(spec, made);
      return this.#fill(made, value as Record<string, Rego>);
    }
    return this.#fill(known, value as Record<string, Rego>);
  }

  #reset(): void {
    this.#arenaAt = this.#arenaStart;
    this.#full = false;
    this.#words = new Map();
    this.#lasting = new WeakMap();
    this.#shapes = new Map();
    this.#integers = [];
    this.#persistent(() => {
      this.#null = super.null();
      this.#true = super.boolean(true);
      this.#false = super.boolean(false);
      for (let i = 0; i < SMALL_INTEGERS; i++) this.#integers.push(super.number(i));
    });
  }

  /** Lets `write` use the arena instead of scratch space. */
  #persistent<T>(write: () => T): T {
    if (this.#inArena) return write();
    const { at, limit } = this;
    this.at = this.#arenaAt;
    this.limit = this.#arenaEnd;
    this.#inArena = true;
    try {
      const made = write();
      this.#arenaAt = this.at;
      return made;
    } finally {
      this.#inArena = false;
      this.at = at;
      this.limit = limit;
    }
  }

  /** Room for something of about `bytes`; if not, the arena is cleared before the next input. */
  #hasRoom(bytes: number): boolean {
    if (this.#arenaEnd - this.#arenaAt > bytes) return true;
    this.#full = true;
    return false;
  }

  #makeShape(spec: ShapeSpec): Shape {
    const members: Record<string, Rego> = Object.fromEntries(spec.keys.map((key) => [key, null]));
    const keys = spec.keys.filter((key) => spec.unread?.includes(key) !== true);
    const elements = new Map<string, number>();
    const address = this.table(spec.keys.length);
    for (const name of Object.keys(members)) {
      const key = this.key(name);
      elements.set(name, this.insert(address, key, this.#null, this.hashText(key)));
    }
    return {
      address,
      keys,
      slots: Int32Array.from(keys, (key) => ((elements.get(key) ?? 0) >> 2) + 1),
      last: keys.map(() => null),
      children: keys.map((key) => {
        const child = spec.children?.[key];
        return child === undefined ? null : this.#makeShape(child);
      }),
      picks: keys.map((key) => spec.picks?.[key] ?? null),
      remembers: keys.map((key) => spec.volatile?.includes(key) !== true),
    };
  }

  #fill(shape: Shape, value: Record<string, Rego>): number {
    const { keys, last, slots } = shape;
    for (let i = 0; i < keys.length; i++) {
      const item = value[keys[i] ?? ''];
      if (item === last[i]) continue;
      this.heap.words[slots[i] ?? 0] = this.#member(shape, i, item);
    }
    return shape.address;
  }

  #member(shape: Shape, i: number, item: Rego | undefined): number {
    const child = shape.children[i];
    if (child != null && typeof item === 'object' && item !== null) {
      shape.last[i] = NEVER;
      return this.#fill(child, item as unknown as Record<string, Rego>);
    }
    shape.last[i] = NEVER;
    const picked = shape.picks[i];
    if (picked != null) return this.#pick(picked, item);
    const address = typeof item === 'string' && shape.remembers[i] === true ? this.#word(item) : this.value(item, 1);
    // Only what stands in the arena may be left standing in the shape.
    if (address < this.#arenaEnd) shape.last[i] = item;
    return address;
  }

  #pick(names: readonly string[], item: Rego | undefined): number {
    if (typeof item !== 'object' || item === null || Array.isArray(item)) return this.value(item, 1);
    const source = item as unknown as Record<string, Rego>;
    const part: Record<string, Rego> = {};
    for (const name of names) if (Object.hasOwn(source, name)) part[name] = source[name] ?? null;
    return this.value(part, 1);
  }

  #word(text: string): number {
    const known = this.#words.get(text);
    if (known !== undefined) return known;
    if (this.#words.size >= MAX_WORDS || text.length > MAX_WORD_LENGTH || !this.#hasRoom(1024)) return this.text(text);
    const made = this.#persistent(() => this.text(text));
    this.#words.set(text, made);
    return made;
  }

  override composite(value: object, depth: number): number {
    const known = this.#lasting.get(value);
    if (known !== undefined) return known;
    if (this.#inArena || !lasting.has(value)) return super.composite(value, depth);
    if (!this.#hasRoom(RESERVED)) return super.composite(value, depth);
    try {
      const made = this.#persistent(() => super.composite(value, depth));
      this.#lasting.set(value, made);
      return made;
    } catch (cause) {
      if (cause instanceof BadValue) throw cause;
      this.#full = true;
      return super.composite(value, depth);
    }
  }

  /** In the arena there is nothing to extend: the caller falls back to scratch space. */
  override take(size: number): number {
    if (this.#inArena && this.at + size + 8 > this.limit) throw new RangeError('the arena is full');
    return super.take(size);
  }

  override null(): number {
    return this.#null;
  }

  override boolean(value: boolean): number {
    return value ? this.#true : this.#false;
  }

  override number(value: number): number {
    return this.#integers[value] ?? super.number(value);
  }

  override key(text: string): number {
    return this.#words.get(text) ?? (this.#inArena ? this.text(text) : this.#word(text));
  }
}
