/** The version of this installation, from its package.json (two folders up in `src/` and in `dist/` alike). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isJsonObject } from '../core/json.ts';

/** Semantic version, e.g. `0.1.0`. */
export function packageVersion(): string {
  const parsed: unknown = JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8'));
  return isJsonObject(parsed) && typeof parsed.version === 'string' ? parsed.version : '0.0.0';
}
