/** JSON text as Go's encoder writes it. Source: Go package encoding/json. */
import { compareText, type Rego, toJson } from '../values.ts';
import { numberText } from './sprintf.ts';

/** What stands before each line and each level; null for one line. */
export interface Layout {
  readonly prefix: string;
  readonly indent: string;
}

/** Keys in order; `<`, `>`, `&` and the line separators escaped; sets as sorted arrays. */
export function goJson(value: Rego, layout: Layout | null = null, depth = 0): string {
  if (typeof value === 'string') return goString(value);
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'number') return numberText(value);
  if (typeof value !== 'object' || value === null) return String(value);
  if (value instanceof Map) {
    const members = [...value].map(([key, item]) => [typeof key === 'string' ? key : goJson(key), item] as const);
    members.sort((a, b) => compareText(a[0], b[0]));
    const colon = layout === null ? ':' : ': ';
    const lines = members.map(([key, item]) => `${goString(key)}${colon}${goJson(item, layout, depth + 1)}`);
    return wrap('{', lines, '}', layout, depth);
  }
  const items = Array.isArray(value) ? (value as readonly Rego[]) : (toJson(value) as readonly Rego[]);
  const lines = items.map((item) => goJson(item, layout, depth + 1));
  return wrap('[', lines, ']', layout, depth);
}

function wrap(open: string, lines: readonly string[], close: string, layout: Layout | null, depth: number): string {
  if (layout === null || lines.length === 0) return `${open}${lines.join(',')}${close}`;
  const start = `\n${layout.prefix}${layout.indent.repeat(depth)}`;
  return `${open}${lines.map((line) => `${start}${layout.indent}${line}`).join(',')}${start}${close}`;
}

function goString(text: string): string {
  return JSON.stringify(text).replace(
    /[<>&\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
