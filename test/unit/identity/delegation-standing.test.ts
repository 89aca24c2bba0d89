import { expect, test } from 'vitest';
import { makePrincipal } from '../../../src/core/principal.ts';
import { createStanding } from '../../../src/identity/delegation-standing.ts';
import { createMemoryShared } from '../../../src/stores/memory-shared.ts';

const NOW = 1_800_000_000_000;
const login = { account_id: 'usr_a', role: 'user', is_active: true, expires_at: NOW + 1000, revoked_at: null };

async function narrowed(mfa_at: number | null, required = false) {
  await using shared = createMemoryShared();
  const standing = createStanding({
    ...{ shared, issuers: new Map(), keys: { find: async () => null, externalVersion: () => null } },
    accounts: {
      providers: new Set(['people']),
      session: async () => ({ ...login, mfa_at }),
      permissionsOf: () => ['tasks.read'],
      needsSecondFactor: () => required,
    },
  });
  const facts = { id: 'usr_a', tenant_id: 't', type: 'user', roles: ['user'], permissions: ['tasks.read'] } as const;
  const lender = makePrincipal({ ...facts, auth: { mfa_verified: true, mfa_at: NOW / 1000 } }, 'people', 'bearer');
  const shown = { provider: 'people', key_id: null, token_id: null, session_id: 'ses_a' };
  return standing.narrow(lender, shown, NOW);
}

test('what an account lends counts as proved by a second factor for as long as its login does', async () => {
  expect(await narrowed(NOW)).toMatchObject({ roles: ['user'], auth: { mfa_verified: true, mfa_at: NOW / 1000 } });
  expect(await narrowed(null)).toMatchObject({ roles: ['user'], auth: { mfa_verified: false, mfa_at: null } });
});

test('an account that has to show a second factor first lends nothing', async () => {
  expect(await narrowed(null, true)).toBeNull();
  expect(await narrowed(NOW, true)).not.toBeNull();
});
