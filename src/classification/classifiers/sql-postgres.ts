/** PostgreSQL and Redshift, read by PostgreSQL's own grammar (libpg-query, WASM). The only file that imports it. */
import { loadModule, parseSync } from 'libpg-query';
import type { Finding } from '../classifier.ts';
import type { ReasonId } from '../reasons.ts';
import { AGGREGATES, safeFunctions } from './sql-functions.ts';
import type { SqlExaminer } from './sql-reading.ts';
import { conclude, EMPTY, Reading, SYSTEM_SECRETS, UNPARSABLE } from './sql-reading.ts';

type Tree = Readonly<Record<string, unknown>>;

/** Node kinds of the parse tree that only read. Every other kind is a statement below, or unknown. */
const READ_KINDS: ReadonlySet<string> = new Set(
  (
    'SelectStmt ResTarget ColumnRef A_Const A_Star A_Expr A_Indices A_Indirection A_ArrayExpr String Integer Float Boolean ' +
    'BitString List FuncCall RangeVar RangeSubselect RangeFunction RangeTableSample RangeTableFunc RangeTableFuncCol ' +
    'JoinExpr BoolExpr NullTest BooleanTest SubLink CaseExpr CaseWhen CoalesceExpr MinMaxExpr TypeCast TypeName SortBy ' +
    'WindowDef CommonTableExpr WithClause RowExpr GroupingSet GroupingFunc SQLValueFunction CollateClause NamedArgExpr ' +
    'ParamRef Alias SetToDefault XmlExpr XmlSerialize JsonObjectConstructor JsonArrayConstructor JsonArrayQueryConstructor ' +
    'JsonObjectAgg JsonArrayAgg JsonAggConstructor JsonKeyValue JsonValueExpr JsonFuncExpr JsonArgument JsonOutput JsonFormat ' +
    'JsonReturning JsonIsPredicate JsonParseExpr JsonScalarExpr JsonSerializeExpr JsonTable JsonTableColumn ' +
    'JsonTablePathSpec JsonBehavior CTESearchClause CTECycleClause ColumnDef DefElem ' +
    // Only in statements that are noted as writing or locking by themselves.
    'LockingClause OnConflictClause InferClause IndexElem MergeWhenClause MultiAssignRef ReturningClause ReturningOption'
  ).split(' '),
);

const STATEMENTS: Readonly<Record<string, readonly [Finding['type'], ReasonId]>> = {
  InsertStmt: ['mutation', 'sql:insert'],
  UpdateStmt: ['mutation', 'sql:update'],
  DeleteStmt: ['mutation', 'sql:delete'],
  MergeStmt: ['mutation', 'sql:merge'],
  TruncateStmt: ['mutation', 'sql:truncate'],
  VariableShowStmt: ['query', 'sql:show'],
  ExplainStmt: ['query', 'sql:explain'],
  DropStmt: ['admin', 'sql:drop'],
  DropdbStmt: ['admin', 'sql:drop'],
  DropRoleStmt: ['admin', 'sql:drop'],
  DropTableSpaceStmt: ['admin', 'sql:drop'],
  DropSubscriptionStmt: ['admin', 'sql:drop'],
  DropUserMappingStmt: ['admin', 'sql:drop'],
  DropOwnedStmt: ['admin', 'sql:drop'],
  CopyStmt: ['admin', 'sql:copy'],
  CallStmt: ['admin', 'sql:execute'],
  DoStmt: ['admin', 'sql:execute'],
  PrepareStmt: ['admin', 'sql:execute'],
  ExecuteStmt: ['admin', 'sql:execute'],
  DeallocateStmt: ['admin', 'sql:execute'],
  DeclareCursorStmt: ['admin', 'sql:execute'],
  FetchStmt: ['admin', 'sql:execute'],
  VariableSetStmt: ['admin', 'sql:session'],
  TransactionStmt: ['admin', 'sql:session'],
  DiscardStmt: ['admin', 'sql:session'],
  LockStmt: ['admin', 'sql:session'],
  ListenStmt: ['admin', 'sql:session'],
  NotifyStmt: ['admin', 'sql:session'],
  ConstraintsSetStmt: ['admin', 'sql:session'],
  VacuumStmt: ['admin', 'sql:maintenance'],
  ReindexStmt: ['admin', 'sql:maintenance'],
  ClusterStmt: ['admin', 'sql:maintenance'],
  CheckPointStmt: ['admin', 'sql:maintenance'],
  RefreshMatViewStmt: ['admin', 'sql:maintenance'],
  LoadStmt: ['admin', 'sql:file-access'],
  GrantRoleStmt: ['admin', 'sql:grant'],
  CommentStmt: ['admin', 'sql:alter'],
  RenameStmt: ['admin', 'sql:alter'],
  SecLabelStmt: ['admin', 'sql:alter'],
  ReassignOwnedStmt: ['admin', 'sql:alter'],
  DefineStmt: ['admin', 'sql:create'],
  ViewStmt: ['admin', 'sql:create'],
  IndexStmt: ['admin', 'sql:create'],
  RuleStmt: ['admin', 'sql:create'],
  CompositeTypeStmt: ['admin', 'sql:create'],
};

function statementClass(kind: string, node: Tree): readonly [Finding['type'], ReasonId] {
  const known = Object.hasOwn(STATEMENTS, kind) ? STATEMENTS[kind] : undefined;
  if (known !== undefined) return known;
  if (kind === 'GrantStmt') return ['admin', node.is_grant === true ? 'sql:grant' : 'sql:revoke'];
  if (kind.startsWith('Create')) return ['admin', 'sql:create'];
  if (kind.startsWith('Alter')) return ['admin', 'sql:alter'];
  return ['admin', kind.endsWith('Stmt') ? 'sql:other-statement' : 'sql:unknown-construct'];
}

/** The texts of a qualified name: a list of String nodes. */
function nameParts(list: unknown): string[] {
  const parts: string[] = [];
  if (Array.isArray(list))
    for (const item of list as readonly Tree[]) {
      const text = (item?.String as Tree | undefined)?.sval;
      parts.push(typeof text === 'string' ? text : '');
    }
  return parts;
}

class Walk {
  readonly reading = new Reading();
  readonly #safe: ReadonlySet<string>;

  constructor(safe: ReadonlySet<string>) {
    this.#safe = safe;
  }

  visit(value: unknown): void {
    if (typeof value !== 'object' || value === null) return;
    if (Array.isArray(value)) {
      for (const item of value) this.visit(item);
      return;
    }
    const node = value as Tree;
    if (typeof node.relname === 'string') this.#relation(node);
    for (const key in node) {
      const child = node[key];
      const first = key.charCodeAt(0);
      if (first >= 65 && first <= 90) this.#kind(key, child as Tree);
      else this.#field(key, child);
      this.visit(child);
    }
  }

  #kind(kind: string, node: Tree): void {
    if (kind === 'FuncCall') this.#call(node);
    else if (kind === 'SelectStmt') this.reading.note('query', 'sql:select');
    else if (kind === 'A_Expr') {
      const operator = nameParts(node.name);
      if (operator.length > 1 && operator[0] !== 'pg_catalog') this.reading.note('admin', 'sql:function');
    } else if (kind === 'JsonAggConstructor' || kind === 'JsonObjectAgg' || kind === 'JsonArrayAgg')
      this.reading.note('analytics', 'sql:aggregate');
    else if (!READ_KINDS.has(kind)) {
      const [type, reason] = statementClass(kind, node);
      this.reading.note(type, reason);
    }
  }

  #field(field: string, child: unknown): void {
    if (field === 'intoClause') this.reading.note('mutation', 'sql:select-into');
    else if (field === 'lockingClause') this.reading.note('mutation', 'sql:locking');
    else if (field === 'groupClause') this.reading.note('analytics', 'sql:group-by');
    else if (field === 'havingClause') this.reading.note('analytics', 'sql:having');
    else if (field === 'over' || field === 'windowClause') this.reading.note('analytics', 'sql:window');
    else if (field === 'objects' && Array.isArray(child)) this.#objects(child as readonly Tree[]);
  }

  #objects(list: readonly Tree[]): void {
    for (const item of list) {
      const parts = nameParts((item?.List as Tree | undefined)?.items);
      if (parts.length > 0) this.reading.touch(parts.join('.'));
    }
  }

  #relation(node: Tree): void {
    const name = String(node.relname);
    this.reading.touch(typeof node.schemaname === 'string' ? `${node.schemaname}.${name}` : name);
    if (SYSTEM_SECRETS.has(name.toLowerCase())) this.reading.note('query', 'sql:system-secrets', 'high');
  }

  #call(node: Tree): void {
    const parts = nameParts(node.funcname);
    const name = parts.at(-1) ?? '';
    const foreign = parts.length > 1 && parts[0] !== 'pg_catalog';
    if (parts.length > 2 || foreign || !this.#safe.has(name)) this.reading.note('admin', 'sql:function');
    // nextval and setval are on no safe list; every aggregate form makes the query analytics.
    if (
      AGGREGATES.has(name) ||
      node.agg_star === true ||
      node.agg_distinct === true ||
      node.agg_within_group === true ||
      node.agg_filter !== undefined ||
      node.agg_order !== undefined
    )
      this.reading.note('analytics', 'sql:aggregate');
  }
}

function examine(sql: string, safe: ReadonlySet<string>): readonly Finding[] {
  let statements: readonly { readonly stmt?: unknown }[];
  try {
    statements = parseSync(sql).stmts ?? [];
  } catch {
    return UNPARSABLE;
  }
  if (statements.length === 0) return EMPTY;
  const walk = new Walk(safe);
  for (const statement of statements) walk.visit(statement.stmt);
  return conclude(walk.reading, statements.length);
}

/** Loads the grammar (about 25 ms, once); the examiner it returns is synchronous. */
export async function loadPostgres(dialect: 'postgres' | 'redshift'): Promise<SqlExaminer> {
  await loadModule();
  const safe = safeFunctions(dialect);
  return (sql) => {
    try {
      return examine(sql, safe);
    } catch {
      // A tree too deep to walk is not a reading.
      return UNPARSABLE;
    }
  };
}
