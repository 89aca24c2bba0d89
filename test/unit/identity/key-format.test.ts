import { describe, expect, test } from 'vitest';
import { Secret } from '../../../src/core/secret.ts';
import { generateKey, hashKey, keyMatches, parseKey } from '../../../src/identity/key-format.ts';
import { addressList } from '../../../src/identity/key-issuing.ts';
import { verifies } from '../../helpers/verifies.ts';

const pepper = new Secret('pepper');

describe('the text of an API key', () => {
  test.each([
    ['pc', 'dev'],
    ['pc', 'test'],
    ['pc', 'live'],
    ['sark_gw', 'live'],
    ['vllm', 'dev'],
    ['hok', 'test'],
  ] as const)('with prefix %s and environment %s is read back', (prefix, environment) => {
    const { id, text } = generateKey(prefix, environment);
    expect(text).toMatch(new RegExp(`^${prefix}_${environment}_[0-9A-Za-z]{16}_[0-9A-Za-z]{36}$`));
    expect(parseKey(text)).toEqual({ prefix, environment, id });
  });

  test('never repeats, and uses every character about equally', () => {
    const texts = Array.from({ length: 2000 }, () => generateKey('pc', 'dev').text);
    expect(new Set(texts).size).toBe(2000);
    const counts = new Map<string, number>();
    for (const text of texts) for (const c of text.slice(24, 54)) counts.set(c, (counts.get(c) ?? 0) + 1);
    expect(counts.size).toBe(62);
    // 60,000 characters over 62: 968 expected; 200 is more than six standard deviations.
    for (const count of counts.values()) expect(Math.abs(count - 968)).toBeLessThan(200);
  });

  test('with any one character changed fails its checksum', () => {
    const { text } = generateKey('pc', 'dev');
    for (let i = 0; i < text.length; i++) {
      const other = text[i] === 'x' ? 'y' : 'x';
      expect(parseKey(text.slice(0, i) + other + text.slice(i + 1))).toBeNull();
    }
  });

  test('of another form is none', () => {
    const { text } = generateKey('pc', 'dev');
    for (const bad of [
      '',
      'pc_dev',
      `${text}x`,
      text.slice(1),
      ` ${text}`,
      `${text}\n`,
      text.toUpperCase(),
      text.replace('_dev_', '_prod_'),
      `PC${text.slice(2)}`,
      'x'.repeat(10_000),
    ]) {
      expect(parseKey(bad)).toBeNull();
    }
  });

  test('is stored as a hash that only its own pepper makes', () => {
    verifies('VF-22');
    const { text } = generateKey('pc', 'dev');
    const stored = hashKey(text, pepper);
    expect(stored).toMatch(/^[0-9a-f]{64}$/);
    expect(keyMatches(text, pepper, stored)).toBe(true);
    expect(keyMatches(text, new Secret('other'), stored)).toBe(false);
    expect(keyMatches(`${text}x`, pepper, stored)).toBe(false);
    for (const odd of ['', 'zz', stored.slice(2), `${stored}00`]) expect(keyMatches(text, pepper, odd)).toBe(false);
  });
});

describe('allowed addresses', () => {
  test('are single ones and ranges of both families', () => {
    const list = addressList(['10.0.0.0/8', '192.0.2.1', '2001:db8::/32', '::1']);
    for (const good of ['10.1.2.3', '192.0.2.1']) expect(list?.check(good, 'ipv4')).toBe(true);
    for (const good of ['2001:db8::5', '::1']) expect(list?.check(good, 'ipv6')).toBe(true);
    for (const bad of ['11.0.0.1', '192.0.2.2']) expect(list?.check(bad, 'ipv4')).toBe(false);
  });

  test('that are none are refused, and none at all means any', () => {
    for (const bad of [
      '',
      'x',
      '10.0.0.0/33',
      '10.0.0.0/',
      '10.0.0.0/8/8',
      '::1/129',
      '10.0.0.0/-1',
      '10.0.0.0/1e1',
      'localhost',
    ]) {
      expect(() => addressList([bad])).toThrow(TypeError);
    }
    expect(addressList([])).toBeNull();
  });
});
