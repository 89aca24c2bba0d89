/** Replays a log of lines on several threads, each with a part of the file. The parts end where no list is torn apart. */
import { open, stat } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import type { BundleLocation } from '../bundle.ts';
import type { SigningRules } from '../bundle-signing.ts';
import { emptyTally, merge, type ReplayTally } from './tally.ts';
import type { ReplayPart, ReplayWord, SentRules } from './worker.ts';

export interface ThreadedOptions {
  readonly jobs: number;
  readonly sample: number;
  /** Whose signature the bundle needs. */
  readonly signing?: SigningRules | null;
  /** Told now and then: bytes and events so far. */
  readonly onProgress?: (bytes: number, events: number) => void;
  readonly signal?: AbortSignal;
}

/** Like `replay`, with the sum of all parts. Rejects when one of the threads fails. */
export async function replayOnThreads(
  location: BundleLocation,
  file: string,
  { jobs, sample, signing = null, onProgress, signal }: ThreadedOptions,
): Promise<ReplayTally> {
  const bounds = await partsOf(file, jobs);
  let bytes = 0;
  let events = 0;
  const heard = (word: { readonly bytes: number; readonly events: number }): void => {
    bytes += word.bytes;
    events += word.events;
    onProgress?.(bytes, events);
  };
  const sent = signing === null ? null : sentRules(signing);
  const tallies = await Promise.all(
    bounds.map(([from, to]) => runPart({ location, signing: sent, file, from, to, sample }, heard, signal)),
  );
  const all = emptyTally();
  for (const tally of tallies) merge(all, tally);
  return all;
}

/** A secret cannot be posted, its value can. */
function sentRules(rules: SigningRules): SentRules {
  const keys = Object.entries(rules.keys).map(([id, { algorithm, key }]) => [id, { algorithm, key: key.reveal() }]);
  return { ...rules, keys: Object.fromEntries(keys) };
}

function runPart(
  part: ReplayPart,
  heard: (word: { readonly bytes: number; readonly events: number }) => void,
  signal: AbortSignal | undefined,
): Promise<ReplayTally> {
  const file = import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js';
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(file, import.meta.url), { workerData: part });
    const stop = (): void => void worker.terminate();
    signal?.addEventListener('abort', stop, { once: true });
    worker.on('message', (word: ReplayWord) => {
      if ('tally' in word) resolve(word.tally);
      else if ('fault' in word) reject(new Error(word.fault));
      else heard(word);
    });
    worker.on('error', reject);
    worker.on('exit', () => {
      signal?.removeEventListener('abort', stop);
      reject(signal?.aborted ? signal.reason : new Error('a thread of the replay ended early'));
    });
  });
}

const WINDOW = 4 * 1024 * 1024;

/** Byte ranges of about equal size that begin with an event that needs none before it. */
export async function partsOf(file: string, jobs: number): Promise<readonly (readonly [number, number])[]> {
  const { size } = await stat(file);
  await using handle = await open(file);
  const starts = [0];
  const window = Buffer.alloc(Math.min(WINDOW, size));
  for (let i = 1; i < jobs; i++) {
    const near = Math.floor((size * i) / jobs);
    const { bytesRead } = await handle.read(window, 0, window.length, near);
    const start = startIn(window.subarray(0, bytesRead));
    if (start !== null && near + start > (starts.at(-1) ?? 0)) starts.push(near + start);
  }
  return starts.map((start, i) => [start, starts[i + 1] ?? size] as const);
}

/** Where in the window the first line begins that is no later call of a list. */
function startIn(window: Buffer): number | null {
  for (let at = window.indexOf(0x0a); at !== -1; ) {
    const end = window.indexOf(0x0a, at + 1);
    if (end === -1) return null;
    const line = window.subarray(at + 1, end);
    if (!line.includes('"batch_decision_id"') || line.includes('"calls":[')) return at + 1;
    at = end;
  }
  return null;
}
