/**
 * Gives a policy module a budget of steps: a counter is taken down at every loop header and function entry, and the
 * module traps when it reaches zero. V8 has no way to interrupt WebAssembly in process that costs less than tens of
 * microseconds per call; this costs a decrement per turn and stops every loop, the runtime's own included.
 */
import { ByteReader, encodeU32, readSections, readShape, SECTION, type Section } from './binary.ts';

/** Name under which the counter is exported; the host sets it before each evaluation. */
export const FUEL_EXPORT = 'portcullis_fuel';

/** Begins the names under which the module's own variables are exported: with them an instance can be set back. */
export const STATE_PREFIX = 'portcullis_state_';

/** Adds the counter. Throws a RangeError for an instruction it does not know: such a module is not activated. */
export function meter(module: Uint8Array): Uint8Array {
  const sections = readSections(module);
  const globals = sections.find((one) => one.id === SECTION.global);
  const own = globals === undefined ? 0 : new ByteReader(globals.body).u32();
  const imported = readShape(sections).importedGlobals;
  const state = mutableGlobals(globals, imported);
  const context: Context = { fuel: imported + own, state, signatures: readSignatures(sections) };
  const out: Uint8Array[] = [module.subarray(0, 8)];
  let placed = false;
  for (const section of sections) {
    // Sections stand in the order of their ids (custom ones anywhere), so a missing global section goes before exports.
    if (!placed && section.id >= SECTION.export && globals === undefined) {
      out.push(encodeSection(SECTION.global, [Uint8Array.from([1, ...FUEL_GLOBAL])]));
      placed = true;
    }
    out.push(...rewrite(section, context));
  }
  return Buffer.concat(out);
}

/** `(mut i32)` starting at 2^31 - 1, so that start functions run. */
const FUEL_GLOBAL = [0x7f, 0x01, 0x41, 0xff, 0xff, 0xff, 0xff, 0x07, 0x0b];

interface Context {
  /** Index of the counter. */
  readonly fuel: number;
  /** Indices of the module's own mutable globals. */
  readonly state: readonly number[];
  readonly signatures: readonly Signature[];
}

function exportGlobal(name: string, index: number): Uint8Array {
  const bytes = Buffer.from(name);
  return Uint8Array.from([...encodeU32(bytes.length), ...bytes, 0x03, ...encodeU32(index)]);
}

/** Indices of mutable globals, counted from `first`. */
function mutableGlobals(section: Section | undefined, first: number): number[] {
  if (section === undefined) return [];
  const reader = new ByteReader(section.body);
  const found: number[] = [];
  const count = reader.u32();
  for (let i = 0; i < count; i++) {
    reader.byte();
    if (reader.byte() === 1) found.push(first + i);
    for (let opcode = reader.byte(); opcode !== OP.end; opcode = reader.byte()) skipImmediates(reader, opcode);
  }
  return found;
}

function rewrite(section: Section, context: Context): Uint8Array[] {
  const { fuel, signatures } = context;
  if (section.id === SECTION.global) return [append(section, [Uint8Array.from(FUEL_GLOBAL)])];
  if (section.id === SECTION.export) {
    const added = [exportGlobal(FUEL_EXPORT, fuel), ...context.state.map((i) => exportGlobal(STATE_PREFIX + i, i))];
    return [append(section, added)];
  }
  if (section.id === SECTION.code) return [meterCode(section.body, fuel, signatures)];
  return [encodeSection(section.id, [section.body])];
}

/** Adds entries to a section that starts with a count. */
function append(section: Section, entries: readonly Uint8Array[]): Uint8Array {
  const reader = new ByteReader(section.body);
  const count = reader.u32();
  return encodeSection(section.id, [
    Uint8Array.from(encodeU32(count + entries.length)),
    section.body.subarray(reader.at),
    ...entries,
  ]);
}

function encodeSection(id: number, parts: readonly Uint8Array[]): Uint8Array {
  const size = parts.reduce((sum, part) => sum + part.length, 0);
  return Buffer.concat([Uint8Array.from([id, ...encodeU32(size)]), ...parts]);
}

/** What the wrapper of a function body needs to know of its type. */
interface Signature {
  readonly parameters: number;
  /** Block type of its result: 0x40 for none, else the value type. */
  readonly result: number;
}

/** Signatures of the module's own functions, in the order of their code. */
function readSignatures(sections: readonly Section[]): readonly Signature[] {
  const types = new ByteReader(sections.find((one) => one.id === SECTION.type)?.body ?? new Uint8Array([0]));
  const known: Signature[] = [];
  for (let left = types.u32(); left > 0; left--) {
    if (types.byte() !== 0x60) throw new RangeError('a type of the module is no function');
    const parameters = types.u32();
    types.skip(parameters);
    const results = types.u32();
    if (results > 1) throw new RangeError('a function of the module has several results');
    known.push({ parameters, result: results === 0 ? 0x40 : types.byte() });
  }
  const functions = new ByteReader(sections.find((one) => one.id === SECTION.function)?.body ?? new Uint8Array([0]));
  return Array.from({ length: functions.u32() }, () => {
    const signature = known[functions.u32()];
    if (signature === undefined) throw new RangeError('a function of the module has no type');
    return signature;
  });
}

function meterCode(body: Uint8Array, fuel: number, signatures: readonly Signature[]): Uint8Array {
  const reader = new ByteReader(body);
  const count = reader.u32();
  const parts: Uint8Array[] = [Uint8Array.from(encodeU32(count))];
  for (let i = 0; i < count; i++) {
    const size = reader.u32();
    const code = body.subarray(reader.at, reader.at + size);
    reader.skip(size);
    const pieces = meterFunction(code, fuel, signatures[i] ?? { parameters: 0, result: 0x40 });
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    parts.push(Uint8Array.from(encodeU32(length)), ...pieces);
  }
  return encodeSection(SECTION.code, parts);
}

const OP = { loop: 0x03, end: 0x0b, branch: 0x0c, return: 0x0f, call: 0x10, callIndirect: 0x11 } as const;

/** Code pieces that work on the counter. `local` holds it inside functions with loops: registers are cheaper. */
function snippets(fuel: number, local: number) {
  const global = encodeU32(fuel);
  const held = encodeU32(local);
  // if (!counter) { fuel = 0; unreachable }
  const trap = [0x45, 0x04, 0x40, 0x41, 0x00, 0x24, ...global, 0x00, 0x0b];
  return {
    /** Takes one step off the global counter. */
    entry: Uint8Array.from([0x23, ...global, 0x41, 0x01, 0x6b, 0x24, ...global, 0x23, ...global, ...trap]),
    load: Uint8Array.from([0x23, ...global, 0x21, ...held]),
    store: Uint8Array.from([0x20, ...held, 0x24, ...global]),
    /** Takes one step off the local counter. */
    step: Uint8Array.from([0x20, ...held, 0x41, 0x01, 0x6b, 0x22, ...held, ...trap]),
  };
}

function meterFunction(code: Uint8Array, fuel: number, signature: Signature): Uint8Array[] {
  const reader = new ByteReader(code);
  const groups = reader.u32();
  const firstGroup = reader.at;
  let locals = signature.parameters;
  for (let left = groups; left > 0; left--) {
    locals += reader.u32();
    reader.byte();
  }
  const start = reader.at;
  const { loops, calls } = survey(code, start);
  // Neither loop nor call: it ends by itself.
  if (!loops && !calls) return [code];
  const make = snippets(fuel, locals);
  if (!loops) return [code.subarray(0, start), make.entry, code.subarray(start)];
  const declared = Uint8Array.from([...encodeU32(groups + 1), ...code.subarray(firstGroup, start), 0x01, 0x7f]);
  // The body becomes a block, so that every way out but a trap leads past the store behind it.
  const opening = Uint8Array.from([0x02, signature.result]);
  return [declared, make.load, make.step, opening, ...body(code, start, make), make.store, Uint8Array.from([OP.end])];
}

function survey(code: Uint8Array, start: number): { readonly loops: boolean; readonly calls: boolean } {
  const reader = new ByteReader(code, start);
  let loops = false;
  let calls = false;
  while (reader.at < code.length) {
    const opcode = reader.byte();
    skipImmediates(reader, opcode);
    if (opcode === OP.loop) loops = true;
    else if (opcode === OP.call || opcode === OP.callIndirect) calls = true;
  }
  return { loops, calls };
}

/** The instructions with steps in loops, the counter handed over around calls, and returns turned into branches. */
function body(code: Uint8Array, start: number, make: ReturnType<typeof snippets>): Uint8Array[] {
  const reader = new ByteReader(code, start);
  const pieces: Uint8Array[] = [];
  let from = start;
  let depth = 0;
  while (reader.at < code.length) {
    const at = reader.at;
    const opcode = reader.byte();
    skipImmediates(reader, opcode);
    if (opcode >= 0x02 && opcode <= 0x04) depth++;
    else if (opcode === OP.end) depth--;
    if (opcode === OP.loop) {
      pieces.push(code.subarray(from, reader.at), make.step);
    } else if (opcode === OP.call || opcode === OP.callIndirect) {
      pieces.push(code.subarray(from, at), make.store, code.subarray(at, reader.at), make.load);
    } else if (opcode === OP.return) {
      pieces.push(code.subarray(from, at), Uint8Array.from([OP.branch, ...encodeU32(depth)]));
    } else continue;
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
