/**
 * The text of an API key: `<prefix>_<env>_<id>_<secret><crc6>`. The id finds the row, the secret proves possession,
 * and the checksum lets junk and typing errors be refused without asking the store. Source: contracts 5.
 */
import { hash, randomBytes, timingSafeEqual } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { Secret } from '../core/secret.ts';

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const ID_LENGTH = 16;
/** 178 bits of base 62. */
const SECRET_LENGTH = 30;
const CRC_LENGTH = 6;
/** Longer texts are not looked at. */
const MAX_LENGTH = 128;

/** The environment word inside a key. */
export type KeyEnvironment = 'dev' | 'test' | 'live';

/** Config `environment` to the word inside its keys. */
export const KEY_ENVIRONMENTS = {
  development: 'dev',
  staging: 'test',
  production: 'live',
} as const satisfies Record<string, KeyEnvironment>;

export interface ParsedKey {
  readonly prefix: string;
  readonly environment: KeyEnvironment;
  readonly id: string;
}

/** Rejection sampling: 248 is the largest multiple of 62 in a byte, so every character is equally likely. */
function randomText(length: number): string {
  let text = '';
  while (text.length < length) {
    for (const byte of randomBytes(length * 2)) {
      if (byte < 248 && text.length < length) text += ALPHABET[byte % 62];
    }
  }
  return text;
}

function checksum(text: string): string {
  let rest = crc32(text);
  let out = '';
  for (let i = 0; i < CRC_LENGTH; i++) {
    out = ALPHABET[rest % 62] + out;
    rest = Math.floor(rest / 62);
  }
  return out;
}

/** A new key: its text, shown once, and its id. */
export function generateKey(
  prefix: string,
  environment: KeyEnvironment,
): { readonly id: string; readonly text: string } {
  const id = randomText(ID_LENGTH);
  const body = `${prefix}_${environment}_${id}_${randomText(SECRET_LENGTH)}`;
  return { id, text: body + checksum(body) };
}

function isBase62(text: string, from: number, to: number): boolean {
  for (let i = from; i < to; i++) {
    const c = text.charCodeAt(i);
    if (!((c >= 48 && c <= 57) || (c >= 65 && c <= 90) || (c >= 97 && c <= 122))) return false;
  }
  return true;
}

function isPrefix(text: string): boolean {
  return /^[a-z][a-z0-9]*(_[a-z0-9]+)*$/.test(text);
}

/** The parts of a key, or null when the text does not have the form or its checksum is wrong. Read from the right: a prefix may hold `_`. */
export function parseKey(text: string): ParsedKey | null {
  if (text.length > MAX_LENGTH) return null;
  const secretAt = text.length - SECRET_LENGTH - CRC_LENGTH;
  const idAt = secretAt - 1 - ID_LENGTH;
  if (idAt < 6 || text[secretAt - 1] !== '_' || text[idAt - 1] !== '_') return null;
  if (!isBase62(text, secretAt, text.length) || !isBase62(text, idAt, secretAt - 1)) return null;
  const head = text.slice(0, idAt - 1);
  const cut = head.lastIndexOf('_');
  const prefix = head.slice(0, cut);
  const environment = head.slice(cut + 1);
  if (environment !== 'dev' && environment !== 'test' && environment !== 'live') return null;
  if (!isPrefix(prefix)) return null;
  const body = text.slice(0, -CRC_LENGTH);
  if (checksum(body) !== text.slice(-CRC_LENGTH)) return null;
  return { prefix, environment, id: text.slice(idAt, secretAt - 1) };
}

/** What is stored: hex SHA-256 over pepper and the whole key. The key has 178 random bits, so no slow hash is needed. */
export function hashKey(text: string, pepper: Secret): string {
  return hash('sha256', `${pepper.reveal()}\n${text}`, 'hex');
}

/** Constant-time comparison with a stored hash. */
export function keyMatches(text: string, pepper: Secret, stored: string): boolean {
  const mine = Buffer.from(hashKey(text, pepper), 'hex');
  const theirs = Buffer.from(stored, 'hex');
  return mine.length === theirs.length && timingSafeEqual(mine, theirs);
}
