/** Public keys of an issuer, each bound to the algorithms it may verify. Source: RFC 7517, RFC 8725 3.1. */
import { createPublicKey, type KeyObject } from 'node:crypto';
import { isJsonObject, type JsonObject } from '../core/json.ts';
import { readJsonObject } from './strict-json.ts';

/** Signature algorithms that can be configured. `none` is not among them, nor can it be. */
export const ASYMMETRIC_ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
] as const;
export const SYMMETRIC_ALGORITHMS = ['HS256', 'HS384', 'HS512'] as const;
export type Algorithm = (typeof ASYMMETRIC_ALGORITHMS)[number] | (typeof SYMMETRIC_ALGORITHMS)[number];

export interface VerificationKey {
  readonly kid: string | null;
  readonly algorithms: readonly string[];
  readonly key: KeyObject | Uint8Array;
}

export type KeySet = readonly VerificationKey[];

export const MAX_KID = 256;
/** Keys in one set; more is a mistake or an attack on our memory. */
const MAX_KEYS = 100;
const MIN_RSA_BITS = 2048;

/** What a kid may look like. It is only ever compared, but it also appears in logs. */
export function isKid(value: unknown): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= MAX_KID && /^[\x21-\x7e]+$/.test(value);
}

/**
 * The keys of a JWK set document that can verify something; others are left out (symmetric, encryption only, weak,
 * unknown types). Null when it is no JWK set.
 */
export function readKeySet(document: Uint8Array): KeySet | null {
  const set = readJsonObject(document);
  const keys = set?.keys;
  if (!Array.isArray(keys) || keys.length > MAX_KEYS) return null;
  return keys.flatMap((jwk: unknown) => (isJsonObject(jwk) ? readKey(jwk) : []));
}

function readKey(jwk: JsonObject): KeySet {
  if (jwk.kty === 'oct' || (jwk.use !== undefined && jwk.use !== 'sig')) return [];
  if (Array.isArray(jwk.key_ops) && !jwk.key_ops.includes('verify')) return [];
  // A published private key is everybody's key.
  if (jwk.d !== undefined || (jwk.kid !== undefined && !isKid(jwk.kid))) return [];
  let key: KeyObject;
  try {
    key = createPublicKey({ key: { ...jwk }, format: 'jwk' });
  } catch {
    return [];
  }
  const fitting = algorithmsOf(key);
  const algorithms = jwk.alg === undefined ? fitting : fitting.filter((name) => name === canonical(jwk.alg));
  return algorithms.length === 0 ? [] : [{ kid: jwk.kid ?? null, algorithms, key }];
}

/** RFC 9864 names the curve where RFC 8037 named the family. */
function canonical(algorithm: unknown): unknown {
  return algorithm === 'Ed25519' ? 'EdDSA' : algorithm;
}

const CURVES: Readonly<Record<string, string>> = { prime256v1: 'ES256', secp384r1: 'ES384', secp521r1: 'ES512' };

/** Too short, or with an exponent that none has who signs: by 1 every text is its own signature. */
function isWeakRsa({ modulusLength = 0, publicExponent = 0n }: KeyObject['asymmetricKeyDetails'] = {}): boolean {
  return modulusLength < MIN_RSA_BITS || publicExponent < 3n || publicExponent % 2n === 0n;
}

/** The algorithms a public key can verify; none for weak RSA keys and other curves. */
function algorithmsOf(key: KeyObject): readonly string[] {
  switch (key.asymmetricKeyType) {
    case 'rsa':
      if (isWeakRsa(key.asymmetricKeyDetails)) return [];
      return ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'];
    case 'ec': {
      const algorithm = CURVES[key.asymmetricKeyDetails?.namedCurve ?? ''];
      return algorithm === undefined ? [] : [algorithm];
    }
    case 'ed25519':
      return ['EdDSA'];
    default:
      return [];
  }
}

/** The single key of a PEM file (SPKI or certificate). Throws with a sentence for the operator when it is none. */
export function readPem(pem: string): KeySet {
  if (pem.includes('PRIVATE KEY')) throw new Error('holds a private key; the public one is enough here');
  const key = createPublicKey(pem);
  const algorithms = algorithmsOf(key);
  if (algorithms.length === 0) throw new Error('holds a key of an unsupported type, curve or size');
  return [{ kid: null, algorithms, key }];
}

/** A shared secret as the single key, for issuers that sign with HMAC. */
export function symmetricKey(secret: Uint8Array): KeySet {
  return [{ kid: null, algorithms: SYMMETRIC_ALGORITHMS, key: secret }];
}

/**
 * The one key that may verify a token with this header, or null. Without a kid there must be no choice; with one, a key
 * must carry it. `byKid: false` is for single configured keys, which have no kid of their own.
 */
export function selectKey(keys: KeySet, kid: string | null, algorithm: string, byKid: boolean): VerificationKey | null {
  let found: VerificationKey | null = null;
  for (const key of keys) {
    if (byKid && kid !== null && key.kid !== kid) continue;
    if (!key.algorithms.includes(algorithm)) continue;
    if (found !== null) return null;
    found = key;
  }
  return found;
}
