/**
 * Where a refused JSON text is wrong. Only errors pay for this; the native parser often does not say it.
 * Source: RFC 8259.
 */
/** Byte position of the first syntax fault of a text that the native parser refused and that is at most 64 deep. */
export function syntaxPosition(text: string): number {
  const walk = new SyntaxWalk(text);
  const end = walk.value(skipSpace(text, 0));
  return Buffer.byteLength(text.slice(0, walk.fault ?? skipSpace(text, end)));
}

/** The UTF-8 bytes of U+FFFD, read as Latin-1. */
const REPLACEMENT = '\xef\xbf\xbd';
const BARE = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;
const UNICODE_ESCAPE = /u[0-9a-fA-F]{4}/y;

/** Recursive descent that remembers the first fault and then only returns. */
class SyntaxWalk {
  readonly text: string;
  fault: number | null = null;

  constructor(text: string) {
    this.text = text;
  }

  /** Index after the value at `at`. */
  value(at: number): number {
    if (this.text[at] === '[') return this.list(at, ']');
    if (this.text[at] === '{') return this.list(at, '}');
    if (this.text[at] === '"') return this.string(at + 1);
    BARE.lastIndex = at;
    return BARE.test(this.text) ? BARE.lastIndex : this.fail(at);
  }

  private list(open: number, close: string): number {
    let at = skipSpace(this.text, open + 1);
    if (this.text[at] === close) return at + 1;
    while (this.fault === null) {
      at = skipSpace(this.text, close === '}' ? this.member(at) : this.value(at));
      if (this.fault !== null || this.text[at] === close) return at + 1;
      if (this.text[at] !== ',') return this.fail(at);
      at = skipSpace(this.text, at + 1);
    }
    return at;
  }

  private member(at: number): number {
    if (this.text[at] !== '"') return this.fail(at);
    const colon = skipSpace(this.text, this.value(at));
    if (this.fault !== null) return colon;
    return this.text[colon] === ':' ? this.value(skipSpace(this.text, colon + 1)) : this.fail(colon);
  }

  private string(start: number): number {
    for (let at = start; at < this.text.length; at++) {
      const char = this.text.charCodeAt(at);
      if (char === 0x22) return at + 1;
      if (char < 0x20) return this.fail(at);
      if (char !== 0x5c) continue;
      UNICODE_ESCAPE.lastIndex = ++at;
      if (UNICODE_ESCAPE.test(this.text)) at += 4;
      else if (!'"\\/bfnrt'.includes(this.text[at] ?? ' ')) return this.fail(at - 1);
    }
    return this.fail(this.text.length);
  }

  private fail(at: number): number {
    this.fault ??= Math.min(at, this.text.length);
    return at;
  }
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (text[at] === ' ' || text[at] === '\n' || text[at] === '\r' || text[at] === '\t') at++;
  return at;
}

/** Byte position of the first key that its object already has; the text is known to be well-formed. */
export function duplicatePosition(text: string): number {
  const open: (Set<string> | null)[] = [];
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (char === '{') open.push(new Set());
    else if (char === '[') open.push(null);
    else if (char === '}' || char === ']') open.pop();
    else if (char === '"') {
      const start = at;
      for (at++; text[at] !== '"'; at++) if (text[at] === '\\') at++;
      const keys = open.at(-1);
      if (!keys || !isFollowedByColon(text, at + 1)) continue;
      const key = JSON.parse(text.slice(start, at + 1)) as string;
      if (keys.has(key)) return Buffer.byteLength(text.slice(0, start));
      keys.add(key);
    }
  }
  return 0;
}

const isFollowedByColon = (text: string, from: number): boolean => text[skipSpace(text, from)] === ':';

/** Byte position of the first invalid UTF-8: where decoding put a replacement character that the bytes do not hold. */
export function firstInvalidByte(bytes: Buffer): number {
  const text = bytes.toString('utf8');
  let from = 0;
  let position = 0;
  for (;;) {
    const at = text.indexOf('\ufffd', from);
    position += Buffer.byteLength(text.slice(from, at === -1 ? undefined : at));
    if (at === -1 || bytes.toString('latin1', position, position + 3) !== REPLACEMENT) return position;
    from = at + 1;
    position += 3;
  }
}
