/** The roles that the policy's data speaks of, to tell a typing mistake from a role that means something. */
import { readFileSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { JsonValue } from '../core/json.ts';
import { isJsonObject } from '../core/json.ts';

/** Members of `config` in the data whose keys are roles. */
const BY_ROLE: readonly (readonly string[])[] = [
  ['tool_access'],
  ['role_permissions'],
  ['object_roles'],
  ['llm', 'roles'],
  ['rate_limits', 'roles'],
  ['trust', 'roles'],
];

/** Sorted; null when there is no data of the shipped policies' form to read. */
export function rolesOfPolicy(
  policy: { readonly bundle: unknown; readonly data?: unknown },
  baseDir: string,
): readonly string[] | null {
  const given = policy.data ?? policy.bundle;
  // A bundle that is fetched or signed is not opened for the sake of a warning.
  const document = typeof given === 'string' ? readData(resolve(baseDir, given)) : undefined;
  const config = isJsonObject(document) ? document.config : undefined;
  if (config === undefined) return null;
  const roles = new Set<string>();
  for (const path of BY_ROLE) for (const role of keysOf(config, path)) if (role !== '*') roles.add(role);
  return roles.size === 0 ? null : [...roles].sort();
}

function readData(path: string): JsonValue | undefined {
  try {
    const file = statSync(path).isDirectory() ? join(path, 'data.json') : path;
    return JSON.parse(readFileSync(file, 'utf8')) as JsonValue;
  } catch {
    // No data, or an archive: then there is nothing to compare with.
    return undefined;
  }
}

function keysOf(value: JsonValue, path: readonly string[]): readonly string[] {
  let at: JsonValue | undefined = value;
  for (const name of path) at = isJsonObject(at) && Object.hasOwn(at, name) ? at[name] : undefined;
  return isJsonObject(at) ? Object.keys(at) : [];
}

/** A sentence for each role that the data does not know. */
export function unknownRoles(roles: readonly string[], known: readonly string[] | null): readonly string[] {
  if (known === null) return [];
  return roles
    .filter((role) => !known.includes(role))
    .map((role) => `the policy's data does not know the role "${role}"; it knows ${known.join(', ')}`);
}
