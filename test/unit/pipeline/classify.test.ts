import { describe, expect, test } from 'vitest';
import type { ClassificationRegistry } from '../../../src/classification/classifier.ts';
import type { Call } from '../../../src/core/call.ts';
import { createClassify } from '../../../src/pipeline/stages/classify.ts';
import { makeCall, makeRegistry, makeServer, spell } from '../classification/registry-fixture.ts';

function counting() {
  const inner = makeRegistry();
  let asked = 0;
  const registry: ClassificationRegistry = {
    classify(call, server) {
      asked++;
      return inner.classify(call, server);
    },
  };
  const run = createClassify(registry, new Map([['srv', makeServer()]]));
  return { run: (call: Call) => spell(run(call).classification), asked: () => asked };
}

const listed = (extra: Partial<Call>) => makeCall('execute_query', null, extra);

describe('the memory of classes', () => {
  test('is not shared by calls with other annotations where no definition is known', () => {
    const { run, asked } = counting();
    expect(run(listed({ annotations: null }))).toBe('query/low');
    expect(run(listed({ annotations: { destructiveHint: true } }))).toBe('mutation/medium');
    expect(run(listed({ annotations: { destructiveHint: false } }))).toBe('query/low');
    expect(run(listed({ annotations: null }))).toBe('query/low');
    expect(asked()).toBe(3);
  });

  test('goes by the hash of the definition where there is one', () => {
    const { run, asked } = counting();
    const annotations = { destructiveHint: true };
    expect(run(listed({ schema_hash: 'sha256:a', annotations }))).toBe('mutation/medium');
    expect(run(listed({ schema_hash: 'sha256:b' }))).toBe('query/low');
    expect(run(listed({ schema_hash: 'sha256:a', annotations: { ...annotations } }))).toBe('mutation/medium');
    expect(asked()).toBe(2);
  });

  test('tells other arguments, tools and actions apart', () => {
    const { run, asked } = counting();
    const calls = [makeCall('a', {}), makeCall('a', { x: 1 }), makeCall('b', {}), makeCall('a', null)];
    for (const call of [...calls, ...calls]) run(call);
    expect(asked()).toBe(4);
  });

  test('tells the resources of a list apart', () => {
    const { run, asked } = counting();
    const item = (id: string): Call => ({
      ...makeCall('', null),
      action: 'gateway:resource:discover',
      tool: null,
      resource: { type: 'resource', id, tenant_id: null, owner_id: null, permissions: null },
    });
    expect(run(item('srv:file:///readme'))).toBe('query/low');
    expect(run(item('srv:db://app/credentials'))).toBe('query/high');
    expect(asked()).toBe(2);
  });
});
