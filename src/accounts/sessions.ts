/**
 * Sessions: begun by a login, carried on by refresh tokens of which each is good once, ended on all gateways at once.
 * A refresh token that was used before ends its session: one of the two who have it is a thief. Source: acceptance V-09,
 * V-10, V-28, VF-03, VF-18; RFC 9700 4.14.2.
 */
import type { Clock } from '../core/clock.ts';
import { GatewayError } from '../core/errors.ts';
import { makeId } from '../core/ids.ts';
import type { AccountTokens } from '../identity/account-tokens.ts';
import type { AccountRecord } from '../stores/accounts.ts';
import type { EndedSession, SessionRecord, SessionStanding, SessionStore } from '../stores/sessions.ts';
import type { AccountReports, Origin, TokenPair } from './account.ts';
import type { Guard } from './guard.ts';

export interface SessionsOptions {
  readonly store: SessionStore;
  readonly tokens: AccountTokens;
  readonly guard: Guard;
  readonly reports: AccountReports;
  readonly clock: Clock;
  /** Milliseconds from login to the end of a session. */
  readonly lifeMs: number;
  /** Milliseconds a browser's session lives: unused, and at most. */
  readonly browser: { readonly idleMs: number; readonly lifeMs: number };
  /** Roles that may nothing before a second factor was shown. */
  readonly factorRoles: ReadonlySet<string>;
  readonly tenant: string;
  /** Withdraws an access token everywhere until it ends by itself. */
  revokeToken(tokenId: string, until: number, now: number): Promise<void>;
  /** Tells every gateway that the account is not what it was. */
  announce(accountId: string): Promise<void>;
}

type Owner = Pick<AccountRecord, 'id' | 'tenant_id' | 'username' | 'role'>;

type NewSession = Pick<SessionStanding, 'session_id' | 'generation' | 'expires_at' | 'mfa_at'>;

export interface BegunSession {
  readonly session_id: string;
  readonly pair: TokenPair;
}

/** `cookie` is its text; `expires_at`: when it ends at the latest, epoch milliseconds. */
export interface BegunCookie {
  readonly session_id: string;
  readonly cookie: string;
  readonly expires_at: number;
}

/** The role in access tokens of somebody who has to enrol first. */
const HELD_BACK_ROLE = 'second-factor-missing';
/** Milliseconds between two notes that a browser is still there. */
const AWAKE_MS = 60_000;

export class Sessions {
  readonly #options: SessionsOptions;
  /** Refreshes that are being answered, by token: who asks twice at once gets one answer twice. */
  readonly #refreshing = new Map<string, Promise<TokenPair>>();

  constructor(options: SessionsOptions) {
    this.#options = options;
  }

  /** @param source digest of the address; `mfaAt`: when a second factor was shown, epoch milliseconds, or null */
  async begin(account: Owner, source: string, mfaAt: number | null, now: number): Promise<BegunSession> {
    const { lifeMs } = this.#options;
    const session_id = makeId('ses_', now);
    const session = { session_id, generation: 0, expires_at: now + lifeMs, mfa_at: mfaAt };
    const { pair, token_id, until } = await this.#pair(account, session, now);
    await this.#insert(account, source, session, { token_id, token_until: until, cookie: null, idle_until: null }, now);
    return { pair, session_id };
  }

  /** A session of a browser: a new name at each login, whatever the browser had before. `cookie` is kept nowhere. */
  async beginCookie(account: Owner, source: string, mfaAt: number | null, now: number): Promise<BegunCookie> {
    const { browser, tokens } = this.#options;
    const session_id = makeId('ses_', now);
    const { text, digest } = tokens.newCookie();
    const session = { session_id, expires_at: now + browser.lifeMs, mfa_at: mfaAt };
    const idle_until = Math.min(now + browser.idleMs, session.expires_at);
    await this.#insert(account, source, session, { token_id: '', token_until: 0, cookie: digest, idle_until }, now);
    return { cookie: text, session_id, expires_at: session.expires_at };
  }

  #insert(
    { id: account_id }: Owner,
    source: string,
    { session_id: id, expires_at, mfa_at }: Omit<NewSession, 'generation'>,
    proof: Pick<SessionRecord, 'token_id' | 'token_until' | 'cookie' | 'idle_until'>,
    now: number,
  ): Promise<void> {
    const times = { created_at: now, rotated_at: now, expires_at, revoked_at: null, mfa_at };
    return this.#options.store.insert({ id, account_id, generation: 0, source, ...times, ...proof });
  }

  /** True for a session that may nothing but enrol: its role needs a second factor, and none was shown. */
  isHeldBack({ role, mfa_at }: Pick<SessionStanding, 'role' | 'mfa_at'>): boolean {
    return mfa_at === null && this.#options.factorRoles.has(role);
  }

  async #pair(
    { id, tenant_id, username, role }: Owner,
    { session_id, generation, expires_at, mfa_at }: NewSession,
    now: number,
  ): Promise<{ pair: TokenPair; token_id: string; until: number }> {
    const { tokens } = this.#options;
    const isHeldBack = this.isHeldBack({ role, mfa_at });
    // Other services take the token's word for the role.
    const told = isHeldBack ? HELD_BACK_ROLE : role;
    const subject = { account_id: id, session_id, tenant_id, username, role: told, mfa_at };
    const { token, token_id, until } = await tokens.issue(subject, now, Math.floor(expires_at / 1000));
    const pair: TokenPair = {
      access_token: token,
      refresh_token: tokens.refreshToken({ session_id, generation }),
      token_type: 'bearer',
      expires_in: Math.floor(until / 1000) - Math.floor(now / 1000),
      user_id: id,
      username,
      role,
      ...(isHeldBack ? { mfa_enrolment_required: true } : {}),
    };
    return { pair, token_id, until };
  }

  /** The session of a browser by its cookie, which counts as a use of it. Null when it is no good. */
  async byCookie(text: string, now: number): Promise<SessionStanding | null> {
    const { store, tokens, browser } = this.#options;
    const standing = await store.byCookie(tokens.cookieDigest(text));
    if (standing === null || !isLive(standing, now)) return null;
    const { idle_until, expires_at, session_id } = standing;
    if (idle_until === null || idle_until <= now) return null;
    const next = Math.min(now + browser.idleMs, expires_at);
    // Not at each request: a minute more or less changes nothing.
    if (next - idle_until < AWAKE_MS) return standing;
    await store.keepAwake(session_id, next);
    return { ...standing, idle_until: next };
  }

  /** A second factor was shown in a session that lives; gateways that remember it look again. */
  async noteFactor(sessionId: string, accountId: string, now: number): Promise<void> {
    await this.#options.store.noteFactor(sessionId, now);
    await this.#options.announce(accountId);
  }

  /** The account has no second factor any more: no session counts as if one had been shown. */
  async forgetFactor(accountId: string): Promise<void> {
    await this.#options.store.forgetFactor(accountId);
    await this.#options.announce(accountId);
  }

  /** A new pair for a refresh token, which is dead afterwards. Rejects with INVALID_CREDENTIALS. */
  async refresh(token: string, origin: Origin): Promise<TokenPair> {
    const running = this.#refreshing.get(token);
    if (running !== undefined) return running;
    const refreshing = this.#refresh(token, origin).finally(() => this.#refreshing.delete(token));
    this.#refreshing.set(token, refreshing);
    return refreshing;
  }

  async #refresh(token: string, origin: Origin): Promise<TokenPair> {
    const { store, guard, tokens, reports, clock } = this.#options;
    await guard.admitVerification(origin.source_ip, origin.now);
    const name = tokens.readRefresh(token);
    const standing = name === null ? null : await store.standing(name.session_id);
    if (name === null || standing === null || !isLive(standing, origin.now)) {
      reports.refreshed('refused');
      await guard.noteBad(origin.source_ip);
      throw badToken();
    }
    if (standing.generation !== name.generation) return this.#late(name.generation, standing, origin);
    const { pair, issued } = await this.#successor(standing, name.generation + 1, origin.now);
    // Of several processes one goes on.
    if (!(await store.rotate(name.session_id, name.generation, issued, clock.now()))) {
      const later = await store.standing(name.session_id);
      if (later === null || !isLive(later, origin.now)) throw badToken();
      return this.#late(name.generation, later, origin);
    }
    reports.refreshed('ok');
    return pair;
  }

  async #successor(standing: SessionStanding, generation: number, now: number) {
    const { session_id, expires_at, mfa_at } = standing;
    const owner = { ...standing, id: standing.account_id };
    const { pair, token_id, until } = await this.#pair(owner, { session_id, generation, expires_at, mfa_at }, now);
    return { pair, issued: { token_id, token_until: until } };
  }

  /**
   * Another one was faster. A request that was on its way before that one refreshed is a race and no theft: it gets the
   * same refresh token, which is made of the session and its generation, as long as nobody has used that.
   */
  async #late(generation: number, standing: SessionStanding, origin: Origin): Promise<TokenPair> {
    const { store, reports } = this.#options;
    if (origin.now >= standing.rotated_at) throw await this.#reused(standing, origin);
    if (standing.generation === generation + 1) {
      const { pair, issued } = await this.#successor(standing, standing.generation, origin.now);
      if (await store.noteIssued(standing.session_id, standing.generation, issued)) {
        reports.refreshed('ok');
        return pair;
      }
    }
    reports.refreshed('refused');
    throw new GatewayError('CONFLICT', { message: 'The session was refreshed by another request at this moment' });
  }

  /** One of the two who have the token is a thief. */
  async #reused(standing: SessionStanding, origin: Origin): Promise<GatewayError> {
    const { reports } = this.#options;
    await this.end(standing.session_id, standing.account_id, origin, 'refresh token used again');
    reports.refreshed('reused');
    const account = { id: standing.account_id, tenant_id: standing.tenant_id };
    reports.suspicious('refresh_token_reused', {
      ...{ origin, account, session_id: standing.session_id },
      details: { session_id: standing.session_id },
    });
    return badToken();
  }

  /** Ends one session. Once it is in the database it is ended; that every gateway knows at once is told besides. */
  async end(sessionId: string, accountId: string, origin: Origin, reason: string): Promise<void> {
    const ended = await this.#options.store.revoke(sessionId, origin.now);
    await this.#tell(accountId, ended === null ? [] : [ended], origin, reason);
  }

  /** Ends the session of a browser by its cookie; nothing happens for one that is no good. */
  async endCookie(text: string, origin: Origin): Promise<void> {
    const { store, tokens } = this.#options;
    const standing = await store.byCookie(tokens.cookieDigest(text));
    if (standing !== null) await this.end(standing.session_id, standing.account_id, origin, 'logout');
  }

  /** Ends all sessions of an account but one. */
  async endAll(accountId: string, except: string | null, origin: Origin, reason: string): Promise<number> {
    const ended = await this.#options.store.revokeAll(accountId, except, origin.now);
    await this.#tell(accountId, ended, origin, reason);
    return ended.length;
  }

  /** Ends the sessions of an account that browsers have. */
  async endBrowsers(accountId: string, origin: Origin, reason: string): Promise<void> {
    await this.#tell(accountId, await this.#options.store.revokeCookies(accountId, origin.now), origin, reason);
  }

  async #tell(accountId: string, ended: readonly EndedSession[], origin: Origin, reason: string): Promise<void> {
    const { revokeToken, announce, reports, tenant } = this.#options;
    for (const { id, tokens } of ended) {
      const account = { id: accountId, tenant_id: tenant };
      reports.event({
        ...{ type: 'token_revoked', origin, account, session_id: id, key_id: null },
        details: { session_id: id, withdrawn: tokens.map(({ token_id }) => token_id), reason },
      });
      // Each that was issued, not the newest alone: other services know nothing of sessions.
      for (const { token_id, until } of tokens) await revokeToken(token_id, until, origin.now);
    }
    await announce(accountId);
  }
}

const isLive = ({ revoked_at, expires_at, is_active }: SessionStanding, now: number): boolean =>
  revoked_at === null && expires_at > now && is_active;

/** RFC 6750 3.1. One answer for every refresh token that is no good. */
function badToken(): GatewayError {
  return new GatewayError('INVALID_CREDENTIALS', {
    message: 'Invalid token',
    challenge: 'Bearer realm="portcullis", error="invalid_token"',
  });
}
