import { describe, expect, test } from 'vitest';
import { declaredAlike, foldToolName } from '../../../src/core/tool-name.ts';

describe('what is declared of a tool', () => {
  const tools = { drop_table: 'a', Read: 'b', read: 'c', straße: 'd', constructor: 'e' };

  test.each([
    ['drop_table', 'a'],
    ['DROP_TABLE', 'a'],
    ['ｄrop_table', 'a'],
    ['Read', 'b'],
    ['read', 'c'],
    ['STRASSE', 'd'],
    ['constructor', 'e'],
    ['drop_tables', undefined],
    ['toString', undefined],
    ['__proto__', undefined],
    ['', undefined],
  ])('called %s is %s', (name, declared) => {
    expect(declaredAlike(tools, name)).toBe(declared);
    expect(declaredAlike({}, name)).toBeUndefined();
  });

  test('is found by names that no reader who ignores case tells apart', () => {
    for (const [one, other] of [
      ['delete_file', 'delete_fıle'],
      ['ΟΔΟΣ', 'οδος'],
      ['kelvin', '\u212aelvin'],
    ] as const)
      expect(foldToolName(one)).toBe(foldToolName(other));
    expect(foldToolName('a_b')).not.toBe(foldToolName('a-b'));
  });
});
