/** People who log in elsewhere: an identity provider of a test, and the tokens it gives them. */
import { createHmac } from 'node:crypto';
import type { PartialConfig } from './gateway.ts';

const SECRET = 'what-the-provider-of-people-signs-with-0123456789';
const ISSUER = 'https://people.example.com';
const YEAR = 31_536_000;

/** `keys` beside `people`, for `identity`. */
export const KEYS_AND_PEOPLE = {
  keys: { kind: 'api-key' },
  people: { kind: 'jwt', issuer: ISSUER, audience: 'portcullis', secret: SECRET, max_lifetime_seconds: YEAR },
} as const satisfies PartialConfig['identity'];

/** A token of somebody who showed a second factor, unless the claims say otherwise. `now`: epoch milliseconds. */
export function personToken(claims: Readonly<Record<string, unknown>>, now: number): string {
  const iat = Math.floor(now / 1000);
  const body = { iss: ISSUER, aud: 'portcullis', iat, exp: iat + YEAR, auth_time: iat, amr: ['pwd', 'mfa'], ...claims };
  const text = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(body)}`;
  return `${text}.${createHmac('sha256', SECRET).update(text).digest('base64url')}`;
}

const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
