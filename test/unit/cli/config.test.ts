import { randomBytes } from 'node:crypto';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { main } from '../../../src/cli/cli.ts';
import { verifies } from '../../helpers/verifies.ts';
import { fakeIo } from './fake-io.ts';

const directory = mkdtempSync(join(tmpdir(), 'portcullis-cli-config-'));
const SECRET = randomBytes(32).toString('base64url');
writeFileSync(
  join(directory, 'portcullis.yaml'),
  `version: 1
listen: { admin: { token: "\${env:ADMIN_TOKEN}" } }
identity:
  keys: { kind: api-key }
  staff: { kind: jwt, issuer: i, audience: a, secret: "\${env:ADMIN_TOKEN}" }
servers:
  orders: { url: "http://user:${SECRET}@127.0.0.1:7001/mcp", credential: "\${env:ADMIN_TOKEN}" }
routes: [{ match: /mcp, protocol: mcp, server: orders, identity: [keys] }]
stores: { pepper: "\${env:ADMIN_TOKEN}" }
`,
);
writeFileSync(join(directory, 'bad.yaml'), 'version: 2\nfoo: 1\n');

async function run(...argv: string[]) {
  const { io, written } = fakeIo({ cwd: directory, env: { ADMIN_TOKEN: SECRET } });
  return { code: await main(argv, io), ...written };
}

describe('portcullis config', () => {
  test('check is silent on standard output and exits with 0 when all is well', async () => {
    expect(await run('config', 'check')).toMatchObject({ code: 0, out: '' });
    expect(JSON.parse((await run('config', 'check', '--json')).out)).toMatchObject({ ok: true, problems: [] });
  });

  test('check prints each problem on a line and exits with 1', async () => {
    const { code, out } = await run('config', 'check', '-c', 'bad.yaml');
    expect(code).toBe(1);
    const expected = [/bad\.yaml:1:10: version: /, /bad\.yaml:2:1: foo: unknown key/].map((text) =>
      expect.stringMatching(text),
    );
    expect(out.split('\n')).toEqual([...expected, '']);
    const json = JSON.parse((await run('config', 'check', '-c', 'bad.yaml', '--json')).out) as { problems: object[] };
    expect(json.problems[1]).toMatchObject({ line: 2, column: 1, path: 'foo', severity: 'error' });
  });

  test('print shows what took effect without any secret', async () => {
    verifies('X-07', 'DF-18');
    for (const form of [[], ['--json']]) {
      const { code, out, err } = await run('config', 'print', ...form);
      expect(code).toBe(0);
      expect(out + err).not.toContain(SECRET);
    }
    const printed = parse((await run('config', 'print')).out) as Record<string, Record<string, unknown>>;
    expect(printed.limits?.body_bytes).toBe(10_485_760);
    expect(printed.stores?.pepper).toBe('[redacted]');
    const url = 'http://[redacted]@127.0.0.1:7001/mcp';
    expect(printed.servers).toMatchObject({ orders: { url, credential: '[redacted]' } });
    expect(printed.identity).toMatchObject({ staff: { secret: '[redacted]', role_map: { admin: 'admin' } } });
  });

  test('print refuses a configuration that does not load', async () => {
    const refused = { code: 1, out: '', err: expect.stringContaining('bad.yaml:2:1') };
    expect(await run('config', 'print', '-c', 'bad.yaml')).toMatchObject(refused);
  });

  test('schema prints JSON', async () => {
    const schema: unknown = JSON.parse((await run('config', 'schema')).out);
    expect(schema).toMatchObject({ type: 'object', additionalProperties: false });
  });

  test('providers and doctor look at the same file', async () => {
    expect(JSON.parse((await run('providers', '--json')).out)).toEqual({
      providers: [
        { name: 'keys', kind: 'api-key', routes: ['/mcp'] },
        { name: 'staff', kind: 'jwt', routes: [] },
      ],
    });
    const { code, out } = await run('doctor', '--json');
    const { findings } = JSON.parse(out) as { findings: { state: string; about: string }[] };
    expect(findings).toContainEqual(expect.objectContaining({ state: 'broken', about: 'policy.bundle' }));
    expect(findings).toContainEqual(expect.objectContaining({ state: 'advice', about: 'mode' }));
    expect(out).not.toContain(SECRET);
    expect(code).toBe(1);
  });
});
