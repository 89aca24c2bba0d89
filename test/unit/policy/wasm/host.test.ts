import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { BUILTINS } from '../../../../src/policy/wasm/builtins.ts';
import { PolicyHost } from '../../../../src/policy/wasm/host.ts';
import { DEFAULT_LIMITS, PolicyProgram } from '../../../../src/policy/wasm/program.ts';
import { verifies } from '../../../helpers/verifies.ts';
import { HOST_WASM, makeHost, NOW } from './fixture.ts';

const value = (of: unknown) => expect.objectContaining({ kind: 'value', value: of });

describe('the policy host', () => {
  const plain = [0, -1, 2 ** 40, 2 ** 53 - 1, 1.5, 1e300, 1e-7, true, false, '', 'a', 'Füße 😀', null, [], {}];
  const nested = [[[null]], { a: { b: [1, { c: 'x'.repeat(5000) }] } }, Array.from({ length: 300 }, (_, i) => i)];
  const wide = Object.fromEntries(Array.from({ length: 2000 }, (_, i) => [`key ${i} ☃`, i]));

  test.each([...plain, ...nested, wide].map((input) => [JSON.stringify(input).slice(0, 40), input]))(
    'hands over %s as it is, empty and falsy values included',
    async (_, input) => {
      const host = await makeHost();
      expect(host.transfer).toBe('direct');
      expect(host.evaluate('host/echo', input, NOW)).toEqual(value(input));
    },
  );

  test('tells no input from null, and no result from false', async () => {
    const host = await makeHost();
    expect(host.evaluate('host/defined', undefined, NOW).kind).toBe('undefined');
    expect(host.evaluate('host/defined', null, NOW)).toEqual(value(true));
    expect(host.evaluate('host/echo', false, NOW)).toEqual(value(false));
  });

  test('finds keys of an input it has hashed itself', async () => {
    const host = await makeHost();
    const keys = Array.from({ length: 500 }, (_, i) => `k${i}é`);
    const object = Object.fromEntries(keys.map((key, i) => [key, i]));
    expect(host.evaluate('host/lookup', { object, keys }, NOW)).toEqual(value(object));
  });

  test('gives sets in the order of Rego, not of the hash table', async () => {
    verifies('SF-40');
    const host = await makeHost();
    expect(host.evaluate('host/sets', {}, NOW)).toEqual(value([null, 1, 3, 'a', 'b', [2], { k: 1 }]));
  });

  test('renders messages as OPA does', async () => {
    verifies('SF-40');
    const host = await makeHost();
    expect(host.evaluate('host/texts', { name: 'n' }, NOW)).toEqual(
      value({
        set: '{"eu-west-1", "us-east-1", "us-west-2"}',
        object: '{"a": [true, null], "b": 1}',
        quoted: '"a\\"b"',
        number: '3 of 002.2',
        template: '<n>',
      }),
    );
  });

  test('uses one instant for the whole evaluation and notes that time was asked for', async () => {
    const host = await makeHost();
    expect(host.evaluate('host/clock', {}, NOW)).toEqual({ kind: 'value', value: [10, 30, 0], volatile: true });
    expect(host.evaluate('host/pure_time', {}, NOW)).toEqual({ kind: 'value', value: [10, 30, 0], volatile: false });
  });

  test.each([
    [1, 2],
    [2 ** 31, 3],
    [-(2 ** 31) - 1, 7],
    [2 ** 32 + 5, 2 ** 31],
    [2 ** 53 - 1, 2 ** 40 + 1],
    [1_736_937_000_123, 86_400_000],
  ])('calculates with %d and %d', async (a, b) => {
    const host = await makeHost();
    const want = { sum: a + b, remainder: a % b, less: a < b, day: 1_736_899_200_000_000_000 };
    expect(host.evaluate('host/arithmetic', { a, b }, NOW)).toEqual(value(want));
  });

  test('answers undefined for an entrypoint that does not exist', async () => {
    const host = await makeHost();
    expect(host.evaluate('host/nothing', {}, NOW)).toMatchObject({ kind: 'failed', failure: 'undefined' });
  });
});

describe('what kills a naive host leaves this one working', () => {
  const alive = (host: PolicyHost) => expect(host.evaluate('host/echo', { a: [1] }, NOW)).toEqual(value({ a: [1] }));

  test('511 rule conflicts and more', async () => {
    const host = await makeHost();
    for (let i = 0; i < 2000; i++) {
      const outcome = host.evaluate('host/conflict', { xs: [1, 2] }, NOW);
      expect(outcome).toMatchObject({
        kind: 'failed',
        failure: 'abort',
        detail: expect.stringMatching(/host\.rego:\d+/),
      });
    }
    alive(host);
    expect(host.stats.failures.abort).toBe(2000);
    expect(host.evaluate('host/conflict', { xs: [7] }, NOW)).toEqual(value(7));
  });

  test('1,024 lone surrogates and more, as values and as keys', async () => {
    const host = await makeHost();
    for (let i = 0; i < 1500; i++) {
      const input = i % 2 === 0 ? { text: `${'x'.repeat(i % 60)}\ud800` } : { '\udfff': 1 };
      expect(host.evaluate('host/echo', input, NOW)).toMatchObject({ kind: 'failed', failure: 'bad_input' });
    }
    alive(host);
    expect(host.stats.instances).toBe(1);
  });

  test('1,365 deeply nested inputs and more', async () => {
    const host = await makeHost();
    let deep: unknown = 1;
    for (let i = 0; i < 20_000; i++) deep = i % 2 === 0 ? [deep] : { deep };
    for (let i = 0; i < 1500; i++) {
      expect(host.evaluate('host/echo', deep, NOW)).toMatchObject({ kind: 'failed', failure: 'bad_input' });
    }
    alive(host);
  });

  test('4,094 builtins without an answer and more', async () => {
    const host = await makeHost();
    for (let i = 0; i < 5000; i++) {
      expect(host.evaluate('host/failing', { text: `not a time ${i}` }, NOW).kind).toBe('undefined');
    }
    alive(host);
    expect(host.stats.builtinFaults).toBe(5000);
    expect(host.stats.discarded).toBe(0);
  });

  test('values that are no JSON', async () => {
    const host = await makeHost();
    for (const input of [Number.NaN, Number.POSITIVE_INFINITY, { a: undefined }, [() => 1], Symbol('x')]) {
      expect(host.evaluate('host/echo', input, NOW)).toMatchObject({ kind: 'failed', failure: 'bad_input' });
    }
    alive(host);
  });

  test('an evaluation that wants all memory', async () => {
    const host = await makeHost({ memoryBytes: 4 * 1024 * 1024 });
    const outcome = host.evaluate('host/hungry', { filler: 'x'.repeat(2000) }, NOW);
    expect(outcome).toMatchObject({ kind: 'failed', failure: 'memory' });
    alive(host);
  });

  test('an evaluation that does not end is stopped by its steps', async () => {
    const host = await makeHost({ fuel: 200_000 });
    expect(host.evaluate('host/endless', {}, NOW)).toMatchObject({ kind: 'failed', failure: 'timeout' });
    alive(host);
  });

  test('an instance that has touched much memory is replaced', async () => {
    const host = await makeHost({ highWaterBytes: 1024 * 1024, fuel: 2 ** 31 - 1 });
    expect(host.evaluate('host/hungry', { filler: 'x' }, NOW)).toEqual(value(100_000));
    expect(host.stats.recycled).toBe(1);
    alive(host);
    expect(host.evaluate('host/data_seen', {}, NOW)).toEqual(value([1, 2]));
  });

  test('an input larger than the room beside the data', async () => {
    const host = await makeHost({ memoryBytes: 32 * 1024 * 1024 });
    const input = { text: 'é'.repeat(2_000_000), list: Array.from({ length: 20_000 }, (_, i) => `item ${i}`) };
    expect(host.evaluate('host/echo', input, NOW)).toEqual(value(input));
  });
});

describe('loading a module', () => {
  test('refuses one that needs a builtin this host lacks, by name', async () => {
    const few = new Map([...BUILTINS].filter(([name]) => name !== 'time.clock'));
    const program = await PolicyProgram.load(await readFile(HOST_WASM), few, DEFAULT_LIMITS);
    expect(() => new PolicyHost(program, '{}')).toThrow(/time\.clock/);
  });

  test.each([
    ['nothing', Buffer.alloc(0)],
    ['text', Buffer.from('package policy')],
    ['a module cut in half', null],
  ])('refuses %s', async (_, bytes) => {
    const whole = await readFile(HOST_WASM);
    const load = PolicyProgram.load(bytes ?? whole.subarray(0, whole.length / 2), BUILTINS, DEFAULT_LIMITS);
    await expect(load).rejects.toThrow(/not a usable module/);
  });

  test('refuses a module that is no policy', async () => {
    const empty = Buffer.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
    await expect(PolicyProgram.load(empty, BUILTINS, DEFAULT_LIMITS)).rejects.toThrow(/lacks the exports|not a usable/);
  });

  test('refuses data that does not fit', async () => {
    await expect(makeHost({}, '{"broken"')).rejects.toThrow(/data document/);
  });
});
