/** A provider of the operator's own, loaded by path: the shipped example, and what can be wrong with one. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createIdentityProvider, IDENTITY_SCHEMA } from '../../src/modules.ts';
import type { TestGateway } from '../helpers/gateway.ts';
import { startGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import { cleanEnv, follow, freePorts, MAIN, ROOT, temporaryDirectory } from '../helpers/processes.ts';
import { record, startTasks } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';
import { bearer } from '../unit/identity/setting.ts';

const EXAMPLE = join(ROOT, 'examples/session-file-auth.ts');
const SESSION = 'sess_4fJq0yTz81';
const sessions = (sessions: Record<string, object>) =>
  JSON.stringify(
    Object.fromEntries(
      Object.entries(sessions).map(([id, session]) => [createHash('sha256').update(id).digest('hex'), session]),
    ),
  );

describe('the example in examples/', () => {
  const folder = temporaryDirectory();
  const file = join(folder.path, 'sessions.json');
  let tasks: Awaited<ReturnType<typeof startTasks>>;
  let upstream: Awaited<ReturnType<typeof record>>;
  let gateway: TestGateway;

  beforeAll(async () => {
    writeFileSync(file, sessions({ [SESSION]: { user: 'alice', organization: 'acme', role: 'service' } }));
    tasks = await startTasks();
    upstream = await record(tasks.url);
    gateway = await startGateway({
      identity: { keys: { kind: 'api-key' }, own: { kind: 'custom', module: EXAMPLE, options: { file } } },
      routes: [
        {
          match: '/api',
          protocol: 'http',
          url: upstream.url,
          rewrite: '/tasks',
          identity: ['own', 'keys'],
          tenant_header: true,
        },
      ],
    });
  });
  afterAll(async () => {
    for (const one of [gateway, upstream, tasks]) await one?.[Symbol.asyncDispose]();
    folder[Symbol.dispose]();
  });

  const ask = (token: string) => call(`${gateway.url}/api`, { headers: { authorization: `Bearer ${token}` } });

  test('says who asks; the core is untouched', async () => {
    verifies('D-01', 'D-02', 'D-10', 'D-13');
    expect((await ask(SESSION)).status).toBe(200);
    expect(upstream.header('x-auth-user')).toEqual(['alice']);
    expect(upstream.header('x-tenant-id')).toEqual(['acme']);
    expect(upstream.header('x-auth-roles')).toEqual(['developer']);
  });

  test('refuses a session it does not know, and leaves to the next provider what is not its own', async () => {
    expect((await ask('sess_other')).status).toBe(401);
    const key = await gateway.key('developer');
    expect((await call(`${gateway.url}/api`, { key })).status).toBe(200);
  });

  test('that throws is an outage, and nobody gets in', async () => {
    writeFileSync(file, 'not JSON');
    const answer = await ask(SESSION);
    expect(answer.status).toBe(503);
    expect(answer.text).not.toContain('JSON');
  });
});

/** As a person writes it on the first day. */
const MY_AUTH = `export default class MyAuth {
  async authenticate(credential) {
    if (credential.kind !== 'bearer') return { kind: 'not-applicable' };
    return credential.value === 'valid_token'
      ? { kind: 'authenticated', principal: { id: 'u1', tenant_id: 'test-tenant', roles: ['developer'] } }
      : { kind: 'rejected', reason: 'invalid' };
  }
}
`;

describe('D1, a provider of one’s own without a change of the server', () => {
  test('is named by two variables, and says who asks', { timeout: 60_000 }, async () => {
    verifies('D-01', 'D-02', 'D-04', 'D-05', 'D-42', 'D-43', 'D-47');
    using place = temporaryDirectory();
    writeFileSync(join(place.path, 'my-auth.mjs'), MY_AUTH);
    // The file as it is shipped; only the policies are elsewhere.
    mkdirSync(join(place.path, 'config'));
    const shipped = readFileSync(join(ROOT, 'config/dynamo.yaml'), 'utf8');
    expect(shipped).toContain('../policies');
    const policies = JSON.stringify(join(ROOT, 'policies'));
    writeFileSync(join(place.path, 'config/dynamo.yaml'), shipped.replaceAll('../policies', policies));
    const [port, admin] = await freePorts(2);
    const env = cleanEnv({
      ...{ DYN_AUTH_PROVIDER: 'custom', PORTCULLIS_AUTH_MODULE: './my-auth.mjs', NO_COLOR: '1' },
      ...{ PORTCULLIS_PORT: String(port), PORTCULLIS_ADMIN_PORT: String(admin) },
    });
    const serve = [MAIN, 'serve', '-c', 'config/dynamo.yaml'];
    await using gateway = follow(
      spawn(process.execPath, serve, { cwd: place.path, env, stdio: ['ignore', 'pipe', 'pipe'] }),
    );
    const [, url = ''] = await gateway.printed(/"data":"(http[^"]+)"/);
    const me = (token?: string) =>
      call(`${url}/auth/me`, token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } });
    const invalid = await me('invalid_token');
    expect([invalid.status, codeOf(invalid.body)]).toEqual([401, 'INVALID_CREDENTIALS']);
    const valid = await me('valid_token');
    expect([valid.status, valid.body]).toEqual([
      200,
      expect.objectContaining({ id: 'u1', tenant_id: 'test-tenant', roles: ['developer'], type: 'user' }),
    ]);
    const missing = await me();
    expect([missing.status, codeOf(missing.body)]).toEqual([401, 'MISSING_CREDENTIALS']);
    expect(missing.headers.get('www-authenticate')).toContain('Bearer');
    // Of another scheme: it is not its business, and nobody else's.
    expect((await call(`${url}/auth/me`, { headers: { authorization: 'Basic dTp4' } })).status).toBe(401);
    gateway.kill('SIGTERM');
    await gateway.exited;
    expect(gateway.stdout() + gateway.stderr()).not.toMatch(/valid_token/);
  });
});

const codeOf = (body: unknown) => (body as { error?: { code?: string } }).error?.code;

describe('a module of one’s own', () => {
  const folder = temporaryDirectory();
  afterAll(() => folder[Symbol.dispose]());
  let count = 0;

  function moduleOf(text: string): string {
    const name = `module-${count++}.mjs`;
    writeFileSync(join(folder.path, name), text);
    return `./${name}`;
  }
  const env = () => ({
    ...{ name: 'own', mode: 'development' as const, baseDir: folder.path, clock: { now: () => 0 } },
    logger: { debug() {}, info() {}, warn() {}, error() {} },
  });
  const open = (config: object) =>
    createIdentityProvider(IDENTITY_SCHEMA.parse({ kind: 'custom', ...config }), env() as never);
  const GOOD = '{ authenticate: () => ({ kind: "not-applicable" }) }';

  test('may be a class, by name or as the default, or a module with a schema', async () => {
    const many = moduleOf(
      `export class One { authenticate() { return 1 } } export class Two { authenticate() { return 2 } }`,
    );
    const named = await open({ module: many, class: 'Two' });
    expect(named.authenticate(bearer('x'), undefined as never, undefined as never)).toBe(2);
    await open({ module: moduleOf(`export default class { authenticate() {} }`) });
    await open({ module: moduleOf(`export class Only { authenticate() {} }`) });
    const schema = `{ safeParse: (value) => value.url ? { success: true, data: value } : { success: false, error: { issues: [{ path: ['url'], message: 'is required', code: 'custom' }] } } }`;
    const full = moduleOf(`export default { kind: 'mine', schema: ${schema}, create: () => (${GOOD}) }`);
    await open({ module: full, options: { url: 'x' } });
    await expect(open({ module: full })).rejects.toThrow('identity.own.options');
  });

  test('is read again at a reload when it was changed, and as it was when it is changed back', async () => {
    const home = temporaryDirectory();
    const file = join(home.path, 'mine.mjs');
    const write = (id: string) =>
      writeFileSync(
        file,
        `let asked = 0; export default class { authenticate() { asked += 1; return { kind: 'authenticated', principal: ` +
          `{ id: '${id}-' + asked, tenant_id: 'acme', roles: ['developer'] } } } }`,
      );
    write('first');
    const config = {
      identity: { own: { kind: 'custom', module: file } },
      routes: [{ match: '/auth', protocol: 'api' as const, identity: ['own'] }],
    };
    await using gateway = await startGateway(config);
    const who = async () => {
      const { body } = await call(`${gateway.url}/auth/me`, { headers: { authorization: 'Bearer x' } });
      return (body as { readonly id?: string } | null)?.id;
    };
    expect(await who()).toBe('first-1');
    write('second');
    expect(await who()).toBe('first-2');
    await gateway.reload(config);
    expect(await who()).toBe('second-1');
    write('first');
    await gateway.reload(config);
    expect(await who()).toBe('first-3');
    home[Symbol.dispose]();
  });

  test('that was changed too often asks for a restart: what was loaded is never unloaded', async () => {
    const module = './often.mjs';
    const write = (n: number) =>
      writeFileSync(join(folder.path, module), `export default class { authenticate() { return ${n} } }`);
    for (let n = 0; n < 20; n++) {
      write(n);
      const provider = await open({ module });
      expect(provider.authenticate(bearer('x'), undefined as never, undefined as never)).toBe(n);
    }
    write(20);
    await expect(open({ module })).rejects.toThrow('restart the gateway');
    write(3);
    await open({ module });
  });

  test.each(['mjs', 'cjs'])(
    'is the one that its link leads to now, as mounts of configuration swap it: .%s',
    async (kind) => {
      const at = join(folder.path, `mount-${kind}`);
      const answer = async () => {
        const provider = await open({ module: `./mount-${kind}/own.${kind}` });
        return provider.authenticate(bearer('x'), undefined as never, undefined as never);
      };
      const write = (where: string, n: number) => {
        mkdirSync(join(at, where), { recursive: true });
        const body = `class { authenticate() { return ${n} } }`;
        writeFileSync(
          join(at, where, `own.${kind}`),
          kind === 'cjs' ? `module.exports = ${body}` : `export default ${body}`,
        );
      };
      write('first', 1);
      write('second', 2);
      symlinkSync('first', join(at, 'data'));
      symlinkSync(`data/own.${kind}`, join(at, `own.${kind}`));
      expect(await answer()).toBe(1);
      symlinkSync('second', join(at, 'next'));
      renameSync(join(at, 'next'), join(at, 'data'));
      expect(await answer()).toBe(2);
      write('second', 3);
      expect(await answer()).toBe(3);
    },
  );

  test('that could not be run is run anew when it is asked for again', async () => {
    const file = join(folder.path, 'needy.mjs');
    const need = join(folder.path, 'needed.txt');
    const text = `import { readFileSync } from 'node:fs'; readFileSync(${JSON.stringify(need)});`;
    writeFileSync(file, `${text} export default class { authenticate() { return 1 } }`);
    await expect(open({ module: './needy.mjs' })).rejects.toThrow('needed.txt');
    writeFileSync(need, '');
    const provider = await open({ module: './needy.mjs' });
    expect(provider.authenticate(bearer('x'), undefined as never, undefined as never)).toBe(1);
  });

  test('is told its name, clock, logger, mode and folder, and none of the gateway’s secrets', async () => {
    const provider = await open({
      module: moduleOf(
        `export default class { constructor(options, env) { this.env = env } authenticate() { return this.env } }`,
      ),
    });
    const told = provider.authenticate(bearer('x'), undefined as never, undefined as never);
    expect(Object.keys(told).toSorted()).toEqual(['baseDir', 'clock', 'logger', 'mode', 'name']);
  });

  test.each<[string, () => object, string]>([
    ['is not there', () => ({ module: './nowhere.ts' }), 'there is no file'],
    ['exports nothing usable', () => ({ module: moduleOf('export const a = 1') }), 'name one of its exports'],
    ['exports several', () => ({ module: moduleOf('export class A {} export class B {}') }), 'name one of its exports'],
    ['lacks the export', () => ({ module: moduleOf('export class A {}'), class: 'B' }), 'exports no "B"'],
    ['exports no class', () => ({ module: moduleOf('export const a = 1'), class: 'a' }), 'expected a class'],
    ['makes no provider', () => ({ module: moduleOf('export default class {}') }), 'no method "authenticate"'],
    ['does not compile', () => ({ module: moduleOf('export default class {') }), ''],
    ['throws', () => ({ module: moduleOf('throw new Error("broken")') }), 'broken'],
  ])('that %s is refused at start with a sentence', async (_, config, text) => {
    await expect(open(config())).rejects.toThrow(text);
  });

  test.each(['https://example.com/auth.js', 'http://x/a.js', 'data:text/javascript,1', 'file:///etc/a.js', 'node:fs'])(
    '%s is no path',
    (module) => {
      expect(() => IDENTITY_SCHEMA.parse({ kind: 'custom', module })).toThrow('addresses are refused');
    },
  );
});
