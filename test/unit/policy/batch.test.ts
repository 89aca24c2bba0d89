import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { BatchExecutor } from '../../../src/policy/batch.ts';
import { Batcher } from '../../../src/policy/batch.ts';
import { verifies } from '../../helpers/verifies.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** Answers each request with itself and notes the batches. */
function echoing() {
  const batches: (readonly number[])[] = [];
  const execute: BatchExecutor<number, string> = async (requests) => {
    batches.push(requests);
    return requests.map((request) => `answer ${request}`);
  };
  return { batches, execute };
}

/** Batches that end when the test says so. */
function held() {
  const batches: {
    readonly requests: readonly number[];
    end(answers: readonly string[]): void;
    fail(e: Error): void;
  }[] = [];
  const execute: BatchExecutor<number, string> = (requests, signal) =>
    new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason));
      batches.push({ requests, end: resolve, fail: reject });
    });
  return { batches, execute };
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, at) => from + at);

describe('the batcher', () => {
  test('turns a thousand calls at once into ten, and gives each caller its own answer', async () => {
    verifies('S-81', 'SF-60');
    const { batches, execute } = echoing();
    const batcher = new Batcher(execute);
    const answers = await Promise.all(range(0, 1000).map((n) => batcher.ask(n)));
    expect(answers).toEqual(range(0, 1000).map((n) => `answer ${n}`));
    expect(batches.length).toBe(10);
    expect(batcher.pending).toBe(0);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('makes no more than twelve calls of a thousand that come spread over two waits', async () => {
    verifies('S-81');
    const { batches, execute } = echoing();
    const batcher = new Batcher(execute);
    const answers: Promise<string>[] = [];
    for (const n of range(0, 1000)) {
      answers.push(batcher.ask(n));
      if (n === 449) await vi.advanceTimersByTimeAsync(10);
    }
    await vi.advanceTimersByTimeAsync(10);
    expect(await Promise.all(answers)).toHaveLength(1000);
    expect(batches.length).toBeLessThanOrEqual(12);
  });

  test('sends what there is after ten milliseconds, counted from the first request', async () => {
    verifies('S-81', 'SF-60');
    const { batches, execute } = echoing();
    const batcher = new Batcher(execute);
    const first = batcher.ask(1);
    await vi.advanceTimersByTimeAsync(6);
    const second = batcher.ask(2);
    await vi.advanceTimersByTimeAsync(3);
    expect(batches).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    expect(batches).toEqual([[1, 2]]);
    expect(await Promise.all([first, second])).toEqual(['answer 1', 'answer 2']);
  });

  test('holds nobody up while a batch is under way', async () => {
    verifies('SF-60');
    const { batches, execute } = held();
    const batcher = new Batcher(execute, { maxSize: 2 });
    const answers = range(0, 6).map((n) => batcher.ask(n));
    expect(batches.map(({ requests }) => requests)).toEqual([
      [0, 1],
      [2, 3],
      [4, 5],
    ]);
    for (const { requests, end } of batches.toReversed()) end(requests.map((n) => `late ${n}`));
    expect(await Promise.all(answers)).toEqual(range(0, 6).map((n) => `late ${n}`));
  });

  test('leaves what came during a batch for the next one', async () => {
    verifies('SF-60');
    const { batches, execute } = held();
    const batcher = new Batcher(execute);
    const first = batcher.ask(1);
    await vi.advanceTimersByTimeAsync(10);
    const second = batcher.ask(2);
    batches[0]?.end(['one']);
    expect(await first).toBe('one');
    expect(batcher.pending).toBe(1);
    await vi.advanceTimersByTimeAsync(10);
    batches[1]?.end(['two']);
    expect(await second).toBe('two');
  });

  test('fails only the batch that failed, and sends nothing of it again', async () => {
    verifies('SF-60');
    const { batches, execute } = held();
    const batcher = new Batcher(execute, { maxSize: 2 });
    const bad = [batcher.ask(1), batcher.ask(2)];
    const good = [batcher.ask(3), batcher.ask(4)];
    batches[0]?.fail(new Error('the remote party is away'));
    batches[1]?.end(['three', 'four']);
    const settled = await Promise.allSettled([...bad, ...good]);
    expect(settled.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'fulfilled', 'fulfilled']);
    const later = [batcher.ask(5), batcher.ask(6)];
    expect(batches[2]?.requests).toEqual([5, 6]);
    batches[2]?.end(['five', 'six']);
    expect(await Promise.all(later)).toEqual(['five', 'six']);
  });

  test('fails its batch when the executor throws instead of rejecting', async () => {
    verifies('SF-60');
    const batcher = new Batcher<number, string>(() => {
      throw new Error('not even started');
    });
    const answer = batcher.ask(1).catch(String);
    await vi.advanceTimersByTimeAsync(10);
    expect(await answer).toContain('not even started');
    expect(batcher.pending).toBe(0);
  });

  test('tells equal requests apart by their position', async () => {
    verifies('SF-60');
    const batcher = new Batcher<object, number>(async (requests) => requests.map((_, at) => at), { maxSize: 3 });
    const same = { tool: 'echo' };
    expect(await Promise.all([batcher.ask(same), batcher.ask(same), batcher.ask(same)])).toEqual([0, 1, 2]);
  });

  test.each([
    ['too few', ['one']],
    ['too many', ['one', 'two', 'three']],
    ['none', []],
    ['no list at all', 'two'],
  ])('gives no caller an answer when there are %s', async (_, answers) => {
    verifies('SF-60');
    const batcher = new Batcher<number, string>(async () => answers as string[], { maxSize: 2 });
    const settled = await Promise.allSettled([batcher.ask(1), batcher.ask(2)]);
    for (const one of settled) expect(one).toMatchObject({ status: 'rejected', reason: { code: 'UPSTREAM_ERROR' } });
  });

  test('takes a request back whose caller leaves before it went', async () => {
    verifies('SF-60');
    const { batches, execute } = echoing();
    const batcher = new Batcher(execute);
    const leaving = new AbortController();
    const gone = batcher.ask(1, leaving.signal).catch((error: unknown) => error);
    const stays = batcher.ask(2);
    leaving.abort(new Error('left'));
    expect(String(await gone)).toContain('left');
    await vi.advanceTimersByTimeAsync(10);
    expect(await stays).toBe('answer 2');
    expect(batches).toEqual([[2]]);
  });

  test('sends nothing and waits for nothing when everybody has left', async () => {
    verifies('SF-60');
    const { batches, execute } = echoing();
    const batcher = new Batcher(execute);
    const leaving = new AbortController();
    const gone = batcher.ask(1, leaving.signal).catch(() => 'gone');
    leaving.abort();
    expect(await gone).toBe('gone');
    expect(vi.getTimerCount()).toBe(0);
    await vi.advanceTimersByTimeAsync(100);
    expect(batches).toEqual([]);
    await expect(batcher.ask(2, leaving.signal)).rejects.toThrow();
    expect(batcher.pending).toBe(0);
  });

  test('lets a caller leave a batch that is under way, and the others stay', async () => {
    verifies('SF-60');
    const { batches, execute } = held();
    const batcher = new Batcher(execute, { maxSize: 2 });
    const leaving = new AbortController();
    const gone = batcher.ask(1, leaving.signal).catch(() => 'gone');
    const stays = batcher.ask(2);
    leaving.abort();
    expect(await gone).toBe('gone');
    expect(batcher.pending).toBe(1);
    batches[0]?.end(['one', 'two']);
    expect(await stays).toBe('two');
    expect(batcher.pending).toBe(0);
  });

  test('never holds more than it may', async () => {
    verifies('SF-60');
    const { batches, execute } = held();
    const batcher = new Batcher(execute, { maxSize: 2, maxPending: 4 });
    const taken = range(0, 4).map((n) => batcher.ask(n));
    await expect(batcher.ask(4)).rejects.toMatchObject({ code: 'OVERLOADED' });
    for (const { requests, end } of batches) end(requests.map(String));
    await Promise.all(taken);
    expect(batcher.pending).toBe(0);
    const next = [batcher.ask(5), batcher.ask(6)];
    batches[2]?.end(['five', 'six']);
    expect(await Promise.all(next)).toEqual(['five', 'six']);
  });

  test('ends everything when it is closed', async () => {
    const { execute } = held();
    const batcher = new Batcher(execute, { maxSize: 2 });
    const all = [batcher.ask(1), batcher.ask(2), batcher.ask(3)];
    batcher.close();
    for (const one of await Promise.allSettled(all)) {
      expect(one).toMatchObject({ status: 'rejected', reason: { code: 'SHUTTING_DOWN' } });
    }
    await expect(batcher.ask(4)).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
    expect(vi.getTimerCount()).toBe(0);
  });
});
