/** What `serve` says of a setup that passes the schema and cannot be used: a sentence, never a stack; `config check` says the same. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { main } from '../../../src/cli/cli.ts';
import { fakeIo } from './fake-io.ts';

const home = mkdtempSync(join(tmpdir(), 'portcullis-serve-'));
afterAll(() => rmSync(home, { recursive: true }));

const FILES = {
  'junk.pem': 'no key at all',
  'named.pem': '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n',
  'kept/order.json': 'no order',
  'short.db.pepper': 'short',
  'syntax.mjs': 'export default class {',
  'throws.mjs': 'export default class { constructor() { throw new TypeError("no options given"); } }',
  'nothing.mjs': 'export default { a: 1 };',
  'idle.mjs': 'export default class {}',
} as const;
mkdirSync(join(home, 'kept'));
for (const [name, text] of Object.entries(FILES)) writeFileSync(join(home, name), text);

const own = (module: string) => ({ kind: 'custom', module });

const LDAP = { user_dn_template: 'uid={username},dc=x', base_dn: 'dc=x' };
const BASE = {
  version: 1,
  listen: { data: '127.0.0.1:0', admin: { address: '127.0.0.1:0' } },
  // Quicker than one that is compiled, and refused later.
  policy: { bundle: 'nowhere' },
  stores: { database: 'sqlite::memory:', shared: 'memory' },
  logging: { level: 'error' },
};

async function run(config: object, ...argv: string[]) {
  writeFileSync(join(home, 'p.json'), JSON.stringify(config));
  const { io, written } = fakeIo({ cwd: home, signal: AbortSignal.abort() });
  return { code: await main([...argv, '-c', join(home, 'p.json')], io), ...written };
}

const oidc = { kind: 'oidc', issuer: 'https://idp.example.com', client_id: 'us' };
const upstream = { url: 'https://127.0.0.1:1/', ca: 'junk.pem' };

test.each<[object, string, string]>([
  [{ identity: { p: own('./nowhere.mjs') } }, 'identity.p.module', 'there is no file'],
  [{ identity: { p: own('./syntax.mjs') } }, 'identity.p.module', 'syntax.mjs: '],
  [{ identity: { p: own('./throws.mjs') } }, 'identity.p.module', 'throws.mjs: no options given'],
  [{ identity: { p: own('./nothing.mjs') } }, 'identity.p.module', 'nothing.mjs: expected a class'],
  [{ identity: { p: own('./idle.mjs') } }, 'identity.p.module', 'idle.mjs: what it makes has no method "authenticate"'],
  [
    { identity: { p: { kind: 'jwt', issuer: 'us', audience: 'us', public_key: 'junk.pem' } } },
    'identity.p.public_key',
    'junk.pem: ',
  ],
  [
    { identity: { p: { kind: 'jwt', issuer: 'us', audience: 'us', public_key: 'gone.pem' } } },
    'identity.p.public_key',
    'gone.pem: ',
  ],
  [{ identity: { p: { kind: 'mtls', ca: 'junk.pem' } } }, 'identity.p.ca', 'junk.pem: holds no certificate'],
  [{ identity: { p: { kind: 'mtls', ca: ['gone.pem'] } } }, 'identity.p.ca', 'gone.pem: no such file'],
  [
    { identity: { p: { kind: 'ldap', url: 'ldaps://127.0.0.1:1', ...LDAP, ca: 'junk.pem' } } },
    'identity.p.ca',
    'junk.pem: holds no certificate',
  ],
  [
    { identity: { p: { kind: 'remote-key', url: 'https://127.0.0.1:1', service_id: 'us', ca: 'junk.pem' } } },
    'identity.p.ca',
    'junk.pem: holds no certificate',
  ],
  [{ identity: { p: oidc } }, 'identity.p', 'set audience, or public_url'],
  [{ identity: { p: { ...oidc, audience: 'them', private_key: 'junk.pem' } } }, 'identity.p.private_key', 'junk.pem: '],
  [
    { accounts: { enabled: true }, identity: { p: { kind: 'local', cookies: true } } },
    'identity.p',
    'cookies needs public_url',
  ],
  [{ servers: { s: upstream } }, 'servers.s.ca', 'junk.pem: holds no certificate'],
  [{ models: { m: upstream } }, 'models.m.ca', 'junk.pem: holds no certificate'],
  [
    { routes: [{ match: '/x', protocol: 'http', anonymous: true, ...upstream }] },
    'routes[0].ca',
    'junk.pem: holds no certificate',
  ],
  [
    { listen: { ...BASE.listen, data: { address: '127.0.0.1:0', tls: { cert: 'gone.pem', key: 'gone.pem' } } } },
    'listen.data.tls',
    'gone.pem: no such file',
  ],
  [
    { listen: { ...BASE.listen, admin: { address: '127.0.0.1:0', tls: { cert: 'named.pem', key: 'junk.pem' } } } },
    'listen.admin.tls',
    'cannot be used together',
  ],
  [
    { stores: { ...BASE.stores, shared: 'rediss://127.0.0.1:1', shared_ca: 'junk.pem' } },
    'stores.shared_ca',
    'junk.pem: holds no certificate',
  ],
  [{ audit: { file: 'junk.pem/audit.log' } }, 'audit.file', 'audit.log cannot be written'],
  [{ stores: { ...BASE.stores, database: 'sqlite:nothing.mjs' } }, 'stores.database', 'is no SQLite database'],
  [
    { policy: { bundle: { url: 'https://127.0.0.1:1', resource: 'b', persist: 'kept' } } },
    'policy.bundle',
    'order.json cannot be read',
  ],
  [{ stores: { ...BASE.stores, shared: { module: './idle.mjs' } } }, 'stores.shared', 'has no method "hit"'],
  [{ stores: { ...BASE.stores, database: 'sqlite:short.db' } }, 'stores.pepper', 'at least 128 bits'],
  [
    { policy: { ...BASE.policy, status_reports: { url: 'https://127.0.0.1:1', ca: 'junk.pem' } } },
    'policy.status_reports.ca',
    'junk.pem: holds no certificate',
  ],
  [
    { policy: { ...BASE.policy, decision_log: { service: { url: 'https://127.0.0.1:1', ca: 'junk.pem' } } } },
    'policy.decision_log.service.ca',
    'junk.pem: holds no certificate',
  ],
  [
    { policy: { bundle: { url: 'https://127.0.0.1:1', resource: 'b', ca: 'junk.pem' } } },
    'policy.bundle.ca',
    'junk.pem: holds no certificate',
  ],
])('serve refuses %j in a sentence, which config check and doctor say as well', async (part, setting, why) => {
  const config = { ...BASE, ...part };
  const { code, err } = await run(config, 'serve');
  expect([code, err]).toEqual([1, expect.stringContaining(why)]);
  expect(err).not.toMatch(/unexpected error|\n {4}at /);
  const sentence = err.trimEnd().replace('portcullis serve: ', '');
  const checked = await run(config, 'config', 'check');
  expect(checked).toMatchObject({ code: 1, out: expect.stringContaining(sentence), err: '1 problem\n' });
  expect(checked.out).toMatch(/p\.json:1:\d+: /);
  expect(checked.out).toContain(`: ${setting}: `);
  const doctor = await run(config, 'doctor');
  expect(doctor.code).toBe(1);
  const lines = doctor.out.split('\n').filter((line) => line.includes(` ${setting}`));
  expect(lines).toEqual([expect.stringMatching(/^broken/)]);
});

test('config check tells everything that a start would refuse at once, and writes nothing', async () => {
  const config = {
    ...BASE,
    identity: { a: { kind: 'mtls', ca: 'junk.pem' }, b: oidc, c: own('./idle.mjs') },
    servers: { s: upstream },
    stores: { database: 'sqlite:new.db', shared: 'memory' },
    audit: { file: 'new/audit.log' },
  };
  const { code, out, err } = await run(config, 'config', 'check', '--json');
  const { ok, problems } = JSON.parse(out) as { ok: boolean; problems: { path: string }[] };
  expect({ code, err, ok, paths: problems.map(({ path }) => path) }).toEqual({
    ...{ code: 1, err: '', ok: false },
    paths: ['servers.s.ca', 'identity.a.ca', 'identity.b', 'identity.c.module'],
  });
  expect(readdirSync(home).filter((name) => name.startsWith('new'))).toEqual([]);
});
