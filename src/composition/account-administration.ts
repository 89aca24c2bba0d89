/**
 * What operators do with accounts, on the database itself: it works while no gateway runs, and running ones see it within
 * a second. Source: acceptance V-25, V-38, VF-14, VF-17.
 */
import { randomBytes } from 'node:crypto';
import { BOOTSTRAP_MS, type NewAccount, personalWords } from '../accounts/accounts.ts';
import { Guard } from '../accounts/guard.ts';
import { requireGoodPassword } from '../accounts/password-rules.ts';
import { isPasswordHash, Passwords } from '../accounts/passwords.ts';
import { type Roles, rolesOf } from '../accounts/roles.ts';
import { factorLock } from '../accounts/second-factor.ts';
import type { AccountsConfig } from '../config/accounts-schema.ts';
import type { Clock } from '../core/clock.ts';
import { GatewayError } from '../core/errors.ts';
import { makeId } from '../core/ids.ts';
import type { Secret } from '../core/secret.ts';
import {
  type AccountIdentityStore,
  createAccountIdentityStore,
  type ForeignIdentity,
} from '../stores/account-identities.ts';
import { type AccountRecord, type AccountStore, createAccountStore } from '../stores/accounts.ts';
import { createApiKeyStore } from '../stores/api-keys.ts';
import type { Database } from '../stores/database.ts';
import { createMemoryShared } from '../stores/memory-shared.ts';
import { createSecondFactorStore, type SecondFactorStore } from '../stores/second-factors.ts';
import { createSessionStore, type EndedSession } from '../stores/sessions.ts';
import { exceeds, revokeKeysOf } from './account-set.ts';

export interface AccountAdministrationOptions {
  readonly config: AccountsConfig;
  readonly database: Database;
  readonly pepper: Secret;
  readonly clock: Clock;
  /** Withdraws access tokens for services that know nothing of sessions; without it they are good there until they end. */
  readonly withdraw?: (tokens: EndedSession['tokens'], now: number) => Promise<void>;
}

/** `password_hash` instead of a password: an argon2id hash in PHC form, for accounts that come from elsewhere. */
export interface AdministeredAccount extends Omit<NewAccount, 'password'> {
  readonly role: string;
  readonly is_active?: boolean;
  readonly password?: string;
  readonly password_hash?: string;
}

type IsOver = Parameters<typeof revokeKeysOf>[3];

export class AccountAdministration {
  readonly #options: AccountAdministrationOptions;
  readonly #store: AccountStore;
  readonly #sessions;
  readonly #keys;
  readonly #factors: SecondFactorStore;
  readonly #identities: AccountIdentityStore;
  readonly #guard: Guard;
  readonly #passwords: Passwords;
  readonly #roles: Roles;

  constructor(options: AccountAdministrationOptions) {
    this.#options = options;
    const { config, database, pepper } = options;
    this.#store = createAccountStore(database);
    this.#sessions = createSessionStore(database);
    this.#keys = createApiKeyStore(database);
    this.#factors = createSecondFactorStore(database);
    this.#identities = createAccountIdentityStore(database);
    const { limits, lockout } = config;
    this.#guard = new Guard({ shared: createMemoryShared(), store: this.#store, pepper, limits, lockout });
    this.#passwords = new Passwords(config.password);
    this.#roles = rolesOf(config);
  }

  /** A one-time token for the first administrator; null where there is one. */
  async bootstrap(): Promise<string | null> {
    if (await this.#store.hasRole('admin')) return null;
    const token = `pcb_${randomBytes(24).toString('base64url')}`;
    const now = this.#options.clock.now();
    await this.#store.addBootstrap(this.#guard.digest('bootstrap', token), now, now + BOOTSTRAP_MS);
    return token;
  }

  /** Rejects with WEAK_PASSWORD, UNPROCESSABLE for an unknown role or hash, NAME_TAKEN. */
  async create(wanted: AdministeredAccount): Promise<AccountRecord> {
    const { role, is_active = true, password, password_hash, ...facts } = wanted;
    const now = this.#options.clock.now();
    this.#requireRole(role);
    const hash = password_hash ?? (await this.#hash(password ?? randomPassword(), facts.username, facts.email));
    if (!isPasswordHash(hash)) {
      throw new GatewayError('UNPROCESSABLE', {
        message: 'password_hash: argon2id only; others have to choose a new one',
      });
    }
    const record: AccountRecord = {
      ...facts,
      ...{ id: makeId('usr_', now), tenant_id: this.#options.config.tenant, role, is_active, password_hash: hash },
      ...{ is_verified: false, created_at: now, updated_at: now, last_login_at: null },
    };
    if (await this.#store.insert(record)) return record;
    throw new GatewayError('NAME_TAKEN', {
      message: 'The username, one that looks like it, or the email address is taken',
    });
  }

  #requireRole(role: string): void {
    if (!this.#roles.has(role)) {
      const message = `There is no role "${role}"; there are ${[...this.#roles.keys()].join(', ')}`;
      throw new GatewayError('UNPROCESSABLE', { message });
    }
  }

  async #hash(password: string, username: string, email: string): Promise<string> {
    requireGoodPassword(password, this.#options.config.password.rule, personalWords(username, email));
    return this.#passwords.hash(password);
  }

  find(username: string): Promise<AccountRecord | null> {
    return this.#store.findByName(username);
  }

  /** `issuer`: of the provider where somebody logs in instead of here. */
  async *list(): AsyncGenerator<AccountRecord & { readonly issuer: string | null }> {
    for (let after: string | undefined; ; ) {
      const page = await this.#store.list({ limit: 1000, ...(after === undefined ? {} : { after }) });
      const issuers = await this.#identities.issuersOf(page.map(({ id }) => id));
      for (const account of page) yield { ...account, issuer: issuers.get(account.id) ?? null };
      after = page.at(-1)?.id;
      if (page.length < 1000) return;
    }
  }

  /** Who is not active has no sessions and no keys; being active again brings none of them back. */
  async setActive(account: AccountRecord, is_active: boolean): Promise<void> {
    const now = this.#options.clock.now();
    await this.#store.update(account.id, { is_active }, now);
    if (is_active) return;
    const ended = await this.#sessions.revokeAll(account.id, null, now);
    await this.#revokeKeys(account, () => true);
    await this.#told(ended);
  }

  /** Another role. Keys that go beyond it are withdrawn, and sessions of browsers end. */
  async setRole(account: AccountRecord, role: string): Promise<void> {
    this.#requireRole(role);
    const now = this.#options.clock.now();
    await this.#store.update(account.id, { role }, now);
    const ended = await this.#sessions.revokeCookies(account.id, now);
    await this.#revokeKeys(account, exceeds(this.#roles, role));
    await this.#told(ended);
  }

  /** A new password by somebody else's hand ends all sessions. Whoever logs in elsewhere gets none: CONFLICT. */
  async setPassword(account: AccountRecord, password: string): Promise<void> {
    const issuer = (await this.#identities.issuersOf([account.id])).get(account.id);
    if (issuer !== undefined)
      throw new GatewayError('CONFLICT', {
        message: `The owner of this account logs in at ${issuer}: unlink it first`,
      });
    const hash = await this.#hash(password, account.username, account.email);
    const now = this.#options.clock.now();
    const { history } = this.#options.config.password;
    if (!(await this.#store.replacePassword(account.id, account.password_hash, hash, now, history))) {
      throw new GatewayError('CONFLICT', { message: 'The account or its password was changed meanwhile: try again' });
    }
    await this.#told(await this.#sessions.revokeAll(account.id, null, now));
  }

  /** Lets somebody of another provider log in as this account. Rejects with CONFLICT where that is another account's login. */
  async link(account: AccountRecord, identity: ForeignIdentity): Promise<void> {
    if (await this.#identities.link(account.id, identity, this.#options.clock.now())) return;
    throw new GatewayError('CONFLICT', {
      message: 'This subject logs in as an account already, or the account is gone',
    });
  }

  /** Nobody of this issuer logs in as this account any more; all its sessions end. False where nobody did. */
  async unlink(account: AccountRecord, issuer: string): Promise<boolean> {
    const now = this.#options.clock.now();
    const had = await this.#identities.unlink(account.id, issuer);
    // Logins that are under way end without a session as well.
    await this.#store.update(account.id, {}, now);
    await this.#told(await this.#sessions.revokeAll(account.id, null, now));
    return had;
  }

  /** For somebody whose phone and recovery codes are gone. All sessions end. False where there was no second factor. */
  async resetFactor(account: AccountRecord): Promise<boolean> {
    const now = this.#options.clock.now();
    const had = await this.#factors.remove(account.id);
    await this.#store.clearLocks(await this.#factorLocks(account.id));
    // Logins that are under way end without a session as well.
    await this.#store.update(account.id, {}, now);
    await this.#told(await this.#sessions.revokeAll(account.id, null, now));
    return had;
  }

  /** Lifts every lock of the name, from wherever it was tried. */
  async unlock(username: string): Promise<void> {
    const name = this.#guard.nameDigest(username);
    const account = await this.#store.findByName(username);
    const sources = account === null ? [] : await this.#sessions.sources(account.id);
    const own =
      account === null ? [] : [this.#guard.digest('change', account.id), ...(await this.#factorLocks(account.id))];
    await this.#store.clearLocks([name, ...sources.map((source) => this.#guard.digest(name, source)), ...own]);
  }

  async #factorLocks(id: string): Promise<string[]> {
    return [null, ...(await this.#sessions.sources(id))].map((source) => factorLock(this.#guard, id, source));
  }

  async delete(account: AccountRecord): Promise<void> {
    const now = this.#options.clock.now();
    // From here on nobody logs in any more, nor makes keys.
    await this.#store.update(account.id, { is_active: false }, now);
    const ended = await this.#sessions.revokeAll(account.id, null, now);
    await this.#revokeKeys(account, () => true);
    await this.#store.delete(account.id);
    await this.#told(ended);
  }

  /** Last of all: in the database everything is done when this fails. */
  async #told(ended: readonly EndedSession[]): Promise<void> {
    const tokens = ended.flatMap((session) => session.tokens);
    if (tokens.length > 0) await this.#options.withdraw?.(tokens, this.#options.clock.now());
  }

  #revokeKeys({ id, tenant_id }: AccountRecord, isOver: IsOver): Promise<number> {
    const { clock } = this.#options;
    return revokeKeysOf({ keys: this.#keys, clock, shared: null }, tenant_id, id, isOver);
  }
}

/** 144 bits, for accounts whose owner is told a password that nobody chose. */
export function randomPassword(): string {
  return randomBytes(18).toString('base64url');
}
