/**
 * A policy in OPA's intermediate representation: what `opa build -t plan` makes of the sources. Read once, checked, and
 * then walked by the interpreter. Source: openpolicyagent.org/docs/latest/ir.
 */
import { createHash } from 'node:crypto';
import { gunzipSync } from 'node:zlib';
import type { PlanBytes } from '../bundle.ts';
import { PolicyLoadError } from '../wasm/program.ts';

/** A place in the sources; rows and columns count from 1, row 0: no place. `file` is an index into `Plan.files`. */
export interface Place {
  readonly file: number;
  readonly row: number;
  readonly col: number;
  readonly end_row?: number;
  readonly end_col?: number;
}

export type Operand =
  | { readonly type: 'local'; readonly value: number }
  | { readonly type: 'string_index'; readonly value: number }
  | { readonly type: 'bool'; readonly value: boolean };

/** Members of a statement; which of them it has depends on its type. Plain numbers are locals. */
export interface StatementBody extends Place {
  readonly source: Operand | number;
  readonly target: number;
  readonly key: Operand | number;
  readonly value: Operand | number;
  readonly a: Operand | number;
  readonly b: Operand | number;
  readonly func: string;
  readonly args: readonly (Operand | number)[] | null;
  readonly result: number;
  readonly path: readonly (Operand | number)[] | null;
  readonly local: number;
  readonly index: number;
  readonly Index: number;
  readonly object: number;
  readonly array: number;
  readonly set: number;
  readonly blocks: readonly Block[] | null;
  readonly block: Block;
}

export interface Statement {
  readonly type: string;
  readonly stmt: StatementBody;
}

export interface Block {
  readonly stmts: readonly Statement[] | null;
}

export interface PlanFunction {
  readonly name: string;
  readonly params: readonly number[];
  readonly return: number;
  readonly blocks: readonly Block[];
  readonly path?: readonly string[];
}

export interface Plan {
  readonly strings: readonly string[];
  /** Names of the sources, as they were below the policy directory. */
  readonly files: readonly string[];
  readonly builtins: readonly string[];
  readonly entrypoints: ReadonlyMap<string, readonly Block[]>;
  readonly functions: ReadonlyMap<string, PlanFunction>;
  /** Functions by their path, segments joined with NUL: what a dynamic reference looks up. */
  readonly byPath: ReadonlyMap<string, PlanFunction>;
}

interface PlanDocument {
  readonly static?: {
    readonly strings?: readonly { readonly value: string }[];
    readonly builtin_funcs?: readonly { readonly name: string }[];
    readonly files?: readonly { readonly value: string }[];
  };
  readonly plans?: { readonly plans?: readonly { readonly name: string; readonly blocks: readonly Block[] }[] };
  readonly funcs?: { readonly funcs?: readonly PlanFunction[] };
}

/** Beyond this a plan is a defect or an attack. */
const MAX_PLAN_BYTES = 256 * 1024 * 1024;

/** Unpacks, checks the digest and reads. Throws PolicyLoadError. */
export function readPlan({ bytes, gzip, digest }: PlanBytes): Plan {
  let text: Buffer;
  try {
    text = gzip ? gunzipSync(bytes, { maxOutputLength: MAX_PLAN_BYTES }) : Buffer.from(bytes);
  } catch (cause) {
    throw new PolicyLoadError(`the plan of the policy cannot be unpacked: ${(cause as Error).message}`, { cause });
  }
  if (digest !== null && createHash('sha256').update(text).digest('hex') !== digest) {
    throw new PolicyLoadError('plan and manifest are not of one build: run "portcullis policy build"');
  }
  return parsePlan(text.toString('utf8'));
}

/** Reads the JSON text of a plan. Throws PolicyLoadError. */
export function parsePlan(text: string): Plan {
  let document: PlanDocument;
  try {
    document = JSON.parse(text) as PlanDocument;
  } catch (cause) {
    throw new PolicyLoadError(`the plan of the policy is no JSON: ${(cause as Error).message}`, { cause });
  }
  const functions = document.funcs?.funcs ?? [];
  const plans = document.plans?.plans ?? [];
  if (plans.length === 0) throw new PolicyLoadError('the plan of the policy has no entrypoint');
  return {
    strings: (document.static?.strings ?? []).map(({ value }) => value),
    files: (document.static?.files ?? []).map(({ value }) => value),
    builtins: (document.static?.builtin_funcs ?? []).map(({ name }) => name),
    entrypoints: new Map(plans.map(({ name, blocks }) => [name, blocks])),
    functions: new Map(functions.map((one) => [one.name, one])),
    byPath: new Map(functions.map((one) => [(one.path ?? []).join('\0'), one])),
  };
}
