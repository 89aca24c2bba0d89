import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { SQL_DIALECTS } from '../../../src/classification/classifiers/sql.ts';
import { verifies } from '../../helpers/verifies.ts';
import { makeCall, makeRegistry, makeServer } from './registry-fixture.ts';

interface Statement {
  readonly dialect: string;
  readonly sql: string;
}

const load = (name: string): readonly Statement[] =>
  JSON.parse(readFileSync(new URL(`../../corpus/sql/${name}.json`, import.meta.url), 'utf8')) as Statement[];

const registry = makeRegistry();
beforeAll(() => registry.prepare([...SQL_DIALECTS]));

/** The statements that were (not) classified as reading. */
function readings(statements: readonly Statement[], reading: boolean): string[] {
  return statements
    .filter(({ dialect, sql }) => {
      const found = registry.classify(makeCall('execute_query', { query: sql }), makeServer({ dialect }));
      return (found.tool_type === 'query' || found.tool_type === 'analytics') === reading;
    })
    .map(({ dialect, sql }) => `${dialect}: ${sql}`);
}

describe('the SQL corpora', () => {
  test('no statement that does more than read is classified as reading, over all dialects', () => {
    verifies('S-16', 'SF-01');
    const evasions = load('evasions');
    expect(evasions.length).toBeGreaterThanOrEqual(200);
    expect(new Set(evasions.map(({ dialect }) => dialect)).size).toBeGreaterThanOrEqual(8);
    expect(readings(evasions, true)).toEqual([]);
  });

  test('no plain query of the benign corpus is a false alarm', () => {
    const benign = load('benign');
    expect(benign.length).toBeGreaterThanOrEqual(300);
    expect(readings(benign, false)).toEqual([]);
  });

  test('plain writes are mutations, no more and no less', () => {
    const others = load('writes').filter(({ dialect, sql }) => {
      const found = registry.classify(makeCall('execute_query', { query: sql }), makeServer({ dialect }));
      return (
        `${found.tool_type}/${found.sensitivity_level}` !== (/users/.test(sql) ? 'mutation/high' : 'mutation/medium')
      );
    });
    expect(others).toEqual([]);
  });

  test('each evasion is caught under any other parameter name of a statement runner too', () => {
    const escaped = load('evasions').filter(({ dialect, sql }) => {
      if (sql.trim() === '' || !/\s/.test(sql.trim())) return false;
      const found = registry.classify(makeCall('execute_query', { payload: { text: [sql] } }), makeServer({ dialect }));
      return found.tool_type === 'query' || found.tool_type === 'analytics';
    });
    expect(escaped.map(({ dialect, sql }) => `${dialect}: ${sql}`)).toEqual([]);
  });

  test('a benign query beside an evasion, in whatever order, never lowers it', () => {
    const escaped = load('evasions').filter(({ dialect, sql }) => {
      const server = makeServer({ dialect });
      const classes = [
        registry.classify(makeCall('execute_query', { query: 'SELECT 1', sql }), server),
        registry.classify(makeCall('execute_query', { sql, query: 'SELECT 1' }), server),
        registry.classify(makeCall('execute_query', { query: ['SELECT 1', sql] }), server),
      ];
      return classes.some(({ tool_type }) => tool_type === 'query' || tool_type === 'analytics');
    });
    expect(escaped).toEqual([]);
  });

  test('text over 64 KB, deep nesting and unknown or unloaded dialects are admin/critical', () => {
    const classOf = (sql: string, dialect: string | null, from = registry) => {
      const found = from.classify(makeCall('execute_query', { query: sql }), makeServer({ dialect }));
      return [found.tool_type, found.sensitivity_level, ...found.reasons];
    };
    const long = `SELECT '${'x'.repeat(65_536)}'`;
    const wide = `SELECT '${'ü'.repeat(33_000)}'`;
    const deep = `SELECT ${'('.repeat(20_000)}1${')'.repeat(20_000)}`;
    for (const dialect of SQL_DIALECTS) {
      expect(classOf(long, dialect)).toEqual(['admin', 'critical', 'sql:too-long']);
      expect(classOf(wide, dialect)).toEqual(['admin', 'critical', 'sql:too-long']);
      expect(classOf(deep, dialect).slice(0, 2)).toEqual(['admin', 'critical']);
      expect(classOf('SELECT 1 FROM t', dialect)[0]).toBe('query');
    }
    expect(classOf('SELECT 1', 'klingon')).toEqual(['admin', 'critical', 'sql:unknown-dialect']);
    expect(classOf('SELECT 1', 'sqlite', makeRegistry())).toEqual(['admin', 'critical', 'sql:unknown-dialect']);
  });

  test('tables are named as resources, qualified, and found in every corner of a query', () => {
    const sql =
      'WITH x AS (SELECT * FROM a.b) SELECT (SELECT 1 FROM c) FROM x JOIN d USING (i) WHERE EXISTS (SELECT 1 FROM e)';
    for (const dialect of ['postgres', 'sqlite', 'mysql', 'tsql']) {
      const found = registry.classify(makeCall('execute_query', { query: sql }), makeServer({ dialect }));
      expect(found.resources).toEqual(expect.arrayContaining(['a.b', 'c', 'd', 'e']));
    }
  });
});

describe('hostile text for the generic parsers', () => {
  test('a text that takes exponential time is refused in bounded time, and the next one is answered', () => {
    const nested: readonly (readonly [string, string])[] = [
      ['bigquery', `SELECT ${'['.repeat(30)}1${']'.repeat(30)}`],
      ['mysql', `SELECT ${'cast('.repeat(30)}1${' as char)'.repeat(30)}`],
      ['tsql', `SELECT ${'cast('.repeat(30)}1${' as int)'.repeat(30)}`],
    ];
    for (const [dialect, sql] of nested) {
      expect(readings([{ dialect, sql }], true)).toEqual([]);
      expect(readings([{ dialect, sql: 'SELECT a FROM t' }], true)).toHaveLength(1);
    }
  });

  test('a parser that traps over and over goes on answering', async () => {
    const trap = { dialect: 'tsql', sql: 'SELECT if(1,if(1,1,2),2)' };
    for (let round = 0; round < 500; round++) {
      expect(readings([trap], true)).toEqual([]);
      // The replacement of the thread is loaded between requests.
      if (round % 50 === 0) await new Promise(setImmediate);
    }
    expect(readings([{ dialect: 'tsql', sql: 'SELECT a FROM t' }], true)).toHaveLength(1);
  });
});
