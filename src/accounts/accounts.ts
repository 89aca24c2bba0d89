/**
 * People with a password: they register, log in, change the password and go. What an answer takes and says never tells
 * whether there is such an account. Source: contracts 6, acceptance V-06 to V-12, V-23 to V-26, VF-14, VF-16.
 */
import type { AccountsConfig } from '../config/accounts-schema.ts';
import { GatewayError } from '../core/errors.ts';
import { makeId } from '../core/ids.ts';
import { networkOf } from '../core/network.ts';
import type { AccountRecord, AccountStore } from '../stores/accounts.ts';
import type { SessionStore } from '../stores/sessions.ts';
import type { AccountReports, Origin } from './account.ts';
import type { Guard } from './guard.ts';
import { requireGoodPassword, weakPassword } from './password-rules.ts';
import type { Passwords } from './passwords.ts';
import type { Roles } from './roles.ts';
import { factorLock, type Proof, type ProofResult, type SecondFactor } from './second-factor.ts';
import type { BegunCookie, BegunSession, Sessions } from './sessions.ts';

/** Milliseconds a one-time token for the first administrator is good. */
export const BOOTSTRAP_MS = 3_600_000;

export interface AccountsOptions {
  readonly config: AccountsConfig;
  readonly store: AccountStore;
  readonly sessionStore: SessionStore;
  readonly sessions: Sessions;
  readonly passwords: Passwords;
  readonly guard: Guard;
  readonly factor: SecondFactor;
  readonly roles: Roles;
  readonly reports: AccountReports;
}

/** What somebody types to log in. */
export interface Login extends Proof {
  readonly username: string;
  readonly password: string;
}

/** Who has shown everything that is asked of them. */
export interface LoggedIn {
  readonly account: AccountRecord;
  /** Digest of the address. */
  readonly source: string;
  /** When a second factor was shown, epoch milliseconds; null for an account without one. */
  readonly mfa_at: number | null;
  /** True where the role needs a second factor and the account has none yet: good for enrolling and nothing else. */
  readonly must_enrol: boolean;
}

/**
 * How a login ended that was not refused. `second_factor_required`: the password was right, and a code has to come with
 * it in another attempt; nothing was begun.
 */
export type LoginResult<Session> =
  | ({ readonly kind: 'logged_in'; readonly session: Session } & LoggedIn)
  | { readonly kind: 'second_factor_required' };

/** What a new account is made of. The password has not been looked at yet. */
export interface NewAccount {
  readonly username: string;
  readonly email: string;
  readonly password: string;
  readonly full_name: string | null;
}

/** An administrator who makes an account for somebody. */
export interface Maker {
  /** Null: the one that everybody gets. */
  readonly role: string | null;
  /** Rejects where the administrator is none any more; asked before and after what takes time. */
  requireStanding(): Promise<void>;
}

export class Accounts {
  readonly #options: AccountsOptions;

  constructor(options: AccountsOptions) {
    this.#options = options;
  }

  /**
   * Makes an account. `by` is an administrator who makes it for somebody, null for one's own. Rejects with WEAK_PASSWORD,
   * FORBIDDEN where nobody may register, NAME_TAKEN, RATE_LIMIT_EXCEEDED, and as `requireStanding` of the administrator does.
   */
  async register(wanted: NewAccount, by: Maker | null, origin: Origin): Promise<AccountRecord> {
    const { config, guard, store } = this.#options;
    await by?.requireStanding();
    if (by === null && !config.self_registration) {
      throw new GatewayError('FORBIDDEN', { message: 'Accounts are made by an administrator here' });
    }
    this.#requireGood(wanted);
    if (by === null) await guard.admitRegistration(origin.source_ip, origin.now);
    const record = await this.#record(wanted, by?.role ?? config.default_role, origin.now);
    // A hash takes its time, in which the administrator may have been switched off.
    await by?.requireStanding();
    if (!(await store.insert(record))) throw taken();
    if (by !== null) await this.#keepIfStanding(by, record);
    this.#report('user_registered', record, origin, { username: record.username, role: record.role });
    return record;
  }

  /** Whoever was switched off at this very moment leaves no account behind. */
  async #keepIfStanding(by: Maker, { id }: AccountRecord): Promise<void> {
    try {
      await by.requireStanding();
    } catch (error) {
      await this.#options.store.delete(id);
      throw error;
    }
  }

  /** The first administrator, with the one-time token. Rejects with INVALID_CREDENTIALS for any other one. */
  async bootstrap(wanted: NewAccount, token: string, origin: Origin): Promise<AccountRecord> {
    const { config, guard, store } = this.#options;
    await guard.admitRegistration(origin.source_ip, origin.now);
    this.#requireGood(wanted);
    const digest = guard.digest('bootstrap', token);
    const given = config.bootstrap_token;
    if (given?.equals(token)) await store.addBootstrap(digest, origin.now, origin.now + BOOTSTRAP_MS);
    const record = await this.#record(wanted, 'admin', origin.now);
    const outcome = await store.bootstrap(digest, record, origin.now);
    if (outcome === 'taken') throw taken();
    if (outcome === 'refused') {
      throw new GatewayError('INVALID_CREDENTIALS', { message: 'The token is not good for a first administrator' });
    }
    this.#report('user_registered', record, origin, { username: record.username, role: 'admin', bootstrap: true });
    return record;
  }

  #requireGood({ password, username, email }: NewAccount): void {
    requireGoodPassword(password, this.#options.config.password.rule, personalWords(username, email));
  }

  async #record({ password, ...facts }: NewAccount, role: string, now: number): Promise<AccountRecord> {
    const { config, passwords, roles } = this.#options;
    if (!roles.has(role)) throw new GatewayError('UNPROCESSABLE', { message: `There is no role "${role}"` });
    return {
      ...facts,
      ...{ id: makeId('usr_', now), tenant_id: config.tenant, role, password_hash: await passwords.hash(password) },
      ...{ is_active: true, is_verified: false, created_at: now, updated_at: now, last_login_at: null },
    };
  }

  /** A session with tokens. Ends as `logIn` does. */
  login(login: Login, origin: Origin): Promise<LoginResult<BegunSession>> {
    const { sessions } = this.#options;
    return this.logIn(login, origin, ({ account, source, mfa_at }) =>
      sessions.begin(account, source, mfa_at, origin.now),
    );
  }

  /** A session of a browser, with a cookie. Ends as `logIn` does. */
  loginBrowser(login: Login, origin: Origin): Promise<LoginResult<BegunCookie>> {
    const { sessions } = this.#options;
    return this.logIn(login, origin, ({ account, source, mfa_at }) =>
      sessions.beginCookie(account, source, mfa_at, origin.now),
    );
  }

  /**
   * Checks password and second factor and has `begin` make the session, which is ended again when the account changed
   * meanwhile. An account with a second factor needs `otp` or `recovery_code` in the same attempt; without either the
   * result is `second_factor_required`, after the right password only. Rejects with RATE_LIMIT_EXCEEDED,
   * ACCOUNT_LOCKED, or INVALID_CREDENTIALS whatever was wrong, the code as well.
   */
  async logIn<Session extends { readonly session_id: string }>(
    login: Login,
    origin: Origin,
    begin: (who: LoggedIn) => Promise<Session>,
  ): Promise<LoginResult<Session>> {
    const { guard, store, sessionStore } = this.#options;
    const name = guard.nameDigest(login.username);
    const account = await store.findByName(login.username);
    const source = guard.digest('source', networkOf(origin.source_ip));
    // From where its owner has come before, an account has limit and lock of its own: strangers cannot keep the owner out.
    const isKnown = await sessionStore.isKnownSource(account?.id ?? 'nobody', source);
    const here = guard.digest(name, source);
    const lock = isKnown ? here : name;
    await guard.admitLogin(origin.source_ip, here, isKnown ? null : name, origin.now);
    return guard.inTurn(lock, async () => {
      const who = await this.#prove({ account, login, lock, source }, origin);
      return who === null
        ? { kind: 'second_factor_required' }
        : this.#begin(who, { username: login.username }, origin, begin);
    });
  }

  /** Null where the second factor is missing. */
  async #prove({ account, login, lock, source }: Attempt, origin: Origin): Promise<LoggedIn | null> {
    const { guard, passwords, store, sessions } = this.#options;
    const lockedUntil = await guard.lockedUntil(lock, origin.now);
    if (lockedUntil !== null) {
      // The same time as ever, and the password is not even looked at.
      await passwords.verify(login.password, null);
      this.#report('login_failed', account, origin, { reason: 'locked' });
      throw locked(lockedUntil, origin.now);
    }
    const isGood = await passwords.verify(login.password, account?.password_hash ?? null);
    if (account === null || !isGood || !account.is_active) {
      const reason = account === null ? 'unknown name' : isGood ? 'not active' : 'wrong password';
      throw await this.#failed({ account, lock, reason }, origin);
    }
    const hasFactor = await this.#checkFactor(account, login, origin);
    if (hasFactor === null) return null;
    await guard.succeed(lock);
    await guard.noteGoodLogin(origin.source_ip);
    if (passwords.isDated(account.password_hash)) {
      await store.rehash(account.id, account.password_hash, await passwords.hash(login.password));
    }
    const mfa_at = hasFactor ? origin.now : null;
    return { account, source, mfa_at, must_enrol: sessions.isHeldBack({ role: account.role, mfa_at }) };
  }

  /** True: it was shown. False: the account has none. Null: it is missing. A wrong one is as wrong as a password. */
  async #checkFactor(account: AccountRecord, proof: Proof, origin: Origin): Promise<boolean | null> {
    const result = await this.proveFactor(account, proof, origin, null);
    if (result === 'wrong') {
      this.#report('login_failed', account, origin, { reason: 'wrong code' });
      throw wrongPassword();
    }
    if (result === 'missing') this.#report('login_failed', account, origin, { reason: 'no second factor' });
    return result === 'missing' ? null : result !== 'none';
  }

  /**
   * What was shown as a second factor is; written down. The one that is too many ends the session it was shown in.
   * Rejects with ACCOUNT_LOCKED after that.
   */
  async proveFactor(
    account: Pick<AccountRecord, 'id' | 'tenant_id'>,
    proof: Proof,
    origin: Origin,
    session_id: string | null,
  ): Promise<ProofResult> {
    const { factor, reports, sessions } = this.#options;
    const lock = await this.#factorLock(account.id, origin);
    const result = await factor.check(account.id, proof, lock, origin.now);
    if (result === 'none' || result === 'missing') return result;
    const type = result === 'wrong' ? 'mfa_failed' : 'mfa_verified';
    const details = { by: proof.otp === undefined ? 'recovery_code' : 'otp' };
    reports.event({ type, origin, account, session_id, key_id: null, details });
    if (result === 'wrong' && (await factor.isLocked(lock, origin.now))) {
      reports.suspicious('account_locked', { origin, account, session_id, details: { second_factor: true } });
      // Whoever found a session open must not be able to lock its owner out again and again.
      if (session_id !== null) await sessions.end(session_id, account.id, origin, 'too many wrong codes');
    }
    return result;
  }

  /** From where its owner has come before, a second factor has a lock of its own, as the password has. */
  async #factorLock(accountId: string, { source_ip }: Origin): Promise<string> {
    const { guard, sessionStore } = this.#options;
    const source = guard.digest('source', networkOf(source_ip));
    return factorLock(guard, accountId, (await sessionStore.isKnownSource(accountId, source)) ? source : null);
  }

  /**
   * A session of a browser for somebody who has shown elsewhere who it is; `told` goes into the audit. Rejects with
   * INVALID_CREDENTIALS when the account changed meanwhile.
   */
  enter(who: LoggedIn, told: Readonly<Record<string, string>>, origin: Origin): Promise<LoginResult<BegunCookie>> {
    const { sessions } = this.#options;
    return this.#begin(who, told, origin, ({ account, source, mfa_at }) =>
      sessions.beginCookie(account, source, mfa_at, origin.now),
    );
  }

  async #begin<Session extends { readonly session_id: string }>(
    who: LoggedIn,
    told: Readonly<Record<string, string>>,
    origin: Origin,
    begin: (who: LoggedIn) => Promise<Session>,
  ): Promise<LoginResult<Session>> {
    const { sessions, store } = this.#options;
    const { account, mfa_at } = who;
    const session = await begin(who);
    // A change of the password in the meantime ended the sessions that were there: this one began by the old password.
    if ((await store.find(account.id))?.updated_at !== account.updated_at) {
      await sessions.end(session.session_id, account.id, origin, 'the account changed during the login');
      throw wrongPassword();
    }
    await store.noteLogin(account.id, origin.now);
    this.#report('login_succeeded', account, origin, { ...told, mfa: mfa_at !== null }, session.session_id);
    return { kind: 'logged_in', session, ...who };
  }

  async #failed(
    { account, lock, reason }: Pick<Attempt, 'account' | 'lock'> & { readonly reason: string },
    origin: Origin,
  ): Promise<GatewayError> {
    const { guard, reports } = this.#options;
    const isLocked = await guard.fail(lock, origin.now);
    this.#report('login_failed', account, origin, { reason });
    if (isLocked) {
      reports.suspicious('account_locked', { origin, account, session_id: null, details: { name: lock.slice(0, 12) } });
    }
    return wrongPassword();
  }

  /** Rejects with INVALID_CREDENTIALS for a wrong current password, WEAK_PASSWORD, ACCOUNT_LOCKED. */
  async changePassword(
    who: { readonly account_id: string; readonly session_id: string },
    { current, next }: { readonly current: string; readonly next: string },
    origin: Origin,
  ): Promise<void> {
    const { config, passwords, sessions, store } = this.#options;
    const account = await store.find(who.account_id);
    if (account === null) throw wrongPassword();
    await this.#requireCurrent(account, current, origin);
    const { history, rule } = config.password;
    requireGoodPassword(next, rule, personalWords(account.username, account.email));
    await this.#requireFresh(account, next, history);
    const hash = await passwords.hash(next);
    const isReplaced = await store.replacePassword(account.id, account.password_hash, hash, origin.now, history);
    if (!isReplaced) throw new GatewayError('CONFLICT', { message: 'The password was changed meanwhile' });
    await sessions.endAll(account.id, who.session_id, origin, 'password changed');
    this.#report('password_changed', account, origin, {}, who.session_id);
  }

  /** Asks for the password again before something that cannot be undone. Rejects as `changePassword` does. */
  async requirePassword(accountId: string, current: string, origin: Origin): Promise<void> {
    const account = await this.#options.store.find(accountId);
    if (account === null) throw wrongPassword();
    await this.#requireCurrent(account, current, origin);
  }

  /** A stolen session must not become a way to guess the password. */
  #requireCurrent(account: AccountRecord, current: string, origin: Origin): Promise<void> {
    const { guard, passwords } = this.#options;
    const lock = guard.digest('change', account.id);
    return guard.inTurn(lock, async () => {
      const lockedUntil = await guard.lockedUntil(lock, origin.now);
      if (lockedUntil !== null) throw locked(lockedUntil, origin.now);
      if (!(await passwords.verify(current, account.password_hash))) {
        throw await this.#failed({ account, lock, reason: 'wrong current password' }, origin);
      }
      await guard.succeed(lock);
    });
  }

  /** The present one counts as one of the last. */
  async #requireFresh(account: AccountRecord, next: string, history: number): Promise<void> {
    const { passwords, store } = this.#options;
    const former = history > 1 ? await store.formerPasswords(account.id, history - 1) : [];
    const hashes = history === 0 ? [] : [account.password_hash, ...former];
    for (const hash of hashes) {
      if (await passwords.verify(next, hash)) throw weakPassword([`is one of the last ${history}`]);
    }
  }

  /** Logins that are under way by what was there before end without a session. */
  async noteChange(accountId: string, now: number): Promise<void> {
    await this.#options.store.update(accountId, {}, now);
  }

  find(id: string): Promise<AccountRecord | null> {
    return this.#options.store.find(id);
  }

  #report(
    type: 'user_registered' | 'login_succeeded' | 'login_failed' | 'password_changed',
    account: AccountRecord | null,
    origin: Origin,
    details: Readonly<Record<string, unknown>>,
    session_id: string | null = null,
  ): void {
    this.#options.reports.event({ type, origin, account, session_id, key_id: null, details });
  }
}

interface Attempt {
  readonly account: AccountRecord | null;
  readonly login: Login;
  /** Under which digest wrong guesses count. */
  readonly lock: string;
  readonly source: string;
}

/** What is told of an account, and so must not be its password. */
export const personalWords = (username: string, email: string): string[] => [
  username,
  email,
  email.slice(0, Math.max(email.indexOf('@'), 0)),
];

const wrongPassword = (): GatewayError =>
  new GatewayError('INVALID_CREDENTIALS', {
    message: 'Invalid username or password',
    challenge: 'Bearer realm="portcullis"',
  });

const taken = (): GatewayError =>
  new GatewayError('NAME_TAKEN', { message: 'The username, one that looks like it, or the email address is taken' });

const locked = (until: number, now: number): GatewayError =>
  new GatewayError('ACCOUNT_LOCKED', { retryAfter: Math.max(1, Math.ceil((until - now) / 1000)) });
