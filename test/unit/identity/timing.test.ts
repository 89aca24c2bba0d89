/**
 * Whether the time of a comparison tells how much of a secret was right: two classes of guesses in random order, Welch's t
 * over what is left without the slowest tenth (interrupts, collections). Source: security 2.10.
 */
import { performance } from 'node:perf_hooks';
import { expect, test } from 'vitest';
import { Secret } from '../../../src/core/secret.ts';
import { generateKey, hashKey, keyMatches } from '../../../src/identity/key-format.ts';

const SAMPLES = 100_000;
/** Beyond it the two classes are told apart. */
const LEAK = 4.5;

/** Welch's t of two classes of calls that were timed in turns of random order. */
function welch(work: (which: 0 | 1) => unknown): number {
  const times = [new Float64Array(SAMPLES), new Float64Array(SAMPLES)] as const;
  const counts: [number, number] = [0, 0];
  for (let i = 0; i < SAMPLES; i++) {
    const which = Math.random() < 0.5 ? 0 : 1;
    const start = performance.now();
    work(which);
    times[which][counts[which]++] = performance.now() - start;
  }
  const [a, b] = times.map((all, which) => moments(all.subarray(0, counts[which]).toSorted())) as [Moments, Moments];
  return (a.mean - b.mean) / Math.sqrt(a.variance / a.count + b.variance / b.count);
}

interface Moments {
  readonly count: number;
  readonly mean: number;
  readonly variance: number;
}

function moments(sorted: Float64Array): Moments {
  const kept = sorted.subarray(0, Math.floor(sorted.length * 0.9));
  const mean = kept.reduce((sum, time) => sum + time, 0) / kept.length;
  const variance = kept.reduce((sum, time) => sum + (time - mean) ** 2, 0) / (kept.length - 1);
  return { count: kept.length, mean, variance };
}

/** The digest with one wrong digit: the first, or the last. */
const wrongAt = (digest: string, at: number): string =>
  digest.slice(0, at) + (digest[at] === '0' ? '1' : '0') + digest.slice(at + 1);

const PEPPER = new Secret('pepper-of-a-timing-test-4kQ8');
const { text } = generateKey('pc', 'dev');
const digest = hashKey(text, PEPPER);
const CLASSES = [wrongAt(digest, 0), wrongAt(digest, digest.length - 1)] as const;

test('a key takes as long to compare whether the first or the last of its digest is wrong', () => {
  // A machine that does something else meanwhile may tell the classes apart once; a leak does each time.
  const found: number[] = [];
  do found.push(Math.abs(welch((which) => keyMatches(text, PEPPER, CLASSES[which]))));
  while ((found.at(-1) ?? 0) >= LEAK && found.length < 4);
  expect(Math.min(...found)).toBeLessThan(LEAK);
});

test('a comparison that ends at the first difference is noticed', () => {
  const early = (a: string, b: string): boolean => {
    for (let i = 0; i < a.length; i++) if (a.charCodeAt(i) !== b.charCodeAt(i)) return false;
    return true;
  };
  expect(Math.abs(welch((which) => early(digest, CLASSES[which])))).toBeGreaterThan(LEAK);
});
