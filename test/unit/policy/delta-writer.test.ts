/** A delta that is written between two bundles makes the first one the second, where it is taken at all. */
import { describe, expect, test } from 'vitest';
import type { JsonObject } from '../../../src/core/json.ts';
import { Secret } from '../../../src/core/secret.ts';
import type { Bundle } from '../../../src/policy/bundle.ts';
import { readContents } from '../../../src/policy/bundle-contents.ts';
import type { SigningRules } from '../../../src/policy/bundle-signing.ts';
import { writeArchive } from '../../../src/policy/bundle-writer.ts';
import { DataDocument } from '../../../src/policy/data-document.ts';
import { changesBetween, makeDelta } from '../../../src/policy/delta-writer.ts';
import { PolicySlot } from '../../../src/policy/policy-slot.ts';
import { createLocalSource } from '../../../src/policy/sources.ts';
import { bundleFiles, makeKey } from '../../helpers/bundles.ts';

const QUIET = { debug() {}, info() {}, warn() {}, error() {} };

function applied(from: JsonObject, to: JsonObject): JsonObject {
  const document = new DataDocument(structuredClone(from));
  document.apply(changesBetween(from, to));
  return document.root;
}

describe('the changes between two documents', () => {
  test.each<[string, JsonObject, JsonObject]>([
    ['nothing', { a: 1 }, { a: 1 }],
    ['members that come, go and change', { a: 1, b: { c: [1], d: 2 } }, { b: { c: [1, 2], e: null }, f: {} }],
    ['an object that was a list, and the reverse', { a: [1], b: { c: 1 } }, { a: { 0: 1 }, b: [{ c: 1 }] }],
    ['names with what a pointer escapes', { 'a/b': { '~': 1, '~1': 2 } }, { 'a/b': { '~': 2, '/': 3 } }],
    ['a name no path can have, further in', { a: { '': { x: 1 }, y: 1 } }, { a: { '': { x: 2 }, y: 1 } }],
    ['null for something', { a: { b: 1 } }, { a: null }],
    ['the order of members alone', { a: { x: 1, y: 2 } }, { a: { y: 2, x: 1 } }],
  ])('make one of the other: %s', (_what, from, to) => {
    expect(applied(from, to)).toEqual(to);
    expect(applied(to, from)).toEqual(from);
  });

  test('make one of the other whatever the documents are', () => {
    let seed = 20_261_123;
    const dice = (sides: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fffffff;
      return Math.floor((seed / 0x80000000) * sides);
    };
    const value = (depth: number): JsonObject[string] => {
      const kind = dice(depth > 0 ? 6 : 4);
      if (kind === 0) return null;
      if (kind === 1) return dice(3);
      if (kind === 2) return dice(2) === 0;
      if (kind === 3) return 'xyz'.slice(dice(3));
      if (kind === 4) return [value(depth - 1), dice(2)];
      return object(depth - 1);
    };
    const object = (depth: number): JsonObject =>
      Object.fromEntries(Array.from({ length: dice(5) }, () => [['a', 'b', 'c/d', '~e', 'f'][dice(5)], value(depth)]));
    for (let i = 0; i < 2000; i++) {
      const [from, to] = [object(4), object(4)];
      expect(applied(from, to)).toEqual(to);
    }
  });
});

const key = makeKey('EdDSA');
const signing = { key: { algorithm: key.algorithm, key: new Secret(key.privatePem) }, keyid: 'k', scope: undefined };
const rules: SigningRules = { keys: { k: { algorithm: key.algorithm, key: new Secret(key.publicPem) } } };

async function bundle(revision: string, sequence: number | null, data: object): Promise<Bundle> {
  const files = await bundleFiles(revision);
  const own = JSON.parse(String(files.get('data.json'))) as object;
  const metadata = sequence === null ? {} : { metadata: { sequence } };
  const manifest = { ...(JSON.parse(String(files.get('.manifest'))) as object), ...metadata };
  files.set('data.json', Buffer.from(JSON.stringify({ ...own, ...data })));
  files.set('.manifest', Buffer.from(JSON.stringify(manifest)));
  const contents = await readContents(writeArchive(files), null);
  if (contents.kind === 'delta') throw new Error('a whole bundle was written');
  return contents.bundle;
}

test('a signed delta between two bundles makes a gateway’s data exactly those of the second', async () => {
  const from = await bundle('r1', 1, { gone: [1], 'odd/name~': { kept: 1, changed: 1 } });
  const to = await bundle('r2', 2, { 'odd/name~': { kept: 1, changed: 2 }, more: { deep: { er: true } } });
  const made = makeDelta({ from, to, sequence: 2, signing });
  expect(made).toMatchObject({ base: 'r1', revision: 'r2', changes: 3 });
  const contents = await readContents(made.archive, rules);
  if (contents.kind !== 'delta') throw new Error('a delta was written');
  const activation = {
    ...{ bundleDir: '', dataFile: null, warmUp: 0 },
    ...{ entrypoint: 'portcullis/main/decision', listEntrypoint: 'portcullis/main/decisions' },
  };
  const source = { ...createLocalSource(activation, Date.now), load: async () => from };
  const slot = new PolicySlot({ source, activation, clock: Date, logger: QUIET, onSwap() {} });
  await slot.load('start');
  expect(slot.lastError).toBeNull();
  const done = await slot.deliver({ kind: 'delta', delta: contents.delta, base: from.revision });
  expect(done).toMatchObject({ ok: true, taken: true });
  expect(slot.active?.document.root).toEqual(to.data);
  expect(slot.active?.bundle).toMatchObject({ label: 'r2', sequence: 2 });
  // It is for that one base, once.
  expect(await slot.deliver({ kind: 'delta', delta: contents.delta, base: slot.active?.revision ?? '' })).toMatchObject(
    {
      ok: false,
      reason: expect.stringContaining('another base'),
    },
  );
});

test('no delta is written where none would be taken', async () => {
  const from = await bundle('r1', 5, { a: 1 });
  const to = await bundle('r2', 6, { a: 2 });
  const attempt = (wish: Partial<Parameters<typeof makeDelta>[0]>) => () =>
    makeDelta({ from, to, sequence: 6, signing: null, ...wish });
  expect(attempt({})).not.toThrow();
  expect(attempt({ to: { ...to, wasm: Buffer.from([0]) } })).toThrow('differ in their rules (policy.wasm)');
  expect(attempt({ to: { ...to, roots: ['a'] } })).toThrow('differ in their roots');
  expect(attempt({ to: { ...to, beside: '' } })).toThrow('smoke decisions');
  expect(attempt({ to: { ...from, label: 'r2' } })).toThrow('do not differ');
  expect(attempt({ revision: 'r1' })).toThrow('both bundles are called r1');
  expect(attempt({ sequence: 5 })).toThrow('would not be newer (sequence 5) than 5');
  expect(attempt({ to: await bundle('r2', 6, { '': 1 }) })).toThrow('a name that no delta can have');
});
