/** Data changed in place decides exactly as the same data loaded whole. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { JsonObject, JsonValue } from '../../../../src/core/json.ts';
import { DataDocument, dataOperations, type PatchOperation } from '../../../../src/policy/data-document.ts';
import { buildInput } from '../../../../src/policy/input.ts';
import { BUILTINS } from '../../../../src/policy/wasm/builtins.ts';
import { PolicyHost } from '../../../../src/policy/wasm/host.ts';
import { DEFAULT_LIMITS, PolicyProgram } from '../../../../src/policy/wasm/program.ts';
import { POLICIES } from '../../../helpers/gateway.ts';
import { makeRequest, makeServer, NOW } from '../requests.ts';

const program = await PolicyProgram.load(
  await readFile(join(POLICIES, 'bundle/policy.wasm')),
  BUILTINS,
  DEFAULT_LIMITS,
);
const DATA = JSON.parse(await readFile(join(POLICIES, 'data.json'), 'utf8')) as JsonObject;
const ENTRYPOINT = 'portcullis/main/decision';

function hostOn(data: JsonValue): { host: PolicyHost; document: DataDocument } {
  const document = new DataDocument(structuredClone(data) as JsonObject);
  return { document, host: new PolicyHost(program, () => document.text()) };
}

function change({ host, document }: ReturnType<typeof hostOn>, operations: readonly PatchOperation[]): void {
  const told = dataOperations(operations);
  document.apply(operations);
  host.patch(told);
}

const requests = ['developer', 'analyst', 'nobody'].flatMap((role) =>
  (['low', 'high'] as const).map((sensitivity_level) => {
    const request = makeRequest({ classification: { sensitivity_level } });
    return { ...request, principal: { ...request.principal, roles: [role] } };
  }),
);

const decide = (host: PolicyHost) =>
  requests.map((request) => host.evaluate(ENTRYPOINT, buildInput(request, makeServer()), NOW));

/** Paths that rules read, and others. */
const key = fc.constantFrom('config', 'tool_access', 'developer', 'analyst', 'extra', 'naïve ☃', '__proto__', '0', '');
const path = fc.array(key, { minLength: 1, maxLength: 4 });
/** As parsed from text: nothing in it is there twice. */
const leaf = fc
  .oneof(
    fc.constantFrom<JsonValue>(null, true, false, 0, -1, 1.5, 2 ** 40, '', 'low', 'ü'.repeat(40)),
    fc.dictionary(key, fc.constantFrom<JsonValue>('query', ['low', 'high'], {}, { query: ['low'] }), { maxKeys: 3 }),
    fc.array(fc.integer(), { maxLength: 5 }),
  )
  .map((value) => JSON.parse(JSON.stringify(value)) as JsonValue);
const operation: fc.Arbitrary<PatchOperation> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ op: fc.constant('upsert' as const), path, value: leaf }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('replace' as const), path, value: leaf }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('remove' as const), path }) },
);

describe('data changed in place', () => {
  test('decides after any changes as the same data loaded whole', () => {
    let made = 0;
    fc.assert(
      fc.property(fc.array(fc.array(operation, { minLength: 1, maxLength: 2 }), { maxLength: 40 }), (patches) => {
        const live = hostOn(DATA);
        for (const patch of patches) {
          try {
            change(live, patch);
            made++;
          } catch {
            continue;
          }
          // Evaluations between two changes use the memory after the data.
          decide(live.host);
        }
        const fresh = hostOn(JSON.parse(live.document.text()) as JsonValue);
        expect(decide(live.host)).toEqual(decide(fresh.host));
      }),
      { numRuns: 80 },
    );
    expect(made).toBeGreaterThan(150);
  });

  test('takes a change back exactly', () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 8 }), (patch) => {
        const document = new DataDocument(structuredClone(DATA));
        const before = JSON.parse(document.text()) as JsonValue;
        try {
          const undo = document.apply(patch);
          document.apply(undo);
        } catch {
          // Refused as a whole: nothing has changed either.
        }
        expect(JSON.parse(document.text())).toEqual(before);
      }),
    );
  });

  const upsert = (value: JsonValue): PatchOperation => ({
    ...{ op: 'upsert', path: ['config', 'tool_access', 'developer'] },
    value,
  });
  const allowed = (host: PolicyHost) => JSON.stringify(decide(host)[0]).includes('"allow":true');

  test('stays when an evaluation is thrown out, and in instances made later', () => {
    const live = hostOn(DATA);
    expect(allowed(live.host)).toBe(true);
    change(live, [upsert({})]);
    expect(allowed(live.host)).toBe(false);
    let deep: JsonValue = 1;
    for (let i = 0; i < 100_000; i++) deep = [deep];
    for (let i = 0; i < 3; i++) {
      expect(live.host.evaluate(ENTRYPOINT, deep, NOW).kind).toBe('failed');
      expect(allowed(live.host)).toBe(false);
    }
    change(live, [upsert((DATA.config as JsonObject & { tool_access: JsonObject }).tool_access.developer ?? {})]);
    expect(allowed(live.host)).toBe(true);
  });

  test('takes bounded memory through any number of changes', () => {
    const live = hostOn(DATA);
    for (let i = 0; i < 10_000; i++) {
      change(live, [{ op: 'upsert', path: ['extra', `k${i % 50}`], value: { text: 'x'.repeat(i % 700), i } }]);
    }
    const { patched, rebuilt, instances } = live.host.stats;
    expect(patched + rebuilt).toBeGreaterThanOrEqual(10_000);
    expect(rebuilt).toBeLessThan(10);
    expect(instances).toBeLessThan(12);
    expect(decide(live.host)).toEqual(decide(hostOn(JSON.parse(live.document.text()) as JsonValue).host));
  });

  test('costs microseconds where a whole load costs milliseconds', () => {
    const users = Object.fromEntries(
      Array.from({ length: 6000 }, (_, i) => [
        `user-${i}`,
        { roles: ['developer'], teams: ['a', 'b'], level: i, note: 'x'.repeat(40) },
      ]),
    );
    const live = hostOn({ ...DATA, users });
    const bytes = live.document.text().length;
    const rounds = 1000;
    const measure = (count: number, act: (i: number) => void): number => {
      const started = performance.now();
      for (let i = 0; i < count; i++) act(i);
      return ((performance.now() - started) * 1000) / count;
    };
    const patch = measure(rounds, (i) =>
      change(live, [{ op: 'upsert', path: ['users', `user-${i * 5}`, 'level'], value: i }]),
    );
    const load = measure(3, () => new PolicyHost(program, live.document.text()));
    console.log(`data of ${bytes} bytes: ${patch.toFixed(1)} µs a change, ${load.toFixed(0)} µs a whole load`);
    expect(live.host.stats.rebuilt).toBe(0);
    expect(patch * 20).toBeLessThan(load);
  });
});
