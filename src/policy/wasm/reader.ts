/** Reads values out of the module's memory without JSON. */
import type { JsonValue } from '../../core/json.ts';
import { type Heap, NUMBER, TYPE } from './heap.ts';
import { compareRego, fromJson, type Rego, spellings } from './values.ts';

/** Deeper values are refused (a RangeError): a result or argument that deep is a defect or an attack. */
export const MAX_DEPTH = 512;

export class HeapReader {
  readonly #heap: Heap;
  /** Constants of the module by address. */
  readonly #interned = new Map<number, string>();

  constructor(heap: Heap) {
    this.#heap = heap;
  }

  /** The value as JSON. Sets become arrays in Rego's order, so that equal values are equal bytes. */
  json(at: number, depth = 0): JsonValue {
    const view = this.#heap.view;
    switch (view.getUint8(at)) {
      case TYPE.null:
        return null;
      case TYPE.boolean:
      case TYPE.booleanInterned:
        return view.getUint8(at + 1) !== 0;
      case TYPE.number:
        return Number(this.#number(at));
      case TYPE.string:
      case TYPE.stringInterned:
        return this.text(at);
      case TYPE.array:
        return this.#jsonArray(at, depth);
      case TYPE.set: {
        const items = this.#members(at, depth).map((elem) => this.json(view.getUint32(elem, true), depth + 1));
        return items.length > 1 ? items.sort((a, b) => compareRego(fromJson(a), fromJson(b))) : items;
      }
      case TYPE.object:
        return this.#jsonObject(at, depth);
      default:
        throw new RangeError('not a value');
    }
  }

  /** Lists of decisions often hold one and the same value many times over: it is read once. */
  #jsonArray(at: number, depth: number): JsonValue {
    const out: JsonValue[] = [];
    let last = 0;
    let value: JsonValue = null;
    for (const item of this.#items(at, depth)) {
      if (item !== last) value = this.json(item, depth + 1);
      last = item;
      out.push(value);
    }
    return out;
  }

  #jsonObject(at: number, depth: number): JsonValue {
    const view = this.#heap.view;
    const out: Record<string, JsonValue> = Object.create(null);
    for (const elem of this.#members(at, depth)) {
      const key = view.getUint32(elem, true);
      const type = view.getUint8(key);
      const name =
        type === TYPE.string || type === TYPE.stringInterned
          ? this.text(key)
          : JSON.stringify(this.json(key, depth + 1));
      out[name] = this.json(view.getUint32(elem + 4, true), depth + 1);
    }
    return out;
  }

  /** The value as builtins see it: sets and keys of any type are kept, integers are exact. */
  rego(at: number, depth = 0): Rego {
    const view = this.#heap.view;
    switch (view.getUint8(at)) {
      case TYPE.null:
        return null;
      case TYPE.boolean:
      case TYPE.booleanInterned:
        return view.getUint8(at + 1) !== 0;
      case TYPE.number:
        return this.#number(at);
      case TYPE.string:
      case TYPE.stringInterned:
        return this.text(at);
      case TYPE.array:
        return this.#regoArray(at, depth);
      case TYPE.set:
        return new Set(this.#members(at, depth).map((elem) => this.rego(view.getUint32(elem, true), depth + 1)));
      case TYPE.object: {
        const map = new Map<Rego, Rego>();
        for (const elem of this.#members(at, depth)) {
          map.set(
            this.rego(view.getUint32(elem, true), depth + 1),
            this.rego(view.getUint32(elem + 4, true), depth + 1),
          );
        }
        return map;
      }
      default:
        throw new RangeError('not a value');
    }
  }

  #regoArray(at: number, depth: number): readonly Rego[] {
    const items = this.#items(at, depth);
    const out = items.map((item) => this.rego(item, depth + 1));
    let spelled: Map<number, string> | null = null;
    for (let i = 0; i < out.length; i++) {
      const value = out[i];
      if (typeof value !== 'number' || (Number.isFinite(value) && !Number.isInteger(value))) continue;
      const text = this.#decimal(items[i] ?? 0);
      if (text === null || /^-?\d+$/.test(text)) continue;
      spelled ??= new Map();
      spelled.set(i, text);
    }
    if (spelled !== null) spellings.set(out, spelled);
    return out;
  }

  /** Text of the string value at `at`. */
  text(at: number): string {
    const view = this.#heap.view;
    if (view.getUint8(at) !== TYPE.stringInterned) {
      return this.#heap.text(view.getUint32(at + 8, true), view.getUint32(at + 4, true));
    }
    const known = this.#interned.get(at);
    if (known !== undefined) return known;
    const text = this.#heap.text(view.getUint32(at + 8, true), view.getUint32(at + 4, true));
    this.#interned.set(at, text);
    return text;
  }

  /** The first member of the result set, or 0 when it is empty (undefined). */
  firstOfSet(at: number): number {
    const view = this.#heap.view;
    const [first] = this.#members(at, 0);
    return first === undefined ? 0 : view.getUint32(first, true);
  }

  /** Address of the value under a text key of the object at `at`, or 0. */
  member(at: number, name: string): number {
    const view = this.#heap.view;
    for (const elem of this.#members(at, 0)) {
      if (this.text(view.getUint32(elem, true)) === name) return view.getUint32(elem + 4, true);
    }
    return 0;
  }

  /** Which keys share a bucket, bucket by bucket: equal for equal objects if both sides hash alike. */
  placement(at: number): string {
    const view = this.#heap.view;
    if (view.getUint8(at) !== TYPE.object) return '';
    const buckets = view.getUint32(at + 4, true);
    let text = '';
    for (let i = 0; i < view.getUint32(at + 8, true); i++) {
      const keys: string[] = [];
      for (let elem = view.getUint32(buckets + i * 4, true); elem !== 0; elem = view.getUint32(elem + 8, true)) {
        keys.push(this.text(view.getUint32(elem, true)) + this.placement(view.getUint32(elem + 4, true)));
      }
      text += `[${keys.sort().join()}]`;
    }
    return text;
  }

  #number(at: number): number | bigint {
    const view = this.#heap.view;
    if (view.getUint8(at + 1) === NUMBER.int) {
      const low = view.getUint32(at + 8, true);
      const high = view.getInt32(at + 12, true);
      const value = high * 4_294_967_296 + low;
      return Number.isSafeInteger(value) ? value : view.getBigInt64(at + 8, true);
    }
    const text = this.#decimal(at) ?? '';
    const value = Number(text);
    return Number.isSafeInteger(value) || !/^-?\d+$/.test(text) ? value : BigInt(text);
  }

  /** The text of a number that is kept as decimal; null: a 64-bit integer. */
  #decimal(at: number): string | null {
    const view = this.#heap.view;
    if (view.getUint8(at + 1) === NUMBER.int) return null;
    return this.#heap.text(view.getUint32(at + 8, true), view.getUint32(at + 12, true));
  }

  #items(at: number, depth: number): number[] {
    if (depth > MAX_DEPTH) throw new RangeError('too deep');
    const view = this.#heap.view;
    const elems = view.getUint32(at + 4, true);
    const length = view.getUint32(at + 8, true);
    const items: number[] = [];
    for (let i = 0; i < length; i++) items.push(view.getUint32(elems + i * 8 + 4, true));
    return items;
  }

  /** Addresses of the elements of an object (key, value, next) or of a set (value, next). */
  #members(at: number, depth: number): number[] {
    if (depth > MAX_DEPTH) throw new RangeError('too deep');
    const view = this.#heap.view;
    const next = view.getUint8(at) === TYPE.set ? 4 : 8;
    const buckets = view.getUint32(at + 4, true);
    const count = view.getUint32(at + 8, true);
    let left = view.getUint32(at + 12, true);
    const members: number[] = [];
    for (let i = 0; i < count && left > 0; i++) {
      for (let elem = view.getUint32(buckets + i * 4, true); elem !== 0; elem = view.getUint32(elem + next, true)) {
        members.push(elem);
        left--;
      }
    }
    return members;
  }
}
