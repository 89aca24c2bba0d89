/**
 * OPA's values as they lie in the module's memory. The layout is OPA's own business and not part of its ABI, so a
 * program checks it against `opa_json_dump` when it is loaded (see program.ts). Source: OPA 1.22 wasm/src/value.h.
 */

/** Type byte of a value. Interned ones are constants of the module: their address names the same text for ever. */
export const TYPE = {
  null: 1,
  boolean: 2,
  number: 3,
  string: 4,
  array: 5,
  object: 6,
  set: 7,
  stringInterned: 8,
  booleanInterned: 9,
} as const;

/** How a number is held: as int64, or as decimal text. */
export const NUMBER = { int: 1, text: 2 } as const;

/** Views over the module's memory; `refresh` after anything that can have grown it. */
export class Heap {
  readonly memory: WebAssembly.Memory;
  bytes: Buffer;
  words: Int32Array;
  view: DataView;

  constructor(memory: WebAssembly.Memory) {
    this.memory = memory;
    this.bytes = Buffer.from(memory.buffer);
    this.words = new Int32Array(memory.buffer);
    this.view = new DataView(memory.buffer);
  }

  /** Growing detaches the old buffer. */
  refresh(): void {
    if (this.view.buffer === this.memory.buffer) return;
    this.bytes = Buffer.from(this.memory.buffer);
    this.words = new Int32Array(this.memory.buffer);
    this.view = new DataView(this.memory.buffer);
  }

  /** Text of `length` bytes of UTF-8 at `at`. */
  text(at: number, length: number): string {
    if (length > 24) return this.bytes.toString('utf8', at, at + length);
    const bytes = this.bytes;
    let text = '';
    for (let i = at; i < at + length; i++) {
      const byte = bytes[i] ?? 0;
      if (byte >= 0x80) return bytes.toString('utf8', at, at + length);
      text += String.fromCharCode(byte);
    }
    return text;
  }

  /** Text up to the next NUL. */
  terminated(at: number): string {
    const end = this.bytes.indexOf(0, at);
    return this.bytes.toString('utf8', at, end < 0 ? this.bytes.length : end);
  }
}

/** FNV-1 with 32 bits, as the module hashes object keys. */
export function hashBytes(bytes: Uint8Array, start: number, end: number): number {
  let hash = 0x811c9dc5 | 0;
  for (let i = start; i < end; i++) hash = Math.imul(hash, 0x01000193) ^ (bytes[i] ?? 0);
  return hash >>> 0;
}
