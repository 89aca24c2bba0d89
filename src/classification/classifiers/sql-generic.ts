/**
 * The dialects besides PostgreSQL, read by a generic parser (`@polyglot-sql/sdk`, WASM). The only file that imports it.
 * It is lenient, so its word is taken only for trees made of nothing but kinds and functions known to read.
 */
import type { Finding } from '../classifier.ts';
import type { ReasonId } from '../reasons.ts';
import type { CrossCheck } from './sql-crosscheck.ts';
import { loadCrossCheck } from './sql-crosscheck.ts';
import { AGGREGATES, safeFunctions } from './sql-functions.ts';
import { AGGREGATE_KINDS, QUERY_TOPS, READ_NODES, SKIPPED, WRITE_NODES } from './sql-nodes.ts';
import {
  conclude,
  EMPTY,
  noteCommand,
  Reading,
  STATEMENT_WORDS,
  SYSTEM_SECRETS,
  sqlFinding,
  TOO_LONG,
  UNPARSABLE,
} from './sql-reading.ts';

type Tree = Readonly<Record<string, unknown>>;

const WRITES: Readonly<Record<string, ReasonId>> = {
  insert: 'sql:insert',
  update: 'sql:update',
  delete: 'sql:delete',
  merge: 'sql:merge',
  truncate: 'sql:truncate',
  truncate_table: 'sql:truncate',
};

/** PRAGMAs that only read; others change the database or the connection. */
const READ_PRAGMAS = new Set([
  'table_info',
  'table_xinfo',
  'table_list',
  'index_list',
  'index_info',
  'index_xinfo',
  'foreign_key_list',
  'database_list',
  'collation_list',
  'compile_options',
]);

/** T-SQL table hints that take no lock of their own. */
const READ_HINTS = new Set(
  'nolock readuncommitted readcommitted readpast snapshot noexpand forceseek forcescan nowait'.split(' '),
);

/** Names Oracle itself gives meaning to in `SELECT … FROM dual`. */
const ORACLE_PSEUDO = new Set(
  'dummy level rownum rowid sysdate systimestamp user uid current_date current_timestamp localtimestamp sessiontimezone dbtimezone'.split(
    ' ',
  ),
);

/** A query that is more than a query, by the field or kind that says so. */
const EFFECTS: Readonly<Record<string, readonly [Finding['type'], ReasonId]>> = {
  into: ['mutation', 'sql:select-into'],
  locks: ['mutation', 'sql:locking'],
  property_e_q: ['mutation', 'sql:assignment'],
  next_value_for: ['mutation', 'sql:sequence'],
  stage_reference: ['admin', 'sql:file-access'],
  read_c_s_v: ['admin', 'sql:file-access'],
  read_parquet: ['admin', 'sql:file-access'],
  to_file: ['admin', 'sql:file-access'],
  method_call: ['admin', 'sql:function'],
  hint: ['admin', 'sql:unknown-construct'],
};

const SHAPES: Readonly<Record<string, ReasonId>> = {
  group_by: 'sql:group-by',
  having: 'sql:having',
  over: 'sql:window',
  windows: 'sql:window',
  window_function: 'sql:window',
  qualify: 'sql:window',
};

function isEmpty(value: unknown): boolean {
  return value === null || value === undefined || value === false || (Array.isArray(value) && value.length === 0);
}

/** A name that is a file or an address rather than a table. */
function looksLikeFile(name: string): boolean {
  return /[/\\:*?]|\.(?:csv|tsv|json|jsonl|ndjson|parquet|arrow|feather|xlsx?|db|duckdb|sqlite3?|gz|zst|txt)$/i.test(
    name,
  );
}

/** The text of an identifier node, or of a plain string. */
function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  if (typeof value !== 'object' || value === null) return '';
  const { name } = value as Tree;
  return typeof name === 'string' ? name : '';
}

class Walk {
  readonly reading = new Reading();
  readonly #safe: ReadonlySet<string>;
  readonly #dialect: string;
  readonly #tables = new Set<string>();
  readonly #qualifiers = new Set<string>();
  readonly #columns = new Set<string>();
  #writes = false;

  constructor(safe: ReadonlySet<string>, dialect: string) {
    this.#safe = safe;
    this.#dialect = dialect;
  }

  visit(value: unknown): void {
    if (typeof value !== 'object' || value === null) return;
    if (Array.isArray(value)) {
      for (const item of value) this.visit(item);
      return;
    }
    const node = value as Tree;
    if (typeof node.name === 'string') this.#name(node.name.toLowerCase());
    // Only a common table expression says whether its alias came first.
    if ('alias_first' in node) this.#named(node);
    for (const key in node) {
      const child = node[key];
      if (isEmpty(child) || SKIPPED.has(key)) continue;
      this.#member(key, child);
      this.visit(child);
    }
  }

  /** Names every object below a statement that is `admin` whatever it holds. */
  touchNames(value: unknown): void {
    if (typeof value !== 'object' || value === null) return;
    if (Array.isArray(value)) for (const item of value) this.touchNames(item);
    else {
      const node = value as Tree;
      if ('schema' in node) this.#table(node);
      for (const key in node) this.touchNames(node[key]);
    }
  }

  /** `s.nextval` reads like a column and advances a sequence. */
  #name(name: string): void {
    if (name === 'nextval' && this.#dialect !== 'sqlite') this.reading.note('mutation', 'sql:sequence');
  }

  #member(key: string, child: unknown): void {
    if (typeof child === 'object') this.#kind(key, child as Tree);
    const effect = Object.hasOwn(EFFECTS, key) ? EFFECTS[key] : undefined;
    if (effect !== undefined) {
      this.reading.note(effect[0], effect[1]);
      return;
    }
    const write = Object.hasOwn(WRITES, key) ? WRITES[key] : undefined;
    if (write !== undefined && typeof child === 'object') {
      this.#writes = true;
      this.reading.note('mutation', (child as Tree).is_replace === true ? 'sql:replace' : write);
      return;
    }
    const shape = Object.hasOwn(SHAPES, key) ? SHAPES[key] : undefined;
    if (shape !== undefined) this.reading.note('analytics', shape);
    // Plain values (flags, numbers, texts) are not constructs; objects and lists are, and must be known.
    else if (READ_NODES.has(key) || (this.#writes && WRITE_NODES.has(key))) return;
    else if (typeof child === 'object') this.reading.note('admin', 'sql:unknown-construct');
    else if (typeof child === 'boolean') this.#flag(key);
  }

  #flag(key: string): void {
    if (key.startsWith('is_') || key.startsWith('use_') || key.startsWith('has_') || key.endsWith('_syntax')) return;
    this.reading.note('admin', 'sql:unknown-construct');
  }

  #kind(kind: string, node: Tree): void {
    if (kind === 'table' || kind === 'subquery') this.#named(node);
    if (kind === 'function' || kind === 'aggregate_function') this.#call(textOf(node.name));
    else if (kind === 'table') this.#table(node);
    else if (kind === 'column') this.#column(node);
    else if (kind === 'alias') this.#alias(node);
    else if (kind === 'eq') this.#equation(node);
    else if (kind === 'with_table_hint') this.#tableHint(node);
    if (AGGREGATE_KINDS.has(kind) && !Array.isArray(node)) this.reading.note('analytics', 'sql:aggregate');
  }

  #named(node: Tree): void {
    const alias = textOf(node.alias).toLowerCase();
    if (alias !== '') this.#tables.add(alias);
  }

  #call(name: string): void {
    const lower = name.toLowerCase();
    if (!this.#safe.has(lower)) this.reading.note('admin', 'sql:function');
    if (AGGREGATES.has(lower)) this.reading.note('analytics', 'sql:aggregate');
  }

  #table(node: Tree): void {
    // `table` is also the field of a column that names its table: there the name is a plain text.
    if (typeof node.name !== 'object' || node.name === null) return;
    const name = textOf(node.name);
    if (name === '') return;
    this.#tables.add(name.toLowerCase());
    const path = [textOf(node.catalog), textOf(node.schema), name].filter((part) => part !== '').join('.');
    this.reading.touch(path);
    const last = name.toLowerCase().split('.').at(-1) ?? '';
    if (SYSTEM_SECRETS.has(last)) this.reading.note('query', 'sql:system-secrets', 'high');
    // DuckDB puts a qualified name together again before it looks for a file: `"/data/x".csv`.
    if (this.#dialect === 'duckdb' && looksLikeFile(path)) this.reading.note('admin', 'sql:file-access');
    const pragma = this.#dialect === 'sqlite' && last.startsWith('pragma_');
    if (pragma && !READ_PRAGMAS.has(last.slice(7))) this.reading.note('admin', 'sql:session');
    if (name.startsWith('@') && this.#dialect === 'snowflake') this.reading.note('admin', 'sql:file-access');
  }

  /** Oracle calls a function without parentheses: a qualifier that is no table of the query, or a lone name from `dual`. */
  finish(): void {
    if (this.#dialect !== 'oracle') return;
    for (const name of this.#qualifiers) if (!this.#tables.has(name)) this.reading.note('admin', 'sql:function');
    const tables = [...this.#tables].filter((name) => name !== 'dual');
    if (tables.length > 0) return;
    for (const name of this.#columns) if (!ORACLE_PSEUDO.has(name)) this.reading.note('admin', 'sql:function');
  }

  #column(node: Tree): void {
    if (this.#dialect !== 'oracle') return;
    const qualifier = textOf(node.table).toLowerCase();
    if (qualifier !== '') this.#qualifiers.add(qualifier);
    else this.#columns.add(textOf(node.name).toLowerCase());
  }

  /** In T-SQL `SELECT @x = …` assigns. */
  #equation(node: Tree): void {
    const column = (node.left as Tree | null)?.column as Tree | undefined;
    const assigns = this.#dialect === 'tsql' && column !== undefined && textOf(column.name).startsWith('@');
    if (assigns) this.reading.note('mutation', 'sql:assignment');
  }

  #tableHint(node: Tree): void {
    for (const item of Array.isArray(node.expressions) ? (node.expressions as readonly Tree[]) : []) {
      const name = (item.var as Tree | undefined)?.this;
      if (typeof name !== 'string' || !READ_HINTS.has(name.toLowerCase())) this.reading.note('mutation', 'sql:locking');
    }
  }

  /** T-SQL needs no `;` between statements: what looks like an alias may be the next one. */
  #alias(node: Tree): void {
    if (this.#dialect !== 'tsql') return;
    const id = ('alias' in node ? node.alias : node) as Tree | null;
    if (id === null || typeof id !== 'object' || id.quoted === true) return;
    if (STATEMENT_WORDS.has(textOf(id).toLowerCase())) this.reading.note('admin', 'sql:ambiguous');
  }
}

function firstWord(text: string): string {
  return (/^[\s(]*([a-z_]+)/i.exec(text)?.[1] ?? '').toLowerCase();
}

/** A statement that is no query: its class by kind. */
function noteStatement(walk: Walk, kind: string, node: Tree, sql: string): void {
  const { reading } = walk;
  if (Object.hasOwn(WRITES, kind)) walk.visit({ [kind]: node });
  else if (kind === 'show') {
    reading.note('query', 'sql:show');
    // The filter of SHOW is kept as text: with a call in it, it is no plain look.
    if (sql.includes('(')) reading.note('admin', 'sql:unknown-construct');
  } else if (kind === 'describe') {
    reading.note('query', 'sql:explain');
    walk.visit(node);
  } else if (kind === 'pragma') {
    const read = READ_PRAGMAS.has(textOf(node.name).toLowerCase()) && isEmpty(node.value);
    if (read) reading.note('query', 'sql:show');
    else reading.note('admin', 'sql:session');
  } else if (kind === 'command' || kind === 'raw') noteCommand(reading, firstWord(String(node.this ?? node.sql ?? '')));
  else if (kind === 'transaction') reading.note('admin', 'sql:session');
  else {
    noteCommand(reading, kind.split('_')[0] ?? '');
    walk.touchNames(node);
  }
}

/** Expressions standing where a statement should: the parser took free text for a column or an alias. */
const NOT_STATEMENTS = new Set([
  'column',
  'alias',
  'literal',
  'identifier',
  'function',
  'eq',
  'and',
  'or',
  'var',
  'dot',
]);

function examineTree(statement: unknown, walk: Walk, sql: string): boolean {
  if (typeof statement !== 'object' || statement === null) return false;
  const kind = Object.keys(statement)[0];
  if (kind === undefined || NOT_STATEMENTS.has(kind)) return false;
  const node = (statement as Tree)[kind] as Tree;
  if (kind === 'summarize' && typeof (node.this as Tree | null)?.literal === 'object')
    walk.reading.note('admin', 'sql:file-access');
  if (QUERY_TOPS.has(kind)) {
    walk.reading.note('query', 'sql:select');
    walk.visit(statement);
  } else noteStatement(walk, kind, node, sql);
  return true;
}

type Parse = (
  sql: string,
  dialect: string,
) => {
  readonly success: boolean;
  readonly ast?: unknown;
  readonly error?: unknown;
};

/** What was found, and whether the parser's WASM trapped: each trap leaks some of its stack, so it has to be replaced. */
export interface GenericReading {
  readonly findings: readonly Finding[];
  readonly trapped: boolean;
}

/** Reads one statement with the generic parser. Never throws. */
export type GenericExaminer = (sql: string) => GenericReading;

/** Names of the dialects in this parser. */
const NAMES: Readonly<Record<string, string>> = { mariadb: 'mysql' };

function examine(
  sql: string,
  dialect: string,
  parse: Parse,
  safe: ReadonlySet<string>,
  check: CrossCheck,
): readonly Finding[] {
  const plan = dialect === 'sqlite' ? /^\s*EXPLAIN\s+QUERY\s+PLAN\s/i.exec(sql) : null;
  if (plan !== null)
    return [sqlFinding('query', 'sql:explain'), ...examine(sql.slice(plan[0].length), dialect, parse, safe, check)];
  const result = parse(sql, NAMES[dialect] ?? dialect);
  if (!result.success || !Array.isArray(result.ast)) return UNPARSABLE;
  if (result.ast.length === 0) return EMPTY;
  const walk = new Walk(safe, dialect);
  for (const statement of result.ast) if (!examineTree(statement, walk, sql)) return UNPARSABLE;
  walk.finish();
  const found = conclude(walk.reading, result.ast.length);
  // Only a reading needs a second opinion: anything else is already above it.
  const reads = found.every((finding) => finding.type === 'query' || finding.type === 'analytics');
  const second = reads ? check(sql) : 'none';
  if (second === 'slow') return TOO_LONG;
  return second === 'writes' ? [...found, sqlFinding('admin', 'sql:parsers-disagree')] : found;
}

/** Loads the parser (about 150 ms and 100 MB, once for all dialects) and the dialect's second opinion. */
export async function loadGeneric(dialect: string): Promise<GenericExaminer> {
  const { parse } = (await import('@polyglot-sql/sdk')) as { readonly parse: Parse };
  const check = await loadCrossCheck(dialect);
  const safe = safeFunctions(dialect);
  return (sql) => {
    let trapped = false;
    const noting: Parse = (text, name) => {
      const result = parse(text, name);
      trapped ||= !result.success && typeof result.error === 'string' && result.error.startsWith('WASM');
      return result;
    };
    try {
      return { findings: examine(sql, dialect, noting, safe, check), trapped };
    } catch {
      return { findings: UNPARSABLE, trapped: true };
    }
  };
}
