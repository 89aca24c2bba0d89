/** The life of signing keys: published before they sign, kept as long as their tokens live, encrypted where they lie. */
import { describe, expect, test } from 'vitest';
import { Secret } from '../../../src/core/secret.ts';
import { AccountTokens } from '../../../src/identity/account-tokens.ts';
import { LEAD_MS, openSigningRing, type SigningAlgorithm } from '../../../src/identity/signing-ring.ts';
import { openDatabase } from '../../../src/stores/database.ts';
import { createSigningKeyStore } from '../../../src/stores/signing-keys.ts';
import { verifies } from '../../helpers/verifies.ts';

const DAY = 86_400_000;
const START = Date.parse('2026-11-22T10:00:00Z');
const pepper = new Secret('a pepper that nobody else has 123');

async function keep(algorithm: SigningAlgorithm = 'EdDSA') {
  const database = await openDatabase('sqlite::memory:', { baseDir: '/' });
  const store = createSigningKeyStore(database);
  const options = { algorithm, store, pepper, rotateMs: 30 * DAY, tokenMs: DAY };
  return { database, store, options };
}

const subject = { account_id: 'usr_1', session_id: 'ses_1', tenant_id: 'default', username: 'maria', role: 'user' };

describe('a signing ring', () => {
  test('publishes the next key before it signs, and keeps the old one until its tokens have ended', async () => {
    verifies('VF-01', 'VF-02');
    const { options, database } = await keep();
    await using _database = database;
    const ring = await openSigningRing(options, START);
    const first = (await ring.signer(START)).kid;
    const rotation = START + 30 * DAY - LEAD_MS;
    expect((await ring.published(rotation - 1000)).keys).toHaveLength(1);
    const published = (await ring.published(rotation + 60_000)).keys;
    expect(published).toHaveLength(2);
    expect((await ring.signer(rotation + 61_000)).kid).toBe(first);
    const later = rotation + 60_000 + LEAD_MS;
    const second = (await ring.signer(later)).kid;
    expect(second).not.toBe(first);
    expect(await ring.find(first, 'EdDSA', later)).not.toBeNull();
    await ring.published(later + 2 * DAY);
    expect(await ring.find(first, 'EdDSA', later + 2 * DAY)).toBeNull();
    expect(await ring.find(second, 'EdDSA', later + 2 * DAY)).not.toBeNull();
  });

  test('is one for all processes, whoever makes the first key', async () => {
    const { options, database } = await keep('ES256');
    await using _database = database;
    const rings = await Promise.all(Array.from({ length: 4 }, () => openSigningRing(options, START)));
    const names = await Promise.all(rings.map(async (ring) => (await ring.signer(START)).kid));
    expect(new Set(names).size).toBe(1);
  });

  test('keeps no private key that can be read without the pepper', async () => {
    const { options, store, database } = await keep();
    await using _database = database;
    await openSigningRing(options, START);
    const [record] = await store.list('EdDSA');
    expect(JSON.parse(record?.public_jwk ?? '{}')).not.toHaveProperty('d');
    expect(Buffer.from(record?.private_box ?? '', 'base64url').toString('latin1')).not.toContain('\x04\x22\x04\x20');
    const other = new Secret('another pepper, also long enough');
    await expect(openSigningRing({ ...options, pepper: other }, START)).rejects.toThrow('another pepper');
  });

  test('takes a token of another key of the same name for none', async () => {
    const [mine, theirs] = [await keep(), await keep()];
    await using _mine = mine.database;
    await using _theirs = theirs.database;
    const make = async ({ options }: typeof mine) =>
      new AccountTokens({
        ring: await openSigningRing(options, START),
        pepper,
        issuer: 'urn:test',
        audience: 'urn:test',
        accessSeconds: 60,
      });
    const [a, b] = [await make(mine), await make(theirs)];
    const { token } = await a.issue(subject, START, START / 1000 + 3600);
    expect(await a.read(token, START)).toMatchObject({ sub: 'usr_1', typ: 'access' });
    expect(await b.read(token, START)).toMatchObject({ kind: 'invalid' });
    expect(await a.read(token, START + 60_000)).toEqual({ kind: 'expired' });
    expect(await a.read(token, START - 60_000)).toMatchObject({ kind: 'invalid' });
  });
});
