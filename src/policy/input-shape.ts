/** Which parts of the input a policy reads, as the compiler found out, and how the document is laid out for it. */
import type { ShapeSpec } from './wasm/input-writer.ts';

/** Paths below `input`, as segments; a path covers everything below it. `null`: all may be read. */
export type ReadSet = readonly (readonly string[])[] | null;

/** Stands in a read set for `rate_limit.count` where the figure itself matters, not its place among the data's limits. */
export const EXACT_COUNT: readonly string[] = ['rate_limit', 'exact_count'];

/** The read set of a manifest; anything that is no list of paths means that all may be read. */
export function parseReadSet(value: unknown): ReadSet {
  if (!Array.isArray(value)) return null;
  const paths: string[][] = [];
  for (const path of value as readonly unknown[]) {
    if (!Array.isArray(path) || path.length === 0 || !path.every((segment) => typeof segment === 'string')) return null;
    paths.push(path as string[]);
  }
  return paths;
}

/** Whether anything at, above or below `path` is read. */
export function reads(set: ReadSet, ...path: readonly string[]): boolean {
  if (set === null) return true;
  return set.some((read) => {
    const shared = Math.min(read.length, path.length);
    for (let i = 0; i < shared; i++) if (read[i] !== path[i]) return false;
    return true;
  });
}

/** The members of `parameters` that are read, or null when all of it is. */
export function parametersRead(set: ReadSet): readonly string[] | null {
  if (set === null) return null;
  const names = new Set<string>();
  for (const [head, name] of set) {
    if (head !== 'parameters') continue;
    if (name === undefined) return null;
    names.add(name);
  }
  return [...names];
}

const ROOT = [
  'version',
  'request_id',
  'timestamp',
  'action',
  'server_name',
  'tool_name',
  'parameters',
  'user',
  'gateway_metadata',
  'server',
  'tool',
  'resource',
  'rate_limit',
  'source_user',
  'target_user',
  'delegation_depth',
  'delegation_chain',
  'source_agent',
  'target_agent',
  'capability',
  'context',
  'llm',
  'data_region',
] as const;

const METADATA = [
  'tool_type',
  'sensitivity_level',
  'classification_reasons',
  'classification_resources',
  'possible_classes',
  'server_type',
  'environment',
  'gateway_version',
  'endpoint',
  'request_id',
  'timestamp',
  'source_ip',
  'source_region',
  'user_agent',
  'encryption_enabled',
  'device_compliant',
  'approval_token',
  'approval',
] as const;

const RESOURCE = ['type', 'id', 'tenant_id', 'owner_id', 'permissions'] as const;
const RATE_LIMIT = ['window_seconds', 'count'] as const;

/** The layout of the document for a policy: what it does not read stays null. `list`: with `calls`. */
export function shapeFor(set: ReadSet, list: boolean): ShapeSpec {
  const unread = (keys: readonly string[], ...above: readonly string[]): readonly string[] =>
    keys.filter((key) => !reads(set, ...above, key));
  const picked = parametersRead(set);
  return {
    keys: list ? [...ROOT, 'calls'] : ROOT,
    unread: unread(ROOT),
    volatile: ['request_id', 'timestamp'],
    ...(picked === null ? {} : { picks: { parameters: picked } }),
    children: {
      gateway_metadata: {
        keys: METADATA,
        unread: unread(METADATA, 'gateway_metadata'),
        volatile: ['request_id', 'timestamp', 'source_ip', 'user_agent'],
      },
      resource: { keys: RESOURCE, unread: unread(RESOURCE, 'resource'), volatile: ['id', 'owner_id'] },
      rate_limit: { keys: RATE_LIMIT, unread: unread(RATE_LIMIT, 'rate_limit') },
    },
  };
}
