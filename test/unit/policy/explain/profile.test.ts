import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writeReplayLog } from '../../../../bench/replay.ts';
import { explainCommand } from '../../../../src/cli/explain.ts';
import { policyCommand } from '../../../../src/cli/policy.ts';
import type { JsonObject, JsonValue } from '../../../../src/core/json.ts';
import { type Bundle, loadBundle } from '../../../../src/policy/bundle.ts';
import { compile } from '../../../../src/policy/compiler.ts';
import { type Explanation, explain } from '../../../../src/policy/explain/explain.ts';
import { Profiler } from '../../../../src/policy/explain/profile.ts';
import { renderExplanation } from '../../../../src/policy/explain/render.ts';
import { findOpa } from '../../../../src/policy/opa-command.ts';
import { interpret } from '../../../../src/policy/plan/interpreter.ts';
import { type Plan, parsePlan, readPlan } from '../../../../src/policy/plan/plan.ts';
import { fromJson } from '../../../../src/policy/wasm/values.ts';
import { policyInput } from '../../../helpers/policy-input.ts';
import { fakeIo } from '../../cli/fake-io.ts';

const opa = await findOpa();
const skipped = opa.path === null && process.env.CI !== 'true';
if (skipped) console.warn(`skipped: ${opa.message}`);

const policies = fileURLToPath(new URL('../../../../policies', import.meta.url));
const scratch = await mkdtemp(join(tmpdir(), 'portcullis-profile-'));
afterAll(() => rm(scratch, { recursive: true, force: true }));

const NOON = Date.UTC(2025, 0, 15, 10, 30);
const entrypoint = 'portcullis/main/decision';
const NO_TEXTS = { line: () => null, slice: () => null };

/** The lines have their numbers in the expectations below. */
const SMALL = `package small

default allow := false

allow if {
	some role in input.roles
	grants(role)
}

grants(role) if role == "admin"

grants(role) if data.extra[role]

labels contains label if some label in input.labels

decision := {"allow": allow, "labels": labels, "Bearer hunter2hunter2hunter2hunter2hunter2": 1}
`;

describe.skipIf(skipped)('the profile of a small policy', () => {
  const dir = join(scratch, 'small');
  let bundle: Bundle;

  beforeAll(async () => {
    await mkdir(dir);
    await writeFile(join(dir, 'small.rego'), SMALL);
    const result = await compile(dir, { out: join(dir, 'bundle'), entrypoints: ['small/decision'] });
    if (result.kind !== 'compiled') throw new Error(JSON.stringify(result));
    bundle = await loadBundle({ bundleDir: dir, dataFile: null });
  });

  const explained = (input: JsonObject): Explanation =>
    explain(bundle, dir, { entrypoint: 'small/decision', input, now: NOON, repeat: 3, coverage: true });

  test('counts what a person counts who reads its plan', () => {
    const { profile } = explained({ roles: ['guest', 'admin'], labels: ['a', 'b', 'c'] });
    const counted = profile?.rules.map(({ rule, at, calls, fired, undefined: not, statements }) =>
      [rule, at, calls, fired, not, statements].join(' '),
    );
    // grants: 9 statements for the guest and 11 for the admin; labels: 5 and 3 for each of the labels.
    expect(counted?.toSorted()).toEqual([
      '(entrypoint)  1 1 0 5',
      'small.allow small.rego:5 1 1 0 15',
      'small.decision small.rego:16 1 1 0 15',
      'small.grants small.rego:10 2 1 1 20',
      'small.labels small.rego:14 1 1 0 14',
    ]);
    expect(profile).toMatchObject({ timed_in: 'plan-interpreter', inputs: 1, repeats: 3, calls: 5, statements: 69 });
    expect(profile?.lines.map(({ at, statements, failed }) => `${at} ${statements} ${failed}`)).toEqual([
      'small.rego:16 15 0',
      'small.rego:14 14 0',
      'small.rego:10 12 2',
      'small.rego:12 8 4',
      'small.rego:6 6 0',
      'small.rego:5 4 0',
      'small.rego:7 3 1',
      'small.rego:3 2 1',
    ]);
  });

  test('comes with the lines that were reached, in part and not', () => {
    const admin = explained({ roles: ['guest', 'admin'], labels: ['a'] }).coverage?.files;
    expect(admin).toEqual([
      { file: 'small.rego', reached: [[5, 7], [10, 10], [14, 14], [16, 16]], partly: [[12, 12]], not_reached: [[3, 3]] }, // biome-ignore format: one line
    ] as unknown);
    const nobody = explained({}).coverage?.files;
    expect(nobody).toEqual([
      { file: 'small.rego', reached: [[3, 3], [6, 6], [16, 16]], partly: [[14, 14]], not_reached: [[5, 5], [7, 7], [10, 10], [12, 12]] }, // biome-ignore format: one line
    ] as unknown);
  });

  test('shows no value of input or data, and no secret that stands in a source', () => {
    const input = { roles: ['admin', 'Bearer abcdefghijklmnopqrstuvwxyz0123456789'], labels: ['visible-label'] };
    const { profile, coverage } = explained(input);
    const text = JSON.stringify({ profile, coverage });
    expect(text).toContain('decision := {');
    for (const hidden of ['abcdefghijklmnop', 'visible-label', 'hunter2']) expect(text).not.toContain(hidden);
    // Beside the profile the lines of rules that fired are shown, and values with their names.
    const all = explained(input);
    for (const hidden of ['abcdefghijklmnop', 'hunter2']) {
      expect(JSON.stringify(all) + renderExplanation(all).join('\n')).not.toContain(hidden);
    }
  });

  test.each([
    ['a password of which the end is cut off', `${'x'.repeat(150)} postgres://user:hunter2${'y'.repeat(100)}@db/`],
    ['a key of which hardly more than the beginning is left', `${'x'.repeat(185)} sk-hunter2${'y'.repeat(40)}`],
    ['a name', 'Bearer hunter2hunter2'],
  ])('hides %s', (_, secret) => {
    const all = explained({ labels: [secret], roles: [] });
    expect(JSON.stringify(all)).toContain('labels');
    expect(JSON.stringify(all)).not.toContain('hunter2');
  });

  test('is printed as tables, with where the times come from', async () => {
    await writeFile(join(scratch, 'small.json'), JSON.stringify({ roles: ['admin'], labels: [] }));
    const { io, written } = fakeIo({ cwd: scratch });
    const argv = ['--input', 'small.json', '--bundle', dir, '--entrypoint', 'small/decision'];
    expect(await explainCommand([...argv, '--profile', '--repeat', '2', '--coverage'], io)).toBe(0);
    expect(written.out).toContain('median of 2 runs in the interpreter of the plan, not in WASM');
    expect(written.out).toMatch(
      / 1 {6}1 {10}0 {10}11 {2}small\.grants +small\.rego:10 +grants\(role\) if role == "admin"/,
    );
    expect(written.out).toContain('small.rego: 7 of 8 lines reached');
    expect(written.out).toContain('  in part      12, 14');
    await expect(explainCommand([...argv, '--repeat', '2'], io)).rejects.toThrow('goes with --profile');
    for (const odd of ['0', '1.5', 'x', '10001']) {
      await expect(explainCommand([...argv, '--profile', '--repeat', odd], io)).rejects.toThrow('from 1 to 10000');
    }
  });
});

describe('the profile of the shipped policies', () => {
  let bundle: Bundle;
  let plan: Plan;

  beforeAll(async () => {
    bundle = await loadBundle({ bundleDir: policies, dataFile: null });
    if (bundle.plan === null) throw new Error('the bundle in the repository has no plan');
    plan = readPlan(bundle.plan);
  });

  const inputs = (): readonly JsonValue[] => {
    const base = policyInput() as unknown as JsonObject;
    return [
      base,
      policyInput({ role: 'analyst', tool_type: 'mutation', sensitivity_level: 'high' }) as unknown as JsonObject,
      policyInput({ role: 'none', production: true, approved: true }) as unknown as JsonObject,
      { ...base, action: 'gateway:llm:invoke', llm: { model: 'm', provider: 'p' } },
      { ...base, action: 'http:GET' },
      { ...base, action: 'a2a:delegate', source_agent: { id: 'a' }, target_agent: { id: 'b' } },
      { ...base, calls: [{ tool_name: 'a' }, { tool_name: 'b', action: 'approvals:decide' }] },
      {},
    ];
  };

  test('accounts for every statement that is executed, and is the same on every run', () => {
    const data = fromJson(bundle.data);
    const all = new Profiler(plan, data);
    let steps = 0;
    for (const input of inputs()) {
      for (const name of [entrypoint, 'portcullis/main/decisions']) {
        const one = new Profiler(plan, data);
        const again = new Profiler(plan, data);
        const plain = interpret(plan, name, fromJson(input), data, NOON);
        for (const profiler of [one, again, all]) profiler.add(name, fromJson(input), NOON, 1);
        steps += plain.steps;
        const { rules, ...profile } = one.profile(NO_TEXTS);
        expect(profile.statements).toBe(plain.steps);
        expect(rules.reduce((sum, { statements }) => sum + statements, 0)).toBe(plain.steps);
        expect(rules.every(({ calls, fired, undefined: not }) => calls === fired + not && calls > 0)).toBe(true);
        // Rows without a place (row 0) are of no line; of the others none is counted twice.
        const byLine = profile.lines.reduce((sum, { statements }) => sum + statements, 0);
        expect(byLine).toBeLessThanOrEqual(plain.steps);
        const counts = (profiler: Profiler) =>
          Object.fromEntries(
            profiler.profile(NO_TEXTS).rules.map(({ rule, calls, statements }) => [rule, { calls, statements }]),
          );
        expect(counts(again)).toEqual(counts(one));
        expect(again.coverage()).toEqual(one.coverage());
      }
    }
    const sum = all.profile(NO_TEXTS);
    expect(sum).toMatchObject({ statements: steps, inputs: 2 * inputs().length, repeats: 1, rules_left_out: 0 });
  });

  test('gives times that add up: own times to that of the whole, and none above what it is part of', () => {
    const profiler = new Profiler(plan, fromJson(bundle.data));
    profiler.add(entrypoint, fromJson(policyInput() as unknown as JsonValue), NOON, 1);
    const { rules, total_us } = profiler.profile(NO_TEXTS);
    const own = rules.reduce((sum, { own_us }) => sum + own_us, 0);
    expect(Math.abs(own - total_us)).toBeLessThan(0.01 * rules.length + 0.01);
    expect(rules.every(({ own_us, total_us: total }) => own_us >= 0 && own_us <= total + 0.01)).toBe(true);
    expect(rules.map(({ own_us }) => own_us)).toEqual(rules.map(({ own_us }) => own_us).toSorted((a, b) => b - a));
    expect(rules.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 1);
  });

  test('ends when its time is up: before the count with a fault, later with fewer runs', () => {
    // The clock is looked at every thousand statements.
    const calls = Array.from({ length: 20 }, (_, i) => ({ tool_name: `t${i}` }));
    const list = fromJson({ ...policyInput(), calls } as unknown as JsonValue);
    const late = new Profiler(plan, fromJson(bundle.data), performance.now() - 1);
    expect(() => late.add('portcullis/main/decisions', list, NOON, 1)).toThrow('takes too long');
    expect(late.profile(NO_TEXTS)).toMatchObject({ inputs: 0, statements: 0, rules: [{ rule: '(entrypoint)' }] });
    const one = { type: 'MakeNullStmt', stmt: { target: 2, file: 0, row: 1, col: 1 } };
    const tiny = parsePlan(JSON.stringify({ plans: { plans: [{ name: 'a/b', blocks: [{ stmts: [one] }] }] } }));
    const soon = new Profiler(tiny, null, performance.now() + 50);
    soon.add('a/b', null, NOON, 1_000_000_000);
    const { repeats, statements } = soon.profile(NO_TEXTS);
    expect(statements).toBe(1);
    expect(repeats).toBeLessThan(1_000_000_000);
  });
});

test('the form of a profile and of coverage is the documented one', async () => {
  const page = await readFile(fileURLToPath(new URL('../../../../docs/policy-operations.md', import.meta.url)), 'utf8');
  const block = /```json\n("profile": .*?)```/s.exec(page)?.[1] ?? '';
  const bundle = await loadBundle({ bundleDir: policies, dataFile: null });
  const input = policyInput() as unknown as JsonObject;
  const { profile, coverage } = explain(bundle, policies, { entrypoint, input, now: NOON, repeat: 1, coverage: true });
  /** Names of members, at any depth, with the kinds of what they hold; of lists those of the first member. */
  const form = (value: JsonValue): JsonValue => {
    if (Array.isArray(value)) return value.slice(0, 1).map((one) => form(one as JsonValue));
    if (typeof value !== 'object' || value === null) return typeof value;
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, form(one as JsonValue)]));
  };
  const rules = profile?.rules.filter(({ at }) => at !== null);
  const files = coverage?.files.filter(({ file }) => file === 'gateway.rego');
  const actual = { profile: { ...profile, rules }, coverage: { ...coverage, files } } as unknown as JsonValue;
  expect(form(actual)).toEqual(form(JSON.parse(`{${block}}`) as JsonValue));
});

test('a decision of the past is measured by its id, and what its record does not hold is named', async () => {
  const log = join(scratch, 'masked.jsonl');
  await writeReplayLog(log, 3);
  const [, second = ''] = (await readFile(log, 'utf8')).split('\n');
  const event = { ...(JSON.parse(second) as { req_id: string }), masked: ['/input/parameters/token'] };
  await writeFile(log, JSON.stringify(event));
  const { io, written } = fakeIo({ cwd: scratch });
  const argv = [event.req_id, '--log', log, '--bundle', policies, '--profile', '--repeat', '1', '--coverage'];
  expect(await explainCommand(argv, io)).toBe(0);
  expect(written.out).toContain('not in the record, so perhaps decided otherwise then: /input/parameters/token');
  expect(written.out).toMatch(/\d+ statements in \d+ calls of rules/);
  expect(written.out).toMatch(/^main\.rego: \d+ of \d+ lines reached$/m);
});

test('portcullis policy eval --profile sums over its documents on standard error, beside the values', async () => {
  const documents = [policyInput(), { input: policyInput({ role: 'none' }), clock: '2025-01-15T10:30:00Z' }];
  const text = `${documents.map((one) => JSON.stringify(one)).join('\n')}\nnot json\n`;
  await writeFile(join(scratch, 'documents.jsonl'), text);
  const run = async (...flags: string[]) => {
    const { io, written } = fakeIo({ cwd: scratch });
    const argv = ['eval', '--jsonl', 'documents.jsonl', '--bundle', policies, ...flags];
    return { code: await policyCommand(argv, io), ...written };
  };
  const plain = await run('--clock', '2025-01-15T10:30:00Z');
  const profiled = await run('--clock', '2025-01-15T10:30:00Z', '--profile', '--repeat', '1', '--json');
  expect(plain.err).toBe('');
  expect(profiled).toMatchObject({ code: plain.code, out: plain.out });
  expect(JSON.parse(profiled.err)).toMatchObject({ not_profiled: 0, profile: { inputs: 2, repeats: 1 } });
  expect((await run('--profile', '--repeat', '2')).err).toMatch(/over 2 inputs\ntimes: median of 2 runs/);
});

describe('portcullis policy replay --profile', () => {
  const run = async (...argv: string[]) => {
    const { io, written } = fakeIo({ cwd: scratch });
    return { code: await policyCommand(['replay', ...argv, '--bundle', policies], io), ...written };
  };

  test('sums the rules over the events of a log, and says what it could not take', async () => {
    const log = join(scratch, 'decisions.jsonl');
    await writeReplayLog(log, 20);
    const whole = await run(log, '--profile', '--json');
    expect(whole.code).toBe(0);
    const { profile, coverage, ...rest } = JSON.parse(whole.out) as {
      profile: NonNullable<Explanation['profile']>;
      coverage: NonNullable<Explanation['coverage']>;
    };
    expect(rest).toMatchObject({ events: 20, left_out: 0, not_profiled: {} });
    expect(profile).toMatchObject({ inputs: 20, repeats: 3 });
    expect(profile.rules.find(({ rule }) => rule === 'portcullis.main.decision')).toMatchObject({
      calls: 20,
      fired: 20,
    });
    expect(coverage.files.find(({ file }) => file === 'main.rego')?.reached).not.toEqual([]);
    const sampled = await run(log, '--profile', '--sample', '4', '--repeat', '1');
    expect(sampled.out).toMatch(/20 events, \d+ profiled, \d+ left out by --sample/);
    expect(sampled.out).toContain('not in WASM');
  });

  test('ends with 1 where nothing could be profiled, and takes no threads', async () => {
    const log = join(scratch, 'odd.jsonl');
    await writeFile(log, '{"decision_id": "dec_1"}\nnot json\n');
    const { code, out } = await run(log, '--profile');
    expect(code).toBe(1);
    expect(out).toContain('2 not profiled: lines that are no event');
    await expect(run(log, '--profile', '--jobs', '2')).rejects.toThrow('without --jobs');
    await expect(run(log, '--repeat', '2')).rejects.toThrow('goes with --profile');
  });
});
