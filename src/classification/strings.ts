/** Finds the texts inside arguments. Bounded, and never throws for any JSON. */
import type { JsonValue } from '../core/json.ts';
import { isJsonObject } from '../core/json.ts';

const MAX_DEPTH = 64;
const MAX_STRINGS = 10_000;

/** Every text below a value, and every key of its objects; `complete` is false when a bound was hit. */
export interface Texts {
  readonly texts: string[];
  readonly keys: string[];
  complete: boolean;
}

/** Collects every text and key of a JSON value, up to fixed bounds. */
export function textsOf(
  value: JsonValue | undefined,
  into: Texts = { texts: [], keys: [], complete: true },
  depth = 0,
): Texts {
  if (typeof value === 'string') {
    if (into.texts.length >= MAX_STRINGS) into.complete = false;
    else into.texts.push(value);
  } else if (typeof value === 'object' && value !== null) {
    if (depth >= MAX_DEPTH) into.complete = false;
    else if (isJsonObject(value)) {
      for (const key in value) {
        if (into.keys.length >= MAX_STRINGS) into.complete = false;
        else into.keys.push(key);
        textsOf(value[key], into, depth + 1);
      }
    } else for (const item of value) textsOf(item, into, depth + 1);
  }
  return into;
}
