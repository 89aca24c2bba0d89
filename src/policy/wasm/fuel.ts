/**
 * Gives a policy module a budget of steps: a counter is taken down at every loop header and function entry, and the
 * module traps when it reaches zero. V8 has no way to interrupt WebAssembly in process that costs less than tens of
 * microseconds per call; this costs a decrement per turn and stops every loop, the runtime's own included.
 */
import { ByteReader, encodeU32, readSections, readShape, SECTION, type Section } from './binary.ts';

/** Name under which the counter is exported; the host sets it before each evaluation. */
export const FUEL_EXPORT = 'portcullis_fuel';

/** Adds the counter. Throws a RangeError for an instruction it does not know: such a module is not activated. */
export function meter(module: Uint8Array): Uint8Array {
  const sections = readSections(module);
  const globals = sections.find((one) => one.id === SECTION.global);
  const own = globals === undefined ? 0 : new ByteReader(globals.body).u32();
  const fuel = readShape(sections).importedGlobals + own;
  const out: Uint8Array[] = [module.subarray(0, 8)];
  let placed = false;
  for (const section of sections) {
    // Sections stand in the order of their ids (custom ones anywhere), so a missing global section goes before exports.
    if (!placed && section.id >= SECTION.export && globals === undefined) {
      out.push(encodeSection(SECTION.global, [Uint8Array.from([1, ...FUEL_GLOBAL])]));
      placed = true;
    }
    out.push(...rewrite(section, fuel));
  }
  return Buffer.concat(out);
}

/** `(mut i32)` starting at 2^31 - 1, so that start functions run. */
const FUEL_GLOBAL = [0x7f, 0x01, 0x41, 0xff, 0xff, 0xff, 0xff, 0x07, 0x0b];

function rewrite(section: Section, fuel: number): Uint8Array[] {
  if (section.id === SECTION.global) return [append(section, Uint8Array.from(FUEL_GLOBAL))];
  if (section.id === SECTION.export) {
    const name = Buffer.from(FUEL_EXPORT);
    return [append(section, Uint8Array.from([...encodeU32(name.length), ...name, 0x03, ...encodeU32(fuel)]))];
  }
  if (section.id === SECTION.code) return [meterCode(section.body, fuel)];
  return [encodeSection(section.id, [section.body])];
}

/** Adds one entry to a section that starts with a count. */
function append(section: Section, entry: Uint8Array): Uint8Array {
  const reader = new ByteReader(section.body);
  const count = reader.u32();
  return encodeSection(section.id, [Uint8Array.from(encodeU32(count + 1)), section.body.subarray(reader.at), entry]);
}

function encodeSection(id: number, parts: readonly Uint8Array[]): Uint8Array {
  const size = parts.reduce((sum, part) => sum + part.length, 0);
  return Buffer.concat([Uint8Array.from([id, ...encodeU32(size)]), ...parts]);
}

function meterCode(body: Uint8Array, fuel: number): Uint8Array {
  const check = checkpoint(fuel);
  const reader = new ByteReader(body);
  const count = reader.u32();
  const parts: Uint8Array[] = [Uint8Array.from(encodeU32(count))];
  for (let left = count; left > 0; left--) {
    const size = reader.u32();
    const code = body.subarray(reader.at, reader.at + size);
    reader.skip(size);
    const pieces = meterFunction(code, check);
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    parts.push(Uint8Array.from(encodeU32(length)), ...pieces);
  }
  return encodeSection(SECTION.code, parts);
}

/** fuel -= 1; if (fuel == 0) unreachable */
function checkpoint(fuel: number): Uint8Array {
  const index = encodeU32(fuel);
  return Uint8Array.from([
    ...[0x23, ...index, 0x41, 0x01, 0x6b, 0x24, ...index],
    ...[0x23, ...index, 0x45, 0x04, 0x40, 0x00, 0x0b],
  ]);
}

const LOOP = 0x03;

function meterFunction(code: Uint8Array, check: Uint8Array): Uint8Array[] {
  const reader = new ByteReader(code);
  for (let groups = reader.u32(); groups > 0; groups--) {
    reader.u32();
    reader.byte();
  }
  const pieces: Uint8Array[] = [code.subarray(0, reader.at), check];
  let from = reader.at;
  while (reader.at < code.length) {
    const opcode = reader.byte();
    skipImmediates(reader, opcode);
    if (opcode !== LOOP) continue;
    pieces.push(code.subarray(from, reader.at), check);
    from = reader.at;
  }
  pieces.push(code.subarray(from));
  return pieces;
}

/** Steps over what follows an opcode. Vector instructions are refused: OPA's compiler emits none. */
function skipImmediates(reader: ByteReader, opcode: number): void {
  if (opcode >= 0x02 && opcode <= 0x04) reader.skipLeb();
  else if (opcode === 0x0c || opcode === 0x0d || opcode === 0x10) reader.skipLeb();
  else if (opcode === 0x0e) for (let left = reader.u32() + 1; left > 0; left--) reader.skipLeb();
  else if (opcode === 0x11) skipTwo(reader);
  else if (opcode === 0x1c) reader.skip(reader.u32());
  else if (opcode >= 0x20 && opcode <= 0x26) reader.skipLeb();
  else if (opcode >= 0x28 && opcode <= 0x3e) skipTwo(reader);
  else if (opcode === 0x3f || opcode === 0x40) reader.skip(1);
  else if (opcode === 0x41 || opcode === 0x42) reader.skipLeb();
  else if (opcode === 0x43) reader.skip(4);
  else if (opcode === 0x44) reader.skip(8);
  else if (opcode === 0xd0 || opcode === 0xd2) reader.skipLeb();
  else if (opcode === 0xfc) skipPrefixed(reader);
  else if (opcode > 0xc4 || (opcode > 0x11 && opcode < 0x1a) || (opcode > 0x04 && opcode < 0x0b)) {
    throw new RangeError(`instruction 0x${opcode.toString(16)} cannot be metered`);
  }
}

function skipTwo(reader: ByteReader): void {
  reader.skipLeb();
  reader.skipLeb();
}

function skipPrefixed(reader: ByteReader): void {
  const sub = reader.u32();
  if (sub < 8) return;
  if (sub === 8 || sub === 10 || sub === 12 || sub === 14) skipTwo(reader);
  else if (sub <= 17) reader.skipLeb();
  else throw new RangeError(`instruction 0xfc ${sub} cannot be metered`);
}
