/** Writes bundle archives, the same bytes for the same files. Source: OPA bundle format, POSIX.1-1988 ustar. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { BundleManifest } from './bundle-format.ts';
import { SIGNATURES, type SignOptions, signFiles } from './bundle-signing.ts';

const BLOCK = 512;

/** A gzipped tar of these files. Names have at most 99 bytes. */
export function writeArchive(files: ReadonlyMap<string, Buffer>): Buffer {
  const pieces: Buffer[] = [];
  for (const [name, content] of files) {
    pieces.push(header(name, content.length), content, Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK));
  }
  pieces.push(Buffer.alloc(2 * BLOCK));
  return gzipSync(Buffer.concat(pieces), { level: 9 });
}

function header(name: string, size: number): Buffer {
  const block = Buffer.alloc(BLOCK);
  if (Buffer.byteLength(name) > 99) throw new Error(`the name ${name} is too long for a bundle`);
  // With a slash in front, as OPA writes and expects them.
  block.write(`/${name}`, 0);
  block.write('0000600\0', 100);
  block.write('0000000\0', 108);
  block.write('0000000\0', 116);
  block.write(`${size.toString(8).padStart(11, '0')}\0`, 124);
  block.write('00000000000\0', 136);
  block.write('        ', 148);
  block.write('0', 156);
  block.write('ustar\u000000', 257);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}

export interface BundleWish {
  /** Directory of the policies, with their data. */
  readonly dir: string;
  /** Directory of the compiled module. */
  readonly compiled: string;
  readonly manifest: BundleManifest;
  /** What it calls itself. */
  readonly revision: string;
  /** Its place in the order of bundles: more than that of the one before. Absent: it does not say. */
  readonly sequence?: number | undefined;
  readonly signing: SignOptions | null;
}

/** The archive of a compiled policy with its data, as a bundle service serves it. Throws Error for a bad key. */
export async function makeBundle({
  dir,
  compiled,
  manifest,
  revision,
  sequence,
  signing,
}: BundleWish): Promise<Buffer> {
  const files = new Map<string, Buffer>();
  const add = async (name: string, path: string) => {
    const content = await readFile(path).catch(() => null);
    if (content !== null) files.set(name, content);
  };
  await add('data.json', join(dir, 'data.json'));
  await add('policy.wasm', join(compiled, 'policy.wasm'));
  await add('manifest.json', join(compiled, 'manifest.json'));
  await add('plan.json.gz', join(compiled, 'plan.json.gz'));
  await add('smoke.json', join(dir, 'smoke.json'));
  const wasm = Object.keys(manifest.entrypoints).map((entrypoint) => ({ entrypoint, module: '/policy.wasm' }));
  files.set(
    '.manifest',
    Buffer.from(
      JSON.stringify({ revision, roots: [''], wasm, ...(sequence === undefined ? {} : { metadata: { sequence } }) }),
    ),
  );
  if (signing !== null) files.set(SIGNATURES, signFiles(files, signing));
  return writeArchive(files);
}
