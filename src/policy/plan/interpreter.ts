/**
 * Evaluates a plan statement by statement, as the compiled module would, and tells a tracer what happens: the module
 * itself cannot say why it decided. Two orders of magnitude slower than the module, so for explanations and tests only.
 *
 * A block ends by its end, by a jump out of it, or by a return. As in the module an undefined statement jumps out of
 * the innermost block, and a scan counts as two blocks: one for its turn, one around all turns.
 */
import type { Builtin, BuiltinTable, Drawn } from '../wasm/imports.ts';
import { CallState } from '../wasm/imports.ts';
import { compareRego, equalRego, type Rego } from '../wasm/values.ts';
import { PLAN_BUILTINS } from './builtins.ts';
import { entriesOf, joinObjects, memberOf, setMember } from './native/collections.ts';
import { addRego } from './native/sets.ts';
import type { Block, Operand, Plan, PlanFunction, Statement, StatementBody } from './plan.ts';

/** Why there is no value: a conflict of rules, a builtin that does not exist here, or too many steps. */
export class PlanFault extends Error {
  override readonly name = 'PlanFault';
}

/** What is nested deeper than the stack goes cannot be evaluated here either. Throws whatever else was thrown. */
export function asPlanFault(thrown: unknown): PlanFault {
  if (thrown instanceof PlanFault) return thrown;
  if (!(thrown instanceof RangeError) || !thrown.message.includes('call stack')) throw thrown;
  return new PlanFault('the document is nested too deep to be explained here', { cause: thrown });
}

export type Locals = (Rego | undefined)[];

/** Sees an evaluation. `locals` are live: what is kept of them has to be copied. */
export interface Tracer {
  enter(called: PlanFunction, locals: Locals, from: StatementBody | null): void;
  leave(called: PlanFunction, result: Rego | undefined): void;
  /** One of the top blocks of the running function begins or has ended. */
  body(index: number, phase: 'begin' | 'end', completed: boolean): void;
  /** A statement has been executed; `defined`: execution goes on behind it. */
  statement(statement: Statement, locals: Locals, defined: boolean): void;
}

export interface PlanOutcome {
  readonly value: Rego | undefined;
  /** A builtin was called whose answer changes with time or chance. */
  readonly volatile: boolean;
  /** Statements that were executed. */
  readonly steps: number;
}

const DONE = -1;
const RETURN = -2;
const MAX_STEPS = 20_000_000;
const MAX_CALLS = 2000;
const TOO_LONG = 'the policy takes too long on this input to be explained here';
/** Statements between two looks at the clock. */
const STRIDE = 1024;

/**
 * Evaluates an entrypoint. Throws PlanFault. `input` undefined: there is none. `timeMs`: how long it may take. `drawn`: what
 * chance gave when it was decided.
 */
export function interpret(
  plan: Plan,
  entrypoint: string,
  input: Rego | undefined,
  data: Rego,
  nowMs: number,
  tracer: Tracer | null = null,
  timeMs = Number.POSITIVE_INFINITY,
  drawn: Drawn | null = null,
): PlanOutcome {
  const blocks = plan.entrypoints.get(entrypoint);
  if (blocks === undefined) throw new PlanFault(`the policy has no entrypoint ${entrypoint}`);
  return new Evaluation(plan, nowMs, tracer, timeMs, drawn).run(blocks, input, data);
}

class Evaluation {
  readonly #plan: Plan;
  readonly #builtins: BuiltinTable = PLAN_BUILTINS;
  readonly #tracer: Tracer | null;
  readonly #state = new CallState();
  readonly #results: Rego[] = [];
  #memo = new Map<PlanFunction, Rego | undefined>();
  readonly #until: number;
  #steps = 0;
  #calls = 0;
  #returned: Rego | undefined;

  constructor(plan: Plan, nowMs: number, tracer: Tracer | null, timeMs: number, drawn: Drawn | null) {
    this.#plan = plan;
    this.#tracer = tracer;
    this.#until = performance.now() + timeMs;
    this.#state.start(nowMs, drawn);
  }

  run(blocks: readonly Block[], input: Rego | undefined, data: Rego): PlanOutcome {
    const locals: Locals = [input, data];
    for (const block of blocks) if (this.#block(block, locals) === RETURN) break;
    const [first] = this.#results;
    return { value: memberOf(first, 'result'), volatile: this.#state.volatile, steps: this.#steps };
  }

  #block(block: Block, locals: Locals): number {
    for (const statement of block.stmts ?? []) {
      if (++this.#steps > MAX_STEPS) throw new PlanFault('the policy takes too many steps on this input');
      if (this.#steps % STRIDE === 0 && performance.now() > this.#until) throw new PlanFault(TOO_LONG);
      const end = this.#statement(statement.type, statement.stmt, locals);
      this.#tracer?.statement(statement, locals, end === DONE);
      if (end !== DONE) return end;
    }
    return DONE;
  }

  /** DONE: on to the next; RETURN; otherwise how many blocks to jump out of, 0 being the one it stands in. */
  #statement(type: string, s: StatementBody, locals: Locals): number {
    switch (type) {
      case 'AssignVarStmt':
        locals[s.target] = this.#read(s.source, locals);
        return DONE;
      case 'AssignVarOnceStmt':
        return this.#assignOnce(s, locals);
      case 'CallStmt':
        return this.#call(s, locals);
      case 'CallDynamicStmt':
        return this.#callDynamic(s, locals);
      case 'DotStmt':
        locals[s.target] = memberOf(this.#read(s.source, locals), this.#read(s.key, locals) ?? null);
        return locals[s.target] === undefined ? 0 : DONE;
      case 'EqualStmt':
        return this.#equal(s, locals) ? DONE : 0;
      case 'NotEqualStmt':
        return this.#equal(s, locals) ? 0 : DONE;
      case 'BlockStmt':
        return this.#blocks(s, locals);
      case 'ScanStmt':
        return this.#scan(s, locals);
      case 'NotStmt':
        return this.#not(s, locals);
      case 'WithStmt':
        return this.#with(s, locals);
      case 'BreakStmt':
        return s.index;
      case 'ReturnLocalStmt':
        this.#returned = locals[s.source as number];
        return RETURN;
      case 'ResultSetAddStmt':
        this.#results.push(locals[s.value as number] ?? null);
        return DONE;
      default:
        return this.#test(type, s, locals) ?? this.#make(type, s, locals);
    }
  }

  #test(type: string, s: StatementBody, locals: Locals): number | null {
    const holds = (yes: boolean): number => (yes ? DONE : 0);
    switch (type) {
      case 'IsDefinedStmt':
        return holds(locals[s.source as number] !== undefined);
      case 'IsUndefinedStmt':
        return holds(locals[s.source as number] === undefined);
      case 'IsArrayStmt':
        return holds(Array.isArray(this.#read(s.source, locals)));
      case 'IsObjectStmt':
        return holds(this.#read(s.source, locals) instanceof Map);
      case 'IsSetStmt':
        return holds(this.#read(s.source, locals) instanceof Set);
      default:
        return null;
    }
  }

  #make(type: string, s: StatementBody, locals: Locals): number {
    switch (type) {
      case 'ResetLocalStmt':
        locals[s.target] = undefined;
        return DONE;
      case 'MakeNullStmt':
        locals[s.target] = null;
        return DONE;
      case 'MakeNumberIntStmt':
      case 'AssignIntStmt':
        locals[s.target] = s.value as number;
        return DONE;
      case 'MakeNumberRefStmt':
        locals[s.target] = numberOf(this.#plan.strings[s.Index ?? s.index] ?? '');
        return DONE;
      case 'MakeArrayStmt':
        locals[s.target] = [];
        return DONE;
      case 'MakeObjectStmt':
        locals[s.target] = new Map();
        return DONE;
      case 'MakeSetStmt':
        locals[s.target] = new Set();
        return DONE;
      case 'LenStmt':
        locals[s.target] = lengthOf(this.#read(s.source, locals));
        return DONE;
      case 'NopStmt':
        return DONE;
      default:
        return this.#change(type, s, locals);
    }
  }

  /** Containers are changed in place: the compiler only lets what it has made itself be changed. */
  #change(type: string, s: StatementBody, locals: Locals): number {
    const value = this.#read(s.value, locals) ?? null;
    switch (type) {
      case 'ArrayAppendStmt':
        (locals[s.array] as Rego[]).push(value);
        return DONE;
      case 'SetAddStmt':
        addRego(locals[s.set] as Set<Rego>, value);
        return DONE;
      case 'ObjectInsertStmt':
        setMember(locals[s.object] as Map<Rego, Rego>, this.#read(s.key, locals) ?? null, value);
        return DONE;
      case 'ObjectInsertOnceStmt':
        return this.#insertOnce(s, value, locals);
      case 'ObjectMergeStmt':
        locals[s.target] = merged(locals[s.a as number], locals[s.b as number]);
        return DONE;
      default:
        throw new PlanFault(`cannot explain: the plan has a statement ${type} that is not known here`);
    }
  }

  #read(operand: Operand | number, locals: Locals): Rego | undefined {
    if (typeof operand === 'number') return locals[operand];
    if (operand === undefined) return undefined;
    if (operand.type === 'local') return locals[operand.value];
    return operand.type === 'bool' ? operand.value : this.#plan.strings[operand.value];
  }

  #equal(s: StatementBody, locals: Locals): boolean {
    const [a, b] = [this.#read(s.a, locals), this.#read(s.b, locals)];
    return a === b || (a !== undefined && b !== undefined && compareRego(a, b) === 0);
  }

  #assignOnce(s: StatementBody, locals: Locals): number {
    const value = this.#read(s.source, locals);
    const there = locals[s.target];
    if (there !== undefined && (value === undefined || !equalRego(there, value))) {
      throw new PlanFault(`${this.#place(s)}: rules give different values for one and the same name`);
    }
    locals[s.target] = value;
    return DONE;
  }

  #insertOnce(s: StatementBody, value: Rego, locals: Locals): number {
    const object = locals[s.object] as Map<Rego, Rego>;
    const key = this.#read(s.key, locals) ?? null;
    const there = memberOf(object, key);
    if (there !== undefined && !equalRego(there, value)) {
      throw new PlanFault(`${this.#place(s)}: rules give different values for one and the same key`);
    }
    setMember(object, key, value);
    return DONE;
  }

  #blocks(s: StatementBody, locals: Locals): number {
    for (const block of s.blocks ?? []) {
      const end = this.#block(block, locals);
      if (end === RETURN) return RETURN;
      if (end > 0) return end - 1;
    }
    return DONE;
  }

  #scan(s: StatementBody, locals: Locals): number {
    for (const [key, value] of entriesOf(locals[s.source as number])) {
      locals[s.key as number] = key;
      locals[s.value as number] = value;
      const end = this.#block(s.block, locals);
      if (end === RETURN) return RETURN;
      if (end === 1) break;
      if (end > 1) return end - 2;
    }
    return DONE;
  }

  #not(s: StatementBody, locals: Locals): number {
    const end = this.#block(s.block, locals);
    if (end === DONE) return 0;
    if (end === 0) return DONE;
    return end === RETURN ? RETURN : end - 1;
  }

  #with(s: StatementBody, locals: Locals): number {
    const saved = locals[s.local];
    const memo = this.#memo;
    this.#memo = new Map();
    const path = (s.path ?? []).map((segment) => this.#plan.strings[segment as number] ?? '');
    locals[s.local] = upsert(saved, path, this.#read(s.value, locals) ?? null);
    const end = this.#block(s.block, locals);
    locals[s.local] = saved;
    this.#memo = memo;
    return end > 0 ? end - 1 : end;
  }

  #call(s: StatementBody, locals: Locals): number {
    const args = (s.args ?? []).map((arg) => this.#read(arg, locals));
    const called = this.#plan.functions.get(s.func);
    const result = called === undefined ? this.#builtin(s.func, args) : this.#function(called, args, s);
    locals[s.result] = result;
    return result === undefined ? 0 : DONE;
  }

  #callDynamic(s: StatementBody, locals: Locals): number {
    const path = (s.path ?? []).map((segment) => this.#read(segment, locals));
    const called = this.#plan.byPath.get(path.join('\0'));
    if (called === undefined) return 0;
    const args = (s.args ?? []).map((arg) => this.#read(arg, locals));
    const result = this.#function(called, args, s);
    locals[s.result] = result;
    // What is defined by a rule is not looked for in the data: out of the blocks that would.
    return result === undefined ? 3 : DONE;
  }

  #builtin(name: string, args: readonly (Rego | undefined)[]): Rego | undefined {
    const spec = this.#builtins.get(name);
    if (spec === undefined) throw new PlanFault(`cannot explain: builtin ${name} is not known here`);
    if (spec.volatile === true) this.#state.volatile = true;
    return guarded(spec.call, args as readonly Rego[], this.#state);
  }

  #function(called: PlanFunction, args: readonly (Rego | undefined)[], from: StatementBody): Rego | undefined {
    // Rules depend on nothing but input and data.
    const isRule = called.params.length === 2;
    if (isRule && this.#memo.has(called)) return this.#memo.get(called);
    if (++this.#calls > MAX_CALLS) throw new PlanFault('the policy calls itself too deep on this input');
    const locals: Locals = [];
    for (let i = 0; i < called.params.length; i++) locals[called.params[i] ?? 0] = args[i];
    this.#tracer?.enter(called, locals, from);
    this.#returned = undefined;
    const result = this.#bodies(called, locals) ? this.#returned : undefined;
    this.#tracer?.leave(called, result);
    this.#calls--;
    if (isRule) this.#memo.set(called, result);
    return result;
  }

  /** Whether it came to a return. */
  #bodies(called: PlanFunction, locals: Locals): boolean {
    for (let i = 0; i < called.blocks.length; i++) {
      this.#tracer?.body(i, 'begin', false);
      const end = this.#block(called.blocks[i] ?? { stmts: null }, locals);
      this.#tracer?.body(i, 'end', end === DONE);
      if (end === RETURN) return true;
    }
    return false;
  }

  #place({ file, row, col }: StatementBody): string {
    return `${this.#plan.files[file] ?? ''}:${row}:${col}`;
  }
}

/** A builtin that throws has no value, as in the module. */
function guarded(call: Builtin, args: readonly Rego[], state: CallState): Rego | undefined {
  try {
    return call(args, state);
  } catch {
    state.faults++;
    return undefined;
  }
}

function numberOf(text: string): Rego {
  const value = Number(text);
  return Number.isSafeInteger(value) || !/^-?\d+$/.test(text) ? value : BigInt(text);
}

function lengthOf(value: Rego | undefined): number {
  if (typeof value === 'string') return Buffer.byteLength(value);
  if (typeof value !== 'object' || value === null) return 0;
  return Array.isArray(value) ? value.length : (value as ReadonlySet<Rego>).size;
}

/** Base and virtual documents of one name: where both have a value, the first one's. */
function merged(a: Rego | undefined, b: Rego | undefined): Rego | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return a instanceof Map && b instanceof Map ? joinObjects(b, a) : a;
}

/** A copy in which the place below is another value; what is no object on the way is replaced by one. */
function upsert(whole: Rego | undefined, path: readonly string[], value: Rego): Rego {
  const [head, ...rest] = path;
  if (head === undefined) return value;
  const copy = new Map<Rego, Rego>(whole instanceof Map ? whole : []);
  copy.set(head, upsert(copy.get(head), rest, value));
  return copy;
}
