/** Every algorithm, key and way to spoil a signature. The tokens are made with node:crypto: two views of the same cryptography. */
import { createPublicKey } from 'node:crypto';
import { compactVerify, errors } from 'jose';
import { describe, expect, test } from 'vitest';
import { isSignatureGood } from '../../../src/identity/signature.ts';
import { readKeySet, readPem, type VerificationKey } from '../../../src/identity/verification-keys.ts';
import { forge, KEYS, keyNamed, publicJwk, type Recipe, SECRET } from './forge.ts';

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

function verdict(token: string, name: string, algorithm: string): Promise<boolean> {
  return isSignatureGood({ kid: null, algorithms: [algorithm], key: keyOf(name) }, algorithm, token);
}

/** What jose, which shares none of our code, says of the same. */
async function joseSays(token: string, name: string, algorithm: string): Promise<boolean> {
  try {
    await compactVerify(token, keyOf(name), { algorithms: [algorithm] });
    return true;
  } catch (error) {
    if (error instanceof errors.JOSEError) return false;
    throw error;
  }
}

describe('signatures', () => {
  test.each(PAIRS)('%s: only what the key signed is good, whatever happened to the token', async (alg, key) => {
    for (const mutate of MUTATIONS) {
      const recipe: Partial<Recipe> = { header: { alg }, key, mutate };
      const token = forge(recipe, 1_900_000_000);
      const good = await verdict(token, key, alg);
      expect(good, mutate.join()).toBe(mutate.length === 0 || (mutate[0] === 'der-signature' && !alg.startsWith('ES')));
      expect(await joseSays(token, key, alg), `${mutate.join()} for jose`).toBe(good);
    }
  });

  test('of every key are good for that key alone', async () => {
    for (const [alg, signer] of PAIRS) {
      const token = forge({ header: { alg }, key: signer }, 1_900_000_000);
      for (const other of Object.keys(KEYS).filter((name) => name !== signer)) {
        // A key of another type is refused by throwing; that is no acceptance either.
        const good = await verdict(token, other, alg).catch(() => false);
        expect(good, `${alg} of ${signer} by ${other}`).toBe(false);
      }
    }
  });

  test('are never good under an algorithm the key is not bound to', async () => {
    const token = forge({}, 1_900_000_000);
    for (const algorithms of [[], ['ES384'], ['RS256']]) {
      const key = { kid: null, algorithms, key: keyOf('ec-1') };
      expect(await isSignatureGood(key, 'ES256', token)).toBe(false);
    }
    for (const odd of ['none', '', 'constructor', '__proto__']) {
      const key = { kid: null, algorithms: [odd], key: keyOf('ec-1') };
      expect(await isSignatureGood(key, odd, token)).toBe(false);
    }
  });

  test.each([
    ['AQAB', 1],
    ['Aw', 1],
    ['AA', 0],
    ['AQ', 0],
    ['Ag', 0],
    ['AQAA', 0],
  ])('by an RSA key with the exponent %s can be checked: %i', (e, count) => {
    const jwk = { ...publicJwk('rsa-1'), e };
    expect(readKeySet(Buffer.from(JSON.stringify({ keys: [jwk] })))).toHaveLength(count);
    const read = () =>
      readPem(String(createPublicKey({ key: jwk, format: 'jwk' }).export({ type: 'spki', format: 'pem' })));
    if (count === 0) expect(read).toThrow('unsupported');
    else expect(read()).toHaveLength(1);
  });

  test('let a technical failure through: it is not the token that is wrong', async () => {
    const key = { kid: null, algorithms: ['ES256'], key: Buffer.from(SECRET) };
    await expect(isSignatureGood(key, 'ES256', forge({}, 1_900_000_000))).rejects.toThrow();
  });
});
