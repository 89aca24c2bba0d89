/**
 * Looks at the raw text before any parser does. What two lexers could read differently is refused, wherever it stands,
 * even inside a string: a false alarm is cheap, a hidden statement is not. Source: security 2.6 and 4.3.
 */
import type { Finding } from '../classifier.ts';
import { AMBIGUOUS, EMPTY, TOO_LONG } from './sql-reading.ts';

/** Bytes of UTF-8 that are examined; more is refused. Source: contracts 3. */
export const MAX_SQL_BYTES = 65_536;

/** Control characters, spaces and marks that one lexer skips and another reads as a letter. */
function isOddCharacter(code: number): boolean {
  if (code < 32) return code !== 9 && code !== 10 && code !== 13;
  if (code < 127) return false;
  return (
    (code >= 0x7f && code <= 0xa0) ||
    code === 0xad ||
    code === 0x1680 ||
    code === 0x180e ||
    (code >= 0x2000 && code <= 0x200f) ||
    (code >= 0x2028 && code <= 0x202f) ||
    (code >= 0x205f && code <= 0x206f) ||
    code === 0x3000 ||
    code === 0xfeff ||
    (code >= 0xff01 && code <= 0xff5e)
  );
}

/** A comment that ends at another place in another lexer: bare CR, nesting, `/*!`, no end. */
function hasOddComment(sql: string): boolean {
  const block = sql.indexOf('/*');
  if (block >= 0) {
    if (sql.includes('/*!') || sql.includes('/*M!') || sql.includes('/*m!')) return true;
    for (let at = block; at >= 0; ) {
      const end = sql.indexOf('*/', at + 2);
      if (end < 0) return true;
      const nested = sql.indexOf('/*', at + 2);
      if (nested >= 0 && nested < end) return true;
      at = sql.indexOf('/*', end + 2);
    }
  }
  for (let at = sql.indexOf('\r'); at >= 0; at = sql.indexOf('\r', at + 1))
    if (sql.charCodeAt(at + 1) !== 10) return true;
  return false;
}

/** MySQL reads `--x` as two minus signs, everyone else as a comment. */
function hasOddDashes(sql: string): boolean {
  for (let at = sql.indexOf('--'); at >= 0; at = sql.indexOf('--', at + 2)) {
    const next = sql.charCodeAt(at + 2);
    if (!Number.isNaN(next) && next > 32) return true;
  }
  return false;
}

/** A backslash before a quote: ends the string or not, by a setting of the server that nobody here knows. */
function hasOddBackslash(sql: string): boolean {
  for (let at = sql.indexOf('\\'); at >= 0; at = sql.indexOf('\\', at + 1)) {
    const next = sql.charCodeAt(at + 1);
    if (next === 39 || next === 34 || next === 96) return true;
  }
  return false;
}

function isTooLong(sql: string): boolean {
  return sql.length > MAX_SQL_BYTES || (sql.length * 3 > MAX_SQL_BYTES && Buffer.byteLength(sql) > MAX_SQL_BYTES);
}

/** Checks for every dialect. Null: let a parser look. */
export function refuseText(sql: string, dialect: string): readonly Finding[] | null {
  if (isTooLong(sql)) return TOO_LONG;
  if (sql.trim() === '') return EMPTY;
  if (sql.includes('\0') || hasOddBackslash(sql)) return AMBIGUOUS;
  // Postgres is read by its own grammar, which settles the rest.
  if (dialect === 'postgres') return null;
  if (hasOddComment(sql)) return AMBIGUOUS;
  for (let i = 0; i < sql.length; i++) if (isOddCharacter(sql.charCodeAt(i))) return AMBIGUOUS;
  if ((dialect === 'mysql' || dialect === 'mariadb') && hasOddDashes(sql)) return AMBIGUOUS;
  return null;
}
