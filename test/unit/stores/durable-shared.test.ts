import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { isTokenRevoked, onTokenRevoked, REVOKED, revokeToken } from '../../../src/identity/revocations.ts';
import { type Database, openDatabase } from '../../../src/stores/database.ts';
import { createDurableShared } from '../../../src/stores/durable-shared.ts';
import { createMemoryShared } from '../../../src/stores/memory-shared.ts';
import type { Shared } from '../../../src/stores/shared.ts';
import { sharedContract } from '../../contract/shared.ts';
import { temporaryDirectory } from '../../helpers/processes.ts';

const over = (database: Database, clock: { now(): number }): Shared =>
  createDurableShared({
    ...{ memory: createMemoryShared({ clock }), database, clock, kept: [REVOKED, 'k'] },
    onError: (error) => {
      throw error;
    },
  });

sharedContract('memory over a database', async () => {
  let time = 1_900_000_000_000;
  const database = await openDatabase('sqlite::memory:', { baseDir: '/' });
  return {
    shared: over(database, { now: () => time }),
    advance: (ms) => {
      time += ms;
    },
  };
});

test('a revocation reaches the other process, and outlives both', async () => {
  using folder = temporaryDirectory('portcullis-shared-');
  const url = `sqlite:${join(folder.path, 'p.db')}`;
  const clock = { now: () => Date.now() };
  const open = () => openDatabase(url, { baseDir: '/' });
  const until = Date.now() + 60_000;
  {
    await using first = await open();
    await using second = await open();
    await using one = over(first, clock);
    await using two = over(second, clock);
    const heard = Promise.withResolvers<string>();
    onTokenRevoked(two, 'https://idp', heard.resolve);
    const told: string[] = [];
    onTokenRevoked(one, 'https://idp', (id) => told.push(id));
    const started = performance.now();
    await revokeToken(one, 'https://idp', 'token-1', until, Date.now());
    expect(await isTokenRevoked(two, 'https://idp', 'token-1')).toBe(true);
    expect(await heard.promise).toBe('token-1');
    expect(performance.now() - started).toBeLessThan(1000);
    // Once each, also after the next looks.
    await revokeToken(two, 'https://idp', 'token-2', until, Date.now());
    await vi.waitFor(() => expect(told).toEqual(['token-1', 'token-2']));
  }
  await using again = await open();
  await using three = over(again, clock);
  expect(await isTokenRevoked(three, 'https://idp', 'token-1')).toBe(true);
  expect(await isTokenRevoked(three, 'https://idp', 'token-3')).toBe(false);
});

test('a database that cannot be asked does not mean that nothing was revoked', async () => {
  const database = await openDatabase('sqlite::memory:', { baseDir: '/' });
  const shared = over(database, { now: () => Date.now() });
  await database[Symbol.asyncDispose]();
  await expect(isTokenRevoked(shared, 'https://idp', 'token-1')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  await expect(revokeToken(shared, 'https://idp', 'token-1', Date.now() + 1000, Date.now())).rejects.toMatchObject({
    code: 'STORE_UNAVAILABLE',
  });
});
