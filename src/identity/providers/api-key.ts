/**
 * API keys, as `X-API-Key`, `Authorization: Bearer` or `Authorization: ApiKey`. A key is found by its id, proved by its
 * hash, and good only in its own environment. Source: contracts 5, acceptance D-09, HW-07, VF-22.
 */
import type { BlockList } from 'node:net';
import { z } from 'zod';
import type { Module } from '../../core/module.ts';
import { makePrincipal, type Principal } from '../../core/principal.ts';
import type { ApiKeyRecord } from '../../stores/api-keys.ts';
import { CredentialCache, freezePrincipal } from '../credential-cache.ts';
import type { IdentityEnv } from '../env.ts';
import { KEY_ENVIRONMENTS, keyMatches, type ParsedKey, parseKey } from '../key-format.ts';
import { addressList, KEY_PREFIX } from '../key-issuing.ts';
import type { AuthResult, Credential, IdentityFacts, IdentityProvider, ProviderHealth } from '../provider.ts';
import { onKeyChange } from '../revocations.ts';

const schema = z.strictObject({
  kind: z.literal('api-key'),
  prefixes: z
    .array(z.string().regex(/^[a-z][a-z0-9]*(_[a-z0-9]+)*$/))
    .min(1)
    .default([KEY_PREFIX])
    .describe('what keys of this store begin with'),
  cache_entries: z.int().min(1).max(1_000_000).default(10_000),
  cache_seconds: z.int().min(1).max(60).default(60).describe('how long a checked key is remembered at most'),
});

/** Checked options of the `api-key` provider. */
export type ApiKeyOptions = z.output<typeof schema>;

const NOT_APPLICABLE: AuthResult = Object.freeze({ kind: 'not-applicable' });
const invalid = (detail: string): AuthResult => Object.freeze({ kind: 'rejected', reason: 'invalid', detail });
const MALFORMED = invalid('not a key of ours: prefix, form or checksum');
const ELSEWHERE = invalid('a key of another environment');
const UNPROVEN = invalid('no such key');
const REVOKED = invalid('revoked');
const EXPIRED: AuthResult = Object.freeze({ kind: 'rejected', reason: 'expired' });
const FORBIDDEN: AuthResult = Object.freeze({ kind: 'rejected', reason: 'forbidden' });

/** Milliseconds between two looks whether another process changed the database. */
export const CHANGE_CHECK_MS = 1000;
/** Milliseconds after which uses are written down, and how many keys may wait. */
const TOUCH_MS = 10_000;
const TOUCH_KEYS = 1000;
/** Milliseconds after which a use is news, and written down at once: who tries a new key sees it in the list. */
const NEWS_MS = 60_000;

/** `kind: api-key` */
export const apiKey: Module<ApiKeyOptions, IdentityProvider, IdentityEnv> = {
  kind: 'api-key',
  schema,
  create: (options, env) => new ApiKeyProvider(options, env),
};

class ApiKeyProvider implements IdentityProvider {
  readonly #options: ApiKeyOptions;
  readonly #env: IdentityEnv;
  readonly #environment: string;
  readonly #cache: CredentialCache;
  /** By principal: which addresses a remembered key may come from. Only restricted keys are in it. */
  readonly #addresses = new WeakMap<Principal, BlockList>();
  /** By id of a key, what is being looked up; `epoch`: of the cache, when that began. */
  readonly #asking = new Map<string, { readonly epoch: number; readonly answer: Promise<ApiKeyRecord | null> }>();
  readonly #unsubscribe: () => void;
  #uses = new Map<string, number>();
  #timer: NodeJS.Timeout | null = null;
  #isDue = false;
  #touching: Promise<void> | null = null;
  #version: number | null;
  #versionAt = 0;

  constructor(options: ApiKeyOptions, env: IdentityEnv) {
    this.#options = options;
    this.#env = env;
    this.#environment = KEY_ENVIRONMENTS[env.environment];
    this.#cache = new CredentialCache(options.cache_entries);
    this.#version = env.keys.externalVersion();
    this.#unsubscribe = onKeyChange(env.shared, (id) => this.#cache.drop((principal) => principal.auth.key_id === id));
  }

  authenticate(credential: Credential, facts: IdentityFacts): AuthResult | Promise<AuthResult> {
    if (credential.kind !== 'api-key' && credential.kind !== 'bearer') return NOT_APPLICABLE;
    const text = credential.value.reveal();
    if (!this.#hasOurPrefix(text)) return NOT_APPLICABLE;
    this.#noticeOtherProcesses(facts.now);
    const cacheKey = this.#cache.key(text);
    const known = this.#cache.get(cacheKey, facts.now);
    return known === undefined ? this.#check(text, cacheKey, facts) : this.#use(known, facts);
  }

  #hasOurPrefix(text: string): boolean {
    for (const prefix of this.#options.prefixes) {
      if (text.charCodeAt(prefix.length) === 95 && text.startsWith(prefix)) return true;
    }
    return false;
  }

  /** A command line beside the gateway revokes in the database and has no way to send us a message. */
  #noticeOtherProcesses(now: number): void {
    if (Math.abs(now - this.#versionAt) < CHANGE_CHECK_MS) return;
    this.#versionAt = now;
    const version = this.#env.keys.externalVersion();
    if (version === this.#version) return;
    this.#version = version;
    this.#cache.clear();
  }

  async #check(text: string, cacheKey: string, facts: IdentityFacts): Promise<AuthResult> {
    const parsed = parseKey(text);
    // A key of another environment is refused before the store is asked.
    if (parsed === null || !this.#options.prefixes.includes(parsed.prefix)) return MALFORMED;
    if (parsed.environment !== this.#environment) return ELSEWHERE;
    const epoch = this.#cache.epoch;
    const record = await this.#find(parsed.id, epoch);
    if (record === null || !this.#proves(text, parsed, record)) return UNPROVEN;
    if (record.revoked_at !== null) return REVOKED;
    if (record.expires_at !== null && record.expires_at <= facts.now) return EXPIRED;
    const principal = freezePrincipal(principalOfKey(record, this.#env.name));
    const addresses = addressList(record.facts.allowed_ips);
    if (addresses !== null) this.#addresses.set(principal, addresses);
    const result = Object.freeze({ kind: 'authenticated', principal } as const);
    const until = facts.now + this.#options.cache_seconds * 1000;
    this.#cache.set(cacheKey, result, Math.min(until, record.expires_at ?? until), epoch);
    const isNews = record.last_used_at === null || facts.now - record.last_used_at >= NEWS_MS;
    return this.#use(result, facts, isNews);
  }

  /**
   * One question for all who show a key at the same moment: a thousand of them would wait for connections until their time
   * is over. Nobody joins a question that was asked before something changed.
   */
  #find(id: string, epoch: number): Promise<ApiKeyRecord | null> {
    const asking = this.#asking.get(id);
    if (asking?.epoch === epoch) return asking.answer;
    const answer = this.#env.keys.find(id).finally(() => {
      if (this.#asking.get(id)?.answer === answer) this.#asking.delete(id);
    });
    this.#asking.set(id, { epoch, answer });
    return answer;
  }

  /** The stored words are compared as well: the text of the key must not choose what it is. */
  #proves(text: string, parsed: ParsedKey, record: ApiKeyRecord): boolean {
    return (
      keyMatches(text, this.#env.pepper, record.hash) &&
      record.prefix === parsed.prefix &&
      record.environment === parsed.environment
    );
  }

  /** What depends on this request is judged each time, remembered or not. */
  #use(result: Extract<AuthResult, { kind: 'authenticated' }>, facts: IdentityFacts, isNews = false): AuthResult {
    const addresses = this.#addresses.get(result.principal);
    if (addresses !== undefined) {
      const family = facts.source_ip.includes(':') ? 'ipv6' : 'ipv4';
      if (!addresses.check(facts.source_ip, family)) return FORBIDDEN;
    }
    this.#note(result.principal.auth.key_id, facts.now, isNews);
    return result;
  }

  /** Uses are collected and written in batches: no write per request, one timer per batch. */
  #note(id: string | null, now: number, isNews: boolean): void {
    if (id === null) return;
    this.#uses.set(id, now);
    if (isNews || this.#uses.size >= TOUCH_KEYS) this.#writeUses();
    else this.#timer ??= setTimeout(() => this.#writeUses(), TOUCH_MS).unref();
  }

  #writeUses(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#isDue = true;
    this.#touching ??= this.#write();
  }

  /** What becomes due while it writes is written together, by the same run. */
  async #write(): Promise<void> {
    // Not before the request goes on.
    await null;
    while (this.#isDue) {
      this.#isDue = false;
      const uses = this.#uses;
      this.#uses = new Map();
      try {
        await this.#env.keys.touch(uses);
      } catch (error) {
        this.#env.logger.warn({ err: error }, 'the last use of API keys could not be written');
      }
    }
    this.#touching = null;
  }

  async health(): Promise<ProviderHealth> {
    try {
      await this.#env.keys.find('health');
      return { state: 'ok' };
    } catch {
      return { state: 'down', detail: 'the key store does not answer' };
    }
  }

  async close(): Promise<void> {
    this.#unsubscribe();
    this.#cache.clear();
    this.#writeUses();
    await this.#touching;
  }
}

/** Whom a key stands for. */
export function principalOfKey(record: ApiKeyRecord, provider: string): Principal {
  const { mfa_verified, allowed_ips: _addresses, rate_limit_per_hour, metadata, ...facts } = record.facts;
  const limit = rate_limit_per_hour === null ? {} : { rate_limit_per_hour: String(rate_limit_per_hour) };
  return makePrincipal(
    {
      ...facts,
      id: record.owner_id,
      tenant_id: record.tenant_id,
      metadata: { ...metadata, ...limit, key_name: record.name },
      auth: {
        mfa_verified,
        key_id: record.id,
        expires_at: record.expires_at === null ? null : Math.floor(record.expires_at / 1000),
      },
    },
    provider,
    'api-key',
  );
}
