/** Numbers of policy data mean what is written, or the data are refused. */
import { describe, expect, test } from 'vitest';
import { Secret } from '../../../src/core/secret.ts';
import { readContents } from '../../../src/policy/bundle-contents.ts';
import { writeArchive } from '../../../src/policy/bundle-writer.ts';
import { yamlToJson } from '../../../src/policy/bundle-yaml.ts';
import { parseExactJson } from '../../../src/policy/exact-json.ts';
import { bundleFiles, makeKey, signedArchive } from '../../helpers/bundles.ts';

describe('numbers of policy data', () => {
  test.each([
    ['9007199254740991', Number.MAX_SAFE_INTEGER],
    ['9007199254740992', 2 ** 53],
    ['-9007199254740994', -(2 ** 53) - 2],
    ['1e21', 1e21],
    ['90071992547409920e-1', 2 ** 53],
    ['9007199254740992.0', 2 ** 53],
    ['1.5e16', 1.5e16],
    ['0.12345678901234567890', 0.12345678901234568],
    ['"9007199254740993"', '9007199254740993'],
  ])('%s is held', (text, value) => {
    expect(parseExactJson(`{"a":${text}}`)).toEqual({ a: value });
  });

  test.each([
    ['9007199254740993'],
    ['-9007199254740993'],
    ['12345678901234567890'],
    ['9007199254740993.0'],
    ['9007199254740992.5'],
    ['9007199254740993e0'],
    ['1e23'],
    ['1e400'],
    ['-1E+999'],
    [`1${'0'.repeat(400)}`],
  ])('%s is refused, not rounded', (text) => {
    expect(() => parseExactJson(`[{"a":[${text}]}]`)).toThrow(/cannot be held exactly|beyond all that can be held/);
  });

  test.each([
    ['data.json', '{"limits":{"account":9007199254740993}}'],
    ['limits/data.yaml', 'account: 9007199254740993\n'],
    ['smoke.json', '[{"input":{"account":9007199254740993},"expect":{"allow":true}}]'],
  ])('of %s are named in the refusal of the bundle', async (name, text) => {
    const files = new Map([...(await bundleFiles('large numbers')), [name, Buffer.from(text)]]);
    await expect(readContents(writeArchive(files), null)).rejects.toThrow(
      `${name} has a number that cannot be held exactly (9007199254740993): write it as text`,
    );
  });

  test.each([
    ['1e400', 'beyond all that can be held (1e400)'],
    ['.inf', 'beyond all that can be held (.inf)'],
    ['-.INF', 'beyond all that can be held (-.INF)'],
    ['.nan', 'beyond all that can be held (.nan)'],
    ['[&a .inf, *a]', 'beyond all that can be held (.inf)'],
    ['9007199254740993.0', 'that cannot be held exactly (9007199254740993.0): write it as text'],
    ['+9007199254740993.', 'that cannot be held exactly (9007199254740993): write it as text'],
    [`1${'0'.repeat(500_000)}e-499970`, 'that cannot be held exactly'],
  ])('%.40s in YAML is refused, and does not become null', async (text, why) => {
    const files = new Map([...(await bundleFiles('yaml')), ['limits/data.yaml', Buffer.from(`a: ${text}\n`)]]);
    await expect(readContents(writeArchive(files), null)).rejects.toThrow(`limits/data.yaml has a number ${why}`);
  });

  test('in YAML are the same in JSON', () => {
    const text = 'a: [1.5, -0.5, .5, 5., +7.25, 1e3, 007.5, 12, 0x10, 9007199254740992.0]\n1.5: x\n';
    expect(JSON.parse(yamlToJson(text))).toEqual({
      a: [1.5, -0.5, 0.5, 5, 7.25, 1000, 7.5, 12, 16, 2 ** 53],
      1.5: 'x',
    });
  });

  test('of a delta are refused likewise', async () => {
    const patch = '{"data":[{"op":"upsert","path":"/a","value":9007199254740993}]}';
    await expect(readContents(writeArchive(new Map([['patch.json', Buffer.from(patch)]])), null)).rejects.toThrow(
      /patch\.json has a number that cannot be held exactly/,
    );
  });
});

describe('a delta that is signed', () => {
  const key = makeKey('ES256');
  const rules = { keys: { release: { algorithm: key.algorithm, key: new Secret(key.publicPem) } } };
  const delta = (manifest: object | null): Buffer => {
    const files = new Map([['patch.json', Buffer.from('{"data":[{"op":"upsert","path":"/a","value":1}]}')]]);
    if (manifest !== null) files.set('.manifest', Buffer.from(JSON.stringify(manifest)));
    return signedArchive(files, key, 'release');
  };

  test.each([
    [null, /does not name what it is for/],
    [{ revision: 'r2' }, /does not name what it is for/],
    [{ revision: 'r2', metadata: { base: '' } }, /does not name what it is for/],
    [{ revision: 'r2', metadata: { base: 7 } }, /revision that is no short text/],
    [{ metadata: { base: 'r1' } }, /without a revision of its own/],
    [{ revision: 'r1', metadata: { base: 'r1' } }, /without a revision of its own/],
  ])('with the manifest %j is refused', async (manifest, reason) => {
    await expect(readContents(delta(manifest), rules)).rejects.toThrow(reason);
  });

  test('names what it is for and what comes of it', async () => {
    const contents = await readContents(delta({ revision: 'r2', metadata: { base: 'r1' } }), rules);
    expect(contents).toMatchObject({ kind: 'delta', delta: { base: 'r1', label: 'r2' } });
  });
});

describe('a revision', () => {
  const revision = async (files: ReadonlyMap<string, Buffer>) => {
    const contents = await readContents(writeArchive(files), null);
    return contents.kind === 'snapshot' ? contents.bundle.revision : null;
  };

  test('is another one when the manifest or the smoke decisions are, and not when the name alone is', async () => {
    const files = await bundleFiles('one');
    const same = await revision(files);
    expect(await revision(await bundleFiles('two'))).toBe(same);
    const manifest = JSON.parse(String(files.get('manifest.json'))) as { input_paths: string[][] };
    const less = { ...manifest, input_paths: manifest.input_paths.slice(1) };
    const smoke = '[{"input":{"action":"x"},"expect":{"allow":false}}]';
    const others = [
      await revision(new Map([...files, ['manifest.json', Buffer.from(JSON.stringify(less))]])),
      await revision(new Map([...files, ['smoke.json', Buffer.from(smoke)]])),
      await revision(new Map([...files, ['smoke.json', Buffer.from(smoke.replace('false', 'true'))]])),
    ];
    expect(new Set([same, ...others]).size).toBe(4);
  });
});
