/**
 * Names and passwords (`Authorization: Basic`) that a directory proves. Source: RFC 4513, RFC 7617, acceptance D-06,
 * S-68 to S-71, SF-51 to SF-56.
 */
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { readAuthorityFile } from '../../config/authority-file.ts';
import type { Module } from '../../core/module.ts';
import { reasonOf } from '../../core/reason.ts';
import { CredentialCache } from '../credential-cache.ts';
import type { IdentityEnv } from '../env.ts';
import { Attempts } from '../ldap-attempts.ts';
import { checkFilter } from '../ldap-connection.ts';
import { LdapDirectory } from '../ldap-directory.ts';
import { type LdapOptions, ldapSchema } from '../ldap-options.ts';
import { escapeFilterValue, faultOf, fill, type NameAndPassword, readBasic } from '../ldap-text.ts';
import type { AuthResult, Credential, IdentityFacts, IdentityProvider, ProviderHealth } from '../provider.ts';

const NOT_APPLICABLE: AuthResult = Object.freeze({ kind: 'not-applicable' });
/** RFC 7617 2.1: clients are told to send UTF-8. */
const CHALLENGE = 'Basic realm="portcullis", charset="UTF-8"';
const invalid = (detail: string): AuthResult => ({ kind: 'rejected', reason: 'invalid', detail, challenge: CHALLENGE });
const CROWDED: AuthResult = Object.freeze({ kind: 'rejected', reason: 'rate-limited', retryAfter: 1 });

/** What a request says about a login besides name and password. */
export type LoginFacts = Pick<IdentityFacts, 'now' | 'request_id' | 'source_ip'>;

/** A provider that also takes a name and a password as such, e.g. from a form. */
export interface PasswordProvider extends IdentityProvider {
  /** As `authenticate`. Throws when the directory cannot tell. */
  verify(login: NameAndPassword, facts: LoginFacts, signal: AbortSignal): Promise<AuthResult>;
}

/** `kind: ldap` */
export const ldap: Module<LdapOptions, PasswordProvider, IdentityEnv> = {
  kind: 'ldap',
  schema: ldapSchema,
  create: (options, env) => new LdapProvider(options, env),
};

class LdapProvider implements PasswordProvider {
  readonly asksFor = { challenge: CHALLENGE, words: 'Username and password required' };
  readonly #options: LdapOptions;
  readonly #env: IdentityEnv;
  readonly #directory: LdapDirectory;
  readonly #attempts: Attempts;
  readonly #cache: CredentialCache;

  constructor(options: LdapOptions, env: IdentityEnv) {
    this.#options = options;
    this.#env = env;
    for (const filter of [options.user_search_filter, options.group_search_filter]) {
      checkFilter(fill(filter, { username: 'x', user_dn: 'cn=x' }, escapeFilterValue));
    }
    this.#directory = new LdapDirectory(options, readCa(options, env), env.name, env.clock);
    this.#cache = new CredentialCache(options.cache_entries);
    const { failures, seconds } = options.lockout;
    const { shared, pepper } = env;
    this.#attempts = new Attempts({ provider: env.name, shared, pepper, failures, windowMs: seconds * 1000 });
  }

  authenticate(credential: Credential, facts: IdentityFacts, signal: AbortSignal): AuthResult | Promise<AuthResult> {
    if (credential.kind !== 'basic') return NOT_APPLICABLE;
    const login = readBasic(credential.value.reveal());
    if (login === null) return invalid('not base64 of a name, a colon and a password in UTF-8');
    return this.#recall(login, facts) ?? this.verify(login, facts, signal);
  }

  async verify(login: NameAndPassword, facts: LoginFacts, signal: AbortSignal): Promise<AuthResult> {
    const began = performance.now();
    const result = await this.#verify(login, facts, signal);
    if (result.kind !== 'rejected') return result;
    this.#env.logger.info({ request_id: facts.request_id, reason: result.detail }, 'ldap_authentication_failed');
    // Which of the steps failed must not show in the time either.
    const rest = this.#options.refusal_ms - (performance.now() - began);
    if (rest > 0) await delay(rest, undefined, { ref: false });
    return result;
  }

  async #verify(login: NameAndPassword, facts: LoginFacts, signal: AbortSignal): Promise<AuthResult> {
    const fault = faultOf(login);
    if (fault !== null) return invalid(fault);
    const key = await this.#attempts.keyFrom(login.name, facts.source_ip);
    const turn = await this.#attempts.inTurn(key, () => this.#attempt(key, login, facts, signal));
    return turn ?? CROWDED;
  }

  async #attempt(key: string, login: NameAndPassword, facts: LoginFacts, signal: AbortSignal): Promise<AuthResult> {
    // Whoever waited behind the same login need not ask again.
    const known = this.#recall(login, facts);
    if (known !== undefined) return known;
    const lockedMs = await this.#attempts.lockedFor(key, facts.now);
    if (lockedMs > 0) {
      return { kind: 'rejected', reason: 'locked', detail: 'locked', retryAfter: Math.ceil(lockedMs / 1000) };
    }
    const epoch = this.#cache.epoch;
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(this.#options.timeout_ms)]);
    const outcome = await this.#directory.login(login, facts.now, deadline);
    if ('refused' in outcome) {
      await this.#attempts.failed(key, facts.now);
      return invalid(outcome.refused);
    }
    const { principal } = outcome;
    await this.#attempts.succeeded(login.name, facts.source_ip);
    this.#env.logger.info({ request_id: facts.request_id, user: principal.id }, 'ldap_authentication_success');
    const result = Object.freeze({ kind: 'authenticated', principal } as const);
    const until = facts.now + this.#options.cache_seconds * 1000;
    if (until > facts.now) this.#cache.set(this.#cacheKey(login), result, until, epoch);
    return result;
  }

  #recall(login: NameAndPassword, { now }: LoginFacts): AuthResult | undefined {
    return this.#cache.get(this.#cacheKey(login), now);
  }

  /** With its length, so that name and password cannot run into each other. */
  #cacheKey({ name, password }: NameAndPassword): string {
    return this.#cache.key(`${name.length}:${name}${password}`);
  }

  async health(): Promise<ProviderHealth> {
    try {
      await this.#directory.probe(AbortSignal.timeout(this.#options.timeout_ms));
      return { state: 'ok' };
    } catch (error) {
      return { state: 'down', detail: reasonOf(error) };
    }
  }

  async close(): Promise<void> {
    this.#cache.clear();
    this.#directory.close();
  }
}

/** Throws with the file's name when it cannot be used: a mistake to be told at start. */
function readCa(options: LdapOptions, env: IdentityEnv): string | null {
  return options.ca === undefined ? null : readAuthorityFile(resolve(env.baseDir, options.ca));
}
