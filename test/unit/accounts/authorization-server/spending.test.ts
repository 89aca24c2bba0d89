/** What is good once, and what happens when it is shown twice at the same moment. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Entries } from '../../../../src/accounts/authorization-server/adapter.ts';
import { Refreshing } from '../../../../src/accounts/authorization-server/refreshing.ts';
import { Secret } from '../../../../src/core/secret.ts';
import { Seal } from '../../../../src/identity/oauth/seal.ts';
import { type Database, openDatabase } from '../../../../src/stores/database.ts';
import { createOAuthEntryStore } from '../../../../src/stores/oauth-entries.ts';
import { cleanEnv, follow, temporaryDirectory } from '../../../helpers/processes.ts';
import { verifies } from '../../../helpers/verifies.ts';

const ended: string[] = [];
const reused: (string | null)[] = [];
const faults: unknown[] = [];

/** What one gateway keeps; `now` is its clock, `arrived` when who asks arrived. */
function keeping(database: Database, times: { now: number; arrived: number }, graceMs = 0) {
  const origin = { request_id: null, source_ip: '192.0.2.1', user_agent: null, now: 0 };
  const entries = new Entries({
    ...{ store: createOAuthEntryStore(database), seal: new Seal(new Secret('p'.repeat(43)), 'oauth'), graceMs },
    ...{ clock: { now: () => times.now }, clients: { max: 1, unusedMs: 1 }, full: () => new Error('full') },
    onGrantEnd: async (grantId) => void ended.push(grantId),
    origin: () => Object.assign(origin, { now: times.arrived }),
  });
  const notes = {
    reused: (_what: string, accountId: string | null) => void reused.push(accountId),
    fault: (error: unknown) => void faults.push(error),
  };
  return { entries, origin, refreshing: new Refreshing({ entries, notes, graceMs }) };
}

test('a code is redeemed exactly once, though two processes try at the same moment', { timeout: 60_000 }, async () => {
  verifies('X-11');
  using directory = temporaryDirectory();
  const file = join(directory.path, 'a.db');
  await using database = await openDatabase(`sqlite:${file}`, { baseDir: '/' });
  const now = Date.now();
  const { entries } = keeping(database, { now, arrived: now });
  const codes = Array.from({ length: 12 }, (_, n) => `code-${n}`);
  for (const code of codes) await entries.save('AuthorizationCode', code, { grantId: `grant of ${code}` }, 60);
  const start = () =>
    follow(
      spawn(process.execPath, [join(import.meta.dirname, 'spend.ts'), file, ...codes], {
        ...{ env: cleanEnv(), stdio: ['pipe', 'pipe', 'pipe'] },
      }),
    );
  await using one = start();
  await using two = start();
  await Promise.all([one.printed(/ready/), two.printed(/ready/)]);
  for (const { child } of [one, two]) child.stdin?.end('go\n');
  const [mine, theirs] = await Promise.all([one.printed(/\[.*\]/), two.printed(/\[.*\]/)]);
  const redeemed = [...(JSON.parse(mine[0]) as string[]), ...(JSON.parse(theirs[0]) as string[])];
  expect(redeemed.toSorted()).toEqual(codes.toSorted());
});

const form = (token: string, more: Record<string, string> = {}) =>
  Buffer.from(String(new URLSearchParams({ grant_type: 'refresh_token', refresh_token: token, ...more })));

/** A refresh token that one gateway used up at 1000, for the token `new`. */
async function refreshed(database: Database, graceMs: number) {
  const first = keeping(database, { now: 1000, arrived: 990 }, graceMs);
  const payload = { grantId: 'grant', accountId: 'usr_1', clientId: 'agent' };
  await first.entries.save('RefreshToken', 'old', payload, 60);
  await first.entries.save('RefreshToken', 'new', payload, 60);
  await first.entries.adapter('RefreshToken').consume('old');
  const text = JSON.stringify({ access_token: 'access', refresh_token: 'new' });
  await first.refreshing.settle(form('old'), first.origin, { status: 200, text });
  return { first, text };
}

const REFUSED = { status: 400, text: '{"error":"invalid_grant"}' };

test('a refresh that was on its way before another one gets the same answer, and one that comes after ends the grant', async () => {
  using directory = temporaryDirectory();
  await using database = await openDatabase('sqlite:./a.db', { baseDir: directory.path });
  const { text } = await refreshed(database, 0);
  ended.length = 0;
  const early = keeping(database, { now: 1001, arrived: 999 });
  expect(await early.entries.load('RefreshToken', 'old')).not.toHaveProperty('consumed');
  await expect(early.entries.adapter('RefreshToken').consume('old')).rejects.toThrow('at this moment');
  expect(await early.refreshing.settle(form('old'), early.origin, REFUSED)).toMatchObject({ status: 200, text });
  expect(ended).toEqual([]);
  const late = keeping(database, { now: 1001, arrived: 1000 });
  // By this the library sees that it was used, and ends the grant.
  expect(await late.entries.load('RefreshToken', 'old')).toMatchObject({ consumed: 1 });
  await expect(late.entries.adapter('RefreshToken').consume('old')).rejects.toThrow('already used');
  expect(await late.refreshing.settle(form('old'), late.origin, REFUSED)).toBe(REFUSED);
  expect(ended).toEqual(['grant']);
});

test('the grace ends with its time, and with the first use of the new token', async () => {
  using directory = temporaryDirectory();
  await using database = await openDatabase('sqlite:./a.db', { baseDir: directory.path });
  const { first } = await refreshed(database, 2000);
  const over = keeping(database, { now: 3000, arrived: 3000 }, 2000);
  expect(await over.entries.load('RefreshToken', 'old')).toHaveProperty('consumed');
  const within = keeping(database, { now: 2999, arrived: 2999 }, 2000);
  expect(await within.entries.load('RefreshToken', 'old')).not.toHaveProperty('consumed');
  await first.entries.adapter('RefreshToken').consume('new');
  await expect(within.entries.adapter('RefreshToken').consume('old')).rejects.toThrow('at this moment');
  ended.length = 0;
  reused.length = 0;
  expect(await within.refreshing.settle(form('old'), within.origin, REFUSED)).toBe(REFUSED);
  expect([ended, reused]).toEqual([['grant'], ['usr_1']]);
});

test('what is kept of an answer opens with the old token alone', async () => {
  using directory = temporaryDirectory();
  await using database = await openDatabase('sqlite:./a.db', { baseDir: directory.path });
  const { first } = await refreshed(database, 0);
  const kept = await first.entries.load('refresh-answer', JSON.stringify(['old', [], []]));
  expect(JSON.stringify(kept)).not.toContain('access');
  expect(Buffer.from(String(kept?.params?.closed), 'base64url').toString('latin1')).not.toContain('access');
});

test('who refreshed gets the answer though it cannot be kept for others', async () => {
  using directory = temporaryDirectory();
  await using database = await openDatabase('sqlite:./a.db', { baseDir: directory.path });
  const { entries, origin, refreshing } = keeping(database, { now: 1000, arrived: 990 });
  const away = new Error('the disk is full');
  entries.save = () => Promise.reject(away);
  const reply = { status: 200, text: '{}' };
  expect(await refreshing.settle(form('old'), origin, reply)).toBe(reply);
  expect(faults).toEqual([away]);
});
