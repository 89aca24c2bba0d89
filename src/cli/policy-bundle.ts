/** `portcullis policy build --bundle`, `verify` and `rollback`: bundles as a service serves them. Source: policy-engine 3. */
import { readFile, rename, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { isJsonObject } from '../core/json.ts';
import { Secret } from '../core/secret.ts';
import { readContents } from '../policy/bundle-contents.ts';
import type { BundleManifest } from '../policy/bundle-format.ts';
import { makeBundle } from '../policy/bundle-writer.ts';
import { ALGORITHMS, type Algorithm, keyProblem } from '../policy/jws.ts';
import { PolicyLoadError } from '../policy/wasm/program.ts';
import { adminOf, callAdmin } from './gateway-address.ts';
import type { Io } from './io.ts';
import { CommandError, EXIT, line, UnreachableError, UsageError } from './io.ts';

export interface BundleArguments {
  readonly bundle?: string | undefined;
  readonly revision?: string | undefined;
  readonly 'signing-key'?: string | undefined;
  readonly 'signing-alg'?: string | undefined;
  readonly keyid?: string | undefined;
  readonly scope?: string | undefined;
  readonly key?: string | undefined;
  readonly json?: boolean | undefined;
  readonly url?: string | undefined;
  readonly config?: string | undefined;
}

const isAlgorithm = (name: string): name is Algorithm => (ALGORITHMS as readonly string[]).includes(name);

function algorithmOf({ 'signing-alg': name = 'RS256' }: BundleArguments): Algorithm {
  if (isAlgorithm(name)) return name;
  throw new UsageError(`--signing-alg is one of ${ALGORITHMS.join(', ')}`);
}

/** Whoever names no algorithm does not know which one is meant. */
const hint = (values: BundleArguments): string =>
  values['signing-alg'] === undefined ? '; name the algorithm with --signing-alg' : '';

async function readKey(file: string, io: Io): Promise<Secret> {
  const text = await readFile(resolve(io.cwd, file), 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new UnreachableError(`the key ${file} cannot be read: ${error.code}`);
  });
  return new Secret(text.replace(/\r?\n$/, ''));
}

/** Writes what was compiled as a bundle archive; says where, or null when none was asked for. */
export async function writeBundle(
  dir: string,
  compiled: string,
  manifest: BundleManifest,
  values: BundleArguments,
  io: Io,
): Promise<string | null> {
  const { bundle, keyid, scope } = values;
  const file = values['signing-key'];
  if (bundle === undefined) {
    if (file !== undefined) throw new UsageError('--signing-key signs a bundle: name it with --bundle FILE');
    return null;
  }
  const algorithm = algorithmOf(values);
  const key = file === undefined ? null : await readKey(file, io);
  const problem = key === null ? null : keyProblem(algorithm, key.reveal(), 'sign');
  if (problem !== null) throw new CommandError(`the key ${file} cannot be used: ${problem}${hint(values)}`);
  const signing = key === null ? null : { key: { algorithm, key }, keyid, scope };
  const archive = await makeBundle({
    dir,
    compiled,
    manifest,
    revision: values.revision ?? manifest.revision,
    signing,
  });
  const out = resolve(io.cwd, bundle);
  // Servers read it while it is written.
  await writeFile(`${out}.${process.pid}`, archive);
  await rename(`${out}.${process.pid}`, out);
  return out;
}

/** Opens a bundle as the gateway would, and says what is in it. */
export async function verifyCommand(rest: readonly string[], values: BundleArguments, io: Io): Promise<number> {
  const [file] = rest;
  if (file === undefined || rest.length > 1)
    throw new UsageError('expected one bundle: policy verify FILE [--key FILE]');
  const archive = await readFile(resolve(io.cwd, file)).catch((error: NodeJS.ErrnoException) => {
    throw new UnreachableError(`${file} cannot be read: ${error.code}`);
  });
  const key = values.key === undefined ? null : await readKey(values.key, io);
  const id = values.keyid ?? 'default';
  const algorithm = algorithmOf(values);
  const problem = key === null ? null : keyProblem(algorithm, key.reveal(), 'verify');
  if (problem !== null) throw new CommandError(`the key ${values.key} cannot be used: ${problem}${hint(values)}`);
  const rules = key === null ? null : { keys: { [id]: { algorithm, key } }, keyid: values.keyid, scope: values.scope };
  try {
    const contents = await readContents(archive, rules);
    const about =
      contents.kind === 'delta'
        ? { revision: contents.delta.label, changes: contents.delta.operations.length }
        : { revision: contents.bundle.label, content: contents.bundle.revision };
    if (values.json === true)
      line(io, JSON.stringify({ ok: true, kind: contents.kind, signed: key !== null, ...about }));
    else
      line(io, `${file}: a ${key === null ? '' : 'signed '}${contents.kind}, revision ${about.revision ?? 'unnamed'}`);
    return EXIT.ok;
  } catch (fault) {
    if (!(fault instanceof PolicyLoadError)) throw fault;
    if (values.json === true) line(io, JSON.stringify({ ok: false, error: fault.message }));
    else io.err(`${file}: ${fault.message}\n`);
    return EXIT.failed;
  }
}

/** Takes the last activation of a running gateway back. */
export async function rollbackCommand(values: BundleArguments, io: Io): Promise<number> {
  const answer = await callAdmin(await adminOf(values, io), 'POST', '/policy/rollback', io);
  line(io, JSON.stringify(answer.body));
  if (answer.status < 300) {
    const { revision, bundle_revision: name } = isJsonObject(answer.body) ? answer.body : {};
    io.err(`in force: ${String(name ?? revision)}; "portcullis policy reload" takes what is served now\n`);
    return EXIT.ok;
  }
  if (isJsonObject(answer.body)) {
    io.err('portcullis policy: not rolled back: it was already, or there is no policy before this one\n');
  }
  return EXIT.failed;
}
