/**
 * Signatures of bundles: `.signatures.json` with one JWS over the digests of all files. Where signing is configured in
 * any form a bundle without a signature is refused, and so is a signed one where it is not: a signature nobody looks at
 * is a mistake of somebody. Source: OPA bundle signing, RFC 7515, RFC 7518; GHSA-g2pf-6v5v-qcc8.
 */
import { createHash } from 'node:crypto';
import { isJsonObject, type JsonObject, type JsonValue } from '../core/json.ts';
import type { Secret } from '../core/secret.ts';
import { yamlToJson } from './bundle-yaml.ts';
import { canonicalJson } from './canonical-json.ts';
import { type Algorithm, type SigningKey, signText, verifyText } from './jws.ts';
import { PolicyLoadError } from './wasm/program.ts';

export const SIGNATURES = '.signatures.json';

/** Whose signatures are believed. */
export interface SigningRules {
  /** By their id. The algorithm belongs to the key: what a signature says of itself only has to agree. */
  readonly keys: Readonly<Record<string, { readonly algorithm: Algorithm; readonly key: Secret }>>;
  /** The one key that counts. Without it the signature names one, or there is only one. */
  readonly keyid?: string | undefined;
  readonly scope?: string | undefined;
  /** Names of files that are not signed: they are left out, as if the bundle did not have them. */
  readonly exclude?: readonly string[] | undefined;
}

type Files = ReadonlyMap<string, Buffer>;

/**
 * The files that may be used: all but the signature itself. Throws PolicyLoadError.
 * @param rules null: nothing is configured
 */
export function verifyFiles(files: Files, rules: SigningRules | null): Files {
  const signatures = files.get(SIGNATURES);
  if (rules === null) {
    if (signatures !== undefined) throw refused('is signed, but policy.bundle.signing names no key to verify it with');
    return files;
  }
  if (signatures === undefined) throw refused('is not signed, but policy.bundle.signing asks for a signature');
  const payload = verifiedPayload(onlySignature(signatures), rules);
  if (text(payload.scope) !== (rules.scope ?? '')) throw refused('is signed for another scope');
  const excluded = new Set(rules.exclude);
  const signed = [...files].filter(([name]) => name !== SIGNATURES && !excluded.has(name));
  compare(new Map(signed), listed(payload.files, excluded));
  return new Map(signed);
}

function refused(why: string): PolicyLoadError {
  return new PolicyLoadError(`the bundle ${why}`);
}

const text = (value: JsonValue | undefined): string =>
  typeof value === 'string' ? value : value === undefined ? '' : '\0';

/** What `opa build --signing-key` writes where no plug-in signs; `opa sign` leaves it out. */
const OPAS_OWN = '_default';

function onlySignature(bytes: Buffer): string {
  const document = parse(bytes.toString('utf8'), SIGNATURES);
  const { signatures } = document;
  if (document.plugin !== undefined && document.plugin !== OPAS_OWN) {
    throw refused('has a signature of a plug-in, which nothing here can verify');
  }
  if (!Array.isArray(signatures) || signatures.length !== 1 || typeof signatures[0] !== 'string') {
    throw refused(`has no single signature in ${SIGNATURES}`);
  }
  return signatures[0];
}

function parse(json: string, what: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw refused(`has ${what} that is no JSON`);
  }
  if (!isJsonObject(value)) throw refused(`has ${what} that is no JSON object`);
  return value;
}

/** Checks the signature before anything it says is believed. */
function verifiedPayload(token: string, rules: SigningRules): JsonObject {
  const parts = token.split('.');
  const [header = '', payload = '', signature = ''] = parts;
  if (parts.length !== 3 || !parts.every((part) => /^[A-Za-z0-9_-]+$/.test(part))) {
    throw refused('has a signature that is no compact JWS');
  }
  const described = parse(decode(header), 'a signature header');
  if (described.crit !== undefined || described.b64 !== undefined) throw refused('has a signature of an unknown kind');
  const claims = parse(decode(payload), 'a signature payload');
  const id = chooseKey(described, claims, rules);
  const key = Object.hasOwn(rules.keys, id) ? rules.keys[id] : undefined;
  if (key === undefined) throw refused(`is signed with a key that is not configured (${id.slice(0, 64)})`);
  if (described.alg !== key.algorithm) throw refused(`is not signed with ${key.algorithm}, the algorithm of key ${id}`);
  if (!verifyText(key.algorithm, key.key.reveal(), `${header}.${payload}`, Buffer.from(signature, 'base64url'))) {
    throw refused('has a signature that does not verify: somebody changed it, or another key made it');
  }
  return claims;
}

const decode = (part: string): string => Buffer.from(part, 'base64url').toString('utf8');

/** What the configuration names must be what the signature names, wherever that says it. */
function chooseKey(header: JsonObject, claims: JsonObject, rules: SigningRules): string {
  const named = [header.kid, claims.keyid].filter((id) => id !== undefined && id !== '');
  if (named.some((id) => typeof id !== 'string') || new Set(named).size > 1) {
    throw refused('has a signature that names two keys');
  }
  const [id] = named as string[];
  if (rules.keyid !== undefined) {
    if (id !== undefined && id !== rules.keyid) throw refused(`is not signed with the key ${rules.keyid}`);
    return rules.keyid;
  }
  const known = Object.keys(rules.keys);
  const only = known.length === 1 ? known[0] : undefined;
  if (id === undefined && only === undefined)
    throw refused('has a signature that names no key, and several are configured');
  return id ?? only ?? '';
}

interface Listed {
  readonly hash: string;
  readonly algorithm: string;
}

function listed(value: JsonValue | undefined, excluded: ReadonlySet<string>): ReadonlyMap<string, Listed> {
  if (!Array.isArray(value)) throw refused('has a signature without a list of files');
  const found = new Map<string, Listed>();
  for (const entry of value as readonly JsonValue[]) {
    if (!isJsonObject(entry) || typeof entry.name !== 'string' || typeof entry.hash !== 'string') {
      throw refused('has a signature with an unreadable list of files');
    }
    const algorithm = entry.algorithm === undefined ? 'SHA-256' : entry.algorithm;
    if (typeof algorithm !== 'string' || DIGESTS[algorithm] === undefined) {
      throw refused(`has a signature with the digest ${String(algorithm).slice(0, 32)} for ${entry.name.slice(0, 64)}`);
    }
    if (found.has(entry.name)) throw refused(`has a signature that lists ${entry.name.slice(0, 64)} twice`);
    if (!excluded.has(entry.name)) found.set(entry.name, { hash: entry.hash, algorithm });
  }
  return found;
}

/** Digests that are still safe against collisions; OPA's own default is the first. */
const DIGESTS: Readonly<Record<string, string>> = {
  __proto__: null as never,
  'SHA-256': 'sha256',
  'SHA-384': 'sha384',
  'SHA-512': 'sha512',
  'SHA-512-256': 'sha512-256',
};

function compare(files: Files, names: ReadonlyMap<string, Listed>): void {
  for (const name of names.keys()) if (!files.has(name)) throw refused(`lacks ${name}, which its signature lists`);
  for (const [name, content] of files) {
    const entry = names.get(name);
    if (entry === undefined) throw refused(`holds ${name}, which its signature does not list`);
    if (digestOf(name, content, DIGESTS[entry.algorithm] ?? 'sha256') !== entry.hash) {
      throw refused(`has another ${name} than the one that was signed`);
    }
  }
}

/** Files whose meaning is signed and not their bytes. */
export function isStructured(name: string): boolean {
  return /^(?:data\.json|data\.ya?ml|\.manifest)$/.test(name.slice(name.lastIndexOf('/') + 1));
}

function digestOf(name: string, content: Buffer, algorithm: string): string {
  const hash = createHash(algorithm);
  if (!isStructured(name)) return hash.update(content).digest('hex');
  try {
    return hash.update(canonicalJson(jsonOf(name, content))).digest('hex');
  } catch {
    throw refused(`has a file ${name} that is no JSON`);
  }
}

function jsonOf(name: string, content: Buffer): string {
  const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content);
  return /\.ya?ml$/.test(name) ? yamlToJson(text) : text;
}

export interface SignOptions {
  readonly key: SigningKey;
  readonly keyid?: string | undefined;
  readonly scope?: string | undefined;
}

/** The `.signatures.json` of these files. Throws Error when the key does not fit its algorithm. */
export function signFiles(files: Files, { key, keyid, scope }: SignOptions): Buffer {
  const list = [...files].map(([name, content]) => ({
    name,
    hash: digestOf(name, content, 'sha256'),
    algorithm: 'SHA-256',
  }));
  const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const header = encode({ alg: key.algorithm, typ: 'JWT', ...(keyid === undefined ? {} : { kid: keyid }) });
  const payload = encode({
    files: list,
    ...(keyid === undefined ? {} : { keyid }),
    ...(scope === undefined ? {} : { scope }),
  });
  const signature = signText(key, `${header}.${payload}`).toString('base64url');
  return Buffer.from(JSON.stringify({ signatures: [`${header}.${payload}.${signature}`] }));
}
