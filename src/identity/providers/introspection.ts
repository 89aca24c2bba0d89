/**
 * Opaque bearer tokens that only their authorization server can read. Source: RFC 7662, acceptance D-07, S-65, S-66,
 * security 2.4.
 */
import { z } from 'zod';
import type { Module } from '../../core/module.ts';
import type { IdentityEnv } from '../env.ts';
import { looksLikeJwt } from '../jwt-check.ts';
import { takeApart } from '../jwt-claims.ts';
import { audience, MAPPING, roleMapOf, TOKEN_RULES } from '../jwt-options.ts';
import { principalFromClaims } from '../jwt-principal.ts';
import { CLIENT, clientAuthentication, clientProblems, endpointUrl } from '../oauth/client-options.ts';
import { Introspector } from '../oauth/introspector.ts';
import { Audiences } from '../oauth/resource.ts';
import { AuthorizationServer } from '../oauth/server.ts';
import { isOwnSecret } from '../own-secrets.ts';
import type { AuthResult, Credential, IdentityFacts, IdentityProvider, ProviderHealth } from '../provider.ts';
import { isTokenRevoked, onTokenRevoked } from '../revocations.ts';

const shape = z.strictObject({
  kind: z.literal('introspection'),
  ...CLIENT,
  introspection_endpoint: endpointUrl.optional().describe('where to ask; found by discovery when absent'),
  userinfo: z.boolean().default(false).describe('ask for the user’s claims too; their sub must be the token’s'),
  userinfo_endpoint: endpointUrl.optional().describe('needed with introspection_endpoint when userinfo is asked'),
  audience: audience
    .optional()
    .describe(
      'accepted aud values; without it a token must be for the route (its URL under public_url) or the gateway',
    ),
  require_audience: z
    .boolean()
    .default(true)
    .describe('false accepts answers without aud, for servers that never tell; then clients must be listed'),
  sole_audience: TOKEN_RULES.sole_audience,
  clients: z.array(z.string().min(1)).min(1).optional().describe('client_id of the clients whose tokens are accepted'),
  clock_skew_seconds: TOKEN_RULES.clock_skew_seconds,
  max_token_bytes: TOKEN_RULES.max_token_bytes,
  cache_entries: TOKEN_RULES.cache_entries,
  cache_seconds: z
    .int()
    .min(0)
    .max(300)
    .default(60)
    .describe('how long an answer is believed at most: a token revoked there works here for so long'),
  refused_seconds: z.int().min(0).max(60).default(10).describe('how long a token that is not good is remembered'),
  ...MAPPING,
});

const schema = shape
  .superRefine((options, context) => {
    const report = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message });
    clientProblems(options, report);
    if (!options.require_audience && options.clients === undefined) {
      report('clients', 'without a check of the audience the clients must be named, or any token would do');
    }
    const needsUserinfo = options.userinfo && options.introspection_endpoint !== undefined;
    if (needsUserinfo && options.userinfo_endpoint === undefined) {
      report('userinfo_endpoint', 'needed: with introspection_endpoint there is no discovery');
    }
  })
  .transform((options) => ({ ...options, role_map: roleMapOf(options.role_map) }));

/** Checked options of the `introspection` provider. */
export type IntrospectionOptions = z.output<typeof schema>;

const NOT_APPLICABLE: AuthResult = Object.freeze({ kind: 'not-applicable' });
const TOO_LONG: AuthResult = Object.freeze({
  kind: 'rejected',
  reason: 'invalid',
  detail: 'longer than max_token_bytes',
});

/** `kind: introspection` */
export const introspection: Module<IntrospectionOptions, IdentityProvider, IdentityEnv> = {
  kind: 'introspection',
  schema,
  async create(options, env) {
    const audiences = new Audiences(options.audience, env.publicUrl);
    if (!audiences.areKnown && options.require_audience) {
      throw new Error(`identity.${env.name}: set audience, or public_url, so that it is known whom tokens must be for`);
    }
    const authentication = await clientAuthentication(options, env.baseDir);
    const { introspection_endpoint, userinfo_endpoint } = options;
    const server = new AuthorizationServer({
      provider: env.name,
      issuer: options.issuer,
      clientId: options.client_id,
      authentication,
      timeoutMs: options.timeout_ms,
      clock: env.clock,
      logger: env.logger,
      known:
        introspection_endpoint === undefined
          ? null
          : { introspection_endpoint, ...(userinfo_endpoint === undefined ? {} : { userinfo_endpoint }) },
    });
    return new IntrospectionProvider(options, env, audiences, server);
  },
};

class IntrospectionProvider implements IdentityProvider {
  readonly #options: IntrospectionOptions;
  readonly #server: AuthorizationServer;
  readonly #introspector: Introspector;
  readonly #unsubscribe: () => void;

  constructor(options: IntrospectionOptions, env: IdentityEnv, audiences: Audiences, server: AuthorizationServer) {
    this.#options = options;
    this.#server = server;
    this.#introspector = new Introspector({
      provider: env.name,
      server,
      clock: env.clock,
      logger: env.logger,
      by: 'introspection',
      withUserinfo: options.userinfo,
      cacheEntries: options.cache_entries,
      cacheSeconds: options.cache_seconds,
      refusedSeconds: options.refused_seconds,
      rules: (route) => ({
        issuer: options.issuer,
        audience: audiences.of(route),
        requireAudience: options.require_audience,
        soleAudience: options.sole_audience,
        clients: options.clients ?? null,
        clockSkewSeconds: options.clock_skew_seconds,
      }),
      ruleKey: (route) => audiences.key(route),
      principal: (claims, now) => principalFromClaims(claims, options, env.name, now, env.logger),
      isRevoked: (tokenId) => isTokenRevoked(env.shared, options.issuer, tokenId),
    });
    this.#unsubscribe = onTokenRevoked(env.shared, options.issuer, (id) => this.#introspector.drop(id));
  }

  authenticate(credential: Credential, facts: IdentityFacts): AuthResult | Promise<AuthResult> {
    if (credential.kind !== 'bearer') return NOT_APPLICABLE;
    const token = credential.value.reveal();
    if (token.length > this.#options.max_token_bytes) return TOO_LONG;
    if (!mayBeOf(token, this.#options.issuer)) return NOT_APPLICABLE;
    return this.#introspector.check(token, facts.route, facts.now);
  }

  async health(): Promise<ProviderHealth> {
    if (this.#introspector.isAway) return { state: 'down', detail: 'the authorization server does not answer' };
    return this.#server.health();
  }

  async close(): Promise<void> {
    this.#unsubscribe();
    this.#introspector.close();
  }
}

/** A credential that is somebody else's for sure is not sent to this server: our own secrets, tokens of other issuers. */
export function mayBeOf(token: string, issuer: string): boolean {
  if (isOwnSecret(token)) return false;
  if (!looksLikeJwt(token)) return true;
  const issued = takeApart(token)?.claims.iss;
  return issued === undefined || issued === issuer;
}
