import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writeReplayLog } from '../../../../bench/replay.ts';
import { explainCommand } from '../../../../src/cli/explain.ts';
import type { JsonObject } from '../../../../src/core/json.ts';
import { type Bundle, loadBundle } from '../../../../src/policy/bundle.ts';
import { type Explanation, explain, type MissedRule } from '../../../../src/policy/explain/explain.ts';
import { findDecision } from '../../../../src/policy/explain/find-event.ts';
import { renderExplanation } from '../../../../src/policy/explain/render.ts';
import { policyInput } from '../../../helpers/policy-input.ts';
import { fakeIo } from '../../cli/fake-io.ts';

const policies = fileURLToPath(new URL('../../../../policies', import.meta.url));
const scratch = await mkdtemp(join(tmpdir(), 'portcullis-explain-'));
afterAll(() => rm(scratch, { recursive: true, force: true }));

const NOON = Date.UTC(2025, 0, 15, 10, 30);
const entrypoint = 'portcullis/main/decision';
const DENIED = { role: 'analyst', tool_type: 'mutation', sensitivity_level: 'high' };

let bundle: Bundle;

beforeAll(async () => {
  bundle = await loadBundle({ bundleDir: policies, dataFile: null });
});

function explained(facts: object, change: (input: Record<string, unknown>) => void = () => {}): Explanation {
  const input = policyInput(facts) as unknown as Record<string, unknown>;
  change(input);
  return explain(bundle, policies, { entrypoint, input: input as JsonObject, now: NOON });
}

const flat = (list: readonly MissedRule[]): readonly MissedRule[] => list.flatMap((one) => [one, ...flat(one.because)]);

describe('an explanation', () => {
  test('of a deny leads from the decision down to the line that did not hold', () => {
    const one = explained(DENIED);
    expect(one).toMatchObject({ allow: false, sources: true, revision: bundle.revision });
    const chain = flat(one.missed);
    const granted = chain.find(({ rule }) => rule === 'mcp.gateway.tool_granted');
    expect(granted?.stopped_at).toMatch(/^gateway\.rego:\d+:\d+$/);
    expect(granted?.expression).toBeTruthy();
    expect(one.missed.every(({ progress }) => progress >= 0 && progress <= 1)).toBe(true);
  });

  test('names every place by a file and a line that exist', async () => {
    const one = explained(DENIED);
    for (const { at, text } of [...one.fired, ...flat(one.missed)]) {
      const [file = '', row = ''] = at.split(':');
      const lines = (await readFile(join(policies, file), 'utf8')).split('\n');
      expect(lines[Number(row) - 1]?.trim(), at).toBe(text);
    }
  });

  test('of an allow names the rules that fired and none that missed', () => {
    const one = explained({ role: 'admin' });
    expect(one).toMatchObject({ allow: true, missed: [] });
    expect(one.fired.map(({ rule }) => rule)).toContain('mcp.gateway.tool_granted');
  });

  test('hides secrets, by their name and by their look', () => {
    const one = explained(DENIED, (input) => {
      input.user = { ...(input.user as object), roles: ['Bearer abcdefghijklmnopqrstuvwxyz0123456789'] };
      input.parameters = { password: 'hunter2-hunter2' };
    });
    const text = JSON.stringify(one) + renderExplanation(one).join('\n');
    expect(text).not.toContain('abcdefghijklmnopqrstuvwxyz0123456789');
    expect(text).not.toContain('hunter2');
  });

  test('is a short text for people', () => {
    const lines = renderExplanation(explained(DENIED));
    expect(lines[0]).toBe('DENY  portcullis/main/decision  at 2025-01-15T10:30:00.000Z');
    expect(lines.length).toBeLessThan(80);
    expect(lines.some((line) => line.includes('stopped at gateway.rego:'))).toBe(true);
  });

  test('says so where the sources are not at hand, and still gives the places', () => {
    const input = policyInput(DENIED) as unknown as JsonObject;
    const one = explain(bundle, scratch, { entrypoint, input, now: NOON });
    expect(one.sources).toBe(false);
    expect(flat(one.missed).every(({ text, expression }) => text === null && expression === null)).toBe(true);
    expect(renderExplanation(one).at(-1)).toContain('not at hand');
  });

  test('is refused for a bundle without a plan', () => {
    const request = { entrypoint, input: policyInput() as unknown as JsonObject, now: NOON };
    expect(() => explain({ ...bundle, plan: null }, policies, request)).toThrow('cannot be explained: build it again');
  });

  test('survives inputs of the wrong types', () => {
    for (const input of [{}, { user: null, action: 7 }, { user: { roles: 'x' }, gateway_metadata: [] }]) {
      const one = explain(bundle, policies, { entrypoint, input: input as unknown as JsonObject, now: NOON });
      expect(one.allow).toBe(false);
      expect(renderExplanation(one).length).toBeGreaterThan(2);
    }
  });
});

describe('portcullis explain', () => {
  let log: string;
  let lines: string[];

  beforeAll(async () => {
    log = join(scratch, 'decisions.jsonl');
    await writeReplayLog(log, 50);
    lines = (await readFile(log, 'utf8')).trimEnd().split('\n');
  });

  const run = async (...argv: string[]) => {
    const { io, written } = fakeIo({ cwd: scratch });
    return { code: await explainCommand(argv, io), ...written };
  };

  test('explains an input file', async () => {
    await writeFile(
      join(scratch, 'in.json'),
      JSON.stringify({ input: policyInput(DENIED), clock: '2025-01-15T10:30:00Z' }),
    );
    const { code, out } = await run('--input', 'in.json', '--bundle', policies);
    expect(code).toBe(0);
    expect(out).toContain('DENY  portcullis/main/decision  at 2025-01-15T10:30:00.000Z');
    const json = await run('--input', 'in.json', '--bundle', policies, '--json');
    expect(JSON.parse(json.out)).toMatchObject({ allow: false, entrypoint });
  });

  test('finds a decision in the log by its own id and by that of its request', async () => {
    const event = JSON.parse(lines[7] ?? '') as { decision_id: string; req_id: string; result: { allow: boolean } };
    for (const id of [event.decision_id, event.req_id]) {
      const { out } = await run(id, '--log', log, '--bundle', policies, '--json');
      expect(JSON.parse(out)).toMatchObject({ allow: event.result.allow, clock: '2026-01-05T08:00:00.350Z' });
    }
  });

  test('refuses a decision of another policy, and one that is not there', async () => {
    const other = join(scratch, 'other.jsonl');
    await writeFile(other, (lines[0] ?? '').replace(bundle.revision, 'sha256:older'));
    const id = (JSON.parse(lines[0] ?? '') as { decision_id: string }).decision_id;
    await expect(run(id, '--log', other, '--bundle', policies)).rejects.toThrow(
      'was decided by the policy sha256:older',
    );
    await expect(run('dec_nowhere', '--log', log, '--bundle', policies)).rejects.toThrow(
      'holds no decision of dec_nowhere',
    );
    await expect(run('dec_x', '--bundle', policies)).rejects.toThrow('--log');
    await expect(run()).rejects.toThrow('expected --input');
  });

  test('says which fields the record does not hold', async () => {
    const event = { ...(JSON.parse(lines[3] ?? '') as object), masked: ['/input/parameters/token'] };
    const file = join(scratch, 'masked.jsonl');
    await writeFile(file, `{"broken\n${JSON.stringify(event)}\n`);
    const { out } = await run(
      (event as unknown as { decision_id: string }).decision_id,
      '--log',
      file,
      '--bundle',
      policies,
    );
    expect(out).toContain('not in the record, so perhaps decided otherwise then: /input/parameters/token');
  });

  test('takes one call out of a list, by the document of the list', async () => {
    const first = JSON.parse(lines[0] ?? '') as { input: object };
    const member = (i: number, input: object) => ({
      ...first,
      decision_id: `dec_l-${i}`,
      batch_decision_id: 'dec_l',
      path: 'portcullis/main/decisions',
      input,
    });
    const calls = [{ tool_name: 'a' }, { tool_name: 'b' }];
    const file = join(scratch, 'list.jsonl');
    const events = [member(0, { ...first.input, calls }), member(1, { tool_name: 'b' })];
    await writeFile(file, events.map((one) => JSON.stringify(one)).join('\n'));
    const found = await findDecision(file, 'dec_l-1');
    expect(found).toMatchObject({ kind: 'found', decision: { input: { calls: [{ tool_name: 'b' }] } } });
    await writeFile(file, JSON.stringify(events[1]));
    expect(await findDecision(file, 'dec_l-1')).toEqual({ kind: 'no_document' });
  });
});
