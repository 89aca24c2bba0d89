/**
 * Accounts of people who log in at another provider. Somebody is who that provider's issuer says under this subject, and
 * nobody else: names and addresses, which their owner may choose there, find no account here. The first login makes one,
 * without a password that anybody could know; each login sets its role again. Source: OpenID Connect Core 5.7, RFC 9700.
 */
import { randomBytes } from 'node:crypto';
import type { AuthorizationServerConfig } from '../config/authorization-server-schema.ts';
import { GatewayError } from '../core/errors.ts';
import { makeId } from '../core/ids.ts';
import { networkOf } from '../core/network.ts';
import type { AccountIdentityStore } from '../stores/account-identities.ts';
import type { AccountRecord, AccountStore } from '../stores/accounts.ts';
import type { AccountReports, Origin } from './account.ts';
import type { Accounts, LoginResult } from './accounts.ts';
import type { Guard } from './guard.ts';
import type { Passwords } from './passwords.ts';
import type { Roles } from './roles.ts';
import type { BegunCookie, Sessions } from './sessions.ts';
import { suffixed, tidyName } from './username.ts';

/** Somebody for whom a provider vouches, in its words as they are mapped to ours. */
export interface Vouched {
  /** Its name in the configuration. */
  readonly provider: string;
  readonly issuer: string;
  readonly subject: string;
  readonly tenant_id: string;
  readonly type: string;
  readonly username: string | null;
  /** Null where the provider has not verified it. */
  readonly email: string | null;
  readonly full_name: string | null;
  readonly roles: readonly string[];
  /** When a second factor was shown there, epoch milliseconds; null for none. */
  readonly mfa_at: number | null;
}

export interface LinkedAccountsOptions {
  readonly accounts: Accounts;
  readonly store: Pick<AccountStore, 'find'>;
  readonly identities: AccountIdentityStore;
  readonly sessions: Pick<Sessions, 'isHeldBack'>;
  readonly passwords: Pick<Passwords, 'unusable'>;
  readonly guard: Pick<Guard, 'digest'>;
  readonly roles: Roles;
  readonly reports: AccountReports;
  readonly provision: AuthorizationServerConfig['provision'];
  readonly tenant: string;
  /** Another role, with all that goes with it. */
  changeRole(accountId: string, role: string, origin: Origin): Promise<void>;
}

/** One text, whatever the reason: it is for the administrator to know, in the audit. */
const NO_PLACE = 'You have no account here that can be used: ask an administrator';

/** A domain that is nobody's (RFC 2606 2). */
const NO_ADDRESS = 'accounts.invalid';
const ADDRESS = /^[^\s@\p{C}]{1,64}@[^\s@\p{C}]{1,189}$/u;

export class LinkedAccounts {
  readonly #options: LinkedAccountsOptions;

  constructor(options: LinkedAccountsOptions) {
    this.#options = options;
  }

  /** A session of a browser. Rejects with FORBIDDEN for whoever has no place here. */
  async logIn(person: Vouched, origin: Origin): Promise<LoginResult<BegunCookie>> {
    const { accounts, sessions, guard, tenant } = this.#options;
    // An account is of our own tenant: who belongs to another one would change it by logging in.
    if (person.tenant_id !== tenant) throw this.#refused(person, null, 'another tenant', origin);
    if (person.type !== 'user') throw this.#refused(person, null, 'not a person', origin);
    const account = await this.#current(person, origin);
    if (!account.is_active) throw this.#refused(person, account, 'not active', origin);
    const { role } = account;
    const { mfa_at, provider } = person;
    const source = guard.digest('source', networkOf(origin.source_ip));
    const who = { account, source, mfa_at, must_enrol: sessions.isHeldBack({ role, mfa_at }) };
    return accounts.enter(who, { username: account.username, role, provider }, origin);
  }

  /** A login that the provider did not let pass, or that did not come from there. */
  noteFailure(provider: string, reason: string, origin: Origin): void {
    const details = { provider, reason };
    this.#options.reports.event({
      ...{ type: 'login_failed', origin, account: null, session_id: null, key_id: null, details },
    });
  }

  #refused({ provider }: Vouched, account: AccountRecord | null, reason: string, origin: Origin): GatewayError {
    const details = { provider, reason };
    this.#options.reports.event({ type: 'login_failed', origin, account, session_id: null, key_id: null, details });
    return new GatewayError('FORBIDDEN', { message: NO_PLACE });
  }

  /** The account as it is after this login's role was set. */
  async #current(person: Vouched, origin: Origin): Promise<AccountRecord> {
    const { store, provision, changeRole } = this.#options;
    const known = (await this.#known(person)) ?? (await this.#registered(person, origin));
    if (provision === false || !known.is_active) return known;
    const role = this.#roleOf(person, provision);
    if (known.role === role) return known;
    await changeRole(known.id, role, origin);
    const changed = await store.find(known.id);
    if (changed === null) throw this.#refused(person, null, 'deleted during the login', origin);
    return changed;
  }

  async #known(person: Vouched): Promise<AccountRecord | null> {
    const { identities, store } = this.#options;
    const id = await identities.accountOf(person);
    return id === null ? null : store.find(id);
  }

  #roleOf({ roles }: Vouched, { roles: given, default_role }: Provision): string {
    return given.find((role) => roles.includes(role)) ?? default_role;
  }

  async #registered(person: Vouched, origin: Origin): Promise<AccountRecord> {
    const { identities, provision, passwords, reports, tenant } = this.#options;
    if (provision === false) throw this.#refused(person, null, 'no account', origin);
    const { now } = origin;
    const id = makeId('usr_', now);
    const role = this.#roleOf(person, provision);
    const rest = {
      ...{ id, tenant_id: tenant, role, full_name: person.full_name, password_hash: passwords.unusable() },
      ...{ is_active: true, is_verified: false, created_at: now, updated_at: now, last_login_at: null },
    };
    for (const { username, email } of this.#names(person, id)) {
      const record: AccountRecord = { ...rest, username, email };
      const outcome = await identities.register(record, person);
      if (outcome === 'done') {
        const details = { username, role, provider: person.provider };
        reports.event({ type: 'user_registered', origin, account: record, session_id: null, key_id: null, details });
        return record;
      }
      // Somebody's first login in two browsers at once.
      const other = outcome === 'linked' ? await this.#known(person) : null;
      if (other !== null) return other;
    }
    throw new GatewayError('CONFLICT', { message: 'No name could be found for a new account: try again' });
  }

  /** Under what to try: an address that somebody has here already stays with them, and so does a name. */
  *#names({ username, email, provider }: Vouched, id: string): Generator<{ username: string; email: string }> {
    const wanted = tidyName(username ?? provider);
    const other = () => suffixed(wanted, randomBytes(4).toString('hex'));
    // Who is called like a role is taken for more than they are.
    const names = () => (this.#options.roles.has(wanted.toLowerCase()) ? [other()] : [wanted, other()]);
    const address = email !== null && ADDRESS.test(email) ? [email] : [];
    for (const one of [...address, `${id.toLowerCase()}@${NO_ADDRESS}`]) {
      for (const name of names()) yield { username: name, email: one };
    }
  }
}

type Provision = Exclude<AuthorizationServerConfig['provision'], false>;
