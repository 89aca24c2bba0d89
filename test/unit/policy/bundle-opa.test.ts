/** What OPA builds and signs is taken here, and what is signed here is taken by OPA. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Secret } from '../../../src/core/secret.ts';
import { untar } from '../../../src/policy/bundle-archive.ts';
import { readContents } from '../../../src/policy/bundle-contents.ts';
import { SIGNATURES, verifyFiles } from '../../../src/policy/bundle-signing.ts';
import { writeArchive } from '../../../src/policy/bundle-writer.ts';
import type { Algorithm } from '../../../src/policy/jws.ts';
import { findOpa } from '../../../src/policy/opa-command.ts';
import { createPolicyEngine } from '../../../src/policy/opa-engine.ts';
import { bundleFiles, makeKey, signedArchive, type TestKey } from '../../helpers/bundles.ts';
import { POLICIES } from '../../helpers/gateway.ts';
import { temporaryDirectory } from '../../helpers/processes.ts';
import { makeRequest, makeServer, NOW } from './requests.ts';

const opa = await findOpa();
const skipped = opa.path === null && process.env.CI !== 'true';
if (skipped) console.warn(`skipped: ${opa.message}`);

/** Data whose digest depends on how numbers and text are treated. */
const HARD = `{"config": {"z": 1.0, "a": 1e3, "big": 10000000000000000000000, "neg": -0, "small": 1E-7,
  "text": "<a & b> \\u2028 \\u00e9 \\ud83d\\ude00 \\u0001 \\/ \\b \\f", "é": 1, "e": [1.50, {}, [], null, true]}}`;

describe.skipIf(skipped)('bundles of OPA', () => {
  const directory = temporaryDirectory('portcullis-opa-bundles-');
  const plain = join(directory.path, 'plain.tar.gz');
  const run = (...args: string[]) =>
    execFileSync(opa.path ?? 'opa', args, { cwd: directory.path, stdio: ['ignore', 'pipe', 'pipe'] }).toString();

  beforeAll(() => {
    cpSync(POLICIES, join(directory.path, 'source'), { recursive: true });
    for (const name of ['bundle', 'profiles'])
      rmSync(join(directory.path, 'source', name), { recursive: true, force: true });
    const entrypoints = ['-e', 'portcullis/main/decision', '-e', 'portcullis/main/decisions'];
    const ignored = ['--ignore', '*_test.rego', '--ignore', '*.schema.json'];
    run('build', '-t', 'wasm', '--prune-unused', ...ignored, ...entrypoints, '-r', 'r-1', '-b', '-o', plain, 'source');
  }, 60_000);
  afterAll(() => directory[Symbol.dispose]());

  function keyFiles(key: TestKey): { readonly secret: string; readonly open: string } {
    if (key.algorithm.startsWith('HS')) return { secret: key.privatePem, open: key.publicPem };
    const secret = join(directory.path, 'key.pem');
    const open = join(directory.path, 'key.pub');
    writeFileSync(secret, key.privatePem);
    writeFileSync(open, key.publicPem);
    return { secret, open };
  }

  const rulesOf = ({ algorithm, publicPem }: TestKey) => ({ keys: { k: { algorithm, key: new Secret(publicPem) } } });

  test('decide as they are', async () => {
    const engine = await createPolicyEngine({
      ...{ bundleDir: plain, dataFile: null, entrypoint: 'portcullis/main/decision', clock: { now: () => NOW } },
      ...{ cache: { entries: 0, base_ttl_ms: 60_000 }, servers: new Map([['orders', makeServer()]]) },
      ...{ decisionLog: null, logger: { debug() {}, info() {}, warn() {}, error() {} } },
    });
    expect(engine.status()).toMatchObject({ last_error: null, bundle_revision: 'r-1' });
    expect(engine.decide(makeRequest())).toMatchObject({ allow: true, failure: null });
    await engine.close();
  });

  const algorithms: Algorithm[] = ['RS256', 'RS512', 'PS256', 'PS384', 'ES256', 'ES384', 'ES512', 'HS256', 'HS512'];

  test.each(algorithms)('signed by opa with %s verify, and changed ones do not', async (algorithm) => {
    const key = makeKey(algorithm);
    const files = new Map([
      ...untar(gunzipSync(readFileSync(plain))),
      ['data.json', Buffer.from(HARD)],
      ['more/data.yaml', Buffer.from('a: 1\nb: [x, "2", 3.5, true, null]\nc: {d: ~}\n')],
    ]);
    writeFileSync(join(directory.path, 'hard.tar.gz'), writeArchive(files));
    run('sign', '--signing-alg', algorithm, '--signing-key', keyFiles(key).secret, '-b', 'hard.tar.gz');
    files.set(SIGNATURES, readFileSync(join(directory.path, SIGNATURES)));
    expect((await readContents(writeArchive(files), rulesOf(key))).kind).toBe('snapshot');
    expect(() =>
      verifyFiles(
        files,
        rulesOf(makeKey(algorithm === 'HS256' ? 'RS256' : algorithm.startsWith('HS') ? 'RS512' : algorithm)),
      ),
    ).toThrow();
    const changed = new Map(files).set('data.json', Buffer.from(HARD.replace('1.0', '1')));
    expect(() => verifyFiles(changed, rulesOf(key))).toThrow('another data.json');
  });

  test('built and signed in one step by opa verify', async () => {
    const key = makeKey('ES256');
    const folder = join(directory.path, 'tiny');
    mkdirSync(folder);
    writeFileSync(join(folder, 'data.json'), HARD);
    const signed = ['--signing-key', keyFiles(key).secret, '--signing-alg', 'ES256', '-o', 'one-step.tar.gz'];
    run('build', '-b', 'tiny', ...signed);
    const files = new Map(untar(gunzipSync(readFileSync(join(directory.path, 'one-step.tar.gz')))));
    expect(JSON.parse(files.get(SIGNATURES)?.toString() ?? '')).toMatchObject({ plugin: '_default' });
    const one = { algorithm: key.algorithm, key: new Secret(key.publicPem) };
    expect([...verifyFiles(files, { keys: { default: one } }).keys()]).toContain('data.json');
    // OPA names its key "default" where nobody names it, and another name is another key.
    expect(() => verifyFiles(files, { keys: { mine: one } })).toThrow('default');
    expect(() =>
      verifyFiles(files, { keys: { default: { ...one, key: new Secret(makeKey('ES256').publicPem) } } }),
    ).toThrow();
    const changed = new Map(files).set('data.json', Buffer.from('{}'));
    expect(() => verifyFiles(changed, { keys: { default: one } })).toThrow('another data.json');
  });

  test.each(algorithms)('signed here with %s are taken by opa', async (algorithm) => {
    const key = makeKey(algorithm);
    const archive = signedArchive(await bundleFiles('ours', HARD), key, 'k');
    const verify = (name: string) =>
      run(
        'build',
        '-b',
        name,
        '--verification-key',
        keyFiles(key).open,
        '--verification-key-id',
        'k',
        '--signing-alg',
        algorithm,
        '-o',
        'checked.tar.gz',
      );
    writeFileSync(join(directory.path, 'ours.tar.gz'), archive);
    verify('ours.tar.gz');
    const files = new Map(untar(gunzipSync(archive)));
    files.set('data.json', Buffer.from('{}'));
    writeFileSync(join(directory.path, 'changed.tar.gz'), writeArchive(files));
    expect(() => verify('changed.tar.gz')).toThrow();
  });
});
