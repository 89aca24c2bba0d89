/**
 * Checks the signature of a token with the platform's Web Crypto (RFC 7515 5.2, RFC 7518 3). Which algorithms a key may
 * be used with was decided when the key was read, so that the token has no say in it. `jose` would take the token apart
 * a second time, for a third of what a new token costs; a test holds both against each other.
 */
import { createSecretKey, KeyObject, type webcrypto } from 'node:crypto';
import type { VerificationKey } from './verification-keys.ts';

const { subtle } = globalThis.crypto;

const rsa = (name: string, bits: number) => ({ name, hash: `SHA-${bits}`, saltLength: bits / 8 });
const ecdsa = (namedCurve: string, bits: number) => ({ name: 'ECDSA', hash: `SHA-${bits}`, namedCurve });
const hmac = (bits: number) => ({ name: 'HMAC', hash: `SHA-${bits}` });

/** What Web Crypto calls the algorithms of RFC 7518 3.1 and RFC 8037 3.1. */
const ALGORITHMS: ReadonlyMap<string, webcrypto.Algorithm> = new Map<string, webcrypto.Algorithm>([
  ['RS256', rsa('RSASSA-PKCS1-v1_5', 256)],
  ['RS384', rsa('RSASSA-PKCS1-v1_5', 384)],
  ['RS512', rsa('RSASSA-PKCS1-v1_5', 512)],
  ['PS256', rsa('RSA-PSS', 256)],
  ['PS384', rsa('RSA-PSS', 384)],
  ['PS512', rsa('RSA-PSS', 512)],
  ['ES256', ecdsa('P-256', 256)],
  ['ES384', ecdsa('P-384', 384)],
  ['ES512', ecdsa('P-521', 512)],
  ['EdDSA', { name: 'Ed25519' }],
  ['HS256', hmac(256)],
  ['HS384', hmac(384)],
  ['HS512', hmac(512)],
]);

/** True when `token`, a compact JWS that was found to be well-formed, was signed with this key and algorithm. */
export async function isSignatureGood(key: VerificationKey, algorithm: string, token: string): Promise<boolean> {
  const how = ALGORITHMS.get(algorithm);
  if (how === undefined || !key.algorithms.includes(algorithm)) return false;
  const end = token.lastIndexOf('.');
  const signature = Buffer.from(token.slice(end + 1), 'base64url');
  return subtle.verify(how, imported(key, algorithm, how), signature, Buffer.from(token.slice(0, end)));
}

const forms = new WeakMap<VerificationKey, Map<string, webcrypto.CryptoKey>>();

/** The key as Web Crypto takes it, made once for each algorithm it is used with. */
function imported(key: VerificationKey, algorithm: string, how: webcrypto.Algorithm): webcrypto.CryptoKey {
  const known = forms.get(key) ?? new Map<string, webcrypto.CryptoKey>();
  if (known.size === 0) forms.set(key, known);
  const form = known.get(algorithm) ?? asObject(key).toCryptoKey(how, false, ['verify']);
  known.set(algorithm, form);
  return form;
}

const asObject = ({ key }: VerificationKey): KeyObject => (key instanceof KeyObject ? key : createSecretKey(key));
