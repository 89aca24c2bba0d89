/** Documents as text: `json.marshal_with_options` and `yaml.*`. Source: OPA policy reference. */
import { parseAllDocuments, stringify } from 'yaml';
import type { JsonValue } from '../../../core/json.ts';
import { fromJson, type Rego, type RegoObject, toJson } from '../values.ts';
import { goJson } from './go-json.ts';
import { asObject, asText, Mismatch, pure } from './support.ts';

function marshalWithOptions(value: Rego, options: RegoObject): string {
  let prefix = '';
  let indent = '\t';
  let pretty: boolean | null = null;
  for (const [key, item] of options) {
    if (key === 'prefix') prefix = asText(item);
    else if (key === 'indent') indent = asText(item);
    else if (key === 'pretty' && typeof item === 'boolean') pretty = item;
    else throw new Mismatch('no such option');
  }
  // Asking for a prefix or an indent asks for lines.
  if (!(pretty ?? (options.has('prefix') || options.has('indent')))) return goJson(value);
  return prefix + goJson(value, { prefix, indent });
}

/** Aliases are followed this often: a text of a few lines must not grow into a document of gigabytes. */
const MAX_ALIASES = 100;

/** The first document of the text; all of them have to be sound. */
function parseYaml(text: string): JsonValue {
  const documents = parseAllDocuments(text, { uniqueKeys: true });
  if (!Array.isArray(documents)) return null;
  if (documents.some((one) => one.errors.length > 0)) throw new Mismatch('not YAML');
  const value: unknown = documents[0]?.toJS({ maxAliasCount: MAX_ALIASES });
  return JSON.parse(JSON.stringify(value ?? null)) as JsonValue;
}

export const DOCUMENT_TEXTS = pure({
  'json.marshal_with_options': ([value, options]) => marshalWithOptions(value ?? null, asObject(options)),
  'yaml.marshal': ([value]) => stringify(toJson(value ?? null), { sortMapEntries: true, lineWidth: 0 }),
  'yaml.unmarshal': ([text]) => fromJson(parseYaml(asText(text))),
  'yaml.is_valid': ([text]) => {
    try {
      parseYaml(asText(text));
      return true;
    } catch {
      return false;
    }
  },
});
