import { describe, expect, test } from 'vitest';
import type { JsonValue } from '../../../../src/core/json.ts';
import { PLAN_BUILTINS } from '../../../../src/policy/plan/builtins.ts';
import { CallState } from '../../../../src/policy/wasm/imports.ts';
import { fromJson, type Rego, toJson } from '../../../../src/policy/wasm/values.ts';

const set = (...items: JsonValue[]): Rego => new Set(items.map(fromJson));

/** Undefined where the builtin has no value. */
function call(name: string, ...args: (JsonValue | Rego)[]): JsonValue | undefined {
  const spec = PLAN_BUILTINS.get(name);
  if (spec === undefined) throw new Error(`no builtin ${name}`);
  const rego = (value: JsonValue | Rego): Rego =>
    value instanceof Set || value instanceof Map || typeof value === 'bigint'
      ? (value as Rego)
      : fromJson(value as JsonValue);
  try {
    const value = spec.call(args.map(rego), new CallState());
    return value === undefined ? undefined : toJson(value);
  } catch {
    return undefined;
  }
}

const CASES: readonly (readonly [string, readonly (JsonValue | Rego)[], JsonValue | undefined])[] = [
  ['plus', [0.1, 0.2], 0.3],
  ['minus', [0.3, 0.1], 0.2],
  ['minus', [set(1, 2), set(2)], [1]],
  ['mul', [1.1, 1.1], 1.21],
  ['div', [1, 4], 0.25],
  ['div', [1, 0], undefined],
  ['rem', [-7, 3], -1],
  ['rem', [1.5, 1], undefined],
  ['round', [-2.5], -3],
  ['ceil', [-2.5], -2],
  ['floor', [-2.5], -3],
  ['abs', [-2.5], 2.5],
  ['bits.lsh', [1, 70], 2 ** 70],
  ['count', ['Füße😀'], 5],
  ['sum', [[0.1, 0.2]], 0.3],
  ['max', [[]], undefined],
  ['max', [[1, 'a', null]], 'a'],
  ['sort', [set('b', 1, 'a')], [1, 'a', 'b']],
  ['type_name', [set()], 'set'],
  ['numbers.range', [3, 1], [3, 2, 1]],
  ['array.slice', [[1, 2, 3], -1, 9], [1, 2, 3]],
  ['array.slice', [[1, 2, 3], 2, 1], []],
  ['array.flatten', [[1, [2, [3]]]], [1, 2, [3]]],
  ['and', [set([1], 2), set([1])], [[1]]],
  ['object.get', [{ a: { b: [7] } }, ['a', 'b', 0], 'x'], 7],
  ['object.get', [{ a: 1 }, 'z', 'x'], 'x'],
  ['object.get', [[1], 0, 'x'], undefined],
  [
    'object.union',
    [
      { a: { b: 1 }, c: 1 },
      { a: { d: 2 }, c: 2 },
    ],
    { a: { b: 1, d: 2 }, c: 2 },
  ],
  ['object.remove', [{ a: 1, b: 2 }, set('a')], { b: 2 }],
  ['object.filter', [{ a: 1, b: 2 }, ['a']], { a: 1 }],
  ['json.remove', [{ a: { b: 1, c: 2 } }, ['a/b']], { a: { c: 2 } }],
  ['json.filter', [{ a: { b: 1, c: 2 }, d: 3 }, ['a/b']], { a: { b: 1 } }],
  ['graph.reachable', [{ a: ['b'], b: ['a', 'x'] }, ['a']], ['a', 'b']],
  [
    'walk',
    [{ a: 1 }],
    [
      [[], { a: 1 }],
      [['a'], 1],
    ],
  ],
  ['internal.member_2', [[1], [[1], 2]], true],
  ['internal.member_3', ['a', 1, { a: 1 }], true],
  ['concat', ['-', set('b', 'a')], 'a-b'],
  ['format_int', [255.9, 16], 'ff'],
  ['format_int', [1, 7], undefined],
  ['indexof', ['😀b', 'b'], 1],
  ['substring', ['abc', 1, -1], 'bc'],
  ['substring', ['abc', -1, 1], undefined],
  ['lower', ['ÄİΣ'], 'äiσ'],
  ['upper', ['äß'], 'ÄSS'.replace('SS', 'ß')],
  ['trim', ['--a--', '-'], 'a'],
  ['trim_suffix', ['abc', ''], 'abc'],
  ['trim_space', ['\u2003a\u0085'], 'a'],
  ['replace', ['aaa', 'a', '$&'], '$&$&$&'],
  ['strings.replace_n', [{ '': 'X' }, 'ab'], 'XaXbX'],
  ['split', ['ab', ''], ['a', 'b']],
  ['to_number', ['1e2'], 100],
  ['to_number', ['0x1'], undefined],
  ['base64.decode', ['YQ=='], 'a'],
  ['base64.decode', ['YQ'], undefined],
  ['json.marshal', [{ b: '<\u0008>', a: [1, null] }], '{"a":[1,null],"b":"<\\u0008>"}'],
  ['json.unmarshal', ['{'], undefined],
  ['regex.match', ['^a+$', 'aaa'], true],
  ['regex.is_valid', ['('], false],
  ['glob.match', ['*.example.com', [], 'a.example.com'], true],
  ['glob.match', ['*.example.com', [], 'a.b.example.com'], false],
  ['glob.match', ['**.example.com', [], 'a.b.example.com'], true],
  ['glob.match', ['{a,b}?[!x-z]', null, 'aqc'], true],
  ['glob.match', ['a.b', null, 'axb'], false],
  ['net.cidr_contains', ['10.0.0.0/8', '10.1.2.3'], true],
  ['net.cidr_contains', ['::/0', '10.1.2.3'], false],
  ['net.cidr_intersects', ['10.0.0.0/8', '10.9.0.0/16'], true],
];

describe('builtins that OPA compiles into modules', () => {
  test.each(CASES)('%s(%j) gives %j', (name, args, wanted) => {
    expect(call(name, ...args)).toEqual(wanted);
  });

  test('are all there: what a plan may call beside what the host supplies', () => {
    const native =
      'abs all and any array.concat array.flatten array.reverse array.slice base64.decode base64.encode base64.is_valid base64url.decode base64url.encode bits.and bits.lsh bits.negate bits.or bits.rsh bits.xor ceil concat contains count div endswith equal floor format_int glob.match graph.reachable gt gte indexof internal.member_2 internal.member_3 internal.template_string intersection is_array is_boolean is_null is_number is_object is_set is_string json.filter json.is_valid json.marshal json.remove json.unmarshal lower lt lte max min minus mul neq net.cidr_contains net.cidr_intersects net.cidr_overlap numbers.range object.filter object.get object.keys object.remove object.union object.union_n or plus product re_match regex.find_all_string_submatch_n regex.is_valid regex.match rem replace round sort split startswith strings.replace_n strings.reverse substring sum to_number trim trim_left trim_prefix trim_right trim_space trim_suffix type_name union upper walk';
    expect(native.split(' ').filter((name) => !PLAN_BUILTINS.has(name))).toEqual([]);
  });
});
