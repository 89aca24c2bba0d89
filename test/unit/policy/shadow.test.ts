/** The thread of a candidate: how it is bounded, stopped and replaced. */
import { readdirSync, readFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Decision } from '../../../src/core/decision.ts';
import type { JsonObject } from '../../../src/core/json.ts';
import type { Logger } from '../../../src/core/module.ts';
import { buildInput } from '../../../src/policy/input.ts';
import { type Shadow, type ShadowOptions, startShadow } from '../../../src/policy/shadow.ts';
import { NO_COMPILER, type PolicyDirectory, policyDirectory } from '../../helpers/policy-dir.ts';
import { makeRequest } from './requests.ts';

if (NO_COMPILER !== null) console.warn(`candidate thread tests are skipped: ${NO_COMPILER}`);

const QUIET: Logger = { debug() {}, info() {}, warn() {}, error() {} };
const ENDLESS = `package portcullis.custom.endless

import rego.v1

violations contains {"code": "POLICY_DENIED", "message": "slow", "severity": "high"} if {
	input.tool_name == "slow"
	many := numbers.range(1, 20000)
	count([1 | some a in many; some b in many; a * b == -1]) > 0
}
`;
const ENTRYPOINT = 'portcullis/main/decision';
const ALLOWED: Decision = {
  ...{ decision_id: 'dec_1', allow: true, deny: [], obligations: [], revision: 'r' },
  ...{ cached: false, eval_us: 1, failure: null },
};

function show(shadow: Shadow, tool: string, parameters: JsonObject = {}): void {
  const request = makeRequest({ call: { tool, parameters } });
  shadow.observe({
    entrypoint: ENTRYPOINT,
    input: buildInput(request, null),
    decisions: [ALLOWED],
    requests: [request],
  });
}

describe.skipIf(NO_COMPILER !== null)('the thread of a candidate', () => {
  let endless: PolicyDirectory;
  beforeAll(async () => {
    endless = await policyDirectory({ 'endless.rego': ENDLESS });
  });
  afterAll(() => endless[Symbol.dispose]());

  const start = (options: Partial<ShadowOptions> = {}) =>
    startShadow({
      ...{ bundleDir: endless.path, dataFile: null, entrypoint: ENTRYPOINT, sample: 1, timeLimitMs: 20 },
      ...{ logger: QUIET, ...options },
    });

  test.runIf(process.platform === 'linux')('takes only what the others leave of the processors', async () => {
    /** The nice values of all threads of this process. */
    const nice = (): readonly number[] =>
      readdirSync('/proc/self/task').map((id) => {
        const text = readFileSync(`/proc/self/task/${id}/stat`, 'latin1');
        return Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[16]);
      });
    const own = getPriority();
    const before = nice().filter((one) => one === 19).length;
    const shadow = start();
    await shadow.reload();
    expect(nice().filter((one) => one === 19).length).toBe(before + 1);
    expect(getPriority()).toBe(own);
    await shadow.close();
  });

  test('is replaced when it gives no sign of life, and what it had is counted as lost', async () => {
    const shadow = start({ timeLimitMs: 4000, stuckMs: 100 });
    await shadow.reload();
    show(shadow, 'slow');
    await shadow.settled();
    expect(shadow.status()).toMatchObject({ restarts: 1, dropped: { lost: 1 }, waiting: 0, compared: 0 });
    await shadow.close();
  });

  test('has no more waiting than it may', async () => {
    const shadow = start({ maxWaiting: 5 });
    await shadow.reload();
    for (let i = 0; i < 20; i++) show(shadow, 'run');
    await shadow.settled();
    expect(shadow.status()).toMatchObject({ compared: 5, dropped: { busy: 15 }, waiting: 0 });
    await shadow.close();
  });

  test('has no more waiting than fits into what it may keep, however few they are', async () => {
    const shadow = start({ maxWaitingBytes: 100_000 });
    await shadow.reload();
    for (let i = 0; i < 5; i++) show(shadow, 'run', { text: 'x'.repeat(40_000) });
    for (const large of [{ text: 'x'.repeat(200_000) }, { list: Array(50_000).fill(1) }]) show(shadow, 'run', large);
    await shadow.settled();
    expect(shadow.status()).toMatchObject({ compared: 2, dropped: { busy: 5 }, waiting: 0 });
    // What was compared makes room.
    show(shadow, 'run', { text: 'x'.repeat(80_000) });
    await shadow.settled();
    expect(shadow.status()).toMatchObject({ compared: 3, dropped: { busy: 5 } });
    await shadow.close();
  });

  test('is left alone after many failures in a row', async () => {
    const shadow = start({ timeLimitMs: 1 });
    await shadow.reload();
    for (let i = 0; i < 50; i++) show(shadow, 'slow');
    await shadow.settled();
    show(shadow, 'slow');
    expect(shadow.status()).toMatchObject({ differences: { failure: 50 }, dropped: { paused: 1 } });
    expect(shadow.status().recent[0]?.candidate).toMatchObject({ failure: 'timeout', allow: false });
    await shadow.close();
  });
});
