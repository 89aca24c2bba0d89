/**
 * An OpenID provider: its signed access tokens are checked here, opaque ones by asking it, and browsers can log in
 * there. An ID token is for whoever logged somebody in, never a key to anything. Source: acceptance S-62 to S-67, SF-50.
 */
import type { JsonObject } from '../../core/json.ts';
import type { Module } from '../../core/module.ts';
import type { Principal } from '../../core/principal.ts';
import { isAccountCookie } from '../account-tokens.ts';
import { CredentialCache } from '../credential-cache.ts';
import type { IdentityEnv } from '../env.ts';
import { looksLikeJwt, verifyToken } from '../jwt-check.ts';
import type { TokenRules } from '../jwt-options.ts';
import { principalFromClaims } from '../jwt-principal.ts';
import { fetchDocument } from '../key-fetch.ts';
import { createKeySource, type KeySource } from '../key-source.ts';
import { clientAuthentication } from '../oauth/client-options.ts';
import { Introspector } from '../oauth/introspector.ts';
import { Login } from '../oauth/login.ts';
import type { BrowserLogin } from '../oauth/login-endpoints.ts';
import { type OidcOptions, oidcSchema } from '../oauth/oidc-options.ts';
import type { Person, PersonLogin } from '../oauth/person-login.ts';
import { Audiences } from '../oauth/resource.ts';
import { AuthorizationServer } from '../oauth/server.ts';
import { BrowserSessions } from '../oauth/sessions.ts';
import type { AuthResult, Credential, IdentityFacts, IdentityProvider, ProviderHealth } from '../provider.ts';
import { isTokenRevoked, onTokenRevoked } from '../revocations.ts';
import { mayBeOf } from './introspection.ts';

const NOT_APPLICABLE: AuthResult = Object.freeze({ kind: 'not-applicable' });
const invalid = (detail: string): AuthResult => Object.freeze({ kind: 'rejected', reason: 'invalid', detail });
const TOO_LONG = invalid('longer than max_token_bytes');
const NO_OPAQUE = invalid('tokens that are no JWT are not accepted');
const NO_SESSION = invalid('there is no such session, or it has ended');

/** Milliseconds a session is remembered beside the store. */
const SESSION_CACHE_MS = 10_000;

/** `kind: oidc` */
export const oidc: Module<OidcOptions, IdentityProvider, IdentityEnv> = {
  kind: 'oidc',
  schema: oidcSchema,
  async create(options, env) {
    const { publicUrl } = env;
    const audiences = new Audiences(options.audience, publicUrl);
    if (!audiences.areKnown) {
      throw new Error(`identity.${env.name}: set audience, or public_url, so that it is known whom tokens must be for`);
    }
    if (options.login !== undefined && (publicUrl ?? null) === null) {
      throw new Error(`identity.${env.name}: login needs public_url, where browsers come back to`);
    }
    const server = new AuthorizationServer({
      provider: env.name,
      issuer: options.issuer,
      clientId: options.client_id,
      authentication: await clientAuthentication(options, env.baseDir),
      timeoutMs: options.timeout_ms,
      clock: env.clock,
      logger: env.logger,
      known: null,
    });
    return new OidcProvider(options, env, audiences, server);
  },
};

/** What logs browsers in for this provider; null for providers that do not. */
export function browserLogin(provider: IdentityProvider): BrowserLogin | null {
  return provider instanceof OidcProvider ? provider.login : null;
}

/** What tells who somebody is by a login at this provider; null for providers of other kinds. */
export function personLogin(provider: IdentityProvider): PersonLogin | null {
  return provider instanceof OidcProvider ? provider.personLogin() : null;
}

class OidcProvider implements IdentityProvider {
  readonly login: BrowserLogin | null;
  readonly #options: OidcOptions;
  readonly #env: IdentityEnv;
  readonly #server: AuthorizationServer;
  readonly #audiences: Audiences;
  readonly #rules = new Map<string, TokenRules>();
  readonly #keys: KeySource;
  readonly #cache: CredentialCache;
  readonly #introspector: Introspector | null;
  readonly #sessions: BrowserSessions;
  readonly #unsubscribe: readonly (() => void)[];

  constructor(options: OidcOptions, env: IdentityEnv, audiences: Audiences, server: AuthorizationServer) {
    this.#options = options;
    this.#env = env;
    this.#server = server;
    this.#audiences = audiences;
    this.#cache = new CredentialCache(options.cache_entries);
    this.#sessions = new BrowserSessions(env.shared, env.pepper);
    this.#keys = createKeySource({
      load: () => loadKeys(server),
      ...{ clock: env.clock, provider: env.name, logger: env.logger },
      maxAgeMs: options.jwks_max_age_seconds * 1000,
      staleMs: options.jwks_stale_seconds * 1000,
      onChange: () => this.#cache.clear(),
    });
    this.#introspector = this.#makeIntrospector();
    this.login = options.login === undefined ? null : this.#makeLogin(options.login);
    this.#unsubscribe = [
      onTokenRevoked(env.shared, options.issuer, (id) => {
        this.#cache.drop((principal) => principal.auth.token_id === id);
        this.#introspector?.drop(id);
      }),
      this.#sessions.onEnd((id) => this.#cache.drop((principal) => principal.auth.session_id === id)),
    ];
  }

  authenticate(credential: Credential, facts: IdentityFacts): AuthResult | Promise<AuthResult> {
    if (credential.kind === 'session') return this.#session(credential.value.reveal(), facts.now);
    if (credential.kind !== 'bearer') return NOT_APPLICABLE;
    const token = credential.value.reveal();
    if (token.length > this.#options.max_token_bytes) return TOO_LONG;
    if (!looksLikeJwt(token)) return this.#opaque(token, facts);
    const key = this.#cache.key(`${this.#audiences.key(facts.route)}\n${token}`);
    return this.#cache.get(key, facts.now) ?? this.#signed(token, key, facts);
  }

  #opaque(token: string, facts: IdentityFacts): AuthResult | Promise<AuthResult> {
    if (!mayBeOf(token, this.#options.issuer)) return NOT_APPLICABLE;
    return this.#introspector === null ? NO_OPAQUE : this.#introspector.check(token, facts.route, facts.now);
  }

  async #signed(token: string, cacheKey: string, { route, now }: IdentityFacts): Promise<AuthResult> {
    const epoch = this.#cache.epoch;
    const verified = await verifyToken(token, this.#rulesOf(route), this.#keys, now);
    if ('kind' in verified) return this.#told(verified);
    const { claims } = verified;
    const problem = this.#problemOf(claims);
    if (problem !== null) return this.#told(invalid(problem));
    const principal = this.#principal(claims, now);
    if (principal === null)
      return this.#told(invalid('a claim that makes the principal is missing or of another type'));
    const { token_id, expires_at } = principal.auth;
    if (token_id !== null && (await isTokenRevoked(this.#env.shared, this.#options.issuer, token_id))) {
      return this.#told(invalid('revoked'));
    }
    const result = Object.freeze({ kind: 'authenticated', principal } as const);
    const expires = ((expires_at ?? 0) + this.#options.clock_skew_seconds) * 1000;
    this.#cache.set(cacheKey, result, Math.min(expires, now + this.#options.cache_seconds * 1000), epoch);
    return result;
  }

  /** What makes a well-signed token of this issuer no bearer access token of an accepted client. */
  #problemOf({ cnf, client_id, azp, cid, appid }: JsonObject): string | null {
    if (cnf !== undefined) return 'the token is bound to a key of its owner';
    // RFC 9068, OpenID Connect, and what Okta and Entra ID write in their place.
    const client = client_id ?? azp ?? cid ?? appid;
    const { clients } = this.#options;
    if (clients === undefined || (typeof client === 'string' && clients.includes(client))) return null;
    return 'the token is of a client that is not accepted';
  }

  #rulesOf(route: string): TokenRules {
    const key = this.#audiences.key(route);
    let rules = this.#rules.get(key);
    if (rules === undefined) {
      rules = { ...this.#options, audience: this.#audiences.of(route) };
      this.#rules.set(key, rules);
    }
    return rules;
  }

  #principal(claims: JsonObject, now: number): Principal | null {
    return principalFromClaims(claims, this.#options, this.#env.name, now, this.#env.logger);
  }

  #told(result: AuthResult): AuthResult {
    if (result.kind === 'rejected' && result.reason === 'invalid') {
      const fields = { provider: this.#env.name, detail: result.detail ?? null };
      this.#env.logger.info(fields, 'oauth2_validation_failed');
    }
    return result;
  }

  async #session(id: string, now: number): Promise<AuthResult> {
    if (isAccountCookie(id)) return NOT_APPLICABLE;
    const key = this.#cache.key(`session\n${id}`);
    const known = this.#cache.get(key, now);
    if (known !== undefined) return known;
    const epoch = this.#cache.epoch;
    const session = await this.#sessions.find(id, now);
    if (session === null) return NO_SESSION;
    if (session.provider !== this.#env.name) return NOT_APPLICABLE;
    const result = Object.freeze({ kind: 'authenticated', principal: session.principal } as const);
    this.#cache.set(key, result, Math.min(session.until, now + SESSION_CACHE_MS), epoch);
    return result;
  }

  #makeIntrospector(): Introspector | null {
    const options = this.#options;
    if (options.opaque_tokens === 'off' || (options.opaque_tokens === 'introspection' && !options.may_introspect))
      return null;
    const { name, clock, logger, shared } = this.#env;
    return new Introspector({
      ...{ provider: name, server: this.#server, clock, logger },
      by: options.opaque_tokens,
      withUserinfo: options.userinfo,
      cacheEntries: options.cache_entries,
      cacheSeconds: options.opaque_seconds,
      refusedSeconds: 10,
      rules: (route) => ({
        ...{ issuer: options.issuer, audience: this.#audiences.of(route), requireAudience: true },
        ...{ soleAudience: options.sole_audience, clients: options.clients ?? null },
        clockSkewSeconds: options.clock_skew_seconds,
      }),
      ruleKey: (route) => this.#audiences.key(route),
      principal: (claims, now) => this.#principal(claims, now),
      isRevoked: (tokenId) => isTokenRevoked(shared, options.issuer, tokenId),
    });
  }

  #openLogin(purpose: string): Login {
    const { name, shared, pepper, logger } = this.#env;
    const { client_id, scopes, algorithms, userinfo, login } = this.#options;
    return new Login({
      ...{ provider: name, server: this.#server, clientId: client_id, scopes, algorithms, withUserinfo: userinfo },
      ...{ shared, pepper, logger, purpose, assumePkce: login?.pkce === 'assumed' },
    });
  }

  personLogin(): PersonLogin {
    const login = this.#openLogin('person login');
    return {
      provider: this.#env.name,
      issuer: this.#options.issuer,
      begin: (redirectUri, returnTo, now) => login.begin(redirectUri, returnTo, now),
      returnsTo: (sealed) => login.returnsTo(sealed),
      finish: async (query, sealed, now) => {
        const { claims, returnTo } = await login.finish(query, sealed, now);
        const principal = this.#principal(claims, now);
        return { returnTo, person: principal && personOf(principal, claims) };
      },
    };
  }

  #makeLogin({ session_seconds }: NonNullable<OidcOptions['login']>): BrowserLogin {
    const { name, logger } = this.#env;
    const login = this.#openLogin('login');
    return {
      provider: name,
      sessionSeconds: session_seconds,
      begin: (redirectUri, returnTo, now) => login.begin(redirectUri, returnTo, now),
      finish: async (query, sealed, now) => {
        const { claims, returnTo } = await login.finish(query, sealed, now);
        const until = now + session_seconds * 1000;
        // The session ends by itself, not with the ID token, which is a few minutes' word about the login.
        const lasting = { ...claims, exp: Math.floor(until / 1000) };
        const principal = principalFromClaims(lasting, this.#options, name, now, logger, 'session');
        return {
          returnTo,
          session: principal && (await this.#sessions.begin({ provider: name, until }, principal, now)),
        };
      },
      end: (id) => this.#sessions.end(id),
    };
  }

  async health(): Promise<ProviderHealth> {
    if (this.#introspector?.isAway === true) return { state: 'degraded', detail: 'opaque tokens cannot be checked' };
    const server = await this.#server.health();
    return server.state === 'down' ? server : this.#keys.health();
  }

  async close(): Promise<void> {
    for (const stop of this.#unsubscribe) stop();
    this.#introspector?.close();
    this.#cache.clear();
  }
}

/** An address counts when the provider says that it has seen to it, in so many words. */
function personOf(principal: Principal, { email_verified, name }: JsonObject): Person {
  const isName = typeof name === 'string' && name.length <= 200 && !/\p{C}/u.test(name);
  return {
    principal,
    verifiedEmail: email_verified === true ? principal.email : null,
    fullName: isName ? name : null,
  };
}

async function loadKeys(server: AuthorizationServer): Promise<Uint8Array> {
  const address = (await server.configuration())?.serverMetadata().jwks_uri;
  if (address === undefined) throw new Error('the issuer has not said where its keys are');
  return fetchDocument(address);
}
