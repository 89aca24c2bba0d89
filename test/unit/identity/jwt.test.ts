import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Principal } from '../../../src/core/principal.ts';
import type { AuthResult, IdentityProvider } from '../../../src/identity/provider.ts';
import { jwt } from '../../../src/identity/providers/jwt.ts';
import { revokeToken } from '../../../src/identity/revocations.ts';
import { verifies } from '../../helpers/verifies.ts';
import { AUDIENCE, forge, ISSUER, jwks, publicJwk, type Recipe, SECRET } from './forge.ts';
import { bearer, keyHeader, NEVER, type Setting, setting } from './setting.ts';

const folder = mkdtempSync(join(tmpdir(), 'portcullis-jwt-'));
beforeAll(() => writeFileSync(join(folder, 'jwks.json'), JSON.stringify(jwks())));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let around: Setting;
beforeEach(async () => {
  around = await setting({ baseDir: folder });
});
afterEach(() => around[Symbol.asyncDispose]());

const usual = { kind: 'jwt', issuer: ISSUER, audience: AUDIENCE, jwks: 'jwks.json' };

async function provider(options: Record<string, unknown> = {}): Promise<IdentityProvider> {
  return jwt.create(jwt.schema.parse({ ...usual, ...options }), around.env);
}

async function ask(from: IdentityProvider, token: string): Promise<AuthResult> {
  return from.authenticate(bearer(token), around.facts(), NEVER);
}

function token(recipe: Partial<Recipe> = {}): string {
  return forge(recipe, around.facts().now / 1000);
}

async function principal(claims: Record<string, unknown>, options: Record<string, unknown> = {}): Promise<Principal> {
  const result = await ask(await provider(options), token({ claims }));
  if (result.kind !== 'authenticated') throw new Error(`not authenticated: ${JSON.stringify(result)}`);
  return result.principal;
}

describe('a refusal', () => {
  test('names its cause for the operator in fixed words', async () => {
    const from = await provider();
    const now = around.facts().now / 1000;
    const causes: [Partial<Recipe>, string][] = [
      [{ claims: { aud: 'others' } }, 'the audience is not ours'],
      [{ claims: { token_use: 'id' } }, 'not an access token'],
      [{ claims: { nbf: now + 600 } }, 'not valid yet'],
      [{ claims: { iat: now, exp: now + 90_000 } }, 'the lifetime exceeds max_lifetime_seconds'],
      [{ header: { alg: 'ES256', kid: 'nobody' } }, 'no usable key has this kid and algorithm'],
    ];
    for (const [recipe, detail] of causes) {
      expect(await ask(from, token(recipe))).toEqual({ kind: 'rejected', reason: 'invalid', detail });
    }
    const damaged = `${token().slice(0, -8)}AAAAAAAA`;
    expect(await ask(from, damaged)).toMatchObject({ detail: 'the signature does not fit' });
  });
});

describe('claims become a principal', () => {
  test('with every field, from the default claim names', async () => {
    verifies('D-10', 'D-11', 'D-12', 'D-13', 'D-14', 'S-61');
    const exp = around.facts().now / 1000 + 300;
    expect(
      await principal({
        organization_id: 'acme',
        roles: ['admin', 'analyst'],
        teams: ['bi'],
        groups: ['g1'],
        permissions: ['tasks.read'],
        scope: 'model:read model:write',
        preferred_username: 'al',
        email: 'al@example.com',
        jti: 't1',
        sid: 's1',
        amr: ['pwd', 'mfa'],
        auth_time: 1_899_999_000,
        tenure_months: 7.9,
        device_compliant: true,
        act: { sub: 'agent-1', principal_type: 'agent', act: { sub: 'svc' } },
      }),
    ).toEqual({
      id: 'alice',
      tenant_id: 'acme',
      type: 'user',
      email: 'al@example.com',
      username: 'al',
      roles: ['admin', 'analyst'],
      teams: ['bi'],
      groups: ['g1'],
      permissions: ['tasks.read'],
      scopes: ['model:read', 'model:write'],
      actor: { id: 'agent-1', type: 'agent', actor: { id: 'svc', type: 'service', actor: null } },
      auth: {
        provider: 'staff',
        method: 'bearer',
        mfa_verified: true,
        mfa_at: 1_899_999_000,
        session_id: 's1',
        key_id: null,
        token_id: 't1',
        expires_at: exp,
      },
      tenure_months: 7,
      device_compliant: true,
      metadata: {},
    });
  });

  test('with the least privilege for everything that is not claimed', async () => {
    verifies('D-11', 'S-61');
    expect(await principal({})).toMatchObject({
      tenant_id: 'default',
      roles: [],
      permissions: [],
      auth: { mfa_verified: false, mfa_at: null },
      device_compliant: false,
      tenure_months: null,
    });
  });

  test('an unknown role gives no role and one line in the log', async () => {
    verifies('DF-04', 'D-13');
    expect((await principal({ role: 'superhero-1' })).roles).toEqual([]);
    expect((await principal({ role: 'superhero-1' })).roles).toEqual([]);
    expect(around.lines.filter((line) => line.message.includes('not mapped'))).toHaveLength(1);
  });

  test('what a forged token says is told nobody', async () => {
    const forged = `${token({ claims: { role: 'superhero-2' } }).slice(0, -8)}AAAAAAAA`;
    expect(await ask(await provider(), forged)).toMatchObject({ detail: 'the signature does not fit' });
    expect(around.lines).toEqual([]);
    await principal({ role: 'superhero-2' });
    expect(around.lines.filter((line) => line.message.includes('not mapped'))).toHaveLength(1);
  });

  test('roles are mapped by the table, kept when told so, and replaced by a default when none is left', async () => {
    verifies('D-13', 'DF-04');
    expect((await principal({ roles: ['Administrators'] }, { role_map: { Administrators: 'admin' } })).roles).toEqual([
      'admin',
    ]);
    expect((await principal({ roles: ['own'] }, { unknown_roles: 'keep' })).roles).toEqual(['own']);
    expect((await principal({ roles: ['own'] }, { default_role: 'user' })).roles).toEqual(['user']);
    expect((await principal({ roles: ['__proto__', 'constructor'] })).roles).toEqual([]);
  });

  test('the role service makes the principal a service', async () => {
    verifies('D-13');
    expect(await principal({ role: 'service' })).toMatchObject({ type: 'service', roles: ['service'] });
    expect(await principal({ principal_type: 'agent' })).toMatchObject({ type: 'agent' });
  });

  test('claims are found by exact name first and by path second', async () => {
    verifies('D-10');
    expect((await principal({ realm_access: { roles: ['viewer'] } })).roles).toEqual(['viewer']);
    const named = { claims: { roles: 'https://example.com/roles' } };
    expect((await principal({ 'https://example.com/roles': ['analyst'] }, named)).roles).toEqual(['analyst']);
    expect((await principal({ a: { b: 'x' }, 'a.b': 'exact' }, { claims: { tenant: 'a.b' } })).tenant_id).toBe('exact');
    expect((await principal({}, { claims: { tenant: 'constructor.name' } })).tenant_id).toBe('default');
  });

  test('permissions follow from roles, groups and scopes', async () => {
    verifies('D-14', 'VF-13');
    const options = {
      role_permissions: { user: ['tasks.read'] },
      group_permissions: { ops: ['tasks.delete'] },
      scope_permissions: { 'model:read': ['models.list'] },
    };
    const claims = { roles: 'user', groups: ['ops'], scope: 'model:read', permissions: ['own'] };
    expect((await principal(claims, options)).permissions).toEqual([
      'own',
      'tasks.read',
      'tasks.delete',
      'models.list',
    ]);
    expect((await principal({ scope: 'xmodel:read model:readx' }, options)).permissions).toEqual([]);
  });

  test('a second factor counts only by a configured word', async () => {
    verifies('S-55');
    expect((await principal({ amr: ['pwd', 'otp'], auth_time: 5 })).auth).toMatchObject({
      mfa_verified: false,
      mfa_at: null,
    });
    expect((await principal({ amr: 'mfa' })).auth.mfa_verified).toBe(false);
    expect((await principal({ amr: ['otp'] }, { mfa: { amr: ['otp'] } })).auth.mfa_verified).toBe(true);
    expect((await principal({ acr: 'gold' }, { mfa: { acr: ['gold'] } })).auth.mfa_verified).toBe(true);
  });

  test('a device is compliant only when the claim is exactly true', async () => {
    for (const value of ['true', 'false', 1, 'yes', [true]]) {
      expect((await principal({ device_compliant: value })).device_compliant).toBe(false);
    }
  });

  test('tenure is counted in whole months from the day of hiring', async () => {
    const months = async (hired_at: unknown) => (await principal({ hired_at })).tenure_months;
    // The test's clock stands at 2030-03-17.
    expect(await months('2029-03-17')).toBe(12);
    expect(await months('2029-03-18')).toBe(11);
    expect(await months(Date.UTC(2030, 0, 1) / 1000)).toBe(2);
    expect(await months('2031-01-01')).toBeNull();
    expect(await months('soon')).toBeNull();
  });

  test('and nobody can change it afterwards', async () => {
    const found = await principal({ roles: ['user'], act: { sub: 'a' } });
    for (const part of [found, found.roles, found.auth, found.metadata, found.actor])
      expect(Object.isFrozen(part)).toBe(true);
  });
});

describe('a checked token is remembered', () => {
  test('and gives the same principal object without a promise', async () => {
    const from = await provider();
    const text = token();
    const first = await ask(from, text);
    const again = from.authenticate(bearer(text), around.facts(), NEVER);
    expect(again).toBe(first);
  });

  test('but not beyond its expiry', async () => {
    verifies('V-18');
    const from = await provider();
    const text = token({ claims: { exp: '$NOW+20' } });
    expect((await ask(from, text)).kind).toBe('authenticated');
    around.move(24_999);
    expect((await ask(from, text)).kind).toBe('authenticated');
    around.move(1);
    expect(await ask(from, text)).toEqual({ kind: 'rejected', reason: 'expired' });
  });

  test('but not once it is revoked, here or at another gateway', async () => {
    verifies('VF-03', 'VF-04');
    const [here, there] = [await provider(), await provider()];
    const text = token({ claims: { jti: 'one' } });
    const other = token({ claims: { jti: 'two' } });
    for (const from of [here, there]) for (const one of [text, other]) await ask(from, one);
    const { now } = around.facts();
    await revokeToken(around.shared, ISSUER, 'one', now + 300_000, now);
    for (const from of [here, there, await provider()]) {
      expect(await ask(from, text)).toMatchObject({ kind: 'rejected', reason: 'invalid' });
      expect((await ask(from, other)).kind).toBe('authenticated');
    }
  });

  test('a revocation of another issuer’s token with the same id changes nothing', async () => {
    const from = await provider();
    const text = token({ claims: { jti: 'one' } });
    const { now } = around.facts();
    await revokeToken(around.shared, 'https://other.example.com', 'one', now + 300_000, now);
    expect((await ask(from, text)).kind).toBe('authenticated');
  });

  test('a revocation during the check is not overtaken by the cache', async () => {
    const from = await provider();
    const text = token({ claims: { jti: 'one' } });
    const { now } = around.facts();
    const checking = ask(from, text);
    await revokeToken(around.shared, ISSUER, 'one', now + 300_000, now);
    await checking;
    expect(await ask(from, text)).toMatchObject({ kind: 'rejected', reason: 'invalid' });
  });

  test('a store that cannot say whether a token is revoked is a technical failure', async () => {
    const from = await provider();
    around.shared.get = async () => {
      throw new Error('store away');
    };
    await expect(ask(from, token({ claims: { jti: 'one' } }))).rejects.toThrow('store away');
  });

  test('only by the provider that checked it: issuer A’s token is nothing to B', async () => {
    const a = await provider();
    const text = token();
    expect((await ask(a, text)).kind).toBe('authenticated');
    const b = await provider({ issuer: 'https://b.example.com' });
    expect(await ask(b, text)).toEqual({ kind: 'not-applicable' });
    const sameIssuer = await provider({ audience: 'elsewhere' });
    expect(await ask(sameIssuer, text)).toMatchObject({ kind: 'rejected', reason: 'invalid' });
  });

  test('issuer A’s key never vouches for issuer B', async () => {
    writeFileSync(join(folder, 'b.json'), JSON.stringify({ keys: [{ ...publicJwk('stranger-ec'), kid: 'ec-1' }] }));
    const b = await provider({ issuer: 'https://b.example.com', jwks: 'b.json' });
    const bByA = token({ claims: { iss: 'https://b.example.com' } });
    expect(await ask(b, bByA)).toMatchObject({ kind: 'rejected', reason: 'invalid' });
  });

  test('the memory is bounded', async () => {
    const from = await provider({ cache_entries: 2 });
    const texts = ['a', 'b', 'c'].map((jti) => token({ claims: { jti } }));
    for (const text of texts) await ask(from, text);
    expect(from.authenticate(bearer(texts[2] ?? ''), around.facts(), NEVER)).not.toBeInstanceOf(Promise);
    expect(from.authenticate(bearer(texts[0] ?? ''), around.facts(), NEVER)).toBeInstanceOf(Promise);
  });
});

describe('the jwt provider', () => {
  test('leaves what is no JWT to others', async () => {
    const from = await provider();
    for (const text of ['pc_dev_abc', 'opaque', 'a.b', 'a.b.c.d', ''])
      expect(await ask(from, text)).toEqual({ kind: 'not-applicable' });
    expect(await from.authenticate(keyHeader(token()), around.facts(), NEVER)).toEqual({ kind: 'not-applicable' });
  });

  test('refuses every token that differs from a good one in one place', async () => {
    const from = await provider();
    const good = token();
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), fc.integer({ min: 0, max: 127 }), async (at, code) => {
        const text = good.slice(0, at) + String.fromCharCode(code) + good.slice(at + 1);
        fc.pre(text !== good);
        expect((await ask(from, text)).kind).not.toBe('authenticated');
      }),
      { numRuns: 300 },
    );
  });

  test('never throws on arbitrary text', async () => {
    const from = await provider();
    await fc.assert(
      fc.asyncProperty(fc.string(), fc.string(), fc.string(), async (a, b, c) => {
        expect((await ask(from, `${a}.${b}.${c}`)).kind).not.toBe('authenticated');
      }),
      { numRuns: 200 },
    );
  });

  test.each([
    ['no key', { jwks: undefined }],
    ['two keys', { public_key: 'x.pem' }],
    ['a short secret', { jwks: undefined, secret: 'short' }],
    ['HS256 without a secret', { algorithms: ['HS256'] }],
    ['RS256 with a secret', { jwks: undefined, secret: SECRET, algorithms: ['RS256'] }],
    ['none', { algorithms: ['none'] }],
    ['no algorithm', { algorithms: [] }],
    ['a JWK set over plain HTTP', { jwks: 'http://idp.example.com/jwks' }],
    ['a JWK set from elsewhere', { jwks: 'ftp://idp.example.com/jwks' }],
    ['a JWK set URL with a password', { jwks: 'https://u:p@idp.example.com/jwks' }],
    ['too much skew', { clock_skew_seconds: 31 }],
    ['a cache beyond five minutes', { cache_seconds: 301 }],
    ['no audience', { audience: [] }],
    ['an unknown option', { verify: false }],
  ])('does not start with %s', (_, options) => {
    verifies('VF-01', 'VF-02');
    expect(jwt.schema.safeParse({ ...usual, ...options }).success).toBe(false);
  });

  test('says which key file it cannot use', async () => {
    writeFileSync(join(folder, 'bad.pem'), 'not a key');
    await expect(provider({ jwks: undefined, public_key: 'bad.pem' })).rejects.toThrow('bad.pem');
    writeFileSync(join(folder, 'private.pem'), '-----BEGIN PRIVATE KEY-----\n');
    await expect(provider({ jwks: undefined, public_key: 'private.pem' })).rejects.toThrow('private key');
  });

  test('shows no secret when its options are printed', () => {
    const options = jwt.schema.parse({ ...usual, jwks: undefined, secret: SECRET });
    expect(JSON.stringify(options)).not.toContain(SECRET);
  });
});
