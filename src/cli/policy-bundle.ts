/** `portcullis policy build --bundle` and `verify`: bundles as a service serves them. Source: policy-engine 3. */
import { rename, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Secret } from '../core/secret.ts';
import { readContents } from '../policy/bundle-contents.ts';
import type { BundleManifest } from '../policy/bundle-format.ts';
import type { SigningRules, SignOptions } from '../policy/bundle-signing.ts';
import { makeBundle } from '../policy/bundle-writer.ts';
import { ALGORITHMS, type Algorithm, keyProblem } from '../policy/jws.ts';
import { PolicyLoadError } from '../policy/wasm/program.ts';
import { readBytes, readText } from './input-file.ts';
import type { Io } from './io.ts';
import { CommandError, EXIT, line, UsageError } from './io.ts';

export interface BundleArguments {
  readonly bundle?: string | undefined;
  readonly revision?: string | undefined;
  readonly sequence?: string | undefined;
  readonly 'signing-key'?: string | undefined;
  readonly 'signing-alg'?: string | undefined;
  readonly keyid?: string | undefined;
  readonly scope?: string | undefined;
  readonly key?: string | undefined;
  readonly json?: boolean | undefined;
}

const isAlgorithm = (name: string): name is Algorithm => (ALGORITHMS as readonly string[]).includes(name);

function algorithmOf({ 'signing-alg': name = 'RS256' }: BundleArguments): Algorithm {
  if (isAlgorithm(name)) return name;
  throw new UsageError(`--signing-alg is one of ${ALGORITHMS.join(', ')}`);
}

/** Whoever names no algorithm does not know which one is meant. */
const hint = (values: BundleArguments): string =>
  values['signing-alg'] === undefined ? '; name the algorithm with --signing-alg' : '';

function readKey(file: string, io: Io): Secret {
  return new Secret(readText(resolve(io.cwd, file)).replace(/\r?\n$/, ''));
}

/**
 * The place of a bundle in the order of those before and after it: what is named, or else the time, as builds that can be
 * repeated have it (reproducible-builds.org).
 */
export function sequenceIn({ sequence }: Pick<BundleArguments, 'sequence'>, io: Io): number {
  const epoch = io.env.SOURCE_DATE_EPOCH;
  if (sequence === undefined)
    return epoch !== undefined && /^\d{1,12}$/.test(epoch) ? Number(epoch) * 1000 : Date.now();
  const number = Number(sequence);
  if (/^\d{1,16}$/.test(sequence) && Number.isSafeInteger(number)) return number;
  throw new UsageError('--sequence is a whole number, larger than that of the bundle before');
}

/** Writes what was compiled as a bundle archive; says where, or null when none was asked for. */
export async function writeBundle(
  dir: string,
  compiled: string,
  manifest: BundleManifest,
  values: BundleArguments,
  io: Io,
): Promise<string | null> {
  const { bundle } = values;
  if (bundle === undefined) {
    if (values['signing-key'] !== undefined)
      throw new UsageError('--signing-key signs a bundle: name it with --bundle FILE');
    return null;
  }
  const signing = signingOf(values, io);
  const archive = await makeBundle({
    dir,
    compiled,
    manifest,
    revision: values.revision ?? manifest.revision,
    sequence: sequenceIn(values, io),
    signing,
  });
  const out = resolve(io.cwd, bundle);
  await replaceFile(out, archive);
  return out;
}

/** As a whole: servers read it while it is written. */
export async function replaceFile(out: string, bytes: Buffer): Promise<void> {
  await writeFile(`${out}.${process.pid}`, bytes);
  await rename(`${out}.${process.pid}`, out);
}

/** Who signs; null: nobody. Throws CommandError for a key that cannot be used. */
export function signingOf(values: BundleArguments, io: Io): SignOptions | null {
  const { keyid, scope, 'signing-key': file } = values;
  const algorithm = algorithmOf(values);
  if (file === undefined) return null;
  const key = readKey(file, io);
  const problem = keyProblem(algorithm, key.reveal(), 'sign');
  if (problem !== null) throw new CommandError(`the key ${file} cannot be used: ${problem}${hint(values)}`);
  return { key: { algorithm, key }, keyid, scope };
}

/** The public key of a signed bundle, and what its signature has to say. */
export type VerificationArguments = Pick<BundleArguments, 'key' | 'keyid' | 'scope' | 'signing-alg'>;

/** Whose signature is asked for; null without --key. Throws CommandError for a key that cannot be used. */
export async function verificationRules(values: VerificationArguments, io: Io): Promise<SigningRules | null> {
  const algorithm = algorithmOf(values);
  if (values.key === undefined) return null;
  const key = readKey(values.key, io);
  const problem = keyProblem(algorithm, key.reveal(), 'verify');
  if (problem !== null) throw new CommandError(`the key ${values.key} cannot be used: ${problem}${hint(values)}`);
  return { keys: { [values.keyid ?? 'default']: { algorithm, key } }, keyid: values.keyid, scope: values.scope };
}

/** Opens a bundle as the gateway would, and says what is in it. */
export async function verifyCommand(rest: readonly string[], values: BundleArguments, io: Io): Promise<number> {
  const [file] = rest;
  if (file === undefined || rest.length > 1)
    throw new UsageError('expected one bundle: policy verify FILE [--key FILE]');
  const archive = readBytes(resolve(io.cwd, file));
  const rules = await verificationRules(values, io);
  try {
    const contents = await readContents(archive, rules);
    const about =
      contents.kind === 'delta'
        ? {
            revision: contents.delta.label,
            sequence: contents.delta.sequence,
            changes: contents.delta.operations.length,
          }
        : {
            revision: contents.bundle.label,
            sequence: contents.bundle.sequence ?? null,
            content: contents.bundle.revision,
            bindings: contents.bundle.claims,
          };
    if (values.json === true)
      line(io, JSON.stringify({ ok: true, kind: contents.kind, signed: rules !== null, ...about }));
    else {
      const kind = `${rules === null ? '' : 'signed '}${contents.kind}`;
      const { content } = about;
      const digest = content === undefined || content === about.revision ? '' : ` (${content})`;
      line(io, `${file}: a ${kind}, revision ${about.revision ?? 'unnamed'}${digest}`);
      for (const { route, entrypoint } of about.bindings ?? []) line(io, `  binds ${route} to ${entrypoint}`);
    }
    return EXIT.ok;
  } catch (fault) {
    if (!(fault instanceof PolicyLoadError)) throw fault;
    const { message } = fault;
    const hint = rules === null && message.includes('is signed') ? ' (--key names the public key)' : '';
    if (values.json === true) line(io, JSON.stringify({ ok: false, error: message }));
    else io.err(`${file}: ${message}${hint}\n`);
    return EXIT.failed;
  }
}
