/** What an authenticator app does, made from the standards and not from our code (RFC 6238, RFC 4648). */
import { createHmac } from 'node:crypto';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** The code that an app shows at a moment. `now`: epoch milliseconds. */
export function appCode(secret: string, now: number): string {
  const bits = [...secret].map((letter) => ALPHABET.indexOf(letter).toString(2).padStart(5, '0')).join('');
  const bytes = (bits.match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2));
  const counter = Math.floor(now / 30_000)
    .toString(16)
    .padStart(16, '0');
  const mac = createHmac('sha1', Buffer.from(bytes)).update(Buffer.from(counter, 'hex')).digest();
  const at = (mac.at(-1) ?? 0) % 16;
  const number = Number.parseInt(mac.subarray(at, at + 4).toString('hex'), 16) % 2 ** 31;
  return String(number % 1_000_000).padStart(6, '0');
}
