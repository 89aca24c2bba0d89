/**
 * The signed identity that an upstream is sent: a JWT of the gateway's own, for this upstream alone and for a minute. It
 * says who was authenticated and, of a delegated call, who acts (RFC 8693 4.1). Its `typ` is one that no identity provider
 * takes, so that nobody can come back with it. Source: acceptance VF-21, HW-10; RFC 7519, RFC 8725 3.11.
 */
import { type KeyObject, sign } from 'node:crypto';
import type { IdentityClaim } from '../config/identity-token-schema.ts';
import type { Clock } from '../core/clock.ts';
import { GatewayError } from '../core/errors.ts';
import { makeId } from '../core/ids.ts';
import type { Principal } from '../core/principal.ts';
import { actOf } from './delegation-token.ts';
import type { Signer, SigningRing } from './signing-ring.ts';

/** `typ` of the header (RFC 8725 3.11). */
export const IDENTITY_TYPE = 'portcullis-identity+jwt';
/** Characters: what common servers take in one header. */
const MAX_TOKEN = 7168;
/** Milliseconds until the ring is asked again; a key is published a quarter of an hour before it signs. */
const REFRESH_MS = 30_000;

export interface SignerAtHandOptions {
  readonly ring: SigningRing;
  readonly clock: Clock;
  /** The ring could not be read; the key known last goes on signing, for it is published for days. */
  onFailure(error: unknown): void;
}

/** The key that signs now, kept at hand: nothing on the way of a request waits for the database. */
export class SignerAtHand {
  readonly #options: SignerAtHandOptions;
  #signer: Signer;
  #head: string;
  #askedAt: number;

  private constructor(options: SignerAtHandOptions, signer: Signer, now: number) {
    this.#options = options;
    this.#signer = signer;
    this.#head = headOf(signer);
    this.#askedAt = now;
  }

  /** Rejects when there is no key and none can be made. */
  static async open(options: SignerAtHandOptions): Promise<SignerAtHand> {
    const now = options.clock.now();
    return new SignerAtHand(options, await options.ring.signer(now), now);
  }

  /** A compact JWS over these claims. `now`: epoch milliseconds. */
  sign(claims: object, now: number): string {
    // A clock that steps back must not stop it either.
    if (Math.abs(now - this.#askedAt) >= REFRESH_MS) void this.refresh(now);
    const text = `${this.#head}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}`;
    return `${text}.${signatureOf(this.#signer, text).toString('base64url')}`;
  }

  /** Never rejects. */
  async refresh(now: number): Promise<void> {
    this.#askedAt = now;
    try {
      const signer = await this.#options.ring.signer(now);
      if (signer.kid !== this.#signer.kid) this.#head = headOf(signer);
      this.#signer = signer;
    } catch (error) {
      this.#options.onFailure(error);
    }
  }
}

function headOf({ algorithm, kid }: Signer): string {
  return Buffer.from(JSON.stringify({ alg: algorithm, typ: IDENTITY_TYPE, kid })).toString('base64url');
}

/** RFC 7518 3.3 and 3.4, RFC 8037 3.1. In place, for a thread would cost more than an Ed25519 signature. */
function signatureOf({ algorithm, key }: Signer, text: string): Buffer {
  const data = Buffer.from(text);
  if (algorithm === 'EdDSA') return sign(null, data, key as KeyObject);
  if (algorithm === 'ES256') return sign('sha256', data, { key: key as KeyObject, dsaEncoding: 'ieee-p1363' });
  if (algorithm === 'RS256') return sign('sha256', data, key as KeyObject);
  throw new Error(`identity tokens are not signed with ${algorithm}`);
}

export interface UpstreamTokenOptions {
  readonly signer: SignerAtHand;
  readonly clock: Clock;
  readonly issuer: string;
  readonly audience: string;
  /** Lower case. */
  readonly header: string;
  readonly lifetimeSeconds: number;
  readonly claims: readonly IdentityClaim[];
}

interface Made {
  readonly headers: Readonly<Record<string, string>>;
  /** Epoch milliseconds until which it is sent again. */
  readonly until: number;
}

/** Makes the tokens for one upstream. */
export class UpstreamTokens {
  readonly #options: UpstreamTokenOptions;
  readonly #isPerRequest: boolean;
  /**
   * By the principal itself, which nobody can change: another person, tenant or set of roles is another object. Identity
   * providers forget theirs when something about it changes, and what was made for it is gone with it.
   */
  readonly #made = new WeakMap<Principal, Made>();

  constructor(options: UpstreamTokenOptions) {
    this.#options = options;
    this.#isPerRequest = options.claims.includes('request_id');
  }

  /** The header this upstream finds it in, lower case. */
  get header(): string {
    return this.#options.header;
  }

  /** The header with the caller's token; null for callers nobody authenticated. */
  headers(principal: Principal, requestId: string): Readonly<Record<string, string>> | null {
    if (principal.type === 'anonymous') return null;
    const now = this.#options.clock.now();
    const known = this.#made.get(principal);
    if (known !== undefined && now < known.until) return known.headers;
    return this.#make(principal, requestId, now);
  }

  #make(principal: Principal, requestId: string, now: number): Readonly<Record<string, string>> {
    const { signer, issuer, audience, header, claims } = this.#options;
    const iat = Math.floor(now / 1000);
    const exp = this.#endOf(principal, iat);
    const act = actOf(principal.actor);
    const token = signer.sign(
      {
        ...{ iss: issuer, aud: audience, sub: principal.id, iat, exp, jti: makeId('idt_', now) },
        ...(act === undefined ? null : { act }),
        ...claimsOf(principal, claims, requestId),
      },
      now,
    );
    if (token.length > MAX_TOKEN) throw tooLong(audience);
    const headers = { [header]: header === 'authorization' ? `Bearer ${token}` : token };
    // Whoever gets it has at least half of its life left.
    if (!this.#isPerRequest) this.#made.set(principal, { headers, until: (iat + exp) * 500 });
    return headers;
  }

  /** Unix seconds. Not longer than what the caller showed; a clock that is late must leave a moment to use it. */
  #endOf({ auth }: Principal, iat: number): number {
    const end = iat + this.#options.lifetimeSeconds;
    return auth.expires_at === null ? end : Math.max(iat + 2, Math.min(end, Math.floor(auth.expires_at)));
  }
}

const tooLong = (audience: string): GatewayError =>
  new GatewayError('INTERNAL_ERROR', {
    cause: new Error(`the identity token for ${audience} does not fit into a header: name fewer claims`),
  });

function claimsOf(principal: Principal, wanted: readonly IdentityClaim[], requestId: string): Record<string, unknown> {
  const claims: Record<string, unknown> = {};
  for (const name of wanted) {
    const value = claimOf(principal, name, requestId);
    if (value !== null) claims[name] = value;
  }
  return claims;
}

/** Null: there is nothing to say, and nothing is said. */
function claimOf(principal: Principal, name: IdentityClaim, requestId: string): unknown {
  switch (name) {
    case 'tenant':
      return principal.tenant_id;
    case 'principal_type':
      return principal.type;
    // RFC 8693 4.2.
    case 'scope':
      return principal.scopes.join(' ');
    case 'mfa':
      return principal.auth.mfa_verified;
    case 'key_id':
      return principal.auth.key_id;
    case 'request_id':
      return requestId;
    default:
      return principal[name];
  }
}
