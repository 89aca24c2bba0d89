/** Names that mean secrets or people. Matched as identifiers, never as substrings. Source: acceptance S-21, SF-02, SF-03. */
import type { JsonObject, JsonValue } from '../core/json.ts';
import { textsOf } from './strings.ts';
import { wordsOf } from './words.ts';

/** Parameters whose values name what is touched. Matched on the last word of the parameter's name. */
const NAMING = new Set([
  'query',
  'resource',
  'resources',
  'table',
  'tables',
  'path',
  'paths',
  'uri',
  'uris',
  'url',
  'endpoint',
  'collection',
  'schema',
  'kind',
  'type',
  'object',
  'bucket',
  'index',
  'view',
]);
const MAX_NAMES = 256;
const MAX_TEXT = 4096;
const BREAK = /[^\p{L}\p{N}_$-]+/u;

/** Decides whether a name is sensitive. */
export interface SensitiveNames {
  /** One identifier, possibly qualified (`app.users`) or a path (`/v1/users/7`). */
  matches(name: string): boolean;
}

/** `names` as configured, singular and plural. A whole identifier may have either form; a part of one only the form given. */
export function createSensitiveNames(names: readonly string[]): SensitiveNames {
  const whole = new Set<string>();
  const parts = new Set<string>();
  for (const name of names) {
    const lower = name.normalize('NFKC').toLowerCase();
    parts.add(lower);
    whole.add(lower);
    whole.add(lower.endsWith('s') ? lower.slice(0, -1) : `${lower}s`);
  }
  const one = (identifier: string): boolean => {
    if (identifier === '') return false;
    if (whole.has(identifier.toLowerCase())) return true;
    for (const word of wordsOf(identifier)) if (parts.has(word)) return true;
    return false;
  };
  return {
    matches(name) {
      const text = name.length > MAX_TEXT ? name.slice(0, MAX_TEXT) : name;
      for (const piece of text.normalize('NFKC').split(BREAK)) if (one(piece)) return true;
      return false;
    },
  };
}

/** Texts of the parameters that name a resource, at any depth. A list that is too long counts as sensitive: `null`. */
export function namedResources(parameters: JsonObject, skipQuery: boolean): string[] | null {
  const found: string[] = [];
  const visit = (value: JsonValue | undefined, depth: number): boolean => {
    if (typeof value !== 'object' || value === null) return true;
    if (depth > 16) return false;
    for (const [key, item] of Object.entries(value as JsonObject)) {
      const last = wordsOf(key).at(-1);
      if (last !== undefined && NAMING.has(last) && !(skipQuery && last === 'query')) {
        const texts = textsOf(item);
        if (!texts.complete) return false;
        for (const text of texts.texts) found.push(text);
        for (const text of texts.keys) found.push(text);
        if (found.length > MAX_NAMES) return false;
      } else if (!visit(item, depth + 1)) return false;
    }
    return true;
  };
  return visit(parameters, 0) ? found : null;
}
