/**
 * The token that an approved requester presents: a compact JWS (RFC 7515) with one algorithm, one key and one header, so
 * there is nothing to negotiate. It only names the approval; what was approved stands in the database. Source: design 2.4.
 */
import { createHmac, hash, hkdfSync, timingSafeEqual } from 'node:crypto';
import { isJsonObject } from '../core/json.ts';
import type { Secret } from '../core/secret.ts';
import type { ApprovalRecord } from '../stores/approvals.ts';

/** What a good token says. Times are Unix seconds. */
export interface TokenClaims {
  readonly jti: string;
  readonly approval_id: string;
  readonly sub: string;
  readonly tenant: string;
  readonly exp: number;
}

/** Longer texts are not looked at. */
export const MAX_TOKEN_LENGTH = 4096;

export class ApprovalTokens {
  readonly #key: Buffer;
  readonly #header: string;

  /** `pepper`: the platform's secret, the same in every process over one database. */
  constructor(pepper: Secret) {
    this.#key = Buffer.from(hkdfSync('sha256', pepper.reveal(), '', 'portcullis approval token v1', 32));
    const kid = hash('sha256', Buffer.concat([Buffer.from('kid'), this.#key])).slice(0, 16);
    this.#header = encode({ alg: 'HS256', kid, typ: 'portcullis-approval' });
  }

  /** The one token of an approved request; the same text each time. Null when there is none. */
  issue(record: ApprovalRecord): string | null {
    const { call, requester } = record;
    if (record.state !== 'approved' || record.token_id === null || record.decided_at === null) return null;
    const claims = encode({
      jti: record.token_id,
      approval_id: record.id,
      sub: requester.id,
      tenant: record.tenant_id,
      server: call.server,
      tool: call.tool,
      params: call.arguments_digest,
      approver: record.decided_by?.id ?? null,
      iat: Math.floor(record.decided_at / 1000),
      exp: Math.floor(record.expires_at / 1000),
    });
    return `${this.#header}.${claims}.${this.#sign(claims)}`;
  }

  /** Null for every text that this deployment did not sign. Says nothing of time or of use. */
  read(text: string): TokenClaims | null {
    if (text.length > MAX_TOKEN_LENGTH) return null;
    const [header, claims, signature, more] = text.split('.');
    if (header !== this.#header || claims === undefined || signature === undefined || more !== undefined) return null;
    // Texts are compared, not bytes: base64url has several spellings of some bytes, and only one of them was issued.
    const expected = Buffer.from(this.#sign(claims));
    const given = Buffer.from(signature);
    if (expected.length !== given.length || !timingSafeEqual(expected, given)) return null;
    return claimsIn(Buffer.from(claims, 'base64url').toString('utf8'));
  }

  #sign(claims: string): string {
    return createHmac('sha256', this.#key).update(`${this.#header}.${claims}`).digest('base64url');
  }
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

function claimsIn(text: string): TokenClaims | null {
  const value: unknown = JSON.parse(text);
  if (!isJsonObject(value)) return null;
  const { jti, approval_id, sub, tenant, exp } = value;
  const isComplete =
    typeof jti === 'string' &&
    typeof approval_id === 'string' &&
    typeof sub === 'string' &&
    typeof tenant === 'string' &&
    typeof exp === 'number';
  return isComplete ? { jti, approval_id, sub, tenant, exp } : null;
}
