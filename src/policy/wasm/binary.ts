/** Reads the binary format of WebAssembly modules as far as the host needs it. Source: WebAssembly core specification, chapter 5. */

/** Section ids this host looks at. */
export const SECTION = { custom: 0, type: 1, import: 2, function: 3, global: 6, export: 7, code: 10 } as const;

export interface Section {
  readonly id: number;
  /** Contents without id and size. */
  readonly body: Uint8Array;
}

/** What the host must know before it can instantiate a module. */
export interface ModuleShape {
  /** Pages of 64 KiB that the memory import demands at least. */
  readonly memoryMinimum: number;
  /** Pages that the module allows at most, or null. */
  readonly memoryMaximum: number | null;
  readonly importedGlobals: number;
}

/** A cursor over bytes with the number encodings of the format. Throws a RangeError beyond the end. */
export class ByteReader {
  readonly bytes: Uint8Array;
  at: number;

  constructor(bytes: Uint8Array, at = 0) {
    this.bytes = bytes;
    this.at = at;
  }

  byte(): number {
    const value = this.bytes[this.at++];
    if (value === undefined) throw new RangeError('the module ends too early');
    return value;
  }

  /** Unsigned LEB128 of at most 32 bits. */
  u32(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new RangeError('a number of the module is too long');
  }

  /** Steps over a LEB128 number of any size. */
  skipLeb(): void {
    while (this.byte() >= 0x80);
  }

  skip(count: number): void {
    this.at += count;
    if (this.at > this.bytes.length) throw new RangeError('the module ends too early');
  }

  skipName(): void {
    this.skip(this.u32());
  }
}

/** Splits a module into its sections, in order. Throws a RangeError for bytes that are no module. */
export function readSections(bytes: Uint8Array): readonly Section[] {
  const reader = new ByteReader(bytes, 8);
  if (bytes.length < 8 || bytes[0] !== 0 || bytes[1] !== 0x61 || bytes[2] !== 0x73 || bytes[3] !== 0x6d) {
    throw new RangeError('not a WebAssembly module');
  }
  const sections: Section[] = [];
  while (reader.at < bytes.length) {
    const id = reader.byte();
    const size = reader.u32();
    const start = reader.at;
    reader.skip(size);
    sections.push({ id, body: bytes.subarray(start, start + size) });
  }
  return sections;
}

/** Finds the memory import's limits: creating a memory smaller than the minimum makes instantiation fail. */
export function readShape(sections: readonly Section[]): ModuleShape {
  const section = sections.find((one) => one.id === SECTION.import);
  let memoryMinimum = 0;
  let memoryMaximum: number | null = null;
  let importedGlobals = 0;
  if (section !== undefined) {
    const reader = new ByteReader(section.body);
    for (let left = reader.u32(); left > 0; left--) {
      reader.skipName();
      reader.skipName();
      const kind = reader.byte();
      if (kind === 0) reader.u32();
      else if (kind === 1) {
        reader.byte();
        readLimits(reader);
      } else if (kind === 2) [memoryMinimum, memoryMaximum] = readLimits(reader);
      else {
        reader.skip(2);
        importedGlobals++;
      }
    }
  }
  return { memoryMinimum, memoryMaximum, importedGlobals };
}

function readLimits(reader: ByteReader): [number, number | null] {
  const flags = reader.byte();
  const minimum = reader.u32();
  return [minimum, (flags & 1) === 1 ? reader.u32() : null];
}

/** Unsigned LEB128. */
export function encodeU32(value: number): number[] {
  const bytes: number[] = [];
  let rest = value >>> 0;
  do {
    const low = rest & 0x7f;
    rest >>>= 7;
    bytes.push(rest === 0 ? low : low | 0x80);
  } while (rest !== 0);
  return bytes;
}
