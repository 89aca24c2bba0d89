import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Io } from '../../../src/cli/io.ts';
import { CommandError, UnreachableError, UsageError } from '../../../src/cli/io.ts';
import { keysCommand } from '../../../src/cli/keys.ts';
import { Secret } from '../../../src/core/secret.ts';
import { parseKey } from '../../../src/identity/key-format.ts';
import { apiKey } from '../../../src/identity/providers/api-key.ts';
import { createApiKeyStore } from '../../../src/stores/api-keys.ts';
import { openDatabase } from '../../../src/stores/database.ts';
import { loadPepper } from '../../../src/stores/pepper.ts';
import { verifies } from '../../helpers/verifies.ts';
import { keyHeader, NEVER, setting } from './setting.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'portcullis-keys-command-'));
  writeFileSync(
    join(folder, 'portcullis.yaml'),
    'version: 1\nenvironment: staging\npolicy: { bundle: ./policies }\nstores: { database: "sqlite:./keys.db" }\n',
  );
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function run(...argv: string[]) {
  let out = '';
  let err = '';
  const io: Io = {
    stdin: Readable.from([]),
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
    env: {},
    cwd: folder,
    signal: NEVER,
  };
  return { code: await keysCommand(argv, io), out, err };
}

async function created(...argv: string[]) {
  const { out } = await run('create', '--json', ...argv);
  return JSON.parse(out) as Record<string, unknown> & { api_key: string; key_id: string };
}

describe('portcullis keys', () => {
  test('create warns of a role that the policy data does not know, with those it knows', async () => {
    mkdirSync(join(folder, 'policies'));
    const data = { config: { tool_access: { developer: {}, viewer: {} }, rate_limits: { roles: { '*': 1 } } } };
    writeFileSync(join(folder, 'policies', 'data.json'), JSON.stringify(data));
    const odd = await run('create', '--name', 'ci', '--role', 'develoer', '--role', 'viewer');
    expect([odd.code, odd.err.match(/^warning: .*$/gm)]).toEqual([
      0,
      ['warning: the policy\'s data does not know the role "develoer"; it knows developer, viewer'],
    ]);
    writeFileSync(join(folder, 'policies', 'data.json'), '{"other": 1}');
    expect((await run('create', '--name', 'ci', '--role', 'develoer')).err).not.toContain('warning');
  });

  test('create prints the key once on standard output, and a gateway accepts it', async () => {
    verifies('H-10', 'V-27');
    const { code, out, err } = await run(
      'create',
      '--name',
      'ci',
      '--role',
      'developer',
      '--role',
      'analyst',
      '--permission',
      'p',
      '--tenant',
      'acme',
    );
    expect(code).toBe(0);
    const text = out.trim();
    expect(parseKey(text)).toMatchObject({ prefix: 'pc', environment: 'test' });
    expect(err).not.toContain(text.slice(24));
    await using database = await openDatabase('sqlite:./keys.db', { baseDir: folder });
    const pepper = loadPepper('sqlite:./keys.db', folder);
    await using around = await setting({ keys: createApiKeyStore(database), pepper, environment: 'staging' });
    const provider = await apiKey.create(apiKey.schema.parse({ kind: 'api-key' }), around.env);
    expect(await provider.authenticate(keyHeader(text), around.facts({ now: Date.now() }), NEVER)).toMatchObject({
      kind: 'authenticated',
      principal: { id: 'key:ci', tenant_id: 'acme', roles: ['developer', 'analyst'], permissions: ['p'] },
    });
  });

  test('create --json gives the fields of the key service', async () => {
    verifies('V-13', 'HW-09');
    const key = await created(
      '--name',
      'ci',
      '--scope',
      'model:read',
      '--expires-in-days',
      '30',
      '--allowed-ip',
      '10.0.0.0/8',
      '--rate-limit',
      '50',
    );
    expect(key).toMatchObject({
      name: 'ci',
      tenant_id: 'default',
      scopes: ['model:read'],
      allowed_ips: ['10.0.0.0/8'],
      rate_limit_per_hour: 50,
      last_used: null,
    });
    expect(Date.parse(String(key.expires_at)) - Date.parse(String(key.created_at))).toBe(30 * 86_400_000);
  });

  test('list shows every key and no secret', async () => {
    verifies('V-14');
    const key = await created('--name', 'one');
    await created('--name', 'two\u001b[31m', '--tenant', 'acme');
    const { out } = await run('list', '--json');
    expect((JSON.parse(out) as { items: unknown[] }).items).toHaveLength(2);
    expect(out).not.toContain(key.api_key.slice(24));
    expect(out).not.toContain('hash');
    const table = await run('list', '--tenant', 'acme');
    expect(table.out.split('\n')[1]).toMatch(/two\ufffd\[31m +acme +test +- +good/);
    expect(table.out).not.toContain('one');
  });

  test('rotate gives a new key and ends the old one after the grace time', async () => {
    verifies('HW-07', 'V-27');
    const key = await created('--name', 'ci', '--role', 'developer');
    const { out } = await run('rotate', key.key_id, '--grace-hours', '0', '--json');
    expect(JSON.parse(out)).toMatchObject({ name: 'ci', roles: ['developer'] });
    expect((await run('list')).out).toMatch(/expired|replaced/);
    await expect(run('rotate', key.key_id)).rejects.toThrow(CommandError);
  });

  test('revoke needs --yes and an existing key', async () => {
    verifies('HW-09');
    const { key_id } = await created('--name', 'ci');
    await expect(run('revoke', key_id)).rejects.toThrow(UsageError);
    expect((await run('list')).out).toContain('good');
    expect((await run('revoke', key_id, '--yes')).code).toBe(0);
    expect((await run('list')).out).toContain('revoked');
    await expect(run('revoke', 'nothing', '--yes')).rejects.toThrow('there is no key nothing');
  });

  test.each([
    [[]],
    [['make']],
    [['create']],
    [['create', '--name', ' ']],
    [['create', '--name', 'x', 'extra']],
    [['list', 'extra']],
    [['rotate']],
    [['revoke', '--yes']],
    [['create', '--name', 'x', '--expires-in-days', '0']],
    [['create', '--name', 'x', '--expires-in-days', '1.5']],
    [['create', '--name', 'x', '--type', 'root']],
    [['create', '--name', 'x', '--allowed-ip', 'nowhere']],
  ])('%j is a usage mistake', async (argv) => {
    await expect(run(...argv)).rejects.toThrow(UsageError);
  });

  test('an option that does not exist is one, too', async () => {
    // The dispatcher knows it by this code.
    await expect(run('create', '--bogus')).rejects.toMatchObject({ code: 'ERR_PARSE_ARGS_UNKNOWN_OPTION' });
  });

  test('without a configuration nothing is reached', async () => {
    await expect(run('list', '-c', 'missing.yaml')).rejects.toThrow(UnreachableError);
  });

  test('a configuration with mistakes is told', async () => {
    writeFileSync(join(folder, 'bad.yaml'), 'version: 2\n');
    await expect(run('list', '-c', 'bad.yaml')).rejects.toThrow(CommandError);
  });

  test('a configured pepper is used', async () => {
    const pepper = 'Zq8vN3xK1mW7tR5yB2cD9fG4';
    writeFileSync(join(folder, 'p.yaml'), `version: 1\nstores: { database: "sqlite:./p.db", pepper: "${pepper}" }\n`);
    const { api_key } = await created('--name', 'x', '-c', 'p.yaml');
    await using database = await openDatabase('sqlite:./p.db', { baseDir: folder });
    const { findGoodKey } = await import('../../../src/identity/key-issuing.ts');
    const issuing = {
      keys: createApiKeyStore(database),
      environment: 'development',
      clock: { now: () => Date.now() },
    } as const;
    expect(await findGoodKey({ ...issuing, pepper: new Secret(pepper) }, api_key)).not.toBeNull();
    expect(await findGoodKey({ ...issuing, pepper: new Secret('another one, long enough') }, api_key)).toBeNull();
  });

  test('--help says what there is', async () => {
    expect(await run('--help')).toMatchObject({ code: 0, out: expect.stringContaining('keys rotate ID') });
  });
});
