/** Data that mean something else to the rules than to their author do not come into force. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { JsonObject, JsonValue } from '../../../src/core/json.ts';
import { loadBundle, withData } from '../../../src/policy/bundle.ts';
import type { Delta } from '../../../src/policy/bundle-contents.ts';
import { DataDocument, type PatchOperation } from '../../../src/policy/data-document.ts';
import { requireDataShape } from '../../../src/policy/data-shape.ts';
import { PolicySlot } from '../../../src/policy/policy-slot.ts';
import { createLocalSource } from '../../../src/policy/sources.ts';
import { POLICIES } from '../../helpers/gateway.ts';
import { ROOT } from '../../helpers/processes.ts';

interface Row {
  readonly set: string;
  readonly to: JsonValue;
  readonly place: string;
}

const read = (path: string) => JSON.parse(readFileSync(path, 'utf8')) as unknown;
const ROWS = read(join(ROOT, 'test/corpus/policy/data-shapes.json')) as readonly Row[];
const SHIPPED = ['data.json', 'profiles/strict.json'].map((name) => read(join(POLICIES, name)) as JsonObject);
const [DATA = {}] = SHIPPED;
const OURS = new Map([['mcp/gateway/context/deny', 1]]);
const QUIET = { debug() {}, info() {}, warn() {}, error() {} };

const changeOf = ({ set, to }: Pick<Row, 'set' | 'to'>): PatchOperation => ({
  ...{ op: 'upsert', path: set.split('.'), value: to },
});

function changed(row: Pick<Row, 'set' | 'to'>): JsonObject {
  const document = new DataDocument(structuredClone(DATA));
  document.apply([changeOf(row)]);
  return document.root;
}

const escaped = (text: string) => text.replaceAll(/[[\]*.]/g, '\\$&');

describe('data of the shipped rules', () => {
  test.each(ROWS.map((row) => [`${row.set} ${JSON.stringify(row.to)}`, row] as const))('%s', (_name, row) => {
    const fault = new RegExp(`^the data are not what the rules take them for: ${escaped(row.place)} expected`);
    expect(() => requireDataShape(changed(row), OURS)).toThrow(fault);
    expect(() => requireDataShape(changed(row), OURS, [changeOf(row)])).toThrow(fault);
  });

  test('are as they are shipped, may lack anything, and may have members of one’s own', () => {
    for (const data of SHIPPED) expect(() => requireDataShape(data, OURS)).not.toThrow();
    for (const data of [{}, { config: {} }, { config: { version: 1 }, tenants: {} }]) {
      expect(() => requireDataShape(data, OURS)).not.toThrow();
    }
    for (const set of ['config.mine', 'config.tool_access.user.query.note', 'mine', 'config.trust.note']) {
      expect(() => requireDataShape(changed({ set, to: [1, 'x'] }), OURS)).not.toThrow();
    }
  });

  test('of other rules are their author’s business', () => {
    const other = { config: { levels: 7, hipaa: 'x' }, tenants: [1] };
    expect(() => requireDataShape(other, new Map([['app/allow', 0]]))).not.toThrow();
    expect(() => requireDataShape({ ...other, config: { ...other.config, version: 1 } }, new Map())).toThrow();
  });

  test('are refused by their places, five at most', () => {
    const roles = Object.fromEntries('abcdefgh'.split('').map((role) => [role, 'x']));
    expect(() => requireDataShape(changed({ set: 'config.role_permissions', to: roles }), OURS)).toThrow(
      /; and 3 more$/,
    );
  });
});

test('wrong data are not activated, neither as a bundle nor as a change, and the policy before stays', async () => {
  const bundle = await loadBundle({ bundleDir: POLICIES, dataFile: null });
  let next = bundle;
  const activation = {
    ...{ bundleDir: POLICIES, dataFile: null, warmUp: 0 },
    ...{ entrypoint: 'portcullis/main/decision', listEntrypoint: 'portcullis/main/decisions' },
  };
  const source = { ...createLocalSource(activation, Date.now), load: async () => structuredClone(next) };
  const slot = new PolicySlot({ source, activation, clock: Date, logger: QUIET, onSwap() {} });
  await slot.load('start');
  expect(slot.lastError).toBeNull();
  next = withData(bundle, changed({ set: 'config.production_names', to: 'production' }));
  await slot.load('reload');
  expect(slot.lastError).toMatch(/data\.config\.production_names: expected array, received string/);
  const text = slot.active?.document.text();
  const operations: readonly PatchOperation[] = [
    { op: 'upsert', path: ['fine'], value: true },
    { op: 'upsert', path: ['config', 'hipaa', 'tags'], value: ['phi', 1] },
  ];
  const delta: Delta = {
    ...{ operations, digest: 'd', label: null, roots: null, modules: null, claims: [], base: null, sequence: null },
  };
  const done = await slot.deliver({ kind: 'delta', delta, base: bundle.revision });
  expect(done).toMatchObject({ ok: false, reason: expect.stringContaining('data.config.hipaa.tags[1]') });
  expect(slot.active?.revision).toBe(bundle.revision);
  expect(slot.active?.document.text()).toBe(text);
});
