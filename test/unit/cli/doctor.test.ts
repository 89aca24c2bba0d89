import { cpSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { main } from '../../../src/cli/cli.ts';
import { fakeIo } from './fake-io.ts';

const POLICIES = join(import.meta.dirname, '../../../policies');

interface Finding {
  readonly state: string;
  readonly about: string;
  readonly text: string;
}

async function doctor(config: string, env: Record<string, string> = {}, prepare: (dir: string) => void = () => {}) {
  const cwd = mkdtempSync(join(tmpdir(), 'portcullis-doctor-'));
  writeFileSync(join(cwd, 'portcullis.yaml'), `version: 1\n${config}`);
  prepare(cwd);
  const { io, written } = fakeIo({ cwd, env });
  const code = await main(['doctor', '--json'], io);
  const { findings } = JSON.parse(written.out) as { findings: Finding[] };
  return { code, of: (about: string) => findings.filter((finding) => finding.about === about) };
}

const bundled = `policy: { bundle: "${POLICIES}"`;

describe('portcullis doctor', () => {
  test('finds nothing broken where nothing is', async () => {
    const { code, of } = await doctor(`${bundled} }\nservers: { a: { type: sql, url: "http://127.0.0.1:1/mcp" } }\n`);
    expect(code).toBe(0);
    expect(of('policy.bundle')).toEqual([expect.objectContaining({ state: 'ok' })]);
    expect(of('servers.a.type')).toEqual([]);
  });

  test('names key files that are not there, and asks no address', async () => {
    const common = 'kind: jwt, issuer: i, audience: a';
    const { code, of } = await doctor(
      `identity: { a: { ${common}, jwks: ./keys.json }, b: { ${common}, public_key: ./key.pem }, c: { ${common}, jwks: "https://127.0.0.1:1/jwks" } }\n`,
    );
    expect(code).toBe(1);
    expect(of('identity.a.jwks')).toMatchObject([{ state: 'broken' }]);
    expect(of('identity.b.public_key')).toMatchObject([{ state: 'broken' }]);
    expect(of('identity.c.jwks')).toEqual([]);
  });

  test('names authorities and revocation lists of providers that are not there', async () => {
    const { of } = await doctor(
      'identity: { a: { kind: mtls, ca: [./roots.pem, ./more.pem], crl: ./list.crl }, b: { kind: ldap, url: "ldaps://d", base_dn: "dc=e", user_dn_template: "uid={username},dc=e", ca: ./ldap.pem } }\n',
    );
    expect(of('identity.a.ca')).toMatchObject([{ state: 'broken' }, { state: 'broken' }]);
    expect(of('identity.a.crl')).toMatchObject([{ state: 'broken' }]);
    expect(of('identity.b.ca')).toMatchObject([{ state: 'broken' }]);
  });

  test('speaks of files with secrets, and not of public keys', async () => {
    const write = (name: string, text: string) => (dir: string) =>
      writeFileSync(join(dir, name), text, { mode: 0o644 });
    const config = `listen: { admin: { token: "\${file:./t}" } }\n`;
    const secret = await doctor(config, {}, write('t', 'x'.repeat(40)));
    expect(secret.of('secrets')).toMatchObject([{ state: 'advice', text: expect.stringContaining('chmod 600') }]);
    const open = await doctor(config, {}, write('t', '-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n'));
    expect(open.of('secrets')).toEqual([]);
  });

  test('names what could not be written', async () => {
    const nowhere = './portcullis.yaml/x';
    const { of } = await doctor(
      `audit: { file: ${nowhere} }\nstores: { database: "sqlite:${nowhere}" }\npolicy: { decision_log: { file: ${nowhere} } }\n`,
    );
    for (const about of ['audit.file', 'stores.database', 'policy.decision_log.file']) {
      expect(of(about)).toMatchObject([{ state: 'broken' }]);
    }
  });

  test('says when a policy is older than its sources: broken only where nothing can compile it', async () => {
    const change = (dir: string) => {
      cpSync(POLICIES, join(dir, 'policies'), { recursive: true });
      writeFileSync(join(dir, 'policies/own.rego'), 'package portcullis.custom.own\n');
    };
    const none = await doctor('policy: { bundle: ./policies }\n', { PATH: '' }, change);
    expect(none.of('policy.bundle')).toMatchObject([{ state: 'broken', text: expect.stringContaining('own.rego') }]);
    const some = await doctor('policy: { bundle: ./policies }\n', { OPA_BIN: '/opa' }, change);
    expect(some.of('policy.bundle')).toMatchObject([
      { state: 'advice', text: expect.stringContaining('policy build') },
    ]);
  });

  test('says when the policy admits regions and no network has one', async () => {
    const strict = `${bundled}, data: "${join(POLICIES, 'profiles/strict.json')}" }\n`;
    expect((await doctor(strict)).of('regions')).toMatchObject([{ state: 'broken' }]);
    expect((await doctor(`${strict}regions: { 10.0.0.0/8: us-east-1 }\n`)).of('regions')).toEqual([]);
  });

  test('suggests the type that a mistyped server type means', async () => {
    const { of } = await doctor('servers: { a: { type: sqll, url: "http://127.0.0.1:1/mcp" } }\n');
    expect(of('servers.a.type')).toMatchObject([
      { state: 'advice', text: expect.stringContaining('did you mean "sql"?') },
    ]);
  });
});
