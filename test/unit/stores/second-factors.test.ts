import { expect, test } from 'vitest';
import { Guard } from '../../../src/accounts/guard.ts';
import { SecondFactor } from '../../../src/accounts/second-factor.ts';
import { Secret } from '../../../src/core/secret.ts';
import { Seal } from '../../../src/identity/oauth/seal.ts';
import { createAccountStore } from '../../../src/stores/accounts.ts';
import { openDatabase } from '../../../src/stores/database.ts';
import { createMemoryShared } from '../../../src/stores/memory-shared.ts';
import { createSecondFactorStore } from '../../../src/stores/second-factors.ts';
import { ACCOUNTS, IDENTITY } from '../../helpers/accounts.ts';
import { scenarioConfig } from '../../helpers/gateway.ts';
import { temporaryDirectory } from '../../helpers/processes.ts';
import { appCode } from '../../helpers/second-factor.ts';

const NOW = 1_800_000_000_000;

test('what the database keeps of a second factor makes no code, and none for another account or with another pepper', async () => {
  using directory = temporaryDirectory();
  await using database = await openDatabase('sqlite:./a.db', { baseDir: directory.path });
  await using shared = createMemoryShared();
  const { limits, lockout } = scenarioConfig({ identity: IDENTITY, accounts: ACCOUNTS }, directory.path).accounts;
  const store = createSecondFactorStore(database);
  const factorOf = (pepper: Secret) => {
    const guard = new Guard({ shared, store: createAccountStore(database), pepper, limits, lockout });
    return new SecondFactor({ store, guard, seal: new Seal(pepper, 'second factor'), issuer: 'Test' });
  };
  const factor = factorOf(new Secret('p'.repeat(43)));
  const { secret } = await factor.enrol({ id: 'usr_a', username: 'a' }, NOW);
  const codes = await factor.confirm('usr_a', appCode(secret, NOW), NOW);

  const rows = JSON.stringify([
    await database.queries.selectFrom('account_totp').selectAll().execute(),
    await database.queries.selectFrom('account_recovery_codes').selectAll().execute(),
  ]);
  for (const shown of [secret, ...codes, ...codes.map((code) => code.replaceAll('-', ''))]) {
    expect(rows).not.toContain(shown);
  }
  // A row moved to another account opens nothing there.
  await database.queries.updateTable('account_totp').set({ account_id: 'usr_b' }).execute();
  const later = { otp: appCode(secret, NOW + 60_000) };
  await expect(factor.check('usr_b', later, 'lock', NOW + 60_000)).rejects.toThrow(/another pepper/);
  await database.queries.updateTable('account_totp').set({ account_id: 'usr_a' }).execute();
  await expect(factorOf(new Secret('q'.repeat(43))).check('usr_a', later, 'lock', NOW + 60_000)).rejects.toThrow(
    /pepper/,
  );
  expect(await factor.check('usr_a', later, 'lock', NOW + 60_000)).toBe('otp');
});

test('an enrolment that is not confirmed within a quarter of an hour is none', async () => {
  using directory = temporaryDirectory();
  await using database = await openDatabase('sqlite:./a.db', { baseDir: directory.path });
  await using shared = createMemoryShared();
  const { limits, lockout } = scenarioConfig({ identity: IDENTITY, accounts: ACCOUNTS }, directory.path).accounts;
  const pepper = new Secret('p'.repeat(43));
  const guard = new Guard({ shared, store: createAccountStore(database), pepper, limits, lockout });
  const store = createSecondFactorStore(database);
  const factor = new SecondFactor({ store, guard, seal: new Seal(pepper, 'second factor'), issuer: 'Test' });
  const account = { id: 'usr_a', username: 'a' };
  const { secret } = await factor.enrol(account, NOW);
  const later = NOW + 900_000;
  await expect(factor.confirm('usr_a', appCode(secret, later), later)).rejects.toMatchObject({ code: 'CONFLICT' });
  const again = await factor.enrol(account, later);
  // The first secret is not good for the second enrolment.
  await expect(factor.confirm('usr_a', appCode(secret, later), later)).rejects.toMatchObject({ code: 'UNPROCESSABLE' });
  expect(await factor.confirm('usr_a', appCode(again.secret, later), later)).toHaveLength(10);
  expect(await store.begin('usr_a', 'box', later)).toBe(false);
});
