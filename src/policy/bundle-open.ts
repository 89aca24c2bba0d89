/**
 * Opens an archive and verifies its signature, if it is to have one. It may be anybody's, so what is large is unpacked and
 * looked at on a thread of its own, within limits of memory and time: no request waits for it, and a gateway does not fall
 * over it.
 */
import { Worker } from 'node:worker_threads';
import { type ArchiveLimits, readArchive } from './bundle-archive.ts';
import type { OpenWord, OpenWork } from './bundle-open-worker.ts';
import { type SigningRules, verifyFiles } from './bundle-signing.ts';
import { PolicyLoadError } from './wasm/program.ts';

type Files = ReadonlyMap<string, Buffer>;

/** Bytes of content that are opened at once: some tens of milliseconds at the worst. */
const AT_ONCE_BYTES = 1024 * 1024;
const MEMORY_MB = 1024;
const TIME_MS = 30_000;

/** The files that may be used. Throws PolicyLoadError. `signing` null: signatures are not configured. */
export async function openBundle(
  archive: Buffer,
  signing: SigningRules | null,
  limits?: ArchiveLimits,
  timeMs = TIME_MS,
): Promise<Files> {
  if (statedSize(archive) <= AT_ONCE_BYTES) {
    return verifyFiles(await readArchive(archive, limits), signing);
  }
  return openApart({ archive, limits, signing: signing === null ? null : plain(signing) }, timeMs);
}

/** What the archive says of itself; where it lies it is refused before its files are looked at. */
function statedSize(archive: Buffer): number {
  return archive.length < 4 ? 0 : archive.readUInt32LE(archive.length - 4);
}

/** Secrets do not travel between threads by themselves. */
function plain({ keys, ...rest }: SigningRules): NonNullable<OpenWork['signing']> {
  const revealed = Object.entries(keys).map(([id, { algorithm, key }]) => [id, algorithm, key.reveal()] as const);
  return { ...rest, keys: revealed };
}

function openApart(work: OpenWork, timeMs: number): Promise<Files> {
  const file = import.meta.url.endsWith('.ts') ? './bundle-open-worker.ts' : './bundle-open-worker.js';
  const worker = new Worker(new URL(file, import.meta.url), {
    workerData: work,
    resourceLimits: { maxOldGenerationSizeMb: MEMORY_MB },
  });
  return new Promise<Files>((resolve, reject) => {
    const refuse = (why: string): void => reject(new PolicyLoadError(`the bundle ${why}`));
    const timer = setTimeout(() => refuse(`was not opened within ${timeMs} ms`), timeMs);
    worker.on('message', (word: OpenWord) => {
      clearTimeout(timer);
      if ('refused' in word) reject(new PolicyLoadError(word.refused));
      else resolve(new Map(word.files.map(([name, bytes]) => [name, asBuffer(bytes)])));
    });
    worker.on('error', (fault: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      const isMemory = fault.code === 'ERR_WORKER_OUT_OF_MEMORY';
      refuse(isMemory ? 'takes too much memory to be opened' : `cannot be opened: ${fault.message}`);
    });
  }).finally(() => worker.terminate());
}

function asBuffer({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}
