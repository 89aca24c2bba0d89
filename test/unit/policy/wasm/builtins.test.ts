import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { JsonValue } from '../../../../src/core/json.ts';
import { BUILTINS } from '../../../../src/policy/wasm/builtins.ts';
import { CallState } from '../../../../src/policy/wasm/imports.ts';
import { compareRego, type Rego, toJson } from '../../../../src/policy/wasm/values.ts';
import { verifies } from '../../../helpers/verifies.ts';

/** `{"$set": […]}` is a set, `{"$n": "…"}` an integer beyond doubles. No `want`: OPA gives no value. */
interface Case {
  readonly name: string;
  readonly args: readonly JsonValue[];
  readonly want?: JsonValue;
}

const CASES = JSON.parse(
  readFileSync(new URL('../../../corpus/policy/builtins.json', import.meta.url), 'utf8'),
) as readonly Case[];

function decode(value: JsonValue): Rego {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(decode);
  const object = value as Readonly<Record<string, JsonValue>>;
  if (Array.isArray(object.$set)) return new Set((object.$set as readonly JsonValue[]).map(decode));
  if (typeof object.$n === 'string') {
    const number = BigInt(object.$n);
    return Number.isSafeInteger(Number(number)) ? Number(number) : number;
  }
  return new Map(Object.entries(object).map(([key, item]) => [key, decode(item)]));
}

/** Sets come as arrays out of OPA's command line, so both sides are compared as JSON with members in order. */
function comparable(value: Rego): string {
  const sort = (json: JsonValue): JsonValue => {
    if (Array.isArray(json)) return json.map(sort);
    if (typeof json !== 'object' || json === null) return json;
    return Object.fromEntries(
      Object.entries(json)
        .sort()
        .map(([key, item]) => [key, sort(item as JsonValue)]),
    );
  };
  return JSON.stringify(sort(toJson(value)));
}

function call({ name, args }: Case): Rego | undefined {
  const state = new CallState();
  state.start(1_736_937_000_123);
  try {
    return BUILTINS.get(name)?.call(args.map(decode), state);
  } catch {
    return undefined;
  }
}

describe('builtins', () => {
  test.each(CASES.map((one) => [`${one.name}(${JSON.stringify(one.args).slice(1, -1)})`, one] as const))(
    'answer %s as OPA does',
    (_, one) => {
      const result = call(one);
      if (one.want === undefined) expect(result).toBeUndefined();
      else expect(result === undefined ? undefined : comparable(result)).toBe(comparable(decode(one.want)));
    },
  );

  test('are supplied for every family a gateway policy needs', () => {
    verifies('SF-40');
    for (const name of ['sprintf', 'time.now_ns', 'time.clock', 'time.weekday', 'io.jwt.decode_verify']) {
      expect(BUILTINS.has(name)).toBe(true);
    }
  });

  test('that can differ between evaluations say so', () => {
    const volatile = [...BUILTINS].filter(([, spec]) => spec.volatile === true).map(([name]) => name);
    expect(volatile.sort()).toEqual([
      'io.jwt.decode_verify',
      'io.jwt.encode_sign',
      'io.jwt.encode_sign_raw',
      'rand.intn',
      'time.now_ns',
      'uuid.rfc4122',
    ]);
  });

  test('give one random number per key and evaluation', () => {
    const state = new CallState();
    state.start(1);
    const roll = () => BUILTINS.get('rand.intn')?.call(['dice', 1_000_000_000], state);
    expect(roll()).toBe(roll());
  });

  test('match in linear time what a backtracking engine never finishes', () => {
    const text = `${'a'.repeat(50_000)}!`;
    expect(call({ name: 'regex.replace', args: [text, '(a+)+$', 'x'] })).toBe(text);
    expect(call({ name: 'regex.split', args: ['(a)\\1', text] })).toBeUndefined();
  });
});

test('Rego orders null, booleans, numbers, texts by code point, arrays, objects, sets', () => {
  const values: Rego[] = [
    null,
    false,
    true,
    -1,
    1.5,
    2,
    'a',
    '\uffff',
    '😀',
    [],
    [1],
    new Map([['a', 1]]),
    new Set([1]),
  ];
  const shuffled = [...values].reverse().sort(compareRego);
  expect(shuffled).toEqual(values);
});
