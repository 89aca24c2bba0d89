import { sql } from 'kysely';
import { describe, expect, test } from 'vitest';
import { EVERY_TENANT } from '../../../src/stores/api-keys.ts';
import { createApprovalStore } from '../../../src/stores/approvals.ts';
import { openDatabase } from '../../../src/stores/database.ts';
import { verifies } from '../../helpers/verifies.ts';
import { approvalRecord, NOW } from '../approvals/records.ts';

const open = () => openDatabase('sqlite::memory:', { baseDir: '.' });
const pending = (id: string, changes: Parameters<typeof approvalRecord>[0] = {}) =>
  approvalRecord({
    id,
    open_key: `key-${id}`,
    state: 'pending',
    decided_at: null,
    decided_by: null,
    token_id: null,
    ...changes,
  });
const BOB = { id: 'bob', type: 'user', username: null, key_id: null } as const;
const yes = { state: 'approved', at: NOW + 1, by: BOB, reason: null, token_id: 't' } as const;

describe('stored approvals', () => {
  test('come back as they were', async () => {
    await using database = await open();
    const store = createApprovalStore(database);
    const record = approvalRecord();
    expect(await store.insert(record, 10)).toBe('inserted');
    expect(await store.find('default', 'apr_1')).toEqual(record);
    expect(await store.findOpen('default', 'open-1')).toEqual(record);
  });

  test('are of one tenant', async () => {
    verifies('SF-32');
    await using database = await open();
    const store = createApprovalStore(database);
    await store.insert(pending('a'), 10);
    expect(await store.find('rival', 'a')).toBeNull();
    expect(await store.findOpen('rival', 'key-a')).toBeNull();
    expect(await store.list('rival')).toEqual([]);
    expect(await store.decide('rival', 'a', yes)).toBe(false);
    expect(await store.expire('rival', NOW + 10_000_000)).toEqual([]);
    expect(await store.countPending('rival', NOW)).toBe(0);
    await store.decide('default', 'a', yes);
    expect(await store.use('rival', 'a', 't', NOW + 2)).toBe(false);
  });

  test('are asked for once, and by nobody too often', async () => {
    await using database = await open();
    const store = createApprovalStore(database);
    expect(await store.insert(pending('a'), 2)).toBe('inserted');
    expect(await store.insert(pending('b', { open_key: 'key-a' }), 2)).toBe('exists');
    expect(await store.insert(pending('c'), 2)).toBe('inserted');
    expect(await store.insert(pending('d'), 2)).toBe('too-many');
    const { requester } = pending('e');
    expect(await store.insert(pending('e', { requester: { ...requester, id: 'another' } }), 2)).toBe('inserted');
    // Those whose time is over do not count.
    const later = { created_at: NOW + 900_000, expires_at: NOW + 1_800_000 };
    expect(await store.insert(pending('f', later), 2)).toBe('inserted');
  });

  test('are decided once and used once, in time', async () => {
    verifies('SF-32');
    await using database = await open();
    const store = createApprovalStore(database);
    await store.insert(pending('a'), 10);
    await store.insert(pending('b'), 10);
    const verdicts = await Promise.all(Array.from({ length: 5 }, () => store.decide('default', 'a', yes)));
    expect(verdicts.filter(Boolean)).toHaveLength(1);
    expect(await store.decide('default', 'b', { ...yes, at: NOW + 900_000 })).toBe(false);
    expect(await store.use('default', 'a', 'another', NOW + 2)).toBe(false);
    expect(await store.use('default', 'b', 't', NOW + 2)).toBe(false);
    const uses = await Promise.all(Array.from({ length: 20 }, () => store.use('default', 'a', 't', NOW + 2)));
    expect(uses.filter(Boolean)).toHaveLength(1);
    expect(await store.find('default', 'a')).toMatchObject({ state: 'used', used_at: NOW + 2, open_key: null });
  });

  test('end by time, each told once', async () => {
    verifies('TW-07');
    await using database = await open();
    const store = createApprovalStore(database);
    for (const id of ['a', 'b', 'c']) await store.insert(pending(id), 10);
    await store.decide('default', 'b', yes);
    await store.decide('default', 'c', { ...yes, state: 'rejected', token_id: null, reason: 'no' });
    expect(await store.expire(EVERY_TENANT, NOW + 899_999)).toEqual([]);
    const sweeps = await Promise.all([1, 2, 3].map(() => store.expire(EVERY_TENANT, NOW + 900_000)));
    expect(
      sweeps
        .flat()
        .map(({ id, state }) => `${id} ${state}`)
        .sort(),
    ).toEqual(['a expired', 'b expired']);
    expect(await store.find('default', 'c')).toMatchObject({ state: 'rejected', open_key: null });
    expect(await store.use('default', 'b', 't', NOW + 2)).toBe(false);
    expect(await store.purge(EVERY_TENANT, NOW + 900_000)).toBe(0);
    expect(await store.purge(EVERY_TENANT, NOW + 900_001)).toBe(3);
  });

  test('end in one statement, however many are due', async () => {
    const queries: string[] = [];
    await using database = await openDatabase('sqlite::memory:', {
      baseDir: '.',
      onQuery: (operation) => queries.push(operation),
    });
    const store = createApprovalStore(database);
    for (let at = 0; at < 510; at++) await store.insert(pending(`a${at}`), 1000);
    queries.length = 0;
    expect(await store.expire(EVERY_TENANT, NOW + 900_000)).toHaveLength(500);
    expect(queries).toEqual(['update']);
    expect(await store.expire('default', NOW + 900_000)).toHaveLength(10);
  });

  test('are listed newest first, page by page', async () => {
    await using database = await open();
    const store = createApprovalStore(database);
    for (const id of ['a', 'b', 'c', 'd']) await store.insert(pending(id), 10);
    await store.decide('default', 'b', yes);
    const ids = async (...page: Parameters<typeof store.list>) => (await store.list(...page)).map(({ id }) => id);
    expect(await ids('default', { limit: 2 })).toEqual(['d', 'c']);
    expect(await ids('default', { limit: 2, before: 'c' })).toEqual(['b', 'a']);
    expect(await ids('default', { state: 'pending' })).toEqual(['d', 'c', 'a']);
    expect(await ids('default', { requester_id: 'nobody' })).toEqual([]);
  });

  test.each([
    ['what is due anywhere', 'expires_at <= 9 AND open_key IS NOT NULL LIMIT 500', 'approvals_due (expires_at<?)'],
    [
      'what is due in a tenant',
      "expires_at <= 9 AND open_key IS NOT NULL AND tenant_id = 't' LIMIT 500",
      'approvals_due_by_tenant (tenant_id=? AND expires_at<?)',
    ],
    ['a page of a tenant', "tenant_id = 't' ORDER BY id DESC LIMIT 9", 'approvals_pages (tenant_id=?)'],
    [
      'a page of those that wait',
      "tenant_id = 't' AND state = 'pending' ORDER BY id DESC LIMIT 9",
      'approvals_pages_by_state (tenant_id=? AND state=?)',
    ],
    [
      'a page of somebody’s own',
      "tenant_id = 't' AND requester_id = 'r' ORDER BY id DESC LIMIT 9",
      'approvals_pages_by_requester (tenant_id=? AND requester_id=?)',
    ],
  ])('%s is found without a look at what is over long ago', async (_what, where, index) => {
    await using database = await open();
    const plan = await sql<{ detail: string }>`${sql.raw(`EXPLAIN QUERY PLAN SELECT * FROM approvals WHERE ${where}`)}`;
    const { rows } = await plan.execute(database.queries);
    expect(rows.map(({ detail }) => detail)).toEqual([`SEARCH approvals USING INDEX ${index}`]);
  });
});
