/** Data files in YAML, as OPA's bundles may have them. */
import { parse } from 'yaml';

/** The same value as JSON text; whole numbers of any size keep their digits. Throws Error. */
export function yamlToJson(text: string): string {
  const value: unknown = parse(text, { intAsBigInt: true, maxAliasCount: 100, uniqueKeys: true });
  return JSON.stringify(value, (_, item: unknown) => (typeof item === 'bigint' ? JSON.rawJSON(item.toString()) : item));
}
