/** A compiled policy module, checked before it may decide anything. Source: OPA WASM ABI 1.2 and 1.3. */
import { readSections, readShape } from './binary.ts';
import { FUEL_EXPORT, meter } from './fuel.ts';
import type { BuiltinTable } from './imports.ts';

export interface HostLimits {
  /** Loop turns and calls one evaluation may take before it is stopped. */
  readonly fuel: number;
  /** Bytes of memory an evaluation may take, its input included. */
  readonly memoryBytes: number;
  /** Bytes an evaluation may have touched before its instance is replaced. */
  readonly highWaterBytes: number;
}

/** 50 million steps are about a tenth of a second; a decision takes some thousands. */
export const DEFAULT_LIMITS: HostLimits = {
  fuel: 50_000_000,
  memoryBytes: 64 * 1024 * 1024,
  highWaterBytes: 8 * 1024 * 1024,
};

/** The module cannot be used; the message says why in the operator's terms. */
export class PolicyLoadError extends Error {
  override readonly name = 'PolicyLoadError';
}

/** Functions a module must export. */
const REQUIRED = [
  'eval',
  'builtins',
  'entrypoints',
  'opa_malloc',
  'opa_json_parse',
  'opa_json_dump',
  'opa_heap_ptr_get',
  'opa_heap_ptr_set',
  'opa_eval_ctx_new',
  'opa_eval_ctx_set_input',
  'opa_eval_ctx_set_data',
  'opa_eval_ctx_set_entrypoint',
  'opa_eval_ctx_get_result',
] as const;

/** The module's functions. All addresses are byte offsets into its memory. */
export interface PolicyExports {
  readonly opa_malloc: (size: number) => number;
  readonly opa_json_parse: (at: number, length: number) => number;
  readonly opa_json_dump: (value: number) => number;
  readonly opa_heap_ptr_get: () => number;
  readonly opa_heap_ptr_set: (at: number) => void;
  readonly opa_eval_ctx_new: () => number;
  readonly opa_eval_ctx_set_input: (context: number, value: number) => void;
  readonly opa_eval_ctx_set_data: (context: number, value: number) => void;
  readonly opa_eval_ctx_set_entrypoint: (context: number, id: number) => void;
  readonly opa_eval_ctx_get_result: (context: number) => number;
  readonly eval: (context: number) => number;
  readonly builtins: () => number;
  readonly entrypoints: () => number;
  /** What changes data in place; absent in modules of ABI 1.2. */
  readonly opa_free?: (at: number) => void;
  readonly opa_value_add_path?: (data: number, path: number, value: number) => number;
  readonly opa_value_remove_path?: (data: number, path: number) => number;
  readonly opa_value_free?: (value: number) => void;
  readonly opa_heap_blocks_restore?: () => void;
  readonly opa_heap_blocks_stash?: () => void;
  readonly [FUEL_EXPORT]: WebAssembly.Global<'i32'>;
  readonly opa_wasm_abi_version: WebAssembly.Global<'i32'>;
  readonly opa_wasm_abi_minor_version: WebAssembly.Global<'i32'>;
}

/** One module, from which any number of instances can be made. */
export class PolicyProgram {
  readonly module: WebAssembly.Module;
  readonly builtins: BuiltinTable;
  readonly limits: HostLimits;
  /** Pages the module asks for. */
  readonly minimumPages: number;
  readonly maximumPages: number | null;

  private constructor(module: WebAssembly.Module, builtins: BuiltinTable, limits: HostLimits, pages: Pages) {
    this.module = module;
    this.builtins = builtins;
    this.limits = limits;
    this.minimumPages = pages.memoryMinimum;
    this.maximumPages = pages.memoryMaximum;
  }

  /** Meters, compiles and checks the exports. Throws PolicyLoadError. */
  static async load(bytes: Uint8Array, builtins: BuiltinTable, limits: HostLimits): Promise<PolicyProgram> {
    let module: WebAssembly.Module;
    let pages: Pages;
    try {
      pages = readShape(readSections(bytes));
      module = await WebAssembly.compile(new Uint8Array(meter(bytes)));
    } catch (cause) {
      throw new PolicyLoadError(`policy.wasm is not a usable module: ${(cause as Error).message}`, { cause });
    }
    const names = new Set(WebAssembly.Module.exports(module).map((one) => one.name));
    const missing = REQUIRED.filter((name) => !names.has(name));
    if (missing.length > 0) throw new PolicyLoadError(`policy.wasm lacks the exports ${missing.join(', ')}`);
    return new PolicyProgram(module, builtins, limits, pages);
  }
}

interface Pages {
  readonly memoryMinimum: number;
  readonly memoryMaximum: number | null;
}
