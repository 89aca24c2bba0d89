/** What a mask takes out of an event, and what stays. */
import { describe, expect, test } from 'vitest';
import type { JsonValue } from '../../../src/core/json.ts';
import type { LogEvent } from '../../../src/policy/log-event.ts';
import { applyMask, readMask } from '../../../src/policy/log-mask.ts';

function masked(event: Record<string, JsonValue>, rules: readonly JsonValue[]): LogEvent {
  const copy = structuredClone(event) as unknown as LogEvent;
  const read = readMask(rules);
  if (read === null) throw new Error('bad mask');
  applyMask(copy, read);
  return copy;
}

describe('a mask', () => {
  test('removes what a pointer names and says so in `erased`', () => {
    const event = masked({ input: { a: 1, b: { c: 2, d: 3 } } }, ['/input/a', '/input/b/c', '/input/nothing/here']);
    expect(event).toEqual({ input: { b: { d: 3 } }, erased: ['/input/a', '/input/b/c'] });
  });

  test('replaces what an upsert names and says so in `masked`', () => {
    const rules = [
      { op: 'upsert', path: '/input/a', value: '***' },
      { op: 'upsert', path: '/input/new/deep', value: 1 },
    ];
    expect(masked({ input: { a: 1 } }, rules)).toEqual({
      ...{ input: { a: '***', new: { deep: 1 } }, masked: ['/input/a', '/input/new/deep'] },
    });
  });

  test('removes several elements of one list by the places they had', () => {
    const event = masked({ input: { list: ['a', 'b', 'c', 'd'] } }, [
      '/input/list/0',
      '/input/list/1',
      '/input/list/3',
    ]);
    expect(event.input).toEqual({ list: ['c'] });
  });

  test('removes whole documents', () => {
    const event = masked({ input: { a: 1 }, result: { allow: true } }, ['/input', '/result']);
    expect(event).toEqual({ erased: ['/input', '/result'] });
  });

  test('lets a removal win over an upsert of the same place, in whatever order they come', () => {
    const upsert = { op: 'upsert', path: '/input/a', value: 2 };
    for (const rules of [
      ['/input/a', upsert],
      [upsert, '/input/a'],
    ]) {
      expect(masked({ input: { a: 1 } }, rules).input).toEqual({});
    }
  });

  test('finds names that hold slashes, tildes and percent signs', () => {
    const event = masked({ input: { 'a/b': 1, 'c~d': 2, 'e%2Ff': 3 } }, ['/input/a~1b', '/input/c~0d', '/input/e%2Ff']);
    expect(event.input).toEqual({});
  });

  test('has no way to the prototypes of objects', () => {
    const rules = [
      { op: 'upsert', path: '/input/__proto__/polluted', value: true },
      { op: 'upsert', path: '/input/constructor/prototype/polluted', value: true },
    ];
    masked({ input: {} }, rules);
    expect(Reflect.get({}, 'polluted')).toBeUndefined();
  });

  test.each([
    ['no list', { '/input': true }],
    ['a pointer to what records need', ['/decision_id']],
    ['no pointer', ['input/a']],
    ['an unknown operation', [{ op: 'copy', path: '/input/a' }]],
    ['an operation without a place', [{ op: 'remove' }]],
    ['a number', [1]],
  ] as [string, JsonValue][])('is none when it is %s', (_what, value) => {
    expect(readMask(value)).toBeNull();
  });
});
