/**
 * API keys that an external service knows. What it says is remembered for a while; a question under way is shared by
 * everyone who asks the same; a key of another environment never leaves this process. Source: acceptance H-01 to H-22,
 * HF-01 to HF-19.
 */
import { resolve } from 'node:path';
import { LRUCache } from 'lru-cache';
import { z } from 'zod';
import { readAuthorityFile } from '../../config/authority-file.ts';
import type { Module } from '../../core/module.ts';
import { makePrincipal, type Principal } from '../../core/principal.ts';
import type { Secret } from '../../core/secret.ts';
import type { Breaker, BreakerOptions } from '../../upstreams/breaker.ts';
import { CredentialCache, freezePrincipal } from '../credential-cache.ts';
import type { IdentityEnv } from '../env.ts';
import { ROLES } from '../jwt-options.ts';
import { isFetchable } from '../key-fetch.ts';
import { KEY_ENVIRONMENTS, parseKey } from '../key-format.ts';
import type { AuthResult, Credential, IdentityFacts, IdentityProvider, ProviderHealth } from '../provider.ts';
import type { RemoteKeyFacts, RemoteVerdict } from '../remote-answer.ts';
import { LONGEST_MS, SharedKeyCache } from '../remote-key-cache.ts';
import { RemoteValidator } from '../remote-validator.ts';
import { onKeyChange } from '../revocations.ts';

const wordMap = z.record(z.string().min(1), z.array(z.string().min(1)).max(100));

const schema = z.strictObject({
  kind: z.literal('remote-key'),
  url: z
    .string()
    .refine(isServiceUrl, 'expected https, or http to this machine; without credentials, query and fragment')
    .describe('base address of the key service; there is no default'),
  service_id: z.string().min(1).max(128).default('ml-platform').describe('what keys have to be for'),
  legacy_body: z.boolean().default(false).describe('sends the key in the body, for services that want it there'),
  send_client_ip: z
    .boolean()
    .default(true)
    .describe('tells the service where the key is used from; answers then hold for that address only'),
  prefixes: z
    .array(z.string().regex(/^[a-z][a-z0-9]*(_[a-z0-9]+)*$/))
    .min(1)
    .default(['hok'])
    .describe('what keys of this service begin with; others are left to other providers'),
  cache_seconds: z
    .int()
    .min(0)
    .max(LONGEST_MS / 1000)
    .default(300)
    .describe('how long a good key is believed without asking; lower for routes where more is at stake'),
  negative_seconds: z.int().min(0).max(10).default(5).describe('how long a refused key is not asked for again'),
  cache_entries: z.int().min(1).max(1_000_000).default(10_000),
  timeout_ms: z.int().min(100).max(5000).default(5000).describe('until the answer, all tries included'),
  attempt_ms: z.int().min(50).max(5000).default(1500).describe('of one try'),
  retries: z.int().min(0).max(5).default(2).describe('after a time-out, a 5xx or a broken connection only'),
  connections: z.int().min(1).max(1000).default(20),
  max_waiting: z.int().min(1).max(100_000).default(1000).describe('questions under way; more are refused at once'),
  breaker: z
    .strictObject({
      volume: z.int().min(1).default(5).describe('faults needed before it can open'),
      error_percentage: z.int().min(1).max(100).default(50),
      window_ms: z.int().min(100).max(600_000).default(10_000),
      reset_ms: z.int().min(100).max(600_000).default(5000).describe('how long it stays open before one try'),
    })
    .prefault({}),
  ca: z.string().optional().describe('PEM bundle of the service’s certificate authority'),
  type: z.enum(['user', 'service', 'agent']).default('user').describe('of principals'),
  tenant: z.string().min(1).max(128).default('default').describe('of principals'),
  roles: wordMap
    .optional()
    .describe('their role to ours, others are dropped; without it the built-in roles are taken, except admin'),
  scopes: wordMap.optional().describe('their scope to ours, others are dropped; without it all are taken, except *'),
  default_roles: z.array(z.string().min(1)).default([]).describe('roles of every principal'),
  admin_roles: z.array(z.string().min(1)).default([]).describe('roles of whom the service calls an admin'),
});

/** Checked options of the `remote-key` provider. */
export type RemoteKeyOptions = z.output<typeof schema>;

function isServiceUrl(text: string): boolean {
  return isFetchable(text) && !text.includes('?');
}

type Rejected = Extract<AuthResult, { kind: 'rejected' }>;

const NOT_APPLICABLE: AuthResult = Object.freeze({ kind: 'not-applicable' });
const rejected = (result: Omit<Rejected, 'kind'>): Rejected => Object.freeze({ kind: 'rejected', ...result });
const MALFORMED = rejected({ reason: 'invalid', detail: 'not a key of the service: it names no environment' });
const ELSEWHERE = rejected({ reason: 'invalid', detail: 'a key of another environment; it was not sent' });
const OUR_OWN = rejected({ reason: 'invalid', detail: 'a key of this gateway; it was not sent' });
const EXPIRED = rejected({ reason: 'expired' });
const BUSY = rejected({ reason: 'unavailable', detail: 'too many questions under way', retryAfter: 1 });

/** Longer texts are not looked at. */
const MAX_LENGTH = 512;
const ENVIRONMENT_WORDS: ReadonlySet<string> = new Set(Object.values(KEY_ENVIRONMENTS));

/** `kind: remote-key`. The breaker is the one upstreams have; it is handed in because identity imports nobody. */
export function remoteKey(
  makeBreaker: (options: BreakerOptions) => Breaker,
): Module<RemoteKeyOptions, IdentityProvider, IdentityEnv> {
  return {
    kind: 'remote-key',
    schema,
    create: (options, env) => new RemoteKeyProvider(options, env, openValidator(options, env, makeBreaker)),
  };
}

function openValidator(
  options: RemoteKeyOptions,
  env: IdentityEnv,
  makeBreaker: (options: BreakerOptions) => Breaker,
): RemoteValidator {
  // Later than the try itself ends: the breaker's own limit is for what never ends.
  const breaker = makeBreaker({ ...options.breaker, timeout_ms: options.attempt_ms + 1000 });
  return new RemoteValidator({
    url: options.url,
    serviceId: options.service_id,
    legacyBody: options.legacy_body,
    timeoutMs: options.timeout_ms,
    attemptMs: options.attempt_ms,
    retries: options.retries,
    connections: options.connections,
    ca: options.ca === undefined ? null : readAuthorityFile(resolve(env.baseDir, options.ca)),
    breaker,
    clock: env.clock,
  });
}

interface Refused {
  readonly result: Rejected;
  /** Epoch milliseconds. */
  readonly until: number;
}

class RemoteKeyProvider implements IdentityProvider {
  readonly #options: RemoteKeyOptions;
  readonly #env: IdentityEnv;
  readonly #validator: RemoteValidator;
  readonly #good: CredentialCache;
  readonly #bad: LRUCache<string, Refused>;
  readonly #shared: SharedKeyCache;
  readonly #unsubscribe: () => void;
  #waiting = new Map<string | symbol, Promise<AuthResult>>();

  constructor(options: RemoteKeyOptions, env: IdentityEnv, validator: RemoteValidator) {
    this.#options = options;
    this.#env = env;
    this.#validator = validator;
    this.#good = new CredentialCache(options.cache_entries);
    this.#bad = new LRUCache({ max: options.cache_entries });
    const scope = JSON.stringify([options.url, options.service_id, options.legacy_body]);
    this.#shared = new SharedKeyCache(env.shared, env.pepper, scope);
    this.#unsubscribe = onKeyChange(env.shared, (id) => {
      this.#good.drop((principal) => principal.auth.key_id === id);
      // Who asks from now on gets an answer that was given from now on.
      this.#waiting = new Map();
    });
  }

  authenticate(credential: Credential, facts: IdentityFacts): AuthResult | Promise<AuthResult> {
    if (credential.kind !== 'api-key' && credential.kind !== 'bearer') return NOT_APPLICABLE;
    const text = credential.value.reveal();
    const after = this.#afterPrefix(text);
    if (after < 0) return NOT_APPLICABLE;
    const misplaced = this.#misplaced(text, after);
    if (misplaced !== null) return misplaced;
    const clientIp = this.#options.send_client_ip ? facts.source_ip : null;
    const digest = this.#good.key(`${clientIp ?? ''}\n${text}`);
    return (
      this.#good.get(digest, facts.now) ??
      this.#refusedBefore(digest, facts.now) ??
      this.#join(digest, credential.value, clientIp, facts.now)
    );
  }

  /** Index behind `<prefix>_`, or -1: not a key of this service. */
  #afterPrefix(text: string): number {
    for (const prefix of this.#options.prefixes) {
      if (text.charCodeAt(prefix.length) === 95 && text.startsWith(prefix)) return prefix.length + 1;
    }
    return -1;
  }

  /** Why a key must not be sent at all: a mistake in one environment is not told to another's service. */
  #misplaced(text: string, after: number): Rejected | null {
    const end = text.indexOf('_', after);
    const word = end < 0 ? '' : text.slice(after, end);
    if (!ENVIRONMENT_WORDS.has(word) || text.length > MAX_LENGTH || end === text.length - 1) return MALFORMED;
    return word === KEY_ENVIRONMENTS[this.#env.environment] ? null : ELSEWHERE;
  }

  #refusedBefore(digest: string, now: number): Rejected | undefined {
    const refused = this.#bad.get(digest);
    return refused !== undefined && now < refused.until ? refused.result : undefined;
  }

  /**
   * One question for everyone who asks the same at the same time. A client that leaves does not end it for the others. Where
   * nothing is to be remembered everyone asks: the answer under way may be older than the request.
   */
  #join(digest: string, key: Secret, clientIp: string | null, now: number): AuthResult | Promise<AuthResult> {
    const waiting = this.#waiting;
    const name = this.#options.cache_seconds === 0 ? Symbol() : digest;
    const known = waiting.get(name);
    if (known !== undefined) return known;
    if (waiting.size >= this.#options.max_waiting) return BUSY;
    const asked = this.#find(digest, key, clientIp, now).finally(() => waiting.delete(name));
    waiting.set(name, asked);
    return asked;
  }

  async #find(digest: string, key: Secret, clientIp: string | null, now: number): Promise<AuthResult> {
    const { epoch } = this.#good;
    const name = this.#shared.name(key.reveal(), clientIp);
    const longest = this.#options.cache_seconds * 1000;
    // A store that is away costs a question, never an answer.
    const kept = longest === 0 ? null : await this.#shared.read(name, now).catch(() => null);
    if (kept !== null && kept.askedAt + longest > now) {
      return this.#accept(digest, kept.facts, Math.min(kept.until, kept.askedAt + longest), epoch);
    }
    if (await this.#isOurOwn(key)) return OUR_OWN;
    const verdict = await this.#validator.ask(key, clientIp);
    if (verdict.kind !== 'good') return this.#refuse(digest, verdict, now);
    const { facts } = verdict;
    const until = Math.min(now + longest, facts.expires_at ?? Number.POSITIVE_INFINITY);
    if (facts.expires_at !== null && facts.expires_at <= now) return EXPIRED;
    // Nobody waits for it, and it may fail: the next gateway asks for itself then.
    void this.#shared.write(name, { facts, askedAt: now, until }, now).catch(() => {});
    return this.#accept(digest, facts, until, epoch);
  }

  /** Whatever its prefix: the service may be a gateway too, so that only the store can tell whose key it is. */
  async #isOurOwn(key: Secret): Promise<boolean> {
    const parsed = parseKey(key.reveal());
    return parsed !== null && (await this.#env.keys.find(parsed.id)) !== null;
  }

  #accept(digest: string, facts: RemoteKeyFacts, until: number, epoch: number): AuthResult {
    const dropped = facts.roles.filter((word) => rolesFor(word, this.#options.roles).length === 0);
    if (dropped.length > 0) {
      const fields = { provider: this.#env.name, roles: dropped.slice(0, 10).map((word) => word.slice(0, 100)) };
      this.#env.logger.info(fields, 'a key names roles that are not mapped');
    }
    const principal = freezePrincipal(principalOf(facts, this.#options, this.#env.name));
    const result = Object.freeze({ kind: 'authenticated', principal } as const);
    this.#good.set(digest, result, until, epoch);
    return result;
  }

  #refuse(digest: string, verdict: Exclude<RemoteVerdict, { kind: 'good' }>, now: number): AuthResult {
    if (verdict.kind === 'unavailable') {
      this.#env.logger.warn({ provider: this.#env.name, reason: verdict.detail }, 'key_service_unavailable');
      return rejected({ reason: 'unavailable', detail: verdict.detail, retryAfter: 1 });
    }
    const { kind: _kind, ...why } = verdict;
    const result = rejected(why);
    const seconds = Math.min(this.#options.negative_seconds, verdict.retryAfter ?? Number.POSITIVE_INFINITY);
    if (seconds > 0) this.#bad.set(digest, { result, until: now + seconds * 1000 });
    return result;
  }

  async health(): Promise<ProviderHealth> {
    return this.#validator.isDown ? { state: 'down', detail: 'the key service is failing' } : { state: 'ok' };
  }

  async close(): Promise<void> {
    this.#unsubscribe();
    this.#good.clear();
    this.#bad.clear();
    await this.#validator.close();
  }
}

/** State of acceptance HW-03 as a principal. */
function principalOf(facts: RemoteKeyFacts, options: RemoteKeyOptions, provider: string): Principal {
  const roles = [
    ...facts.roles.flatMap((word) => rolesFor(word, options.roles)),
    ...options.default_roles,
    ...(facts.is_admin ? options.admin_roles : []),
  ];
  const limit = facts.rate_limit_per_hour;
  return makePrincipal(
    {
      id: facts.user_id,
      tenant_id: options.tenant,
      type: options.type,
      email: facts.email,
      roles: [...new Set(roles)],
      scopes: [...new Set(facts.scopes.flatMap((word) => scopesFor(word, options.scopes)))],
      metadata: {
        is_admin: String(facts.is_admin),
        ...(facts.service_id === null ? {} : { service_id: facts.service_id }),
        ...(limit === null ? {} : { rate_limit_per_hour: String(limit) }),
      },
      auth: {
        key_id: facts.key_id,
        expires_at: facts.expires_at === null ? null : Math.floor(facts.expires_at / 1000),
      },
    },
    provider,
    'api-key',
  );
}

type WordMap = RemoteKeyOptions['roles'];

const mapped = (word: string, map: NonNullable<WordMap>): readonly string[] =>
  Object.hasOwn(map, word) ? (map[word] ?? []) : [];

/** What an operator has not mapped must not make an administrator: only they say who that is. Acceptance DF-04, SF-55. */
function rolesFor(word: string, map: WordMap): readonly string[] {
  if (map !== undefined) return mapped(word, map);
  return word !== 'admin' && ROLES.includes(word) ? [word] : [];
}

function scopesFor(word: string, map: WordMap): readonly string[] {
  if (map !== undefined) return mapped(word, map);
  return word === '*' ? [] : [word];
}
