/**
 * Access tokens that the gateway's own authorization server gave to agents. They are of an account's session like those
 * of a login, but for one resource, for one client, and never good for what only the account's owner may do.
 * Source: RFC 9068, RFC 8707, MCP authorization (2026-07-28).
 */
import { z } from 'zod';
import type { AccessFault } from './account-tokens.ts';
import { takeApart } from './jwt-claims.ts';
import { isSignatureGood } from './signature.ts';
import type { SigningRing } from './signing-ring.ts';

const MAX_TOKEN = 8192;
/** Seconds by which clocks of two gateways over one database may differ. */
const SKEW = 5;

const text = z.string().min(1).max(512);
const claimsSchema = z.strictObject({
  ...{ iss: text, aud: text, sub: text, sid: text, jti: text, username: text, role: text, tenant_id: text },
  client_id: z.string().min(1).max(2048),
  scope: z.string().max(4096).optional(),
  typ: z.literal('access'),
  amr: z.array(z.string().min(1).max(32)).max(8).optional(),
  auth_time: z.int().min(0).optional(),
  iat: z.int().min(0),
  exp: z.int().min(0),
});

/** Claims of an agent's token. Dates are Unix seconds. */
export type AgentClaims = z.output<typeof claimsSchema>;

export interface AgentTokensOptions {
  readonly ring: SigningRing;
  readonly issuer: string;
  /** What a token has to be for on a route, any of them; none where agents have no business. */
  audiences(route: string): readonly string[];
  /** Seconds the longest lives. */
  readonly maxSeconds: number;
}

/** Reads them. Whether the session still stands is for the database to say. */
export class AgentTokens {
  readonly #options: AgentTokensOptions;

  constructor(options: AgentTokensOptions) {
    this.#options = options;
  }

  /**
   * The claims of a token that is an agent's, genuine, not expired and for this route; `foreign` for any other token.
   * @param route its match; null: for whatever it is
   * @param now epoch milliseconds
   */
  async read(token: string, now: number, route: string | null): Promise<AgentClaims | AccessFault> {
    const parts = token.length > MAX_TOKEN ? null : takeApart(token);
    const { ring, issuer, audiences, maxSeconds } = this.#options;
    if (parts === null || parts.claims.iss !== issuer || parts.claims.client_id === undefined)
      return { kind: 'foreign' };
    const { alg, typ, kid, ...more } = parts.header;
    const isHeader = typeof alg === 'string' && typ === 'at+jwt' && typeof kid === 'string';
    if (!isHeader || Object.keys(more).length > 0) return invalid('the header is not that of an access token');
    const key = await ring.find(kid, alg, now);
    if (key === null || !(await isSignatureGood(key, alg, token))) return invalid('the signature does not fit');
    const parsed = claimsSchema.safeParse(parts.claims);
    if (!parsed.success) return invalid('the claims are not those of an agent’s token');
    const { aud, iat, exp } = parsed.data;
    if (route !== null && !audiences(route).includes(aud)) return invalid('the audience is another resource');
    const at = now / 1000;
    if (iat > at + SKEW || exp - iat > maxSeconds) return invalid('issued in the future or too long');
    return at >= exp ? { kind: 'expired' } : parsed.data;
  }
}

const invalid = (detail: string): AccessFault => ({ kind: 'invalid', detail });
