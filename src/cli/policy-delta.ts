/** `portcullis policy delta`: the changes of data between two bundles, as a bundle service serves them. Source: policy-engine 3. */
import { resolve } from 'node:path';
import type { Bundle } from '../policy/bundle.ts';
import { readContents } from '../policy/bundle-contents.ts';
import type { SigningRules } from '../policy/bundle-signing.ts';
import { makeDelta } from '../policy/delta-writer.ts';
import { PolicyLoadError } from '../policy/wasm/program.ts';
import { readBytes } from './input-file.ts';
import type { Io } from './io.ts';
import { EXIT, line, UsageError } from './io.ts';
import { type BundleArguments, replaceFile, sequenceIn, signingOf, verificationRules } from './policy-bundle.ts';

export interface DeltaArguments extends BundleArguments {
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  readonly out?: string | undefined;
}

export async function deltaCommand(rest: readonly string[], values: DeltaArguments, io: Io): Promise<number> {
  const { from, to, out, revision } = values;
  if (rest.length > 0 || from === undefined || to === undefined || out === undefined) {
    throw new UsageError('expected two bundles and where to write: policy delta --from FILE --to FILE --out FILE');
  }
  const signing = signingOf(values, io);
  const rules = await verificationRules(values, io);
  try {
    const [before, after] = [await snapshot(from, rules, io), await snapshot(to, rules, io)];
    const sequence = values.sequence === undefined ? (after.sequence ?? null) : null;
    const delta = makeDelta({
      ...{ from: before, to: after, revision, signing },
      sequence: sequence ?? sequenceIn(values, io),
    });
    const file = resolve(io.cwd, out);
    await replaceFile(file, delta.archive);
    const { base, changes } = delta;
    if (values.json === true) line(io, JSON.stringify({ ok: true, base, revision: delta.revision, changes, file }));
    else line(io, `${out}: ${changes} change${changes === 1 ? '' : 's'} from ${base} to ${delta.revision}`);
    return EXIT.ok;
  } catch (fault) {
    if (!(fault instanceof PolicyLoadError)) throw fault;
    if (values.json === true) line(io, JSON.stringify({ ok: false, error: fault.message }));
    else io.err(`${fault.message}\n`);
    return EXIT.failed;
  }
}

/** Signed bundles are read as a gateway reads them: with the public key. */
async function snapshot(file: string, rules: SigningRules | null, io: Io): Promise<Bundle> {
  const archive = readBytes(resolve(io.cwd, file));
  const contents = await readContents(archive, rules).catch((cause: unknown) => {
    if (!(cause instanceof PolicyLoadError)) throw cause;
    throw new PolicyLoadError(`${file}: ${cause.message}${rules === null ? ' (--key names the public key)' : ''}`);
  });
  if (contents.kind === 'delta') throw new PolicyLoadError(`${file} is a delta: name whole bundles`);
  return contents.bundle;
}
