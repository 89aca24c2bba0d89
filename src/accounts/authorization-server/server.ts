/** `/oauth`: agents that know nothing but an address find out here how their user logs in, and get tokens for it. */
import type { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import { GatewayError } from '../../core/errors.ts';
import type { Admitted } from '../../core/exchange.ts';
import { networkOf } from '../../core/network.ts';
import type { AgentClaims } from '../../identity/agent-tokens.ts';
import type { EndpointReply } from '../../protocols/endpoint.ts';
import type { Shared } from '../../stores/shared.ts';
import type { Origin } from '../account.ts';
import { originOf } from '../api.ts';
import type { Guard } from '../guard.ts';
import type { Entries } from './adapter.ts';
import { type Bridged, type BridgedRequest, bridge } from './bridge.ts';
import type { Engine } from './engine.ts';
import { type EngineOptions, type Pending, SCOPE } from './engine-options.ts';
import { errorPage, shown } from './pages.ts';
import type { People } from './people.ts';
import { Refreshing } from './refreshing.ts';
import { LOOPBACK, tidyMetadata } from './registration.ts';

export interface AuthorizationServerOptions {
  readonly engine: Engine;
  readonly entries: Entries;
  readonly people: People;
  readonly guard: Guard;
  readonly shared: Pick<Shared, 'hit'>;
  readonly issuer: string;
  readonly config: EngineOptions['config'];
  readonly resources: EngineOptions['resources'];
  readonly publicResource: string;
  /** Who asks, for what happens deep inside. */
  readonly origins: AsyncLocalStorage<Origin>;
  readonly notes: EngineOptions['notes'];
  /** An agent's token, for whatever resource. */
  readToken(token: string, now: number): Promise<AgentClaims | null>;
}

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const EMPTY = Buffer.alloc(0);

/** Faults of a token request that somebody who guesses would see. */
const GUESSES = /"error":"(invalid_grant|invalid_client)"/;

export class AuthorizationServer {
  readonly options: AuthorizationServerOptions;
  readonly #base: URL;
  readonly #refreshing: Refreshing;

  constructor(options: AuthorizationServerOptions) {
    this.options = options;
    const { entries, notes, config } = options;
    this.#refreshing = new Refreshing({ entries, notes, graceMs: config.refresh_grace_seconds * 1000 });
    this.#base = new URL(options.issuer);
  }

  /** Request and response for the library, of what was received. */
  bridged({ received }: Admitted, changed: Partial<BridgedRequest> = {}): Bridged {
    const { path, query, headers, method } = received;
    const read = method === 'HEAD' ? 'GET' : method;
    return bridge({ method: read, url: `${path}${query}`, headers, body: EMPTY, ...changed }, this.#base);
  }

  /** Has the library answer. */
  async answer(
    exchange: Admitted,
    changed: Partial<BridgedRequest> = {},
    origin = originOf(exchange),
  ): Promise<EndpointReply> {
    const bridged = this.bridged(exchange, changed);
    await this.options.origins.run(origin, () => this.options.engine.answer(bridged));
    const reply = bridged.response.reply();
    // A code stands in the address that the browser goes to next.
    return { ...reply, headers: { 'referrer-policy': 'no-referrer', ...reply.headers } };
  }

  /** The login or consent that a browser is in the middle of, for which a client's document may have to be fetched. */
  pending(exchange: Admitted, bridged: Bridged, uid: string): Promise<Pending> {
    return this.options.origins.run(originOf(exchange), () => this.options.engine.pending(bridged, uid));
  }

  /** Throws RATE_LIMIT_EXCEEDED beyond so many of one address. */
  async admit(what: string, limit: number, windowMs: number, exchange: Admitted): Promise<void> {
    const { address } = exchange.received.peer;
    const hit = await this.options.shared.hit(`oauth:${what}:${networkOf(address)}`, windowMs);
    if (hit.count <= limit) return;
    const retryAfter = Math.max(1, Math.ceil((hit.resetAt - exchange.received.receivedAt) / 1000));
    const spent = { rule: what, limit, windowSeconds: windowMs / 1000, resetAt: hit.resetAt };
    throw new GatewayError('RATE_LIMIT_EXCEEDED', { retryAfter, spent });
  }

  /** Begins a login: an answer for a browser, whatever it is. */
  async authorize(exchange: Admitted): Promise<EndpointReply> {
    await this.admit('authorize', this.options.config.requests_per_minute, MINUTE_MS, exchange);
    const query = new URLSearchParams(exchange.received.query);
    const mode = query.getAll('response_mode');
    // Any other makes a page with a script, or puts the code where scripts of others read it.
    if (mode.some((one) => one !== 'query')) {
      return shown(400, errorPage('invalid_request', 'The answer is given in the query only'));
    }
    await this.#dropEndedSession(exchange);
    return this.#stayingHere(await this.answer(exchange, { url: `/oauth/authorize?${this.#withScope(query)}` }));
  }

  /**
   * Nobody has said yes yet, so the client has no code to get, only a fault; anybody may register one, and an address of ours
   * must not lead people on to wherever it likes. What waits on their own machine is told. Source: RFC 9700 4.11.2.
   */
  #stayingHere(reply: EndpointReply): EndpointReply {
    const target = URL.parse(reply.headers?.location ?? '', this.#base.href);
    const isWeb = target?.protocol === 'https:' || target?.protocol === 'http:';
    if (!isWeb || target.origin === this.#base.origin || LOOPBACK.has(target.hostname)) return reply;
    const told = new URLSearchParams(target.hash === '' ? target.search : target.hash.slice(1));
    return shown(400, errorPage(told.get('error') ?? 'invalid_request', told.get('error_description')));
  }

  /** What was logged out elsewhere is not logged in here. */
  async #dropEndedSession(exchange: Admitted): Promise<void> {
    const { engine, people } = this.options;
    const bridged = this.bridged(exchange);
    const browser = await engine.browser(bridged);
    if (browser === null) return;
    const { accountId, sessionId } = browser;
    const now = exchange.received.receivedAt;
    const isGood = sessionId !== null && (await people.standing(sessionId, accountId, now)) !== null;
    if (!isGood) await engine.forgetBrowser(bridged);
  }

  /** Every request asks for the one scope there is everywhere; who asks for none gets what the resource needs. */
  #withScope(query: URLSearchParams): URLSearchParams {
    const given = query.getAll('scope');
    if (given.length > 1) return query;
    const wanted = (given[0] ?? '').split(' ').filter((scope) => scope !== '');
    const asked = query.getAll('resource');
    const indicators = asked.length > 0 ? asked : [this.options.publicResource];
    const needed = wanted.length > 0 ? [] : indicators.flatMap((one) => this.options.resources(one)?.scopes ?? []);
    query.set('scope', [...new Set([...wanted, ...needed, SCOPE])].join(' '));
    return query;
  }

  /** A code or a refresh token for an access token. */
  async token(exchange: Admitted, body: Buffer): Promise<EndpointReply> {
    const { guard } = this.options;
    const { peer, receivedAt } = exchange.received;
    await guard.admitVerification(peer.address, receivedAt);
    const origin = originOf(exchange);
    const reply = await this.#refreshing.settle(body, origin, await this.answer(exchange, { body }, origin));
    if (reply.status >= 400 && GUESSES.test(reply.text ?? '')) await guard.noteBad(peer.address);
    return reply;
  }

  async register(exchange: Admitted, body: Buffer): Promise<EndpointReply> {
    await this.admit('register', this.options.config.registration.per_hour, HOUR_MS, exchange);
    return this.answer(exchange, { body: tidyMetadata(body) });
  }

  /**
   * Ends a token. Access tokens are kept nowhere, being signed: one that is genuine is shown to the library as if it were,
   * so that who may end it is decided in one place.
   */
  async revoke(exchange: Admitted, body: Buffer): Promise<EndpointReply> {
    const { guard } = this.options;
    const { peer, receivedAt } = exchange.received;
    await guard.admitVerification(peer.address, receivedAt);
    const form = new URLSearchParams(body.toString('utf8'));
    const given = form.getAll('token');
    const [token = ''] = given;
    const claims = given.length === 1 && token.includes('.') ? await this.options.readToken(token, receivedAt) : null;
    if (claims === null) return this.answer(exchange, { body });
    const { entries, people } = this.options;
    const stand = `token-${randomUUID()}`;
    const { client_id: clientId, sub: accountId, iat, exp, jti } = claims;
    entries.presented.set(stand, {
      payload: { kind: 'AccessToken', jti: stand, clientId, accountId, iat, exp, extra: { jti } },
      revoke: () => people.endToken(claims, originOf(exchange)),
    });
    form.set('token', stand);
    form.delete('token_type_hint');
    try {
      return await this.answer(exchange, { body: Buffer.from(form.toString()) });
    } finally {
      entries.presented.delete(stand);
    }
  }
}
