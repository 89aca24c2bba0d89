import { expect, test } from 'vitest';
import { createAccountStore } from '../../../src/stores/accounts.ts';
import { openDatabase } from '../../../src/stores/database.ts';
import { createSecondFactorStore } from '../../../src/stores/second-factors.ts';
import { createSessionStore, type SessionRecord } from '../../../src/stores/sessions.ts';
import { temporaryDirectory } from '../../helpers/processes.ts';

const NOW = 1_800_000_000_000;

const session = (id: string, more: Partial<SessionRecord> = {}): SessionRecord => ({
  ...{ id, account_id: 'usr_a', generation: 0, source: 'here', created_at: NOW, rotated_at: NOW, revoked_at: null },
  ...{ expires_at: NOW + 900_000, token_id: `tok_${id}`, token_until: NOW + 60_000 },
  ...{ mfa_at: null, cookie: null, idle_until: null, ...more },
});

test('a session that ends gives all its access tokens that others would still take, and is ended once', async () => {
  using directory = temporaryDirectory();
  await using database = await openDatabase('sqlite:./a.db', { baseDir: directory.path });
  const store = createSessionStore(database);
  await store.insert(session('one'));
  const next = (n: number) => ({ token_id: `tok_${n}`, token_until: NOW + n * 60_000 });
  expect(await store.rotate('one', 0, next(2), NOW)).toBe(true);
  expect(await store.rotate('one', 0, next(9), NOW)).toBe(false);
  expect(await store.rotate('one', 1, next(3), NOW)).toBe(true);
  const ended = await store.revoke('one', NOW + 90_000);
  expect(ended?.tokens.map(({ token_id }) => token_id).sort()).toEqual(['tok_2', 'tok_3']);
  expect(await store.revoke('one', NOW)).toBeNull();
});

test('a session that a program of before has carried on gives its newest token', async () => {
  using directory = temporaryDirectory();
  await using database = await openDatabase('sqlite:./a.db', { baseDir: directory.path });
  const store = createSessionStore(database);
  await database.queries.insertInto('account_sessions').values(session('old')).execute();
  expect(await store.revokeAll('usr_a', null, NOW)).toEqual([
    { id: 'old', tokens: [{ token_id: 'tok_old', until: NOW + 60_000 }] },
  ]);
});

test('sessions of browsers end by themselves, under their names, and are kept awake by their use alone', async () => {
  using directory = temporaryDirectory();
  await using database = await openDatabase('sqlite:./a.db', { baseDir: directory.path });
  const store = createSessionStore(database);
  await createAccountStore(database).insert({
    ...{ id: 'usr_a', tenant_id: 'default', username: 'a', email: 'a@example.com', full_name: null, role: 'user' },
    ...{
      password_hash: '',
      is_active: true,
      is_verified: false,
      created_at: NOW,
      updated_at: NOW,
      last_login_at: null,
    },
  });
  const browser = { cookie: 'digest', idle_until: NOW + 60_000, token_id: '', token_until: 0 };
  await store.insert(session('browser', browser));
  await store.insert(session('program'));
  await store.keepAwake('browser', NOW + 120_000);
  await store.keepAwake('browser', NOW + 90_000);
  await store.keepAwake('program', NOW + 120_000);
  expect(await store.byCookie('digest')).toMatchObject({ session_id: 'browser', idle_until: NOW + 120_000 });
  expect((await store.standing('program'))?.idle_until).toBeNull();
  expect(await store.byCookie('another')).toBeNull();
  expect(await store.revokeCookies('usr_a', NOW)).toEqual([
    { id: 'browser', tokens: [{ token_id: 'browser', until: NOW + 900_000 }] },
  ]);
  expect((await store.standing('program'))?.revoked_at).toBeNull();
});

test('a second factor that is taken away while its code is looked at leaves no session that counts as if it were there', async () => {
  using directory = temporaryDirectory();
  await using database = await openDatabase('sqlite:./a.db', { baseDir: directory.path });
  const [store, factors] = [createSessionStore(database), createSecondFactorStore(database)];
  const shown = async (id: string) =>
    (await database.queries.selectFrom('account_sessions').select('mfa_at').where('id', '=', id).executeTakeFirst())
      ?.mfa_at;
  for (const id of ['one', 'ended']) await store.insert(session(id));
  await store.revoke('ended', NOW);
  await store.noteFactor('one', NOW);
  expect(await shown('one')).toBeNull();
  await factors.begin('usr_a', 'box', NOW);
  await store.noteFactor('one', NOW);
  expect(await shown('one')).toBeNull();
  const record = await factors.find('usr_a');
  if (record === null) throw new Error('no enrolment');
  await factors.confirm(record, 1, ['digest'], NOW);
  for (const id of ['one', 'ended']) await store.noteFactor(id, NOW);
  expect([await shown('one'), await shown('ended')]).toEqual([NOW, null]);
  await factors.remove('usr_a');
  await store.forgetFactor('usr_a');
  await store.noteFactor('one', NOW + 1);
  expect(await shown('one')).toBeNull();
});
