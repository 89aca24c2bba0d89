/** A thread that replays a part of a log. Started by `threads.ts`, which gives it its part and hears what it counted. */
import { parentPort, workerData } from 'node:worker_threads';
import { Secret } from '../../core/secret.ts';
import { type BundleLocation, loadBundle } from '../bundle.ts';
import type { SigningRules } from '../bundle-signing.ts';
import type { Algorithm } from '../jws.ts';
import { replay } from './replay.ts';
import type { ReplayTally } from './tally.ts';

/** What a thread is told. */
export interface ReplayPart {
  readonly location: BundleLocation;
  /** Whose signature the bundle needs, with keys that a message can hold; null: nobody's. */
  readonly signing: SentRules | null;
  readonly file: string;
  readonly from: number;
  readonly to: number;
  readonly sample: number;
}

/** `SigningRules` as a message holds them. */
export type SentRules = Omit<SigningRules, 'keys'> & {
  readonly keys: Readonly<Record<string, { readonly algorithm: Algorithm; readonly key: string }>>;
};

/** What it says: bytes read since the last time, or, at its end, all it counted. */
export type ReplayWord =
  | { readonly bytes: number; readonly events: number }
  | { readonly tally: ReplayTally }
  | { readonly fault: string };

const part = workerData as ReplayPart;
const say = (word: ReplayWord): void => parentPort?.postMessage(word);

function rulesOf(sent: SentRules | null): SigningRules | null {
  if (sent === null) return null;
  const keys = Object.entries(sent.keys).map(([id, { algorithm, key }]) => [id, { algorithm, key: new Secret(key) }]);
  return { ...sent, keys: Object.fromEntries(keys) };
}

let bytes = 0;
let events = 0;

try {
  const tally = await replay(await loadBundle(part.location, rulesOf(part.signing)), part.file, 'lines', {
    from: part.from,
    to: part.to,
    sample: part.sample,
    onProgress(read, so) {
      say({ bytes: read - bytes, events: so.events - events });
      bytes = read;
      events = so.events;
    },
  });
  say({ tally });
} catch (cause) {
  say({ fault: cause instanceof Error ? cause.message : String(cause) });
}
