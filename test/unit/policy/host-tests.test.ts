/** Tests of a policy in the host that decides: what holds in the compiler's interpreter alone proves nothing. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { main } from '../../../src/cli/cli.ts';
import { runOpaTests } from '../../../src/policy/compiler.ts';
import { inBoth, runHostTests } from '../../../src/policy/host-tests.ts';
import { NO_COMPILER } from '../../helpers/policy-dir.ts';
import { temporaryDirectory } from '../../helpers/processes.ts';
import { fakeIo } from '../cli/fake-io.ts';

const RULES = `package a

ok if input.x == 1

first := object.keys({"b": 1, "a": 2})
`;
const TESTS = `package a_test

import data.a

test_input if a.ok with input as {"x": 1}

test_data if data.limit == 3

test_clock if time.now_ns() == 5 with time.now_ns as 5

test_wrong if a.ok with input as {"x": 2}

todo_test_later if false

test_cases[name] if {
	some name, one in {"holds": {"x": 1}, "does not": {"x": 2}}
	a.ok with input as one
}
`;

async function directoryOf(tests: string): Promise<ReturnType<typeof temporaryDirectory>> {
  const directory = temporaryDirectory();
  const files = { 'a.rego': RULES, 'a_test.rego': tests, 'data.json': '{"limit":3}', 'x.schema.json': '{"limit":4}' };
  for (const [name, text] of Object.entries(files)) await writeFile(join(directory.path, name), text);
  return directory;
}

test.skipIf(NO_COMPILER !== null)(
  'tests run in the host as they run in the compiler, cases, data and all',
  async () => {
    using directory = await directoryOf(TESTS);
    const found = await runOpaTests(directory.path);
    const hosted = await runHostTests(directory.path, found);
    expect(hosted).toEqual(found);
    expect(hosted).toMatchObject({ passed: 3, failed: 2, skipped: 1, error: null });
    expect(
      hosted.tests
        .filter(({ outcome }) => outcome === 'failed')
        .map(({ name }) => name)
        .sort(),
    ).toEqual(['test_cases', 'test_wrong']);
  },
);

test.skipIf(NO_COMPILER !== null)(
  'tests in packages whose names are no words run too, and one that cannot says why',
  async () => {
    const rules = (name: string) => `package a["${name}"].b_test\n\ntest_named if true\n`;
    using directory = await directoryOf(rules('of two. [words]'));
    const found = await runOpaTests(directory.path);
    expect(found).toMatchObject({ passed: 1, error: null });
    expect(await runHostTests(directory.path, found)).toEqual(found);
    using other = await directoryOf(rules('with/slash'));
    const { error } = await runHostTests(other.path, await runOpaTests(other.path));
    expect(error).toMatch(/cannot be compiled for the gateway: .*with\/slash.* does not refer to a rule/);
  },
);

test('a test that holds in one of the two alone has failed, and says where', () => {
  const one = { package: 'a_test', name: 'test_a', file: 'a_test.rego', line: 3 } as const;
  const result = (outcome: 'passed' | 'failed', reason?: string) => {
    const tests = [{ ...one, outcome, ...(reason === undefined ? {} : { reason }) }];
    return {
      passed: outcome === 'passed' ? 1 : 0,
      failed: outcome === 'failed' ? 1 : 0,
      skipped: 0,
      tests,
      error: null,
    };
  };
  const joint = inBoth(result('passed'), result('failed', 'abort: a.rego:3: conflict'));
  expect(joint).toMatchObject({ passed: 0, failed: 1 });
  expect(joint.tests[0]).toMatchObject({ outcome: 'failed', reason: 'only in the gateway: abort: a.rego:3: conflict' });
  expect(inBoth(result('failed'), result('passed'))).toMatchObject({ passed: 0, failed: 1 });
  expect(inBoth(result('passed'), { ...result('failed'), error: 'no compiler' })).toMatchObject({
    error: 'no compiler',
  });
});

test.skipIf(NO_COMPILER !== null)(
  'the command runs both, says what the gateway lacks, and takes one alone',
  async () => {
    using directory = await directoryOf(`package a_test

test_schema if json.match_schema({}, {"type": "object"}) == [true, []]

test_mocked if http.send({}).status_code == 200 with http.send as {"status_code": 200}
`);
    const command = async (...argv: readonly string[]) => {
      const { io, written } = fakeIo({ cwd: directory.path, env: process.env as Record<string, string> });
      return { code: await main(['policy', 'test', '.', ...argv], io), ...written };
    };
    expect(await command('--engine', 'opa')).toMatchObject({ code: 0, out: '2 passed, 0 failed, 0 skipped\n' });
    for (const argv of [[], ['--engine', 'wasm']]) {
      const { code, err } = await command(...argv);
      expect([code, err]).toEqual([1, expect.stringMatching(/cannot run in the gateway: .*json\.match_schema/)]);
    }
    expect((await command('--engine', 'both?')).err).toContain('--engine is one of both, opa, wasm');
  },
);
