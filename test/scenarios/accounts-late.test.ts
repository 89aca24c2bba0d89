/**
 * What somebody tries on a gateway that has not yet seen that another one took everything from them: for as long as a
 * checked credential is remembered nothing comes of it that lasts. The clock stands still, so that the gateway never looks.
 */
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { Passwords } from '../../src/accounts/passwords.ts';
import { AccountAdministration } from '../../src/composition/account-administration.ts';
import { createApiKeyStore } from '../../src/stores/api-keys.ts';
import { type Database, openDatabase } from '../../src/stores/database.ts';
import { loadPepper } from '../../src/stores/pepper.ts';
import { ACCOUNTS, type Auth, authClient, bearer, IDENTITY, PASSWORD, steppedClock } from '../helpers/accounts.ts';
import { countAttacks } from '../helpers/attacks.ts';
import { scenarioConfig, startGateway, type TestGateway } from '../helpers/gateway.ts';
import { verifies } from '../helpers/verifies.ts';

const config = { identity: IDENTITY, accounts: ACCOUNTS };
const clock = steppedClock(Date.now());
let gateway: TestGateway;
let database: Database;
let auth: Auth;
/** What another process does. */
let elsewhere: AccountAdministration;

beforeAll(async () => {
  gateway = await startGateway(config, { clock });
  auth = authClient(gateway.url);
  const { stores, accounts } = scenarioConfig(config, gateway.home);
  database = await openDatabase(stores.database, { baseDir: gateway.home });
  const pepper = loadPepper(stores.database, gateway.home, stores.pepper);
  elsewhere = new AccountAdministration({ config: accounts, database, pepper, clock });
});
afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await database?.[Symbol.asyncDispose]();
});

async function person(username: string, role = 'user') {
  const words = { username, password: PASSWORD };
  const account = await elsewhere.create({ ...words, email: `${username}@example.com`, full_name: null, role });
  const { body } = await auth('POST', '/auth/login', words);
  const headers = bearer(body.access_token);
  const wanted = { name: 'maker', permissions: role === 'admin' ? ['*'] : ['tasks.read'] };
  const { body: key } = await auth('POST', '/auth/api-keys', wanted, headers);
  const maker = { 'x-api-key': key.api_key as string };
  // Both are remembered from here on.
  for (const by of [headers, maker]) expect((await auth('GET', '/auth/me', undefined, by)).status).toBe(200);
  return { account, headers, maker, key_id: key.key_id as string };
}

afterEach(() => void vi.restoreAllMocks());

const liveKeys = async (owner_id: string) =>
  (await createApiKeyStore(database).list('default', { owner_id })).filter(({ revoked_at }) => revoked_at === null);

const endings = [
  ['disabled', (one) => elsewhere.setActive(one, false)],
  ['deleted', (one) => elsewhere.delete(one)],
  ['of a lower role', (one) => elsewhere.setRole(one, 'viewer')],
] as const satisfies readonly (readonly [string, (one: Awaited<ReturnType<typeof person>>['account']) => unknown])[];
countAttacks('accounts', endings.length * 5);

test.each(endings)('an account that is %s elsewhere makes nothing that lasts', async (how, end) => {
  verifies('VF-09', 'VF-17');
  const { account, headers, maker, key_id } = await person(`chief-${how.replaceAll(' ', '-')}`, 'admin');
  await end(account);
  const statuses = [
    await auth('POST', '/auth/api-keys', { name: 'late', permissions: ['*'] }, headers),
    await auth('POST', '/auth/api-keys', { name: 'late', permissions: ['*'] }, maker),
    await auth('POST', `/auth/api-keys/${key_id}/rotate`, undefined, headers),
    await auth(
      'POST',
      '/auth/register',
      {
        username: `back-${account.id.slice(-8)}`,
        email: `${account.id}@example.com`,
        password: PASSWORD,
        role: 'admin',
      },
      headers,
    ),
  ].map(({ status }) => status);
  expect(statuses.filter((status) => status < 300)).toEqual([]);
  expect(await liveKeys(account.id)).toEqual([]);
});

test.each(endings)('who is %s while a password is hashed leaves no account behind', async (how, end) => {
  verifies('VF-09', 'VF-17');
  const name = how.replaceAll(' ', '-');
  const { account, headers } = await person(`boss-${name}`, 'admin');
  const hash = Passwords.prototype.hash;
  vi.spyOn(Passwords.prototype, 'hash').mockImplementationOnce(async function (this: Passwords, text) {
    await end(account);
    return hash.call(this, text);
  });
  const wanted = { username: `heir-${name}`, email: `heir-${name}@example.com`, password: PASSWORD, role: 'admin' };
  expect((await auth('POST', '/auth/register', wanted, headers)).status).toBe(401);
  expect(await elsewhere.find(wanted.username)).toBeNull();
});
