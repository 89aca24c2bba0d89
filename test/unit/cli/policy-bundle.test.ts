/** Bundles from the command line, as the documentation shows it. */
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { main } from '../../../src/cli/cli.ts';
import { loadConfigText } from '../../../src/config/load.ts';
import { IDENTITY_SCHEMA } from '../../../src/modules.ts';
import { findOpa } from '../../../src/policy/opa-command.ts';
import { createPolicyEngine } from '../../../src/policy/opa-engine.ts';
import { makeKey } from '../../helpers/bundles.ts';
import { POLICIES } from '../../helpers/gateway.ts';
import { ROOT, temporaryDirectory } from '../../helpers/processes.ts';

const opa = await findOpa();
const skipped = opa.path === null && process.env.CI !== 'true';
if (skipped) console.warn(`skipped: ${opa.message}`);

/** The commands of the documentation below a heading. */
function documented(heading: string): string[][] {
  const text = readFileSync(join(ROOT, 'docs/policy-operations.md'), 'utf8');
  const block = /```sh\n(.*?)```/s.exec(text.slice(text.indexOf(`\n## ${heading}\n`)))?.[1] ?? '';
  return block
    .trim()
    .split('\n')
    .map((line) => line.replace(/^portcullis /, '').split(' '));
}

describe.skipIf(skipped)('bundles', () => {
  const directory = temporaryDirectory('portcullis-policy-bundle-');
  let printed = '';
  const run = async (args: readonly string[], env: Record<string, string> = {}): Promise<number> => {
    printed = '';
    const write = (text: string) => {
      printed += text;
    };
    const signal = new AbortController().signal;
    return main([...args], { stdin: Readable.from([]), out: write, err: write, env, cwd: directory.path, signal });
  };

  beforeAll(() => {
    cpSync(POLICIES, join(directory.path, 'policies'), { recursive: true });
    const key = makeKey('ES256');
    writeFileSync(join(directory.path, 'release.pem'), key.privatePem);
    writeFileSync(join(directory.path, 'release.pub'), key.publicPem);
  });
  afterAll(() => directory[Symbol.dispose]());

  test('are built and verified as documented', { timeout: 60_000 }, async () => {
    const commands = documented('Serve policies as bundles');
    expect(commands).toHaveLength(2);
    for (const command of commands) expect(await run(command), printed).toBe(0);
    expect(printed).toMatch(/^bundle\.tar\.gz: a snapshot, revision 2026-11-22 \(sha256:[0-9a-f]{64}\)\n$/);
  });

  test('are signed and verified as documented, and not without their key', { timeout: 60_000 }, async () => {
    const commands = documented('Sign bundles');
    expect(commands).toHaveLength(2);
    for (const command of commands) expect(await run(command), printed).toBe(0);
    expect(printed).toMatch(/^bundle\.tar\.gz: a signed snapshot/);
    expect(await run(['policy', 'verify', 'bundle.tar.gz'])).toBe(1);
    expect(printed).toMatch(/is signed, but .*\(--key names the public key\)\n$/);
    expect(await run(['policy', 'verify', 'bundle.tar.gz', '--key', 'release.pem', '--signing-alg', 'ES256'])).toBe(1);
    expect(printed).toMatch(/no PEM text of a public key/);
    expect(await run(['policy', 'build', 'policies', '--bundle', 'x', '--signing-key', 'release.pem'])).toBe(1);
    expect(printed).toMatch(/RS256 needs an RSA key/);
  });

  test('differ by a delta that is written as documented, and only where data alone differ', {
    timeout: 60_000,
  }, async () => {
    const [build = [], delta = [], verify = []] = documented('Change data alone: deltas');
    const file = join(directory.path, 'policies/data.json');
    const before = readFileSync(file, 'utf8');
    writeFileSync(file, JSON.stringify({ ...(JSON.parse(before) as object), changed: true }));
    expect(await run(build), printed).toBe(0);
    expect(await run(delta), printed).toBe(0);
    expect(printed).toMatch(/^delta\.tar\.gz: 1 change from sha256:\w+ to next\n$/);
    expect(await run(verify), printed).toBe(0);
    expect(printed).toBe('delta.tar.gz: a signed delta, revision next\n');
    const same = delta.map((word) => (word === 'next.tar.gz' ? 'bundle.tar.gz' : word));
    expect(await run(same)).toBe(1);
    expect(printed).toContain('do not differ');
    expect(await run(delta.filter((word) => word !== '--key' && word !== 'release.pub'))).toBe(1);
    expect(printed).toContain('--key names the public key');
    expect(await run(['policy', 'delta', '--from', 'bundle.tar.gz'])).toBe(2);
    expect(await run([...build, '--sequence', '-1'])).toBe(2);
    writeFileSync(file, before);
  });

  test('are explained with the key they are verified with, and not without', { timeout: 60_000 }, async () => {
    const sign = ['--signing-key', 'release.pem', '--signing-alg', 'ES256', '--keyid', 'release'];
    expect(await run(['policy', 'build', 'policies', '--bundle', 'signed.tar.gz', ...sign]), printed).toBe(0);
    writeFileSync(join(directory.path, 'input.json'), '{"action":"gateway:tool:invoke","user":{"roles":["viewer"]}}');
    const explain = ['explain', '--input', 'input.json', '--bundle', 'signed.tar.gz'];
    const key = ['--key', 'release.pub', '--signing-alg', 'ES256', '--keyid', 'release'];
    expect(await run([...explain, ...key]), printed).toBe(0);
    expect(printed).toMatch(/facts are missing: .*rate_limit\.count/);
    expect(await run(explain)).toBe(1);
    expect(printed).toMatch(/is signed, but/);
    const other = makeKey('ES256');
    writeFileSync(join(directory.path, 'other.pub'), other.publicPem);
    expect(await run([...explain, '--key', 'other.pub', '--signing-alg', 'ES256'])).toBe(1);
    expect(printed).toMatch(/signature that does not verify|signed with a key that is not configured/);
    // A configuration brings its keys along.
    const verify = { keys: { release: { algorithm: 'ES256', key: `\${env:BUNDLE_KEY}` } } };
    const config = { version: 1, policy: { bundle: { file: 'signed.tar.gz', signing: verify } } };
    writeFileSync(join(directory.path, 'portcullis.yaml'), JSON.stringify(config));
    const env = { BUNDLE_KEY: readFileSync(join(directory.path, 'release.pub'), 'utf8') };
    expect(await run(['explain', '--input', 'input.json', '-c', 'portcullis.yaml'], env), printed).toBe(0);
    // Of a service there is what was kept last, and any archive that is named.
    mkdirSync(join(directory.path, 'kept'));
    writeFileSync(join(directory.path, 'kept/bundle.tar.gz'), readFileSync(join(directory.path, 'signed.tar.gz')));
    const service = { url: 'http://127.0.0.1:1/bundle.tar.gz', signing: verify, persist: './kept' };
    writeFileSync(join(directory.path, 'service.yaml'), JSON.stringify({ version: 1, policy: { bundle: service } }));
    expect(await run(['explain', '--input', 'input.json', '-c', 'service.yaml'], env), printed).toBe(0);
    expect(await run([...explain, '-c', 'service.yaml'], env), printed).toBe(0);
    const elsewhere = { BUNDLE_KEY: other.publicPem };
    expect(await run([...explain, '-c', 'service.yaml'], elsewhere)).toBe(1);
    expect(printed).toMatch(/signature that does not verify/);
  });

  test('without an entrypoint that a route names are refused', async () => {
    rmSync(join(directory.path, 'policies/bundle'), { recursive: true, force: true });
    expect(await run(['policy', 'build', 'policies', '--bundle', 'plain.tar.gz']), printed).toBe(0);
    const engine = await createPolicyEngine({
      ...{ bundleDir: join(directory.path, 'plain.tar.gz'), dataFile: null, entrypoint: 'portcullis/main/decision' },
      ...{ clock: { now: () => 1_736_937_000_123 }, cache: { entries: 0, base_ttl_ms: 1 }, servers: new Map() },
      ...{ decisionLog: null, logger: { debug() {}, info() {}, warn() {}, error() {} } },
      required: ['portcullis/orders/decision'],
    });
    expect(engine.status()).toMatchObject({ revision: null });
    expect(engine.status().last_error).toBe('the policy has no entrypoint portcullis/orders/decision');
    await engine.close();
  });
});

describe('the configuration of a bundle service', () => {
  const problems = (bundle: object, more: object = {}) =>
    loadConfigText(JSON.stringify({ version: 1, policy: { bundle, ...more } }), join(ROOT, 'shown.yaml'), {
      env: {},
      providers: IDENTITY_SCHEMA,
    }).problems.map(({ text }) => text);
  const key = makeKey('EdDSA');
  const signing = { keys: { a: { algorithm: 'EdDSA', key: key.publicPem } } };

  test('takes https, loopback, and plain HTTP for what is signed and sends no credential', () => {
    expect(problems({ url: 'https://b.example.com/x' })).toEqual([]);
    expect(problems({ url: 'http://127.0.0.1:1/x' })).toEqual([]);
    expect(problems({ url: 'http://b.example.com/x', signing })).toEqual([]);
    expect(problems({ url: 'http://b.example.com/x' }).join()).toMatch(/https/);
    const credential = 'f3a9c2e17b5d48d6a0c4e8b1d7f26395';
    expect(problems({ url: 'http://b.example.com/x', signing, credential }).join()).toMatch(/https/);
    expect(problems({ url: 'http://127.0.0.1.example.com/x' }).join()).toMatch(/https/);
  });

  test('refuses signing without a key, a key that is not there, and data from elsewhere', () => {
    expect(problems({ url: 'https://b.example.com/x', signing: { keys: {} } }).join()).toMatch(/names no key/);
    expect(problems({ url: 'https://b.example.com/x', signing: { ...signing, keyid: 'b' } }).join()).toMatch(/none of/);
    expect(problems({ url: 'https://b.example.com/x' }, { data: './data.json' }).join()).toMatch(/sends the data/);
  });
});
