/**
 * Writes delta bundles: the changes that make the data of one bundle that of another, for gateways that have the first.
 * Source: OPA bundle format (openpolicyagent.org/docs/latest/management-bundles), RFC 6901 section 4.
 */
import { isJsonObject, type JsonObject, type JsonValue } from '../core/json.ts';
import { claimsText } from './bindings.ts';
import type { Bundle } from './bundle.ts';
import { SIGNATURES, type SignOptions, signFiles } from './bundle-signing.ts';
import { writeArchive } from './bundle-writer.ts';
import { canonicalJson } from './canonical-json.ts';
import { DataDocument, type PatchOperation } from './data-document.ts';
import { PolicyLoadError } from './wasm/program.ts';

export interface DeltaWish {
  readonly from: Bundle;
  readonly to: Bundle;
  /** What comes of it calls itself; default: as the second bundle does. */
  readonly revision?: string | undefined;
  /** Its place in the order of bundles; default: that of the second bundle. */
  readonly sequence: number;
  readonly signing: SignOptions | null;
}

export interface WrittenDelta {
  readonly archive: Buffer;
  /** What it has to be made to. */
  readonly base: string;
  readonly revision: string;
  readonly changes: number;
}

/** Throws PolicyLoadError where no delta leads from the one to the other. */
export function makeDelta({ from, to, revision, sequence, signing }: DeltaWish): WrittenDelta {
  requireSameRules(from, to);
  const operations = changesBetween(from.data, to.data);
  if (operations.length === 0) throw new PolicyLoadError('the data of the two bundles do not differ');
  requireSameResult(from.data, operations, to);
  const base = from.label ?? from.revision;
  const name = revision ?? to.label ?? to.revision;
  if (name === base)
    throw new PolicyLoadError(`both bundles are called ${name}: name what comes of it with --revision`);
  if (from.sequence !== null && from.sequence !== undefined && sequence <= from.sequence) {
    throw new PolicyLoadError(`what comes of it would not be newer (sequence ${sequence}) than ${from.sequence}`);
  }
  const manifest = { revision: name, roots: to.roots, metadata: { base, sequence } };
  const files = new Map<string, Buffer>([
    ['patch.json', Buffer.from(JSON.stringify({ data: operations.map(asWritten) }))],
    ['.manifest', Buffer.from(JSON.stringify(manifest))],
  ]);
  if (signing !== null) files.set(SIGNATURES, signFiles(files, signing));
  return { archive: writeArchive(files), base, revision: name, changes: operations.length };
}

/** A delta changes data alone. Throws PolicyLoadError. */
function requireSameRules(from: Bundle, to: Bundle): void {
  const differs = (what: string) => new PolicyLoadError(`the bundles differ in ${what}, which no delta can change`);
  if (!Buffer.from(from.wasm).equals(Buffer.from(to.wasm))) throw differs('their rules (policy.wasm)');
  if (claimsText(from.claims) !== claimsText(to.claims)) throw differs('the routes they bind');
  if (from.beside !== to.beside) throw differs('their smoke decisions or what they read of the input');
  if ([...from.roots].sort().join('\0') !== [...to.roots].sort().join('\0')) throw differs('their roots');
}

/** Made as a gateway makes them: whoever serves a delta must not find out there. */
function requireSameResult(data: JsonObject, operations: readonly PatchOperation[], to: Bundle): void {
  const document = new DataDocument(structuredClone(data));
  document.apply(structuredClone(operations) as readonly PatchOperation[]);
  if (canonicalJson(document.text()) !== canonicalJson(to.dataText)) {
    throw new PolicyLoadError('the changes do not lead to the data of the second bundle');
  }
}

/** Throws PolicyLoadError for a name at the top that no change can be written for. */
export function changesBetween(from: JsonObject, to: JsonObject): readonly PatchOperation[] {
  const operations = changesOf(from, to, []);
  if (operations === null) throw new PolicyLoadError('a member at the top has a name that no delta can have');
  return operations;
}

/** Null where a name has no place in a path: then the whole object is the change. */
function changesOf(from: JsonObject, to: JsonObject, path: readonly string[]): readonly PatchOperation[] | null {
  const operations: PatchOperation[] = [];
  for (const name of new Set([...Object.keys(from), ...Object.keys(to)])) {
    const [before, after] = [member(from, name), member(to, name)];
    if (isSame(before, after)) continue;
    if (name === '' || name === '__proto__') return null;
    const here = [...path, name];
    if (after === undefined) operations.push({ op: 'remove', path: here });
    else operations.push(...changed(before, after, here));
  }
  return operations;
}

function changed(before: JsonValue | undefined, after: JsonValue, path: readonly string[]): readonly PatchOperation[] {
  const inside = isJsonObject(before) && isJsonObject(after) ? changesOf(before, after, path) : null;
  return inside ?? [{ op: 'upsert', path, value: after }];
}

const member = (object: JsonObject, name: string): JsonValue | undefined =>
  Object.hasOwn(object, name) ? object[name] : undefined;

/** In whatever order the members of objects stand. */
function isSame(one: JsonValue | undefined, other: JsonValue | undefined): boolean {
  if (one === undefined || other === undefined) return one === other;
  return canonicalJson(JSON.stringify(one)) === canonicalJson(JSON.stringify(other));
}

const asWritten = ({ op, path, value }: PatchOperation) => ({ op, path: `/${path.map(escaped).join('/')}`, value });
const escaped = (name: string): string => name.replaceAll('~', '~0').replaceAll('/', '~1');
