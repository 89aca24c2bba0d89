/** Mask and drop rules of a bundle, compiled and run as they are in the gateway, hostile ones too. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { JsonObject } from '../../../src/core/json.ts';
import type { Logger } from '../../../src/core/module.ts';
import { createPolicyEngine, type OpaEngine } from '../../../src/policy/opa-engine.ts';
import { NO_COMPILER, type PolicyDirectory, policyDirectory } from '../../helpers/policy-dir.ts';
import { verifies } from '../../helpers/verifies.ts';
import { makeRequest, makeServer, NOW } from './requests.ts';

if (NO_COMPILER !== null) console.warn(`mask tests are skipped: ${NO_COMPILER}`);

const QUIET: Logger = { debug() {}, info() {}, warn() {}, error() {} };

const SHIPPED = `package system.log

import rego.v1

mask contains "/input/user/email"

mask contains {"op": "upsert", "path": "/input/parameters/query", "value": "hidden"} if {
	input.input.parameters.query
}

mask contains "/result/deny" if input.path == "portcullis/main/decision"

drop if input.input.tool_name == "ping"
`;
const ENDLESS = `package system.log

import rego.v1

mask contains "/input/never" if {
	many := numbers.range(1, 20000)
	count([1 | some a in many; some b in many; a * b == -1]) > 0
}
`;
const CONFLICT = `package system.log

import rego.v1

mask := ["/input/a"] if input.input.tool_name == "run"

mask := ["/input/b"] if input.input.server_name == "orders"
`;
const WRONG = `package system.log

import rego.v1

mask contains "/labels/id"
`;

let home = '';
const policies: Record<string, PolicyDirectory> = {};
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'portcullis-mask-'));
  if (NO_COMPILER !== null) return;
  for (const [name, text] of Object.entries({ SHIPPED, ENDLESS, CONFLICT, WRONG })) {
    policies[name] = await policyDirectory({ 'log.rego': text });
  }
});
afterAll(async () => {
  for (const each of Object.values(policies)) each[Symbol.dispose]();
  await rm(home, { recursive: true, force: true });
});

async function logOf(name: string, ask: (engine: OpaEngine) => void) {
  const file = join(home, `${name}.jsonl`);
  const failures: string[] = [];
  const engine = await createPolicyEngine({
    ...{ bundleDir: policies[name]?.path ?? '', dataFile: null, entrypoint: 'portcullis/main/decision' },
    ...{ clock: { now: () => NOW }, cache: { entries: 0, base_ttl_ms: 60_000 }, logger: QUIET },
    servers: new Map([['orders', makeServer()]]),
    decisionLog: { file, ruleFailed: (failure) => failures.push(failure) },
  });
  ask(engine);
  await engine.close();
  const lines = (await readFile(file, 'utf8')).trimEnd().split('\n');
  return { events: lines.map((line) => JSON.parse(line) as JsonObject), failures, stats: engine.stats() };
}

describe.skipIf(NO_COMPILER !== null)('rules of a bundle for its own records', () => {
  test('mask what they name and drop what nobody wants to read', async () => {
    verifies('SF-66');
    const { events, failures, stats } = await logOf('SHIPPED', (engine) => {
      engine.decide(makeRequest({ call: { parameters: { query: 'SELECT 1', limit: 1 } } }));
      engine.decide(makeRequest({ call: { tool: 'ping' } }));
    });
    expect(events).toHaveLength(1);
    expect(events[0]).toMatchObject({
      input: { parameters: { query: 'hidden', limit: 1 } },
      erased: expect.arrayContaining(['/result/deny']),
      masked: ['/input/parameters/query'],
    });
    expect(failures).toEqual([]);
    expect(stats.log?.dropped).toMatchObject({ policy: 1, waiting: 0 });
    expect(stats.logDropped).toBe(0);
  });

  test('do not make the gateway send the policy more than it reads', async () => {
    const manifest = async (name: string) =>
      JSON.parse(await readFile(join(policies[name]?.path ?? '', 'bundle/manifest.json'), 'utf8')) as {
        readonly input_paths: unknown;
        readonly entrypoints: Record<string, number>;
      };
    const [masking, wrong] = [await manifest('SHIPPED'), await manifest('WRONG')];
    expect(Object.keys(masking.entrypoints)).toEqual(expect.arrayContaining(['system/log/mask', 'system/log/drop']));
    expect(Object.keys(wrong.entrypoints)).not.toContain('system/log/drop');
    expect(masking.input_paths).not.toBeNull();
    expect(JSON.stringify(masking.input_paths)).not.toContain('["input"');
  });

  test.each([
    ['ENDLESS', 'timeout'],
    ['CONFLICT', 'abort'],
    ['WRONG', 'bad_result'],
  ])('that fail (%s) withhold what they might have hidden, and decide nothing', async (name, failure) => {
    const { events, failures, stats } = await logOf(name, (engine) => {
      const started = performance.now();
      for (let i = 0; i < 30; i++) {
        expect(engine.decide(makeRequest({ call: { parameters: { query: 'top-secret-text' } } })).allow).toBe(true);
      }
      expect(performance.now() - started).toBeLessThan(1000);
    });
    expect(events).toHaveLength(30);
    expect(JSON.stringify(events)).not.toContain('top-secret-text');
    for (const event of events) {
      expect(event).not.toHaveProperty('input');
      expect(event).not.toHaveProperty('result');
      expect(event.decision_id).toEqual(expect.any(String));
      expect(event.erased).toEqual(['/input', '/result', '/nd_builtin_cache']);
    }
    expect(failures).toHaveLength(30);
    expect(failures[0]).toBe(failure);
    // After ten in a row it is not asked for a while: each time would cost what it may.
    expect(failures.filter((one) => one === failure).length).toBeLessThan(30);
    expect(failures).toContain('paused');
    expect(stats.log?.withheld).toBe(30);
  });
});
