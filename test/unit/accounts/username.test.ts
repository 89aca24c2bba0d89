import { expect, test } from 'vitest';
import { isUsername, suffixed, tidyName } from '../../../src/accounts/username.ts';
import { lookOf } from '../../../src/stores/look-alikes.ts';

test.each(['abc', 'john_doe', 'J.R-R_x', 'a1b', 'x'.repeat(50)])('%s is a username', (name) => {
  expect(isUsername(name)).toBe(true);
});

test.each([
  ...[
    'ab',
    'x'.repeat(51),
    'john.',
    '.john',
    'john..doe',
    'jo-_hn',
    'john ',
    'jöhn',
    'joһn',
    'ｊohn',
    'jo\u200dhn',
    'jo\nhn',
  ],
])('%j is none', (name) => {
  expect(isUsername(name)).toBe(false);
});

test.each([
  ['maria.keller@example.com', 'maria.keller'],
  ['..maria--keller..', 'maria-keller'],
  ['Ｍaria', 'Maria'],
  ['a', 'user-a'],
  ['...', 'user'],
  [`${'x'.repeat(49)}.y`, 'x'.repeat(49)],
])('what is nearest to %s is one: %s', (text, name) => {
  expect(tidyName(text)).toBe(name);
  expect(isUsername(name)).toBe(true);
  expect(isUsername(suffixed(name, '0a1b2c3d'))).toBe(true);
});

test.each([
  ['paul', 'pauI'],
  ['paul', 'Pau1'],
  ['bob', 'B0B'],
  ['corner', 'comer'],
  ['wally', 'vva1ly'],
  ['a_b', 'a.b'],
])('%s looks like %s', (one, other) => {
  expect(lookOf(one)).toBe(lookOf(other));
});

test('others do not look alike', () => {
  const names = ['paul', 'paui', 'paula', 'pau', 'paul2', 'pa-ul', 'pam', 'user1', 'user11'];
  expect(new Set(names.map(lookOf)).size).toBe(names.length);
});
