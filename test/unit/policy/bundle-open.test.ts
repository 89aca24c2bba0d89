/** What is large is verified apart: whatever is in it, requests go on, and a bad one is refused as any other. */
import { describe, expect, test } from 'vitest';
import { Secret } from '../../../src/core/secret.ts';
import { readContents } from '../../../src/policy/bundle-contents.ts';
import { openBundle } from '../../../src/policy/bundle-open.ts';
import { SIGNATURES, signFiles } from '../../../src/policy/bundle-signing.ts';
import { writeArchive } from '../../../src/policy/bundle-writer.ts';
import { bundleFiles, makeKey, signedArchive } from '../../helpers/bundles.ts';

const key = makeKey('ES256');
const rules = { keys: { release: { algorithm: key.algorithm, key: new Secret(key.publicPem) } }, keyid: 'release' };

/** The signature of good files on a bundle whose data is millions of empty lists. */
async function stolen(megabytes: number): Promise<Buffer> {
  const files = await bundleFiles('good');
  const signature = signFiles(files, {
    key: { algorithm: 'ES256', key: new Secret(key.privatePem) },
    keyid: 'release',
  });
  const many = Buffer.alloc(megabytes * 349_525 * 3, '[],');
  const data = Buffer.concat([Buffer.from('{"many":['), many, Buffer.from('0]}')]);
  return writeArchive(new Map([...files, ['data.json', data], [SIGNATURES, signature]]));
}

/** Turns of the event loop until it is done. */
async function turnsDuring(work: Promise<unknown>): Promise<number> {
  let turns = 0;
  let isDone = false;
  const end = work
    .catch(() => undefined)
    .finally(() => {
      isDone = true;
    });
  while (!isDone) {
    await new Promise((next) => setImmediate(next));
    turns++;
  }
  await end;
  return turns;
}

describe('a large signed bundle', () => {
  test('is read as it was signed', async () => {
    const data = JSON.stringify({ config: {}, text: 'ü'.repeat(1_000_000) });
    const files = await bundleFiles('large', data);
    const contents = await readContents(signedArchive(files, key, 'release'), rules);
    expect(contents).toMatchObject({ kind: 'snapshot', bundle: { label: 'large', dataText: data } });
  });

  test('that lies is refused while requests go on', async () => {
    const refusal = readContents(await stolen(4), rules);
    const [turns] = await Promise.all([
      turnsDuring(refusal),
      expect(refusal).rejects.toThrow(/another data\.json than the one that was signed/),
    ]);
    expect(turns).toBeGreaterThan(100);
  });

  test('is refused when that takes too long', async () => {
    await expect(openBundle(await stolen(4), rules, undefined, 1)).rejects.toThrow(/not opened within 1 ms/);
  });

  test('that says it is small is refused before anything in it is read', async () => {
    const archive = await stolen(4);
    archive.writeUInt32LE(1000, archive.length - 4);
    await expect(readContents(archive, rules)).rejects.toThrow(/its length is wrong/);
  });
});

describe('a large archive that nobody signed', () => {
  test('is unpacked while requests go on', async () => {
    const data = JSON.stringify({ text: Buffer.alloc(3_000_000, 'abcdefg').toString('base64') });
    const files = await bundleFiles('large', data);
    const contents = openBundle(writeArchive(files), null);
    const [turns, opened] = await Promise.all([turnsDuring(contents), contents]);
    expect(opened.get('data.json')?.toString()).toBe(data);
    expect(turns).toBeGreaterThan(10);
  });

  test('may unpack to what is configured and no more', async () => {
    const archive = writeArchive(await bundleFiles('large', JSON.stringify({ text: 'x'.repeat(3_000_000) })));
    const limits = { packedBytes: 1_000_000, unpackedBytes: 2_000_000 };
    await expect(openBundle(archive, null, limits)).rejects.toThrow(/unpacks to more than 2000000 bytes/);
    await expect(openBundle(archive, null, { ...limits, unpackedBytes: 4_000_000 })).resolves.toBeDefined();
  });
});
