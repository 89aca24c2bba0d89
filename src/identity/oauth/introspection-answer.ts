/**
 * What must hold of the answer to "is this token good?" before anybody is let in for it. Source: RFC 7662 2.2 and 4,
 * RFC 8705 3.2, RFC 9449 6.2, security 2.4.
 */
import type { JsonObject, JsonValue } from '../../core/json.ts';
import { isDate, isOtherToken } from '../jwt-claims.ts';

export interface AnswerRules {
  readonly issuer: string;
  /** Accepted aud values; one must be named where `requireAudience`. */
  readonly audience: readonly string[];
  readonly requireAudience: boolean;
  /** Every audience must be ours. */
  readonly soleAudience: boolean;
  /** Clients whose tokens are accepted; null: any. */
  readonly clients: readonly string[] | null;
  readonly clockSkewSeconds: number;
}

export type AnswerVerdict =
  | { readonly kind: 'good'; readonly claims: JsonObject; readonly exp: number }
  | { readonly kind: 'expired' }
  | { readonly kind: 'inactive' }
  /** Well understood and not for us; the reason is for the operator. */
  | { readonly kind: 'refused'; readonly detail: string }
  /** No answer in the sense of the standard: an outage. */
  | { readonly kind: 'malformed'; readonly detail: string };

const refused = (detail: string): AnswerVerdict => ({ kind: 'refused', detail });
const malformed = (detail: string): AnswerVerdict => ({ kind: 'malformed', detail });

/** Judges an answer. `now` is epoch milliseconds. */
export function judgeAnswer(answer: JsonObject, rules: AnswerRules, now: number): AnswerVerdict {
  const { active, exp, iat, nbf, iss, client_id, sub } = answer;
  if (typeof active !== 'boolean') return malformed('active is no boolean');
  if (!active) return { kind: 'inactive' };
  if (iss !== undefined && iss !== rules.issuer) return refused('the token is of another issuer');
  if (!isDate(exp)) return refused('exp is missing or no date');
  if ((iat !== undefined && !isDate(iat)) || (nbf !== undefined && !isDate(nbf)))
    return malformed('a date is malformed');
  if (client_id !== undefined && typeof client_id !== 'string') return malformed('client_id is no text');
  if (sub !== undefined && typeof sub !== 'string') return malformed('sub is no text');
  if (answer.scope !== undefined && typeof answer.scope !== 'string') return malformed('scope is no text');
  const kind = tokenProblem(answer);
  if (kind !== null) return refused(kind);
  const audience = audienceProblem(answer.aud, rules);
  if (audience !== null) return refused(audience);
  if (rules.clients !== null && !(client_id !== undefined && rules.clients.includes(client_id))) {
    return refused('the token is of a client that is not accepted');
  }
  const seconds = now / 1000;
  if (seconds >= exp + rules.clockSkewSeconds) return { kind: 'expired' };
  if (nbf !== undefined && nbf > seconds + rules.clockSkewSeconds) return refused('the token is not valid yet');
  const subject = sub ?? (client_id === undefined ? null : `client:${client_id}`);
  if (subject === null) return refused('the answer names no subject');
  // A client that acts for itself must not be taken for a person of the same name.
  return {
    kind: 'good',
    exp,
    claims: sub === undefined ? { ...answer, sub: subject, principal_type: 'service' } : answer,
  };
}

/** Only bearer access tokens: a stolen token that is bound to a key must be worth nothing without it. */
function tokenProblem(answer: JsonObject): string | null {
  const { token_type, cnf } = answer;
  if (cnf !== undefined) return 'the token is bound to a key of its owner';
  const isBearer =
    token_type === undefined || (typeof token_type === 'string' && /^(?:bearer|access_token)$/i.test(token_type));
  return isBearer && !isOtherToken(answer) ? null : 'not a bearer access token';
}

function audienceProblem(aud: JsonValue | undefined, rules: AnswerRules): string | null {
  if (aud === undefined) return rules.requireAudience ? 'the answer names no audience' : null;
  const named: readonly JsonValue[] = Array.isArray(aud) ? aud : [aud as JsonValue];
  if (!named.every((one) => typeof one === 'string')) return 'the audience is malformed';
  if (!rules.requireAudience) return null;
  const ours = named.filter((one) => typeof one === 'string' && rules.audience.includes(one)).length;
  return ours > 0 && (!rules.soleAudience || ours === named.length) ? null : 'the audience is not ours';
}
