/**
 * What must hold of a token's header and claims besides the signature. Source: RFC 7519 4.1, RFC 8725, RFC 9068,
 * security 2.3.
 */
import type { JsonObject, JsonValue } from '../core/json.ts';
import type { TokenRules } from './jwt-options.ts';
import { readJsonObject } from './strict-json.ts';
import { isKid } from './verification-keys.ts';

export interface TokenHeader {
  readonly alg: string;
  readonly kid: string | null;
}

/** A token taken apart, nothing of it believed yet. */
export interface UnverifiedToken {
  readonly header: JsonObject;
  readonly claims: JsonObject;
}

/**
 * Takes a compact JWS apart; null when it is not exactly that: three parts of canonical, unpadded base64url that hold
 * unambiguous JSON objects and a signature.
 */
export function takeApart(token: string): UnverifiedToken | null {
  if (!THREE_PARTS.test(token)) return null;
  const first = token.indexOf('.');
  const second = token.indexOf('.', first + 1);
  if (!isCanonical(token, second + 1, token.length)) return null;
  const header = headerOf(token, first);
  if (header === null) return null;
  const claims = readPart(token, first + 1, second);
  return claims === null ? null : { header, claims };
}

const THREE_PARTS = /^[\w-]+\.[\w-]+\.[\w-]+$/;

/** The tokens of an issuer differ in their claims and hardly ever in the header, so the last one read is kept. */
let lastHeader: { readonly text: string; readonly header: JsonObject } | null = null;

function headerOf(token: string, end: number): JsonObject | null {
  if (lastHeader?.text.length === end && token.startsWith(lastHeader.text)) return lastHeader.header;
  const header = readPart(token, 0, end);
  // A copy: a slice would keep the whole token in memory.
  if (header !== null && end <= MAX_KEPT_HEADER)
    lastHeader = { text: Buffer.from(token.slice(0, end)).toString(), header };
  return header;
}

/** Characters; a longer header is read each time. */
const MAX_KEPT_HEADER = 1024;

function readPart(token: string, from: number, to: number): JsonObject | null {
  return isCanonical(token, from, to) ? readJsonObject(Buffer.from(token.slice(from, to), 'base64url')) : null;
}

/**
 * Whether characters of the base64url alphabet are the one spelling of some bytes: no impossible length, and no bits set
 * in the last character that belong to no byte. Another spelling would be a second token of the same meaning (RFC 4648
 * 3.5).
 */
function isCanonical(token: string, from: number, to: number): boolean {
  switch ((to - from) % 4) {
    case 0:
      return true;
    case 2:
      return 'AQgw'.includes(token.charAt(to - 1));
    case 3:
      return 'AEIMQUYcgkosw048'.includes(token.charAt(to - 1));
    default:
      return false;
  }
}

/** What the header says, or null when it is not acceptable. Keys it embeds or points to (jwk, jku, x5c, x5u) are never looked at. */
export function checkHeader(header: JsonObject, options: TokenRules): TokenHeader | null {
  const { alg, kid, typ } = header;
  if (typeof alg !== 'string' || !(options.algorithms as readonly string[]).includes(alg)) return null;
  // No extension is understood, so none may be critical (RFC 7515 4.1.11); `b64` only has a meaning with crit.
  if (header.crit !== undefined || header.b64 !== undefined || header.zip !== undefined || header.enc !== undefined) {
    return null;
  }
  if (kid !== undefined && !isKid(kid)) return null;
  if (!isAcceptedType(typ, options.typ)) return null;
  return { alg, kid: kid ?? null };
}

function isAcceptedType(typ: JsonValue | undefined, accepted: readonly string[]): boolean {
  if (typ === undefined) return accepted.some((name) => name.toLowerCase() === 'jwt');
  if (typeof typ !== 'string') return false;
  // RFC 7515 4.1.9: case-insensitive, and `application/` may be left out.
  const name = typ.toLowerCase().replace(/^application\//, '');
  return accepted.some((one) => one.toLowerCase() === name);
}

/** What is wrong with a token's claims, in words for the operator. */
export type ClaimsFault =
  | 'the issuer is another one'
  | 'the audience is not ours'
  | 'not an access token'
  | 'exp is missing or a date is malformed'
  | 'issued in the future or after its own end'
  | 'not valid yet'
  | 'the lifetime exceeds max_lifetime_seconds';

export type ClaimsVerdict = 'good' | 'expired' | ClaimsFault;

/** Words by which issuers mark tokens that are no access tokens. */
const OTHER_TOKENS = new Set(['id', 'refresh', 'logout', 'offline', 'id_token', 'refresh_token', 'logout_token']);

/** True for ID, refresh and logout tokens that carry their kind in the claims. */
export function isOtherToken(claims: JsonObject): boolean {
  for (const name of ['token_use', 'typ', 'type', 'token_type']) {
    const value = claims[name];
    if (typeof value === 'string' && OTHER_TOKENS.has(value.toLowerCase())) return true;
  }
  // OpenID Connect: hashes and nonce make an ID token, events a logout or security event token.
  return (
    claims.nonce !== undefined ||
    claims.at_hash !== undefined ||
    claims.c_hash !== undefined ||
    claims.events !== undefined
  );
}

/** NumericDate (RFC 7519 2): seconds, maybe with a fraction. */
export function isDate(value: JsonValue | undefined): value is number {
  return typeof value === 'number' && value >= 0 && value <= Number.MAX_SAFE_INTEGER;
}

/** Judges the claims of a token whose signature is good. `now` is epoch milliseconds. */
export function checkClaims(claims: JsonObject, options: TokenRules, now: number): ClaimsVerdict {
  if (claims.iss !== options.issuer) return 'the issuer is another one';
  if (!isForUs(claims.aud, options)) return 'the audience is not ours';
  if (isOtherToken(claims)) return 'not an access token';
  const { exp, iat, nbf } = claims;
  const seconds = now / 1000;
  const skew = options.clock_skew_seconds;
  if (!isDate(exp) || (iat !== undefined && !isDate(iat)) || (nbf !== undefined && !isDate(nbf))) {
    return 'exp is missing or a date is malformed';
  }
  if (iat !== undefined && (iat > seconds + skew || iat > exp)) return 'issued in the future or after its own end';
  if (nbf !== undefined && nbf > seconds + skew) return 'not valid yet';
  // Without iat the rest of its life counts: what is left can only be shorter than the whole.
  if (exp - (iat ?? seconds) > options.max_lifetime_seconds) return 'the lifetime exceeds max_lifetime_seconds';
  return seconds >= exp + skew ? 'expired' : 'good';
}

function isForUs(aud: JsonValue | undefined, options: TokenRules): boolean {
  if (typeof aud === 'string') return options.audience.includes(aud);
  if (!Array.isArray(aud) || aud.length === 0) return false;
  let ours = 0;
  for (const one of aud as readonly JsonValue[]) {
    if (typeof one !== 'string') return false;
    if (options.audience.includes(one)) ours++;
  }
  return options.sole_audience ? ours === aud.length : ours > 0;
}
