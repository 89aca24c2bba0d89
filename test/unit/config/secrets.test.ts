import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadConfigText } from '../../../src/config/load.ts';
import { isKnownSecret, publicPlace, secretBits } from '../../../src/config/secrets.ts';
import { IDENTITY_SCHEMA } from '../../../src/modules.ts';

const check = (token: string, mode: string, publicTexts: string[] = []) =>
  loadConfigText(`version: 1\nmode: ${mode}\nlisten: { admin: { token: ${JSON.stringify(token)} } }`, 'g.yaml', {
    env: {},
    providers: IDENTITY_SCHEMA,
    publicTexts,
  });

describe('the strength of a secret', () => {
  test('is at least 128 bits for what generators make', () => {
    for (let i = 0; i < 200; i++) {
      expect(secretBits(randomBytes(16).toString('hex'))).toBeGreaterThanOrEqual(128);
      expect(secretBits(randomBytes(32).toString('base64url'))).toBeGreaterThanOrEqual(128);
    }
  });

  test.each([
    '',
    'a',
    'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',
    'abcabcabcabcabcabcabcabcabcabcabcabcabcabc',
    '12345678901234567890',
    'hunter2hunter2',
    'deadbeefdeadbeef',
  ])('%j has fewer', (text) => {
    expect(secretBits(text)).toBeLessThan(128);
  });

  test('never calls a random secret a placeholder', () => {
    for (let i = 0; i < 500; i++) expect(isKnownSecret(randomBytes(16).toString('base64url'))).toBe(false);
  });

  test.each([
    'changeme',
    'Change-Me-In-Production',
    'your-secret-key-here',
    'your_jwt_secret_key_change_this_in_production',
    'admin123',
    'SECRET',
    'super-secret-jwt-key-for-development-only',
    'this-is-a-very-long-secret-key-not-for-production-use',
    'password123456',
  ])('%s is a placeholder', (text) => {
    expect(isKnownSecret(text)).toBe(true);
  });
});

describe('a configuration with a weak secret', () => {
  test('is refused in production and warned of in development', () => {
    expect(check('k7Qx', 'production').problems[0]?.message).toBe(
      'a secret needs at least 128 bits; this one has at most 8',
    );
    const development = check('k7Qx', 'development');
    expect(development.problems).toEqual([]);
    expect(development.warnings[0]?.text).toMatch(/^g\.yaml:3:27: warning: listen\.admin\.token: /);
  });

  test('is refused everywhere when the secret is a well-known placeholder', () => {
    for (const mode of ['production', 'development']) {
      expect(check('change-me-in-production', mode).problems[0]?.message).toContain('well-known placeholder');
    }
  });

  test('is refused everywhere when the secret is printed in the examples or documentation, and says where', () => {
    const directory = mkdtempSync(join(tmpdir(), 'portcullis-public-'));
    mkdirSync(join(directory, 'inner'));
    const secret = randomBytes(32).toString('base64url');
    writeFileSync(join(directory, 'inner', 'guide.md'), `# Guide\n\nUse \`${secret}\`.\n`);
    expect(publicPlace(secret, [directory])).toMatch(/inner\/guide\.md:3$/);
    expect(check(secret, 'development', [directory]).problems[0]?.message).toMatch(/is public: .*guide\.md:3$/);
    expect(check(randomBytes(32).toString('base64url'), 'production', [directory]).problems).toEqual([]);
  });
});
