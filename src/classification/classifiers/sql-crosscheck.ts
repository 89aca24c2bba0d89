/**
 * A second opinion on what the generic parser calls a query (`node-sql-parser`, one grammar file per dialect). The only
 * file that imports it. It knows less SQL, so its silence means nothing; only its contradiction counts.
 */

/** `reads` and `writes` are opinions; `none`: this parser cannot read the text, or has no such dialect. */
export type CrossCheck = (sql: string) => 'reads' | 'writes' | 'none';

interface AstParser {
  astify(sql: string, options: { readonly database: string }): unknown;
}

const GRAMMARS: Readonly<Record<string, readonly [file: string, database: string]>> = {
  mysql: ['mysql', 'MySQL'],
  mariadb: ['mariadb', 'MariaDB'],
  sqlite: ['sqlite', 'Sqlite'],
  tsql: ['transactsql', 'TransactSQL'],
  snowflake: ['snowflake', 'Snowflake'],
  bigquery: ['bigquery', 'BigQuery'],
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

/** Loads the grammar of one dialect (5 to 10 ms). */
export async function loadCrossCheck(dialect: string): Promise<CrossCheck> {
  const grammar = Object.hasOwn(GRAMMARS, dialect) ? GRAMMARS[dialect] : undefined;
  if (grammar === undefined) return () => 'none';
  const [file, database] = grammar;
  const loaded = (await import(`node-sql-parser/build/${file}.js`)) as {
    readonly default: { readonly Parser: new () => AstParser };
  };
  const parser = new loaded.default.Parser();
  return (sql) => {
    let ast: unknown;
    try {
      ast = parser.astify(sql, { database });
    } catch {
      return 'none';
    }
    return opinion(ast);
  };
}
