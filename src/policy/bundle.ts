/** Reads a policy bundle: the compiled module, its manifest and the data document. */
import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import type { JsonObject } from '../core/json.ts';
import { lostIn } from './binding-texts.ts';
import type { RouteClaim } from './bindings.ts';
import { assembleBundle, parseObject, readContents, revisionOf, unpackedClaims } from './bundle-contents.ts';
import type { SigningRules } from './bundle-signing.ts';
import type { ReadSet } from './input-shape.ts';
import type { SmokeCase } from './smoke.ts';
import { PolicyLoadError } from './wasm/program.ts';

export interface Bundle {
  readonly wasm: Uint8Array;
  readonly data: JsonObject;
  /** The data document as it goes to the module. */
  readonly dataText: string;
  readonly readSet: ReadSet;
  /** `sha256:` over module, data and `beside`. */
  readonly revision: string;
  /** Hex digest of what the manifest says of the input, of the routes and of the smoke decisions. */
  readonly beside: string;
  /** Digests of the sources the module was compiled from; null when the manifest names none. */
  readonly sources: Readonly<Record<string, string>> | null;
  /** The same rules in OPA's intermediate representation, packed or not; null in a bundle without it. */
  readonly plan: PlanBytes | null;
  /** The name its author gave it (`revision` of the manifest), or null. */
  readonly label: string | null;
  /** Its place in the order of its author's bundles, a larger number being newer; absent or null: not said. */
  readonly sequence?: number | null;
  /** Where below `data` it may have data and rules; the empty path is everywhere. */
  readonly roots: readonly string[];
  /** Entrypoints the manifest lists, as text to compare. */
  readonly modules: string;
  /** Routes that its entrypoints want to decide on; no two contradict each other. */
  readonly claims: readonly RouteClaim[];
  /** Decisions it must make before it may decide anything else. */
  readonly smoke: readonly SmokeCase[];
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

/**
 * Loads a bundle. Throws PolicyLoadError in the operator's terms. `signing` is for archives: a directory is the
 * operator's own.
 */
export async function loadBundle(location: BundleLocation, signing: SigningRules | null = null): Promise<Bundle> {
  const { bundleDir, dataFile } = location;
  const kind = await stat(bundleDir).catch(() => null);
  if (kind === null) throw new PolicyLoadError(`the policy bundle ${bundleDir} does not exist`);
  if (kind.isFile()) return loadArchive(location, signing);
  if (signing !== null)
    throw new PolicyLoadError(`${bundleDir} is a directory, which cannot be signed: name an archive`);
  const files = await openDirectory(bundleDir);
  const wasm = await files('policy.wasm');
  if (wasm === null) throw new PolicyLoadError(`no compiled policy in ${bundleDir}: run "portcullis policy build"`);
  const data = dataFile === null ? await files('data.json') : await readOwn(dataFile);
  const packed = await files('plan.json.gz');
  const manifest = await files('manifest.json');
  const unpacked = manifest === null ? await files('.manifest') : null;
  return assembleBundle({
    wasm,
    data: data === null ? {} : parseObject(data, dataFile ?? 'data.json'),
    manifest,
    plan: packed ?? (await files('plan.json')),
    packed: packed !== null,
    smoke: await files('smoke.json'),
    label: null,
    roots: [''],
    modules: '[]',
    claims: unpacked === null ? [] : unpackedClaims(unpacked),
  });
}

async function loadArchive({ bundleDir, dataFile }: BundleLocation, signing: SigningRules | null): Promise<Bundle> {
  const contents = await readContents(await readFile(bundleDir), signing).catch((cause: unknown) => {
    if (!(cause instanceof PolicyLoadError)) throw cause;
    throw new PolicyLoadError(`${bundleDir} is no policy bundle: ${cause.message}`, { cause });
  });
  if (contents.kind === 'delta') throw new PolicyLoadError(`${bundleDir} is a delta: it cannot be loaded by itself`);
  return dataFile === null
    ? contents.bundle
    : withData(contents.bundle, parseObject(await readOwn(dataFile), dataFile));
}

/** The same bundle with the operator's data instead of its own. */
export function withData(bundle: Bundle, data: JsonObject): Bundle {
  const dataText = JSON.stringify(data);
  return { ...bundle, data, dataText, revision: revisionOf(bundle.wasm, dataText, bundle.beside) };
}

type FileSource = (name: string) => Promise<Buffer | null>;

async function openDirectory(path: string): Promise<FileSource> {
  const compiled = (await readOptional(join(path, 'bundle', 'policy.wasm'))) !== null;
  return async (name) => {
    const inner = compiled ? await readOptional(join(path, 'bundle', name)) : null;
    // The data beside the sources is what the operator edits.
    return name === 'data.json' || inner === null ? ((await readOptional(join(path, name))) ?? inner) : inner;
  };
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

/**
 * Files that differ from what the bundle was compiled from, or name routes that it has lost. Empty: the bundle is current,
 * or has no sources here.
 */
export async function staleSources(dir: string, bundle: Bundle): Promise<readonly string[]> {
  const now = await digestSources(dir);
  // A bundle that was shipped without its sources is complete by itself.
  if (Object.keys(now).length === 0) return [];
  const sources = bundle.sources ?? now;
  const names = new Set([...Object.keys(now), ...Object.keys(sources)]);
  const changed = [...names].filter((name) => now[name] !== sources[name]).sort();
  return changed.length > 0 ? changed : lostSources(dir, Object.keys(now), bundle.claims);
}

async function lostSources(dir: string, names: readonly string[], claims: readonly RouteClaim[]): Promise<string[]> {
  const lost: string[] = [];
  for (const name of names) {
    if (lostIn(await readFile(join(dir, name), 'utf8'), claims) !== null) lost.push(name);
  }
  return lost;
}
