/**
 * The form of JSON over which bundle signatures are made: members sorted by the bytes of their names, no space, numbers
 * exactly as they were written. Numbers are never turned into floating point: 1.0, 1e3 and integers of any size keep
 * their text. Source: OPA bundle signing; strings as Go's encoder writes them without HTML escaping.
 */

/** The text is no JSON, or nested too deep. */
export class NotJsonError extends Error {
  override readonly name = 'NotJsonError';
}

const MAX_DEPTH = 1000;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
/** Where it ends; what is in it is for JSON.parse to judge. */
const STRING = /"(?:[^"\\]|\\.)*"/sy;
const SPACE = /[ \t\r\n]*/y;

/** Throws NotJsonError. A name that comes twice counts with its last value, as in Go. */
export function canonicalJson(text: string): string {
  const scanner = new Scanner(text);
  const canonical = scanner.value(0);
  scanner.space();
  if (!scanner.atEnd) throw new NotJsonError('something follows the value');
  return canonical;
}

class Scanner {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get atEnd(): boolean {
    return this.#at === this.#text.length;
  }

  space(): void {
    this.#match(SPACE);
  }

  value(depth: number): string {
    if (depth > MAX_DEPTH) throw new NotJsonError('nested too deep');
    this.space();
    switch (this.#text[this.#at]) {
      case '{':
        return this.#object(depth);
      case '[':
        return this.#array(depth);
      case '"':
        return encodeText(this.#string());
      case 't':
        return this.#word('true');
      case 'f':
        return this.#word('false');
      case 'n':
        return this.#word('null');
      default:
        return this.#match(NUMBER) ?? this.#fail();
    }
  }

  #object(depth: number): string {
    const members = new Map<string, string>();
    this.#at++;
    if (this.#took('}')) return '{}';
    do {
      this.space();
      const name = this.#string();
      if (!this.#took(':')) this.#fail();
      members.set(name, this.value(depth + 1));
    } while (this.#took(','));
    if (!this.#took('}')) this.#fail();
    const sorted = [...members].sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    return `{${sorted.map(([name, value]) => `${encodeText(name)}:${value}`).join(',')}}`;
  }

  #array(depth: number): string {
    const items: string[] = [];
    this.#at++;
    if (this.#took(']')) return '[]';
    do items.push(this.value(depth + 1));
    while (this.#took(','));
    if (!this.#took(']')) this.#fail();
    return `[${items.join(',')}]`;
  }

  #string(): string {
    const literal = this.#match(STRING) ?? this.#fail();
    return (JSON.parse(literal) as string).toWellFormed();
  }

  #word(word: string): string {
    if (!this.#text.startsWith(word, this.#at)) this.#fail();
    this.#at += word.length;
    return word;
  }

  #took(mark: string): boolean {
    this.space();
    if (this.#text[this.#at] !== mark) return false;
    this.#at++;
    return true;
  }

  #match(pattern: RegExp): string | null {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0] ?? null;
    if (found !== null) this.#at += found.length;
    return found;
  }

  #fail(): never {
    throw new NotJsonError(`no JSON at character ${this.#at}`);
  }
}

/** Go escapes the two line separators of Unicode, JavaScript does not. */
function encodeText(text: string): string {
  return JSON.stringify(text).replaceAll('\u2028', '\\u2028').replaceAll('\u2029', '\\u2029');
}
