/** One instance of a policy module with its data. After any throw it is thrown away: see host.ts. */
import type { JsonValue } from '../../core/json.ts';
import type { DataOperation } from '../data-document.ts';
import { FUEL_EXPORT, STATE_PREFIX } from './fuel.ts';
import { Heap } from './heap.ts';
import { BuiltinPort, type CallState, type Drawn } from './imports.ts';
import { ARENA_BYTES, InputWriter, type ShapeSpec } from './input-writer.ts';
import { type PolicyExports, PolicyLoadError, type PolicyProgram } from './program.ts';
import { HeapReader } from './reader.ts';
import { BadValue } from './writer.ts';

const PAGE = 65_536;
/** The whole address space of 32 bits. */
const MAX_PAGES = 65_536;
/** Measured: data takes about 14 times its JSON text. */
const DATA_FACTOR = 15;
const SCRATCH_BYTES = 1024 * 1024;
const MAX_FUEL = 0x7fff_ffff;

/** The state of a loaded instance up to its data. */
export interface Snapshot {
  readonly bytes: Uint8Array;
  readonly pages: number;
  readonly heapBase: number;
  readonly context: number;
  readonly data: number;
  readonly variables: readonly (number | bigint)[];
}

export type JsonText = string;

/** How the input reaches the module: built in place, or as JSON text (when the layout check failed). */
export type Transfer = 'direct' | 'json';

export class PolicyInstance {
  readonly heap: Heap;
  readonly reader: HeapReader;
  readonly state: CallState;
  readonly #exports: PolicyExports;
  readonly #program: PolicyProgram;
  readonly #port: BuiltinPort;
  readonly #pages: number;
  /** The module's own variables, its stack pointer among them. */
  readonly #variables: readonly WebAssembly.Global<'any'>[];
  #heapBase = 0;
  #context = 0;
  #data = 0;
  #writer: InputWriter | null = null;

  /** Throws PolicyLoadError where the module does not fit this host. */
  constructor(program: PolicyProgram, data: JsonText, snapshot: Snapshot | null) {
    this.#program = program;
    this.#pages = snapshot?.pages ?? initialPages(program, data.length);
    // All of it at once: pages that are not touched cost nothing, and growing a live memory costs half a millisecond a page.
    this.heap = new Heap(new WebAssembly.Memory({ initial: this.#pages, maximum: this.#pages }));
    this.reader = new HeapReader(this.heap);
    this.#port = new BuiltinPort(this.heap, this.reader, () => this.#exports);
    this.state = this.#port.state;
    const instance = new WebAssembly.Instance(program.module, this.#port.imports());
    this.#exports = instance.exports as unknown as PolicyExports;
    this.#exports[FUEL_EXPORT].value = MAX_FUEL;
    this.heap.refresh();
    this.#bindBuiltins();
    this.#variables = Object.keys(instance.exports)
      .filter((name) => name.startsWith(STATE_PREFIX))
      .map((name) => instance.exports[name] as WebAssembly.Global<'any'>);
    if (snapshot === null) this.#loadData(data);
    else this.restore(snapshot);
  }

  get abi(): readonly [number, number] {
    return [this.#exports.opa_wasm_abi_version.value, this.#exports.opa_wasm_abi_minor_version.value];
  }

  /** Bytes beyond its data that the last evaluation used; they stay with the process as long as the instance. */
  get used(): number {
    return this.#exports.opa_heap_ptr_get() - this.#heapBase;
  }

  get outOfFuel(): boolean {
    return this.#exports[FUEL_EXPORT].value <= 0;
  }

  entrypoints(): Record<string, number> {
    return this.#dump(this.#exports.entrypoints()) as Record<string, number>;
  }

  snapshot(): Snapshot {
    this.heap.refresh();
    return {
      bytes: Uint8Array.prototype.slice.call(this.heap.bytes, 0, this.#heapBase),
      pages: this.heap.memory.buffer.byteLength / PAGE,
      heapBase: this.#heapBase,
      context: this.#context,
      data: this.#data,
      variables: this.#variables.map((one) => one.value),
    };
  }

  /** Back to the state of the snapshot: memory and variables are all the state an instance has. */
  restore(snapshot: Snapshot): void {
    this.heap.bytes.set(snapshot.bytes);
    this.#variables.forEach((one, i) => {
      one.value = snapshot.variables[i] ?? 0;
    });
    this.#heapBase = snapshot.heapBase;
    this.#context = snapshot.context;
    this.#data = snapshot.data;
    this.#writer = null;
  }

  /** Bytes of memory that its data takes, everything below included. */
  get dataEnd(): number {
    return this.#heapBase;
  }

  /**
   * Changes the data where it lies: microseconds, where a load takes milliseconds. What is freed is kept for the next
   * change, away from evaluations. Any throw leaves the instance in doubt: it must not decide again as it is.
   */
  patch(operations: readonly DataOperation[]): void {
    const exports = this.#exports;
    const tools = dataTools(exports);
    if (tools === null) throw new BadValue('the module cannot change its data in place');
    exports[FUEL_EXPORT].value = MAX_FUEL;
    exports.opa_heap_ptr_set(this.#heapBase);
    tools.restoreBlocks();
    for (const { path, value } of operations) {
      const at = this.#parse(path, tools.free);
      const code =
        value === null
          ? tools.removePath(this.#data, at)
          : tools.addPath(this.#data, at, this.#parse(value, tools.free));
      if (code !== 0) throw new BadValue(`the module refused to change ${path} (${code})`);
      tools.freeValue(at);
    }
    tools.stashBlocks();
    this.#heapBase = exports.opa_heap_ptr_get();
    this.#writer = null;
    exports.opa_malloc(ARENA_BYTES + SCRATCH_BYTES);
    this.heap.refresh();
  }

  /** Builds the input in place. Throws BadValue, or PolicyAbort when memory ends. */
  writeInput(input: unknown, shape: ShapeSpec | null): number {
    const writer = this.#inputWriter();
    writer.begin();
    const at = shape === null ? writer.value(input as object) : writer.document(shape, input as object);
    this.#exports.opa_heap_ptr_set(writer.at);
    return at;
  }

  /** Hands the input over as JSON text. Throws BadValue. */
  parseInput(input: unknown): number {
    const text = JSON.stringify(input);
    if (text === undefined || !isSound(text)) throw new BadValue('the input is no sound JSON value');
    this.#exports.opa_heap_ptr_set(this.#heapBase + ARENA_BYTES + 8);
    return this.#parse(text);
  }

  /** Runs an entrypoint on an input address (0: undefined); gives the address of its result, or 0 for undefined. */
  run(entrypoint: number, input: number, nowMs: number, drawn: Drawn | null = null): number {
    const exports = this.#exports;
    this.state.start(nowMs, drawn);
    exports[FUEL_EXPORT].value = this.#program.limits.fuel;
    exports.opa_eval_ctx_set_input(this.#context, input);
    exports.opa_eval_ctx_set_entrypoint(this.#context, entrypoint);
    exports.eval(this.#context);
    const results = exports.opa_eval_ctx_get_result(this.#context);
    this.heap.refresh();
    const first = this.reader.firstOfSet(results);
    return first === 0 ? 0 : this.reader.member(first, 'result');
  }

  /** A value through the module's own serialiser. */
  dumpValue(at: number): JsonValue {
    return this.#dump(at);
  }

  /** Compares what is written and read here with what the module itself makes of the same value. */
  layoutFits(sample: JsonValue): boolean {
    this.#exports[FUEL_EXPORT].value = MAX_FUEL;
    const mine = this.writeInput(sample, null);
    const theirs = this.#parse(JSON.stringify(sample));
    const text = JSON.stringify(sample);
    return (
      JSON.stringify(this.#dump(mine)).length === text.length &&
      JSON.stringify(sorted(this.#dump(mine))) === JSON.stringify(sorted(sample)) &&
      JSON.stringify(sorted(this.reader.json(theirs))) === JSON.stringify(sorted(sample)) &&
      this.reader.placement(mine) === this.reader.placement(theirs)
    );
  }

  #inputWriter(): InputWriter {
    this.#writer ??= new InputWriter(this.heap, this.#heapBase, this.heap.memory.buffer.byteLength, (cursor, bytes) =>
      this.#extend(cursor, bytes),
    );
    return this.#writer;
  }

  /** Lets the module's own allocator find the memory, so that it knows how far it may go. */
  #extend(cursor: number, bytes: number): number {
    this.#exports.opa_heap_ptr_set(cursor);
    this.#exports.opa_malloc(bytes + SCRATCH_BYTES);
    this.heap.refresh();
    return this.#exports.opa_heap_ptr_get();
  }

  /** `free` gives the text's own memory back once its value stands; without it that goes with the next reset. */
  #parse(text: string, free: ((at: number) => void) | null = null): number {
    const length = Buffer.byteLength(text);
    const at = this.#exports.opa_malloc(length);
    this.heap.refresh();
    this.heap.bytes.write(text, at);
    const value = this.#exports.opa_json_parse(at, length);
    this.heap.refresh();
    if (value === 0) throw new BadValue('the module cannot parse this JSON');
    free?.(at);
    return value;
  }

  #dump(at: number): JsonValue {
    const text = this.#exports.opa_json_dump(at);
    this.heap.refresh();
    return JSON.parse(this.heap.terminated(text)) as JsonValue;
  }

  #bindBuiltins(): void {
    const needed = this.#dump(this.#exports.builtins()) as Record<string, number>;
    const missing = Object.keys(needed).filter((name) => !this.#program.builtins.has(name));
    if (missing.length > 0) {
      throw new PolicyLoadError(`the policy needs builtins this gateway does not have: ${missing.sort().join(', ')}`);
    }
    for (const [name, id] of Object.entries(needed)) this.#port.table[id] = this.#program.builtins.get(name);
  }

  #loadData(data: JsonText): void {
    try {
      const value = this.#parse(data);
      this.#data = value;
      this.#context = this.#exports.opa_eval_ctx_new();
      this.#exports.opa_eval_ctx_set_data(this.#context, value);
      this.#heapBase = this.#exports.opa_heap_ptr_get();
    } catch (cause) {
      throw new PolicyLoadError('the data document cannot be loaded: it does not fit or is no sound JSON', { cause });
    }
    // Room for arena and input has to be known to the module's allocator, whatever the data took.
    this.#exports.opa_malloc(ARENA_BYTES + SCRATCH_BYTES);
    this.heap.refresh();
  }
}

interface DataTools {
  free(at: number): void;
  freeValue(value: number): void;
  addPath(data: number, path: number, value: number): number;
  removePath(data: number, path: number): number;
  restoreBlocks(): void;
  stashBlocks(): void;
}

/** Null for modules that lack one of them (ABI 1.2). */
function dataTools(exports: PolicyExports): DataTools | null {
  const free = exports.opa_free;
  const freeValue = exports.opa_value_free;
  const addPath = exports.opa_value_add_path;
  const removePath = exports.opa_value_remove_path;
  const restoreBlocks = exports.opa_heap_blocks_restore;
  const stashBlocks = exports.opa_heap_blocks_stash;
  if (free === undefined || freeValue === undefined || addPath === undefined) return null;
  if (removePath === undefined || restoreBlocks === undefined || stashBlocks === undefined) return null;
  return { free, freeValue, addPath, removePath, restoreBlocks, stashBlocks };
}

function initialPages(program: PolicyProgram, dataLength: number): number {
  const bytes = dataLength * DATA_FACTOR + ARENA_BYTES + SCRATCH_BYTES + program.limits.memoryBytes;
  return Math.min(program.minimumPages + Math.ceil(bytes / PAGE), program.maximumPages ?? MAX_PAGES);
}

/** JSON text made by JSON.stringify shows lone surrogates as escapes, which the module aborts on. */
function isSound(text: string): boolean {
  return !/\\ud[89a-f]/i.test(text);
}

/** Keys in order, so that texts can be compared. */
function sorted(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const object = value as Readonly<Record<string, JsonValue>>;
  return Object.fromEntries(
    Object.keys(object)
      .sort()
      .map((key) => [key, sorted(object[key] ?? null)]),
  );
}
