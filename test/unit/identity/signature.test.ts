/** Our signature check and jose's must agree on every token: a second opinion on the cryptography. */
import { createPublicKey } from 'node:crypto';
import { compactVerify } from 'jose';
import { describe, expect, test } from 'vitest';
import { isSignatureGood } from '../../../src/identity/signature.ts';
import type { VerificationKey } from '../../../src/identity/verification-keys.ts';
import { forge, KEYS, keyNamed, type Recipe, SECRET } from './forge.ts';

const PAIRS = [
  ['RS256', 'rsa-1'],
  ['RS384', 'rsa-1'],
  ['RS512', 'rsa-1'],
  ['PS256', 'rsa-1'],
  ['PS384', 'rsa-1'],
  ['PS512', 'rsa-1'],
  ['ES256', 'ec-1'],
  ['ES384', 'ec-384'],
  ['EdDSA', 'ed-1'],
  ['HS256', 'secret'],
  ['HS384', 'secret'],
  ['HS512', 'secret'],
] as const;
const MUTATIONS = [
  [],
  ['flip-signature-bit'],
  ['flip-payload-bit'],
  ['drop-signature'],
  ['halve-signature'],
  ['double-signature'],
  ['der-signature'],
  ['zero-signature'],
  ['ones-signature'],
  ['order-signature'],
  ['random-signature'],
  ['other-payload'],
];

function keyOf(name: string): VerificationKey['key'] {
  return name === 'secret' ? Buffer.from(SECRET) : createPublicKey(keyNamed(name));
}

function ours(token: string, name: string, algorithm: string): boolean {
  const [h, p, s = ''] = token.split('.');
  const key = { kid: null, algorithms: [algorithm], key: keyOf(name) };
  return isSignatureGood(key, algorithm, `${h}.${p}`, Buffer.from(s, 'base64url'));
}

async function theirs(token: string, name: string, algorithm: string): Promise<boolean> {
  return compactVerify(token, keyOf(name), { algorithms: [algorithm] }).then(
    () => true,
    () => false,
  );
}

describe('signatures', () => {
  test.each(PAIRS)('%s: the verdicts are those of jose, whatever happened to the token', async (alg, key) => {
    for (const mutate of MUTATIONS) {
      const recipe: Partial<Recipe> = { header: { alg }, key, mutate };
      const token = forge(recipe, 1_900_000_000);
      const verdict = ours(token, key, alg);
      expect(verdict, mutate.join()).toBe(await theirs(token, key, alg));
      expect(verdict, mutate.join()).toBe(
        mutate.length === 0 || (mutate[0] === 'der-signature' && !alg.startsWith('ES')),
      );
    }
  });

  test('of every key are good for that key alone', async () => {
    for (const [alg, signer] of PAIRS) {
      const token = forge({ header: { alg }, key: signer }, 1_900_000_000);
      for (const other of Object.keys(KEYS).filter((name) => name !== signer)) {
        let verdict = false;
        // OpenSSL may refuse a key of another type by throwing; that is no acceptance either.
        try {
          verdict = ours(token, other, alg);
        } catch {}
        expect(verdict, `${alg} of ${signer} by ${other}`).toBe(false);
      }
    }
  });

  test('are never good under an algorithm the key is not bound to', () => {
    const token = forge({}, 1_900_000_000);
    const [h, p, s = ''] = token.split('.');
    for (const algorithms of [[], ['ES384'], ['RS256']]) {
      const key = { kid: null, algorithms, key: keyOf('ec-1') };
      expect(isSignatureGood(key, 'ES256', `${h}.${p}`, Buffer.from(s, 'base64url'))).toBe(false);
    }
    for (const odd of ['none', '', 'constructor', '__proto__']) {
      const key = { kid: null, algorithms: [odd], key: keyOf('ec-1') };
      expect(isSignatureGood(key, odd, `${h}.${p}`, Buffer.alloc(0))).toBe(false);
    }
  });
});
