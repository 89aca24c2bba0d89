/** Bundles that are not what they should be: each is refused with its own sentence, and what was in force stays. */
import { createHmac, createPrivateKey, sign } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Secret } from '../../../src/core/secret.ts';
import { readContents } from '../../../src/policy/bundle-contents.ts';
import { SIGNATURES, signFiles, verifyFiles } from '../../../src/policy/bundle-signing.ts';
import { writeArchive } from '../../../src/policy/bundle-writer.ts';
import { createPolicyEngine, type OpaEngine } from '../../../src/policy/opa-engine.ts';
import { bundleFiles, type Files, makeKey, signedArchive, tarEntry } from '../../helpers/bundles.ts';
import { temporaryDirectory } from '../../helpers/processes.ts';
import { makeRequest, makeServer, NOW } from './requests.ts';

interface Case {
  readonly name: string;
  readonly expect: string;
  readonly mutation: Mutation;
}

interface Mutation {
  readonly archive?: string;
  readonly tar?: string;
  readonly entry?: { readonly name: string; readonly content?: string; readonly type?: string };
  readonly remove?: string;
  readonly replace?: Readonly<Record<string, string>>;
  readonly add?: Readonly<Record<string, string>>;
  readonly only?: Readonly<Record<string, string>>;
  readonly unpaired?: boolean;
  readonly strip?: boolean;
  readonly delta?: boolean;
  readonly header?: Readonly<Record<string, unknown>>;
  readonly payload?: { readonly scope?: string; readonly keyid?: string; readonly files?: string };
  readonly resign?: string;
  readonly signature?: string;
  readonly signatures?: string;
}

async function corpus(name: string): Promise<readonly Case[]> {
  const file = new URL(`../../corpus/bundles/${name}.json`, import.meta.url);
  return (JSON.parse(await readFile(file, 'utf8')) as { cases: Case[] }).cases;
}

const hostile = await corpus('hostile');
const forged = await corpus('signatures');
const good = await bundleFiles('good');

const ARCHIVES: Readonly<Record<string, (bytes: Buffer) => Buffer>> = {
  empty: () => Buffer.alloc(0),
  'plain-tar': (bytes) => gunzipSync(bytes),
  zip: () => Buffer.concat([Buffer.from('PK\u0003\u0004'), Buffer.alloc(100)]),
  half: (bytes) => bytes.subarray(0, bytes.length / 2),
  'minus-one': (bytes) => bytes.subarray(0, -1),
  trailing: (bytes) => Buffer.concat([bytes, Buffer.from('trailing')]),
  'second-member': (bytes) => Buffer.concat([bytes, gzipSync('more')]),
  crc: (bytes) => flip(bytes, bytes.length - 8),
  isize: (bytes) => flip(bytes, bytes.length - 4),
  bitflip: (bytes) => flip(bytes, bytes.length >> 1),
  flags: (bytes) => flip(bytes, 3, 0x80),
  bomb: () => gzipSync(tarEntry('data.json', Buffer.alloc(32 * 1024 * 1024, 0x20)), { level: 9 }),
  large: (bytes) => Buffer.concat([bytes, Buffer.alloc(65 * 1024 * 1024)]),
};

function flip(bytes: Buffer, at: number, bit = 1): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] ?? 0) ^ bit;
  return copy;
}

const END = Buffer.alloc(1024);
const TARS: Readonly<Record<string, (tar: Buffer) => Buffer>> = {
  'no-end': (tar) => tar.subarray(0, -1024),
  'after-end': (tar) => Buffer.concat([tar, tarEntry('data.json', '{}')]),
  checksum: (tar) => flip(tar, 1),
  size: (tar) => Buffer.concat([tar.subarray(0, -1024), tarEntry('x/data.json', 'x'.repeat(600)).subarray(0, 1024)]),
  'bad-size': (tar) => Buffer.concat([tar.subarray(0, -1024), withBadSize(), END]),
};

/** The checksum is right, so that the size is what is looked at. */
function withBadSize(): Buffer {
  const entry = tarEntry('x/data.json', '');
  const text = 'not a number';
  let change = 0;
  for (let i = 0; i < 12; i++) {
    change += text.charCodeAt(i) - (entry[124 + i] ?? 0);
    entry[124 + i] = text.charCodeAt(i);
  }
  const sum = Number.parseInt(entry.toString('latin1', 148, 154), 8) + change;
  entry.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return entry;
}

function mutated({ archive, tar, entry, remove, replace, only, unpaired }: Mutation): Buffer {
  const files: Files = new Map(only === undefined ? good : []);
  for (const [name, text] of Object.entries({ ...replace, ...only })) files.set(name, Buffer.from(text));
  if (remove !== undefined) files.delete(remove);
  if (unpaired) files.delete('manifest.json');
  const bytes = writeArchive(files);
  if (archive !== undefined) return (ARCHIVES[archive] ?? missing(archive))(bytes);
  const plain = gunzipSync(bytes);
  if (tar !== undefined) return gzipSync((TARS[tar] ?? missing(tar))(plain));
  if (entry === undefined) return bytes;
  return gzipSync(
    Buffer.concat([plain.subarray(0, -1024), tarEntry(entry.name, entry.content ?? '', entry.type), END]),
  );
}

function missing(what: string): never {
  throw new Error(`the corpus asks for ${what}`);
}

const key = makeKey('RS256');
const otherKey = makeKey('RS256');
const rules = { keys: { k1: { algorithm: key.algorithm, key: new Secret(key.publicPem) } } };

type Claims = Record<string, unknown> & { files?: unknown };

function forgery(mutation: Mutation): Buffer {
  const { strip, delta, remove, replace, add } = mutation;
  if (delta)
    return writeArchive(new Map([['patch.json', Buffer.from('{"data":[{"op":"upsert","path":"/a","value":1}]}')]]));
  const signatures = forgedSignatures(mutation);
  const files: Files = new Map(good);
  for (const [name, text] of Object.entries({ ...replace, ...add })) files.set(name, Buffer.from(text));
  if (remove !== undefined) files.delete(remove);
  if (!strip) files.set(SIGNATURES, signatures);
  return writeArchive(files);
}

function forgedSignatures({ header, payload, resign, signature, signatures }: Mutation): Buffer {
  const text = signFiles(good, { key: { algorithm: key.algorithm, key: new Secret(key.privatePem) } }).toString();
  const token = (JSON.parse(text) as { signatures: [string] }).signatures[0];
  const [oldHeader = '', oldPayload = '', oldSignature = ''] = token.split('.');
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const claims = JSON.parse(Buffer.from(oldPayload, 'base64url').toString()) as Claims;
  const newHeader = header === undefined ? oldHeader : encode(header);
  const newPayload = payload === undefined ? oldPayload : encode(changedClaims(claims, payload));
  let newSignature = resign === undefined ? oldSignature : signed(`${newHeader}.${newPayload}`, resign);
  if (signature === 'flip') newSignature = flip(Buffer.from(oldSignature, 'base64url'), 10).toString('base64url');
  if (signature === 'empty') newSignature = '';
  const made = `${newHeader}.${newPayload}.${newSignature}`;
  if (signatures === 'two') return Buffer.from(JSON.stringify({ signatures: [made, made] }));
  if (signatures === 'none') return Buffer.from(JSON.stringify({ signatures: [] }));
  if (signatures === 'plugin') return Buffer.from(JSON.stringify({ signatures: [made], plugin: 'mine' }));
  return Buffer.from(JSON.stringify({ signatures: [made] }));
}

function changedClaims(claims: Claims, { files, ...more }: NonNullable<Mutation['payload']>): Claims {
  const list = claims.files as Record<string, string>[];
  if (files === 'twice') return { ...claims, files: [...list, list[0]] };
  if (files === 'md5') return { ...claims, files: list.map((one) => ({ ...one, algorithm: 'MD5' })) };
  if (files === 'none') return { ...more };
  return { ...claims, ...more };
}

function signed(text: string, how: string): string {
  if (how === 'hs-with-public-key') return createHmac('sha256', key.publicPem).update(text).digest('base64url');
  const { privatePem } = how === 'other-key' ? otherKey : key;
  return sign('sha256', Buffer.from(text), createPrivateKey(privatePem)).toString('base64url');
}

describe('a bundle that is not what it should be', () => {
  const directory = temporaryDirectory('portcullis-bundles-');
  const file = join(directory.path, 'bundle.tar.gz');
  const alarms: string[] = [];
  let open: OpaEngine;
  let signing: OpaEngine;

  beforeAll(async () => {
    const engine = async (signed: boolean) => {
      await writeFile(file, signed ? signedArchive(good, key) : writeArchive(good));
      return createPolicyEngine({
        ...{ bundleDir: file, dataFile: null, entrypoint: 'portcullis/main/decision', clock: { now: () => NOW } },
        ...{ cache: { entries: 0, base_ttl_ms: 60_000 }, servers: new Map([['orders', makeServer()]]) },
        ...{ decisionLog: null, signing: signed ? rules : null },
        logger: { debug() {}, info() {}, warn() {}, error: (_: object, text?: string) => void alarms.push(text ?? '') },
      });
    };
    open = await engine(false);
    signing = await engine(true);
    expect(open.status().last_error).toBeNull();
    expect(signing.status().last_error).toBeNull();
  });
  afterAll(async () => {
    await open.close();
    await signing.close();
    directory[Symbol.dispose]();
    console.log(
      `${hostile.length} hostile bundles and ${forged.length} forged ones: each refused, the one before stays`,
    );
  });

  async function refused(engine: OpaEngine, archive: Buffer, why: string): Promise<void> {
    const { revision } = engine;
    const heard = alarms.length;
    await writeFile(file, archive);
    const status = await engine.reload();
    expect(status.last_error).toMatch(new RegExp(why));
    expect(status.revision).toBe(revision);
    expect(status.source).toMatchObject({ code: 'bundle_error', active_revision: revision });
    expect(alarms.length).toBe(heard + 1);
    expect(engine.decide(makeRequest()).allow).toBe(true);
  }

  test.each(hostile.map((one) => [one.name, one] as const))(
    '%s is refused, and the one before stays',
    async (_, one) => {
      await refused(open, mutated(one.mutation), one.expect);
    },
  );

  test.each(forged.map((one) => [one.name, one] as const))('signed, but with %s: refused', async (_, one) => {
    await refused(signing, forgery(one.mutation), one.expect);
  });

  test('and after all of them a good one is taken', async () => {
    await writeFile(file, writeArchive(await bundleFiles('next', '{"config":{}}')));
    expect(await open.reload()).toMatchObject({ last_error: null, bundle_revision: 'next' });
  });
});

describe('a signed bundle', () => {
  const algorithms = [
    'RS256',
    'RS384',
    'RS512',
    'PS256',
    'PS384',
    'PS512',
    'ES256',
    'ES384',
    'ES512',
    'HS256',
    'HS384',
    'HS512',
    'EdDSA',
  ] as const;

  test.each(algorithms)('of %s is taken with its key and with no other', async (algorithm) => {
    const own = makeKey(algorithm);
    const archive = signedArchive(good, own, 'k');
    const of = (pem: string) => ({ keys: { k: { algorithm, key: new Secret(pem) } }, keyid: 'k' });
    expect((await readContents(archive, of(own.publicPem))).kind).toBe('snapshot');
    const other = algorithm.startsWith('HS') ? 'another-shared-key-of-tests-0815' : makeKey(algorithm).publicPem;
    await expect(readContents(archive, of(other))).rejects.toThrow('does not verify');
  });

  test('leaves files out that are excluded from signing', () => {
    const files: Files = new Map(good);
    const signatures = signFiles(files, { key: { algorithm: key.algorithm, key: new Secret(key.privatePem) } });
    const all = new Map([...files, ['smoke.json', Buffer.from('[]')], [SIGNATURES, signatures]]);
    expect([...verifyFiles(all, { ...rules, exclude: ['smoke.json'] }).keys()]).not.toContain('smoke.json');
  });
});
