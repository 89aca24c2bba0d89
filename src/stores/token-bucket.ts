/**
 * The arithmetic of a token bucket as one figure: the time at which it would be full (the generic cell rate algorithm,
 * ITU-T I.371). Redis runs the same in its script.
 */
import type { Bucket, Taken } from './shared.ts';

/** `full`: when the bucket is full, epoch milliseconds, fractions included; in the past when it is. */
export function takeToken(full: number, { limit, windowMs }: Bucket, now: number): { full: number; taken: Taken } {
  const each = windowMs / limit;
  const after = Math.max(full, now) + each;
  // Half a microsecond of rounding must not cost a token.
  const lacking = after - now - windowMs;
  if (lacking > 0.0005) return { full, taken: tell(false, full, each, now, lacking, windowMs) };
  return { full: after, taken: tell(true, after, each, now, 0, windowMs) };
}

function tell(isAllowed: boolean, full: number, each: number, now: number, lacking: number, windowMs: number): Taken {
  const fullInMs = Math.max(0, full - now);
  const remaining = Math.max(0, Math.floor((windowMs - fullInMs) / each + 1e-6));
  return { isAllowed, remaining, fullInMs, retryInMs: lacking };
}
