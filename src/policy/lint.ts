/**
 * What the compiler lets pass and an author should know: fields the input never has, comparisons that are skipped where a
 * field is missing, answers that may not exist, rules that should be data. Source: contracts 3, policy input schema.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findLogSources } from './log-sources.ts';
import { findOpa, run } from './opa-command.ts';

/** Stable names of what is found. */
export type LintCode =
  | 'compile'
  | 'unknown-input-field'
  | 'not-equal-on-optional'
  | 'missing-default'
  | 'rules-should-be-data'
  | 'unknown-route';

/** One finding; line and column count from 1. Errors are what makes a policy wrong, warnings what makes it fragile. */
export interface LintFinding {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly severity: 'error' | 'warning';
  readonly code: LintCode;
  readonly message: string;
}

/** JSON Schema of the policy input, beside the policies that ship with the gateway. */
export const INPUT_SCHEMA = fileURLToPath(new URL('../../policies/input.schema.json', import.meta.url));

/** From so many rules on that differ in constants alone. WASM tries them one by one; a look-up in data costs the same for any number. */
const MANY_RULES = 5;

/** Looks at the named sources below `dir`. The message says why nothing could be looked at. */
export async function lint(
  dir: string,
  files: readonly string[],
  env?: NodeJS.ProcessEnv,
): Promise<readonly LintFinding[] | { readonly message: string }> {
  const opa = await findOpa(env);
  if (opa.path === null) return opa;
  // Rules on the records of decisions have an event for their input, of which this schema says nothing.
  const ofRecords = (await findLogSources(dir, files)).files;
  const findings = (await againstSchema(opa.path, dir)).filter(
    ({ file, code }) => code !== 'unknown-input-field' || !ofRecords.includes(file),
  );
  const schema = new Schema(JSON.parse(await readFile(INPUT_SCHEMA, 'utf8')) as SchemaNode);
  for (const file of files.filter((name) => !ofRecords.includes(name))) {
    const parsed = await run(opa.path, ['parse', '--format', 'json', '--json-include', 'locations', file], {
      cwd: dir,
    });
    // What does not parse was reported above.
    if (parsed.status !== 0) continue;
    const rules = ((JSON.parse(parsed.stdout) as Node).rules ?? []) as readonly Node[];
    const text = await readFile(join(dir, file), 'utf8');
    const found = [...comparisons(rules, schema), ...defaults(rules, entrypointLines(text)), ...sameRules(rules)];
    findings.push(...found.map((one) => ({ file, ...one })));
  }
  const order = (a: LintFinding, b: LintFinding) =>
    a.file === b.file ? a.line - b.line || a.column - b.column : a.file < b.file ? -1 : 1;
  return findings.sort(order);
}

/** A node of `opa parse --format json`. */
type Node = { readonly [member: string]: unknown };
type Found = Omit<LintFinding, 'file'>;

interface OpaErrors {
  readonly errors?: readonly {
    readonly message: string;
    readonly location?: { readonly file?: string; readonly row?: number; readonly col?: number };
    readonly details?: { readonly oneOf?: readonly unknown[] };
  }[];
}

/** The compiler itself knows the schema: fields that are not in it are errors of type. */
async function againstSchema(opa: string, dir: string): Promise<LintFinding[]> {
  const ignored = ['*_test.rego', '*.json', '*.yaml', '*.yml'].flatMap((pattern) => ['--ignore', pattern]);
  const flags = ['check', '--strict', '--format', 'json', '-s', INPUT_SCHEMA, ...ignored, '.'];
  const { status, stdout, stderr } = await run(opa, flags, { cwd: dir });
  if (status === 0) return [];
  let errors: OpaErrors['errors'];
  try {
    errors = (JSON.parse(stderr.trimStart().startsWith('{') ? stderr : stdout) as OpaErrors).errors;
  } catch {
    errors = undefined;
  }
  return (errors ?? [{ message: (stderr || stdout).trim() }]).map(({ message, location, details }) => {
    const field = /^undefined ref: (input\..*)$/.exec(message)?.[1];
    const members = details?.oneOf?.join(', ');
    return {
      ...{
        file: location?.file ?? '',
        line: location?.row ?? 0,
        column: location === undefined ? 0 : Math.max(location.col ?? 1, 1),
        severity: 'error',
      },
      code: field === undefined ? 'compile' : 'unknown-input-field',
      message:
        field === undefined ? message : `the input never has ${field}; there is: ${members ?? 'nothing below it'}`,
    } as LintFinding;
  });
}

interface SchemaNode {
  readonly type?: string | readonly string[];
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly required?: readonly string[];
}

class Schema {
  readonly #root: SchemaNode;

  constructor(root: SchemaNode) {
    this.#root = root;
  }

  /** Whether the document always has a value at the path: each step is required, and none of the objects may be null. */
  isAlwaysThere(path: readonly string[]): boolean {
    let at: SchemaNode | undefined = this.#root;
    for (const name of path) {
      if (at === undefined || at.type !== 'object' || at.required?.includes(name) !== true) return false;
      at = at.properties?.[name];
    }
    return at !== undefined;
  }
}

function place(node: Node): { readonly line: number; readonly column: number } {
  const location = node.location as { readonly row?: number; readonly col?: number } | undefined;
  return { line: location?.row ?? 0, column: location?.col ?? 0 };
}

function headName(rule: Node): string {
  const head = rule.head as Node;
  if (typeof head.name === 'string') return head.name;
  return ((head.ref ?? []) as Node[]).map((part) => String(part.value)).join('.');
}

/** The path of a plain reference below `input`, or null. */
function inputPath(term: Node | undefined): readonly string[] | null {
  if (term?.type !== 'ref') return null;
  const [head, ...rest] = term.value as Node[];
  if (head?.value !== 'input' || rest.length === 0 || !rest.every((part) => part.type === 'string')) return null;
  return rest.map((part) => String(part.value));
}

const CONSTANTS = new Set(['boolean', 'string', 'number', 'null']);
/** Where a rule that is skipped lets a call through. */
const OBJECTING = new Set(['deny', 'violations', 'obligations']);

/** `input.x.y != constant` has no value where the field is missing: the rule does not fire. */
function* comparisons(rules: readonly Node[], schema: Schema): Generator<Found> {
  for (const rule of rules) {
    const objecting = OBJECTING.has(headName(rule));
    for (const node of nodesOf(rule)) {
      const terms = node.terms;
      if (!Array.isArray(terms) || node.negated === true) continue;
      const [operator, left, right] = terms as Node[];
      if (operatorName(operator) !== 'neq') continue;
      const path = inputPath(left) ?? inputPath(right);
      const constant = CONSTANTS.has(String(left?.type)) ? left : right;
      if (path === null || !CONSTANTS.has(String(constant?.type)) || schema.isAlwaysThere(path)) continue;
      const name = `input.${path.join('.')}`;
      const value = JSON.stringify(constant?.value ?? null);
      yield {
        ...place(node),
        severity: objecting ? 'error' : 'warning',
        code: 'not-equal-on-optional',
        message: `${name} may be missing, and then "!= ${value}" has no value and the rule is skipped; write "not ${name} == ${value}"`,
      };
    }
  }
}

function operatorName(term: Node | undefined): string {
  return term?.type === 'ref' ? ((term.value as Node[]) ?? []).map((part) => String(part.value)).join('.') : '';
}

function* nodesOf(node: unknown): Generator<Node> {
  if (Array.isArray(node)) for (const each of node) yield* nodesOf(each);
  else if (typeof node === 'object' && node !== null) {
    yield node as Node;
    for (const name in node) if (name !== 'location') yield* nodesOf((node as Node)[name]);
  }
}

/** Lines that follow a block of metadata with `entrypoint: true`. */
function entrypointLines(text: string): ReadonlySet<number> {
  const lines = text.split('\n');
  const found = new Set<number>();
  for (const [index, line] of lines.entries()) {
    if (!/^#\s+entrypoint:\s+true\s*$/.test(line)) continue;
    let next = index + 1;
    while (lines[next]?.startsWith('#')) next++;
    found.add(next + 1);
  }
  return found;
}

/** A boolean answer that others ask for must exist whatever the input is. */
function* defaults(rules: readonly Node[], entrypoints: ReadonlySet<number>): Generator<Found> {
  const withDefault = new Set(rules.filter((rule) => rule.default === true).map(headName));
  const seen = new Set<string>();
  for (const rule of rules) {
    const head = rule.head as Node;
    const name = headName(rule);
    const value = head.value as Node | undefined;
    const boolean =
      head.key === undefined && head.args === undefined && (value === undefined || value.type === 'boolean');
    const asked = name === 'allow' || entrypoints.has(place(rule).line);
    if (!boolean || !asked || withDefault.has(name) || seen.has(name)) continue;
    seen.add(name);
    yield {
      ...place(rule),
      severity: 'warning',
      code: 'missing-default',
      message: `${name} is undefined where no rule holds; add "default ${name} := false"`,
    };
  }
}

function* sameRules(rules: readonly Node[]): Generator<Found> {
  const groups = new Map<string, Node[]>();
  for (const rule of rules) {
    if (rule.default === true || !hasConstant(rule.body)) continue;
    const shape = `${headName(rule)} ${JSON.stringify([outline(rule.head, false), outline(rule.body, false)])}`;
    groups.set(shape, [...(groups.get(shape) ?? []), rule]);
  }
  for (const group of groups.values()) {
    const [first] = group;
    if (first === undefined || group.length < MANY_RULES) continue;
    yield {
      ...place(first),
      severity: 'warning',
      code: 'rules-should-be-data',
      message: `${group.length} rules ${headName(first)} differ in nothing but constants: each is tried in turn; put the constants into data and look them up in one rule`,
    };
  }
}

function hasConstant(body: unknown): boolean {
  for (const node of nodesOf(body)) if (CONSTANTS.has(String(node.type)) && node.value !== true) return true;
  return false;
}

/** The tree without places and constants; the names in references stay, they are no constants. */
function outline(node: unknown, inReference: boolean): unknown {
  if (Array.isArray(node)) return node.map((each) => outline(each, inReference));
  if (typeof node !== 'object' || node === null) return node;
  const term = node as Node;
  if (!inReference && CONSTANTS.has(String(term.type))) return term.type;
  const out: Record<string, unknown> = {};
  for (const name in term) if (name !== 'location') out[name] = outline(term[name], term.type === 'ref');
  return out;
}
