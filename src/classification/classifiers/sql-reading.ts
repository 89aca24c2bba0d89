/** What the SQL parsers hand back, and the pieces they share. */
import type { Finding } from '../classifier.ts';
import type { ReasonId } from '../reasons.ts';

/** Reads one statement text of one dialect. Never throws. */
export type SqlExaminer = (sql: string) => readonly Finding[];

/** A finding of the closed list. */
export function sqlFinding(type: Finding['type'], reason: ReasonId, level?: Finding['level']): Finding {
  return level === undefined ? { type, reason } : { type, reason, level };
}

export const SELECT = sqlFinding('query', 'sql:select');
export const UNPARSABLE: readonly Finding[] = [sqlFinding('admin', 'sql:unparsable')];
export const EMPTY: readonly Finding[] = [sqlFinding('admin', 'sql:empty')];
export const TOO_LONG: readonly Finding[] = [sqlFinding('admin', 'sql:too-long')];
export const AMBIGUOUS: readonly Finding[] = [sqlFinding('admin', 'sql:ambiguous')];
const MULTIPLE = sqlFinding('admin', 'sql:multi-statement');

/** Collects findings and resources of one statement, each reason once. */
export class Reading {
  readonly #findings = new Map<string, Finding>();
  readonly #resources = new Set<string>();

  note(type: Finding['type'], reason: ReasonId, level?: Finding['level']): void {
    const known = this.#findings.get(reason);
    if (known === undefined || known.type !== type) this.#findings.set(reason, sqlFinding(type, reason, level));
  }

  touch(name: string): void {
    if (name !== '' && this.#resources.size < 256) this.#resources.add(name);
  }

  /** The resources hang on the first finding. A reading that noticed nothing is a plain read only when it says so itself. */
  findings(): readonly Finding[] {
    const all = [...this.#findings.values()];
    const first = all[0];
    if (first === undefined) return UNPARSABLE;
    all[0] = { ...first, resources: [...this.#resources] };
    return all;
  }
}

/** What a parse tree of so many statements comes to: more than one is refused, whatever they are. */
export function conclude(reading: Reading, statements: number): readonly Finding[] {
  const found = reading.findings();
  return statements > 1 ? [...found, MULTIPLE] : found;
}

/** Catalogue objects that hold password hashes or credentials, by their unqualified lower-case name. */
export const SYSTEM_SECRETS: ReadonlySet<string> = new Set([
  'pg_authid',
  'pg_shadow',
  'pg_user_mapping',
  'pg_user_mappings',
  'pg_largeobject',
  'sql_logins',
  'syslogins',
  'user$',
  'dba_users',
  'link$',
  'global_priv',
  'duckdb_secrets',
]);

/** First words of statements and the class they stand for; anything else is `sql:other-statement`. */
const COMMANDS: Readonly<Record<string, readonly [Finding['type'], ReasonId]>> = {
  create: ['admin', 'sql:create'],
  drop: ['admin', 'sql:drop'],
  undrop: ['admin', 'sql:create'],
  alter: ['admin', 'sql:alter'],
  comment: ['admin', 'sql:alter'],
  rename: ['admin', 'sql:alter'],
  grant: ['admin', 'sql:grant'],
  deny: ['admin', 'sql:revoke'],
  revoke: ['admin', 'sql:revoke'],
  copy: ['admin', 'sql:copy'],
  unload: ['admin', 'sql:copy'],
  put: ['admin', 'sql:copy'],
  get: ['admin', 'sql:copy'],
  load: ['admin', 'sql:copy'],
  export: ['admin', 'sql:copy'],
  import: ['admin', 'sql:copy'],
  bulk: ['admin', 'sql:copy'],
  backup: ['admin', 'sql:copy'],
  restore: ['admin', 'sql:copy'],
  call: ['admin', 'sql:execute'],
  exec: ['admin', 'sql:execute'],
  execute: ['admin', 'sql:execute'],
  do: ['admin', 'sql:execute'],
  begin: ['admin', 'sql:execute'],
  declare: ['admin', 'sql:execute'],
  prepare: ['admin', 'sql:execute'],
  deallocate: ['admin', 'sql:execute'],
  if: ['admin', 'sql:execute'],
  while: ['admin', 'sql:execute'],
  set: ['admin', 'sql:session'],
  reset: ['admin', 'sql:session'],
  use: ['admin', 'sql:session'],
  start: ['admin', 'sql:session'],
  commit: ['admin', 'sql:session'],
  rollback: ['admin', 'sql:session'],
  savepoint: ['admin', 'sql:session'],
  release: ['admin', 'sql:session'],
  lock: ['admin', 'sql:session'],
  unlock: ['admin', 'sql:session'],
  pragma: ['admin', 'sql:session'],
  attach: ['admin', 'sql:file-access'],
  detach: ['admin', 'sql:file-access'],
  install: ['admin', 'sql:file-access'],
  vacuum: ['admin', 'sql:maintenance'],
  analyze: ['admin', 'sql:maintenance'],
  reindex: ['admin', 'sql:maintenance'],
  optimize: ['admin', 'sql:maintenance'],
  repair: ['admin', 'sql:maintenance'],
  flush: ['admin', 'sql:maintenance'],
  purge: ['admin', 'sql:maintenance'],
  kill: ['admin', 'sql:maintenance'],
  shutdown: ['admin', 'sql:maintenance'],
  checkpoint: ['admin', 'sql:maintenance'],
  dbcc: ['admin', 'sql:maintenance'],
  refresh: ['admin', 'sql:maintenance'],
  insert: ['mutation', 'sql:insert'],
  update: ['mutation', 'sql:update'],
  delete: ['mutation', 'sql:delete'],
  merge: ['mutation', 'sql:merge'],
  replace: ['mutation', 'sql:replace'],
  truncate: ['mutation', 'sql:truncate'],
};

/** Words that begin a statement; also used to recognise statements in ordinary parameters. */
export const STATEMENT_WORDS: ReadonlySet<string> = new Set([
  ...Object.keys(COMMANDS),
  'select',
  'with',
  'values',
  'table',
  'from',
  'explain',
  'describe',
  'desc',
  'show',
  'handler',
  'waitfor',
  'reconfigure',
  'revert',
  'print',
  'raiserror',
  'throw',
  'save',
  'tran',
  'summarize',
  'pivot',
  'listen',
  'notify',
  'unlisten',
  'discard',
  'cluster',
  'fetch',
  'move',
  'close',
  'security',
  'reassign',
  'list',
  'remove',
  'delimiter',
  'writetext',
  'updatetext',
  'readtext',
  'audit',
  'noaudit',
  'flashback',
  'change',
  'binlog',
  'signal',
  'resignal',
  'xa',
  'go',
  'goto',
  'open',
  'exit',
]);

/** Notes a statement known only by its first word: its class when the rest needs no reading. */
export function noteCommand(reading: Reading, word: string): void {
  const entry = Object.hasOwn(COMMANDS, word) ? COMMANDS[word] : undefined;
  // A statement the parser could not take apart may hide more than its first word says.
  reading.note('admin', entry?.[1] ?? 'sql:other-statement');
}
