/**
 * Sessions: begun by a login, carried on by refresh tokens of which each is good once, ended on all gateways at once.
 * A refresh token that was used before ends its session: one of the two who have it is a thief. Source: acceptance V-09,
 * V-10, V-28, VF-03, VF-18; RFC 9700 4.14.2.
 */
import { GatewayError } from '../core/errors.ts';
import { makeId } from '../core/ids.ts';
import type { AccountTokens } from '../identity/account-tokens.ts';
import type { AccountRecord } from '../stores/accounts.ts';
import type { EndedSession, SessionStanding, SessionStore } from '../stores/sessions.ts';
import type { AccountReports, Origin, TokenPair } from './account.ts';
import type { Guard } from './guard.ts';

export interface SessionsOptions {
  readonly store: SessionStore;
  readonly tokens: AccountTokens;
  readonly guard: Guard;
  readonly reports: AccountReports;
  /** Milliseconds from login to the end of a session. */
  readonly lifeMs: number;
  readonly tenant: string;
  /** Withdraws an access token everywhere until it ends by itself. */
  revokeToken(tokenId: string, until: number, now: number): Promise<void>;
  /** Tells every gateway that the account is not what it was. */
  announce(accountId: string): Promise<void>;
}

type Owner = Pick<AccountRecord, 'id' | 'tenant_id' | 'username' | 'role'>;

export class Sessions {
  readonly #options: SessionsOptions;
  /** Refreshes that are being answered, by token: who asks twice at once gets one answer twice. */
  readonly #refreshing = new Map<string, Promise<TokenPair>>();

  constructor(options: SessionsOptions) {
    this.#options = options;
  }

  /** @param source digest of the address */
  async begin(account: Owner, source: string, now: number): Promise<{ pair: TokenPair; session_id: string }> {
    const { store, lifeMs } = this.#options;
    const session_id = makeId('ses_', now);
    const expires_at = now + lifeMs;
    const { pair, token_id, until } = await this.#pair(account, { session_id, generation: 0, expires_at }, now);
    await store.insert({
      ...{
        id: session_id,
        account_id: account.id,
        generation: 0,
        source,
        created_at: now,
        rotated_at: now,
        expires_at,
      },
      ...{ revoked_at: null, token_id, token_until: until },
    });
    return { pair, session_id };
  }

  async #pair(
    { id, tenant_id, username, role }: Owner,
    session: { readonly session_id: string; readonly generation: number; readonly expires_at: number },
    now: number,
  ): Promise<{ pair: TokenPair; token_id: string; until: number }> {
    const { tokens } = this.#options;
    const { session_id, expires_at } = session;
    const subject = { account_id: id, session_id, tenant_id, username, role };
    const { token, token_id, until } = await tokens.issue(subject, now, Math.floor(expires_at / 1000));
    const pair: TokenPair = {
      access_token: token,
      refresh_token: tokens.refreshToken(session),
      token_type: 'bearer',
      expires_in: Math.floor(until / 1000) - Math.floor(now / 1000),
      user_id: id,
      username,
      role,
    };
    return { pair, token_id, until };
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
    const { store, guard, tokens, reports } = this.#options;
    await guard.admitVerification(origin.source_ip, origin.now);
    const name = tokens.readRefresh(token);
    const standing = name === null ? null : await store.standing(name.session_id);
    if (name === null || standing === null || !isLive(standing, origin.now)) {
      reports.refreshed('refused');
      await guard.noteBad(origin.source_ip);
      throw badToken();
    }
    if (standing.generation !== name.generation) throw await this.#reused(standing, origin);
    const session = { ...name, generation: name.generation + 1, expires_at: standing.expires_at };
    const owner = { ...standing, id: standing.account_id };
    const { pair, token_id, until } = await this.#pair(owner, session, origin.now);
    // One of several processes goes on; the others have come at the same moment, as `reused` will see.
    if (!(await store.rotate(name.session_id, name.generation, { token_id, token_until: until }, origin.now))) {
      const later = await store.standing(name.session_id);
      throw later === null || !isLive(later, origin.now) ? badToken() : await this.#reused(later, origin);
    }
    reports.refreshed('ok');
    return pair;
  }

  /** A request that was on its way before another one refreshed is a race and no theft. */
  async #reused(standing: SessionStanding, origin: Origin): Promise<GatewayError> {
    const { reports } = this.#options;
    if (origin.now < standing.rotated_at) {
      reports.refreshed('refused');
      return new GatewayError('CONFLICT', { message: 'The session was refreshed by another request at this moment' });
    }
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

  /** Ends all sessions of an account but one. */
  async endAll(accountId: string, except: string | null, origin: Origin, reason: string): Promise<number> {
    const ended = await this.#options.store.revokeAll(accountId, except, origin.now);
    await this.#tell(accountId, ended, origin, reason);
    return ended.length;
  }

  async #tell(accountId: string, ended: readonly EndedSession[], origin: Origin, reason: string): Promise<void> {
    const { revokeToken, announce, reports, tenant } = this.#options;
    for (const { id, token_id, token_until } of ended) {
      const account = { id: accountId, tenant_id: tenant };
      reports.event({
        ...{ type: 'token_revoked', origin, account, session_id: id, key_id: null },
        details: { session_id: id, token_id, reason },
      });
      await revokeToken(token_id, token_until, origin.now);
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
