import { expect, test } from 'vitest';
import { approverOff } from '../../../src/composition/approver-standing.ts';
import { Switchboard } from '../../../src/pipeline/switchboard.ts';
import { type AccountRecord, createAccountStore } from '../../../src/stores/accounts.ts';
import { createApiKeyStore } from '../../../src/stores/api-keys.ts';
import { openDatabase } from '../../../src/stores/database.ts';
import { apiKeyRecord } from '../../contract/api-keys.ts';
import { scenarioConfig } from '../../helpers/gateway.ts';
import { temporaryDirectory } from '../../helpers/processes.ts';
import { verifies } from '../../helpers/verifies.ts';

const MIA: AccountRecord = {
  ...{ id: 'usr_mia', tenant_id: 'default', username: 'mia', email: 'mia@example.com', role: 'admin' },
  ...{ password_hash: '$argon2id$', full_name: null, is_active: true, is_verified: false },
  ...{ created_at: 1000, updated_at: 1000, last_login_at: null },
};

test('whose account is disabled or gone or whose key is revoked since has said yes to nothing, nor has who is switched off', async () => {
  verifies('SF-32');
  using home = temporaryDirectory();
  await using database = await openDatabase('sqlite:./portcullis.db', { baseDir: home.path });
  const store = createAccountStore(database);
  await store.insert(MIA);
  const keys = createApiKeyStore(database);
  const switches = new Switchboard();
  const identity = { people: { kind: 'local' }, keys: { kind: 'api-key' } } as const;
  const isOff = approverOff(scenarioConfig({ identity, accounts: { enabled: true } }, home.path), {
    switches,
    accounts: { store },
    keys,
  });
  const here = { tenant_id: 'default' };
  const mia = { id: 'usr_mia', type: 'user', username: 'mia', key_id: null, provider: 'people' } as const;
  const elsewhere = { ...mia, id: 'subject-7', provider: 'corp' };
  const robot = { ...mia, id: 'robot', key_id: 'k1', provider: 'keys' };
  expect(await isOff(here, robot)).toBe(true);
  await keys.insert(apiKeyRecord({ id: 'k1', tenant_id: 'default', expires_at: 1 }));
  expect(await isOff(here, robot)).toBe(false);
  await keys.revoke('default', 'k1', 2000);
  expect(await isOff(here, robot)).toBe(true);
  expect(await isOff(here, mia)).toBe(false);
  expect(await isOff(here, elsewhere)).toBe(false);
  expect(await isOff({ tenant_id: 'rival' }, mia)).toBe(true);
  await store.update('usr_mia', { is_active: false }, 2000);
  expect(await isOff(here, mia)).toBe(true);
  await store.update('usr_mia', { is_active: true }, 3000);
  expect(await isOff(here, mia)).toBe(false);
  await store.delete('usr_mia');
  expect(await isOff(here, mia)).toBe(true);
  const off = { id: 's1', kind: 'principal', name: 'subject-7', within: 'default', reason: '' } as const;
  switches.replace([{ ...off, is_public: false, until: null, created_at: 1, created_by: 'test' }]);
  expect(await isOff(here, elsewhere)).toBe(true);
});
