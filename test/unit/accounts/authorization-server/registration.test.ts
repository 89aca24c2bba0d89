import { expect, test } from 'vitest';
import { shownName, tidyMetadata } from '../../../../src/accounts/authorization-server/registration.ts';

test.each([
  ['Agent of Ådne 😀', 'Agent of Ådne 😀'],
  ['  two\n\n lines\t', 'two lines'],
  ['x\u202egnp.exe', 'x gnp.exe'],
  ['a\u2066b\u2069c', 'a b c'],
  ['a\u200b\u2028b', 'a b'],
  ['a\ud800b', 'a\ufffdb'],
  ['\u202e\u0000', ''],
  ['\u3164\u115f\u2800\uffa0\u034f', ''],
  ['Your\u3164Bank', 'Your Bank'],
  ['x'.repeat(30_000), 'x'.repeat(200)],
  ['😀'.repeat(300), '😀'.repeat(200)],
])('the name %j of a client is shown as %j', (name, shown) => {
  expect(shownName(name)).toBe(shown);
});

test('what a client says of itself is kept with the name that is shown, and without one that shows nothing', () => {
  const tidied = (metadata: object) => JSON.parse(tidyMetadata(Buffer.from(JSON.stringify(metadata))).toString());
  expect(tidied({ client_name: 'a\u202eb', tos_uri: 'https://a.example' })).toEqual({
    ...{ client_name: 'a b', tos_uri: 'https://a.example' },
  });
  expect(tidied({ client_name: '\u200b' })).toEqual({});
  // That it has to be a text the library says.
  expect(tidied({ client_name: 7 })).toEqual({ client_name: 7 });
});
