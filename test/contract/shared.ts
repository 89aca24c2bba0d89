/** What every backend of shared state must do. Each backend's test calls this; time is moved by the backend's own means. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Shared } from '../../src/stores/shared.ts';

export interface SharedUnderTest {
  readonly shared: Shared;
  /** Lets this much time pass for the store. */
  advance(ms: number): Promise<void> | void;
}

export function sharedContract(name: string, open: () => Promise<SharedUnderTest>): void {
  describe(`${name} keeps the contract of shared state`, () => {
    let shared: Shared;
    let advance: SharedUnderTest['advance'];
    beforeEach(async () => {
      ({ shared, advance } = await open());
    });
    afterEach(() => shared[Symbol.asyncDispose]());

    test('hits are counted from one and per key', async () => {
      expect((await shared.hit('a', 60_000)).count).toBe(1);
      expect((await shared.hit('a', 60_000)).count).toBe(2);
      expect((await shared.hit('b', 60_000)).count).toBe(1);
    });

    test('windows of different lengths count apart', async () => {
      await shared.hit('a', 60_000);
      expect((await shared.hit('a', 1000)).count).toBe(1);
    });

    test('windows are aligned to the epoch and end together', async () => {
      const { resetAt } = await shared.hit('a', 60_000);
      expect(resetAt % 60_000).toBe(0);
      expect((await shared.hit('b', 60_000)).resetAt).toBe(resetAt);
    });

    test('a new window starts at one', async () => {
      const first = await shared.hit('a', 1000);
      await advance(1000);
      const second = await shared.hit('a', 1000);
      expect(second.count).toBe(1);
      expect(second.resetAt).toBeGreaterThan(first.resetAt);
    });

    test('parallel hits are all counted', async () => {
      const hits = await Promise.all(Array.from({ length: 50 }, async () => shared.hit('a', 3_600_000)));
      expect(hits.map((hit) => hit.count).toSorted((a, b) => a - b)).toEqual(
        Array.from({ length: 50 }, (_, i) => i + 1),
      );
    });

    test('a bucket gives as many tokens as it holds, and fills up steadily', async () => {
      const bucket = { limit: 10, windowMs: 10_000 };
      const taken = [];
      for (let i = 0; i < 12; i++) taken.push(await shared.take('t', bucket));
      expect(taken.map(({ isAllowed }) => isAllowed)).toEqual([...Array(10).fill(true), false, false]);
      expect(taken.map(({ remaining }) => remaining)).toEqual([9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0]);
      expect(taken[11]).toMatchObject({ retryInMs: 1000, fullInMs: 10_000 });
      await advance(999);
      expect((await shared.take('t', bucket)).isAllowed).toBe(false);
      await advance(1);
      expect(await shared.take('t', bucket)).toMatchObject({ isAllowed: true, remaining: 0, retryInMs: 0 });
      expect((await shared.take('t', bucket)).isAllowed).toBe(false);
      await advance(60_000);
      expect(await shared.take('t', bucket)).toMatchObject({ isAllowed: true, remaining: 9 });
    });

    test('of parallel takers exactly as many get a token as there are', async () => {
      const bucket = { limit: 100, windowMs: 3_600_000 };
      const taken = await Promise.all(Array.from({ length: 300 }, async () => shared.take('crowd', bucket)));
      expect(taken.filter(({ isAllowed }) => isAllowed)).toHaveLength(100);
    });

    test('buckets are apart by key, limit and window', async () => {
      await shared.take('t', { limit: 1, windowMs: 1000 });
      expect((await shared.take('t', { limit: 1, windowMs: 1000 })).isAllowed).toBe(false);
      expect((await shared.take('u', { limit: 1, windowMs: 1000 })).isAllowed).toBe(true);
      expect((await shared.take('t', { limit: 2, windowMs: 1000 })).isAllowed).toBe(true);
      expect((await shared.take('t', { limit: 1, windowMs: 2000 })).isAllowed).toBe(true);
    });

    test('a value is there until its time is over', async () => {
      await shared.set('k', 'v', 1000);
      expect(await shared.get('k')).toBe('v');
      await advance(1001);
      expect(await shared.get('k')).toBeNull();
    });

    test('an absent value is null and can be deleted', async () => {
      expect(await shared.get('nothing')).toBeNull();
      await shared.delete('nothing');
    });

    test('setting again replaces value and time', async () => {
      await shared.set('k', 'v', 500);
      await shared.set('k', 'w', 5000);
      await advance(1000);
      expect(await shared.get('k')).toBe('w');
    });

    test('a deleted value is gone', async () => {
      await shared.set('k', 'v', 1000);
      await shared.delete('k');
      expect(await shared.get('k')).toBeNull();
    });

    test('of many claims exactly one wins', async () => {
      const won = await Promise.all(Array.from({ length: 20 }, (_, i) => shared.claim('once', String(i), 10_000)));
      expect(won.filter(Boolean)).toHaveLength(1);
      expect(await shared.get('once')).toBe(String(won.indexOf(true)));
    });

    test('a claim is free again after its time', async () => {
      await shared.claim('once', 'a', 1000);
      await advance(1001);
      expect(await shared.claim('once', 'b', 1000)).toBe(true);
    });

    test('values and counters of one name do not meet', async () => {
      await shared.set('k', '41', 1000);
      expect((await shared.hit('k', 60_000)).count).toBe(1);
      expect(await shared.get('k')).toBe('41');
    });

    test('a message reaches every listener of its channel and no other', async () => {
      const heard: string[] = [];
      const both = Promise.withResolvers<void>();
      const hear = (who: string) => (message: string) => {
        heard.push(`${who}:${message}`);
        if (heard.length === 2) both.resolve();
      };
      shared.subscribe('news', hear('one'));
      shared.subscribe('news', hear('two'));
      shared.subscribe('other', hear('three'));
      await shared.publish('news', 'hello');
      await both.promise;
      expect(heard.toSorted()).toEqual(['one:hello', 'two:hello']);
    });

    test('who stopped listening hears nothing, and one broken listener does not silence the next', async () => {
      const heard: string[] = [];
      const done = Promise.withResolvers<void>();
      const stop = shared.subscribe('news', (message) => heard.push(`stopped:${message}`));
      shared.subscribe('news', () => {
        throw new Error('broken');
      });
      shared.subscribe('news', (message) => {
        heard.push(message);
        done.resolve();
      });
      stop();
      stop();
      await shared.publish('news', 'hello');
      await done.promise;
      expect(heard).toEqual(['hello']);
    });

    test('publishing to nobody is fine', async () => {
      await shared.publish('empty', 'hello');
    });
  });
}
