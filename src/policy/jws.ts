/**
 * Signs and verifies the text of a JWS with one fixed algorithm. A key is used with the algorithm it was configured for
 * and no other, and only if it is of the kind and size that algorithm needs. Source: RFC 7518 section 3, RFC 8037.
 */
import {
  constants,
  createHmac,
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  sign,
  timingSafeEqual,
  verify,
} from 'node:crypto';
import type { Secret } from '../core/secret.ts';

export const ALGORITHMS = [
  ...(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'] as const),
  ...(['ES256', 'ES384', 'ES512', 'HS256', 'HS384', 'HS512', 'EdDSA'] as const),
] as const;
export type Algorithm = (typeof ALGORITHMS)[number];

/** PEM text of a private key, or the secret of an HS algorithm. */
export interface SigningKey {
  readonly algorithm: Algorithm;
  readonly key: Secret;
}

const MIN_SECRET_BYTES = 16;
const MIN_RSA_BITS = 2048;
const CURVES: Readonly<Record<string, string>> = { ES256: 'prime256v1', ES384: 'secp384r1', ES512: 'secp521r1' };

/** Why this key cannot be used with this algorithm, or null. `kind`: what the key is needed for. */
export function keyProblem(algorithm: Algorithm, key: string, kind: 'sign' | 'verify'): string | null {
  if (algorithm.startsWith('HS')) {
    return Buffer.byteLength(key) < MIN_SECRET_BYTES
      ? `a secret of ${algorithm} needs ${MIN_SECRET_BYTES} bytes`
      : null;
  }
  let parsed: KeyObject;
  try {
    parsed = readKey(key, kind);
  } catch {
    return `is no PEM text of a ${kind === 'sign' ? 'private' : 'public'} key`;
  }
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = parsed;
  if (algorithm === 'EdDSA')
    return type === 'ed25519' || type === 'ed448' ? null : 'EdDSA needs an Ed25519 or Ed448 key';
  if (algorithm.startsWith('ES')) {
    return details?.namedCurve === CURVES[algorithm]
      ? null
      : `${algorithm} needs a key of the curve ${CURVES[algorithm]}`;
  }
  if (type !== 'rsa' && !(type === 'rsa-pss' && algorithm.startsWith('PS'))) return `${algorithm} needs an RSA key`;
  return (details?.modulusLength ?? 0) < MIN_RSA_BITS ? `an RSA key needs ${MIN_RSA_BITS} bits` : null;
}

function readKey(key: string, kind: 'sign' | 'verify'): KeyObject {
  if (kind === 'sign') return createPrivateKey(key);
  // A private key would do for Node, but has no business in a gateway.
  if (/PRIVATE KEY/.test(key)) throw new Error('a private key');
  return createPublicKey(key);
}

/** False for a key that does not fit, too. */
export function verifyText(algorithm: Algorithm, key: string, text: string, signature: Buffer): boolean {
  if (keyProblem(algorithm, key, 'verify') !== null) return false;
  if (algorithm.startsWith('HS')) {
    const expected = createHmac(digestName(algorithm), key).update(text).digest();
    return expected.length === signature.length && timingSafeEqual(expected, signature);
  }
  try {
    return verify(
      digestOrNull(algorithm),
      Buffer.from(text),
      { key: createPublicKey(key), ...mode(algorithm) },
      signature,
    );
  } catch {
    return false;
  }
}

/** Throws Error when the key does not fit its algorithm. */
export function signText({ algorithm, key }: SigningKey, text: string): Buffer {
  const pem = key.reveal();
  const problem = keyProblem(algorithm, pem, 'sign');
  if (problem !== null) throw new Error(`the signing key cannot be used: ${problem}`);
  if (algorithm.startsWith('HS')) return createHmac(digestName(algorithm), pem).update(text).digest();
  return sign(digestOrNull(algorithm), Buffer.from(text), { key: createPrivateKey(pem), ...mode(algorithm) });
}

const digestName = (algorithm: Algorithm): string => `sha${algorithm.slice(2)}`;
/** EdDSA hashes by itself. */
const digestOrNull = (algorithm: Algorithm): string | null => (algorithm === 'EdDSA' ? null : digestName(algorithm));

function mode(algorithm: Algorithm): object {
  if (algorithm.startsWith('ES')) return { dsaEncoding: 'ieee-p1363' };
  if (!algorithm.startsWith('PS')) return {};
  return { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST };
}
