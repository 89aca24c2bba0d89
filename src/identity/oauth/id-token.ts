/**
 * What an ID token must be besides what openid-client has checked (issuer, audience, nonce, dates, signature).
 * Source: OpenID Connect Core 3.1.3.7, RFC 8725.
 */
import { hash } from 'node:crypto';
import type { JsonObject } from '../../core/json.ts';
import { takeApart } from '../jwt-claims.ts';

export interface IdTokenRules {
  readonly accessToken: string;
  readonly clientId: string;
  readonly algorithms: readonly string[];
}

/** The claims, or what is wrong. */
export function idTokenProblem(
  token: string,
  { accessToken, clientId, algorithms }: IdTokenRules,
): JsonObject | string {
  const parts = takeApart(token);
  if (parts === null) return 'the ID token can be read in two ways';
  const { header, claims } = parts;
  const { alg, crit } = header;
  if (typeof alg !== 'string' || !algorithms.includes(alg) || crit !== undefined) {
    return 'the ID token is signed in a way that is not accepted';
  }
  const named = Array.isArray(claims.aud) ? claims.aud : [claims.aud];
  if (named.some((one) => one !== clientId)) return 'the ID token is also meant for others';
  if (claims.azp !== undefined && claims.azp !== clientId) return 'the ID token was made for another client';
  if (claims.at_hash !== undefined && claims.at_hash !== leftHalf(accessToken, alg)) {
    return 'the ID token and the access token do not belong together';
  }
  return claims;
}

/** OpenID Connect Core 3.1.3.6: the left half of the digest that goes with the signature. */
export function leftHalf(text: string, algorithm: string): string {
  const bits = /^(?:EdDSA|.*512)$/.test(algorithm) ? 'sha512' : algorithm.endsWith('384') ? 'sha384' : 'sha256';
  const digest = hash(bits, text, 'buffer');
  return digest.subarray(0, digest.length / 2).toString('base64url');
}
