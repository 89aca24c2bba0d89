/** What every store of API keys must do: ours over each database, and a user's own. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ApiKeyRecord, type ApiKeyStore, EVERY_TENANT } from '../../src/stores/api-keys.ts';

export interface ApiKeysUnderTest extends AsyncDisposable {
  readonly store: ApiKeyStore;
}

export function apiKeyRecord(changes: Partial<ApiKeyRecord> = {}): ApiKeyRecord {
  return {
    id: 'key1',
    tenant_id: 'acme',
    owner_id: 'alice',
    name: 'ci',
    prefix: 'pc',
    environment: 'dev',
    hash: 'ab'.repeat(32),
    facts: {
      type: 'service',
      username: null,
      email: null,
      roles: ['developer', 'ä"\\'],
      teams: [],
      groups: [],
      permissions: ['tasks.read'],
      scopes: [],
      tenure_months: 7,
      mfa_verified: true,
      device_compliant: false,
      metadata: { a: 'b' },
      allowed_ips: ['10.0.0.0/8'],
      rate_limit_per_hour: 1000,
    },
    created_at: 1_900_000_000_000,
    expires_at: null,
    revoked_at: null,
    last_used_at: null,
    replaced_by: null,
    ...changes,
  };
}

export function apiKeysContract(name: string, open: () => Promise<ApiKeysUnderTest>): void {
  describe(`${name} keeps the contract of API key stores`, () => {
    let opened: ApiKeysUnderTest;
    let store: ApiKeyStore;
    beforeEach(async () => {
      opened = await open();
      store = opened.store;
    });
    afterEach(() => opened[Symbol.asyncDispose]());

    test('a record comes back as it was stored', async () => {
      const record = apiKeyRecord({ expires_at: 1_999_999_999_999 });
      await store.insert(record);
      expect(await store.find('key1')).toEqual(record);
    });

    test('an unknown id is null, also one that looks like SQL', async () => {
      await store.insert(apiKeyRecord());
      expect(await store.find('key2')).toBeNull();
      expect(await store.find("' OR '1'='1")).toBeNull();
      expect(await store.find('KEY1')).toBeNull();
    });

    test('an id is taken once', async () => {
      await store.insert(apiKeyRecord());
      await expect(store.insert(apiKeyRecord({ name: 'other' }))).rejects.toThrow();
      expect((await store.find('key1'))?.name).toBe('ci');
    });

    test('a list holds the keys of its tenant only, in pages by id', async () => {
      for (const id of ['c', 'a', 'b']) await store.insert(apiKeyRecord({ id }));
      await store.insert(apiKeyRecord({ id: 'd', tenant_id: 'globex' }));
      const ids = async (...query: Parameters<ApiKeyStore['list']>) =>
        (await store.list(...query)).map((key) => key.id);
      expect(await ids('acme')).toEqual(['a', 'b', 'c']);
      expect(await ids('acme', { limit: 2 })).toEqual(['a', 'b']);
      expect(await ids('acme', { limit: 2, after: 'b' })).toEqual(['c']);
      expect(await ids('nobody')).toEqual([]);
      expect(await ids(EVERY_TENANT)).toEqual(['a', 'b', 'c', 'd']);
    });

    test('a list can be narrowed to an owner', async () => {
      await store.insert(apiKeyRecord());
      await store.insert(apiKeyRecord({ id: 'key2', owner_id: 'bob' }));
      expect((await store.list('acme', { owner_id: 'bob' })).map((key) => key.id)).toEqual(['key2']);
    });

    test('a revocation keeps its first time and stays in its tenant', async () => {
      await store.insert(apiKeyRecord());
      expect(await store.revoke('globex', 'key1', 5)).toBe(false);
      expect((await store.find('key1'))?.revoked_at).toBeNull();
      expect(await store.revoke('acme', 'key1', 10)).toBe(true);
      expect(await store.revoke('acme', 'key1', 20)).toBe(true);
      expect((await store.find('key1'))?.revoked_at).toBe(10);
      expect(await store.revoke('acme', 'nothing', 20)).toBe(false);
    });

    test('a rotation stores the successor and ends the old key at the end of the grace time', async () => {
      await store.insert(apiKeyRecord());
      expect(await store.rotate('acme', 'key1', apiKeyRecord({ id: 'key2' }), 500)).toBe(true);
      expect(await store.find('key1')).toMatchObject({ expires_at: 500, replaced_by: 'key2', revoked_at: null });
      expect(await store.find('key2')).toEqual(apiKeyRecord({ id: 'key2' }));
    });

    test('a rotation never makes the old key live longer', async () => {
      await store.insert(apiKeyRecord({ expires_at: 100 }));
      await store.rotate('acme', 'key1', apiKeyRecord({ id: 'key2' }), 500);
      expect((await store.find('key1'))?.expires_at).toBe(100);
    });

    test('a key of another tenant, a revoked one and one that was rotated before cannot be rotated', async () => {
      await store.insert(apiKeyRecord());
      expect(await store.rotate('globex', 'key1', apiKeyRecord({ id: 'n1' }), 500)).toBe(false);
      expect(await store.rotate('acme', 'key1', apiKeyRecord({ id: 'n2' }), 500)).toBe(true);
      expect(await store.rotate('acme', 'key1', apiKeyRecord({ id: 'n3' }), 500)).toBe(false);
      await store.revoke('acme', 'n2', 1);
      expect(await store.rotate('acme', 'n2', apiKeyRecord({ id: 'n4' }), 500)).toBe(false);
      expect((await store.list(EVERY_TENANT)).map((key) => key.id)).toEqual(['key1', 'n2']);
    });

    test('of two rotations at once one wins', async () => {
      await store.insert(apiKeyRecord());
      const both = ['x', 'y'].map((id) => store.rotate('acme', 'key1', apiKeyRecord({ id }), 500));
      expect((await Promise.all(both)).toSorted()).toEqual([false, true]);
      expect(await store.list('acme')).toHaveLength(2);
    });

    test('a failed rotation leaves nothing behind', async () => {
      await store.insert(apiKeyRecord());
      await store.insert(apiKeyRecord({ id: 'key2' }));
      await expect(store.rotate('acme', 'key1', apiKeyRecord({ id: 'key2' }), 500)).rejects.toThrow();
      expect(await store.find('key1')).toEqual(apiKeyRecord());
    });

    test('uses are written in one go, never backwards, and unknown ids are ignored', async () => {
      await store.insert(apiKeyRecord());
      await store.insert(apiKeyRecord({ id: 'key2' }));
      await store.touch(
        new Map([
          ['key1', 100],
          ['key2', 200],
          ['gone', 300],
        ]),
      );
      await store.touch(
        new Map([
          ['key1', 50],
          ['key2', 250],
        ]),
      );
      await store.touch(new Map());
      expect((await store.find('key1'))?.last_used_at).toBe(100);
      expect((await store.find('key2'))?.last_used_at).toBe(250);
    });
  });
}
