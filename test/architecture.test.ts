/**
 * The hard house rules, read from the code itself: which folder may import which, who owns which package, how long files
 * and functions may get, and that nothing imports in a circle. The tables are the ones of docs/architecture.md.
 */
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { parseAst } from 'rolldown/parseAst';
import { describe, expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '..');
const SRC = join(ROOT, 'src');

/** Folder -> folders whose values it may import. Types may come from any capability folder and from config. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  core: [],
  config: ['core'],
  observability: ['core'],
  identity: ['core', 'config', 'observability'],
  classification: ['core', 'config', 'observability'],
  policy: ['core', 'config', 'observability'],
  protocols: ['core', 'config', 'observability'],
  upstreams: ['core', 'config', 'observability'],
  stores: ['core', 'config', 'observability'],
  audit: ['core', 'config', 'observability'],
  pipeline: ['core', 'protocols'],
  http: ['core', 'config', 'observability'],
  admin: ['core', 'config', 'observability'],
  approvals: ['core', 'config', 'observability'],
  accounts: ['core', 'config', 'observability'],
  // The composition roots know everyone.
  composition: ['*'],
  cli: ['*'],
  '.': ['*'],
};
const CAPABILITIES = [
  'identity',
  'classification',
  'policy',
  'protocols',
  'upstreams',
  'stores',
  'audit',
  'approvals',
  'accounts',
];

/** Package -> the files (or folders) that may import it. A package not listed may not be imported at all. */
const OWNERS: Record<string, readonly string[]> = {
  '@hono/node-server': ['http/', 'admin/'],
  '@polyglot-sql/sdk': ['classification/'],
  'libpg-query': ['classification/'],
  'node-sql-parser': ['classification/'],
  hono: ['http/', 'admin/'],
  'ipaddr.js': ['http/addresses.ts'],
  ioredis: ['stores/redis-shared.ts'],
  jose: ['identity/'],
  kysely: ['stores/'],
  ldapts: ['identity/ldap-connection.ts'],
  'lru-cache': ['*'],
  pg: ['stores/postgres.ts'],
  'oidc-provider': ['accounts/authorization-server/engine.ts'],
  'openid-client': ['identity/oauth/'],
  opossum: ['upstreams/breaker.ts'],
  pino: ['observability/logger.ts'],
  'prom-client': ['observability/metrics.ts'],
  undici: ['upstreams/', 'identity/'],
  // Policies may read YAML too: `yaml.*` are builtins of Rego, and bundles may hold data in it.
  yaml: ['config/', 'cli/', 'policy/wasm/builtins/document-texts.ts', 'policy/bundle-yaml.ts'],
  zod: ['*'],
};

interface Import {
  readonly from: string;
  readonly to: string;
  readonly typeOnly: boolean;
}

interface Source {
  /** Path below src, with `/`. */
  readonly path: string;
  readonly text: string;
  readonly ast: unknown;
}

const sources: Source[] = globSync('**/*.ts', { cwd: SRC })
  .map((path) => ({ path, text: readFileSync(join(SRC, path), 'utf8') }))
  .map(({ path, text }) => ({ path, text, ast: parseAst(text, { lang: 'ts' }) }))
  .sort((a, b) => a.path.localeCompare(b.path));

function* nodesOf(node: unknown): Generator<Record<string, unknown>> {
  if (Array.isArray(node)) for (const child of node) yield* nodesOf(child);
  else if (typeof node === 'object' && node !== null) {
    const record = node as Record<string, unknown>;
    if (typeof record.type === 'string') yield record;
    for (const key in record) yield* nodesOf(record[key]);
  }
}

function importsOf(source: Source): Import[] {
  const found: Import[] = [];
  for (const node of nodesOf(source.ast)) {
    const kinds = ['ImportDeclaration', 'ExportNamedDeclaration', 'ExportAllDeclaration', 'ImportExpression'];
    if (!kinds.includes(node.type as string)) continue;
    const target = (node.source as { value?: unknown } | null)?.value;
    if (typeof target !== 'string') continue;
    const typeOnly = node.importKind === 'type' || node.exportKind === 'type';
    found.push({ from: source.path, to: target, typeOnly });
  }
  return found;
}

const imports = sources.flatMap(importsOf);
const folderOf = (path: string) => (path.includes('/') ? (path.split('/')[0] ?? '.') : '.');
const resolveOwn = (edge: Import) => relative(SRC, join(SRC, dirname(edge.from), edge.to));
const isOwn = (edge: Import) => edge.to.startsWith('.');

function forbiddenEdge(edge: Import): boolean {
  const from = folderOf(edge.from);
  const to = folderOf(resolveOwn(edge));
  const allowed = MAY_IMPORT[from];
  if (allowed === undefined) return true;
  if (from === to || allowed.includes('*') || allowed.includes(to)) return false;
  return !(edge.typeOnly && from !== 'core' && from !== 'config' && (CAPABILITIES.includes(to) || to === 'pipeline'));
}

describe('the house', () => {
  test('imports point inward, as the table says', () => {
    const wrong = imports.filter((edge) => isOwn(edge) && forbiddenEdge(edge));
    expect(wrong.map((edge) => `${edge.from} -> ${resolveOwn(edge)}`)).toEqual([]);
  });

  test('each third-party package is imported only by its owners', () => {
    const wrong = imports
      .filter((edge) => !isOwn(edge) && !edge.to.startsWith('node:') && !edge.typeOnly)
      .filter((edge) => {
        const name = edge.to.startsWith('@') ? edge.to.split('/').slice(0, 2).join('/') : (edge.to.split('/')[0] ?? '');
        const owners = OWNERS[name] ?? [];
        return !owners.some(
          (owner) => owner === '*' || edge.from === owner || (owner.endsWith('/') && edge.from.startsWith(owner)),
        );
      });
    expect(wrong.map((edge) => `${edge.from} -> ${edge.to}`)).toEqual([]);
  });

  test('every runtime dependency is used, and every used package is a runtime dependency', () => {
    const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
      dependencies: Record<string, string>;
    };
    expect(Object.keys(OWNERS).sort()).toEqual(Object.keys(manifest.dependencies).sort());
    const used = new Set(imports.filter((edge) => !isOwn(edge)).map((edge) => edge.to));
    const unused = Object.keys(OWNERS).filter(
      (name) => ![...used].some((to) => to === name || to.startsWith(`${name}/`)),
    );
    expect(unused).toEqual([]);
  });

  test('no file is longer than 400 lines', () => {
    const long = sources
      .map(({ path, text }) => ({ path, lines: text.split('\n').length - 1 }))
      .filter(({ lines }) => lines > 400);
    expect(long).toEqual([]);
  });

  test('no function is longer than 60 lines', () => {
    const long: string[] = [];
    for (const { path, text, ast } of sources) {
      for (const node of nodesOf(ast)) {
        if (!/^(FunctionDeclaration|FunctionExpression|ArrowFunctionExpression)$/.test(node.type as string)) continue;
        const start = node.start as number;
        const lines = text.slice(start, node.end as number).split('\n').length;
        if (lines > 60) long.push(`${path}:${text.slice(0, start).split('\n').length} has ${lines}`);
      }
    }
    expect(long).toEqual([]);
  });

  test('no circle of value imports', () => {
    const next = new Map<string, string[]>();
    for (const edge of imports) {
      if (isOwn(edge) && !edge.typeOnly) next.set(edge.from, [...(next.get(edge.from) ?? []), resolveOwn(edge)]);
    }
    expect(findCircle(next)).toBeNull();
  });

  test('no file is a barrel or a drawer', () => {
    const drawers = sources.filter(({ path }) => /(^|\/)(index|utils?|helpers?|manager|common|misc)\.ts$/.test(path));
    expect(drawers.map(({ path }) => path)).toEqual([]);
  });
});

function findCircle(next: ReadonlyMap<string, readonly string[]>): string | null {
  const done = new Set<string>();
  const visit = (file: string, trail: readonly string[]): string | null => {
    if (trail.includes(file)) return [...trail.slice(trail.indexOf(file)), file].join(' -> ');
    if (done.has(file)) return null;
    for (const target of next.get(file) ?? []) {
      const circle = visit(target, [...trail, file]);
      if (circle !== null) return circle;
    }
    done.add(file);
    return null;
  };
  for (const file of next.keys()) {
    const circle = visit(file, []);
    if (circle !== null) return circle;
  }
  return null;
}
