/**
 * Compiles a directory of Rego into the bundle the gateway loads, and runs its tests. Needs a compiler; everything that
 * only evaluates does not. Source: contracts 3 and 5, architecture 8.
 */
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative, resolve, sep } from 'node:path';
import { gzipSync } from 'node:zlib';
import { makeDirectory } from '../config/directories.ts';
import { findBindings } from './binding-sources.ts';
import type { RouteClaim } from './bindings.ts';
import type { BundleManifest } from './bundle-format.ts';
import { readTarGz } from './bundle-format.ts';
import { findLogSources } from './log-sources.ts';
import type { OpaCommand } from './opa-command.ts';
import { findOpa, run } from './opa-command.ts';
import { readSet } from './read-set.ts';

/** A fault in a source, as the compiler places it; line and column count from 1, 0 where it gave none. */
export interface CompileProblem {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly message: string;
}

export type CompileResult =
  | {
      readonly kind: 'compiled';
      readonly manifest: BundleManifest;
      readonly wasm: Buffer;
      readonly plan: Buffer;
      readonly out: string | null;
    }
  /** The policies are at fault. */
  | { readonly kind: 'rejected'; readonly problems: readonly CompileProblem[] }
  /** There is nothing to compile with; the message says how to get it. */
  | { readonly kind: 'no-compiler'; readonly message: string };

export interface CompileOptions {
  /** Directory to write `policy.wasm` and `manifest.json` to; absent: nothing is written. */
  readonly out?: string;
  /** Entrypoints besides those the sources mark with `# METADATA` `entrypoint: true`. */
  readonly entrypoints?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

/** Tests and data are no part of the module: data is loaded beside it, so that it can change without a compiler. */
const IGNORED = ['*_test.rego', '*.json', '*.yaml', '*.yml'];
const ignoreFlags = IGNORED.flatMap((pattern) => ['--ignore', pattern]);

/** Compiles `dir`. Rejects only when files cannot be read or written. */
export async function compile(dir: string, options: CompileOptions = {}): Promise<CompileResult> {
  const opa = await findOpa(options.env);
  if (opa.path === null) return { kind: 'no-compiler', message: opa.message };
  const sources = await sourceDigests(dir);
  const problems = await check(opa, dir);
  if (problems.length > 0) return { kind: 'rejected', problems };
  const records = await findLogSources(dir, Object.keys(sources));
  const built = await build(opa, dir, [...(options.entrypoints ?? []), ...records.entrypoints]);
  if (!('wasm' in built)) return { kind: 'rejected', problems: built.problems };
  const bound = await findBindings(opa, dir, Object.keys(sources), built.entrypoints);
  if ('problems' in bound) return { kind: 'rejected', problems: bound.problems };
  const manifest = await describe(opa, dir, sources, built, { ofRecords: records.files, bindings: bound.claims });
  const out = options.out ?? null;
  if (out !== null) await writeBundle(out, built, manifest);
  return { kind: 'compiled', manifest, wasm: built.wasm, plan: built.plan, out };
}

/**
 * Hex SHA-256 over names and contents of the `.rego` sources of `dir` (tests excluded): differs from the one of a
 * bundle's manifest (`digestOf(manifest.sources)`) exactly when the bundle is stale.
 */
export async function sourceDigest(dir: string): Promise<string> {
  return digestOf(await sourceDigests(dir));
}

/** The digest of a set of sources given by their digests. */
export function digestOf(sources: Readonly<Record<string, string>>): string {
  return sha256(JSON.stringify(Object.entries(sources).sort(([a], [b]) => (a < b ? -1 : 1))));
}

export interface PolicyTestResult {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly tests: readonly PolicyTest[];
  /** Why nothing ran: no compiler, or sources that do not load. */
  readonly error: string | null;
}

export interface PolicyTest {
  readonly package: string;
  readonly name: string;
  readonly outcome: 'passed' | 'failed' | 'skipped';
  readonly file: string;
  readonly line: number;
  /** Of a test of many cases: the names that lead to each. */
  readonly cases?: readonly (readonly string[])[];
  /** Why there was no answer, where that is known. */
  readonly reason?: string;
}

/** Runs the `*_test.rego` of `dir` with its data, as `opa test` does. */
export async function runOpaTests(dir: string, env?: NodeJS.ProcessEnv): Promise<PolicyTestResult> {
  const opa = await findOpa(env);
  if (opa.path === null) return { passed: 0, failed: 0, skipped: 0, tests: [], error: opa.message };
  // A schema is no data, and two of them would contradict each other at the root.
  // A busy machine may take longer over one test than the five seconds opa gives it; the run as a whole has an end.
  const flags = ['--format', 'json', '--timeout', '30s', '--ignore', '*.schema.json'];
  const result = await run(opa.path, ['test', ...flags, '.'], { cwd: dir });
  const rows = parseJson(result.stdout);
  if (!Array.isArray(rows)) {
    return { passed: 0, failed: 0, skipped: 0, tests: [], error: (result.stderr || result.stdout).trim() };
  }
  const tests = rows.map(toPolicyTest);
  const count = (outcome: PolicyTest['outcome']): number => tests.filter((test) => test.outcome === outcome).length;
  return { passed: count('passed'), failed: count('failed'), skipped: count('skipped'), tests, error: null };
}

interface OpaTestRow {
  readonly package: string;
  readonly name: string;
  readonly fail?: boolean;
  readonly error?: unknown;
  readonly skip?: boolean;
  readonly sub_results?: OpaCases;
  readonly location?: { readonly file?: string; readonly row?: number };
}

interface OpaCases {
  readonly [name: string]: { readonly sub_results?: OpaCases };
}

function casesOf(cases: OpaCases, above: readonly string[] = []): readonly (readonly string[])[] {
  return Object.entries(cases).flatMap(([name, { sub_results: below }]) =>
    below === undefined ? [[...above, name]] : casesOf(below, [...above, name]),
  );
}

function toPolicyTest(row: OpaTestRow): PolicyTest {
  const failed = row.fail === true || row.error !== undefined;
  return {
    package: row.package.replace(/^data\./, ''),
    name: row.name,
    outcome: row.skip === true ? 'skipped' : failed ? 'failed' : 'passed',
    file: row.location?.file ?? '',
    line: row.location?.row ?? 0,
    ...(row.sub_results === undefined ? {} : { cases: casesOf(row.sub_results) }),
  };
}

/** `opa check --strict` gives its findings as JSON, which `opa build` does not. */
async function check(opa: OpaCommand, dir: string): Promise<CompileProblem[]> {
  const result = await run(opa.path, ['check', '--strict', '--format', 'json', ...ignoreFlags, '.'], { cwd: dir });
  return result.status === 0 ? [] : problemsOf(result.stderr || result.stdout);
}

interface OpaErrors {
  readonly errors?: readonly {
    readonly message: string;
    readonly location?: { readonly file?: string; readonly row?: number; readonly col?: number };
  }[];
}

function problemsOf(text: string): CompileProblem[] {
  const errors = (parseJson(text) as OpaErrors | null)?.errors;
  if (errors === undefined) return problemsOfText(text);
  return errors.map(({ message, location }) => ({
    file: location?.file ?? '',
    line: location?.row ?? 0,
    column: location?.col ?? 0,
    message,
  }));
}

/** `main.rego:12: rego_type_error: …`, one per line; anything else is kept whole. */
function problemsOfText(text: string): CompileProblem[] {
  const found = [...text.matchAll(/(\S+\.rego):(\d+):(?:(\d+):)? ?(.+)/g)].map((match) => ({
    file: match[1] ?? '',
    line: Number(match[2]),
    column: Number(match[3] ?? 0),
    message: match[4] ?? '',
  }));
  return found.length > 0 ? found : [{ file: '', line: 0, column: 0, message: text.trim() }];
}

interface Built {
  readonly wasm: Buffer;
  /** JSON text of the same rules in OPA's intermediate representation. */
  readonly plan: Buffer;
  readonly entrypoints: readonly string[];
}

interface BuildFault {
  readonly problems: readonly CompileProblem[];
}

/** The module, and the plan of the same rules: what explains a decision. A bundle holds one of the two: built twice. */
async function build(opa: OpaCommand, dir: string, entrypoints: readonly string[]): Promise<Built | BuildFault> {
  const files = await buildTarget(opa, dir, entrypoints, 'wasm');
  if ('problems' in files) return files;
  const wasm = files.get('policy.wasm');
  const manifest = parseJson(files.get('.manifest')?.toString('utf8') ?? '') as OpaManifest | null;
  if (wasm === undefined || manifest?.wasm === undefined)
    throw new Error('the compiler made a bundle without a module');
  const planned = await buildTarget(opa, dir, entrypoints, 'plan');
  if ('problems' in planned) return planned;
  const plan = planned.get('plan.json');
  if (plan === undefined) throw new Error('the compiler made a bundle without a plan');
  return { wasm, plan, entrypoints: manifest.wasm.map((each) => each.entrypoint) };
}

/** Runs with `dir` as working directory: positions inside the module then do not depend on where it was built. */
async function buildTarget(
  opa: OpaCommand,
  dir: string,
  entrypoints: readonly string[],
  target: 'wasm' | 'plan',
): Promise<ReadonlyMap<string, Buffer> | BuildFault> {
  const temporary = await mkdtemp(join(tmpdir(), 'portcullis-build-'));
  try {
    const archive = join(temporary, 'bundle.tar.gz');
    const wanted = entrypoints.flatMap((name) => ['-e', name]);
    // Without --prune-unused whatever depends on an entrypoint becomes one too, functions included, which fails.
    const flags = ['-t', target, '-O', '0', '--prune-unused', ...ignoreFlags, ...wanted, '-o', archive];
    const result = await run(opa.path, ['build', ...flags, '.'], { cwd: dir });
    if (result.status !== 0) return { problems: problemsOf(result.stderr || result.stdout) };
    return readTarGz(await readFile(archive));
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

interface OpaManifest {
  readonly wasm?: readonly { readonly entrypoint: string }[];
}

async function describe(
  opa: OpaCommand,
  dir: string,
  sources: Readonly<Record<string, string>>,
  built: Built,
  { ofRecords, bindings }: { readonly ofRecords: readonly string[]; readonly bindings: readonly RouteClaim[] },
): Promise<BundleManifest> {
  const wasm = sha256(built.wasm);
  return {
    revision: `sha256:${sha256(`${wasm}\n${digestOf(sources)}`)}`,
    sources,
    wasm,
    plan: sha256(built.plan),
    entrypoints: Object.fromEntries(built.entrypoints.map((name, id) => [name, id])),
    ...(bindings.length === 0 ? {} : { bindings }),
    opa: opa.version,
    input_paths: await readSet(
      opa,
      dir,
      Object.keys(sources).filter((name) => !ofRecords.includes(name)),
    ),
  };
}

/** Each file appears whole or not at all: a reader never sees half a module. The manifest comes last. */
async function writeBundle(out: string, { wasm, plan }: Built, manifest: BundleManifest): Promise<void> {
  makeDirectory(out);
  await replaceFile(join(out, 'policy.wasm'), wasm);
  // A plan is mostly repetition: a fifteenth of its size when packed.
  await replaceFile(join(out, 'plan.json.gz'), gzipSync(plan, { level: 9 }));
  await replaceFile(join(out, 'manifest.json'), manifestText(manifest));
}

/** One path per line: a change of the read set is a change of as many lines. */
function manifestText(manifest: BundleManifest): string {
  const text = JSON.stringify(manifest, null, 2);
  const oneLine = (list: string): string => `[${list.slice(1, -1).trim().replaceAll(/,\s+/g, ', ')}]`;
  return `${text.replaceAll(/\[(?:\s+"[^"]*",?)+\s+\]/g, oneLine)}\n`;
}

async function replaceFile(path: string, content: string | Buffer): Promise<void> {
  const partial = `${path}.${process.pid}`;
  await writeFile(partial, content);
  await rename(partial, path);
}

/** The `.rego` sources below `dir`, tests excluded, as sorted paths with `/`. */
export async function sourceNames(dir: string): Promise<readonly string[]> {
  const root = resolve(dir);
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && entry.name.endsWith('.rego') && !entry.name.endsWith('_test.rego'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).split(sep).join('/'))
    .sort();
}

async function sourceDigests(dir: string): Promise<Record<string, string>> {
  const root = resolve(dir);
  const names = await sourceNames(dir);
  const digests: Record<string, string> = {};
  for (const name of names) digests[name] = sha256(await readFile(join(root, name)));
  return digests;
}

function sha256(content: string | Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
