/** Makes tokens, good and bad, from the instructions of test/corpus/jwt. Uses node:crypto alone: not the library under test. */
import { createHmac, createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';

export const ISSUER = 'https://idp.example.com';
export const AUDIENCE = 'portcullis';
export const SECRET = 'a-shared-secret-of-more-than-32-bytes!';

export interface Recipe {
  readonly name: string;
  readonly expect: 'authenticated' | 'invalid' | 'expired' | 'not-applicable';
  /** Provider options that differ from the usual. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** Where the provider has its keys from; default the JWK set. */
  readonly source?: 'secret' | 'pem';
  /** Name of the signing key; default ec-1. */
  readonly key?: string;
  /** Algorithm really used; default the header's. */
  readonly signAs?: string;
  readonly header?: Readonly<Record<string, unknown>>;
  readonly unsetHeader?: readonly string[];
  readonly headerText?: string;
  readonly headerEncoding?: BufferEncoding;
  readonly claims?: Readonly<Record<string, unknown>>;
  readonly unsetClaims?: readonly string[];
  readonly claimsText?: string;
  readonly claimsEncoding?: BufferEncoding;
  readonly mutate?: readonly string[];
}

const rsa = (modulusLength = 2048) => generateKeyPairSync('rsa', { modulusLength }).privateKey;
const ec = (namedCurve = 'P-256') => generateKeyPairSync('ec', { namedCurve }).privateKey;

/** Private keys by name; the strangers' are in no key set. */
export const KEYS: Readonly<Record<string, KeyObject>> = {
  'ec-1': ec(),
  'ec-384': ec('P-384'),
  'ec-k1': ec('secp256k1'),
  'ec-ops': ec(),
  'ec-leaked': ec(),
  'ec-twin-a': ec(),
  'ec-twin-b': ec(),
  'rsa-1': rsa(),
  'rsa-ps': rsa(),
  'rsa-enc': rsa(),
  'rsa-weak': rsa(1024),
  'ed-1': generateKeyPairSync('ed25519').privateKey,
  'stranger-ec': ec(),
  'stranger-rsa': rsa(),
};
const OCT = randomBytes(32);

export function keyNamed(name: string): KeyObject {
  const key = KEYS[name];
  if (key === undefined) throw new Error(`no key ${name}`);
  return key;
}

export function publicJwk(name: string): Record<string, unknown> {
  return createPublicKey(keyNamed(name)).export({ format: 'jwk' }) as Record<string, unknown>;
}

/** The issuer's key set, with everything a careless issuer may put into it. */
export function jwks(): { keys: Record<string, unknown>[] } {
  const plain = (name: string, more = {}) => ({ ...publicJwk(name), kid: name, ...more });
  return {
    keys: [
      plain('ec-1', { use: 'sig' }),
      plain('ec-384'),
      plain('ec-k1'),
      plain('ec-ops', { key_ops: ['deriveKey'] }),
      { ...keyNamed('ec-leaked').export({ format: 'jwk' }), kid: 'ec-leaked' },
      plain('ec-twin-a', { kid: 'ec-twin' }),
      plain('ec-twin-b', { kid: 'ec-twin' }),
      plain('rsa-1'),
      plain('rsa-ps', { alg: 'PS256' }),
      plain('rsa-1', { kid: 'rsa-other' }),
      plain('rsa-enc', { use: 'enc' }),
      plain('rsa-weak'),
      plain('ed-1', { alg: 'Ed25519' }),
      { kty: 'oct', kid: 'oct-1', k: OCT.toString('base64url') },
      { kty: 'FOO', kid: 'foo' },
      { kty: 'RSA', kid: 'broken', n: '!!', e: 'AQAB' },
      { kty: 'EC', crv: 'P-256', x: 'AA', y: 'AA', kid: 'off-curve' },
    ],
  };
}

export function publicPem(name: string): string {
  return createPublicKey(keyNamed(name)).export({ type: 'spki', format: 'pem' }) as string;
}

function hmacSecret(material: string): Buffer {
  const [what, name = ''] = material.split(':');
  if (what === 'pem') return Buffer.from(publicPem(name));
  if (what === 'spki-der') return createPublicKey(keyNamed(name)).export({ type: 'spki', format: 'der' });
  if (what === 'jwk') return Buffer.from(JSON.stringify(publicJwk(name)));
  if (what === 'n') return Buffer.from(String(publicJwk(name).n), 'base64url');
  if (what === 'kid') return Buffer.from('rsa-1');
  if (what === 'issuer') return Buffer.from(ISSUER);
  if (what === 'oct') return OCT;
  if (what === 'empty') return Buffer.alloc(0);
  throw new Error(`no material ${material}`);
}

function signature(recipe: Recipe, algorithm: string, input: string): Buffer {
  const name = recipe.key ?? 'ec-1';
  if (name === 'none') return Buffer.alloc(0);
  const digest = `sha${algorithm.slice(2)}`;
  if (name === 'secret') return createHmac(digest, SECRET).update(input).digest();
  if (name.startsWith('hmac-'))
    return createHmac(digest, hmacSecret(name.slice(5)))
      .update(input)
      .digest();
  const key = keyNamed(name);
  if (algorithm === 'EdDSA') return sign(null, Buffer.from(input), key);
  const pss = algorithm.startsWith('PS') ? { padding: 6, saltLength: -1 } : {};
  const der = recipe.mutate?.includes('der-signature') === true;
  return sign(digest, Buffer.from(input), { key, dsaEncoding: der ? 'der' : 'ieee-p1363', ...pss });
}

function timed(value: unknown, now: number): unknown {
  if (typeof value !== 'string' || !value.startsWith('$')) return value;
  if (value.startsWith('$JWK:')) return publicJwk(value.slice(5));
  const offset = /^\$NOW([+-][\d.]+)?$/.exec(value);
  return offset === null ? value : now + Number(offset[1] ?? 0);
}

function assembled(base: Record<string, unknown>, more: Recipe['claims'], unset: readonly string[], now: number) {
  const all = { ...base, ...more };
  for (const name of unset) delete all[name];
  return JSON.stringify(Object.fromEntries(Object.entries(all).map(([name, value]) => [name, timed(value, now)])));
}

/** The token a recipe describes; `now` is Unix seconds. */
export function forge(recipe: Partial<Recipe>, now: number): string {
  const full: Recipe = { name: '', expect: 'invalid', ...recipe };
  const key = full.key ?? 'ec-1';
  const usualHeader = { alg: 'ES256', kid: key in KEYS ? key : 'ec-1', typ: 'at+jwt' };
  const header = { ...usualHeader, ...(full.header?.alg === undefined ? {} : { kid: 'ec-1' }), ...full.header };
  const headerText = full.headerText ?? assembled(header, {}, full.unsetHeader ?? [], now);
  const usual = { iss: ISSUER, aud: AUDIENCE, sub: 'alice', iat: now - 10, exp: now + 300 };
  const claimsText =
    full.claimsText?.replace(/\$NOW([+-]\d+)?/g, (_, offset?: string) => String(now + Number(offset ?? 0))) ??
    assembled(usual, full.claims, full.unsetClaims ?? [], now);
  const input = [
    Buffer.from(headerText, full.headerEncoding ?? 'utf8').toString('base64url'),
    Buffer.from(claimsText, full.claimsEncoding ?? 'utf8').toString('base64url'),
  ];
  const algorithm = full.signAs ?? String(header.alg);
  const signed = signature(full, algorithm, input.join('.')).toString('base64url');
  return (full.mutate ?? []).reduce((token, name) => mutate(token, name), `${input.join('.')}.${signed}`);
}

const ORDER = 'ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551';

/** Another last character with the same meaningful bits: lenient decoders read the same bytes. */
function respell(part: string): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  const last = alphabet.indexOf(part.at(-1) ?? '');
  // A part without unused bits has one spelling; it gets a bit too many instead.
  return part.length % 4 === 0 ? `${part}A` : part.slice(0, -1) + alphabet[last + 1];
}

function flip(part: string): string {
  const bytes = Buffer.from(part, 'base64url');
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
  return bytes.toString('base64url');
}

function mutate(token: string, name: string): string {
  const [h = '', p = '', s = ''] = token.split('.');
  const withSignature = (bytes: Buffer) => `${h}.${p}.${bytes.toString('base64url')}`;
  const mutations: Record<string, () => string> = {
    'strip-last-dot': () => `${h}.${p}`,
    'two-parts': () => `${h}.${p}`,
    'flip-signature-bit': () => `${h}.${p}.${flip(s)}`,
    'flip-payload-bit': () => `${h}.${flip(p)}.${s}`,
    'drop-signature': () => `${h}.${p}.`,
    'halve-signature': () => `${h}.${p}.${s.slice(0, (s.length >> 3) * 4)}`,
    'double-signature': () => withSignature(Buffer.from(s + s, 'base64url')),
    'der-signature': () => token,
    'zero-signature': () => withSignature(Buffer.alloc(64)),
    'ones-signature': () => withSignature(Buffer.alloc(64, 1)),
    'order-signature': () => withSignature(Buffer.from(ORDER + ORDER, 'hex')),
    'random-signature': () => withSignature(randomBytes(64)),
    'noncanonical-signature': () => `${h}.${p}.${respell(s)}`,
    'noncanonical-payload': () => `${h}.${respell(p)}.${s}`,
    'noncanonical-header': () => `${respell(h)}.${p}.${s}`,
    'pad-signature': () => `${token}==`,
    'pad-payload': () => `${h}.${p}=.${s}`,
    'pad-header': () => `${h}==.${p}.${s}`,
    'std-base64-signature': () => `${h}.${p}.${s.slice(0, -2)}+/`,
    'trailing-newline': () => `${token}\n`,
    'trailing-crlf': () => `${token}\r\n`,
    'trailing-space': () => `${token} `,
    'leading-space': () => ` ${token}`,
    'trailing-nul': () => `${token}\0`,
    'inner-newline': () => `${h}.${p.slice(0, 9)}\n${p.slice(9)}.${s}`,
    'inner-tab': () => `${h}\t.${p}.${s}`,
    'comma-joined': () => `${token},abc`,
    'percent-dot': () => `${h}%2e.${p}.${s}`,
    'unicode-signature': () => `${h}.${p}.${s}é`,
    'fullwidth-dot': () => `${h}．.${p}.${s}`,
    bom: () => `\ufeff${token}`,
    'other-payload': () => `${h}.${Buffer.from('{"sub":"root"}').toString('base64url')}.${s}`,
    'empty-header': () => `${Buffer.from('{}').toString('base64url')}.${p}.${s}`,
    'empty-payload': () => `${h}..${s}`,
    quoted: () => `"${token}"`,
    'four-parts': () => `${token}.abcd`,
    'five-parts': () => `${h}.abcd.abcd.${p}.${s}`,
    'extra-dot': () => `${token}.`,
    'json-serialization': () => JSON.stringify({ protected: h, payload: p, signature: s }),
    dots: () => '..',
  };
  const found = mutations[name];
  if (found === undefined) throw new Error(`no mutation ${name}`);
  return found();
}
