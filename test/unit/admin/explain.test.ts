import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Hono } from 'hono';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeReplayLog } from '../../../bench/replay.ts';
import type { AdminAction, AdminHono } from '../../../src/admin/app.ts';
import { explainRoutes } from '../../../src/admin/explain.ts';
import type { Generation } from '../../../src/composition/assembly.ts';
import type { OpenPlatform } from '../../../src/composition/platform.ts';
import { explainAdmin } from '../../../src/composition/policy-explain.ts';
import { toGatewayError } from '../../../src/core/errors.ts';
import type { Received } from '../../../src/core/exchange.ts';
import type { JsonObject } from '../../../src/core/json.ts';
import { type Bundle, loadBundle } from '../../../src/policy/bundle.ts';
import { explain } from '../../../src/policy/explain/explain.ts';
import { PlanFault } from '../../../src/policy/plan/interpreter.ts';
import { policyInput } from '../../helpers/policy-input.ts';

const policies = fileURLToPath(new URL('../../../policies', import.meta.url));
const scratch = await mkdtemp(join(tmpdir(), 'portcullis-admin-explain-'));
afterAll(() => rm(scratch, { recursive: true, force: true }));

let bundle: Bundle;

beforeAll(async () => {
  bundle = await loadBundle({ bundleDir: policies, dataFile: null });
  await writeReplayLog(join(scratch, 'decisions.jsonl'), 20);
});

async function ask(body: unknown, inForce: Bundle | null = bundle) {
  const actions: AdminAction[] = [];
  const config = {
    policy: {
      bundle: policies,
      entrypoint: 'portcullis/main/decision',
      decision_log: { file: 'decisions.jsonl' },
    },
  };
  const generation = { config, engine: { activeBundle: () => inForce } } as unknown as Generation;
  const platform = { baseDir: scratch, clock: { now: () => Date.UTC(2025, 0, 15, 10, 30) } } as unknown as OpenPlatform;
  const app: AdminHono = new Hono();
  explainRoutes(
    app,
    explainAdmin(() => generation, platform),
    { onAction: (action) => actions.push(action) },
  );
  app.onError((error) => {
    const { status, code, message } = toGatewayError(error);
    return Response.json({ code, message }, { status });
  });
  const text = JSON.stringify(body);
  const headers = { 'content-length': String(text.length) };
  const received = { id: 'req_1', headers } as unknown as Received;
  const request = new Request('http://127.0.0.1/policy/explain', { method: 'POST', headers, body: text });
  const answer = await app.fetch(request, { received });
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown>, actions };
}

test('POST /policy/explain explains an input with the policy in force, and records that it was asked', async () => {
  const { status, body, actions } = await ask({ input: policyInput({ role: 'none' }) });
  expect(status).toBe(200);
  expect(body).toMatchObject({ allow: false, revision: bundle.revision, clock: '2025-01-15T10:30:00.000Z' });
  expect(body.missed).not.toEqual([]);
  expect(actions).toMatchObject([{ operation: 'policy:explain', outcome: 'allowed' }]);
});

test('POST /policy/explain looks a decision up in the decision log', async () => {
  const [line = ''] = (await readFile(join(scratch, 'decisions.jsonl'), 'utf8')).split('\n');
  const { decision_id, req_id, result } = JSON.parse(line) as {
    decision_id: string;
    req_id: string;
    result: { allow: boolean };
  };
  for (const question of [{ decision_id }, { request_id: req_id }]) {
    expect(await ask(question)).toMatchObject({ status: 200, body: { allow: result.allow } });
  }
});

test('POST /policy/explain measures rules and lines where it is asked to, within its bounds', async () => {
  const input = policyInput({ role: 'none' });
  const plain = await ask({ input });
  expect(plain.body).not.toHaveProperty('profile');
  expect(plain.body).not.toHaveProperty('coverage');
  const { status, body, actions } = await ask({ input, profile: true, repeat: 2, coverage: true });
  expect(status).toBe(200);
  expect(body).toMatchObject({ ...plain.body, profile: { timed_in: 'plan-interpreter', inputs: 1, repeats: 2 } });
  expect((body.coverage as { files: { file: string }[] }).files.map(({ file }) => file)).toContain('main.rego');
  expect(actions).toMatchObject([{ operation: 'policy:explain', outcome: 'allowed' }]);

  const [line = ''] = (await readFile(join(scratch, 'decisions.jsonl'), 'utf8')).split('\n');
  const { req_id } = JSON.parse(line) as { req_id: string };
  const covered = await ask({ request_id: req_id, coverage: true });
  expect(covered).toMatchObject({ status: 200, body: { coverage: { files_left_out: 0 } } });
  expect(covered.body).not.toHaveProperty('profile');
  for (const wrong of [{ repeat: 0 }, { repeat: 101 }, { repeat: 1.5 }, { profile: 'yes' }, { coverage: 1 }]) {
    expect((await ask({ input, profile: true, ...wrong })).status).toBe(422);
  }
});

test('POST /policy/explain refuses what it cannot answer truly', async () => {
  const [line = ''] = (await readFile(join(scratch, 'decisions.jsonl'), 'utf8')).split('\n');
  const { decision_id } = JSON.parse(line) as { decision_id: string };
  const other = { ...bundle, revision: 'sha256:other' };
  expect(await ask({ decision_id }, other)).toMatchObject({ status: 409, actions: [{ outcome: 'failed' }] });
  expect((await ask({ decision_id: 'dec_nowhere' })).status).toBe(404);
  expect((await ask({ input: {} }, null)).status).toBe(409);
  expect((await ask({ input: {} }, { ...bundle, plan: null })).status).toBe(422);
  expect((await ask({ input: {}, entrypoint: 'no/such' })).status).toBe(422);
  expect((await ask({ input: [] })).status).toBe(422);
  expect((await ask({})).status).toBe(422);
});

test('POST /policy/explain refuses what is nested deeper than the stack goes', async () => {
  const nested = (depth: number) => {
    let input: object = {};
    for (let at = 0; at < depth; at++) input = { a: input };
    return input as JsonObject;
  };
  expect(await ask({ input: nested(3000) })).toMatchObject({ body: { message: expect.stringContaining('too deep') } });
  const request = { entrypoint: 'portcullis/main/decision', now: 0, repeat: 1 };
  expect(() => explain(bundle, policies, { ...request, input: nested(50_000) })).toThrow(PlanFault);
});
