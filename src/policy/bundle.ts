/** Reads a policy bundle: the compiled module, its manifest and the data document. */
import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { isJsonObject, type JsonObject, type JsonValue } from '../core/json.ts';
import { readTarGz } from './bundle-format.ts';
import { parseReadSet, type ReadSet } from './input-shape.ts';
import { PolicyLoadError } from './wasm/program.ts';

export interface Bundle {
  readonly wasm: Uint8Array;
  readonly data: JsonObject;
  /** The data document as it goes to the module. */
  readonly dataText: string;
  readonly readSet: ReadSet;
  /** `sha256:` over module and data. */
  readonly revision: string;
  /** Digests of the sources the module was compiled from; null when the manifest names none. */
  readonly sources: Readonly<Record<string, string>> | null;
  /** The same rules in OPA's intermediate representation, packed or not; null in a bundle without it. */
  readonly plan: PlanBytes | null;
}

export interface PlanBytes {
  readonly bytes: Uint8Array;
  readonly gzip: boolean;
  /** Hex SHA-256 of the unpacked text; null where the manifest does not say. */
  readonly digest: string | null;
}

/** Where things are; all are absolute paths. */
export interface BundleLocation {
  /** Directory of .rego files with `bundle/` below it, a directory with policy.wasm, or a .tar.gz bundle. */
  readonly bundleDir: string;
  /** Replaces the data.json of the bundle. */
  readonly dataFile: string | null;
}

/** Loads a bundle. Throws PolicyLoadError in the operator's terms. */
export async function loadBundle(location: BundleLocation): Promise<Bundle> {
  const files = await openBundle(location.bundleDir);
  const wasm = await files('policy.wasm');
  if (wasm === null) {
    throw new PolicyLoadError(`no compiled policy in ${location.bundleDir}: run "portcullis policy build"`);
  }
  const data = location.dataFile === null ? await files('data.json') : await readOwn(location.dataFile);
  const manifest = await files('manifest.json');
  const bundle = assemble(wasm, data, manifest, location.dataFile ?? 'data.json');
  return { ...bundle, plan: await readPlan(files, manifest) };
}

async function readPlan(files: FileSource, manifest: Buffer | null): Promise<PlanBytes | null> {
  const packed = await files('plan.json.gz');
  const bytes = packed ?? (await files('plan.json'));
  if (bytes === null) return null;
  const named = manifest === null ? undefined : parseObject(manifest, 'manifest.json').plan;
  return { bytes, gzip: packed !== null, digest: typeof named === 'string' ? named : null };
}

function assemble(wasm: Buffer, data: Buffer | null, manifest: Buffer | null, dataName: string): Omit<Bundle, 'plan'> {
  const document = data === null ? {} : parseObject(data, dataName);
  const described = manifest === null ? {} : parseObject(manifest, 'manifest.json');
  const dataText = JSON.stringify(document);
  // Two files, written one after the other: a module read with the names of another would lack what its rules look at.
  if (typeof described.wasm === 'string' && described.wasm !== createHash('sha256').update(wasm).digest('hex')) {
    throw new PolicyLoadError('policy.wasm and manifest.json are not of one build: run "portcullis policy build"');
  }
  const digest = createHash('sha256').update(wasm).update('\0').update(dataText).digest('hex');
  return {
    wasm,
    data: document,
    dataText,
    readSet: parseReadSet(described.input_paths),
    revision: `sha256:${digest}`,
    sources: sourceDigests(described.sources),
  };
}

type FileSource = (name: string) => Promise<Buffer | null>;

async function openBundle(path: string): Promise<FileSource> {
  const kind = await stat(path).catch(() => null);
  if (kind === null) throw new PolicyLoadError(`the policy bundle ${path} does not exist`);
  if (kind.isFile()) {
    const entries = unpack(path, await readFile(path));
    return async (name) => entries.get(name) ?? null;
  }
  const compiled = (await readOptional(join(path, 'bundle', 'policy.wasm'))) !== null;
  return async (name) => {
    const inner = compiled ? await readOptional(join(path, 'bundle', name)) : null;
    // The data beside the sources is what the operator edits.
    return name === 'data.json' || inner === null ? ((await readOptional(join(path, name))) ?? inner) : inner;
  };
}

function unpack(path: string, archive: Buffer): ReadonlyMap<string, Buffer> {
  try {
    return readTarGz(archive);
  } catch (cause) {
    throw new PolicyLoadError(`${path} is no policy bundle: ${(cause as Error).message}`, { cause });
  }
}

async function readOptional(path: string): Promise<Buffer | null> {
  try {
    return await readFile(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new PolicyLoadError(`${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
}

async function readOwn(path: string): Promise<Buffer> {
  const bytes = await readOptional(path);
  if (bytes === null) throw new PolicyLoadError(`the policy data ${path} does not exist`);
  return bytes;
}

function parseObject(bytes: Buffer, name: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString());
  } catch (cause) {
    throw new PolicyLoadError(`${name} is no JSON: ${(cause as Error).message}`, { cause });
  }
  if (!isJsonObject(value)) throw new PolicyLoadError(`${name} must hold a JSON object`);
  return value;
}

function sourceDigests(value: JsonValue | undefined): Readonly<Record<string, string>> | null {
  if (value === undefined || !isJsonObject(value)) return null;
  const out: Record<string, string> = {};
  for (const [file, digest] of Object.entries(value)) out[file] = String(digest).replace(/^sha256:/, '');
  return out;
}

/** SHA-256 of every .rego file below a directory, tests excluded; keys with forward slashes, in order. */
export async function digestSources(dir: string): Promise<Readonly<Record<string, string>>> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true }).catch(() => []);
  const out: Record<string, string> = {};
  const paths = entries
    .filter((entry) => entry.isFile() && entry.name.endsWith('.rego') && !entry.name.endsWith('_test.rego'))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  for (const path of paths) {
    out[relative(dir, path).split(sep).join('/')] = createHash('sha256')
      .update(await readFile(path))
      .digest('hex');
  }
  return out;
}

/** Files that differ from what the bundle was compiled from. Empty: the bundle is current, or has no sources here. */
export async function staleSources(dir: string, bundle: Bundle): Promise<readonly string[]> {
  if (bundle.sources === null) return [];
  const now = await digestSources(dir);
  const { sources } = bundle;
  const names = new Set([...Object.keys(now), ...Object.keys(sources)]);
  // A bundle that was shipped without its sources is complete by itself.
  if (Object.keys(now).length === 0) return [];
  return [...names].filter((name) => now[name] !== sources[name]).sort();
}
