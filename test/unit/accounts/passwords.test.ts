/** Hashes and rules of passwords. */
import { argon2Sync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { isKnownPassword, KNOWN_PASSWORDS } from '../../../src/accounts/known-passwords.ts';
import { passwordFaults } from '../../../src/accounts/password-rules.ts';
import { isPasswordHash, Passwords } from '../../../src/accounts/passwords.ts';
import { verifies } from '../../helpers/verifies.ts';

const CHEAP = { memory_kib: 8192, passes: 1, concurrency: 2, queue: 3 };

describe('hashes', () => {
  test('are argon2id in PHC form, different each time, and prove the password', async () => {
    const passwords = new Passwords(CHEAP);
    const [one, two] = await Promise.all([passwords.hash('Tür auf'), passwords.hash('Tür auf')]);
    expect(one).toMatch(/^\$argon2id\$v=19\$m=8192,t=1,p=1\$[\w+/]{22}\$[\w+/]{43}$/);
    expect(one).not.toBe(two);
    expect(await passwords.verify('Tür auf', one)).toBe(true);
    expect(await passwords.verify('Tür auf'.normalize('NFD'), one)).toBe(true);
    expect(await passwords.verify('tür auf', one)).toBe(false);
    expect(await passwords.verify('anything', null)).toBe(false);
  });

  test('agree with argon2id of Node for the same parameters', async () => {
    const nonce = Buffer.alloc(16, 7);
    const tag = argon2Sync('argon2id', {
      message: Buffer.from('gate'),
      nonce,
      parallelism: 2,
      memory: 16_384,
      passes: 3,
      tagLength: 24,
    });
    const bare = (bytes: Buffer) => bytes.toString('base64').replace(/=+$/, '');
    const encoded = `$argon2id$v=19$m=16384,t=3,p=2$${bare(nonce)}$${bare(tag)}`;
    expect(isPasswordHash(encoded)).toBe(true);
    const passwords = new Passwords(CHEAP);
    expect(await passwords.verify('gate', encoded)).toBe(true);
    expect(passwords.isDated(encoded)).toBe(true);
  });

  test.each([
    '$2b$12$abcdefghijklmnopqrstuv',
    '$argon2i$v=19$m=8192,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA',
    '$argon2id$v=19$m=99999999,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA',
    '',
  ])('%j is no hash to check a password with', (text) => {
    expect(isPasswordHash(text)).toBe(false);
  });

  test('beyond what may run and wait are refused at once, and the rest is still done', async () => {
    const passwords = new Passwords(CHEAP);
    const results = await Promise.allSettled(Array.from({ length: 12 }, (_, i) => passwords.hash(`password ${i}`)));
    const refused = results.filter((result) => result.status === 'rejected');
    expect(refused).toHaveLength(7);
    expect(refused.every(({ reason }) => reason.code === 'OVERLOADED')).toBe(true);
    expect(await passwords.hash('again')).toMatch(/^\$argon2id/);
  });

  test('cost the same for a name that nobody has', async () => {
    verifies('VF-16');
    const passwords = new Passwords({ ...CHEAP, memory_kib: 19_456, passes: 2 });
    const stored = await passwords.hash('Quiet-Harbour-Lamp-42');
    const times: Record<'known' | 'unknown', number[]> = { known: [], unknown: [] };
    for (let i = 0; i < 15; i++) {
      for (const [name, hash] of [['known', stored] as const, ['unknown', null] as const]) {
        const from = performance.now();
        await passwords.verify('wrong password', hash);
        times[name].push(performance.now() - from);
      }
    }
    const median = (all: number[]) => all.toSorted((a, b) => a - b)[7] ?? 0;
    const ratio = median(times.unknown) / median(times.known);
    // Without the work for nobody it would be nearer to a thousandth.
    expect(ratio).toBeGreaterThan(0.5);
    expect(ratio).toBeLessThan(2);
  });
});

describe('rules', () => {
  test('nist wants length and nothing everybody knows', () => {
    verifies('V-23');
    const faults = (password: string) => passwordFaults(password, 'nist', ['john_doe', 'john@example.com']);
    expect(faults('SecurePassword123!')).toEqual([]);
    expect(faults('all lower case words')).toEqual([]);
    expect(faults('short')).toEqual(['needs at least 15 characters']);
    expect(faults('Password12345678')).toEqual(['is one that everybody knows']);
    expect(faults('john_doejohn_doe')).toEqual(['is one that everybody knows']);
    expect(faults('x'.repeat(1025))).toEqual(['may have at most 1024 characters']);
  });

  test.each([
    ['Sh0rt!a', 'needs at least 8 characters'],
    ['lower0nly!', 'needs an upper-case letter'],
    ['UPPER0NLY!', 'needs a lower-case letter'],
    ['NoDigits!!', 'needs a digit'],
    ['NoSpecial99', 'needs a special character'],
    ['P@ssword1', 'is one that everybody knows'],
  ])('classic refuses %s: %s', (password, fault) => {
    verifies('V-23');
    expect(passwordFaults(password, 'classic', [])).toEqual([fault]);
  });

  test('classic takes eight characters of four classes', () => {
    expect(passwordFaults('G4te&Key', 'classic', [])).toEqual([]);
  });

  test('what everybody knows are whole passwords, also twice, backwards and in a row of keys', () => {
    expect(KNOWN_PASSWORDS).toBeGreaterThan(3000);
    for (const known of [
      'letmeinletmein',
      'nimdanimda',
      'qwertyuiopasdf',
      '543210987654',
      'zzzzzzzzzzzzzzzzzz',
      'abcabcabcabcabc',
    ]) {
      expect([known, isKnownPassword(known, [])]).toEqual([known, true]);
    }
    expect(isKnownPassword('my password is a known word', [])).toBe(false);
  });
});
