/** `io.jwt.encode_sign` and `io.jwt.encode_sign_raw`: compact JWS from a JWK. Source: RFC 7515, 7517, 7518. */
import { createHmac, createPrivateKey, constants as crypto, type JsonWebKey, sign } from 'node:crypto';
import type { Rego } from '../values.ts';
import { goJson } from './go-json.ts';
import { asText, changing, Mismatch } from './support.ts';

interface SigningKey extends JsonWebKey {
  readonly kty: string;
}

/** The first key of a JWK or a set of them. */
function firstKey(text: string): SigningKey {
  const parsed = JSON.parse(text) as { keys?: readonly SigningKey[] } & SigningKey;
  const key = parsed.keys === undefined ? parsed : parsed.keys[0];
  if (typeof key?.kty !== 'string') throw new Mismatch('no key');
  return key;
}

function encodeSign(header: string, payload: string, jwk: string): string {
  const key = firstKey(jwk);
  const fields = JSON.parse(header) as { readonly alg?: unknown; readonly typ?: unknown };
  if (fields.typ === undefined || fields.typ === 'JWT') JSON.parse(payload);
  const signed = `${encode(header)}.${encode(payload)}`;
  return `${signed}.${signature(String(fields.alg), signed, key).toString('base64url')}`;
}

const encode = (text: string) => Buffer.from(text).toString('base64url');

function signature(algorithm: string, text: string, jwk: SigningKey): Buffer {
  const [, family, size] = /^(HS|RS|PS|ES)(256|384|512)$/.exec(algorithm) ?? [];
  if (family === undefined && algorithm !== 'EdDSA') throw new Mismatch('no such algorithm');
  const hash = `sha${size}`;
  if (family === 'HS') {
    if (jwk.kty !== 'oct' || typeof jwk.k !== 'string') throw new Mismatch('not a secret key');
    return createHmac(hash, Buffer.from(jwk.k, 'base64url')).update(text).digest();
  }
  const key = createPrivateKey({ key: jwk, format: 'jwk' });
  const data = Buffer.from(text);
  if (key.asymmetricKeyType !== TYPES[family ?? 'EdDSA']) throw new Mismatch('the key does not fit the algorithm');
  if (family === undefined) return sign(null, data, key);
  if (family === 'ES') return sign(hash, data, { key, dsaEncoding: 'ieee-p1363' });
  if (family === 'RS') return sign(hash, data, key);
  return sign(hash, data, {
    key,
    padding: crypto.RSA_PKCS1_PSS_PADDING,
    saltLength: crypto.RSA_PSS_SALTLEN_DIGEST,
  });
}

const TYPES: Readonly<Record<string, string>> = { RS: 'rsa', PS: 'rsa', ES: 'ec', EdDSA: 'ed25519' };

/** Changing: most signatures differ from one time to the next. */
export const JWT_SIGN = changing({
  'io.jwt.encode_sign': ([header, payload, key]: readonly Rego[]) =>
    encodeSign(goJson(header ?? null), goJson(payload ?? null), goJson(key ?? null)),
  'io.jwt.encode_sign_raw': ([header, payload, key]) => encodeSign(asText(header), asText(payload), asText(key)),
});
