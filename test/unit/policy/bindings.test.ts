/** Routes that the metadata of a policy binds to its entrypoints: what is read, what is refused, who has the last word. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { JsonValue } from '../../../src/core/json.ts';
import { type BindableRoute, bindRoutes, claimsOnNothing, routesOf } from '../../../src/policy/bindings.ts';
import { digestSources, loadBundle, staleSources } from '../../../src/policy/bundle.ts';
import { readContents } from '../../../src/policy/bundle-contents.ts';
import { writeArchive } from '../../../src/policy/bundle-writer.ts';
import { createPolicyEngine, type OpaEngine } from '../../../src/policy/opa-engine.ts';
import { type Deliver, type PolicySource, SourceRecord } from '../../../src/policy/sources.ts';
import { bundleFiles, type Files } from '../../helpers/bundles.ts';
import { NOW } from './requests.ts';

interface Hostile {
  readonly name: string;
  readonly entry?: string;
  readonly wasm?: object;
  readonly roots?: readonly string[];
  readonly bindings?: unknown;
  readonly sources?: Readonly<Record<string, string>>;
  readonly error: string;
}

interface Corpus {
  readonly annotations: readonly {
    readonly name: string;
    readonly annotation: JsonValue;
    readonly routes?: readonly string[];
    readonly fault?: string;
  }[];
  readonly hostile: readonly Hostile[];
}

const file = new URL('../../corpus/policy/bindings.json', import.meta.url);
const corpus = JSON.parse(await readFile(file, 'utf8')) as Corpus;
const DECISION = 'portcullis/main/decision';

describe('metadata of a rule', () => {
  test.each(corpus.annotations.map((one) => [one.name, one] as const))('%s', (_, { annotation, routes, fault }) => {
    const read = routesOf(annotation);
    if (fault === undefined) expect(read).toEqual(routes);
    else expect(read).toEqual(expect.stringContaining(fault));
  });

  test('names no more routes than anybody has', () => {
    const routes = Array.from({ length: 1001 }, (_, i) => `/r${i}`);
    expect(routesOf({ custom: { portcullis: { routes } } })).toEqual(expect.stringContaining('1000'));
  });
});

describe('who decides on a route', () => {
  const route = (match: string, entrypoint: string | null = null, isConfigured = true): BindableRoute => {
    return { match, entrypoint, isConfigured };
  };
  const routes = [
    route('/v1'),
    route('/v1/chat'),
    route('/v10'),
    route('/mcp', 'own/decision'),
    route('/tools', null, false),
  ];
  const bound = (...claims: readonly (readonly [string, string])[]) => {
    const made = claims.map(([entrypoint, name]) => ({ entrypoint, route: name, at: null }));
    return bindRoutes(routes, made, DECISION).map(({ entrypoint, from }) => `${entrypoint} (${from})`);
  };

  test('is what the configuration says, else what the policy says, else the default', () => {
    expect(bound(['a/d', '/v1/chat'], ['b/d', '/mcp'])).toEqual([
      `${DECISION} (default)`,
      'a/d (bundle)',
      `${DECISION} (default)`,
      'own/decision (configuration)',
      `${DECISION} (default)`,
    ]);
  });

  test('a star means the route itself and those below it, by whole segments', () => {
    expect(bound(['a/d', '/v1/*']).slice(0, 3)).toEqual(['a/d (bundle)', 'a/d (bundle)', `${DECISION} (default)`]);
  });

  test('a star alone means every route of the configuration and none that the gateway adds', () => {
    expect(bound(['a/d', '/*'])).toEqual([
      ...Array(3).fill('a/d (bundle)'),
      'own/decision (configuration)',
      `${DECISION} (default)`,
    ]);
    expect(bound(['a/d', '/tools'])[4]).toBe('a/d (bundle)');
  });

  test('what is bound to no route is told', () => {
    const claims = ['/mcp', '/v2', '/v2/*', '/v1/*'].map((name) => ({ entrypoint: 'a/d', route: name, at: null }));
    expect(claimsOnNothing(routes, claims).map((claim) => claim.route)).toEqual(['/v2', '/v2/*']);
  });
});

describe('a bundle with bindings', () => {
  let dir = '';
  let bundle = '';
  let engine: OpaEngine;
  const warnings: string[] = [];

  /** The shipped policy with what the corpus says changed. */
  async function made(parts: Partial<Hostile>): Promise<Files> {
    const { entry = DECISION, wasm, roots = [''], bindings, sources = {} } = parts;
    const files = await bundleFiles('r1');
    for (const [name, text] of Object.entries(sources)) files.set(name, Buffer.from(text));
    const described = JSON.parse(String(files.get('manifest.json'))) as { entrypoints: object };
    if (bindings !== undefined) files.set('manifest.json', Buffer.from(JSON.stringify({ ...described, bindings })));
    const modules = Object.keys(described.entrypoints).map((entrypoint) => ({ entrypoint, module: '/policy.wasm' }));
    const all = [...modules, ...(wasm === undefined ? [] : [{ entrypoint: entry, module: '/policy.wasm', ...wasm }])];
    files.set('.manifest', Buffer.from(JSON.stringify({ revision: 'r1', roots, wasm: all })));
    if (!roots.includes('')) files.set('data.json', Buffer.from('{}'));
    return files;
  }

  const named = (...routes: readonly string[]) => ({ annotations: [{ custom: { portcullis: { routes } } }] });

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'portcullis-bindings-'));
    bundle = join(dir, 'bundle.tar.gz');
    await writeFile(bundle, writeArchive(await made({})));
    engine = await createPolicyEngine({
      ...{ bundleDir: bundle, dataFile: null, entrypoint: DECISION, clock: { now: () => NOW } },
      ...{ cache: { entries: 100, base_ttl_ms: 60_000 }, servers: new Map(), decisionLog: null },
      routes: [{ match: '/tools', entrypoint: null, isConfigured: true }],
      logger: { debug() {}, info() {}, warn: (_: object, text?: string) => warnings.push(text ?? ''), error() {} },
    });
  });
  afterAll(async () => {
    await engine.close();
    await rm(dir, { recursive: true, force: true });
  });

  test.each(corpus.hostile.map((one) => [one.name, one] as const))('is refused for %s', async (_, hostile) => {
    const before = engine.revision;
    await writeFile(bundle, writeArchive(await made(hostile)));
    const status = await engine.reload();
    expect(status.last_error).toContain(hostile.error);
    expect(status.revision).toBe(before);
    expect(status.routes).toEqual([{ route: '/tools', entrypoint: DECISION, from: 'default' }]);
  });

  test('says which routes it binds, and which of them are not there', async () => {
    await writeFile(bundle, writeArchive(await made({ wasm: named('/tools', '/toools') })));
    const { last_error, routes, unknown_routes } = await engine.reload();
    expect(last_error).toBeNull();
    expect(routes).toEqual([{ route: '/tools', entrypoint: DECISION, from: 'bundle' }]);
    expect(unknown_routes).toEqual([{ route: '/toools', entrypoint: DECISION, at: null }]);
    expect(warnings).toEqual([`the policy binds /toools to ${DECISION}, but the configuration has no such route`]);
  });

  test('is taken with its sources when it holds all that their metadata binds', async () => {
    const bound = '# METADATA\n# custom: {portcullis: {routes: [/tools/, /v1/*]}}\n';
    const sources = {
      'a.rego': bound,
      'a_test.rego': bound.replace('/tools', '/tests'),
      'b.rego': '# portcullis METADATA',
    };
    const contents = await readContents(writeArchive(await made({ wasm: named('/tools', '/v1/*'), sources })), null);
    expect(contents.kind).toBe('snapshot');
  });

  test('keeps its bindings when it is unpacked, and is out of date in a directory whose metadata says more', async () => {
    const unpacked = join(dir, 'unpacked');
    await mkdir(unpacked);
    const write = async (source: string, drop: string) => {
      const files = await made({ wasm: named('/tools'), sources: { 'a.rego': source } });
      files.delete(drop);
      for (const [name, content] of files) await writeFile(join(unpacked, name), content);
      await rm(join(unpacked, drop), { force: true });
      const loaded = await loadBundle({ bundleDir: unpacked, dataFile: null });
      const { sources } = loaded;
      // As if it had been compiled from just this, by somebody who does not know of bindings.
      const known = sources === null ? null : await digestSources(unpacked);
      return { claims: loaded.claims, stale: await staleSources(unpacked, { ...loaded, sources: known }) };
    };
    const bound = '# METADATA\n# custom: {portcullis: {routes: [/tools]}}\npackage a\n';
    const claims = [{ entrypoint: DECISION, route: '/tools', at: null }];
    expect(await write(bound, 'manifest.json')).toEqual({ claims, stale: [] });
    expect(await write(bound.replace('tools', 'more'), 'manifest.json')).toEqual({ claims, stale: ['a.rego'] });
    expect(await write(bound, '.manifest')).toEqual({ claims: [], stale: ['a.rego'] });
  });

  test('is another policy when it binds another route, with the same module and data', async () => {
    const revision = async (parts: Partial<Hostile>) => {
      const contents = await readContents(writeArchive(await made(parts)), null);
      return contents.kind === 'snapshot' ? contents.bundle.revision : null;
    };
    const [none, one, other] = [
      await revision({}),
      await revision({ wasm: named('/a') }),
      await revision({ wasm: named('/b') }),
    ];
    expect(new Set([none, one, other]).size).toBe(3);
    expect(await revision({ wasm: named('/a', '/a') })).toBe(one);
    expect(await revision({ bindings: [{ entrypoint: DECISION, route: '/a', at: 'main.rego:30' }] })).toBe(one);
  });

  test('is told from one that binds otherwise when it is sent, taken back and changed', async () => {
    const contentsOf = async (files: Files) => readContents(writeArchive(files), null);
    const bundleOf = async (...routes: readonly string[]) => {
      const contents = await contentsOf(await made({ wasm: named(...routes) }));
      if (contents.kind !== 'snapshot') throw new Error('no snapshot');
      return contents.bundle;
    };
    const [none, bound] = [await bundleOf('/nowhere'), await bundleOf('/tools')];
    let deliver: Deliver = () => Promise.reject(new Error('nobody listens'));
    const source: PolicySource = {
      ...{ pinned: null, load: async () => none, settled: async () => {}, pin: async () => {}, close: async () => {} },
      follow: (heard) => {
        deliver = heard;
      },
      status: () => new SourceRecord('service', 'test', () => NOW).status,
    };
    const told: string[] = [];
    const served = await createPolicyEngine({
      ...{ bundleDir: '', dataFile: null, source, entrypoint: DECISION, clock: { now: () => NOW } },
      ...{ cache: { entries: 100, base_ttl_ms: 60_000 }, servers: new Map(), decisionLog: null },
      routes: [{ match: '/tools', entrypoint: null, isConfigured: true }],
      logger: { debug() {}, info() {}, warn: (_: object, text?: string) => told.push(text ?? ''), error() {} },
    });
    const who = () => served.status().routes?.map(({ from }) => from);
    expect(await deliver({ kind: 'snapshot', bundle: bound })).toMatchObject({ ok: true, taken: true });
    expect(who()).toEqual(['bundle']);
    // Taken back, it stays out; what it replaced has the same module and data, and may come again.
    expect(served.rollback()).toBe(true);
    expect(who()).toEqual(['default']);
    expect(await deliver({ kind: 'snapshot', bundle: bound })).toMatchObject({ taken: false });
    expect(await deliver({ kind: 'snapshot', bundle: none })).toMatchObject({ taken: true });
    const change = async (wasm: readonly object[]) => {
      const files: Files = new Map([
        ['patch.json', Buffer.from('{"data":[{"op":"upsert","path":"/extra","value":1}]}')],
        ['.manifest', Buffer.from(JSON.stringify({ revision: 'r2', roots: [''], wasm }))],
      ]);
      const contents = await contentsOf(files);
      if (contents.kind !== 'delta') throw new Error('no delta');
      return deliver({ kind: 'delta', delta: { ...contents.delta, modules: null }, base: served.revision ?? '' });
    };
    const annotated = { entrypoint: DECISION, module: '/policy.wasm', ...named('/tools') };
    expect(await change([annotated])).toEqual({ ok: false, reason: 'the delta binds other routes than its snapshot' });
    told.length = 0;
    expect(await change([])).toMatchObject({ ok: true });
    // Of a route that is not there it was told with the snapshot.
    expect(told).toEqual([]);
    expect(who()).toEqual(['default']);
    await served.close();
  });
});
