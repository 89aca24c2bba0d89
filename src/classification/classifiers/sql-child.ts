/**
 * The process in which the generic parsers live (see sql-thread.ts). It loads dialects when told to and answers one
 * statement at a time. It is started with an empty environment and ends with the channel to its parent.
 */
import type { Finding } from '../classifier.ts';
import { type GenericExaminer, loadGeneric } from './sql-generic.ts';

/** What the process is told: to load a dialect, or to read a statement. */
export type ChildOrder =
  | { readonly load: string }
  | { readonly id: number; readonly dialect: string; readonly sql: string };

/** What the process says: that it (not) loaded a dialect, or what it read; null when the dialect is not loaded. */
export type ChildReport =
  | { readonly dialect: string; readonly loaded: boolean }
  | { readonly id: number; readonly findings: readonly Finding[] | null; readonly trapped: boolean };

/** The first reading of a construct takes several times as long as the next: WASM is compiled as it is used. */
const WARMING = [
  `SELECT a, b AS c, abs(d), CASE WHEN a = 1 THEN 2 ELSE 3 END FROM t JOIN u ON t.a = u.a LEFT JOIN v ON v.b = u.b
   WHERE a IN (1, 2, 3) AND (b = 'x' OR c LIKE '%y%') AND d BETWEEN 1 AND 2 AND e IS NOT NULL GROUP BY a, b
   HAVING count(*) > 1 ORDER BY a DESC`,
  `WITH x AS (SELECT a FROM t), y AS (SELECT * FROM x) SELECT sum(a) OVER (PARTITION BY b ORDER BY c) FROM y
   WHERE EXISTS (SELECT 1 FROM u WHERE u.a = y.a) UNION ALL SELECT cast(b AS int) + 1 FROM (SELECT b FROM v) w`,
  `SELECT a FROM t WHERE a = 0${' OR a = 1'.repeat(100)}`,
  `SELECT a FROM t WHERE a IN (1${', 2'.repeat(200)}) AND b IN ('x'${", 'y'".repeat(200)})`,
  `INSERT INTO t (a, b) VALUES (1, 'x')${", (2, 'y')".repeat(50)}`,
];
const WARMING_ROUNDS = 5;

const examiners = new Map<string, GenericExaminer>();

function report(message: ChildReport): void {
  // The parent has gone: there is nobody to tell, and `disconnect` ends this process.
  process.send?.(message, () => {});
}

async function load(dialect: string): Promise<void> {
  const examiner = await loadGeneric(dialect);
  for (let round = 0; round < WARMING_ROUNDS; round++) for (const sql of WARMING) examiner(sql);
  examiners.set(dialect, examiner);
}

// A trap of the parser is told by its result; its own printing of stack traces would only fill the log.
console.error = () => {};
// A signal to the whole group is for the gateway, which still drains: this process ends when its parent does.
process.on('SIGINT', () => {}).on('SIGTERM', () => {});
process.on('disconnect', () => process.exit(0));
process.on('message', (order: ChildOrder) => {
  if ('load' in order) {
    const dialect = order.load;
    load(dialect).then(
      () => report({ dialect, loaded: true }),
      () => report({ dialect, loaded: false }),
    );
    return;
  }
  const reading = examiners.get(order.dialect)?.(order.sql);
  report({ id: order.id, findings: reading?.findings ?? null, trapped: reading?.trapped ?? false });
});
