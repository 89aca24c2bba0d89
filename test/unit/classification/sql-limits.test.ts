import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { SQL_DIALECTS } from '../../../src/classification/classifiers/sql.ts';
import {
  MAX_HIDDEN_TOKENS,
  MAX_NESTING,
  MAX_TOKENS,
  sqlSize,
} from '../../../src/classification/classifiers/sql-size.ts';
import { MAX_SQL_BYTES } from '../../../src/classification/classifiers/sql-text.ts';
import { verifies } from '../../helpers/verifies.ts';
import { makeCall, makeRegistry, makeServer, spell } from './registry-fixture.ts';

interface Shape {
  readonly shape: string;
  readonly before: string;
  readonly unit: string;
  readonly middle?: string;
  readonly close?: string;
  readonly after?: string;
}

const SHAPES = JSON.parse(
  readFileSync(new URL('../../corpus/sql/shapes.json', import.meta.url), 'utf8'),
) as readonly Shape[];
const GENERIC = [...SQL_DIALECTS].filter((dialect) => dialect !== 'postgres' && dialect !== 'redshift');

function grow({ before, unit, middle = '', close = '', after = '' }: Shape, times: number): string {
  let units = '';
  for (let i = 1; i <= times; i++) units += unit.replaceAll('$i', String(i)).replaceAll('$p', String(i - 1));
  return before + units + middle + close.repeat(times) + after;
}

function isAdmitted(sql: string): boolean {
  const { tokens, allTokens, nesting } = sqlSize(sql);
  return (
    sql.length <= MAX_SQL_BYTES && tokens <= MAX_TOKENS && allTokens <= MAX_HIDDEN_TOKENS && nesting <= MAX_NESTING
  );
}

/** With the most repetitions that are still given to a parser. */
function largest(shape: Shape): string {
  let low = 1;
  let high = MAX_SQL_BYTES;
  while (low + 1 < high) {
    const middle = (low + high) >> 1;
    if (isAdmitted(grow(shape, middle))) low = middle;
    else high = middle;
  }
  return grow(shape, low);
}

/** Found once for all dialects: whether a parser is asked does not depend on which one it is. */
const largestOf = new Map<Shape, string>();

const list = (count: number, item: (i: number) => string, separator = ', ') =>
  Array.from({ length: count }, (_, i) => item(i)).join(separator);

/** Larger than what people and models write, and smaller than the limits. */
const REALISTIC: Readonly<Record<string, string>> = {
  'IN with 1,000 numbers': `SELECT id FROM orders WHERE id IN (${list(1000, (i) => String(i))})`,
  'IN with 1,000 strings': `SELECT id FROM orders WHERE code IN (${list(1000, (i) => `'AB-${i}'`)})`,
  '300 terms joined by OR': `SELECT id FROM orders WHERE ${list(300, (i) => `id = ${i}`, ' OR ')}`,
  '300 columns with aliases': `SELECT ${list(300, (i) => `o.col_${i} AS c_${i}`)} FROM orders o`,
  '40 joins': `SELECT a.id FROM t0 a ${list(40, (i) => `JOIN t${i + 1} j${i} ON j${i}.id = a.id`, ' ')}`,
  '30 common table expressions': `WITH c0 AS (SELECT a FROM t), ${list(30, (i) => `c${i + 1} AS (SELECT a FROM c${i} WHERE a > ${i})`)} SELECT a FROM c30`,
  '200 WHEN': `SELECT CASE ${list(200, (i) => `WHEN a = ${i} THEN 'x${i}'`, ' ')} ELSE 'z' END FROM t`,
  '100 unions': list(100, (i) => `SELECT ${i} AS n FROM t`, ' UNION ALL '),
  'ten nested subqueries': `SELECT * FROM ${'(SELECT * FROM '.repeat(10)}t${list(10, (i) => `) s${i}`, '')}`,
  'eight parentheses': `SELECT a FROM t WHERE ${'('.repeat(8)}a = 1${')'.repeat(8)}`,
  '60 KB of prose in a string': `SELECT a FROM t WHERE note = '${'The quick brown fox jumps over it. '.repeat(1700)}'`,
  '60 KB of prose in a comment': `SELECT a -- ${"it doesn't matter what stands here ".repeat(1700)}\nFROM t`,
};

const registry = makeRegistry();
beforeAll(() => registry.prepare([...SQL_DIALECTS]));

const classify = (dialect: string, parameters: Readonly<Record<string, unknown>>) =>
  registry.classify(makeCall('execute_query', parameters), makeServer({ dialect }));

describe('the size of a statement', () => {
  test('is counted in tokens, with strings and quoted names as one and comments as none', () => {
    expect(sqlSize('')).toEqual({ tokens: 0, allTokens: 0, nesting: 0 });
    expect(sqlSize('SELECT a1, b_2 FROM t').tokens).toBe(6);
    expect(sqlSize(`SELECT 'it''s one', "a b", \`c d\``).tokens).toBe(6);
    expect(sqlSize("SELECT 1 -- don't ( count [ this\n+ 2 /* nor ' this */").tokens).toBe(4);
    expect(sqlSize('((a)[1]{b})')).toEqual({ tokens: 11, allTokens: 11, nesting: 2 });
    expect(sqlSize("SELECT 'a, b, c").tokens).toBe(2);
  });

  test('counts what another lexer could see inside strings and comments too', () => {
    expect(sqlSize("'a, b'").allTokens).toBe(5);
    expect(sqlSize('/*a*/').allTokens).toBe(5);
  });

  test('beyond each limit is refused as too long by the generic dialects, before any parser looks', () => {
    verifies('S-16');
    const beyond = [
      `SELECT a FROM t WHERE a IN (${list(MAX_TOKENS / 2, (i) => String(i))})`,
      `SELECT ${'('.repeat(MAX_NESTING + 1)}1${')'.repeat(MAX_NESTING + 1)}`,
      `SELECT '${'a,'.repeat(MAX_HIDDEN_TOKENS / 2)}'`,
    ];
    for (const dialect of GENERIC)
      for (const query of beyond) {
        const found = classify(dialect, { query });
        expect([spell(found), found.reasons]).toEqual(['admin/critical', ['sql:too-long']]);
      }
  });

  test('is added up over the statements of one call', () => {
    const half = `SELECT a FROM t WHERE a IN (${list(1100, (i) => String(i))})`;
    expect(spell(classify('oracle', { query: half }))).toBe('query/low');
    expect(classify('oracle', { query: half, sql: half }).reasons).toContain('sql:too-long');
  });

  test('of a realistic statement, however large, is within the limits in every dialect', () => {
    const refused: string[] = [];
    for (const [name, query] of Object.entries(REALISTIC)) if (!isAdmitted(query)) refused.push(name);
    for (const dialect of SQL_DIALECTS)
      for (const [name, query] of Object.entries(REALISTIC)) {
        let found = classify(dialect, { query });
        // The parsers have limits of time too, which a busy machine may reach: those are not what is tested here.
        for (let again = 0; again < 20 && found.reasons.includes('sql:too-long'); again++)
          found = classify(dialect, { query });
        if (found.tool_type !== 'query') refused.push(`${dialect}: ${name}: ${found.reasons.join()}`);
      }
    expect(refused).toEqual([]);
  });
});

describe('the largest statement that is let through', () => {
  test.each(['mysql', 'oracle', 'bigquery'])(
    'holds up the gateway for a moment only, whatever its shape (%s)',
    (dialect) => {
      for (const shape of SHAPES) {
        const query = largestOf.get(shape) ?? largest(shape);
        largestOf.set(shape, query);
        const started = performance.now();
        classify(dialect, { query });
        // The figures on a quiet machine are in docs/classification.md; this is for a busy one.
        expect([shape.shape, performance.now() - started < 1000]).toEqual([shape.shape, true]);
      }
      expect(spell(classify(dialect, { query: 'SELECT a FROM t' }))).toBe('query/low');
    },
  );

  test('of PostgreSQL fills 64 KB and is read by its own grammar all the same', () => {
    for (const shape of SHAPES) {
      const width = (grow(shape, 200).length - grow(shape, 100).length) / 100;
      const query = grow(shape, Math.floor(60_000 / (width + 1)));
      const started = performance.now();
      classify('postgres', { query });
      expect([shape.shape, performance.now() - started < 1000]).toEqual([shape.shape, true]);
    }
  });
});
