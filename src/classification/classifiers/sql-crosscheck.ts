/**
 * A second opinion on what the generic parser calls a query (`node-sql-parser`, one grammar file per dialect). The only
 * file that imports it. It knows less SQL, so its silence means nothing; only its contradiction counts. Its grammars take
 * exponential time on nested brackets and casts, so each look has a time limit.
 */
import { createContext, Script } from 'node:vm';

/**
 * `reads` and `writes` are opinions; `none`: this parser cannot read the text, or has no such dialect; `slow`: it took
 * longer than a statement may take.
 */
export type CrossCheck = (sql: string) => 'reads' | 'writes' | 'none' | 'slow';

/** Milliseconds one look may take: with the first parser's part, a statement stays below 200. Source: security 4.3. */
const BUDGET_MS = 150;

interface AstParser {
  astify(sql: string, options: { readonly database: string }): unknown;
}

interface Grammar {
  readonly database: string;
  load(): Promise<unknown>;
}

const GRAMMARS: Readonly<Record<string, Grammar>> = {
  mysql: { database: 'MySQL', load: () => import('node-sql-parser/build/mysql.js') },
  mariadb: { database: 'MariaDB', load: () => import('node-sql-parser/build/mariadb.js') },
  sqlite: { database: 'Sqlite', load: () => import('node-sql-parser/build/sqlite.js') },
  tsql: { database: 'TransactSQL', load: () => import('node-sql-parser/build/transactsql.js') },
  snowflake: { database: 'Snowflake', load: () => import('node-sql-parser/build/snowflake.js') },
  bigquery: { database: 'BigQuery', load: () => import('node-sql-parser/build/bigquery.js') },
};

/** Kinds of statement this parser gives to what only reads. */
const READS = new Set(['select', 'show', 'explain', 'desc', 'describe', 'values', 'union', 'with']);
const WRITES = new Set(
  'insert replace update delete merge truncate drop create alter grant revoke call exec execute set use lock unlock load'.split(
    ' ',
  ),
);

function containsWrite(value: unknown, depth: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (depth > 400) return true;
  if (Array.isArray(value)) return value.some((item) => containsWrite(item, depth + 1));
  const node = value as Readonly<Record<string, unknown>>;
  const { type } = node;
  // Functions such as replace() carry their name elsewhere; a statement's node has a table beside its type.
  if (typeof type === 'string' && WRITES.has(type) && ('table' in node || 'from' in node || 'keyword' in node))
    return true;
  for (const key in node) if (containsWrite(node[key], depth + 1)) return true;
  return false;
}

function opinion(ast: unknown): 'reads' | 'writes' {
  const list = (Array.isArray(ast) ? ast : [ast]) as readonly { readonly type?: unknown }[];
  if (list.length !== 1) return 'writes';
  const type = list[0]?.type;
  if (typeof type !== 'string' || !READS.has(type)) return 'writes';
  return containsWrite(list[0], 0) ? 'writes' : 'reads';
}

/** Short and shallow: a look takes a millisecond then, and the time limit itself (0.4 ms) can be saved. */
function isPlain(text: string): boolean {
  if (text.length > 2000) return false;
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 40 || code === 91 || code === 123) {
      if (++depth > 4) return false;
    } else if (code === 41 || code === 93 || code === 125) depth--;
  }
  return true;
}

/** Loads the grammar of one dialect (5 to 10 ms). */
export async function loadCrossCheck(dialect: string): Promise<CrossCheck> {
  const grammar = Object.hasOwn(GRAMMARS, dialect) ? GRAMMARS[dialect] : undefined;
  if (grammar === undefined) return () => 'none';
  const { database } = grammar;
  // CommonJS: what it exports stands under `default`.
  const loaded = (await grammar.load()) as {
    readonly default: { readonly Parser: new () => AstParser };
  };
  const parser = new loaded.default.Parser();
  let sql = '';
  // The limit of a script in another context holds for everything it calls, this function included.
  const look = (): unknown => parser.astify(sql, { database });
  const context = createContext({ look });
  const script = new Script('look()');
  return (text) => {
    sql = text;
    try {
      return opinion(isPlain(text) ? look() : script.runInContext(context, { timeout: BUDGET_MS }));
    } catch (thrown) {
      return (thrown as { readonly code?: unknown }).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT' ? 'slow' : 'none';
    }
  };
}
