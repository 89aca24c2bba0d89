/**
 * Evaluates a policy. Never throws: every way in which an evaluation can fail to give a value has a name. A throw
 * through the module's frames leaks its stack, and enough of them would brick the instance for every caller, so all
 * state of the instance (memory and variables) is set back after each one.
 */
import type { DecisionFailure } from '../../core/decision.ts';
import type { JsonValue } from '../../core/json.ts';
import type { DataOperation } from '../data-document.ts';
import { type Drawn, PolicyAbort } from './imports.ts';
import type { ShapeSpec } from './input-writer.ts';
import { type JsonText, PolicyInstance, type Snapshot, type Transfer } from './instance.ts';
import { PolicyLoadError, type PolicyProgram } from './program.ts';
import { BadValue } from './writer.ts';

/** What an evaluation came to. `volatile`: a builtin was called whose answer changes with time or chance. */
export type Outcome =
  | { readonly kind: 'value'; readonly value: JsonValue; readonly volatile: boolean }
  | { readonly kind: 'undefined'; readonly volatile: boolean }
  | { readonly kind: 'failed'; readonly failure: DecisionFailure; readonly detail: string };

export interface HostStats {
  /** Instances made so far. */
  instances: number;
  /** Set back, or replaced, because something was thrown through them. */
  discarded: number;
  /** Replaced because they had touched much memory. */
  recycled: number;
  /** Changes of the data made in place. */
  patched: number;
  /** Loads of the whole data that took the place of changes. */
  rebuilt: number;
  readonly failures: Partial<Record<DecisionFailure, number>>;
  builtinFaults: number;
}

/** Memory copies beyond this size are not kept; the data is parsed again instead. */
const MAX_SNAPSHOT_BYTES = 64 * 1024 * 1024;
/** Changes that are made again in an instance that had to be set back; more of them, and the whole data is loaded. */
const MAX_PATCHES = 2000;
/** Bytes the data may grow by changes in place: replaced values leave holes that not every later value fits. */
const MAX_GROWTH = 8 * 1024 * 1024;

/** Holds everything the layout check has to see: every type, chained buckets, text of all widths, numbers of both kinds. */
const SAMPLE: JsonValue = {
  empty: {},
  none: null,
  yes: true,
  no: false,
  text: 'Füße ☃ 😀',
  long: 'x'.repeat(100),
  list: [1, -1, 0, 2 ** 40, -(2 ** 40), 1.5, [], [[null]]],
  many: Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`key-${i}`, i])),
};

export class PolicyHost {
  readonly entrypoints: ReadonlyMap<string, number>;
  readonly transfer: Transfer;
  readonly stats: HostStats = {
    instances: 0,
    discarded: 0,
    recycled: 0,
    patched: 0,
    rebuilt: 0,
    failures: {},
    builtinFaults: 0,
  };
  readonly #program: PolicyProgram;
  /** The data document as it is now. */
  readonly #data: () => JsonText;
  /** The state before `#patches`. */
  #snapshot: Snapshot | null;
  #patches: DataOperation[] = [];
  #instance: PolicyInstance | null;

  /** Instantiates, loads the data and checks ABI, builtins and layout. Throws PolicyLoadError. */
  constructor(program: PolicyProgram, data: JsonText | (() => JsonText)) {
    this.#program = program;
    this.#data = typeof data === 'string' ? () => data : data;
    const first = this.#make(null);
    const [major, minor] = first.abi;
    if (major !== 1 || minor < 2)
      throw new PolicyLoadError(`policy.wasm has ABI ${major}.${minor}; 1.2 or later is needed`);
    this.entrypoints = new Map(Object.entries(first.entrypoints()));
    this.#snapshot = kept(first);
    this.transfer = fits(first) ? 'direct' : 'json';
    this.#instance = this.transfer === 'direct' ? first : this.#make(this.#snapshot);
  }

  /** Evaluates an entrypoint. `shape` names the layout of a document that comes often; null for any other input. */
  evaluate(
    entrypoint: string,
    input: unknown,
    nowMs: number,
    shape: ShapeSpec | null = null,
    drawn: Drawn | null = null,
  ): Outcome {
    const id = this.entrypoints.get(entrypoint);
    if (id === undefined) return this.#fail('undefined', `the policy has no entrypoint ${entrypoint}`);
    let instance: PolicyInstance;
    try {
      instance = this.#instance ??= this.#make(this.#snapshot);
    } catch (cause) {
      return this.#fail('memory', `no instance could be made: ${messageOf(cause)}`);
    }
    try {
      return this.#run(instance, id, input, nowMs, shape, drawn);
    } catch (cause) {
      // A bad value is found before the module runs: nothing was thrown through it.
      if (!(cause instanceof BadValue)) {
        this.#discard(instance);
      }
      return this.#fail(classify(cause, instance), messageOf(cause));
    }
  }

  /**
   * Makes the data what the document has become by these operations, in place where that is possible and by a whole
   * load otherwise. Throws PolicyLoadError when neither can be done: then the caller sets the document back, and the
   * host decides by the data before.
   */
  patch(operations: readonly DataOperation[]): void {
    if (this.#instance === null || this.#snapshot === null || this.#patches.length + operations.length > MAX_PATCHES) {
      this.#rebuild();
      return;
    }
    try {
      this.#instance.patch(operations);
    } catch {
      this.#instance = null;
      this.#rebuild();
      return;
    }
    this.#patches.push(...operations);
    this.stats.patched++;
    if (this.#instance.dataEnd - this.#snapshot.heapBase <= MAX_GROWTH) return;
    try {
      this.#rebuild();
    } catch {
      // It stands as it is: the data was changed already.
    }
  }

  /** Nothing is given up before the new instance stands. */
  #rebuild(): void {
    const next = this.#make(null);
    this.#snapshot = kept(next);
    this.#patches = [];
    this.#instance = next;
    this.stats.rebuilt++;
  }

  /** What chance gave in the last evaluation, with what it was told to give; null: nothing. It stays as it is. */
  get drawn(): Drawn | null {
    const memo = this.#instance?.state.memo;
    return memo === undefined || memo.size === 0 ? null : memo;
  }

  #run(
    instance: PolicyInstance,
    id: number,
    input: unknown,
    nowMs: number,
    shape: ShapeSpec | null,
    drawn: Drawn | null,
  ): Outcome {
    const direct = this.transfer === 'direct';
    let address = 0;
    if (input !== undefined) address = direct ? instance.writeInput(input, shape) : instance.parseInput(input);
    const result = instance.run(id, address, nowMs, drawn);
    const { volatile, faults } = instance.state;
    this.stats.builtinFaults += faults;
    if (result === 0) {
      this.#recycle(instance);
      return { kind: 'undefined', volatile };
    }
    const value = direct ? instance.reader.json(result) : instance.dumpValue(result);
    this.#recycle(instance);
    return { kind: 'value', value, volatile };
  }

  /** What was thrown leaked the module's stack and may have left anything half done: all state is set back. */
  #discard(instance: PolicyInstance): void {
    this.stats.discarded++;
    this.#instance = null;
    if (this.#snapshot === null || instance.used > this.#program.limits.highWaterBytes) return;
    try {
      instance.restore(this.#snapshot);
      if (this.#patches.length > 0) instance.patch(this.#patches);
      this.#instance = instance;
    } catch {
      // The next evaluation makes another one.
    }
  }

  /** Memory never shrinks, so an instance that touched much of it is not kept. */
  #recycle(instance: PolicyInstance): void {
    if (instance.used <= this.#program.limits.highWaterBytes) return;
    this.#instance = null;
    this.stats.recycled++;
  }

  #make(snapshot: Snapshot | null): PolicyInstance {
    this.stats.instances++;
    const instance = new PolicyInstance(this.#program, snapshot === null ? this.#data() : '', snapshot);
    if (snapshot !== null && this.#patches.length > 0) instance.patch(this.#patches);
    return instance;
  }

  #fail(failure: DecisionFailure, detail: string): Outcome {
    this.stats.failures[failure] = (this.stats.failures[failure] ?? 0) + 1;
    return { kind: 'failed', failure, detail };
  }
}

function kept(instance: PolicyInstance): Snapshot | null {
  const snapshot = instance.snapshot();
  return snapshot.bytes.length <= MAX_SNAPSHOT_BYTES ? snapshot : null;
}

function fits(instance: PolicyInstance): boolean {
  try {
    return instance.layoutFits(SAMPLE);
  } catch {
    return false;
  }
}

function classify(cause: unknown, instance: PolicyInstance): DecisionFailure {
  if (cause instanceof BadValue) return 'bad_input';
  if (instance.outOfFuel) return 'timeout';
  if (cause instanceof PolicyAbort) return cause.message.includes('malloc') ? 'memory' : 'abort';
  return 'abort';
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
