/**
 * Bearer tokens that an issuer signed. The signature is jose's business; each other thing that makes a token acceptable
 * is decided in a file of its own beside this one. Source: RFC 8725, RFC 9068, security 2.3, acceptance D-08.
 */
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Module } from '../../core/module.ts';
import { Bindings, bindingOf } from '../bound-token.ts';
import { CredentialCache } from '../credential-cache.ts';
import type { IdentityEnv } from '../env.ts';
import { looksLikeJwt, verifyToken } from '../jwt-check.ts';
import { type JwtOptions, jwtSchema } from '../jwt-options.ts';
import { principalFromClaims } from '../jwt-principal.ts';
import { fetchDocument } from '../key-fetch.ts';
import { createKeySource, fixedKeySource, type KeySource } from '../key-source.ts';
import type { AuthResult, Credential, IdentityFacts, IdentityProvider, ProviderHealth } from '../provider.ts';
import { isTokenRevoked, onTokenRevoked } from '../revocations.ts';
import { readPem, symmetricKey } from '../verification-keys.ts';

const NOT_APPLICABLE: AuthResult = Object.freeze({ kind: 'not-applicable' });
const invalid = (detail: string): AuthResult => ({ kind: 'rejected', reason: 'invalid', detail });

/** `kind: jwt` */
export const jwt: Module<JwtOptions, IdentityProvider, IdentityEnv> = {
  kind: 'jwt',
  schema: jwtSchema,
  create: (options, env) => new JwtProvider(options, env),
};

class JwtProvider implements IdentityProvider {
  readonly #options: JwtOptions;
  readonly #env: IdentityEnv;
  readonly #keys: KeySource;
  readonly #cache: CredentialCache;
  readonly #bindings = new Bindings();
  readonly #unsubscribe: () => void;

  constructor(options: JwtOptions, env: IdentityEnv) {
    this.#options = options;
    this.#env = env;
    this.#cache = new CredentialCache(options.cache_entries);
    this.#keys = openKeys(options, env, () => this.#cache.clear());
    this.#unsubscribe = onTokenRevoked(env.shared, options.issuer, (tokenId) =>
      this.#cache.drop((principal) => principal.auth.token_id === tokenId),
    );
  }

  authenticate(credential: Credential, facts: IdentityFacts): AuthResult | Promise<AuthResult> {
    if (credential.kind !== 'bearer') return NOT_APPLICABLE;
    const token = credential.value.reveal();
    if (!looksLikeJwt(token)) return NOT_APPLICABLE;
    if (token.length > this.#options.max_token_bytes) return invalid('longer than max_token_bytes');
    const key = this.#cache.key(token);
    const known = this.#cache.get(key, facts.now);
    return known === undefined ? this.#check(token, key, facts) : this.#bindings.hold(known, facts);
  }

  async #check(token: string, cacheKey: string, facts: IdentityFacts): Promise<AuthResult> {
    const { now } = facts;
    const epoch = this.#cache.epoch;
    const verified = await verifyToken(token, this.#options, this.#keys, now);
    if ('kind' in verified) return verified;
    const principal = principalFromClaims(verified.claims, this.#options, this.#env.name, now, this.#env.logger);
    if (principal === null) return invalid('a claim that makes the principal is missing or of another type');
    const binding = bindingOf(verified.claims);
    if (binding === 'unknown') return invalid('bound to a proof that is not understood');
    const { token_id, expires_at } = principal.auth;
    if (token_id !== null && (await isTokenRevoked(this.#env.shared, this.#options.issuer, token_id))) {
      return invalid('revoked');
    }
    this.#bindings.note(principal, binding);
    const result = Object.freeze({ kind: 'authenticated', principal } as const);
    const expires = ((expires_at ?? 0) + this.#options.clock_skew_seconds) * 1000;
    this.#cache.set(cacheKey, result, Math.min(expires, now + this.#options.cache_seconds * 1000), epoch);
    return this.#bindings.hold(result, facts);
  }

  health(): Promise<ProviderHealth> {
    return this.#keys.health();
  }

  async close(): Promise<void> {
    this.#unsubscribe();
    this.#cache.clear();
  }
}

/** Throws with the file's name when a configured key cannot be read: a mistake to be told at start. */
function openKeys(options: JwtOptions, env: IdentityEnv, onChange: () => void): KeySource {
  if (options.secret !== undefined) return fixedKeySource(symmetricKey(Buffer.from(options.secret.reveal())));
  if (options.public_key !== undefined) {
    const file = resolve(env.baseDir, options.public_key);
    try {
      return fixedKeySource(readPem(readFileSync(file, 'utf8')));
    } catch (error) {
      throw new Error(`${file}: ${error instanceof Error ? error.message : 'cannot be read'}`);
    }
  }
  const jwks = options.jwks ?? '';
  const isUrl = /^https?:\/\//i.test(jwks);
  const file = resolve(env.baseDir, jwks);
  return createKeySource({
    load: isUrl ? () => fetchDocument(jwks) : () => readFile(file),
    clock: env.clock,
    provider: env.name,
    logger: env.logger,
    maxAgeMs: options.jwks_max_age_seconds * 1000,
    staleMs: options.jwks_stale_seconds * 1000,
    onChange,
  });
}
