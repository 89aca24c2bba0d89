/** Everything that makes a signed token an access token of this issuer for us, in the order in which it is cheapest to refuse. */
import type { JsonObject } from '../core/json.ts';
import { checkClaims, checkHeader, takeApart } from './jwt-claims.ts';
import type { TokenRules } from './jwt-options.ts';
import type { KeySource } from './key-source.ts';
import type { AuthResult } from './provider.ts';
import { isSignatureGood } from './signature.ts';

const NOT_APPLICABLE: AuthResult = Object.freeze({ kind: 'not-applicable' });
const EXPIRED: AuthResult = Object.freeze({ kind: 'rejected', reason: 'expired' });
const UNAVAILABLE: AuthResult = Object.freeze({ kind: 'rejected', reason: 'unavailable' });
const invalid = (detail: string): AuthResult => ({ kind: 'rejected', reason: 'invalid', detail });

/** Exactly two dots. Opaque tokens and API keys are for other providers. */
export function looksLikeJwt(token: string): boolean {
  const first = token.indexOf('.');
  if (first < 1) return false;
  const second = token.indexOf('.', first + 1);
  return second > 0 && token.indexOf('.', second + 1) < 0;
}

/** The claims of a good token, or what is to be answered. `now` is epoch milliseconds. */
export function verifyToken(
  token: string,
  rules: TokenRules,
  keys: KeySource,
  now: number,
): Promise<Verified<undefined> | AuthResult> {
  return verifyAndRead(token, rules, keys, now, () => undefined);
}

/** The claims of a good token and what was made of them. */
export interface Verified<T> {
  readonly claims: JsonObject;
  readonly made: T;
}

/**
 * The same, with what `make` makes of the claims. It runs while another thread computes the signature, so nobody has
 * proven them yet: it must neither tell nor ask anyone, and what it made is thrown away with a bad signature.
 */
export async function verifyAndRead<T>(
  token: string,
  rules: TokenRules,
  keys: KeySource,
  now: number,
  make: (claims: JsonObject) => T,
): Promise<Verified<T> | AuthResult> {
  const parts = takeApart(token);
  if (parts === null) return invalid('not a well-formed JWT');
  // Another issuer's token is another provider's business. Nothing is believed yet: it is only not ours.
  if (parts.claims.iss !== rules.issuer) return NOT_APPLICABLE;
  const header = checkHeader(parts.header, rules);
  if (header === null) return invalid('the header names an algorithm, type or extension that is not accepted');
  const lookup = await keys.find(header.kid, header.alg);
  if (lookup.kind === 'unavailable') return UNAVAILABLE;
  if (lookup.kind === 'unknown') return invalid('no usable key has this kid and algorithm');
  const signature = isSignatureGood(lookup.key, header.alg, token);
  const verdict = checkClaims(parts.claims, rules, now);
  const made = verdict === 'good' ? make(parts.claims) : null;
  if (!(await signature)) return invalid('the signature does not fit');
  if (verdict === 'good') return { claims: parts.claims, made: made as T };
  return verdict === 'expired' ? EXPIRED : invalid(verdict);
}
