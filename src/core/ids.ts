/** Ids that sort by time and cannot be guessed: 48 bits of milliseconds, 80 random bits, Crockford base 32 (ULID layout). */
import { randomBytes } from 'node:crypto';

const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const RANDOM_LENGTH = 16;
const IDS_IN_BLOCK = 256;

function timePart(now: number): string {
  let text = '';
  let rest = now;
  for (let i = 0; i < 10; i++) {
    text = ALPHABET[rest % 32] + text;
    rest = Math.floor(rest / 32);
  }
  return text;
}

/** Random characters for many ids at once: one system call, and a slice an id instead of sixteen concatenations. */
function randomBlock(): string {
  const bytes = randomBytes(RANDOM_LENGTH * IDS_IN_BLOCK);
  // 256 is a multiple of 32, so the lower five bits of a byte are as even as the byte.
  for (let i = 0; i < bytes.length; i++) bytes[i] = ALPHABET.charCodeAt((bytes[i] ?? 0) & 31);
  return bytes.toString('latin1');
}

let block = '';
let offset = 0;
let lastTime = -1;
let lastPart = '';

/** `prefix` + 26 characters, e.g. `req_01JD…`. */
export function makeId(prefix: string, now: number): string {
  if (now !== lastTime) {
    lastTime = now;
    lastPart = timePart(now);
  }
  if (offset === block.length) {
    block = randomBlock();
    offset = 0;
  }
  offset += RANDOM_LENGTH;
  return prefix + lastPart + block.slice(offset - RANDOM_LENGTH, offset);
}
