/** Who accounts are at other providers, whatever the database is: one subject is one account. */
import { expect, test } from 'vitest';
import { createAccountIdentityStore } from '../../src/stores/account-identities.ts';
import { type AccountRecord, createAccountStore } from '../../src/stores/accounts.ts';
import { type Database, openDatabase } from '../../src/stores/database.ts';

const record = (name: string): AccountRecord => ({
  ...{ id: `usr_${name}`, tenant_id: 'default', username: name, email: `${name}@example.com`, role: 'viewer' },
  ...{ password_hash: '$argon2id$', full_name: null, is_active: true, is_verified: false },
  ...{ created_at: 1000, updated_at: 1000, last_login_at: null },
});

const MIA = { issuer: 'https://login.example', subject: 'mia' };

/** @param url of an empty database */
export function accountIdentitiesContract(name: string, url: () => Promise<string>): void {
  test(`${name}: a subject of an issuer is one account, byte by byte, until that account is gone`, async () => {
    const where = await url();
    await using one = await openDatabase(where, { baseDir: '/' });
    await using other = await openDatabase(where, { baseDir: '/' });
    const identities = createAccountIdentityStore(one);
    expect(await identities.register(record('mia'), MIA)).toBe('done');
    expect(await createAccountIdentityStore(other).accountOf(MIA)).toBe('usr_mia');
    for (const change of [{ subject: 'Mia' }, { subject: 'mia ' }, { issuer: 'https://login.example/' }])
      expect(await identities.accountOf({ ...MIA, ...change })).toBeNull();
    // Neither writes half of it.
    expect(await identities.register(record('again'), MIA)).toBe('linked');
    expect(await createAccountStore(one).find('usr_again')).toBeNull();
    const taken = { ...record('else'), email: 'MIA@example.com' };
    expect(await identities.register(taken, { ...MIA, subject: 'else' })).toBe('taken');
    expect(await identities.accountOf({ ...MIA, subject: 'else' })).toBeNull();
    expect([...(await identities.issuersOf(['usr_mia', 'usr_nobody']))]).toEqual([['usr_mia', MIA.issuer]]);
    expect([...(await identities.aliasesOf('usr_mia'))]).toEqual(['mia']);
    expect([...(await identities.aliasesOf('mia'))]).toEqual(['usr_mia']);
    expect([...(await identities.aliasesOf('Mia'))]).toEqual([]);
    const more = { ...MIA, issuer: 'https://other.example' };
    expect(await identities.link('usr_mia', more, 2000)).toBe(true);
    expect(await identities.link('usr_mia', more, 2000)).toBe(false);
    expect(await identities.link('usr_nobody', { ...more, subject: 'x' }, 2000)).toBe(false);
    expect(await createAccountIdentityStore(other).accountOf(more)).toBe('usr_mia');
    expect(await identities.unlink('usr_mia', more.issuer)).toBe(true);
    expect([await identities.unlink('usr_mia', more.issuer), await identities.accountOf(more)]).toEqual([false, null]);
    expect(await identities.accountOf(MIA)).toBe('usr_mia');
    await createAccountStore(other).delete('usr_mia');
    expect(await identities.accountOf(MIA)).toBeNull();
    expect(await identities.register(record('later'), MIA)).toBe('done');
  });

  test(`${name}: of first logins at once one makes the account`, async () => {
    const where = await url();
    await using one = await openDatabase(where, { baseDir: '/' });
    await using other = await openDatabase(where, { baseDir: '/' });
    const tries = [one, other, one, other].map((database: Database, index) =>
      createAccountIdentityStore(database).register(record(`try${index}`), MIA),
    );
    expect((await Promise.all(tries)).toSorted()).toEqual(['done', 'linked', 'linked', 'linked']);
    expect(await createAccountStore(one).list()).toHaveLength(1);
  });

  test(`${name}: of names that look alike and are taken at the same moment one is there`, async () => {
    const where = await url();
    await using one = await openDatabase(where, { baseDir: '/' });
    await using other = await openDatabase(where, { baseDir: '/' });
    const mine = ['pauli', 'pau1i', 'PAUIi', 'paUli'].map((each, index) =>
      createAccountStore(index % 2 === 0 ? one : other).insert(record(each)),
    );
    expect((await Promise.all(mine)).filter(Boolean)).toHaveLength(1);
    const theirs = ['corner', 'comer'].map((each, index) =>
      createAccountIdentityStore(index === 0 ? one : other).register(record(each), { ...MIA, subject: each }),
    );
    expect((await Promise.all(theirs)).toSorted()).toEqual(['done', 'taken']);
  });
}
