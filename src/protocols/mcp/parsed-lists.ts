/**
 * Servers answer lists with the same text again and again, to every caller. The text is parsed once; what each caller
 * may see of it is decided every time. Keyed by the whole text, so it cannot mix anything up.
 */
import type { JsonValue } from '../../core/json.ts';
import { parseStrict } from '../json.ts';

/** A text as read: `isLoose` when it can be read in more than one way. `value` is undefined for no JSON at all. */
export interface ParsedText {
  readonly value: JsonValue | undefined;
  readonly isLoose: boolean;
}

/** UTF-16 units; longer texts are parsed each time. */
const MAX_TEXT = 262_144;

/** Reads strictly if possible. Tools may answer with numbers or depths that a request may not have. */
export function parseText(text: string): ParsedText {
  try {
    return { value: parseStrict(Buffer.from(text)), isLoose: false };
  } catch {
    return { value: parseLoose(text), isLoose: true };
  }
}

function parseLoose(text: string): JsonValue | undefined {
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    return undefined;
  }
}

/** Bounded; the least recently used text goes first. */
export class ParsedLists {
  readonly #max: number;
  readonly #texts = new Map<string, ParsedText>();

  constructor(max = 64) {
    this.#max = max;
  }

  parse(text: string): ParsedText {
    if (text.length > MAX_TEXT) return parseText(text);
    const parsed = this.#texts.get(text) ?? parseText(text);
    this.#texts.delete(text);
    this.#texts.set(text, parsed);
    if (this.#texts.size > this.#max) {
      const oldest = this.#texts.keys().next();
      if (!oldest.done) this.#texts.delete(oldest.value);
    }
    return parsed;
  }
}
