/** Bundles for tests, good ones and such that are made bad as a corpus says. */
import { generateKeyPairSync } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { Secret } from '../../src/core/secret.ts';
import type { BundleManifest } from '../../src/policy/bundle-format.ts';
import { SIGNATURES, signFiles } from '../../src/policy/bundle-signing.ts';
import { writeArchive } from '../../src/policy/bundle-writer.ts';
import type { Algorithm } from '../../src/policy/jws.ts';
import { POLICIES } from './gateway.ts';

export type Files = Map<string, Buffer>;

/** The shipped policy as the files of a bundle. */
export async function bundleFiles(revision: string, data?: string): Promise<Files> {
  const read = (name: string) => readFile(join(POLICIES, name));
  const manifest = JSON.parse(await readFile(join(POLICIES, 'bundle/manifest.json'), 'utf8')) as BundleManifest;
  const wasm = Object.keys(manifest.entrypoints).map((entrypoint) => ({ entrypoint, module: '/policy.wasm' }));
  return new Map([
    ['data.json', data === undefined ? await read('data.json') : Buffer.from(data)],
    ['policy.wasm', await read('bundle/policy.wasm')],
    ['manifest.json', await read('bundle/manifest.json')],
    ['.manifest', Buffer.from(JSON.stringify({ revision, roots: [''], wasm }))],
  ]);
}

export interface TestKey {
  readonly algorithm: Algorithm;
  readonly privatePem: string;
  readonly publicPem: string;
}

export function makeKey(algorithm: Algorithm): TestKey {
  const curves: Partial<Record<Algorithm, string>> = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' };
  const curve = curves[algorithm];
  if (algorithm.startsWith('HS')) {
    const secret = 'a-shared-bundle-key-of-tests-4711';
    return { algorithm, privatePem: secret, publicPem: secret };
  }
  const { privateKey, publicKey } =
    algorithm === 'EdDSA'
      ? generateKeyPairSync('ed25519')
      : curve === undefined
        ? generateKeyPairSync('rsa', { modulusLength: 2048 })
        : generateKeyPairSync('ec', { namedCurve: curve });
  return {
    algorithm,
    privatePem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    publicPem: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
  };
}

export function signedArchive(files: Files, key: TestKey, keyid?: string): Buffer {
  const signing = { key: { algorithm: key.algorithm, key: new Secret(key.privatePem) }, keyid };
  return writeArchive(new Map([...files, [SIGNATURES, signFiles(files, signing)]]));
}

/** One tar entry, as wrong as it is asked for. */
export function tarEntry(name: string, content: string | Buffer, type = '0'): Buffer {
  const body = Buffer.from(content);
  const block = Buffer.alloc(512);
  block.write(name, 0, 'utf8');
  block.write('0000600\0', 100);
  block.write(`${body.length.toString(8).padStart(11, '0')}\0`, 124);
  block.write('        ', 148);
  block.write(type, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return Buffer.concat([block, body, Buffer.alloc((512 - (body.length % 512)) % 512)]);
}

export const pack = (tar: Buffer): Buffer => gzipSync(tar);
