import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writeReplayLog } from '../../../bench/replay.ts';
import { main } from '../../../src/cli/cli.ts';
import { policyCommand } from '../../../src/cli/policy.ts';
import { measureCoverage } from '../../../src/policy/coverage.ts';
import { findOpa } from '../../../src/policy/opa-command.ts';
import { bundleFiles, makeKey, signedArchive } from '../../helpers/bundles.ts';
import { policyInput } from '../../helpers/policy-input.ts';
import { fakeIo } from './fake-io.ts';

const policies = fileURLToPath(new URL('../../../policies', import.meta.url));
const scratch = await mkdtemp(join(tmpdir(), 'portcullis-measures-'));
afterAll(() => rm(scratch, { recursive: true, force: true }));
const opa = await findOpa();
const missing = opa.path === null && process.env.CI !== 'true' ? opa.message : null;

async function run(...argv: string[]) {
  const { io, written } = fakeIo({ cwd: scratch, env: process.env as Record<string, string> });
  const code = await policyCommand(argv, io);
  return { code, ...written };
}

describe('policy replay', () => {
  beforeAll(() => writeReplayLog(join(scratch, 'decisions.jsonl'), 120));

  test('ends with 0 when nothing changes, and says how much it looked at', async () => {
    const { code, out } = await run('replay', 'decisions.jsonl', '--bundle', policies);
    expect(code).toBe(0);
    expect(out).toContain('120 events, 120 replayed');
    expect(out).toContain('120 unchanged');
  });

  test('ends with 1 when a candidate decides otherwise, and names rule and decisions', async () => {
    const strict = ['--data', join(policies, 'profiles/strict.json')];
    const people = await run('replay', 'decisions.jsonl', '--bundle', policies, ...strict);
    expect(people.code).toBe(1);
    expect(people.out).toMatch(/\d+ allowed then, denied now\n {2}\d+ × \+[A-Z_]+.* e\.g\. dec_/);
    const { out } = await run('replay', 'decisions.jsonl', '--bundle', policies, ...strict, '--json', '--jobs', '2');
    const report = JSON.parse(out) as { differs: boolean; replayed: number; groups: { samples: string[] }[] };
    expect(report).toMatchObject({ differs: true, replayed: 120 });
    expect(report.groups[0]?.samples[0]).toMatch(/^dec_/);
  });

  test('names the rules of the candidate, also of one that is a signed bundle, on several threads', async () => {
    const key = makeKey('ES256');
    const files = await bundleFiles('next', await readFile(join(policies, 'profiles/strict.json'), 'utf8'));
    files.set('plan.json.gz', await readFile(join(policies, 'bundle/plan.json.gz')));
    await writeFile(join(scratch, 'signed.tar.gz'), signedArchive(files, key, 'release'));
    await writeFile(join(scratch, 'release.pub'), key.publicPem);
    const candidate = ['decisions.jsonl', '--bundle', 'signed.tar.gz'];
    const keys = ['--key', 'release.pub', '--signing-alg', 'ES256', '--keyid', 'release'];
    const { out } = await run('replay', ...candidate, ...keys);
    expect(out).toMatch(/\n {4}\d+( of the first 100)?: \w+\.rego:\d+ {2}mcp\.gateway\.[\w.]+.* e\.g\. dec_/);
    const threads = await run('replay', ...candidate, ...keys, '--jobs', '2', '--json');
    const { groups } = JSON.parse(threads.out) as { groups: { rules: { rule: string; samples: string[] }[] }[] };
    expect(groups.flatMap(({ rules }) => rules)).toContainEqual(
      expect.objectContaining({
        at: expect.stringMatching(/\.rego:\d+$/),
        samples: expect.arrayContaining([expect.stringMatching(/^dec_/)]),
      }),
    );
    await expect(run('replay', ...candidate)).rejects.toThrow('is signed, but');
    const { code } = await run('bench', '--bundle', 'signed.tar.gz', ...keys, '--seconds', '0.05', '--json');
    expect(code).toBe(0);
    await writeFile(join(scratch, 'document.json'), JSON.stringify(policyInput()));
    const one = await run('eval', 'portcullis/main/decision', 'document.json', '--bundle', 'signed.tar.gz', ...keys);
    expect(JSON.parse(one.out)).toMatchObject({ allow: expect.any(Boolean) });
  });

  test('counts broken lines, and ends with 1 when nothing could be replayed', async () => {
    await writeFile(join(scratch, 'broken.jsonl'), 'x\n{"a":1}\n');
    const { code, out } = await run('replay', 'broken.jsonl', '--bundle', policies);
    expect(code).toBe(1);
    expect(out).toContain('2 not replayed: lines that are no event (line 1, 2)');
  });

  test('and explain do with a log what docs/policy-operations.md shows', async () => {
    const page = await readFile(fileURLToPath(new URL('../../../docs/policy-operations.md', import.meta.url)), 'utf8');
    const shown = page.match(/^portcullis (?:explain (?:dec|req)_|policy replay ).*$/gm) ?? [];
    expect(shown).toHaveLength(6);
    for (const name of ['policies', 'policies-next']) await symlink(policies, join(scratch, name));
    const policy = { bundle: './policies', decision_log: { file: './decisions.jsonl' } };
    await writeFile(join(scratch, 'portcullis.yaml'), JSON.stringify({ version: 1, policy }));
    const log = (await readFile(join(scratch, 'decisions.jsonl'), 'utf8')).trimEnd().split('\n');
    const { decision_id, req_id } = JSON.parse(log[0] ?? '') as Record<'decision_id' | 'req_id', string>;
    for (const line of shown) {
      const words = line
        .replace(/dec_\w+/, decision_id)
        .replace(/req_\w+/, req_id)
        .split(' ')
        .slice(1);
      const { io, written } = fakeIo({ cwd: scratch, env: {} });
      expect(await main(words, io), `${line}\n${written.err}`).toBe(0);
      expect(written.out, line).toContain('sha256:');
    }
  });

  test('refuses what is not there and numbers that are none', async () => {
    await expect(run('replay')).rejects.toThrow('expected the decision log');
    await expect(run('replay', 'nowhere.jsonl', '--bundle', policies)).rejects.toThrow('there is no');
    await expect(run('replay', 'decisions.jsonl', '--bundle', policies, '--jobs', '0')).rejects.toThrow('--jobs');
    await expect(run('replay', 'decisions.jsonl', '--bundle', policies, '--sample', 'x')).rejects.toThrow('--sample');
  });
});

describe('policy bench', () => {
  test('gives microseconds of a decision, decided and remembered', async () => {
    const { code, out } = await run('bench', '--bundle', policies, '--seconds', '0.05', '--json');
    expect(code).toBe(0);
    const { uncached, cached } = JSON.parse(out) as Record<'uncached' | 'cached', { p50: number; p99: number }>;
    expect(uncached.p50).toBeGreaterThan(0);
    expect(uncached.p99).toBeGreaterThanOrEqual(uncached.p50);
    expect(cached.p50).toBeLessThan(uncached.p50);
  });

  test('takes an input of your own', async () => {
    await writeFile(join(scratch, 'input.json'), JSON.stringify(policyInput()));
    const { out } = await run('bench', 'mcp/gateway/allow', 'input.json', '--bundle', policies, '--seconds', '0.05');
    expect(out).toContain('mcp/gateway/allow');
    expect(out).toMatch(/decided {5}mean [\d.]+ µs, p50 [\d.]+ µs/);
    await expect(run('bench', 'no/such', '--bundle', policies)).rejects.toThrow('no entrypoint no/such');
    await expect(run('bench', '--bundle', policies, '--seconds', '-1')).rejects.toThrow();
  });
});

describe.skipIf(missing !== null)('policy test --coverage', () => {
  // Data files of other tests would be data of these.
  const tested = join(scratch, 'tested');

  beforeAll(async () => {
    await mkdir(tested);
    const rules = 'package a\n\nallow if input.x == 1\n\nallow if {\n\tinput.y == 2\n\tinput.z == 3\n}\n';
    await writeFile(join(tested, 'a.rego'), rules);
    await writeFile(
      join(tested, 'a_test.rego'),
      'package a_test\n\nimport data.a\n\ntest_x if a.allow with input as {"x": 1}\n',
    );
  });

  test('names the lines of the rules that no test reaches', async () => {
    const { code, out } = await run('test', tested, '--coverage');
    expect(code).toBe(0);
    expect(out).toContain('1 passed, 0 failed, 0 skipped');
    expect(out).toMatch(/^a\.rego: [\d.]+ % {2}not covered: .*7/m);
    expect(out).not.toContain('a_test.rego:');
  });

  test('fails below the threshold and only there', async () => {
    expect(await run('test', tested, '--threshold', '95')).toMatchObject({ code: 1 });
    const { code, out } = await run('test', tested, '--coverage', '--threshold', '10', '--json');
    expect(code).toBe(0);
    const { coverage } = JSON.parse(out) as { coverage: { percent: number; files: { uncovered: number[][] }[] } };
    expect(coverage.percent).toBeGreaterThan(10);
    expect(coverage.files[0]?.uncovered.length).toBeGreaterThan(0);
    await expect(run('test', tested, '--coverage', '--threshold', '101')).rejects.toThrow('0 to 100');
  });

  test('covers nine tenths of the shipped rules', { timeout: 60_000 }, async () => {
    const coverage = await measureCoverage(policies);
    if (typeof coverage === 'string') expect.fail(coverage);
    expect(coverage.files.map(({ file }) => file)).toContain('main.rego');
    expect(coverage.percent).toBeGreaterThanOrEqual(90);
  });
});
