import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writeReplayLog } from '../../../../bench/replay.ts';
import { type Bundle, loadBundle, withData } from '../../../../src/policy/bundle.ts';
import { formOf, MAX_EVENT_BYTES } from '../../../../src/policy/replay/records.ts';
import { type ReplayOptions, replay } from '../../../../src/policy/replay/replay.ts';
import type { ReplayTally } from '../../../../src/policy/replay/tally.ts';
import { partsOf, replayOnThreads } from '../../../../src/policy/replay/threads.ts';
import { BUILTINS } from '../../../../src/policy/wasm/builtins.ts';
import { PolicyHost } from '../../../../src/policy/wasm/host.ts';
import { DEFAULT_LIMITS, PolicyProgram } from '../../../../src/policy/wasm/program.ts';

const policies = fileURLToPath(new URL('../../../../policies', import.meta.url));
const STRICT = join(policies, 'profiles/strict.json');
const scratch = await mkdtemp(join(tmpdir(), 'portcullis-replay-'));
afterAll(() => rm(scratch, { recursive: true, force: true }));

type Event = Record<string, unknown> & { input: Record<string, unknown>; result: Record<string, unknown> };

let bundle: Bundle;
let lines: string[];
let log: string;

beforeAll(async () => {
  bundle = await loadBundle({ bundleDir: policies, dataFile: null });
  log = join(scratch, 'decisions.jsonl');
  await writeReplayLog(log, 600);
  lines = (await readFile(log, 'utf8')).trimEnd().split('\n');
});

const event = (i: number): Event => JSON.parse(lines[i] ?? '') as Event;

async function replayed(
  content: string | Buffer,
  options: ReplayOptions = {},
  candidate = bundle,
): Promise<ReplayTally> {
  const file = join(scratch, 'log');
  await writeFile(file, content);
  return replay(candidate, file, await formOf(file), options);
}

/** The position of the first logged event that was allowed, or denied. */
const first = (allow: boolean): number => lines.findIndex((line) => JSON.parse(line).result.allow === allow);

describe('replaying a decision log', () => {
  test('finds nothing changed under the policy that wrote it', async () => {
    const tally = await replay(bundle, log, 'lines');
    expect(tally).toMatchObject({ events: 600, replayed: 600, same: 600, unreplayable: {} });
    expect([...tally.revisions]).toEqual([[bundle.revision, 600]]);
  });

  test('takes the JSON arrays that OPA uploads, plain, packed, and several in a row', async () => {
    const array = `[${lines.slice(0, 40).join(',')}]`;
    for (const content of [array, gzipSync(array), Buffer.concat([gzipSync(array), gzipSync(array)])]) {
      const tally = await replayed(content);
      expect(tally.same).toBe(tally.events);
      expect(tally.events % 40).toBe(0);
      expect(tally.events).toBeGreaterThan(0);
    }
    expect((await replayed(gzipSync(lines.join('\n')))).same).toBe(600);
    const deep = await replayed(`[\n ${lines[0]} ,\n${lines[1]?.replace('SELECT', 'SEL\\"}]ECT')}\n]\n`);
    expect(deep).toMatchObject({ events: 2, same: 2 });
  });

  test('groups what changed by its cause, with decisions to look at', async () => {
    const [allowed, denied] = [first(true), first(false)];
    const was = { ...event(denied), result: { allow: true, deny: [], obligations: [] } };
    const is = event(allowed);
    const code = 'POLICY_DENIED';
    const before = { package: 'old', code, message: 'no', severity: 'low' };
    const forbidden = { ...is, result: { allow: false, deny: [before], obligations: [] } };
    const bound = { ...is, result: { ...is.result, obligations: [{ type: 'audit', level: 'full' }] } };
    const tally = await replayed([was, forbidden, bound, is].map((one) => JSON.stringify(one)).join('\n'));
    expect(tally.changes).toMatchObject({ allow_to_deny: 1, deny_to_allow: 1, obligations: 1, failure: 0 });
    const codes = (event(denied).result.deny as { code: string }[]).map((one) => `+${one.code}`);
    const groups = [...tally.groups.values()];
    expect(groups.find(({ kind }) => kind === 'allow_to_deny')).toMatchObject({
      cause: [...new Set(codes)].sort().join(' '),
      samples: [event(denied).decision_id],
    });
    expect(groups.find(({ kind }) => kind === 'deny_to_allow')?.cause).toBe(`-${code}`);
    expect(groups.find(({ kind }) => kind === 'obligations')?.cause).toContain('-obligation:audit');
  });

  test('names the rules behind what changed, with the places where they stopped', async () => {
    const changed = async (candidate: Bundle, events: readonly Event[]) => {
      const { groups } = await replayed(events.map((one) => JSON.stringify(one)).join('\n'), {}, candidate);
      return [...groups.values()].map(({ kind, looked_at, rules }) => ({
        kind,
        looked_at,
        rules: [...rules.values()],
      }));
    };
    const is = event(first(true));
    const no = { package: 'old', code: 'POLICY_DENIED', message: 'no', severity: 'low' };
    const refused = { ...is, result: { allow: false, deny: [no], obligations: [] } };
    const [grant] = await changed(bundle, [refused]);
    expect(grant).toMatchObject({ kind: 'deny_to_allow', looked_at: 1 });
    expect(grant?.rules).toEqual([
      {
        ...{ rule: 'mcp.gateway.tool_granted', at: expect.stringMatching(/^gateway\.rego:\d+$/), stopped_at: null },
        ...{ count: 1, samples: [is.decision_id] },
      },
    ]);

    const config = bundle.data.config as Record<string, object>;
    const nobody = withData(bundle, { ...bundle.data, config: { ...config, tool_access: {} } });
    const [missed] = await changed(nobody, [is]);
    expect(missed).toMatchObject({ kind: 'allow_to_deny', looked_at: 1 });
    expect(missed?.rules[0]).toMatchObject({
      rule: expect.stringMatching(/^mcp\.gateway\./),
      stopped_at: expect.stringMatching(/^gateway\.rego:\d+:\d+$/),
    });

    const [strict] = await changed(await loadBundle({ bundleDir: policies, dataFile: STRICT }), [
      {
        ...is,
        input: { ...is.input, gateway_metadata: { ...(is.input.gateway_metadata as object), source_region: 'x' } },
      },
    ]);
    expect(strict?.rules.map(({ rule, stopped_at }) => [rule, stopped_at])).toContainEqual([
      'mcp.gateway.context.region_violations',
      null,
    ]);

    // Without a plan, or with one that cannot be read, the counts are the same and no rule is named.
    const [bare] = await changed({ ...bundle, plan: null }, [refused]);
    expect(bare).toEqual({ kind: 'deny_to_allow', looked_at: 0, rules: [] });
    const broken = { bytes: Buffer.from('no plan'), gzip: true, digest: null };
    expect(await changed({ ...bundle, plan: broken }, [refused])).toEqual([bare]);
  });

  test('looks the rules up for the first hundred decisions of a group', async () => {
    const is = event(first(true));
    const refused = JSON.stringify({ ...is, result: { allow: false, deny: [], obligations: [] } });
    const { groups } = await replayed(Array.from({ length: 130 }, () => refused).join('\n'));
    const [group] = [...groups.values()];
    expect(group).toMatchObject({ count: 130, looked_at: 100 });
    expect([...(group?.rules.values() ?? [])]).toEqual([expect.objectContaining({ count: 100 })]);
  });

  test('decides at the time that was logged', async () => {
    const one = event(first(true));
    const timed = { ...one, nd_builtin_cache: { 'time.now_ns': { '[]': 1.7e18 } } };
    expect((await replayed(JSON.stringify(timed))).replayed).toBe(1);
    const { nd_builtin_cache: _, ...stamped } = one;
    expect((await replayed(JSON.stringify(stamped))).same).toBe(1);
    const { timestamp: __, ...timeless } = stamped as Event;
    expect((await replayed(JSON.stringify(timeless))).unreplayable).toEqual({ no_time: 1 });
    const asked = { ...one, nd_builtin_cache: { 'http.send': { '[{}]': {} } } };
    expect((await replayed(JSON.stringify(asked))).unreplayable).toEqual({ nondeterministic: 1 });
    const odd = { ...one, nd_builtin_cache: { 'rand.intn': { x: 1 } } };
    expect((await replayed(JSON.stringify(odd))).unreplayable).toEqual({ nondeterministic: 1 });
    // What the candidate does not ask for does not matter.
    const random = { ...one, nd_builtin_cache: { 'rand.intn': { '["x",3]': 1 } } };
    expect(await replayed(JSON.stringify(random))).toMatchObject({ same: 1, unreplayable: {} });
  });

  test('counts and places what is broken, and goes on', async () => {
    const { input: _, ...bare } = event(0);
    const foreign = { ...event(0), path: 'other/package' };
    const content = [
      '{"half":',
      lines[0],
      '[]',
      '',
      'null',
      JSON.stringify(bare),
      JSON.stringify({ ...event(0), result: { allow: 'yes' } }),
      JSON.stringify(foreign),
      '\u0000\u0001',
      lines[1],
    ].join('\n');
    const tally = await replayed(content);
    expect(tally.same).toBe(2);
    expect(tally.unreplayable).toEqual({ broken: 4, no_input: 1, no_result: 1, other_entrypoint: 1 });
    expect(tally.places.broken).toEqual([1, 3, 5, 9]);
  });

  test('skips an event of more than 16 MiB without keeping it', async () => {
    const huge = Buffer.alloc(MAX_EVENT_BYTES + 10, 0x78);
    const content = Buffer.concat([Buffer.from(`${lines[0]}\n`), huge, Buffer.from(`\n${lines[1]}`)]);
    const tally = await replayed(content);
    expect(tally).toMatchObject({ same: 2, unreplayable: { too_long: 1 }, places: { too_long: [2] } });
  });

  test('does not guess where the log hides what the policy reads', async () => {
    const role = { ...event(0), masked: ['/input/user/roles'] };
    const query = { ...event(0), erased: ['/input/user_agent_of_nobody'], masked: ['/result/deny'] };
    const tally = await replayed([role, query].map((one) => JSON.stringify(one)).join('\n'));
    expect(tally).toMatchObject({ same: 1, unreplayable: { masked: 1 } });
  });

  test('decides the calls of a list by the document of its first event', async () => {
    const entrypoint = 'portcullis/main/decisions';
    const { input } = event(first(true));
    const calls = Array.from({ length: 4 }, (_, i) => ({
      action: 'gateway:tool:discover',
      tool_name: `t${i}`,
      gateway_metadata: { ...(input.gateway_metadata as object), sensitivity_level: i % 2 ? 'critical' : 'low' },
    }));
    const document = { ...input, calls };
    const host = new PolicyHost(await PolicyProgram.load(bundle.wasm, BUILTINS, DEFAULT_LIMITS), bundle.dataText);
    const outcome = host.evaluate(entrypoint, document, Date.parse('2026-01-05T08:00:00Z'));
    if (outcome.kind !== 'value') throw new Error(JSON.stringify(outcome));
    const results = outcome.value as { allow: boolean; deny: unknown[]; obligations: unknown[] }[];
    const events = results.map(({ allow, deny, obligations }, i) => ({
      decision_id: `dec_list-${i}`,
      batch_decision_id: 'dec_list',
      path: entrypoint,
      input: i === 0 ? document : { action: 'gateway:tool:discover', tool_name: `t${i}` },
      result: { allow: allow && deny.length === 0, deny, obligations },
      timestamp: '2026-01-05T08:00:00Z',
    }));
    const text = events.map((one) => JSON.stringify(one));
    expect((await replayed(text.join('\n'))).unreplayable).toEqual({});
    expect(await replayed(text.join('\n'))).toMatchObject({
      replayed: 4,
      changes: { deny_to_allow: 0, allow_to_deny: 0 },
    });
    expect(await replayed(text.slice(1).join('\n'))).toMatchObject({
      replayed: 0,
      unreplayable: { list_without_document: 3 },
    });
  });

  test('takes the same share of events on every run', async () => {
    const [a, b] = [
      await replay(bundle, log, 'lines', { sample: 10 }),
      await replay(bundle, log, 'lines', { sample: 10 }),
    ];
    expect(a).toEqual(b);
    expect(a.replayed + a.left_out).toBe(600);
    expect(a.replayed).toBeGreaterThan(20);
    expect(a.replayed).toBeLessThan(150);
  });

  test('counts on several threads what it counts on one', async () => {
    const parts = await partsOf(log, 3);
    expect(parts).toHaveLength(3);
    expect(parts[0]?.[1]).toBe(parts[1]?.[0]);
    const location = { bundleDir: policies, dataFile: null };
    const one = await replay(bundle, log, 'lines');
    expect(await replayOnThreads(location, log, { jobs: 3, sample: 1 })).toEqual(one);
    const missing = { bundleDir: join(scratch, 'none'), dataFile: null };
    await expect(replayOnThreads(missing, log, { jobs: 2, sample: 1 })).rejects.toThrow('does not exist');
  });

  test('a log that is cut off in the middle of its archive is an error, not an end', async () => {
    const packed = gzipSync(lines.join('\n'));
    await expect(replayed(packed.subarray(0, packed.length - 200))).rejects.toThrow();
  });
});
