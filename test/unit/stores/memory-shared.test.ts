import { expect, test } from 'vitest';
import { createMemoryShared } from '../../../src/stores/memory-shared.ts';
import { sharedContract } from '../../contract/shared.ts';

function movable(start = 1_900_000_000_000) {
  let time = start;
  const move = (ms: number) => {
    time += ms;
  };
  return { now: () => time, move };
}

sharedContract('memory', async () => {
  const clock = movable();
  return { shared: createMemoryShared({ clock }), advance: clock.move };
});

test('a clock that steps back gives nobody a fresh window', () => {
  const clock = movable();
  const shared = createMemoryShared({ clock });
  void shared.hit('a', 1000);
  clock.move(-5000);
  expect(shared.hit('a', 1000)).toMatchObject({ count: 2 });
});

test('a full window forgets its oldest counter, not its newest', () => {
  const shared = createMemoryShared({ clock: movable(), maxCounters: 2 });
  for (const key of ['a', 'b', 'c']) void shared.hit(key, 60_000);
  expect(shared.hit('c', 60_000)).toMatchObject({ count: 2 });
  expect(shared.hit('a', 60_000)).toMatchObject({ count: 1 });
});

test('a store full of live values refuses new ones and keeps the old ones', async () => {
  const clock = movable();
  const shared = createMemoryShared({ clock, maxValues: 2 });
  await shared.set('a', '1', 1000);
  await shared.set('b', '1', 2000);
  await expect(shared.set('c', '1', 1000)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  await expect(shared.claim('c', '1', 1000)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  await shared.set('a', '2', 1000);
  expect(await shared.get('a')).toBe('2');
  clock.move(1000);
  await shared.set('c', '1', 1000);
  expect(await shared.get('b')).toBe('1');
});

test('more window lengths than a configuration can have are refused', () => {
  const shared = createMemoryShared({ clock: movable() });
  expect(() => {
    for (let ms = 1; ms < 100; ms++) void shared.hit('a', ms * 1000);
  }).toThrow(RangeError);
  expect(() => void shared.hit('a', 0)).toThrow(RangeError);
  expect(() => void shared.hit('a', Number.NaN)).toThrow(RangeError);
});

test('a listener that throws is reported with its channel', async () => {
  const errors: unknown[] = [];
  const shared = createMemoryShared({ onListenerError: (error, channel) => errors.push(channel, error) });
  shared.subscribe('news', () => {
    throw new Error('broken');
  });
  await shared.publish('news', 'x');
  expect(errors).toEqual(['news', new Error('broken')]);
});
