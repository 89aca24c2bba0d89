/** What the authorization server asks of the accounts, and what it tells of them. */

import { GatewayError } from '../../core/errors.ts';
import { networkOf } from '../../core/network.ts';
import type { AccessClaims } from '../../identity/account-tokens.ts';
import type { SessionStanding, SessionStore } from '../../stores/sessions.ts';
import type { AccountReports, Origin } from '../account.ts';
import type { Accounts } from '../accounts.ts';
import type { Guard } from '../guard.ts';
import type { LinkedAccounts, Vouched } from '../linked-accounts.ts';
import type { Sessions } from '../sessions.ts';
import type { Entries } from './adapter.ts';
import type { AgentFacts } from './engine-options.ts';

/** Our own kind of entry: which session goes with a grant. */
const GRANT_SESSION = 'grant-session';

export interface PeopleOptions {
  readonly accounts: Accounts;
  readonly sessions: Sessions;
  readonly linked: LinkedAccounts;
  readonly sessionStore: Pick<SessionStore, 'standing' | 'noteUse'>;
  readonly guard: Guard;
  readonly reports: AccountReports;
  /** Withdraws one access token everywhere. */
  revokeToken(claims: Pick<AccessClaims, 'jti' | 'exp' | 'sub'>, now: number): Promise<void>;
}

/** What is remembered of a grant: whose, for what, to whom. */
export interface GrantFacts {
  /** The session that goes with it. */
  readonly sid: string;
  readonly accountId: string;
  readonly amr: readonly string[];
  readonly clientId: string;
  readonly clientName: string | null;
  /** Host, or scheme of an app, that the client came back at. */
  readonly sentTo: string;
  readonly scopes: readonly string[];
  readonly resources: readonly string[];
  /** Epoch milliseconds. */
  readonly grantedAt: number;
}

/** What somebody typed. `code`: of an app, or a recovery code. */
export interface Typed {
  readonly username: string;
  readonly password: string;
  readonly code: string;
}

export type LoginOutcome =
  | { readonly kind: 'in'; readonly accountId: string; readonly sessionId: string; readonly amr: string[] }
  | { readonly kind: 'code-missing' }
  | { readonly kind: 'must-enrol' };

/** People and their sessions, as far as agents are concerned. */
export class People {
  readonly #options: PeopleOptions;

  constructor(options: PeopleOptions) {
    this.#options = options;
  }

  /** Under the limits, locks and costs of every login. Rejects as `Accounts.logIn` does. */
  async logIn({ username, password, code }: Typed, origin: Origin): Promise<LoginOutcome> {
    const tidy = code.replaceAll(/[\s-]/g, '');
    const proof = tidy === '' ? {} : /^\d{6}$/.test(tidy) ? { otp: tidy } : { recovery_code: code.trim() };
    const result = await this.#options.accounts.loginBrowser({ username, password, ...proof }, origin);
    if (result.kind === 'second_factor_required') return { kind: 'code-missing' };
    const { session, account, mfa_at, must_enrol } = result;
    if (must_enrol) return this.#heldBack(result, origin);
    const amr = mfa_at === null ? ['pwd'] : ['pwd', 'otp', 'mfa'];
    return { kind: 'in', accountId: account.id, sessionId: session.session_id, amr };
  }

  /**
   * Somebody logs in at another provider; `finish` asks it who it is. Rejects as that does, and with FORBIDDEN for whoever
   * has no place here.
   */
  async logInElsewhere(provider: string, finish: () => Promise<Vouched>, origin: Origin): Promise<LoginOutcome> {
    const { linked } = this.#options;
    const person = await finish().catch((error: unknown) => {
      linked.noteFailure(provider, error instanceof GatewayError ? error.code : 'fault', origin);
      throw error;
    });
    const result = await linked.logIn(person, origin);
    if (result.kind === 'second_factor_required') return { kind: 'code-missing' };
    if (result.must_enrol) return this.#heldBack(result, origin);
    const amr = result.mfa_at === null ? [] : ['mfa'];
    return { kind: 'in', accountId: result.account.id, sessionId: result.session.session_id, amr };
  }

  async #heldBack(
    {
      session,
      account,
    }: { readonly session: { readonly session_id: string }; readonly account: { readonly id: string } },
    origin: Origin,
  ): Promise<LoginOutcome> {
    await this.#options.sessions.end(session.session_id, account.id, origin, 'a second factor has to be enrolled');
    return { kind: 'must-enrol' };
  }

  /** The session, while it stands and is of this account, which is active. */
  async standing(sessionId: string, accountId: string, now: number): Promise<SessionStanding | null> {
    const found = await this.#options.sessionStore.standing(sessionId);
    if (found === null || found.account_id !== accountId || !found.is_active) return null;
    return found.revoked_at === null && found.expires_at > now ? found : null;
  }

  /** Begins the session of a grant: it ends alone, or with all the others of its account. */
  async beginGrant(person: SessionStanding, origin: Origin): Promise<string> {
    const { guard, sessions } = this.#options;
    const source = guard.digest('source', networkOf(origin.source_ip));
    const owner = { ...person, id: person.account_id };
    return (await sessions.begin(owner, source, person.mfa_at, origin.now)).session_id;
  }

  /** Remembers which session goes with a grant, and what it is for. */
  async bindGrant(entries: Entries, grantId: string, facts: GrantFacts, seconds: number): Promise<void> {
    await entries.save(GRANT_SESSION, grantId, { uid: facts.accountId, params: { ...facts, grantId } }, seconds);
  }

  async sessionOf(entries: Entries, grantId: string): Promise<Bound | null> {
    return boundOf((await entries.load(GRANT_SESSION, grantId))?.params);
  }

  /** The grants of an account whose sessions stand, newest first. */
  async grantsOf(entries: Entries, accountId: string, now: number): Promise<StandingGrant[]> {
    const found: StandingGrant[] = [];
    for (const { params } of await entries.loadAllByUid(GRANT_SESSION, accountId)) {
      const bound = boundOf(params);
      if (bound?.accountId !== accountId || typeof params?.grantId !== 'string') continue;
      const session = await this.standing(bound.sid, accountId, now);
      // What was sealed here has this form.
      if (session !== null)
        found.push({ ...(params as unknown as GrantFacts), grantId: params.grantId, usedAt: session.rotated_at });
    }
    return found.toSorted((a, b) => b.grantedAt - a.grantedAt);
  }

  /** What tokens of a grant say of their owner; null when nobody stands behind it. */
  async claims(entries: Entries, grantId: string, accountId: string, now: number): Promise<AgentFacts | null> {
    const bound = await this.sessionOf(entries, grantId);
    const person = bound === null ? null : await this.standing(bound.sid, accountId, now);
    if (person === null) return null;
    const { session_id, username, role, tenant_id, mfa_at } = person;
    await this.#options.sessionStore.noteUse(session_id, now);
    return {
      ...{ sid: session_id, username, role, tenant_id },
      ...(bound?.amr === undefined ? {} : { amr: bound.amr }),
      ...(mfa_at === null ? {} : { auth_time: Math.floor(mfa_at / 1000) }),
    };
  }

  async endGrant(entries: Entries, grantId: string, origin: Origin): Promise<void> {
    const bound = await this.sessionOf(entries, grantId);
    if (bound === null) return;
    await this.#options.sessions.end(bound.sid, bound.accountId, origin, 'the grant of an agent was revoked');
    await entries.remove(GRANT_SESSION, grantId);
  }

  /** Ends the session of a browser. */
  endSession(sessionId: string, accountId: string, origin: Origin): Promise<void> {
    return this.#options.sessions.end(sessionId, accountId, origin, 'logout');
  }

  async endToken(
    claims: Pick<AccessClaims, 'jti' | 'exp' | 'sub' | 'sid' | 'tenant_id'>,
    origin: Origin,
  ): Promise<void> {
    await this.#options.revokeToken(claims, origin.now);
    const account = { id: claims.sub, tenant_id: claims.tenant_id };
    const details = { session_id: claims.sid, token_ids: [claims.jti], reason: 'revoked by its client' };
    this.#options.reports.event({
      type: 'token_revoked',
      origin,
      account,
      session_id: claims.sid,
      key_id: null,
      details,
    });
  }
}

type Bound = Pick<GrantFacts, 'sid' | 'accountId'> & { readonly amr?: readonly string[] };

/** A grant with its name and when something was given out under it last, epoch milliseconds. */
export interface StandingGrant extends GrantFacts {
  readonly grantId: string;
  readonly usedAt: number;
}

function boundOf(params: Readonly<Record<string, unknown>> | undefined): Bound | null {
  if (typeof params?.sid !== 'string' || typeof params.accountId !== 'string') return null;
  const { sid, accountId, amr } = params;
  // A grant of a release before says nothing of that.
  return Array.isArray(amr) ? { sid, accountId, amr: amr.map(String) } : { sid, accountId };
}
