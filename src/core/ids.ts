/** Ids that sort by time and cannot be guessed: 48 bits of milliseconds, 80 random bits, Crockford base 32 (ULID layout). */
import { randomFillSync } from 'node:crypto';

const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
/** Random bytes are drawn in blocks: one system call per 400 ids instead of one per id. */
const pool = Buffer.allocUnsafe(10 * 400);
let offset = pool.length;

function timePart(now: number): string {
  let text = '';
  let rest = now;
  for (let i = 0; i < 10; i++) {
    text = ALPHABET[rest % 32] + text;
    rest = Math.floor(rest / 32);
  }
  return text;
}

let lastTime = -1;
let lastPart = '';

/** `prefix` + 26 characters, e.g. `req_01JD…`. */
export function makeId(prefix: string, now: number): string {
  if (now !== lastTime) {
    lastTime = now;
    lastPart = timePart(now);
  }
  if (offset === pool.length) {
    randomFillSync(pool);
    offset = 0;
  }
  let text = '';
  for (let i = 0; i < 10; i += 5) {
    const a = pool.readUInt32BE(offset + i);
    const b = pool[offset + i + 4] ?? 0;
    for (let shift = 27; shift >= 2; shift -= 5) text += ALPHABET[(a >>> shift) & 31];
    text += ALPHABET[((a & 3) << 3) | (b >>> 5)];
    text += ALPHABET[b & 31];
  }
  offset += 10;
  return prefix + lastPart + text;
}
