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
export async function verifyToken(
  token: string,
  rules: TokenRules,
  keys: KeySource,
  now: number,
): Promise<{ readonly claims: JsonObject } | AuthResult> {
  const parts = takeApart(token);
  if (parts === null) return invalid('not a well-formed JWT');
  // Another issuer's token is another provider's business. Nothing is believed yet: it is only not ours.
  if (parts.claims.iss !== rules.issuer) return NOT_APPLICABLE;
  const header = checkHeader(parts.header, rules);
  if (header === null) return invalid('the header names an algorithm, type or extension that is not accepted');
  const lookup = await keys.find(header.kid, header.alg);
  if (lookup.kind === 'unavailable') return UNAVAILABLE;
  if (lookup.kind === 'unknown') return invalid('no usable key has this kid and algorithm');
  if (!(await isSignatureGood(lookup.key, header.alg, token))) return invalid('the signature does not fit');
  const verdict = checkClaims(parts.claims, rules, now);
  if (verdict === 'good') return { claims: parts.claims };
  return verdict === 'expired' ? EXPIRED : invalid(verdict);
}
