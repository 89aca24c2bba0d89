/**
 * OPA's own conformance cases, run through the policy host: read from the Go module that `tools/opa` pins, compiled by
 * the pinned compiler. Each query becomes a rule whose answers are compared with the wanted ones.
 */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import type { JsonObject, JsonValue } from '../../src/core/json.ts';
import { readTarGz } from '../../src/policy/bundle-format.ts';
import { findOpa, run } from '../../src/policy/opa-command.ts';
import { BUILTINS } from '../../src/policy/wasm/builtins.ts';
import { PolicyHost } from '../../src/policy/wasm/host.ts';
import type { BuiltinTable } from '../../src/policy/wasm/imports.ts';
import { DEFAULT_LIMITS, PolicyLoadError, PolicyProgram } from '../../src/policy/wasm/program.ts';

/** One case as OPA writes it down. */
export interface PolicyCase {
  readonly note: string;
  readonly query: string;
  readonly modules?: readonly string[];
  readonly data?: JsonValue;
  readonly input?: JsonValue;
  readonly input_term?: string;
  readonly want_result?: readonly JsonObject[];
  readonly want_error?: string;
  readonly want_error_code?: string;
  readonly want_defined?: boolean;
  readonly sort_bindings?: boolean;
  readonly env?: JsonObject;
  /** Folder and file below OPA's cases. */
  readonly file: string;
}

export type CaseResult =
  | { readonly kind: 'passed' }
  | { readonly kind: 'failed'; readonly got: string }
  /** The policy was refused at load by the names of these builtins. */
  | { readonly kind: 'unsupported'; readonly builtins: readonly string[] }
  /** Nothing a module can be asked: the reason. */
  | { readonly kind: 'not applicable'; readonly reason: string };

/** What is needed to run cases. */
export interface PolicySuite {
  readonly cases: readonly PolicyCase[];
  run(one: PolicyCase): Promise<CaseResult>;
  close(): Promise<void>;
}

/** The suite, or why it cannot be had here. */
export async function openSuite(): Promise<PolicySuite | { readonly missing: string }> {
  const opa = await findOpa();
  if (opa.path === null) return { missing: opa.message };
  const tool = fileURLToPath(new URL('../../tools/opa', import.meta.url));
  const list = ['list', '-mod=readonly', '-m', '-f', '{{.Dir}}', 'github.com/open-policy-agent/opa'];
  let found = await run('go', list, { cwd: tool });
  if (found.status === 0 && found.stdout.trim() === '') {
    await run('go', ['mod', 'download', 'github.com/open-policy-agent/opa'], { cwd: tool });
    found = await run('go', list, { cwd: tool });
  }
  if (found.status !== 0 || found.stdout.trim() === '') return { missing: 'Go is needed: the cases are in its module' };
  const folder = await mkdtemp(join(tmpdir(), 'policy-conformance-'));
  const capabilities = join(folder, 'capabilities.json');
  await writeFile(capabilities, await withTestBuiltins(opa.path));
  return {
    cases: await readCases(join(found.stdout.trim(), 'v1/test/cases/testdata/v1')),
    run: (one) => runCase(one, opa.path, folder, capabilities),
    close: () => rm(folder, { recursive: true, force: true }),
  };
}

/** Runs cases on as many processors as there are and reports each in turn. */
export async function runCases(
  suite: PolicySuite,
  cases: readonly PolicyCase[],
  report: (one: PolicyCase, result: CaseResult) => void,
): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let one = cases[next++]; one !== undefined; one = cases[next++]) report(one, await suite.run(one));
  };
  await Promise.all(Array.from({ length: availableParallelism() + 1 }, worker));
}

async function readCases(root: string): Promise<PolicyCase[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile() && entry.name.endsWith('.yaml'));
  const paths = files.map((entry) => join(entry.parentPath, entry.name)).sort();
  const cases: PolicyCase[] = [];
  for (const path of paths) {
    const document = parse(await readFile(path, 'utf8'), { maxAliasCount: -1 }) as { cases?: PolicyCase[] } | null;
    for (const one of document?.cases ?? []) cases.push({ ...one, file: relative(root, path) });
  }
  return cases;
}

const NUMBER = { type: 'number' };

/** The builtins the cases bring themselves. */
async function withTestBuiltins(opa: string): Promise<string> {
  const { stdout } = await run(opa, ['capabilities', '--current']);
  const capabilities = JSON.parse(stdout) as { builtins: object[] };
  const declare = (name: string, args: object[]) => ({ name, decl: { type: 'function', args, result: NUMBER } });
  capabilities.builtins.push(
    declare('custom_builtin_test', [NUMBER]),
    declare('custom_builtin_test_impure', []),
    declare('custom_builtin_test_memoization', []),
  );
  return JSON.stringify(capabilities);
}

const TABLE: BuiltinTable = new Map([
  ...BUILTINS,
  ['custom_builtin_test', { call: ([value]) => (typeof value === 'number' ? value + 1 : undefined) }],
  ['custom_builtin_test_impure', { call: () => 'foo' }],
  ['custom_builtin_test_memoization', { call: () => 100 }],
]);

const PACKAGE = 'portcullis_conformance';

/** The query as a rule: one member of `answers` for each way to make it true. */
function asRule(one: PolicyCase): string {
  const names = Object.keys(one.want_result?.[0] ?? {});
  const row = one.want_result?.length ? `{${names.map((name) => `"${name}": ${name}`).join(', ')}}` : 'true';
  return `package ${PACKAGE}\n\nanswers contains ${row} if {\n\t${one.query.trim().replaceAll('\n', '\n\t')}\n}\n`;
}

const IN_MODULE = 'answered by code that OPA itself puts into the module';

/** Cases that no host can answer otherwise, by note. */
const DIFFERENT: ReadonlyMap<string, string> = new Map([
  ['data/toplevel integer', IN_MODULE],
  ['data/nested integer', IN_MODULE],
  ['jsonbuiltins/unmarshal number beyond the supported exponent is undefined', IN_MODULE],
  ['jsonbuiltins/unmarshal number with too big an exponent is undefined', IN_MODULE],
  ['strings/format_int: bignum exact (>64-bit integer, all bases + negative)', IN_MODULE],
  ['baseandvirtualdocs/enumerate virtual errors', 'an error in strict mode only, inside a document that has a value'],
]);

const isError = (one: PolicyCase) => one.want_error !== undefined || one.want_error_code !== undefined;

async function runCase(one: PolicyCase, opa: string, folder: string, capabilities: string): Promise<CaseResult> {
  if (one.env !== undefined) return { kind: 'not applicable', reason: 'reads environment variables' };
  const input = inputOf(one);
  if (input === NO_JSON) return { kind: 'not applicable', reason: 'input that is no JSON' };
  const built = await compileCase(one, opa, folder, capabilities);
  if (typeof built === 'string') {
    if (isError(one)) return { kind: 'passed' };
    if (built.includes('rego_recursion_error'))
      return { kind: 'not applicable', reason: 'asks for all of data at once' };
    return { kind: 'not applicable', reason: `does not compile: ${one.note}: ${built.split('\n').at(-1)}` };
  }
  try {
    const program = await PolicyProgram.load(built, TABLE, DEFAULT_LIMITS);
    const host = new PolicyHost(program, JSON.stringify(one.data ?? {}));
    const outcome = host.evaluate(`${PACKAGE}/answers`, input, Date.now());
    const rows = outcome.kind === 'value' ? (outcome.value as readonly JsonValue[]) : null;
    if (judge(one, rows)) return { kind: 'passed' };
    const reason = DIFFERENT.get(one.note);
    return reason === undefined
      ? { kind: 'failed', got: JSON.stringify(outcome) }
      : { kind: 'not applicable', reason: `${reason}: ${one.note}` };
  } catch (fault) {
    const builtins = fault instanceof PolicyLoadError ? /does not have: (.*)$/.exec(fault.message)?.[1] : undefined;
    if (builtins === undefined) return { kind: 'failed', got: String(fault) };
    return { kind: 'unsupported', builtins: builtins.split(', ') };
  }
}

const NO_JSON = Symbol('no JSON');

function inputOf(one: PolicyCase): JsonValue | undefined | typeof NO_JSON {
  if (one.input_term === undefined) return one.input;
  try {
    return JSON.parse(one.input_term) as JsonValue;
  } catch {
    return NO_JSON;
  }
}

/** The module, or what the compiler says. */
async function compileCase(one: PolicyCase, opa: string, folder: string, capabilities: string) {
  const dir = await mkdtemp(join(folder, 'case-'));
  try {
    const sources = [...(one.modules ?? []), asRule(one)];
    const names = sources.map((_, i) => `module${i}.rego`);
    for (const [i, text] of sources.entries()) await writeFile(join(dir, `module${i}.rego`), text);
    const flags = ['-t', 'wasm', '--capabilities', capabilities, '-e', `${PACKAGE}/answers`, '-o', 'bundle.tar.gz'];
    const result = await run(opa, ['build', ...flags, ...names], { cwd: dir });
    if (result.status !== 0) return (result.stdout || result.stderr).trim();
    const wasm = readTarGz(await readFile(join(dir, 'bundle.tar.gz'))).get('policy.wasm');
    if (wasm === undefined) throw new Error(`${one.note}: a bundle without a module`);
    return wasm;
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

function judge(one: PolicyCase, rows: readonly JsonValue[] | null): boolean {
  const none = rows === null || rows.length === 0;
  if (isError(one)) return none;
  if (one.want_defined !== undefined) return none !== one.want_defined;
  const wanted = one.want_result ?? [];
  if (wanted.length === 0) return none;
  const comparable = (list: readonly JsonValue[]) =>
    [...new Set(list.map((row) => JSON.stringify(canonical(row, one.sort_bindings === true))))].sort().join('\n');
  return rows !== null && comparable(rows) === comparable(wanted);
}

/** Keys in order; with `sets`, members of lists as well. */
function canonical(value: JsonValue, sets: boolean): JsonValue {
  if (Array.isArray(value)) {
    const items = value.map((item) => canonical(item as JsonValue, sets));
    return sets ? items.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)) : items;
  }
  if (typeof value !== 'object' || value === null) return value;
  const object = value as JsonObject;
  const keys = Object.keys(object).sort();
  return Object.fromEntries(keys.map((key) => [key, canonical(object[key] ?? null, sets)]));
}
