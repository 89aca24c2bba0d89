/**
 * The files of a compiled bundle: OPA's gzipped tar, and the two files the repository keeps. Source: OPA bundle format
 * (openpolicyagent.org/docs/latest/management-bundles), contracts 3.
 */
import { gunzipSync } from 'node:zlib';

/** `policies/bundle/manifest.json`, beside `policy.wasm`. */
export interface BundleManifest {
  /** `sha256:<hex>` over the digest of policy.wasm and of every source, in the order of their names. */
  readonly revision: string;
  /** Lower-case hex SHA-256 of every source by its path below the policy directory, `/` as separator, sorted. */
  readonly sources: Readonly<Record<string, string>>;
  /** Hex SHA-256 of policy.wasm. */
  readonly wasm: string;
  /** Hex SHA-256 of the plan (`plan.json`, unpacked), which explains what the module decides. */
  readonly plan?: string;
  /** Entrypoint path to the number the module knows it by. */
  readonly entrypoints: Readonly<Record<string, number>>;
  /** Version of the compiler, e.g. `1.22.0`. */
  readonly opa: string;
  /**
   * What the policies read of the input, as paths, sorted; a path covers everything below it. `null`: not known, send
   * all. Elements of `input.calls` are read by the same paths.
   */
  readonly input_paths: readonly (readonly string[])[] | null;
}

/** Bundles above this many bytes unpacked are refused. */
const UNPACKED_LIMIT = 268_435_456;
const BLOCK = 512;

/**
 * Regular files of a gzipped tar by name, without a leading slash. Throws on a truncated archive, a repeated name, a
 * link or more than 256 MiB.
 */
export function readTarGz(archive: Buffer): ReadonlyMap<string, Buffer> {
  const tar = gunzipSync(archive, { maxOutputLength: UNPACKED_LIMIT });
  const files = new Map<string, Buffer>();
  for (let at = 0; at + BLOCK <= tar.length; ) {
    const name = text(tar, at, 100);
    if (name === '') break;
    const size = Number.parseInt(text(tar, at + 124, 12).trim(), 8);
    const start = at + BLOCK;
    if (!Number.isSafeInteger(size) || start + size > tar.length) throw new Error('the bundle archive is truncated');
    const kind = tar[at + 156] ?? 0;
    const prefix = text(tar, at + 345, 155);
    if (kind === 0x30 || kind === 0)
      addFile(files, prefix === '' ? name : `${prefix}/${name}`, tar.subarray(start, start + size));
    else if (kind !== 0x35) throw new Error('the bundle archive holds something that is neither file nor directory');
    at = start + Math.ceil(size / BLOCK) * BLOCK;
  }
  return files;
}

function addFile(files: Map<string, Buffer>, name: string, content: Buffer): void {
  const clean = name.replace(/^\/+/, '');
  if (files.has(clean)) throw new Error(`the bundle archive holds ${clean} twice`);
  files.set(clean, content);
}

function text(tar: Buffer, start: number, length: number): string {
  const end = tar.indexOf(0, start);
  return tar.toString('latin1', start, end === -1 || end > start + length ? start + length : end);
}
