import { expect, test } from 'vitest';
import { Accounts } from '../../../src/accounts/accounts.ts';
import { Guard } from '../../../src/accounts/guard.ts';
import { Passwords } from '../../../src/accounts/passwords.ts';
import { rolesOf } from '../../../src/accounts/roles.ts';
import { SecondFactor } from '../../../src/accounts/second-factor.ts';
import { Sessions } from '../../../src/accounts/sessions.ts';
import { AccountAdministration } from '../../../src/composition/account-administration.ts';
import { Secret } from '../../../src/core/secret.ts';
import { AccountTokens } from '../../../src/identity/account-tokens.ts';
import { Seal } from '../../../src/identity/oauth/seal.ts';
import { secretRing } from '../../../src/identity/signing-ring.ts';
import { createAccountStore } from '../../../src/stores/accounts.ts';
import { openDatabase } from '../../../src/stores/database.ts';
import { createMemoryShared } from '../../../src/stores/memory-shared.ts';
import { createSecondFactorStore } from '../../../src/stores/second-factors.ts';
import { createSessionStore, type SessionStore } from '../../../src/stores/sessions.ts';
import { ACCOUNTS, IDENTITY, PASSWORD } from '../../helpers/accounts.ts';
import { scenarioConfig } from '../../helpers/gateway.ts';
import { temporaryDirectory } from '../../helpers/processes.ts';

/** Accounts over a database; `inserting` is asked before a session is written. */
async function startAccounts(inserting: (id: string, administration: AccountAdministration) => Promise<void>) {
  const directory = temporaryDirectory();
  const database = await openDatabase('sqlite:./a.db', { baseDir: directory.path });
  const { accounts: config } = scenarioConfig({ identity: IDENTITY, accounts: ACCOUNTS }, directory.path);
  const pepper = new Secret('p'.repeat(43));
  const origin = { request_id: null, source_ip: '192.0.2.1', user_agent: null, now: 1_800_000_000_000 };
  const clock = { now: () => origin.now };
  const administration = new AccountAdministration({ config, database, pepper, clock });
  const stored = createSessionStore(database);
  const sessionStore: SessionStore = {
    ...stored,
    async insert(record) {
      await inserting(record.id, administration);
      await stored.insert(record);
    },
  };
  const store = createAccountStore(database);
  const shared = createMemoryShared();
  const { limits, lockout, tenant } = config;
  const guard = new Guard({ shared, store, pepper, limits, lockout });
  const reports = { event() {}, suspicious() {}, refreshed() {} };
  const ring = secretRing(new Secret('s'.repeat(43)));
  const tokens = new AccountTokens({ ring, pepper, issuer: 'urn:a', audience: 'urn:a', accessSeconds: 900 });
  const told = { revokeToken: async () => {}, announce: async () => {} };
  const lives = { lifeMs: 3_600_000, browser: { idleMs: 600_000, lifeMs: 3_600_000 }, factorRoles: new Set<string>() };
  const sessions = new Sessions({ store: sessionStore, tokens, guard, reports, clock, tenant, ...lives, ...told });
  const seal = new Seal(pepper, 'second factor');
  const factor = new SecondFactor({ store: createSecondFactorStore(database), guard, seal, issuer: 'Test' });
  const passwords = new Passwords(config.password);
  const roles = rolesOf(config);
  const accounts = new Accounts({ config, store, sessionStore, sessions, passwords, guard, factor, roles, reports });
  return {
    ...{ accounts, administration, origin, stored },
    async [Symbol.asyncDispose]() {
      await shared[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
      directory[Symbol.dispose]();
    },
  };
}

const facts = { username: 'alice', email: 'alice@example.com', full_name: null, role: 'user' };

test('a login whose password is replaced while it runs leaves no session', async () => {
  let began = '';
  await using started = await startAccounts(async (id, administration) => {
    if (began === '') await administration.setPassword(account, 'Another-Harbour-Lamp-43');
    began = id;
  });
  const { accounts, administration, origin, stored } = started;
  const account = await administration.create({ ...facts, password: PASSWORD });
  origin.now += 1000;
  await expect(accounts.login({ username: 'alice', password: PASSWORD }, origin)).rejects.toMatchObject({
    code: 'INVALID_CREDENTIALS',
  });
  expect((await stored.standing(began))?.revoked_at).toBe(origin.now);
  const result = await accounts.login({ username: 'alice', password: 'Another-Harbour-Lamp-43' }, origin);
  expect(result).toMatchObject({ kind: 'logged_in', account: { username: 'alice' }, mfa_at: null, must_enrol: false });
});

test('whoever is switched off at the moment an account is written leaves none behind', async () => {
  await using started = await startAccounts(async () => {});
  const { accounts, administration, origin } = started;
  const role = 'admin';
  const wanted = { ...facts, password: PASSWORD };
  const standing = [true, true, false];
  const requireStanding = async () => {
    if (standing.shift() !== true) throw new Error('no administrator any more');
  };
  await expect(accounts.register(wanted, { role, requireStanding }, origin)).rejects.toThrow('any more');
  expect(await administration.find('alice')).toBeNull();
});
