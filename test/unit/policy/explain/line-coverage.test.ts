/** Which lines a decision reached, held against what OPA's own evaluator says of the same policy and input. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import type { JsonObject, JsonValue } from '../../../../src/core/json.ts';
import { loadBundle } from '../../../../src/policy/bundle.ts';
import { readTarGz } from '../../../../src/policy/bundle-format.ts';
import type { LineRange } from '../../../../src/policy/explain/line-coverage.ts';
import { Profiler } from '../../../../src/policy/explain/profile.ts';
import { findOpa, run } from '../../../../src/policy/opa-command.ts';
import { type Plan, parsePlan, readPlan } from '../../../../src/policy/plan/plan.ts';
import { fromJson } from '../../../../src/policy/wasm/values.ts';
import { policyInput } from '../../../helpers/policy-input.ts';

const opa = await findOpa();
const skipped = opa.path === null && process.env.CI !== 'true';
if (skipped) console.warn(`skipped: ${opa.message}`);

const scratch = await mkdtemp(join(tmpdir(), 'portcullis-lines-'));
afterAll(() => rm(scratch, { recursive: true, force: true }));

const folder = (path: string): string => fileURLToPath(new URL(`../../../../${path}`, import.meta.url));
const EXACT = ['--disable-indexing', '--disable-early-exit'];

interface Report {
  readonly coverage: { readonly files: Record<string, { readonly covered?: { readonly start: { row: number } }[] }> };
}

/** `file:line` of everything that OPA has evaluated. */
async function byOpa(dir: string, entrypoint: string, input: JsonValue, flags: readonly string[]) {
  const name = join(scratch, `${Math.random()}.json`);
  await writeFile(name, JSON.stringify(input));
  const data = (await readdir(dir)).filter((file) => /^data\.json$|(?<!_test)\.rego$/.test(file));
  const what = [
    '-i',
    name,
    ...flags,
    ...data.flatMap((file) => ['-d', file]),
    `data.${entrypoint.replaceAll('/', '.')}`,
  ];
  const options = ['--coverage', '--coverage-runs=', '--format', 'json'];
  const { stdout } = await run(opa.path ?? 'opa', ['eval', ...options, ...what], { cwd: dir });
  const { files } = (JSON.parse(stdout) as Report).coverage;
  const lines = Object.entries(files).flatMap(([file, { covered = [] }]) =>
    covered.map(({ start }) => `${file}:${start.row}`),
  );
  return [...new Set(lines)].sort();
}

const rowsOf = (ranges: readonly LineRange[]): readonly number[] =>
  ranges.flatMap(([from, to]) => Array.from({ length: to - from + 1 }, (_, i) => from + i));

function byPlan(plan: Plan, data: JsonValue, entrypoint: string, input: JsonValue): readonly string[] {
  const profiler = new Profiler(plan, fromJson(data));
  profiler.add(entrypoint, fromJson(input), Date.now(), 0);
  const { files } = profiler.coverage();
  return files
    .flatMap(({ file, reached, partly }) => [...rowsOf(reached), ...rowsOf(partly)].map((row) => `${file}:${row}`))
    .sort();
}

describe.skipIf(skipped)('the lines a decision reaches are those of opa eval --coverage', () => {
  test('for the shipped policies, without its index and early exit; with them it reports no others', async () => {
    const policies = folder('policies');
    const bundle = await loadBundle({ bundleDir: policies, dataFile: null });
    if (bundle.plan === null) throw new Error('the bundle in the repository has no plan');
    const plan = readPlan(bundle.plan);
    const base = policyInput() as unknown as JsonObject;
    const inputs: readonly JsonValue[] = [
      policyInput({ role: 'analyst', tool_type: 'mutation', sensitivity_level: 'high' }) as unknown as JsonObject,
      { ...base, action: 'gateway:llm:invoke', llm: { model: 'm', provider: 'p' } },
      { ...base, action: 'http:GET' },
      { ...base, action: 'a2a:delegate', source_agent: { id: 'a' }, target_agent: { id: 'b' } },
      {},
    ];
    const compared = inputs.map(async (input, i) => {
      const entrypoint = 'portcullis/main/decision';
      const ours = byPlan(plan, bundle.data, entrypoint, input);
      expect(ours, `input ${i}`).toEqual(await byOpa(policies, entrypoint, input, EXACT));
      if (i > 0) return;
      const skipping = await byOpa(policies, entrypoint, input, []);
      expect(skipping.filter((line) => !ours.includes(line))).toEqual([]);
      expect(skipping.length).toBeLessThan(ours.length);
    });
    await Promise.all(compared);
  }, 30_000);

  test('for every form of rule and expression', async () => {
    const forms = folder('test/corpus/policy/forms');
    const archive = join(scratch, 'forms.tar.gz');
    const flags = ['-t', 'plan', '-O', '0', '--prune-unused', '-e', 'forms/decision', '-o', archive];
    const built = await run(opa.path ?? 'opa', ['build', ...flags, '.'], { cwd: forms });
    expect(built.status, built.stderr).toBe(0);
    const plan = parsePlan(
      readTarGz(await readFile(archive))
        .get('plan.json')
        ?.toString('utf8') ?? '',
    );
    const inputs: readonly JsonValue[] = [
      {},
      { names: ['q', 'a'], z: true, table: { a: 1, b: 2 }, pairs: { a: 'b' } },
      { names: ['x', '', 'bad'], z: false, base: 9, table: { x: { y: 2 } } },
      { names: ['q'], pairs: ['u', 'v'] },
    ];
    const compared = inputs.map(async (input) => {
      const ours = byPlan(plan, {}, 'forms/decision', input);
      expect(ours, JSON.stringify(input)).toEqual(await byOpa(forms, 'forms/decision', input, EXACT));
    });
    await Promise.all(compared);
  }, 30_000);
});
