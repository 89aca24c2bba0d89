/** One refresh token at two gateways over one database, which judge by when a request came in and when the session went on. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Origin } from '../../../src/accounts/account.ts';
import { Guard } from '../../../src/accounts/guard.ts';
import { Sessions } from '../../../src/accounts/sessions.ts';
import { AccountAdministration } from '../../../src/composition/account-administration.ts';
import { Secret } from '../../../src/core/secret.ts';
import { AccountTokens } from '../../../src/identity/account-tokens.ts';
import { secretRing } from '../../../src/identity/signing-ring.ts';
import { createAccountStore } from '../../../src/stores/accounts.ts';
import { type Database, openDatabase } from '../../../src/stores/database.ts';
import { createMemoryShared } from '../../../src/stores/memory-shared.ts';
import { createSessionStore, type SessionStore } from '../../../src/stores/sessions.ts';
import { ACCOUNTS, IDENTITY, PASSWORD } from '../../helpers/accounts.ts';
import { scenarioConfig } from '../../helpers/gateway.ts';
import { temporaryDirectory } from '../../helpers/processes.ts';

const directory = temporaryDirectory();
const { accounts: config } = scenarioConfig({ identity: IDENTITY, accounts: ACCOUNTS }, directory.path);
const pepper = new Secret('p'.repeat(43));
const tokens = new AccountTokens({
  ...{ ring: secretRing(new Secret('s'.repeat(43))), pepper, issuer: 'urn:a', audience: 'urn:a', accessSeconds: 900 },
});
let database: Database;
let time: number;
let told: string[];
let withdrawn: string[];

beforeEach(async () => {
  database = await openDatabase('sqlite::memory:', { baseDir: directory.path });
  time = 1_800_000_000_000;
  told = [];
  withdrawn = [];
});
afterEach(() => database[Symbol.asyncDispose]());

const clock = { now: () => time };
const arrived = (): Origin => ({ request_id: null, source_ip: '192.0.2.1', user_agent: null, now: time });

/** One gateway; `rotating` happens before its session goes on. */
function gateway(rotating: () => Promise<unknown> = async () => {}): Sessions {
  const stored = createSessionStore(database);
  const store: SessionStore = {
    ...stored,
    async rotate(...all) {
      await rotating();
      return stored.rotate(...all);
    },
  };
  const { limits, lockout, tenant } = config;
  const guard = new Guard({
    shared: createMemoryShared(),
    store: createAccountStore(database),
    pepper,
    limits,
    lockout,
  });
  const reports = {
    ...{ event() {}, suspicious: (what: string) => told.push(what) },
    refreshed: (what: string) => told.push(what),
  };
  return new Sessions({
    ...{ store, tokens, guard, reports, clock, tenant, factorRoles: new Set<string>() },
    ...{ lifeMs: 3_600_000, browser: { idleMs: 600_000, lifeMs: 3_600_000 } },
    revokeToken: async (id) => void withdrawn.push(id),
    announce: async () => {},
  });
}

async function begin() {
  const administration = new AccountAdministration({ config, database, pepper, clock });
  const facts = { username: 'alice', email: 'alice@example.com', full_name: null, role: 'user' };
  const account = await administration.create({ ...facts, password: PASSWORD });
  const { pair, session_id } = await gateway().begin(account, 'here', null, time);
  return { token: pair.refresh_token, session_id, account };
}

const CONFLICT = { code: 'CONFLICT' };
const INVALID = { code: 'INVALID_CREDENTIALS' };

test('both get the same new refresh token when both came before the session went on, in whatever order', async () => {
  const { token, session_id, account } = await begin();
  time += 1000;
  const first = arrived();
  time += 5;
  const second = arrived();
  const slow = gateway(async () => {
    // The one that came later is done first.
    time += 5;
    pairs.push(await gateway().refresh(token, second));
  });
  const pairs = [];
  pairs.push(await slow.refresh(token, first));
  const [one, other] = pairs;
  expect(one?.refresh_token).toBe(other?.refresh_token);
  expect(one?.access_token).not.toBe(other?.access_token);
  time += 1000;
  expect(await gateway().refresh(one?.refresh_token ?? '', arrived())).toMatchObject({ username: 'alice' });
  expect(told).toEqual(['ok', 'ok', 'ok']);
  // Each access token is known, so that each ends with the session.
  await gateway().end(session_id, account.id, arrived(), 'logout');
  expect(new Set(withdrawn).size).toBe(4);
});

test('somebody who comes after the session went on ends it', async () => {
  const { token } = await begin();
  time += 1000;
  const { refresh_token } = await gateway().refresh(token, arrived());
  await expect(gateway().refresh(token, arrived())).rejects.toMatchObject(INVALID);
  expect(told).toEqual(['ok', 'reused', 'refresh_token_reused']);
  await expect(gateway().refresh(refresh_token, arrived())).rejects.toMatchObject(INVALID);
});

test('nothing is given out once the new token was used, or the session ended', async () => {
  const { token, session_id, account } = await begin();
  const early = arrived();
  time += 1000;
  const { refresh_token } = await gateway().refresh(token, arrived());
  const { refresh_token: newest } = await gateway().refresh(refresh_token, { ...arrived(), now: early.now });
  time += 1;
  await expect(gateway().refresh(token, early)).rejects.toMatchObject(CONFLICT);
  expect(await gateway().refresh(newest, arrived())).toMatchObject({ username: 'alice' });
  await gateway().end(session_id, account.id, arrived(), 'logout');
  await expect(gateway().refresh(newest, early)).rejects.toMatchObject(INVALID);
});
