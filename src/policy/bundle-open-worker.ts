/** The thread that opens one archive, and verifies it where it is to be signed. Started by `bundle-open.ts`. */
import { parentPort, workerData } from 'node:worker_threads';
import { Secret } from '../core/secret.ts';
import { stepBack } from './background.ts';
import { type ArchiveLimits, readArchive } from './bundle-archive.ts';
import { type SigningRules, verifyFiles } from './bundle-signing.ts';
import type { Algorithm } from './jws.ts';

/** What the thread is told. */
export interface OpenWork {
  readonly archive: Uint8Array;
  readonly limits: ArchiveLimits | undefined;
  /** Keys as id, algorithm and text; null: signatures are not configured. */
  readonly signing:
    | (Omit<SigningRules, 'keys'> & {
        readonly keys: readonly (readonly [id: string, algorithm: Algorithm, key: string])[];
      })
    | null;
}

/** What it says, once. */
export type OpenWord =
  | { readonly files: readonly (readonly [name: string, content: Uint8Array])[] }
  | { readonly refused: string };

stepBack();
const { archive, limits, signing } = workerData as OpenWork;

function rulesOf(plain: NonNullable<OpenWork['signing']>): SigningRules {
  const keys = plain.keys.map(([id, algorithm, key]) => [id, { algorithm, key: new Secret(key) }] as const);
  return { ...plain, keys: Object.fromEntries(keys) };
}

try {
  const opened = await readArchive(Buffer.from(archive.buffer, archive.byteOffset, archive.byteLength), limits);
  const files = [...verifyFiles(opened, signing === null ? null : rulesOf(signing))];
  // All of them lie in one piece of memory, which changes hands.
  const pieces = new Set(files.map(([, { buffer }]) => buffer as ArrayBuffer));
  parentPort?.postMessage({ files } satisfies OpenWord, [...pieces]);
} catch (fault) {
  parentPort?.postMessage({ refused: (fault as Error).message } satisfies OpenWord);
}
