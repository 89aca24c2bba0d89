/** The reader of token JSON: what JSON.parse reads, and nothing that two parsers could read differently. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readJsonObject } from '../../../src/identity/strict-json.ts';

const read = (text: string) => readJsonObject(Buffer.from(text));

describe('JSON of tokens and key sets', () => {
  test('is read as JSON.parse reads it, whatever quotes and backslashes its texts hold', () => {
    const words = fc.string({ unit: fc.constantFrom('"', '\\', '{', '}', '[', ',', ':', 'a', 'é') });
    fc.assert(
      fc.property(fc.dictionary(words, fc.oneof(words, fc.array(words), fc.dictionary(words, words))), (value) => {
        const text = JSON.stringify(value);
        expect(read(text)).toEqual(JSON.parse(text));
      }),
    );
  });

  test('is refused when a key comes twice, at any depth and in any spelling', () => {
    fc.assert(
      fc.property(fc.string(), fc.json(), (key, other) => {
        const name = JSON.stringify(key);
        expect(read(`{${name}:1,"between":${other},${name}:2}`)).toBeNull();
        expect(read(`{"outer":[{${name}:1,${name}:2}]}`)).toBeNull();
      }),
    );
    expect(read('{"iss":1,"i\\u0073s":2}')).toBeNull();
    expect(read('{"a\\\\":1,"a\\\\":2}')).toBeNull();
  });

  test.each(['', '[]', '1', 'null', '{"a":1}x', '{"__proto__":1}', '{"a":{"\\u005f_proto__":1}}'])(
    '%s is refused',
    (text) => {
      expect(read(text)).toBeNull();
    },
  );

  test('is refused beyond sixteen levels and when it is not UTF-8', () => {
    const nested = (depth: number) => `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;
    expect(read(nested(16))).not.toBeNull();
    expect(read(nested(17))).toBeNull();
    expect(readJsonObject(Buffer.from('{"a":"\xff"}', 'latin1'))).toBeNull();
  });
});
