/**
 * How usernames look: those with one look are taken for one another, as `paul`, `pauI` and `pau1` are. Source: UTS 39 4,
 * of the characters that usernames have.
 */
import { sql } from 'kysely';

/** What is read as what, one after the other; a capital I before all letters become small ones. */
const READ_AS = [
  ['1', 'l'],
  ['0', 'o'],
  ['_', '-'],
  ['.', '-'],
  ['rn', 'm'],
  ['vv', 'w'],
] as const;

/** The look of a name. */
export function lookOf(username: string): string {
  let look = username.replaceAll('I', 'l').toLowerCase();
  for (const [from, to] of READ_AS) look = look.replaceAll(from, to);
  return look;
}

/** The same of the column `username`. An index has this very text: never change it without another one. */
export const LOOKS = sql<string>`${sql.raw(
  READ_AS.reduce((inner, [from, to]) => `replace(${inner}, '${from}', '${to}')`, "lower(replace(username, 'I', 'l'))"),
)}`;
