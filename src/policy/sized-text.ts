/** Texts that can be put one after the other without running into each other. */

/** A text with its length in front; `-` for none. */
export function part(text: string | null): string {
  return text === null ? '-' : `${text.length}:${text}`;
}

/** Texts with their number in front. */
export function list(texts: readonly string[]): string {
  if (texts.length === 0) return '0;';
  let out = `${texts.length};`;
  for (const text of texts) out += part(text);
  return out;
}
