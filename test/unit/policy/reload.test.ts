/** Policies changed under load: every decision is the one of the revision it names. */
import { cp, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { DecisionRequest } from '../../../src/core/decision.ts';
import { createPolicyEngine, type OpaEngine } from '../../../src/policy/opa-engine.ts';
import { verifies } from '../../helpers/verifies.ts';
import { makeRequest, makeServer, NOW } from './requests.ts';

const POLICIES = fileURLToPath(new URL('../../../policies/', import.meta.url));
const RELOADS = 200;
const DECISIONS = 100_000;
/** Decisions between two turns of the event loop, in which a load goes on. */
const BURST = 40;

interface Data {
  config: { tool_access: Record<string, unknown> };
}

let dir = '';
let engine: OpaEngine;
const documents: string[] = [];

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'portcullis-reload-'));
  await cp(join(POLICIES, 'bundle'), join(dir, 'bundle'), { recursive: true });
  const text = await readFile(join(POLICIES, 'data.json'), 'utf8');
  for (const canary of [true, false]) {
    const data = JSON.parse(text) as Data;
    if (!canary) data.config.tool_access.developer = {};
    documents.push(JSON.stringify(data));
  }
  await change(0);
  engine = await createPolicyEngine({
    ...{ bundleDir: dir, dataFile: null, entrypoint: 'portcullis/main/decision', clock: { now: () => NOW } },
    ...{ cache: { entries: 1000, base_ttl_ms: 60_000 }, servers: new Map([['orders', makeServer()]]) },
    ...{ decisionLog: null, logger: { debug() {}, info() {}, warn() {}, error() {} } },
  });
});
afterAll(async () => {
  await engine.close();
  await rm(dir, { recursive: true, force: true });
});

/** The file is whole at every instant. */
async function change(to: number): Promise<void> {
  await writeFile(join(dir, 'next.json'), documents[to] ?? '');
  await rename(join(dir, 'next.json'), join(dir, 'data.json'));
}

const request = (i: number): DecisionRequest =>
  makeRequest({
    call: { tool: `tool ${i % 50}` },
    classification: { sensitivity_level: i % 3 === 0 ? 'medium' : 'low' },
  });

test(`of ${DECISIONS} decisions during ${RELOADS} reloads none is wrong, cached or not`, {
  timeout: 60_000,
}, async () => {
  verifies('SF-61');
  const requests = Array.from({ length: 150 }, (_, i) => request(i));
  /** Whether developers may, by revision. */
  const right = new Map<string, boolean>([[engine.revision ?? '', true]]);
  let [wrong, made, cached] = [0, 0, 0];
  const decideSome = (): void => {
    const known = right.get(engine.revision ?? '');
    for (let i = 0; i < BURST; i++, made++) {
      const decision = engine.decide(requests[made % requests.length] ?? request(0));
      if (decision.revision !== engine.revision || decision.allow !== known || decision.failure !== null) wrong++;
      if (decision.cached) cached++;
    }
  };
  for (let reload = 1; reload <= RELOADS; reload++) {
    const canary = reload % 2 === 0;
    await change(reload % 2);
    const before = engine.revision;
    let loading = true;
    const done = engine.reload().finally(() => {
      loading = false;
    });
    while (loading) {
      // What a revision allows was fixed by the file it was made from, before anything was decided by it.
      if (engine.revision !== before) right.set(engine.revision ?? '', canary);
      decideSome();
      await new Promise(setImmediate);
    }
    expect((await done).last_error).toBeNull();
    expect(engine.revision).not.toBe(before);
    right.set(engine.revision ?? '', canary);
    while (made < (DECISIONS / RELOADS) * reload) decideSome();
  }
  expect(right.size).toBe(2);
  expect(made).toBeGreaterThanOrEqual(DECISIONS);
  expect(cached).toBeGreaterThan(made / 4);
  expect(wrong).toBe(0);
});
