/** Texts on their way into a directory: what is escaped, folded and refused. Source: RFC 4514, RFC 4515, RFC 7617. */

const MAX_NAME = 256;
const MAX_PASSWORD = 1024;

/** A value inside a search filter (RFC 4515 3). Other characters may stand as they are, in UTF-8. */
export function escapeFilterValue(value: string): string {
  return value.replaceAll(
    // biome-ignore lint/suspicious/noControlCharactersInRegex: NUL is one of the five characters that must be escaped.
    /[\u0000()*\\]/g,
    (character) => `\\${character.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
}

/** A value inside a relative name (RFC 4514 2.4). */
export function escapeDnValue(value: string): string {
  const escaped = value.replaceAll(
    // biome-ignore lint/suspicious/noControlCharactersInRegex: NUL is one of the characters that must be escaped.
    /[\u0000"+,;<=>\\]/g,
    (character) => (character === '\u0000' ? '\\00' : `\\${character}`),
  );
  const start = /^[ #]/.test(escaped) ? `\\${escaped}` : escaped;
  // A space that is the whole value is escaped by now.
  return start.length > 2 && start.endsWith(' ') ? `${start.slice(0, -1)}\\ ` : start;
}

/** A template with each `{name}` replaced by its value, escaped. One pass: what a value contains is never replaced again. */
export function fill(
  template: string,
  values: Readonly<Record<string, string>>,
  escaped: (value: string) => string,
): string {
  return template.replaceAll(/\{(\w+)\}/g, (whole, name: string) =>
    Object.hasOwn(values, name) ? escaped(values[name] ?? '') : whole,
  );
}

/**
 * What directories take for the same text: compatibility forms, case and spaces do not count (RFC 4518). For counting
 * guesses and for comparing names, never for asking.
 */
export function foldText(text: string): string {
  return text.normalize('NFKC').toLowerCase().replaceAll(/\s+/g, ' ').trim();
}

/** A distinguished name as something to compare: types and values folded, escapes resolved, parts of a part sorted. */
export function foldDn(dn: string): string {
  return splitUnescaped(dn, ',')
    .map((part) =>
      splitUnescaped(part, '+')
        .map((pair) => {
          const equals = pair.indexOf('=');
          return JSON.stringify([foldText(pair.slice(0, equals)), foldText(unescapeDn(pair.slice(equals + 1)))]);
        })
        .toSorted()
        .join('+'),
    )
    .join(',');
}

function splitUnescaped(text: string, separator: string): string[] {
  const parts: string[] = [];
  let from = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '\\') i++;
    else if (text[i] === separator) {
      parts.push(text.slice(from, i));
      from = i + 1;
    }
  }
  parts.push(text.slice(from));
  return parts;
}

function unescapeDn(value: string): string {
  const bytes: Buffer[] = [];
  for (let i = 0; i < value.length; i++) {
    const hex = /^\\([0-9a-f]{2})/i.exec(value.slice(i, i + 3))?.[1];
    if (hex !== undefined) {
      bytes.push(Buffer.from(hex, 'hex'));
      i += 2;
    } else {
      if (value[i] === '\\') i++;
      bytes.push(Buffer.from(String.fromCodePoint(value.codePointAt(i) ?? 0)));
      if ((value.codePointAt(i) ?? 0) > 0xffff) i++;
    }
  }
  return Buffer.concat(bytes).toString('utf8');
}

/** Name and password of an `Authorization: Basic` header. */
export interface NameAndPassword {
  readonly name: string;
  readonly password: string;
}

/** Reads the value of a Basic header; null unless it is canonical base64 of `name:password` in UTF-8 (RFC 7617 2.1). */
export function readBasic(value: string): NameAndPassword | null {
  const bytes = Buffer.from(value, 'base64');
  if (bytes.toString('base64') !== value) return null;
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
  const colon = text.indexOf(':');
  return colon < 0 ? null : { name: text.slice(0, colon), password: text.slice(colon + 1) };
}

/** Why a name or password is not shown to any directory, in words for the operator; null when it may be. */
export function faultOf({ name, password }: NameAndPassword): string | null {
  if (name.trim() === '') return 'the user name is empty';
  if (name.length > MAX_NAME || password.length > MAX_PASSWORD) return 'the user name or password is too long';
  if (!name.isWellFormed() || hasControl(name)) return 'the user name has control characters';
  // RFC 4513 5.1.2: a bind with a name and no password succeeds as nobody. Some servers cut at a NUL or trim spaces.
  if (password.trim() === '') return 'the password is empty';
  if (password.includes('\u0000')) return 'the password has a NUL';
  return null;
}

function hasControl(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 32 || (code >= 127 && code < 160)) return true;
  }
  return false;
}
