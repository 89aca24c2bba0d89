import { createHash } from 'node:crypto';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { BundleManifest } from '../../../src/policy/bundle-format.ts';
import { compile, digestOf, runOpaTests, sourceDigest } from '../../../src/policy/compiler.ts';
import { findOpa, OPA_VERSION } from '../../../src/policy/opa-command.ts';
import { policyInput } from '../../helpers/policy-input.ts';
import { sdkPolicy } from '../../helpers/policy-sdk.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const policies = join(root, 'policies');
const scratch = await mkdtemp(join(tmpdir(), 'portcullis-compiler-'));
// Compiling the tool itself, once per machine, takes minutes.
const opa = await findOpa();
const missing = opa.path === null && process.env.CI !== 'true' ? opa.message : null;
if (missing !== null) console.warn(`policy compiler tests are skipped: ${missing}`);

let manifest: BundleManifest;

beforeAll(async () => {
  manifest = JSON.parse(await readFile(join(policies, 'bundle/manifest.json'), 'utf8')) as BundleManifest;
});

afterAll(() => rm(scratch, { recursive: true, force: true }));

async function sources(name: string, files: Record<string, string>): Promise<string> {
  const dir = join(scratch, name);
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(dir, path)), { recursive: true });
    await writeFile(join(dir, path), text);
  }
  return dir;
}

test('the compiler version is the one tools/opa is pinned to', async () => {
  const mod = await readFile(join(root, 'tools/opa/go.mod'), 'utf8');
  expect(/open-policy-agent\/opa v(\S+)/.exec(mod)?.[1]).toBe(OPA_VERSION);
  expect(manifest.opa).toBe(OPA_VERSION);
});

test('the policy of the bare bench allows everything, compiled from the source beside it', async () => {
  const dir = join(root, 'bench/policies/allow-all');
  const made = JSON.parse(await readFile(join(dir, 'bundle/manifest.json'), 'utf8')) as typeof manifest;
  expect(digestOf(made.sources)).toBe(await sourceDigest(dir));
  const policy = await sdkPolicy(await readFile(join(dir, 'bundle/policy.wasm')), {});
  expect(policy.evaluate({}, 'portcullis/main/decision')).toMatchObject({ allow: true, deny: [] });
});

describe('the bundle in the repository', () => {
  test('was made from the sources beside it', async () => {
    expect(digestOf(manifest.sources)).toBe(await sourceDigest(policies));
  });

  test('holds the module its manifest speaks of', async () => {
    const wasm = await readFile(join(policies, 'bundle/policy.wasm'));
    expect(createHash('sha256').update(wasm).digest('hex')).toBe(manifest.wasm);
    expect((await sdkPolicy(wasm, {})).entrypoints).toEqual(manifest.entrypoints);
  });

  test('holds the plan of the same rules, by the digest its manifest names', async () => {
    const plan = gunzipSync(await readFile(join(policies, 'bundle/plan.json.gz')));
    expect(createHash('sha256').update(plan).digest('hex')).toBe(manifest.plan);
    const { plans } = (JSON.parse(plan.toString()) as { plans: { plans: { name: string }[] } }).plans;
    expect(plans.map(({ name }) => name).sort()).toEqual(Object.keys(manifest.entrypoints).sort());
  });

  test('needs only clocks of the host', async () => {
    const wasm = await readFile(join(policies, 'bundle/policy.wasm'));
    const text = wasm.toString('latin1');
    const names = ['sprintf', 'http.send', 'regex.', 'io.jwt', 'internal.template_string'];
    expect(names.filter((name) => text.includes(name))).toEqual([]);
  });
});

describe.skipIf(missing !== null)('compiling', () => {
  test('gives the checked-in module again, byte for byte, from any place', async () => {
    const elsewhere = join(scratch, 'copy');
    await cp(policies, elsewhere, { recursive: true });
    for (const dir of [policies, elsewhere]) {
      const result = await compile(dir);
      if (result.kind !== 'compiled') throw new Error(JSON.stringify(result));
      expect(result.wasm.equals(await readFile(join(policies, 'bundle/policy.wasm')))).toBe(true);
      expect(result.manifest).toEqual(manifest);
      expect(result.plan.equals(gunzipSync(await readFile(join(policies, 'bundle/plan.json.gz'))))).toBe(true);
    }
  });

  test('writes module and manifest to the folder asked for', async () => {
    const out = join(scratch, 'out');
    await compile(policies, { out });
    expect(await readFile(join(out, 'manifest.json'), 'utf8')).toBe(
      await readFile(join(policies, 'bundle/manifest.json'), 'utf8'),
    );
    expect((await readFile(join(out, 'policy.wasm'))).length).toBeGreaterThan(100_000);
  });

  test('places a fault of the sources by file, line and column', async () => {
    const dir = await sources('faulty', {
      'deep/a.rego': 'package a\n\n# METADATA\n# entrypoint: true\nallow if nothing_known\n',
    });
    const result = await compile(dir);
    expect(result.kind).toBe('rejected');
    if (result.kind !== 'rejected') return;
    expect(result.problems[0]).toMatchObject({ file: 'deep/a.rego', line: 5 });
    expect(result.problems[0]?.message).toContain('nothing_known');
  });

  test('reports text that is no Rego at all', async () => {
    const result = await compile(await sources('broken', { 'a.rego': 'package a\n\nallow if {\n' }));
    expect(result).toMatchObject({ kind: 'rejected', problems: [{ file: 'a.rego' }] });
  });

  test('reports sources without an entrypoint', async () => {
    const result = await compile(await sources('pointless', { 'a.rego': 'package a\n\nallow := true\n' }));
    expect(result.kind).toBe('rejected');
  });

  test('leaves tests and data out of the module', async () => {
    const dir = await sources('lean', {
      'a.rego': 'package a\n\nallow if input.x == data.y\n',
      'a_test.rego': 'package a_test\n\ntest_it if 1 == 2\n',
      'data.json': '{"y": 1}',
    });
    const result = await compile(dir, { entrypoints: ['a/allow'] });
    if (result.kind !== 'compiled') throw new Error(JSON.stringify(result));
    expect(Object.keys(result.manifest.sources)).toEqual(['a.rego']);
    expect(result.manifest.input_paths).toEqual([['x']]);
    expect((await sdkPolicy(result.wasm, { y: 1 })).evaluate({ x: 1 }, 'a/allow')).toBe(true);
    expect((await sdkPolicy(result.wasm, { y: 2 })).evaluate({ x: 1 }, 'a/allow')).toBeUndefined();
  });

  test('takes in a package of your own that denies and allows', async () => {
    const dir = join(scratch, 'custom');
    await cp(policies, dir, { recursive: true });
    await writeFile(
      join(dir, 'freeze.rego'),
      'package portcullis.custom.freeze\n\nviolations contains {"code": "FORBIDDEN", "message": "Frozen", "severity": "low"} if {\n\tinput.tool_name == "drop_all"\n}\n\nallow if input.tool_name == "ping"\n',
    );
    const result = await compile(dir);
    if (result.kind !== 'compiled') throw new Error(JSON.stringify(result));
    expect(result.manifest.input_paths).toContainEqual(['tool_name']);
    const data = JSON.parse(await readFile(join(policies, 'data.json'), 'utf8')) as object;
    const policy = await sdkPolicy(result.wasm, data);
    const decide = (tool_name: string, role: string): unknown =>
      policy.evaluate({ ...policyInput({ role }), tool_name }, 'portcullis/main/decision');
    expect(decide('drop_all', 'admin')).toMatchObject({
      allow: false,
      deny: [{ code: 'FORBIDDEN', message: 'Frozen' }],
    });
    expect(decide('ping', 'guest')).toMatchObject({ allow: true });
    expect(decide('other', 'guest')).toMatchObject({ allow: false });
    const calls = ['drop_all', 'ping', 'other'].map((tool_name) => ({
      action: 'gateway:tool:discover',
      tool_name,
      gateway_metadata: { tool_type: 'query', sensitivity_level: 'low' },
    }));
    const listed = policy.evaluate({ ...policyInput({ role: 'guest' }), calls }, 'portcullis/main/decisions');
    expect((listed as { allow: boolean }[]).map(({ allow }) => allow)).toEqual([false, true, false]);
  });
});

describe.skipIf(missing !== null)('what policies read', () => {
  const paths = async (name: string, text: string): Promise<unknown> => {
    const dir = await sources(name, { 'a.rego': text });
    const result = await compile(dir, { entrypoints: ['a/x'] });
    return result.kind === 'compiled' ? result.manifest.input_paths : result;
  };

  test('is found through functions of the document', async () => {
    const text =
      'package a\n\nx if f(input)\n\nf(call) if g(call, 1)\n\ng(doc, _) if doc.user.roles[_] == doc.wanted\n';
    expect(await paths('functions', text)).toEqual([['user', 'roles'], ['wanted']]);
  });

  test('is found in the result of a function that merges documents', async () => {
    const text =
      'package a\n\nx if whole(input).b == g(whole(input))\n\nwhole(doc) := object.union(doc, {"c": 1})\n\ng(d) := d.e.f\n';
    expect(await paths('merging', text)).toEqual([['b'], ['e', 'f']]);
  });

  test('is everything below a path that is used as a whole', async () => {
    expect(await paths('whole', 'package a\n\nx if count(input.user) > input.user.n\n')).toEqual([['user']]);
  });

  test('tells a count that is compared with figures of a package’s own from one compared with the limits', async () => {
    const rule = 'x if input.rate_limit.count > 10\n';
    const exact = ['rate_limit', 'exact_count'];
    expect(await paths('count', `package a\n\n${rule}`)).toEqual([['rate_limit', 'count'], exact]);
    const read = (manifest.input_paths ?? []).map((path) => path.join('.'));
    expect(read).not.toContain(exact.join('.'));
  });

  test('is found in elements of a list', async () => {
    const text = 'package a\n\nx := [f(each) | some each in input.calls]\n\nf(call) := call.name\n';
    expect(await paths('elements', text)).toEqual([['name']]);
  });

  test.each([
    ['walk', 'x if { walk(input, [_, v]); v == 1 }'],
    ['alias', 'x if { y := input; y.z == 1 }'],
    ['dynamic', 'x if { some k; input[k] == 1 }'],
    ['iterated', 'x if { some k, v in input; v == k }'],
    ['compared', 'x if input == {"a": 1}'],
    ['counted', 'x if count(input) == 1'],
    ['returned', 'x := input'],
    ['nested', 'x := {"a": input}'],
    ['replaced', 'x if data.b.y with data.b.z as input'],
    ['merged', 'x := object.union(input, {"a": 1})'],
    ['assigned', 'x if { y := object.union(input, {"a": 1}); y.z == 1 }'],
    ['imported', 'import input.user as who\n\nx if who.id == 1'],
    ['calls', 'x if input.calls[0].name == "a"'],
  ])('is not known where the document goes out of sight (%s)', async (name, rule) => {
    const result = await paths(`blind-${name}`, `package a\n\n${rule}\n`);
    expect(result).toBeNull();
  });

  test('of the shipped policies leaves out ids, times and the caller’s arguments', () => {
    const read = (manifest.input_paths ?? []).map((path) => path.join('.'));
    expect(read).toContain('user.roles');
    expect(read).toContain('rate_limit.count');
    for (const name of ['request_id', 'timestamp', 'parameters', 'parameters.query', 'user', 'gateway_metadata']) {
      expect(read).not.toContain(name);
    }
  });
});

describe.skipIf(missing !== null)('the policies’ own tests', () => {
  test('of the documentation’s first policy pass beside the shipped ones', async () => {
    const dir = join(scratch, 'documented');
    await cp(policies, dir, { recursive: true });
    const text = await readFile(join(root, 'docs/policies.md'), 'utf8');
    const [rule, its] = [...text.matchAll(/```rego\n(.*?)```/gs)].map((match) =>
      (match[1] ?? '').replaceAll(/^ {3}/gm, ''),
    );
    await writeFile(join(dir, 'freeze.rego'), rule ?? '');
    await writeFile(join(dir, 'freeze_test.rego'), its ?? '');
    const result = await runOpaTests(dir);
    expect(result.failed).toBe(0);
    expect(result.tests.map(({ name }) => name)).toContain('test_a_frozen_deployment_is_refused');
    expect(await compile(dir)).toMatchObject({ kind: 'compiled' });
  });

  test('are about the shipped policies alone: a package of the operator’s own fails none of them', async () => {
    const dir = join(scratch, 'with-own');
    await cp(policies, dir, { recursive: true });
    const all = '{"code": "FORBIDDEN", "message": "Closed", "severity": "low"}';
    await writeFile(join(dir, 'closed.rego'), `package portcullis.custom.closed\n\nviolations contains ${all}\n`);
    const { tests } = await runOpaTests(dir);
    expect(tests.filter(({ outcome }) => outcome !== 'passed').map(({ name }) => name)).toEqual([]);
  });

  test('that fail are named with their place', async () => {
    const dir = await sources('failing', {
      'a_test.rego': 'package a_test\n\ntest_no if 1 == 2\n\ntest_yes if true\n',
    });
    const result = await runOpaTests(dir);
    expect(result).toMatchObject({ passed: 1, failed: 1 });
    expect(result.tests).toContainEqual({
      package: 'a_test',
      name: 'test_no',
      outcome: 'failed',
      file: 'a_test.rego',
      line: 3,
    });
  });

  test('that do not load say so', async () => {
    const result = await runOpaTests(await sources('unloadable', { 'a_test.rego': 'package\n' }));
    expect(result.error).toContain('a_test.rego');
  });
});

test('without any compiler one message names the three ways', async () => {
  const bare = { PATH: scratch, PORTCULLIS_CACHE: join(scratch, 'cache') };
  const result = await compile(policies, { env: bare });
  expect(result.kind).toBe('no-compiler');
  if (result.kind !== 'no-compiler') return;
  for (const way of ['OPA_BIN', 'PATH', 'Go 1.25']) expect(result.message).toContain(way);
});

test('an opa of another version on PATH is passed over', async () => {
  const dir = await sources('old', { opa: '#!/bin/sh\necho "Version: 0.60.0"\n' });
  const { chmod } = await import('node:fs/promises');
  await chmod(join(dir, 'opa'), 0o755);
  const found = await findOpa({ PATH: dir, PORTCULLIS_CACHE: join(scratch, 'cache') });
  expect(found).toMatchObject({ path: null });
  expect(found.path === null && found.message).toContain('0.60.0');
});
