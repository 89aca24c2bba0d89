import { mkdtempSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { main } from '../../../src/cli/cli.ts';
import { loadConfig } from '../../../src/config/load.ts';
import { IDENTITY_SCHEMA } from '../../../src/modules.ts';
import { fakeIo } from './fake-io.ts';

const folder = () => mkdtempSync(join(tmpdir(), 'portcullis-init-'));
const SERVER = ['--server-url', 'http://127.0.0.1:7001/mcp'];

async function init(cwd: string, ...argv: string[]) {
  const { io, written } = fakeIo({ cwd });
  return { code: await main(['init', ...argv], io), ...written };
}

describe('portcullis init', () => {
  test('writes a configuration that loads, a private token, and prints client settings', async () => {
    const cwd = folder();
    const more = ['--server-name', 'orders', '--type', 'sql', '--dialect', 'sqlite', '--port', '8181'];
    const { code, out } = await init(cwd, 'gw', ...SERVER, ...more, '--model-url', 'http://127.0.0.1:7003/v1');
    expect(code).toBe(0);
    const file = join(cwd, 'gw/portcullis.yaml');
    const { config, problems, warnings } = await loadConfig(file, { env: {}, providers: IDENTITY_SCHEMA });
    expect([problems, warnings]).toEqual([[], []]);
    expect(config?.servers.orders).toMatchObject({ type: 'sql', dialect: 'sqlite' });
    expect(config?.listen.data.address).toBe('127.0.0.1:8181');
    expect(config?.routes.map(({ match }) => match)).toEqual(['/mcp/orders', '/v1', '/tools']);
    expect(statSync(join(cwd, 'gw/admin.token')).mode & 0o777).toBe(0o600);
    const token = readFileSync(join(cwd, 'gw/admin.token'), 'utf8').trim();
    expect(Buffer.from(token, 'base64url')).toHaveLength(32);
    expect(out).not.toContain(token);
    for (const client of ['Claude Code', 'Claude Desktop', 'Cursor', 'VS Code', 'OpenAI SDKs'])
      expect(out).toContain(client);
    expect(out).toContain('http://127.0.0.1:8181/mcp/orders');
  });

  test('brings a copy of the policies, so that they can be changed', async () => {
    const cwd = folder();
    await init(cwd, ...SERVER);
    expect(statSync(join(cwd, 'policies/main.rego')).isFile()).toBe(true);
  });

  test('prints the settings as JSON, each of them parseable where it is JSON', async () => {
    const { out } = await init(folder(), ...SERVER, '--json');
    const { clients } = JSON.parse(out) as { clients: { where: string; text: string }[] };
    for (const { where, text } of clients) if (where.endsWith('.json')) JSON.parse(text);
    expect(clients).toHaveLength(4);
  });

  test('names the next commands as they can be typed, and refuses a type nothing is known of', async () => {
    const own = fakeIo({ cwd: folder(), env: { npm_lifecycle_event: 'portcullis' } });
    expect(await main(['init', ...SERVER], own.io)).toBe(0);
    expect(own.written.err).toContain('npm run -s portcullis -- serve -c portcullis.yaml');
    const typo = await init(folder(), ...SERVER, '--type', 'sqll');
    expect(typo).toMatchObject({ code: 2, out: '', err: expect.stringContaining('did you mean "sql"?') });
  });

  test('overwrites nothing, and writes nothing when it cannot write all', async () => {
    const cwd = folder();
    writeFileSync(join(cwd, 'portcullis.yaml'), 'mine');
    const { code, err } = await init(cwd, ...SERVER);
    expect(code).toBe(1);
    expect(err).toContain('exists; nothing is overwritten');
    expect(readFileSync(join(cwd, 'portcullis.yaml'), 'utf8')).toBe('mine');
    expect(statSync(join(cwd, 'admin.token'), { throwIfNoEntry: false })).toBeUndefined();
  });

  test.each([
    [[], '--server-url is needed'],
    [['--server-url', 'ftp://x'], 'url'],
    [[...SERVER, '--server-name', 'a: b\nmode: x'], 'name'],
    [[...SERVER, '--type', 'sql', '--dialect', 'nosql'], 'dialect'],
    [[...SERVER, '--port', '1\n'], '--port'],
    [[...SERVER, 'a', 'b'], 'unexpected argument b'],
  ])('refuses %j before writing anything', async (argv, message) => {
    const cwd = folder();
    const { code, err } = await init(cwd, ...argv);
    expect(code).toBe(2);
    expect(err).toContain(message);
    expect(statSync(join(cwd, 'portcullis.yaml'), { throwIfNoEntry: false })).toBeUndefined();
  });
});
