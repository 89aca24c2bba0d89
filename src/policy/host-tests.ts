/**
 * Runs the tests of a policy where it decides: compiled into a module, in the gateway's own host. What holds for the
 * compiler's interpreter must hold for the module, or the tests prove nothing of the gateway. Source: policy-engine 7.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { JsonValue } from '../core/json.ts';
import { isJsonObject } from '../core/json.ts';
import { readTarGz } from './bundle-format.ts';
import type { PolicyTest, PolicyTestResult } from './compiler.ts';
import { findOpa, run } from './opa-command.ts';
import { BUILTINS } from './wasm/builtins.ts';
import { PolicyHost } from './wasm/host.ts';
import { DEFAULT_LIMITS, PolicyLoadError, PolicyProgram } from './wasm/program.ts';

/** Tests read far more than one decision does. */
const LIMITS = { ...DEFAULT_LIMITS, fuel: DEFAULT_LIMITS.fuel * 100 };

/** The tests that `found` names, run again by the host; those that it skipped stay skipped. */
export async function runHostTests(
  dir: string,
  found: PolicyTestResult,
  env?: NodeJS.ProcessEnv,
  now = Date.now(),
): Promise<PolicyTestResult> {
  const wanted = found.tests.filter(({ outcome }) => outcome !== 'skipped');
  if (found.error !== null || wanted.length === 0) return found;
  const host = await hostOf(dir, [...new Set(wanted.map(entrypointOf))], env);
  if (typeof host === 'string') return { passed: 0, failed: 0, skipped: 0, tests: [], error: host };
  return counted(
    found.tests.map((test) => (test.outcome === 'skipped' ? test : { ...test, ...outcomeOf(host, test, now) })),
  );
}

/** What holds in both. A test that fails says where it did. */
export function inBoth(opa: PolicyTestResult, host: PolicyTestResult): PolicyTestResult {
  if (opa.error !== null || host.error !== null) return opa.error !== null ? opa : host;
  return counted(
    opa.tests.map((test, at) => {
      const other = host.tests[at];
      if (test.outcome === 'failed' || other === undefined || other.outcome === test.outcome) return test;
      return { ...other, reason: `only in the gateway${other.reason === undefined ? '' : `: ${other.reason}`}` };
    }),
  );
}

function counted(tests: readonly PolicyTest[]): PolicyTestResult {
  const count = (outcome: PolicyTest['outcome']): number => tests.filter((test) => test.outcome === outcome).length;
  return { passed: count('passed'), failed: count('failed'), skipped: count('skipped'), tests, error: null };
}

/** As the compiler takes it: parts of a package that are no plain names are quoted there and stand by themselves here. */
function entrypointOf({ package: from, name }: PolicyTest): string {
  const parts = [...from.matchAll(/\[("(?:[^"\\]|\\.)*")\]|[^.[]+/g)];
  return [...parts.map(([plain, quoted]) => (quoted === undefined ? plain : unquoted(quoted))), name].join('/');
}

function unquoted(text: string): string {
  try {
    return JSON.parse(text) as string;
  } catch {
    return text;
  }
}

function outcomeOf(host: PolicyHost, test: PolicyTest, now: number): Pick<PolicyTest, 'outcome' | 'reason'> {
  const outcome = host.evaluate(entrypointOf(test), {}, now);
  if (outcome.kind === 'undefined') return { outcome: 'failed' };
  if (outcome.kind === 'failed') return { outcome: 'failed', reason: `${outcome.failure}: ${outcome.detail ?? ''}` };
  return { outcome: holds(outcome.value, test.cases) ? 'passed' : 'failed' };
}

/** True, or for a test of many cases all of them: a case that does not hold is not in the value. */
function holds(value: JsonValue, cases: PolicyTest['cases']): boolean {
  if (cases === undefined) return value === true;
  return cases.every((path) => {
    let at: JsonValue | undefined = value;
    for (const name of path) at = at !== undefined && isJsonObject(at) ? at[name] : undefined;
    return at === true;
  });
}

/** The host with rules, tests and data of the directory; a sentence where that cannot be. */
async function hostOf(
  dir: string,
  entrypoints: readonly string[],
  env: NodeJS.ProcessEnv | undefined,
): Promise<PolicyHost | string> {
  const opa = await findOpa(env);
  if (opa.path === null) return opa.message;
  const temporary = await mkdtemp(join(tmpdir(), 'portcullis-tests-'));
  try {
    const archive = join(temporary, 'tests.tar.gz');
    const flags = ['-t', 'wasm', '--prune-unused', '--ignore', '*.schema.json', '--ignore', 'bundle'];
    const wanted = entrypoints.flatMap((name) => ['-e', name]);
    const { status, stdout, stderr } = await run(opa.path, ['build', ...flags, ...wanted, '-o', archive, '.'], {
      cwd: dir,
    });
    if (status !== 0) return `the tests cannot be compiled for the gateway: ${(stderr || stdout).trim()}`;
    const files = readTarGz(await readFile(archive));
    const wasm = files.get('policy.wasm') ?? Buffer.alloc(0);
    const program = await PolicyProgram.load(wasm, BUILTINS, LIMITS);
    return new PolicyHost(program, files.get('data.json')?.toString('utf8') ?? '{}');
  } catch (fault) {
    if (!(fault instanceof PolicyLoadError)) throw fault;
    return `the tests cannot run in the gateway: ${fault.message}`;
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}
