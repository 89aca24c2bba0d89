/** What a policy module imports: memory, abort, print and the builtins. Source: OPA WASM ABI 1.3. */
import type { Heap } from './heap.ts';
import type { HeapReader } from './reader.ts';
import type { Rego } from './values.ts';
import { BadValue, HeapWriter } from './writer.ts';

/** What a builtin may know besides its arguments. */
export interface BuiltinContext {
  /** Nanoseconds since the epoch: one instant for the whole evaluation. */
  readonly nowNs: bigint;
  /** Lives for one evaluation: what was drawn by chance must be stable within it. By `drawnBy`. */
  readonly memo: Map<string, Rego>;
}

/** What builtins drew by chance in one evaluation, by `drawnBy`. */
export type Drawn = ReadonlyMap<string, Rego>;

/** The name of a draw: the builtin, a blank, and its arguments as JSON, as OPA's decision log names them. */
export const drawnBy = (builtin: string, args: readonly (string | number)[]): string =>
  `${builtin} ${JSON.stringify(args)}`;

/** Gives a value, or undefined where OPA's builtin would fail; what it throws counts as undefined too. */
export type Builtin = (args: readonly Rego[], context: BuiltinContext) => Rego | undefined;

export interface BuiltinSpec {
  readonly call: Builtin;
  /** Two evaluations of the same input may differ through it: noted, so that the decision is not cached for long. */
  readonly volatile?: boolean;
}

export type BuiltinTable = ReadonlyMap<string, BuiltinSpec>;

/** The module gave up: rule conflict, out of memory, defect. */
export class PolicyAbort extends Error {
  override readonly name = 'PolicyAbort';
}

/** State of the running evaluation that builtins touch. */
export class CallState implements BuiltinContext {
  nowNs = 0n;
  /** True once a builtin was called that is not a function of its arguments. */
  volatile = false;
  /** Builtins that gave undefined because they threw. */
  faults = 0;
  memo = new Map<string, Rego>();

  /** `drawn`: what chance gave in an earlier evaluation, which it is to give again. */
  start(nowMs: number, drawn: Drawn | null = null): void {
    this.nowNs = BigInt(Math.trunc(nowMs)) * 1_000_000n;
    this.volatile = false;
    this.faults = 0;
    if (this.memo.size > 0) this.memo = new Map();
    if (drawn !== null && drawn.size > 0) this.memo = new Map(drawn);
  }
}

export interface HostExports {
  readonly opa_malloc: (size: number) => number;
  readonly opa_heap_ptr_get: () => number;
}

/** Answers the module's calls; `table` is filled with the module's own ids once they are known. */
export class BuiltinPort {
  readonly table: (BuiltinSpec | undefined)[] = [];
  readonly state = new CallState();
  readonly #heap: Heap;
  readonly #reader: HeapReader;
  readonly #exports: () => HostExports;

  constructor(heap: Heap, reader: HeapReader, exports: () => HostExports) {
    this.#heap = heap;
    this.#reader = reader;
    this.#exports = exports;
  }

  imports(): WebAssembly.Imports {
    const call = (id: number, _context: number, ...args: readonly number[]): number => this.#call(id, args);
    return {
      env: {
        memory: this.#heap.memory,
        opa_abort: (at: number) => {
          this.#heap.refresh();
          throw new PolicyAbort(this.#heap.terminated(at));
        },
        opa_println: () => undefined,
        opa_builtin0: call,
        opa_builtin1: call,
        opa_builtin2: call,
        opa_builtin3: call,
        opa_builtin4: call,
      },
    };
  }

  #call(id: number, addresses: readonly number[]): number {
    const spec = this.table[id];
    if (spec === undefined) throw new PolicyAbort(`no builtin has the number ${id}`);
    if (spec.volatile === true) this.state.volatile = true;
    this.#heap.refresh();
    const result = this.#guarded(spec, addresses);
    return result === undefined ? 0 : this.#give(result);
  }

  #guarded(spec: BuiltinSpec, addresses: readonly number[]): Rego | undefined {
    try {
      return spec.call(
        addresses.map((at) => this.#reader.rego(at)),
        this.state,
      );
    } catch {
      this.state.faults++;
      return undefined;
    }
  }

  /** Writes a builtin's result into a block of the module's own heap. */
  #give(value: Rego): number {
    const exports = this.#exports();
    const size = measure(value) + 16;
    const block = exports.opa_malloc(size);
    this.#heap.refresh();
    const writer = new HeapWriter(this.#heap, () => {
      throw new PolicyAbort('a builtin’s result was measured too small');
    });
    writer.at = (block + 7) & ~7;
    writer.limit = block + size;
    try {
      return writer.value(value);
    } catch (cause) {
      if (!(cause instanceof BadValue)) throw cause;
      this.state.faults++;
      return 0;
    }
  }
}

/** Upper bound of the bytes a value takes. */
function measure(value: Rego): number {
  if (typeof value === 'string') return 32 + value.length * 3;
  if (typeof value === 'bigint') return 56 + value.toString().length;
  if (typeof value !== 'object' || value === null) return 72;
  if (Array.isArray(value)) return value.reduce((sum: number, item: Rego) => sum + 24 + measure(item), 40);
  if (value instanceof Map) {
    let sum = 96;
    for (const [key, item] of value) sum += 40 + measure(key) + measure(item);
    return sum;
  }
  let sum = 96;
  for (const item of value as ReadonlySet<Rego>) sum += 32 + measure(item);
  return sum;
}
