/**
 * Asks an authorization server about opaque tokens: once at a time per token, not at all while it is away, and about
 * what was found only when that may have changed. Source: RFC 7662, acceptance D-07, S-65 to S-67, SF-50.
 */
import { LRUCache } from 'lru-cache';
import {
  type Configuration,
  fetchUserInfo,
  ResponseBodyError,
  skipSubjectCheck,
  tokenIntrospection,
  WWWAuthenticateChallengeError,
} from 'openid-client';
import type { Clock } from '../../core/clock.ts';
import type { JsonObject } from '../../core/json.ts';
import type { Logger } from '../../core/module.ts';
import type { Principal } from '../../core/principal.ts';
import { CredentialCache } from '../credential-cache.ts';
import type { AuthResult } from '../provider.ts';
import { type AnswerRules, judgeAnswer } from './introspection-answer.ts';
import { Outage } from './outage.ts';
import type { AuthorizationServer } from './server.ts';

export interface IntrospectorOptions {
  readonly provider: string;
  readonly server: AuthorizationServer;
  readonly clock: Clock;
  readonly logger: Logger;
  /** `introspection`: RFC 7662; `userinfo`: whoever the token's owner is, without knowing for whom it was made. */
  readonly by: 'introspection' | 'userinfo';
  /** Ask for the user's claims too, of the same subject. */
  readonly withUserinfo: boolean;
  readonly cacheEntries: number;
  readonly cacheSeconds: number;
  /** How long a token that is not good is remembered. */
  readonly refusedSeconds: number;
  rules(route: string): AnswerRules;
  /** What distinguishes the rules of two routes. */
  ruleKey(route: string): string;
  /** Null when a claim does not have the type it must have. */
  principal(claims: JsonObject, now: number): Principal | null;
  /** Whether the token was revoked here. Rejects when nobody can say. */
  isRevoked(tokenId: string): Promise<boolean>;
}

const UNAVAILABLE: AuthResult = Object.freeze({ kind: 'rejected', reason: 'unavailable' });
const REFUSED: AuthResult = Object.freeze({
  ...UNAVAILABLE,
  detail: 'the authorization server refuses client_id or what proves it',
});
const EXPIRED: AuthResult = Object.freeze({ kind: 'rejected', reason: 'expired' });
const INACTIVE: AuthResult = Object.freeze({ kind: 'rejected', reason: 'invalid', detail: 'the token is not active' });
const invalid = (detail: string): AuthResult => Object.freeze({ kind: 'rejected', reason: 'invalid', detail });

/** Claims of the answer about the token itself, which nothing the user may edit can replace. */
const OF_THE_TOKEN = [
  'active',
  'iss',
  'aud',
  'exp',
  'iat',
  'nbf',
  'jti',
  'scope',
  'client_id',
  'token_type',
  'cnf',
  'act',
  'sid',
];

/** Questions at once: a flood of made-up tokens must not become a flood at the authorization server. */
const MAX_ASKING = 100;

interface Refused {
  readonly result: AuthResult;
  /** Epoch milliseconds. */
  readonly until: number;
}

export class Introspector {
  readonly #options: IntrospectorOptions;
  readonly #outage: Outage;
  readonly #good: CredentialCache;
  readonly #bad: LRUCache<string, Refused>;
  readonly #asking = new Map<string | symbol, Promise<AuthResult>>();

  constructor(options: IntrospectorOptions) {
    this.#options = options;
    this.#outage = new Outage(options.clock);
    this.#good = new CredentialCache(options.cacheEntries);
    this.#bad = new LRUCache({ max: options.cacheEntries });
  }

  /** At once when it is known. `now` is epoch milliseconds. */
  check(token: string, route: string, now: number): AuthResult | Promise<AuthResult> {
    const key = this.#good.key(`${this.#options.ruleKey(route)}\n${token}`);
    const known = this.#good.get(key, now);
    if (known !== undefined) return known;
    const refused = this.#bad.get(key);
    if (refused !== undefined && now < refused.until) return refused.result;
    // Where nothing is to be remembered everyone asks: the answer under way may be older than the request.
    const name = this.#options.cacheSeconds === 0 ? Symbol() : key;
    const running = this.#asking.get(name);
    if (running !== undefined) return running;
    if (this.#asking.size >= MAX_ASKING) return UNAVAILABLE;
    const asking = this.#ask(token, route, key, now).finally(() => this.#asking.delete(name));
    this.#asking.set(name, asking);
    return asking;
  }

  async #ask(token: string, route: string, key: string, now: number): Promise<AuthResult> {
    if (!this.#outage.mayAsk()) return UNAVAILABLE;
    const epoch = this.#good.epoch;
    const configuration = await this.#options.server.configuration();
    if (configuration === null) return this.#failed(new Error('the authorization server is not known'));
    let found: Found | AuthResult;
    try {
      found = await this.#claims(configuration, token, route, now);
    } catch (error) {
      return this.#failed(error);
    }
    this.#outage.answered();
    if ('kind' in found) return this.#refuse(key, found, now);
    const principal = this.#options.principal(found.claims, now);
    if (principal === null)
      return this.#refuse(key, invalid('a claim that makes the principal is missing or of another type'), now);
    const { token_id } = principal.auth;
    if (token_id !== null && (await this.#options.isRevoked(token_id)))
      return this.#refuse(key, invalid('revoked'), now);
    const result = Object.freeze({ kind: 'authenticated', principal } as const);
    const until = Math.min(found.exp * 1000, now + this.#options.cacheSeconds * 1000);
    this.#good.set(key, result, until, epoch);
    return result;
  }

  async #claims(configuration: Configuration, token: string, route: string, now: number): Promise<Found | AuthResult> {
    if (this.#options.by === 'userinfo') {
      const claims = await userinfo(configuration, token, null);
      return claims === null ? INACTIVE : { claims, exp: Number.POSITIVE_INFINITY };
    }
    const answer = (await tokenIntrospection(configuration, token, { token_type_hint: 'access_token' })) as JsonObject;
    const verdict = judgeAnswer(answer, this.#options.rules(route), now);
    switch (verdict.kind) {
      case 'good':
        break;
      case 'inactive':
        return INACTIVE;
      case 'expired':
        return EXPIRED;
      case 'refused':
        return invalid(verdict.detail);
      case 'malformed':
        throw new Error(verdict.detail);
    }
    const { claims, exp } = verdict;
    if (!this.#options.withUserinfo || answer.sub === undefined) return { claims, exp };
    const more = await userinfo(configuration, token, String(claims.sub));
    if (more === null) return INACTIVE;
    return { claims: { ...without(more, OF_THE_TOKEN), ...claims }, exp };
  }

  #refuse(key: string, result: AuthResult, now: number): AuthResult {
    this.#bad.set(key, { result, until: now + this.#options.refusedSeconds * 1000 });
    const { logger, provider } = this.#options;
    const detail = 'detail' in result ? result.detail : undefined;
    logger.info({ provider, detail: detail ?? null }, 'oauth2_validation_failed');
    return result;
  }

  #failed(error: unknown): AuthResult {
    this.#outage.failed();
    const { logger, provider } = this.#options;
    logger.warn({ provider, err: error }, 'the authorization server could not be asked');
    return refusesUs(error) ? REFUSED : UNAVAILABLE;
  }

  get isAway(): boolean {
    return this.#outage.isOpen;
  }

  /** Forgets what was found about a token that was revoked. */
  drop(tokenId: string): void {
    this.#good.drop((principal) => principal.auth.token_id === tokenId);
  }

  close(): void {
    this.#good.clear();
    this.#bad.clear();
  }
}

/** RFC 7662 2.3, RFC 6749 5.2: the one who asks is not known there, which says nothing of the token. */
function refusesUs(error: unknown): boolean {
  const isVerdict = error instanceof WWWAuthenticateChallengeError || error instanceof ResponseBodyError;
  return isVerdict && error.status === 401;
}

interface Found {
  readonly claims: JsonObject;
  /** Unix seconds. */
  readonly exp: number;
}

/** Null when the token is not accepted there. Throws when the answer is of another subject than the token. */
async function userinfo(
  configuration: Configuration,
  token: string,
  subject: string | null,
): Promise<JsonObject | null> {
  try {
    return (await fetchUserInfo(configuration, token, subject ?? skipSubjectCheck)) as unknown as JsonObject;
  } catch (error) {
    if (error instanceof WWWAuthenticateChallengeError && error.status === 401) return null;
    throw error;
  }
}

function without(claims: JsonObject, names: readonly string[]): JsonObject {
  return Object.fromEntries(Object.entries(claims).filter(([name]) => !names.includes(name)));
}
