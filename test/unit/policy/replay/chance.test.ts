/** Decisions that chance had a part in are decided again with what it gave then, or not at all. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { JsonObject } from '../../../../src/core/json.ts';
import { type Bundle, loadBundle } from '../../../../src/policy/bundle.ts';
import { explain } from '../../../../src/policy/explain/explain.ts';
import { findDecision } from '../../../../src/policy/explain/find-event.ts';
import { createPolicyEngine } from '../../../../src/policy/opa-engine.ts';
import { replay } from '../../../../src/policy/replay/replay.ts';
import { NO_COMPILER, type PolicyDirectory, policyDirectory } from '../../../helpers/policy-dir.ts';
import { makeRequest, makeServer, NOW } from '../requests.ts';

if (NO_COMPILER !== null) console.warn(`not tested: ${NO_COMPILER}`);

const LOTTERY = `package portcullis.custom.lottery

import rego.v1

deny contains sprintf("ticket %s", [uuid.rfc4122(input.tool_name)]) if rand.intn(input.tool_name, 2) == 0
`;

describe.skipIf(NO_COMPILER !== null)('a log of a policy that draws lots', () => {
  let policy: PolicyDirectory;
  let bundle: Bundle;
  let file: string;
  let events: JsonObject[];

  beforeAll(async () => {
    policy = await policyDirectory({ 'lottery.rego': LOTTERY });
    bundle = await loadBundle({ bundleDir: policy.path, dataFile: null });
    file = join(policy.path, 'decisions.jsonl');
    const engine = await createPolicyEngine({
      ...{ bundleDir: policy.path, dataFile: null, entrypoint: 'portcullis/main/decision' },
      ...{ clock: { now: () => NOW }, cache: { entries: 0, base_ttl_ms: 60_000 } },
      ...{ servers: new Map([['orders', makeServer()]]), decisionLog: { file } },
      logger: { debug() {}, info() {}, warn() {}, error() {} },
    });
    const named = (tool: string) => makeRequest({ call: { tool } });
    for (let at = 0; at < 40; at++) engine.decide(named(`t${at}`));
    const { facts, principal } = named('t');
    engine.decideMany(Array.from({ length: 20 }, (_, at) => ({ ...named(`l${at}`), facts, principal })));
    await engine.close();
    events = (await readFile(file, 'utf8'))
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as JsonObject);
  }, 60_000);
  afterAll(() => policy?.[Symbol.dispose]());

  const replayed = async (log: readonly JsonObject[]) => {
    await writeFile(file, log.map((event) => JSON.stringify(event)).join('\n'));
    return replay(bundle, file, 'lines');
  };

  test('says what they gave, and is decided again as it was', async () => {
    const allowed = events.filter(({ result }) => (result as JsonObject).allow === true).length;
    expect(events).toHaveLength(60);
    expect(allowed).toBeGreaterThan(0);
    expect(allowed).toBeLessThan(60);
    expect(events[0]).toMatchObject({
      nd_builtin_cache: { 'time.now_ns': { '[]': NOW * 1e6 }, 'rand.intn': { '["t0",2]': expect.any(Number) } },
    });
    for (let round = 0; round < 3; round++) {
      expect(await replayed(events)).toMatchObject({ events: 60, replayed: 60, same: 60, unreplayable: {} });
    }
  });

  test('is explained as it was', async () => {
    await writeFile(file, events.map((event) => JSON.stringify(event)).join('\n'));
    for (const { decision_id, result } of [events[0], events[1], events[2], events[3], events[45]] as JsonObject[]) {
      const search = await findDecision(file, String(decision_id));
      if (search.kind !== 'found') throw new Error(search.kind);
      const { event, input } = search.decision;
      const { entrypoint, now, drawn } = event;
      const { allow } = explain(bundle, policy.path, { entrypoint, input, now, drawn });
      expect(allow).toBe((result as JsonObject).allow);
    }
  });

  test('is not guessed at where it does not say so', async () => {
    const silent = events.map(({ nd_builtin_cache: _, ...event }) => event);
    expect(await replayed(silent)).toMatchObject({ replayed: 0, unreplayable: { nondeterministic: 60 } });
  });
});
