import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { generateKey } from '../../../src/identity/key-format.ts';
import {
  findGoodKey,
  issueKey,
  type KeyRequest,
  ROTATION_GRACE_MS,
  revokeKey,
  rotateKey,
} from '../../../src/identity/key-issuing.ts';
import type { AuthResult, IdentityFacts, IdentityProvider } from '../../../src/identity/provider.ts';
import { apiKey, CHANGE_CHECK_MS } from '../../../src/identity/providers/api-key.ts';
import { createApiKeyStore } from '../../../src/stores/api-keys.ts';
import { openDatabase } from '../../../src/stores/database.ts';
import { verifies } from '../../helpers/verifies.ts';
import { bearer, keyHeader, NEVER, type Setting, setting } from './setting.ts';

let around: Setting;
let provider: IdentityProvider;
beforeEach(async () => {
  around = await setting({ name: 'keys' });
  provider = await apiKey.create(apiKey.schema.parse({ kind: 'api-key' }), around.env);
});
afterEach(async () => {
  await provider.close?.();
  await around[Symbol.asyncDispose]();
});

async function make(request: Partial<KeyRequest> = {}) {
  const issued = await issueKey(around.env, { name: 'ci', tenant_id: 'acme', ...request });
  return { ...issued, text: issued.key.reveal() };
}

async function ask(text: string, facts: Partial<IdentityFacts> = {}): Promise<AuthResult> {
  return provider.authenticate(keyHeader(text), around.facts(facts), NEVER);
}

const INVALID = { kind: 'rejected', reason: 'invalid', detail: expect.any(String) };

describe('an API key', () => {
  test('gives the principal it was made for', async () => {
    verifies('D-09', 'D-12', 'HW-07');
    const { record, text } = await make({
      roles: ['developer'],
      permissions: ['tasks.read'],
      tenure_months: 6,
      rate_limit_per_hour: 10,
    });
    expect(await ask(text)).toEqual({
      kind: 'authenticated',
      principal: {
        id: 'key:ci',
        tenant_id: 'acme',
        type: 'service',
        email: null,
        username: null,
        roles: ['developer'],
        teams: [],
        groups: [],
        permissions: ['tasks.read'],
        scopes: [],
        actor: null,
        auth: {
          provider: 'keys',
          method: 'api-key',
          mfa_verified: false,
          mfa_at: null,
          session_id: null,
          key_id: record.id,
          token_id: null,
          expires_at: null,
        },
        tenure_months: 6,
        device_compliant: false,
        metadata: { rate_limit_per_hour: '10', key_name: 'ci' },
      },
    });
  });

  test('carries a second factor and a device only when it was made so', async () => {
    const { text } = await make({ mfa_verified: true, device_compliant: true });
    expect(await ask(text)).toMatchObject({ principal: { auth: { mfa_verified: true }, device_compliant: true } });
  });

  test('works in X-API-Key and as a bearer token, and is the same object each time', async () => {
    const { text } = await make();
    const first = await ask(text);
    const second = provider.authenticate(bearer(text), around.facts(), NEVER);
    expect(first.kind).toBe('authenticated');
    expect(second).toBe(first);
  });

  test('leaves other credentials to other providers', async () => {
    for (const text of ['sk-123', 'pcx_dev', 'pc', 'aaa.bbb.ccc', ''])
      expect(await ask(text)).toEqual({ kind: 'not-applicable' });
    const { text } = await make();
    expect(await provider.authenticate({ ...keyHeader(text), kind: 'basic' }, around.facts(), NEVER)).toEqual({
      kind: 'not-applicable',
    });
  });

  test('is refused when it is unknown, forged or damaged', async () => {
    verifies('D-05', 'VF-22');
    const { text, record } = await make();
    const forged = generateKey('pc', 'dev').text;
    const ours = text.slice(0, 24);
    for (const bad of [
      forged,
      `${ours}${forged.slice(24)}`,
      `${text}x`,
      text.slice(0, -1),
      `pc_dev_${record.id}`,
      'pc_',
      'pc__',
    ]) {
      expect(await ask(bad)).toEqual(INVALID);
    }
  });

  test('with a right form and checksum but a wrong secret is refused', async () => {
    const { record } = await make();
    const other = generateKey('pc', 'dev');
    await around.env.keys.insert({ ...record, id: other.id });
    expect(await ask(other.text)).toEqual(INVALID);
  });

  test('of another environment is refused, and the store is not even asked', async () => {
    verifies('H-21');
    const production = { ...around.env, environment: 'production' } as const;
    const live = (await issueKey(production, { name: 'x', tenant_id: 'acme' })).key.reveal();
    expect(live.startsWith('pc_live_')).toBe(true);
    around.env.keys.find = async () => {
      throw new Error('asked');
    };
    expect(await ask(live)).toEqual(INVALID);
  });

  test('whose row says another environment is refused', async () => {
    const { record, text } = await make();
    const find = around.env.keys.find;
    around.env.keys.find = async () => ({ ...record, environment: 'live' });
    expect(await ask(text)).toEqual(INVALID);
    around.env.keys.find = find;
    expect((await ask(text)).kind).toBe('authenticated');
  });

  test('ends at its expiry, also when it was remembered', async () => {
    const { text } = await make({ expires_at: around.facts().now + 5000 });
    expect((await ask(text)).kind).toBe('authenticated');
    around.move(4999);
    expect((await ask(text)).kind).toBe('authenticated');
    around.move(1);
    expect(await ask(text)).toEqual({ kind: 'rejected', reason: 'expired' });
  });

  test('is refused at once when it is revoked, at every gateway, remembered or not', async () => {
    verifies('V-15', 'HW-07');
    const { record, text } = await make();
    const other = await make();
    await ask(text);
    await ask(other.text);
    expect(await revokeKey(around.env, 'globex', record.id)).toBe(false);
    expect((await ask(text)).kind).toBe('authenticated');
    expect(await revokeKey(around.env, 'acme', record.id)).toBe(true);
    expect(await ask(text)).toEqual(INVALID);
    expect((await ask(other.text)).kind).toBe('authenticated');
  });

  test('a revocation during the check is not overtaken by the cache', async () => {
    const { record, text } = await make();
    const checking = ask(text);
    await revokeKey(around.env, 'acme', record.id);
    await checking;
    expect(await ask(text)).toEqual(INVALID);
  });

  test('is looked up once for all who show it at the same moment, and anew for who comes after a revocation', async () => {
    const { record, text } = await make();
    const find = around.env.keys.find;
    const gate = Promise.withResolvers<void>();
    let asked = 0;
    around.env.keys.find = async (id) => {
      asked += 1;
      const found = await find(id);
      if (asked === 1) await gate.promise;
      return found;
    };
    const crowd = Array.from({ length: 100 }, () => ask(text));
    const forged = ask((await make()).text.replace(/[^_]+$/, 'A'.repeat(40)));
    await revokeKey({ ...around.env, keys: { ...around.env.keys, find } }, 'acme', record.id);
    expect(await ask(text)).toEqual(INVALID);
    gate.resolve();
    expect(new Set((await Promise.all(crowd)).map(({ kind }) => kind))).toEqual(new Set(['authenticated']));
    expect(await forged).toEqual(INVALID);
    expect(asked).toBe(2);
    // A failure is nobody's answer for long.
    around.env.keys.find = () => Promise.reject(new Error('away'));
    const { text: other } = await make();
    await expect(Promise.all([ask(other), ask(other)])).rejects.toThrow('away');
    around.env.keys.find = find;
    expect((await ask(other)).kind).toBe('authenticated');
  });

  test('is asked for again after a minute at the latest', async () => {
    const { record, text } = await make();
    await ask(text);
    await around.env.keys.revoke('acme', record.id, 1);
    expect((await ask(text)).kind).toBe('authenticated');
    around.move(60_000);
    expect(await ask(text)).toEqual(INVALID);
  });

  test('may be bound to addresses, which are checked each time', async () => {
    verifies('HW-07');
    const { text } = await make({ allowed_ips: ['10.0.0.0/8', '2001:db8::/32'] });
    for (let i = 0; i < 2; i++) {
      expect((await ask(text, { source_ip: '10.9.9.9' })).kind).toBe('authenticated');
      expect((await ask(text, { source_ip: '2001:db8::1' })).kind).toBe('authenticated');
      for (const source_ip of ['11.0.0.1', '::1', 'unknown', '']) {
        expect(await ask(text, { source_ip })).toEqual({ kind: 'rejected', reason: 'forbidden' });
      }
    }
  });

  test('rotated keeps its settings, and the old one stays good for 24 hours', async () => {
    verifies('HW-07', 'V-27');
    const old = await make({ roles: ['developer'], permissions: ['p'], owner_id: 'alice' });
    const next = await rotateKey(around.env, 'acme', old.record.id);
    if (next === null) throw new Error('not rotated');
    expect(next.record).toMatchObject({ name: 'ci', owner_id: 'alice', facts: old.record.facts });
    expect(next.key.reveal()).not.toBe(old.text);
    for (const text of [old.text, next.key.reveal()]) expect((await ask(text)).kind).toBe('authenticated');
    around.move(ROTATION_GRACE_MS);
    expect(await ask(old.text)).toEqual({ kind: 'rejected', reason: 'expired' });
    expect((await ask(next.key.reveal())).kind).toBe('authenticated');
  });

  test('cannot be rotated from another tenant, twice, or when it is dead', async () => {
    const { record } = await make();
    expect(await rotateKey(around.env, 'globex', record.id)).toBeNull();
    expect(await rotateKey(around.env, 'acme', 'nothing')).toBeNull();
    expect(await rotateKey(around.env, 'acme', record.id)).not.toBeNull();
    expect(await rotateKey(around.env, 'acme', record.id)).toBeNull();
    const dead = await make({ expires_at: around.facts().now });
    expect(await rotateKey(around.env, 'acme', dead.record.id)).toBeNull();
  });

  test('a store that does not answer is a technical failure, not a refusal', async () => {
    const { text } = await make();
    around.env.keys.find = async () => {
      throw new Error('disk gone');
    };
    await expect(ask(text)).rejects.toThrow('disk gone');
    expect(await provider.health?.()).toMatchObject({ state: 'down' });
  });

  test('its uses are written when the provider closes, and a failure to write is only logged', async () => {
    verifies('V-14');
    const { record, text } = await make();
    await ask(text);
    around.move(5000);
    await ask(text);
    await provider.close?.();
    expect((await around.env.keys.find(record.id))?.last_used_at).toBe(around.facts().now);
    around.env.keys.touch = async () => {
      throw new Error('read-only');
    };
    await ask(text);
    await provider.close?.();
    expect(around.lines.map((line) => line.message).join()).toContain('last use');
  });

  test('the first use for a while is written at once, the next ones together later', async () => {
    verifies('V-14');
    const written: ReadonlyMap<string, number>[] = [];
    const { touch } = around.env.keys;
    around.env.keys.touch = async (uses) => {
      written.push(uses);
      await touch(uses);
    };
    const { record, text } = await make();
    const { record: other, text: otherText } = await make();
    await Promise.all([ask(text), ask(otherText)]);
    await vi.waitFor(async () => expect((await around.env.keys.find(record.id))?.last_used_at).not.toBeNull());
    expect((await around.env.keys.find(other.id))?.last_used_at).toBe(around.facts().now);
    const before = written.length;
    around.move(10_000);
    for (let i = 0; i < 10; i++) await ask(text);
    // A provider that forgot the key knows that its use is no news.
    const again = await apiKey.create(apiKey.schema.parse({ kind: 'api-key' }), around.env);
    await again.authenticate(keyHeader(text), around.facts(), NEVER);
    expect(written).toHaveLength(before);
    await again.close?.();
  });

  test('is good or not for who only wants to know', async () => {
    const { record, text } = await make();
    expect((await findGoodKey(around.env, text))?.id).toBe(record.id);
    expect(await findGoodKey({ ...around.env, environment: 'production' }, text)).toBeNull();
    await revokeKey(around.env, 'acme', record.id);
    expect(await findGoodKey(around.env, text)).toBeNull();
  });

  test('leaves nothing usable in the database', async () => {
    verifies('V-27');
    const { text } = await make();
    const rows = JSON.stringify(await around.database.queries.selectFrom('api_keys').selectAll().execute());
    expect(rows).not.toContain(text.slice(24));
  });
});

test('a key revoked by another process in the same database is refused within a second', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'portcullis-keys-'));
  try {
    const url = `sqlite:${join(folder, 'keys.db')}`;
    await using gateway = await setting({}, url);
    const from = await apiKey.create(apiKey.schema.parse({ kind: 'api-key' }), gateway.env);
    const { key, record } = await issueKey(gateway.env, { name: 'ci', tenant_id: 'acme' });
    const once = async () => (await from.authenticate(keyHeader(key.reveal()), gateway.facts(), NEVER)).kind;
    expect(await once()).toBe('authenticated');
    await using other = await openDatabase(url, { baseDir: folder });
    await createApiKeyStore(other).revoke('acme', record.id, 1);
    gateway.move(CHANGE_CHECK_MS);
    expect(await once()).toBe('rejected');
    await from.close?.();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
