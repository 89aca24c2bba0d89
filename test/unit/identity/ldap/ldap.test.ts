import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { ldapSchema } from '../../../../src/identity/ldap-options.ts';
import type { AuthResult } from '../../../../src/identity/provider.ts';
import { type Authority, createAuthority } from '../../../helpers/certificates.ts';
import { temporaryDirectory } from '../../../helpers/processes.ts';
import { GATEWAY_DN, GATEWAY_PASSWORD, NO_SLAPD, type Slapd, startSlapd } from '../../../helpers/processes-slapd.ts';
import { verifies } from '../../../helpers/verifies.ts';
import { bearer, NEVER } from '../setting.ts';
import { ldapSettings, staff } from './staff.ts';

const GROUPS = 'ou=groups,dc=example,dc=org';
const ALICE = ['alice', 'wonder land 1'] as const;
const principalOf = (result: AuthResult) => (result.kind === 'authenticated' ? result.principal : null);

describe('the settings of a directory', () => {
  const problemsOf = (changes: Record<string, unknown>, url = 'ldaps://ldap.example.com') =>
    ldapSchema.safeParse(ldapSettings(url, changes)).error?.issues.map(({ message }) => message) ?? [];

  test('have the filters of old as defaults', () => {
    verifies('S-68');
    expect(ldapSchema.parse(ldapSettings('ldaps://ldap.example.com'))).toMatchObject({
      user_search_filter: '(uid={username})',
      group_search_filter: '(member={user_dn})',
    });
  });

  test.each([
    ['ldap://ldap.example.com', {}, 'in the clear'],
    ['ldap://10.0.0.1:389', {}, 'in the clear'],
    ['ldap://localhost.example.com', {}, 'in the clear'],
    ['ldap://127.0.0.1.example.com', {}, 'in the clear'],
    ['http://ldap.example.com', {}, 'expected ldaps'],
    ['ldaps://user:password@ldap.example.com', {}, 'only host and port'],
    ['ldaps://ldap.example.com/dc=x', {}, 'only host and port'],
    ['ldaps://ldap.example.com', { start_tls: true }, 'encrypted already'],
  ])('refuse %s with %j', (url, changes, words) => {
    verifies('SF-52');
    expect(problemsOf(changes, url).join()).toContain(words);
  });

  test.each(['ldaps://ldap.example.com', 'ldap://127.0.0.1:389', 'ldap://localhost', 'ldap://[::1]:1389'])(
    'take %s',
    (url) => {
      expect(problemsOf({}, url)).toEqual([]);
    },
  );

  test('take ldap with StartTLS anywhere', () => {
    expect(problemsOf({ start_tls: true }, 'ldap://ldap.example.com')).toEqual([]);
  });

  test('search as nobody only when that is said', () => {
    verifies('SF-51');
    const nobody = { bind_dn: undefined, bind_password: undefined };
    expect(problemsOf(nobody).join()).toContain('anonymous_search is needed');
    expect(problemsOf({ ...nobody, anonymous_search: true })).toEqual([]);
    expect(problemsOf({ anonymous_search: true, bind_dn: GATEWAY_DN, bind_password: 'x' }).join()).toContain(
      'not together',
    );
  });

  test.each([
    [{ bind_password: '   ' }, 'must not be empty'],
    [{ bind_password: undefined }, 'belong together'],
    [{ user_search_filter: '(uid=alice)' }, 'Invalid'],
    [{ user_search_filter: 'uid={username}' }, 'not a filter'],
    [{ user_search_filter: '(&(uid={username})' }, 'not a filter'],
    [{ user_search_filter: '(uid={username}))(' }, 'not a filter'],
    [{ group_search_filter: '(member={dn})' }, 'needs {user_dn}'],
    [{ group_search_filter: '(&(member={user_dn})(x={y}))' }, 'not a filter'],
    [{ user_dn_template: '{username}' }, 'distinguished name'],
    [{ refusal_ms: 4000, timeout_ms: 100 }, 'not be longer'],
  ])('refuse %j', (changes, words) => {
    expect(problemsOf(changes).join()).toContain(words);
  });
});

describe.skipIf(NO_SLAPD !== null)(`a directory${NO_SLAPD === null ? '' : ` (skipped: ${NO_SLAPD})`}`, () => {
  const files = temporaryDirectory('portcullis-ldap-');
  let ca: Authority;
  let server: Slapd;

  beforeAll(async () => {
    ca = await createAuthority('CN=Directory CA');
    server = await startSlapd({ ca });
    writeFileSync(join(files.path, 'other.pem'), (await createAuthority('CN=Somebody Else')).cert);
    writeFileSync(join(files.path, 'empty.pem'), 'nothing');
  });

  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    files[Symbol.dispose]();
  });

  test('proves a password and tells who it is', async () => {
    verifies('D-06', 'S-69', 'D-10', 'D-12');
    await using people = await staff(server.url, {
      group_roles: { [`cn=admins,${GROUPS}`]: 'admin' },
      group_teams: { platform: ['platform', 'core'] },
      group_permissions: { [`CN = Platform , ${GROUPS}`]: 'orders:read' },
      attributes: { tenant: 'departmentNumber', hired_at: 'employeeNumber' },
    });
    const result = await people.login(...ALICE);
    expect(result).toEqual({
      kind: 'authenticated',
      principal: {
        id: 'alice',
        tenant_id: 'acme',
        type: 'user',
        email: 'alice@example.org',
        username: 'alice',
        roles: ['admin'],
        teams: ['platform', 'core'],
        groups: [`cn=admins,${GROUPS}`, `cn=platform,${GROUPS}`],
        permissions: ['orders:read'],
        scopes: [],
        actor: null,
        auth: {
          provider: 'staff',
          method: 'basic',
          mfa_verified: false,
          mfa_at: null,
          session_id: null,
          key_id: null,
          token_id: null,
          expires_at: null,
        },
        tenure_months: 74,
        device_compliant: false,
        metadata: { display_name: 'Alice Archer' },
      },
    });
    expect(people.around.lines.map(({ message }) => message)).toContain('ldap_authentication_success');
  });

  test('writes down a refusal without the name or the password', async () => {
    verifies('S-69');
    await using people = await staff(server.url);
    await people.login('alice', 'a wrong password');
    expect(people.around.lines).toEqual([
      {
        level: 'info',
        message: 'ldap_authentication_failed',
        fields: { request_id: 'req_1', reason: 'wrong password' },
      },
    ]);
  });

  test('leaves tokens and keys to other providers', async () => {
    verifies('S-71');
    await using people = await staff(server.url);
    expect(people.provider.authenticate(bearer('a.b.c'), people.around.facts(), NEVER)).toEqual({
      kind: 'not-applicable',
    });
  });

  test('is asked over TLS, its certificate checked', async () => {
    verifies('SF-52');
    await using people = await staff(server.secureUrl, { ca: server.ca });
    expect(await people.login(...ALICE)).toMatchObject({ kind: 'authenticated' });
    expect(server.log()).toContain('TLS established');
  });

  test('is asked over StartTLS, and no password leaves before it is complete', async () => {
    verifies('SF-52');
    const before = server.log().length;
    await using people = await staff(server.url, { start_tls: true, ca: server.ca });
    expect(await people.login(...ALICE)).toMatchObject({ kind: 'authenticated' });
    const binds =
      server
        .log()
        .slice(before)
        .match(/BIND dn=.* bind_ssf=0 ssf=\d+/g) ?? [];
    expect(binds).toHaveLength(2);
    for (const bind of binds) expect(bind).not.toMatch(/ ssf=0$/);
  });

  test.each([
    ['of another authority', 'ldaps', 'other.pem'],
    ['of another authority', 'starttls', 'other.pem'],
    ['of an authority the system does not know', 'ldaps', undefined],
    ['of an authority the system does not know', 'starttls', undefined],
  ])('with a certificate %s over %s is not told anything', async (_what, way, file) => {
    verifies('SF-52');
    const url = way === 'ldaps' ? server.secureUrl : server.url;
    const options = {
      start_tls: way === 'starttls',
      ...(file === undefined ? {} : { ca: join(files.path, file) }),
    };
    const before = server.log().length;
    await using people = await staff(url, options);
    await expect(people.login(...ALICE)).rejects.toThrow('cannot be reached');
    expect(server.log().slice(before)).not.toContain('BIND dn=');
    expect(await people.provider.health?.()).toMatchObject({ state: 'down' });
  });

  test('with a certificate for another name is not told anything', async () => {
    await using other = await startSlapd({ ca, names: { dns: ['ldap.example.com'], ip: [] } });
    await using people = await staff(other.secureUrl, { ca: other.ca });
    await expect(people.login(...ALICE)).rejects.toThrow('cannot be reached');
  });

  test('needs a file of authorities that holds some', async () => {
    await expect(staff(server.secureUrl, { ca: join(files.path, 'empty.pem') })).rejects.toThrow(
      'holds no certificate',
    );
    await expect(staff(server.secureUrl, { ca: join(files.path, 'absent.pem') })).rejects.toThrow('absent.pem');
  });

  test('is not searched as nobody, and refuses who tries', async () => {
    verifies('SF-51');
    await using people = await staff(server.url, { anonymous_search: true });
    await expect(people.login(...ALICE)).rejects.toThrow('does not answer a search (result 32)');
    await using open = await startSlapd({ ca, open: true });
    await using configured = await staff(open.url, { anonymous_search: true });
    expect(await configured.login(...ALICE)).toMatchObject({ kind: 'authenticated' });
  });

  test('is asked without an account of the gateway when a template gives the name', async () => {
    verifies('SF-51');
    await using people = await staff(server.url, {
      user_dn_template: 'uid={username},ou=people,dc=example,dc=org',
      group_roles: { [`cn=admins,${GROUPS}`]: 'admin' },
    });
    const before = server.log().length;
    expect(principalOf(await people.login(...ALICE))).toMatchObject({ id: 'alice', roles: ['admin'] });
    expect(server.log().slice(before)).not.toContain(GATEWAY_DN);
    expect(await people.provider.health?.()).toEqual({ state: 'ok' });
  });

  test.each([
    ['off', ['admins', 'platform']],
    ['search', ['admins', 'circle', 'engineering', 'platform']],
  ])('gives groups of groups with nested_groups: %s, circles or not', async (nested_groups, names) => {
    verifies('SF-55');
    await using people = await staff(server.url, { nested_groups });
    const groups = principalOf(await people.login(...ALICE))?.groups ?? [];
    expect(groups.map((dn) => /^cn=(\w+)/.exec(dn)?.[1]).toSorted()).toEqual(names);
  });

  test('keeps who is in too many groups out instead of leaving some away', async () => {
    await using people = await staff(server.url, { max_groups: 1 });
    await expect(people.login(...ALICE)).rejects.toThrow('more than 1 groups');
  });

  test('gives no role for a group nobody mapped, and the default where there is one', async () => {
    verifies('SF-55');
    await using people = await staff(server.url);
    expect(principalOf(await people.login('bob', 'can-we-fix-it'))?.roles).toEqual([]);
    await using others = await staff(server.url, { default_roles: ['viewer'] });
    expect(principalOf(await others.login('bob', 'can-we-fix-it'))?.roles).toEqual(['viewer']);
  });

  test('refuses people without a tenant where one is required', async () => {
    verifies('D-11');
    const options = { attributes: { tenant: 'departmentNumber' }, require_tenant: true };
    await using people = await staff(server.url, options);
    expect(principalOf(await people.login(...ALICE))?.tenant_id).toBe('acme');
    expect(await people.login('bob', 'can-we-fix-it')).toMatchObject({
      reason: 'invalid',
      detail: 'the entry has not one tenant',
    });
    await using lax = await staff(server.url, { ...options, require_tenant: false, default_tenant: 'rest' });
    expect(principalOf(await lax.login('bob', 'can-we-fix-it'))?.tenant_id).toBe('rest');
  });

  test('never logs a person in on the connection that looks people up', async () => {
    verifies('SF-52');
    const before = server.log().length;
    await using people = await staff(server.url, { cache_seconds: 0 });
    for (let i = 0; i < 5; i++) {
      expect(await people.login(...ALICE)).toMatchObject({ kind: 'authenticated' });
      expect(await people.login('alice', 'wrong')).toMatchObject({ reason: 'invalid' });
      people.around.move(400_000);
    }
    const log = server.log().slice(before);
    const connections = Map.groupBy(log.matchAll(/conn=(\d+) op=\d+ BIND dn="([^"]+)" method/g), ([, id]) => id);
    for (const binds of connections.values()) expect(binds).toHaveLength(1);
    const byGateway = [...connections.values()].flat().filter(([, , dn]) => dn === GATEWAY_DN);
    // Looked up ten times and more, over connections that were kept.
    expect(byGateway.length).toBeLessThanOrEqual(5);
  });

  test('says goodbye on every connection', async () => {
    verifies('SF-52');
    const before = server.log().length;
    const people = await staff(server.url);
    await people.login(...ALICE);
    await people[Symbol.asyncDispose]();
    const of = (pattern: RegExp) => [...server.log().slice(before).matchAll(pattern)].map(([, id]) => id);
    await expect
      .poll(() => {
        const ended = of(/conn=(\d+) op=\d+ UNBIND/g);
        return of(/conn=(\d+) fd=\d+ ACCEPT/g).filter((id) => !ended.includes(id));
      })
      .toEqual([]);
    expect(of(/conn=(\d+) fd=\d+ ACCEPT/g)).toHaveLength(2);
  });

  test('is not asked again about a password it just proved, and soon is', async () => {
    await using people = await staff(server.url, { cache_seconds: 60 });
    const first = await people.login(...ALICE);
    const log = server.log();
    expect(await people.login(...ALICE)).toBe(first);
    expect(await people.login('alice', 'wonder land 2')).toMatchObject({ reason: 'invalid' });
    people.around.move(59_000);
    expect(server.log().slice(log.length)).not.toContain('uid=alice,ou=people,dc=example,dc=org" mech=SIMPLE');
    people.around.move(2000);
    expect(await people.login(...ALICE)).not.toBe(first);
  });

  test('is asked once about the same login at the same time', async () => {
    await using people = await staff(server.url);
    const before = server.log().length;
    const results = await Promise.all(Array.from({ length: 10 }, () => people.login(...ALICE)));
    expect(new Set(results).size).toBe(1);
    const binds = server
      .log()
      .slice(before)
      .match(/BIND dn="uid=alice,[^"]*" method/g);
    expect(binds).toHaveLength(1);
  });

  test('locks a name after wrong passwords, however it is written, and before the directory would', async () => {
    verifies('SF-54');
    await using people = await staff(server.url, { lockout: { failures: 3, seconds: 60 } });
    // The window is aligned to the epoch: all of them fall into one.
    for (const name of ['alice', 'ALICE', ' Alice', '\uff41lice']) await people.login(name, 'wrong');
    const before = server.log().length;
    expect(await people.login(...ALICE)).toMatchObject({ kind: 'rejected', reason: 'locked', retryAfter: 60 });
    expect(await people.login('aLiCe ', 'wonder land 1')).toMatchObject({ reason: 'locked' });
    expect(server.log().slice(before)).not.toContain('BIND');
    expect(await people.login('bob', 'can-we-fix-it')).toMatchObject({ kind: 'authenticated' });
    people.around.move(61_000);
    expect(await people.login(...ALICE)).toMatchObject({ kind: 'authenticated' });
  });

  test('locks names that do not exist in the same way', async () => {
    verifies('SF-54');
    await using people = await staff(server.url, { lockout: { failures: 2, seconds: 60 } });
    await people.login('mallory', 'x');
    await people.login('mallory', 'y');
    expect(await people.login('mallory', 'z')).toMatchObject({ reason: 'locked' });
  });

  test('strangers lock a name for strangers, never for its owner, who has a lock of their own', async () => {
    verifies('SF-54');
    const lockout = { failures: 3, seconds: 60 };
    await using people = await staff(server.url, { lockout, cache_seconds: 0 });
    const home = '198.51.100.7';
    expect(await people.login(...ALICE, home)).toMatchObject({ kind: 'authenticated' });
    for (const n of [1, 2, 3]) await people.login('alice', `guess ${n}`, `203.0.113.${n}`);
    expect(await people.login(...ALICE, '203.0.113.9')).toMatchObject({ reason: 'locked' });
    expect(await people.login(...ALICE, home)).toMatchObject({ kind: 'authenticated' });
    // Nor is a known address a place to guess from without end, or to guess at others.
    for (const n of [1, 2, 3])
      expect(await people.login('alice', `typo ${n}`, home)).toMatchObject({ reason: 'invalid' });
    expect(await people.login(...ALICE, home)).toMatchObject({ reason: 'locked' });
    for (const n of [1, 2, 3]) await people.login('bob', `guess ${n}`, home);
    expect(await people.login('bob', 'can-we-fix-it', home)).toMatchObject({ reason: 'locked' });
  });

  test('a known place is a network of IPv6, and known for one name however it is written', async () => {
    await using people = await staff(server.url, { lockout: { failures: 2, seconds: 60 }, cache_seconds: 0 });
    await people.login('ALICE ', ALICE[1], '2001:db8:1:2::7');
    for (const n of [1, 2]) await people.login('alice', `guess ${n}`, '2001:db8:9::1');
    expect(await people.login(...ALICE, '2001:db8:1:2::8')).toMatchObject({ kind: 'authenticated' });
    expect(await people.login(...ALICE, '2001:db8:1:3::8')).toMatchObject({ reason: 'locked' });
  });

  test('counts guesses made at the same time', async () => {
    await using people = await staff(server.url, { lockout: { failures: 3, seconds: 60 } });
    const guesses = await Promise.all(Array.from({ length: 15 }, (_, i) => people.login('alice', `guess ${i}`)));
    const reasons = guesses.map((one) => (one.kind === 'rejected' ? one.reason : one.kind));
    expect(reasons.filter((reason) => reason === 'invalid')).toHaveLength(3);
    expect(reasons.filter((reason) => reason === 'locked')).toHaveLength(12);
  });

  test('asks as much about a name that is not there as about a wrong password', async () => {
    verifies('SF-54');
    await using people = await staff(server.url, { cache_seconds: 0 });
    await people.login(...ALICE);
    for (const name of ['alice', 'mallory', 'twin']) {
      const before = server.log().length;
      await people.login(name, 'wrong password');
      // The log comes by a pipe of its own, maybe after the answer.
      await vi.waitFor(() => {
        const lines = server
          .log()
          .slice(before)
          .matchAll(/ (ACCEPT|BIND|SRCH) (?!attr|.*mech)/g);
        expect([...lines].map(([, what]) => what)).toEqual(['SRCH', 'ACCEPT', 'SRCH', 'BIND']);
      });
    }
  });

  test('refuses no sooner for one cause than for another', async () => {
    verifies('SF-54');
    await using people = await staff(server.url, { refusal_ms: 150 });
    for (const [name, password] of [
      ['mallory', 'x'],
      ['alice', 'x'],
      ['twin', 'x'],
      ['alice', ''],
    ] as const) {
      const began = performance.now();
      await people.login(name, password);
      const took = performance.now() - began;
      expect(took).toBeGreaterThanOrEqual(145);
    }
  });

  test('answers with the same words for every cause', async () => {
    verifies('SF-54');
    await using people = await staff(server.url);
    const shown = async (name: string) => {
      const { detail: _detail, ...rest } = (await people.login(name, 'x')) as { detail?: string };
      return rest;
    };
    const wrong = await shown('alice');
    expect(await shown('mallory')).toEqual(wrong);
    expect(await shown('twin')).toEqual(wrong);
  });

  test('does not refuse anybody because the gateway’s own account is refused', async () => {
    await using people = await staff(server.url, { bind_password: 'changed meanwhile' });
    await expect(people.login(...ALICE)).rejects.toThrow('refuses bind_dn: wrong password');
    expect(await people.provider.health?.()).toEqual({
      state: 'down',
      detail: 'the directory refuses bind_dn: wrong password',
    });
  });

  test('that goes away is an outage and not a wrong password, and is found again when it is back', async () => {
    const once = await startSlapd({ ca });
    await using people = await staff(once.url, { cache_seconds: 0 });
    expect(await people.login(...ALICE)).toMatchObject({ kind: 'authenticated' });
    await once.kill();
    await expect(people.login(...ALICE)).rejects.toThrow('the directory');
    await expect(people.login('alice', 'wrong')).rejects.toThrow('the directory');
    expect(await people.provider.health?.()).toMatchObject({ state: 'down' });
    await using again = await startSlapd({ ca, ports: once.ports });
    expect(again.url).toBe(once.url);
    expect(await people.login(...ALICE)).toMatchObject({ kind: 'authenticated' });
    expect(await people.provider.health?.()).toEqual({ state: 'ok' });
    await once[Symbol.asyncDispose]();
  });

  test('over StartTLS is never spoken to in the clear after it was restarted', async () => {
    verifies('SF-52');
    const once = await startSlapd({ ca });
    await using people = await staff(once.url, { start_tls: true, ca: server.ca, cache_seconds: 0 });
    expect(await people.login(...ALICE)).toMatchObject({ kind: 'authenticated' });
    await once.kill();
    await using again = await startSlapd({ ca, ports: once.ports });
    expect(await people.login(...ALICE)).toMatchObject({ kind: 'authenticated' });
    for (const [bind] of again.log().matchAll(/BIND dn=.* bind_ssf=0 ssf=\d+/g)) expect(bind).not.toMatch(/ ssf=0$/);
    await once[Symbol.asyncDispose]();
  });

  test('that is stopped in its tracks is an outage once the time is over', async () => {
    verifies('SF-52');
    const frozen = await startSlapd({ ca });
    await using people = await staff(frozen.url, { timeout_ms: 300, connect_timeout_ms: 200 });
    await people.login(...ALICE);
    frozen.signal('SIGSTOP');
    people.around.move(120_000);
    await expect(people.login(...ALICE)).rejects.toThrow('the directory');
    frozen.signal('SIGCONT');
    expect(await people.login(...ALICE)).toMatchObject({ kind: 'authenticated' });
    await frozen[Symbol.asyncDispose]();
  });

  test('has a second server that is asked when the first is away', async () => {
    const gone = await startSlapd({ ca });
    await gone[Symbol.asyncDispose]();
    await using people = await staff(gone.url, { url: [gone.url, server.url] });
    expect(await people.login(...ALICE)).toMatchObject({ kind: 'authenticated' });
  });

  test('gets no more connections at once than it is to have', async () => {
    await using people = await staff(server.url, { pool: { max_connections: 2 }, cache_seconds: 0 });
    const before = server.log().length;
    const names = Array.from({ length: 12 }, (_, i) => (i % 2 === 0 ? 'alice' : `nobody${i}`));
    await Promise.all(names.map((name) => people.login(name, 'wonder land 1')));
    let open = 0;
    let most = 0;
    for (const [, what] of server
      .log()
      .slice(before)
      .matchAll(/fd=\d+ (ACCEPT|closed)/g)) {
      open += what === 'ACCEPT' ? 1 : -1;
      most = Math.max(most, open);
    }
    // Two to look people up and two to log in; the server may note an end a moment late.
    expect(most).toBeLessThanOrEqual(6);
  });

  test('is not waited for by somebody who left', async () => {
    await using people = await staff(server.url);
    const left = AbortSignal.abort();
    const login = { name: 'alice', password: 'wonder land 1' };
    await expect(people.provider.verify(login, people.around.facts(), left)).rejects.toThrow();
  });
});

test('the server’s own password is never part of what is thrown', async () => {
  await using people = await staff('ldap://127.0.0.1:9');
  const error = await people.login('alice', 'a secret word').catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(Error);
  const { inspect } = await import('node:util');
  expect(inspect(error, { depth: 10 })).not.toContain('a secret word');
  expect(inspect(error, { depth: 10 })).not.toContain(GATEWAY_PASSWORD);
});
