/**
 * What a username may be, wherever an account is made: letters and digits of ASCII, and single separators between them.
 * Nothing else can be taken for another name by what is not seen (a dot at the end, a full-width letter, an accent that
 * is put on it); who looks like somebody who is there already is refused by the store. Source: RFC 8265 3.3 and 8.2.
 */
const USERNAME = /^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$/;
const MIN = 3;

/** Characters of the longest one. */
export const MAX_USERNAME = 50;

/** The rule in words. */
export const USERNAME_RULE = '3 to 50 letters and digits, with single "_", "." and "-" between them';

export const isUsername = (text: string): boolean =>
  text.length >= MIN && text.length <= MAX_USERNAME && USERNAME.test(text);

/** A username that is as near to this as may be. */
export function tidyName(text: string): string {
  const [local = ''] = text.normalize('NFKC').split('@', 1);
  const name = trimmed(local.replaceAll(/[^A-Za-z0-9_.-]+/g, '-').replaceAll(/([_.-])[_.-]+/g, '$1'));
  return name.length < MIN ? `user-${name}`.replace(/-$/, '') : name;
}

/** The same with something behind it that makes it another one. */
export const suffixed = (name: string, suffix: string): string =>
  `${trimmed(name.slice(0, MAX_USERNAME - suffix.length - 1))}-${suffix}`;

const trimmed = (text: string): string =>
  text
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(0, MAX_USERNAME)
    .replace(/[^A-Za-z0-9]+$/, '');
