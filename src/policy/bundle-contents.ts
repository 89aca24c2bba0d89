/**
 * What is in a bundle archive: a snapshot (module, data, manifests) or a delta (changes of the data). Everything that
 * has no business there is refused. Source: OPA bundle format (openpolicyagent.org/docs/latest/management-bundles).
 */
import { createHash } from 'node:crypto';
import { isJsonObject, type JsonObject, type JsonValue } from '../core/json.ts';
import { lostIn } from './binding-texts.ts';
import { claimsOfManifest, claimsOfModules, claimsText, type RouteClaim, settleClaims } from './bindings.ts';
import type { Bundle, PlanBytes } from './bundle.ts';
import type { ArchiveLimits } from './bundle-archive.ts';
import { openBundle } from './bundle-open.ts';
import { sequenceOf } from './bundle-order.ts';
import { isStructured, type SigningRules } from './bundle-signing.ts';
import { yamlToJson } from './bundle-yaml.ts';
import type { PatchOperation } from './data-document.ts';
import { InexactNumberError, parseExactJson } from './exact-json.ts';
import { parseReadSet } from './input-shape.ts';
import { readSmoke } from './smoke.ts';
import { PolicyLoadError } from './wasm/program.ts';

export type Contents =
  | { readonly kind: 'snapshot'; readonly bundle: Bundle }
  | { readonly kind: 'delta'; readonly delta: Delta };

/** Changes of the data of a snapshot, and of nothing else. */
export interface Delta {
  readonly operations: readonly PatchOperation[];
  /** Hex SHA-256 of the changes. */
  readonly digest: string;
  readonly label: string | null;
  /** What it says of the snapshot it belongs to; null where it says nothing. */
  readonly roots: readonly string[] | null;
  readonly modules: string | null;
  readonly claims: readonly RouteClaim[];
  /** Name or revision of what it is to be made to (`metadata.base` of the manifest); null where it does not say. */
  readonly base: string | null;
  /** The place of what comes of it in the order of bundles; null where it does not say. */
  readonly sequence: number | null;
}

type Files = ReadonlyMap<string, Buffer>;

/** Opens, verifies and reads an archive. Throws PolicyLoadError. `signing` null: signatures are not configured. */
export async function readContents(
  archive: Buffer,
  signing: SigningRules | null,
  limits?: ArchiveLimits,
): Promise<Contents> {
  const files = await openBundle(archive, signing, limits);
  for (const name of files.keys()) {
    if (!isExpected(name)) throw refused(`holds ${name.slice(0, 120)}, which is no part of a bundle`);
  }
  return files.has('patch.json')
    ? { kind: 'delta', delta: readDelta(files, signing !== null) }
    : { kind: 'snapshot', bundle: readSnapshot(files) };
}

const KNOWN = new Set([
  ...['policy.wasm', 'manifest.json', '.manifest', 'smoke.json', 'patch.json', 'plan.json', 'plan.json.gz'],
]);

const isExpected = (name: string): boolean => KNOWN.has(name) || isStructuredData(name) || name.endsWith('.rego');
const isStructuredData = (name: string): boolean => isStructured(name) && !name.endsWith('.manifest');

function refused(why: string): PolicyLoadError {
  return new PolicyLoadError(`the bundle ${why}`);
}

interface OpaManifest {
  readonly label: string | null;
  readonly roots: readonly string[];
  /** The list of modules and their entrypoints as text, to compare. */
  readonly modules: string;
  /** Routes that the metadata of the entrypoints names. */
  readonly claims: readonly RouteClaim[];
  readonly base: string | null;
  readonly sequence: number | null;
}

const EVERYWHERE = [''];

function readOpaManifest(files: Files): OpaManifest | null {
  const bytes = files.get('.manifest');
  if (bytes === undefined) return null;
  const manifest = parseObject(bytes, '.manifest');
  const { revision, roots, wasm, metadata } = manifest;
  return {
    label: labelOf(revision),
    roots: rootsOf(roots),
    modules: modulesOf(wasm),
    claims: claimsIn(wasm),
    base: baseOf(metadata),
    sequence: sequenceOf(metadata),
  };
}

const claimsIn = (wasm: JsonValue | undefined): readonly RouteClaim[] =>
  Array.isArray(wasm) ? claimsOfModules(wasm as readonly JsonValue[]) : [];

/** The claims in the `.manifest` of an archive that was unpacked. Throws PolicyLoadError. */
export function unpackedClaims(manifest: Buffer): readonly RouteClaim[] {
  return claimsIn(parseObject(manifest, '.manifest').wasm);
}

function baseOf(metadata: JsonValue | undefined): string | null {
  return metadata !== undefined && isJsonObject(metadata) ? labelOf(metadata.base) : null;
}

function labelOf(revision: JsonValue | undefined): string | null {
  if (revision === undefined || revision === '') return null;
  if (typeof revision !== 'string' || revision.length > 256) throw refused('has a revision that is no short text');
  return revision;
}

function rootsOf(value: JsonValue | undefined): readonly string[] {
  if (value === undefined) return EVERYWHERE;
  if (!Array.isArray(value) || value.some((root) => typeof root !== 'string')) throw refused('has unreadable roots');
  const roots = (value as readonly string[]).map((root) => root.replace(/^\/+|\/+$/g, ''));
  for (const [at, root] of roots.entries()) {
    const other = roots.find((one, i) => i !== at && contains(one, root));
    if (other !== undefined) throw refused(`has roots that overlap: "${other}" and "${root}"`);
  }
  return roots;
}

/** Whether everything below `path` is below `root`. */
function contains(root: string, path: string): boolean {
  return root === '' || path === root || path.startsWith(`${root}/`);
}

/** All entrypoints have to be of the one module that this host runs. */
function modulesOf(value: JsonValue | undefined): string {
  if (value === undefined) return '[]';
  if (!Array.isArray(value)) throw refused('has an unreadable list of modules');
  const entries = (value as readonly JsonValue[]).map((entry) => {
    if (!isJsonObject(entry) || typeof entry.module !== 'string' || typeof entry.entrypoint !== 'string') {
      throw refused('has an unreadable list of modules');
    }
    if (entry.module.replace(/^\//, '') !== 'policy.wasm') {
      throw refused(`names the module ${entry.module.slice(0, 64)}: there can be only /policy.wasm`);
    }
    return entry.entrypoint;
  });
  return JSON.stringify(entries.sort());
}

function readSnapshot(files: Files): Bundle {
  const wasm = files.get('policy.wasm');
  if (wasm === undefined) throw refused('has no policy.wasm: it was not built for WebAssembly (opa build -t wasm)');
  const manifest = readOpaManifest(files);
  const roots = manifest?.roots ?? EVERYWHERE;
  const data = readData(files);
  checkRoots(data, roots);
  const packed = files.get('plan.json.gz');
  const bundle = assembleBundle({
    wasm,
    data,
    manifest: files.get('manifest.json') ?? null,
    plan: packed ?? files.get('plan.json') ?? null,
    packed: packed !== undefined,
    smoke: files.get('smoke.json') ?? null,
    label: manifest?.label ?? null,
    roots,
    modules: manifest?.modules ?? '[]',
    claims: manifest?.claims ?? [],
  });
  requireRoutes(files, bundle.claims);
  return { ...bundle, sequence: manifest?.sequence ?? null };
}

/** What `opa build` packs beside the module says what it was made of. */
function requireRoutes(files: Files, claims: readonly RouteClaim[]): void {
  for (const [name, content] of files) {
    if (!name.endsWith('.rego') || name.endsWith('_test.rego')) continue;
    const lost = lostIn(content.toString('utf8'), claims);
    if (lost === null) continue;
    const how = 'write the metadata at the rule and not at the package, or use "portcullis policy build --bundle"';
    throw refused(`lost ${lost} of ${name.slice(0, 120)} when it was built: ${how}`);
  }
}

/** All data files, each at the place its folder says. */
function readData(files: Files): JsonObject {
  const root: Record<string, JsonValue> = {};
  const names = [...files.keys()].filter(isStructuredData).sort((a, b) => depth(a) - depth(b) || (a < b ? -1 : 1));
  for (const name of names) {
    const path = name.split('/').slice(0, -1);
    if (path.includes('__proto__')) throw refused(`holds ${name}, a name no data may have`);
    const bytes = files.get(name) ?? Buffer.alloc(0);
    merge(root, path, name.endsWith('.json') ? parseObject(bytes, name) : parseObject(yamlOf(bytes, name), name), name);
  }
  return root;
}

const depth = (name: string): number => name.split('/').length;

function yamlOf(bytes: Buffer, name: string): Buffer {
  try {
    return Buffer.from(yamlToJson(bytes.toString('utf8')));
  } catch (cause) {
    throw unreadable(name, 'YAML', cause);
  }
}

function merge(root: Record<string, JsonValue>, path: readonly string[], value: JsonObject, name: string): void {
  let at = root;
  for (const key of path) {
    const next = at[key];
    if (next !== undefined && !isJsonObject(next)) throw refused(`has data in ${name} that is at another place too`);
    const made = (next ?? {}) as Record<string, JsonValue>;
    at[key] = made;
    at = made;
  }
  for (const [key, member] of Object.entries(value)) {
    const there = Object.hasOwn(at, key) ? at[key] : undefined;
    if (there === undefined) Object.defineProperty(at, key, { ...OWN, value: member });
    else if (isJsonObject(there) && isJsonObject(member)) merge(there as Record<string, JsonValue>, [], member, name);
    else throw refused(`has data in ${name} that is at another place too (${key.slice(0, 64)})`);
  }
}

const OWN = { enumerable: true, configurable: true, writable: true };

function checkRoots(data: JsonObject, roots: readonly string[], path = ''): void {
  for (const [key, value] of Object.entries(data)) {
    const here = path === '' ? key : `${path}/${key}`;
    if (roots.some((root) => contains(root, here))) continue;
    if (isJsonObject(value) && roots.some((root) => contains(here, root))) checkRoots(value, roots, here);
    else throw refused(`has data outside its roots (/${here.slice(0, 120)})`);
  }
}

/** Throws PolicyLoadError when a change is outside the roots. */
export function checkDeltaRoots(operations: readonly PatchOperation[], roots: readonly string[]): void {
  for (const { path } of operations) {
    const here = path.join('/');
    if (!roots.some((root) => contains(root, here)))
      throw refused(`has data outside its roots (/${here.slice(0, 120)})`);
  }
}

const OPS: ReadonlySet<unknown> = new Set(['upsert', 'replace', 'remove']);

function readDelta(files: Files, isSigned: boolean): Delta {
  const extra = [...files.keys()].find((name) => name !== 'patch.json' && name !== '.manifest');
  if (extra !== undefined) throw refused(`is a delta and holds ${extra}: a delta changes data alone`);
  const bytes = files.get('patch.json') ?? Buffer.alloc(0);
  const { data } = parseObject(bytes, 'patch.json');
  if (!Array.isArray(data)) throw refused('has a patch.json without a list "data"');
  // To OPA an empty delta means: forget all data. Nobody means that.
  if (data.length === 0) throw refused('is a delta without a change');
  const manifest = readOpaManifest(files);
  if (isSigned) checkChain(manifest);
  return {
    operations: (data as readonly JsonValue[]).map(readOperation),
    digest: createHash('sha256').update(bytes).digest('hex'),
    label: manifest?.label ?? null,
    roots: manifest?.roots ?? null,
    modules: manifest === null ? null : manifest.modules,
    claims: manifest?.claims ?? [],
    base: manifest?.base ?? null,
    sequence: manifest?.sequence ?? null,
  };
}

/** A good signature says who made the changes, not what they were made for: an old delta would be good for ever. */
function checkChain(manifest: OpaManifest | null): void {
  if (manifest === null || manifest.base === null) {
    throw refused('is a signed delta that does not name what it is for (metadata.base of .manifest)');
  }
  if (manifest.label === null || manifest.label === manifest.base) {
    throw refused('is a signed delta without a revision of its own (revision of .manifest)');
  }
}

function readOperation(entry: JsonValue, at: number): PatchOperation {
  const bad = (why: string) => refused(`has a patch.json whose change ${at} ${why}`);
  if (!isJsonObject(entry) || !OPS.has(entry.op)) throw bad('is none of upsert, replace and remove');
  if (typeof entry.path !== 'string' || !entry.path.startsWith('/') || entry.path === '/') throw bad('has no path');
  const path = entry.path.slice(1).split('/').map(unescaped);
  if (path.some((key) => key === '' || key === '__proto__')) throw bad('has a path no data can have');
  const op = entry.op as PatchOperation['op'];
  if (op === 'remove') return { op, path };
  if (entry.value === undefined) throw bad('has no value');
  return { op, path, value: entry.value };
}

/** RFC 6901 section 4. */
const unescaped = (key: string): string => key.replaceAll('~1', '/').replaceAll('~0', '~');

export interface BundleParts {
  readonly wasm: Buffer;
  readonly data: JsonObject;
  /** The gateway's own manifest.json. */
  readonly manifest: Buffer | null;
  readonly plan: Buffer | null;
  readonly packed: boolean;
  readonly smoke: Buffer | null;
  readonly label: string | null;
  readonly roots: readonly string[];
  readonly modules: string;
  /** Of OPA's own manifest; those of `manifest` are added. */
  readonly claims: readonly RouteClaim[];
}

/** Puts a bundle together from its files. Throws PolicyLoadError. */
export function assembleBundle(parts: BundleParts): Bundle {
  const { wasm, data } = parts;
  const described = parts.manifest === null ? {} : parseObject(parts.manifest, 'manifest.json');
  const dataText = JSON.stringify(data);
  // Two files, written one after the other: a module read with the names of another would lack what its rules look at.
  if (typeof described.wasm === 'string' && described.wasm !== createHash('sha256').update(wasm).digest('hex')) {
    throw new PolicyLoadError('policy.wasm and manifest.json are not of one build: run "portcullis policy build"');
  }
  const claims = settleClaims([...claimsOfManifest(described.bindings), ...parts.claims]);
  checkClaims(claims, parts.roots);
  const beside = besideOf(described.input_paths, parts.smoke, claims);
  const plan: PlanBytes | null =
    parts.plan === null
      ? null
      : { bytes: parts.plan, gzip: parts.packed, digest: typeof described.plan === 'string' ? described.plan : null };
  return {
    wasm,
    data,
    dataText,
    readSet: parseReadSet(described.input_paths),
    revision: revisionOf(wasm, dataText, beside),
    beside,
    sources: sourceDigests(described.sources),
    plan,
    label: parts.label,
    roots: parts.roots,
    modules: parts.modules,
    claims,
    smoke: parts.smoke === null ? [] : readSmoke(parseJson(parts.smoke, 'smoke.json')),
  };
}

function parseJson(bytes: Buffer, name: string): JsonValue {
  try {
    return parseExactJson(bytes.toString());
  } catch (cause) {
    throw unreadable(name, 'JSON', cause);
  }
}

function unreadable(name: string, language: 'JSON' | 'YAML', cause: unknown): PolicyLoadError {
  const { message } = cause as Error;
  const why = cause instanceof InexactNumberError ? message : `is no ${language}: ${message}`;
  return new PolicyLoadError(`${name} ${why}`, { cause });
}

/** What a bundle may have no rules for, it decides on no route with. */
function checkClaims(claims: readonly RouteClaim[], roots: readonly string[]): void {
  const outside = claims.find(({ entrypoint }) => !roots.some((root) => contains(root, entrypoint)));
  if (outside === undefined) return;
  throw refused(`binds ${outside.route} to ${outside.entrypoint.slice(0, 120)}, which is outside its roots`);
}

/** Digest of what else decides: what of the input is read, who decides where, and what the smoke decisions have to be. */
function besideOf(inputPaths: JsonValue | undefined, smoke: Buffer | null, claims: readonly RouteClaim[]): string {
  const hash = createHash('sha256').update(JSON.stringify(inputPaths ?? null));
  if (claims.length > 0) hash.update('\0routes\0').update(claimsText(claims));
  return (smoke === null ? hash : hash.update('\0').update(smoke)).digest('hex');
}

/** The revision in decisions, the audit and the status. `beside`: see Bundle. */
export function revisionOf(wasm: Uint8Array, dataText: string, beside: string): string {
  const hash = createHash('sha256').update(wasm).update('\0').update(dataText).update('\0').update(beside);
  return `sha256:${hash.digest('hex')}`;
}

/** A JSON object out of a file. Throws PolicyLoadError that names it. */
export function parseObject(bytes: Buffer, name: string): JsonObject {
  const value = parseJson(bytes, name);
  if (!isJsonObject(value)) throw new PolicyLoadError(`${name} must hold a JSON object`);
  return value;
}

function sourceDigests(value: JsonValue | undefined): Readonly<Record<string, string>> | null {
  if (value === undefined || !isJsonObject(value)) return null;
  const out: Record<string, string> = {};
  for (const [file, digest] of Object.entries(value)) out[file] = String(digest).replace(/^sha256:/, '');
  return out;
}
