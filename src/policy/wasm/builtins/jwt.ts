/** `io.jwt.*`: reading and checking compact JWS. Source: RFC 7515, 7518, 7519; OPA policy reference. */
import {
  createHmac,
  createPublicKey,
  constants as crypto,
  type KeyObject,
  timingSafeEqual,
  verify,
  X509Certificate,
} from 'node:crypto';
import type { JsonValue } from '../../../core/json.ts';
import { fromJson, type Rego, type RegoObject } from '../values.ts';
import { asNumber, asObject, asText, changing, Mismatch, pure } from './support.ts';

interface Token {
  readonly header: RegoObject;
  /** The payload as it stands: a JSON object, or another token. */
  readonly text: string;
  readonly signature: Buffer;
  readonly signed: string;
}

function segment(text: string): Buffer {
  if (!/^[A-Za-z0-9_-]*$/.test(text)) throw new Mismatch('not base64url');
  return Buffer.from(text, 'base64url');
}

function parse(text: string): Token {
  const parts = text.split('.');
  const [header = '', payload = '', signature = ''] = parts;
  if (parts.length !== 3) throw new Mismatch('a token has three parts');
  const fields = asObject(fromJson(JSON.parse(segment(header).toString()) as JsonValue));
  if (fields.has('enc')) throw new Mismatch('encrypted tokens cannot be read');
  return {
    header: fields,
    text: segment(payload).toString(),
    signature: segment(signature),
    signed: `${header}.${payload}`,
  };
}

function claimsOf(token: Token): RegoObject {
  return asObject(fromJson(JSON.parse(token.text) as JsonValue));
}

type Family = 'HS' | 'RS' | 'PS' | 'ES' | 'EdDSA';

/** Keys from PEM (certificate or public key), a JWK or a JWK set; only those that fit the token's key id. */
function publicKeys(text: string, keyId: Rego | undefined): KeyObject[] {
  if (!text.trimStart().startsWith('{')) {
    if (!/^\s*-----BEGIN [A-Z ]+-----[^-]+-----END [A-Z ]+-----\s*$/.test(text))
      throw new Mismatch('not one PEM block');
    const pem = text.includes('BEGIN CERTIFICATE') ? new X509Certificate(text).publicKey : createPublicKey(text);
    return [pem];
  }
  const parsed = JSON.parse(text) as { keys?: readonly Record<string, JsonValue>[] } & Record<string, JsonValue>;
  const all = parsed.keys ?? [parsed];
  const named = typeof keyId === 'string' ? all.filter((key) => key.kid === keyId) : [];
  const chosen = named.length > 0 ? named : all;
  return chosen
    .filter((key) => key.kty !== 'oct')
    .map((key) => createPublicKey({ key: key as Record<string, string>, format: 'jwk' }));
}

const KEY_TYPES: Readonly<Record<string, string>> = { RS: 'rsa', PS: 'rsa', ES: 'ec', EdDSA: 'ed25519' };

function verified(token: Token, family: Family, hash: string, key: string): boolean {
  const data = Buffer.from(token.signed);
  if (family === 'HS') {
    const mine = createHmac(hash, key).update(data).digest();
    return mine.length === token.signature.length && timingSafeEqual(mine, token.signature);
  }
  return publicKeys(key, token.header.get('kid'))
    .filter((one) => one.asymmetricKeyType === KEY_TYPES[family])
    .some((one) => verify(family === 'EdDSA' ? null : hash, data, options(family, one), token.signature));
}

function options(family: Family, key: KeyObject) {
  if (family === 'PS') {
    return { key, padding: crypto.RSA_PKCS1_PSS_PADDING, saltLength: crypto.RSA_PSS_SALTLEN_AUTO };
  }
  return family === 'ES' ? { key, dsaEncoding: 'ieee-p1363' as const } : { key };
}

/** Algorithm of a token's header, from the closed list. */
function algorithm(name: Rego | undefined): readonly [Family, string] {
  const match = typeof name === 'string' ? /^(HS|RS|PS|ES)(256|384|512)$/.exec(name) : null;
  if (match !== null) return [match[1] as Family, `sha${match[2]}`];
  if (name === 'EdDSA') return ['EdDSA', ''];
  throw new Mismatch('no such algorithm');
}

/** The token inside a token (`cty: JWT`), as text or as JSON string; null where the payload is no token. */
function inner(token: { readonly header: RegoObject; readonly text: string }): string | null {
  const type = token.header.get('cty');
  if (typeof type !== 'string' || type.toUpperCase() !== 'JWT') return null;
  return token.text.startsWith('"') ? String(JSON.parse(token.text)) : token.text;
}

const MAX_NESTED = 8;

function verifier(family: Family, hash: string) {
  return ([text, key]: readonly Rego[]): Rego => verified(parse(asText(text)), family, hash, asText(key));
}

const FAILED: Rego = [false, new Map(), new Map()];

/** Signature, algorithm and claims at once. `time` is in nanoseconds. */
function decodeVerify(text: string, constraints: RegoObject, nowNs: bigint, depth = 0): Rego {
  const token = parse(text);
  // RFC 7515 4.1.11: an extension that is critical and unknown refuses the token.
  if (token.header.has('crit') || !token.header.has('alg')) return FAILED;
  const [family, hash] = algorithm(token.header.get('alg'));
  const wanted = constraints.get('alg');
  if (wanted !== undefined && wanted !== token.header.get('alg')) return FAILED;
  const secret = constraints.get('secret');
  const key = family === 'HS' ? secret : constraints.get('cert');
  if (constraints.has('cert') === (secret !== undefined)) throw new Mismatch('one kind of key is needed');
  if (key === undefined || !verified(token, family, hash, asText(key))) return FAILED;
  const nested = inner(token);
  if (nested !== null && depth < MAX_NESTED) return decodeVerify(nested, constraints, nowNs, depth + 1);
  const payload = claimsOf(token);
  return claimsHold(payload, constraints, nowNs) ? [true, token.header, payload] : FAILED;
}

function claimsHold(payload: RegoObject, constraints: RegoObject, nowNs: bigint): boolean {
  const time = constraints.get('time');
  const now = time === undefined ? Number(nowNs) / 1e9 : asNumber(time) / 1e9;
  const expires = payload.get('exp');
  const starts = payload.get('nbf');
  if (expires !== undefined && !(now < asNumber(expires))) return false;
  if (starts !== undefined && now < asNumber(starts)) return false;
  const issuer = constraints.get('iss');
  if (issuer !== undefined && payload.get('iss') !== issuer) return false;
  const audience = payload.get('aud');
  const wanted = constraints.get('aud');
  if (wanted === undefined) return audience === undefined;
  return Array.isArray(audience) ? (audience as readonly Rego[]).includes(wanted) : audience === wanted;
}

export const JWT = [
  ...pure({
    'io.jwt.decode': ([text]) => {
      let token = parse(asText(text));
      for (let depth = 0; depth < MAX_NESTED; depth++) {
        const nested = inner(token);
        if (nested === null) break;
        token = parse(nested);
      }
      return [token.header, claimsOf(token), token.signature.toString('hex')];
    },
    ...Object.fromEntries(
      (['HS', 'RS', 'PS', 'ES'] as const).flatMap((family) =>
        ['256', '384', '512'].map((size) => [
          `io.jwt.verify_${family.toLowerCase()}${size}`,
          verifier(family, `sha${size}`),
        ]),
      ),
    ),
    'io.jwt.verify_eddsa': verifier('EdDSA', ''),
  }),
  ...changing({
    'io.jwt.decode_verify': ([text, constraints], context) =>
      decodeVerify(asText(text), asObject(constraints), context.nowNs),
  }),
];
