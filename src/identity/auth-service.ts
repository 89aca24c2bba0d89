/**
 * Who presents a credential, found out by another service that asks a gateway: an access token is checked here first,
 * with the gateway's public keys (or the secret of HS256), and then the gateway says who that is now, so that what was
 * revoked, disabled or given another role counts. A key is asked about. While nobody can say, nobody gets in.
 * Source: acceptance V-30, VF-03, VF-04, VF-06, VF-08, VF-13.
 */
import { hash, randomBytes } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { z } from 'zod';
import type { Clock } from '../core/clock.ts';
import { GatewayError } from '../core/errors.ts';
import type { Logger } from '../core/module.ts';
import { makePrincipal, type Principal } from '../core/principal.ts';
import type { Secret } from '../core/secret.ts';
import { readCredentials } from './credentials.ts';
import { verifyToken } from './jwt-check.ts';
import type { TokenRules } from './jwt-options.ts';
import { fetchDocument } from './key-fetch.ts';
import { parseKey } from './key-format.ts';
import { createKeySource, fixedKeySource, type KeySource } from './key-source.ts';
import type { Credential } from './provider.ts';
import { symmetricKey } from './verification-keys.ts';

export interface AuthServiceOptions {
  /** Base address of the gateway's `/auth`, without a slash at the end; https, or http to loopback. */
  readonly url: string;
  /** Of HS256; null: the gateway's published keys. */
  readonly secret: Secret | null;
  readonly issuer: string;
  readonly audience: string;
  /** Milliseconds that an answer is remembered at most. */
  readonly cacheMs: number;
  /** Milliseconds for one question. */
  readonly timeoutMs: number;
  /** The service's own key, by which it may say from where somebody shows theirs; null: it cannot. */
  readonly serviceKey: Secret | null;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly fetch: typeof globalThis.fetch;
}

/** What was found: a principal, or how the request ends. */
export type Found = Principal | GatewayError;

const CACHE_ENTRIES = 10_000;
/** Milliseconds that a refusal is remembered: a flood of one bad key is one question. */
const REFUSED_MS = 5000;
const MAX_ANSWER = 65_536;
const CHALLENGE = 'Bearer realm="portcullis", error="invalid_token"';
/** Random per process: a digest in a heap dump cannot be matched with a guessed token. */
const PROCESS_PEPPER = randomBytes(32).toString('base64');

const text = z.string().min(1).max(512);
const texts = z.array(z.string().max(512)).max(1000);
/** `GET /auth/me`, as far as it counts here. */
const meSchema = z.object({
  id: text,
  tenant_id: text,
  email: z.string().nullable(),
  username: z.string().nullable(),
  roles: texts,
  permissions: texts,
  actor: z.null(),
  auth: z.object({ token_id: text, session_id: text.nullable(), expires_at: z.number().nullable() }),
});
/** `POST /auth/verify-api-key` */
const keySchema = z.object({
  valid: z.literal(true),
  key_id: text,
  user_id: text,
  tenant_id: text,
  username: z.string().nullable(),
  role: text.nullable(),
  permissions: texts,
  expires_at: z.iso.datetime().nullable(),
  /** Gateways of a release before do not say. */
  address_bound: z.boolean().default(false),
});

interface Entry {
  readonly found: Found;
  /** Epoch milliseconds. */
  readonly until: number;
}

/** The answer to one question: `refused` with the status that said so. */
type Answer =
  | { readonly kind: 'good'; readonly body: unknown }
  | { readonly kind: 'refused'; readonly status: 401 | 403 }
  | { readonly kind: 'unavailable' };

export class AuthService {
  readonly #options: AuthServiceOptions;
  readonly #rules: TokenRules;
  readonly #keys: KeySource;
  readonly #entries = new LRUCache<string, Entry>({ max: CACHE_ENTRIES });
  /** One question for everyone who presents the same credential at the same time; `at` when it was asked. */
  readonly #asking = new Map<string, { readonly at: number; readonly answer: Promise<Entry> }>();

  constructor(options: AuthServiceOptions) {
    this.#options = options;
    const { secret, issuer, audience, url, clock, logger } = options;
    this.#rules = {
      ...{ issuer, audience: [audience], sole_audience: true, typ: ['at+jwt'] },
      algorithms: secret === null ? ['EdDSA', 'ES256', 'RS256'] : ['HS256'],
      ...{ max_lifetime_seconds: 31_536_000, clock_skew_seconds: 5, max_token_bytes: 4096 },
    };
    this.#keys =
      secret === null
        ? createKeySource({
            load: () => fetchDocument(`${url}/.well-known/jwks.json`),
            ...{ clock, logger, provider: 'auth service', maxAgeMs: 600_000, staleMs: 0 },
          })
        : fixedKeySource(symmetricKey(Buffer.from(secret.reveal())));
  }

  /**
   * Null: no credential was presented. Header names are lower case; a key stands in `x-api-key`.
   * @param address from where it is presented; null: the service does not know, and keys that are bound to addresses are no good
   */
  async authenticate(headers: Readonly<Record<string, string>>, address: string | null): Promise<Found | null> {
    const credentials = readCredentials(headers);
    if (credentials instanceof GatewayError) return credentials;
    let first: Principal | null = null;
    for (const credential of credentials) {
      const found = await this.#find(credential, address);
      if (found instanceof GatewayError) return found;
      // Two credentials of two callers: nobody can say who that is.
      if (first !== null && (first.id !== found.id || first.tenant_id !== found.tenant_id)) {
        return new GatewayError('INVALID_REQUEST', { message: 'The token and the key belong to different callers' });
      }
      first ??= found;
    }
    return first;
  }

  async #find({ kind, value }: Credential, address: string | null): Promise<Found> {
    const presented = value.reveal();
    const isKey = parseKey(presented) !== null;
    // What has not even the form of a key is nothing to ask about, nor is a name with a password.
    if (kind === 'basic' || (kind === 'api-key' && !isKey)) return invalid();
    const from = isKey ? address : null;
    const name = hash('sha256', `${PROCESS_PEPPER}${from ?? ''}\n${presented}`, 'binary');
    const now = this.#options.clock.now();
    const known = this.#entries.get(name);
    if (known !== undefined && now < known.until) return known.found;
    const asking = this.#asking.get(name);
    // A question that was asked so long ago that its answer would be forgotten by now is not joined: the answer may be older
    // than what was revoked since.
    if (asking !== undefined && now < asking.at + this.#options.cacheMs) return (await asking.answer).found;
    return (await this.#ask(name, now, isKey ? this.#key(presented, from, now) : this.#token(presented, now))).found;
  }

  #ask(name: string, at: number, question: Promise<Entry>): Promise<Entry> {
    const answer = question
      .then((entry) => {
        if (entry.until > this.#options.clock.now()) this.#entries.set(name, entry);
        return entry;
      })
      .finally(() => {
        if (this.#asking.get(name)?.answer === answer) this.#asking.delete(name);
      });
    this.#asking.set(name, { at, answer });
    return answer;
  }

  /** @param now when it is asked, epoch milliseconds */
  async #token(token: string, now: number): Promise<Entry> {
    if (token.length > this.#rules.max_token_bytes) return { found: invalid(), until: 0 };
    const checked = await verifyToken(token, this.#rules, this.#keys, now);
    if (!('claims' in checked)) return { found: refusalOf(checked), until: 0 };
    const { sub, jti, exp, typ } = checked.claims;
    if (typ !== 'access') return { found: invalid(), until: 0 };
    const answer = await this.#question('/auth/me', { headers: { authorization: `Bearer ${token}` } });
    const me = answer.kind === 'good' ? meSchema.safeParse(answer.body) : null;
    // An answer about somebody else is none.
    if (me !== null && (!me.success || me.data.id !== sub || me.data.auth.token_id !== jti))
      return this.#odd('/auth/me');
    if (!me?.success) return this.#refused(answer);
    const { auth, actor: _actor, ...facts } = me.data;
    return this.#good(makePrincipal({ ...facts, auth }, 'accounts', 'bearer'), Number(exp) * 1000, now);
  }

  /** @param from see `authenticate` */
  async #key(key: string, from: string | null, now: number): Promise<Entry> {
    const { serviceKey, logger } = this.#options;
    const by = from === null || serviceKey === null ? {} : { 'x-api-key': serviceKey.reveal() };
    const answer = await this.#question('/auth/verify-api-key', {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...by },
      body: JSON.stringify({ api_key: key, ...(from === null ? {} : { client_ip: from }) }),
    });
    if (answer.kind !== 'good') return this.#refused(answer);
    const parsed = keySchema.safeParse(answer.body);
    if (!parsed.success || parsed.data.key_id !== parseKey(key)?.id) return this.#odd('/auth/verify-api-key');
    const { user_id, tenant_id, username, role, permissions, key_id, expires_at, address_bound } = parsed.data;
    if (address_bound && from === null) {
      // It was judged by the address of this service, which says nothing of who shows it here.
      logger.warn({ key_id }, 'a key that is bound to addresses is refused: set client_address and service_key');
      return this.#refused({ kind: 'refused', status: 401 });
    }
    const until = expires_at === null ? Number.POSITIVE_INFINITY : Date.parse(expires_at);
    const principal = makePrincipal(
      {
        ...{ id: user_id, tenant_id, type: 'service', username, permissions, roles: role === null ? [] : [role] },
        auth: { key_id, expires_at: expires_at === null ? null : Math.floor(until / 1000) },
      },
      'keys',
      'api-key',
    );
    return this.#good(principal, until, now);
  }

  /** The time counts from the question: what is revoked while the answer is on its way is not in it. */
  #good(found: Principal, end: number, askedAt: number): Entry {
    return { found: Object.freeze(found), until: Math.min(end, askedAt + this.#options.cacheMs) };
  }

  #refused(answer: Answer): Entry {
    if (answer.kind !== 'refused') return { found: new GatewayError('AUTH_UNAVAILABLE', { retryAfter: 1 }), until: 0 };
    const found = answer.status === 403 ? new GatewayError('FORBIDDEN') : invalid();
    return { found, until: this.#options.clock.now() + Math.min(REFUSED_MS, this.#options.cacheMs) };
  }

  #odd(path: string): Entry {
    this.#options.logger.warn({ path }, 'the auth service gave an answer that does not fit the question');
    return this.#refused({ kind: 'unavailable' });
  }

  async #question(path: string, init: RequestInit): Promise<Answer> {
    const { url, timeoutMs, fetch, logger } = this.#options;
    try {
      const signal = AbortSignal.timeout(timeoutMs);
      // The credential is for this service alone: no redirect is followed.
      const response = await fetch(`${url}${path}`, { ...init, signal, redirect: 'manual' });
      if (response.status === 200) return { kind: 'good', body: JSON.parse(await bounded(response)) as unknown };
      await response.body?.cancel();
      const { status } = response;
      if (status === 401 || status === 403) return { kind: 'refused', status };
      logger.warn({ path, status }, 'the auth service could not say');
    } catch (error) {
      logger.warn({ path, err: error }, 'the auth service could not be asked');
    }
    return { kind: 'unavailable' };
  }
}

async function bounded(response: Response): Promise<string> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of response.body ?? []) {
    size += piece.length;
    if (size > MAX_ANSWER) throw new Error(`answered with more than ${MAX_ANSWER} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}

function invalid(): GatewayError {
  return new GatewayError('INVALID_CREDENTIALS', { message: 'Invalid token', challenge: CHALLENGE });
}

function refusalOf(result: Exclude<Awaited<ReturnType<typeof verifyToken>>, { claims: unknown }>): GatewayError {
  const reason = result.kind === 'rejected' ? result.reason : 'invalid';
  if (reason === 'unavailable') return new GatewayError('AUTH_UNAVAILABLE', { retryAfter: 1 });
  return reason === 'expired' ? new GatewayError('TOKEN_EXPIRED', { challenge: CHALLENGE }) : invalid();
}
