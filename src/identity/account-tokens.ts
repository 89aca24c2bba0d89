/**
 * The two tokens of an account's session, and the cookie of one in a browser. The access token is a JWT (RFC 9068) that anybody with our public keys can
 * check; the refresh token is no JWT at all and nothing but `/auth/refresh` takes it. Source: acceptance V-18, VF-05, VF-06.
 */
import { createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';
import { SignJWT } from 'jose';
import { z } from 'zod';
import { makeId } from '../core/ids.ts';
import type { Secret } from '../core/secret.ts';
import { takeApart } from './jwt-claims.ts';
import { isSignatureGood } from './signature.ts';
import type { SigningRing } from './signing-ring.ts';

/** `typ` of the header (RFC 9068 2.1). */
const TYPE = 'at+jwt';
/** Characters of the longest access token that is looked at. */
const MAX_TOKEN = 4096;
/** Seconds by which clocks of two gateways over one database may differ. */
const SKEW = 5;

const text = z.string().min(1).max(512);
const claimsSchema = z.strictObject({
  iss: text,
  aud: text,
  sub: text,
  username: text,
  role: text,
  tenant_id: text,
  sid: text,
  jti: text,
  typ: z.literal('access'),
  iat: z.int().min(0),
  exp: z.int().min(0),
  /** How who it was proved it (RFC 8176); tokens of earlier versions do not say. */
  amr: z.array(z.enum(['pwd', 'otp', 'mfa'])).optional(),
  /** When a second factor was shown. */
  auth_time: z.int().min(0).optional(),
});

/** Claims of an access token. Dates are Unix seconds. */
export type AccessClaims = z.output<typeof claimsSchema>;

export interface TokenSubject {
  readonly account_id: string;
  readonly session_id: string;
  readonly tenant_id: string;
  readonly username: string;
  readonly role: string;
  /** When a second factor was shown in the session, epoch milliseconds; null or absent: none was. */
  readonly mfa_at?: number | null;
}

export interface IssuedAccess {
  readonly token: string;
  readonly token_id: string;
  /** Epoch milliseconds. */
  readonly until: number;
}

/** `foreign`: another issuer's. Otherwise why it is not taken, in words for the operator. */
export type AccessFault =
  | { readonly kind: 'foreign' }
  | { readonly kind: 'expired' }
  | { readonly kind: 'invalid'; readonly detail: string };

export interface RefreshName {
  readonly session_id: string;
  readonly generation: number;
}

export interface AccountTokensOptions {
  readonly ring: SigningRing;
  readonly pepper: Secret;
  readonly issuer: string;
  readonly audience: string;
  readonly accessSeconds: number;
}

/** Makes and reads both kinds of tokens. Whether the session still stands is for the database to say. */
export class AccountTokens {
  readonly #options: AccountTokensOptions;
  readonly #refreshKey: Buffer;

  constructor(options: AccountTokensOptions) {
    this.#options = options;
    this.#refreshKey = Buffer.from(hkdfSync('sha256', options.pepper.reveal(), '', 'portcullis refresh token 1', 32));
  }

  get issuer(): string {
    return this.#options.issuer;
  }

  get accessSeconds(): number {
    return this.#options.accessSeconds;
  }

  /** @param until Unix seconds beyond which no token of the session goes */
  async issue(subject: TokenSubject, now: number, until: number): Promise<IssuedAccess> {
    const { ring, issuer, audience, accessSeconds } = this.#options;
    const { kid, algorithm, key } = await ring.signer(now);
    const iat = Math.floor(now / 1000);
    const exp = Math.min(iat + accessSeconds, until);
    const { account_id, session_id, tenant_id, username, role, mfa_at = null } = subject;
    const proof =
      mfa_at === null
        ? ({ amr: ['pwd'] } as const)
        : ({ amr: ['pwd', 'otp', 'mfa'], auth_time: Math.floor(mfa_at / 1000) } as const);
    const claims: AccessClaims = {
      ...{ iss: issuer, aud: audience, sub: account_id, username, role, tenant_id },
      ...{ sid: session_id, jti: makeId('tok_', now), typ: 'access', iat, exp },
      ...{ ...proof, amr: [...proof.amr] },
    };
    const token = await new SignJWT({ ...claims })
      .setProtectedHeader({ alg: algorithm, typ: TYPE, ...(kid === null ? {} : { kid }) })
      .sign(key);
    return { token, token_id: claims.jti, until: exp * 1000 };
  }

  /** The claims of a token that is ours, genuine and not expired, or why it is not taken. `now`: epoch milliseconds. */
  async read(token: string, now: number): Promise<AccessClaims | AccessFault> {
    const parts = token.length > MAX_TOKEN ? null : takeApart(token);
    if (parts === null) return invalid('not a well-formed JWT');
    const { ring, issuer, audience, accessSeconds } = this.#options;
    if (parts.claims.iss !== issuer) return { kind: 'foreign' };
    const { alg, typ, kid = null, ...more } = parts.header;
    // `kid` is only ever compared with names of our own.
    const isHeader = typeof alg === 'string' && typ === TYPE && (kid === null || typeof kid === 'string');
    if (!isHeader || Object.keys(more).length > 0) return invalid('the header is not that of an access token');
    const key = await ring.find(kid, alg, now);
    if (key === null) return invalid('no key has this kid and algorithm');
    if (!(await isSignatureGood(key, alg, token))) return invalid('the signature does not fit');
    const parsed = claimsSchema.safeParse(parts.claims);
    if (!parsed.success) return invalid('the claims are not those of an access token');
    const { aud, iat, exp } = parsed.data;
    if (aud !== audience) return invalid('the audience is not ours');
    const at = now / 1000;
    if (iat > at + SKEW || exp - iat > Math.max(accessSeconds, 86_400))
      return invalid('issued in the future or too long');
    return at >= exp ? { kind: 'expired' } : parsed.data;
  }

  /** `pcr_`, the session, the generation and a seal over both: nothing of it has to be kept. */
  refreshToken({ session_id, generation }: RefreshName): string {
    return `pcr_${session_id}_${generation}_${this.#seal(session_id, generation).toString('base64url')}`;
  }

  /** Which session and generation a refresh token is for, or null when we did not make it. */
  readRefresh(token: string): RefreshName | null {
    const [, session_id = '', number = '', seal = ''] =
      /^pcr_(ses_[0-9A-Z]{26})_(\d{1,9})_([\w-]{43})$/.exec(token.length > 128 ? '' : token) ?? [];
    const given = Buffer.from(seal, 'base64url');
    const generation = Number(number);
    const mine = this.#seal(session_id, generation);
    // One spelling only: a number with zeros in front, or unused bits at the end, would be a second token.
    const isGood = given.length === mine.length && timingSafeEqual(given, mine);
    return isGood && this.refreshToken({ session_id, generation }) === token ? { session_id, generation } : null;
  }

  /** The cookie of a browser's session and the digest under which it is kept; the text is kept nowhere. */
  newCookie(): { readonly text: string; readonly digest: string } {
    const text = `${COOKIE_PREFIX}${randomBytes(32).toString('base64url')}`;
    return { text, digest: this.cookieDigest(text) };
  }

  cookieDigest(text: string): string {
    return createHmac('sha256', this.#refreshKey).update(`cookie\n${text}`).digest('base64url');
  }

  #seal(session: string, generation: number): Buffer {
    return createHmac('sha256', this.#refreshKey).update(`${session}\n${generation}`).digest();
  }
}

const COOKIE_PREFIX = 'pcs_';

/** Whether a cookie's text may be one of ours; those of logins elsewhere have another length. */
export function isAccountCookie(text: string): boolean {
  return text.length === COOKIE_PREFIX.length + 43 && text.startsWith(COOKIE_PREFIX);
}

const invalid = (detail: string): AccessFault => ({ kind: 'invalid', detail });
