/**
 * Checks the signature of a token with `jose` (RFC 7515, 7518). Which algorithms a key may be used with was decided when
 * the key was read, so that neither the token nor the library has a say in it.
 */
import { compactVerify, errors } from 'jose';
import type { VerificationKey } from './verification-keys.ts';

/**
 * True when the compact JWS `token` was signed with this key and algorithm. jose's refusal is an outcome; anything else
 * it throws is a technical failure and goes on.
 */
export async function isSignatureGood(key: VerificationKey, algorithm: string, token: string): Promise<boolean> {
  if (!key.algorithms.includes(algorithm)) return false;
  try {
    // jose keeps the imported form of a KeyObject, so this imports each key once.
    await compactVerify(token, key.key, { algorithms: [algorithm] });
    return true;
  } catch (error) {
    if (error instanceof errors.JOSEError) return false;
    throw error;
  }
}
