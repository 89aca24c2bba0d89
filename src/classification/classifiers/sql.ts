/**
 * SQL tools: every text of the arguments is examined; what must be a statement and cannot be read is `admin/critical`.
 * Source: acceptance S-16, SF-01, golden table; security 2.6.
 */
import type { JsonObject, JsonValue } from '../../core/json.ts';
import { isJsonObject } from '../../core/json.ts';
import type { Classifier, ClassifierInput, Finding } from '../classifier.ts';
import type { ReasonId } from '../reasons.ts';
import { textsOf } from '../strings.ts';
import { wordsOf } from '../words.ts';
import { loadPostgres } from './sql-postgres.ts';
import type { SqlExaminer } from './sql-reading.ts';
import { STATEMENT_WORDS, sqlFinding, TOO_LONG, UNPARSABLE } from './sql-reading.ts';
import { MAX_HIDDEN_TOKENS, MAX_NESTING, MAX_TOKENS, sqlSize } from './sql-size.ts';
import { MAX_SQL_BYTES, refuseText } from './sql-text.ts';
import { loadInThread } from './sql-thread.ts';

/** Dialects that can be prepared. Source: contracts 1. */
export const SQL_DIALECTS: ReadonlySet<string> = new Set(
  'postgres mysql mariadb sqlite tsql oracle snowflake bigquery duckdb redshift'.split(' '),
);
const ALIASES: Readonly<Record<string, string>> = { postgresql: 'postgres', transactsql: 'tsql', mssql: 'tsql' };

/** The classifier of type `sql`, with the loading of its parsers. */
export interface SqlClassifier extends Classifier {
  prepare(dialects: readonly string[]): Promise<void>;
}

/** The canonical name of a dialect as a person may write it; unknown ones come back in lower case. */
export function sqlDialect(name: string | null): string {
  const lower = (name ?? 'postgres').toLowerCase();
  return Object.hasOwn(ALIASES, lower) ? (ALIASES[lower] ?? lower) : lower;
}

/** Parameters whose texts must be statements. */
const STATEMENT_KEYS = new Set(
  'query sql statement statements stmt sqlquery querysql sqlstatement sqltext querytext rawsql command script ddl dml'.split(
    ' ',
  ),
);
/** Words that make a tool a runner of statements rather than one statement of its own. */
const RUNNER_WORDS = new Set('query queries sql execute exec run select statement fetch'.split(' '));
const READ_WORDS = new Set(
  'list describe show get explain inspect count schema tables columns search find view read'.split(' '),
);
const WRITE_WORDS = new Set(
  (
    'mutation mutate write insert update delete upsert merge replace truncate add remove set save store put edit modify ' +
    'create import load assign cancel approve archive clear empty register enable disable increment decrement append ' +
    'move copy send submit change mark sync rename ingest populate seed enqueue process transfer pay refund'
  ).split(' '),
);
const ADMIN_WORDS = new Set(
  (
    'reset drop alter grant revoke admin migrate migration vacuum restore backup shutdown kill terminate destroy purge wipe ' +
    'nuke erase ddl schema_change reindex attach detach restart install uninstall rollback optimize dump superuser ' +
    'maintenance truncate_all flush obliterate annihilate'
  ).split(' '),
);
/** After `create`, these make it administration. */
const SCHEMA_NOUNS = new Set(
  'table database schema index view user role function trigger procedure extension sequence'.split(' '),
);

const byName = (type: Finding['type'], reason: ReasonId, level?: Finding['level']): Finding => ({
  type,
  reason,
  level,
  basis: 'name',
});
const NAME_READ = byName('query', 'sql:name-read');
const NAME_WRITE = byName('mutation', 'sql:name-write');
const NAME_ADMIN = byName('admin', 'sql:name-admin');
/** The list phase of a runner: the statement decides, and it may be any. */
const PENDING: Finding = {
  ...byName('query', 'sql:statement-pending'),
  possible: [{ type: 'query' }, { type: 'analytics' }, { type: 'mutation' }, { type: 'admin' }],
};
const NO_STATEMENT = byName('query', 'sql:no-statement', 'medium');
const UNKNOWN_DIALECT: readonly Finding[] = [sqlFinding('admin', 'sql:unknown-dialect')];
const NOT_TEXT = sqlFinding('admin', 'sql:not-text');

interface NameReading {
  readonly runner: boolean;
  readonly finding: Finding | null;
}

function readName(tool: string): NameReading {
  const words = wordsOf(tool);
  let runner = false;
  let finding: Finding | null = null;
  for (const [index, word] of words.entries()) {
    if (RUNNER_WORDS.has(word)) runner = true;
    const next = words[index + 1] ?? '';
    if (ADMIN_WORDS.has(word) || (word === 'create' && SCHEMA_NOUNS.has(next.replace(/s$/, '')))) finding = NAME_ADMIN;
    else if (WRITE_WORDS.has(word) && finding !== NAME_ADMIN) finding = NAME_WRITE;
    else if (finding === null && READ_WORDS.has(word)) finding = NAME_READ;
  }
  return { runner, finding };
}

/** Whole statements of one word that nobody passes as a value. */
const LONE_STATEMENTS = new Set('vacuum checkpoint shutdown reindex reconfigure commit rollback'.split(' '));
const MAX_SKIPPED = 65_536;

/** Where the first word stands: after white space, parentheses and comments. */
function skipToWord(text: string, from: number): number {
  let at = from;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    const pair = text.slice(at, at + 2);
    if (code <= 32 || code === 0xa0 || code === 0xfeff || code === 40) at++;
    else if (pair === '--' || code === 35) at = after(text, '\n', at);
    else if (pair === '/*' && text.charCodeAt(at + 2) === 33) at += 3;
    else if (pair === '/*') at = after(text, '*/', at + 2);
    else if (code >= 48 && code <= 57 && text.charCodeAt(at - 1) === 33) at++;
    else break;
  }
  return at;
}

function after(text: string, mark: string, from: number): number {
  const found = text.indexOf(mark, from);
  return found < 0 ? text.length : found + mark.length;
}

/** An ordinary value that begins like a statement, here or after a `;`. A lone word is one only for a runner. */
function soundsLikeSql(text: string, lone: boolean): boolean {
  if (text.length > MAX_SKIPPED) return true;
  for (let piece = 0; piece >= 0; ) {
    const start = skipToWord(text, piece);
    let end = start;
    while (isLetter(text.charCodeAt(end))) end++;
    const isWord = end > start && STATEMENT_WORDS.has(text.slice(start, end).toLowerCase());
    if (isWord && (lone || text.slice(end).trim() !== '')) return true;
    piece = text.indexOf(';', Math.max(piece, start)) + 1;
    if (piece === 0) return false;
  }
  return false;
}

function isLetter(code: number): boolean {
  return (code >= 97 && code <= 122) || (code >= 65 && code <= 90);
}

/** What a runner could be given as a statement under a name nobody foresaw: more than a plain word, or a procedure. */
function mayBeStatement(text: string): boolean {
  return /[\s'"();]/.test(text.trim()) || /^(?:sp|xp)_/i.test(text);
}

/** Texts of one call that are parsed: a call with more of them would keep everyone else waiting. */
const MAX_EXAMINED = 64;

/** What the texts of one call may still cost in all. */
class Budget {
  #texts = MAX_EXAMINED;
  #bytes = MAX_SQL_BYTES;
  #tokens = MAX_TOKENS;
  #hiddenTokens = MAX_HIDDEN_TOKENS;

  /** False when the text is beyond what one call may ask for. */
  take(text: string): boolean {
    this.#texts--;
    this.#bytes -= text.length;
    return this.#texts >= 0 && this.#bytes >= 0;
  }

  /** False when the generic parsers would take too long. PostgreSQL's own takes little for anything below the bytes. */
  takeTokens(text: string, dialect: string): boolean {
    if (isPostgres(dialect)) return true;
    const { tokens, allTokens, nesting } = sqlSize(text);
    this.#tokens -= tokens;
    this.#hiddenTokens -= allTokens;
    return this.#tokens >= 0 && this.#hiddenTokens >= 0 && nesting <= MAX_NESTING;
  }

  /** One text took too long: the others are not looked at. */
  exhaust(): void {
    this.#texts = 0;
  }
}

class Sql implements SqlClassifier {
  readonly serverType = 'sql';
  readonly #examiners = new Map<string, SqlExaminer>();
  /** Of the call under examination: calls are examined one after the other. */
  #budget = new Budget();

  async prepare(dialects: readonly string[]): Promise<void> {
    for (const name of dialects) {
      const dialect = sqlDialect(name);
      if (this.#examiners.has(dialect) || !SQL_DIALECTS.has(dialect)) continue;
      const load = dialect === 'postgres' || dialect === 'redshift' ? loadPostgres(dialect) : loadInThread(dialect);
      this.#examiners.set(dialect, await load);
    }
  }

  classify(input: ClassifierInput): readonly Finding[] {
    const name = readName(input.tool);
    if (input.parameters === null) return listPhase(name);
    const found: Finding[] = [];
    this.#budget = new Budget();
    const statements = this.#examineParameters(input.parameters, input.server.dialect, name.runner, found);
    if (name.finding !== null && (!name.runner || name.finding !== NAME_READ)) found.push(name.finding);
    if (!statements && (name.runner || name.finding === NAME_READ)) found.push(NO_STATEMENT);
    return found;
  }

  /** True when a statement was examined that speaks for the call. */
  #examineParameters(parameters: JsonObject, dialect: string | null, runner: boolean, found: Finding[]): boolean {
    let statements = false;
    const others: JsonValue[] = [];
    const visit = (object: JsonObject, depth: number): void => {
      for (const key in object) {
        const value = object[key];
        const isStatement = STATEMENT_KEYS.has(wordsOf(key).join(''));
        if (!isStatement) {
          if (depth === 0) others.push({ [key]: value ?? null });
          // A statement may stand deeper: `{input: {sql: …}}`.
          if (isJsonObject(value) && depth < 16) visit(value, depth + 1);
        } else if (value !== null && value !== undefined) {
          statements = true;
          this.#examineStatements(value, dialect, found);
        }
      }
    };
    visit(parameters, 0);
    return this.#examineOthers(others, dialect, runner, statements, found) || statements;
  }

  /** Everything that is not called a statement. True when one of the texts speaks for the call. */
  #examineOthers(
    others: readonly JsonValue[],
    dialect: string | null,
    runner: boolean,
    statements: boolean,
    found: Finding[],
  ): boolean {
    const { texts, keys, complete } = textsOf(others);
    if (!complete) found.push(sqlFinding('admin', 'sql:too-long'));
    // A runner without a statement: any other text may be it.
    const alone = runner && !statements;
    let spoke = false;
    const look = (text: string, sounds: boolean): void => {
      if (!sounds) return;
      const findings = this.#examine(text, dialect);
      // PostgreSQL's own grammar says it is no statement: then it is a value such as "update me".
      if (!alone && findings === UNPARSABLE && isPostgres(dialect)) return;
      spoke ||= runner;
      for (const finding of findings) found.push(runner ? finding : { ...finding, basis: 'raise' });
    };
    for (const text of texts)
      look(
        text,
        soundsLikeSql(text, alone) || LONE_STATEMENTS.has(text.trim().toLowerCase()) || (alone && mayBeStatement(text)),
      );
    for (const key of keys) look(key, soundsLikeSql(key, false));
    return spoke;
  }

  #examineStatements(value: JsonValue, dialect: string | null, found: Finding[]): void {
    if (typeof value === 'string') {
      found.push(...this.#examine(value, dialect));
      return;
    }
    const { texts, complete } = textsOf(value);
    if (!complete || texts.length === 0) found.push(NOT_TEXT);
    for (const text of texts) found.push(...this.#examine(text, dialect));
    // A list of statements is as much more than one statement as `a; b` is; so is anything but a text.
    found.push(NOT_TEXT);
  }

  #examine(sql: string, name: string | null): readonly Finding[] {
    const dialect = sqlDialect(name);
    const examiner = this.#examiners.get(dialect);
    if (examiner === undefined) return UNKNOWN_DIALECT;
    if (!this.#budget.take(sql)) return TOO_LONG;
    const findings =
      refuseText(sql, dialect) ?? (this.#budget.takeTokens(sql, dialect) ? nonEmpty(examiner(sql)) : TOO_LONG);
    if (findings[0]?.reason === 'sql:too-long') this.#budget.exhaust();
    return findings;
  }
}

function isPostgres(name: string | null): boolean {
  const dialect = sqlDialect(name);
  return dialect === 'postgres' || dialect === 'redshift';
}

function nonEmpty(findings: readonly Finding[]): readonly Finding[] {
  return findings.length === 0 ? UNPARSABLE : findings;
}

function listPhase(name: NameReading): readonly Finding[] {
  if (name.finding !== null && name.finding !== NAME_READ) return [name.finding];
  if (name.runner) return [PENDING];
  return name.finding === null ? [] : [NO_STATEMENT];
}

/** A classifier with no parser loaded yet: until `prepare` ran for a dialect, its statements are `admin/critical`. */
export function createSqlClassifier(): SqlClassifier {
  return new Sql();
}
