/** `/auth` through the real listener, over the database of one machine and over those of several. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, describe } from 'vitest';
import { factorsContract } from '../contract/account-factors.ts';
import { accountsContract } from '../contract/accounts.ts';
import { temporaryDirectory } from '../helpers/processes.ts';
import type { StoreServer } from '../helpers/processes-stores.ts';
import { NO_POSTGRES, NO_REDIS, startPostgres, startRedis } from '../helpers/processes-stores.ts';

describe('on one machine', () => {
  const directory = temporaryDirectory();
  afterAll(() => directory[Symbol.dispose]());
  accountsContract('SQLite', async () => ({ database: `sqlite:${join(directory.path, 'accounts.db')}` }));
  factorsContract('SQLite', async () => ({ database: `sqlite:${join(directory.path, 'factors.db')}` }));
});

describe.skipIf(NO_POSTGRES !== null || NO_REDIS !== null)('on several machines', () => {
  let postgres: StoreServer;
  let redis: StoreServer;
  beforeAll(async () => {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  }, 60_000);
  afterAll(async () => {
    await postgres?.[Symbol.asyncDispose]();
    await redis?.[Symbol.asyncDispose]();
  });
  const pepper = randomBytes(32).toString('base64url');
  accountsContract('Postgres and Redis', async () => ({ database: postgres.url, shared: redis.url, pepper }));
  factorsContract('Postgres and Redis', async () => ({ database: postgres.url, shared: redis.url, pepper }));
});
