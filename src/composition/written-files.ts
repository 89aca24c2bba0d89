/** Files that a gateway writes to from its start: where one cannot be used, it does not start. */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { isWritable } from '../config/directories.ts';
import type { Path } from '../config/problem.ts';
import type { Config } from '../config/schema.ts';
import { databaseFile } from '../stores/database.ts';

/** By setting, how to find out: each throws a sentence when the file cannot be used. Nothing is written. */
export function* writtenFiles(
  { audit, stores }: Pick<Config, 'audit' | 'stores'>,
  baseDir: string,
): Generator<[path: Path, check: () => void]> {
  if (audit.mode !== 'off') yield [['audit', 'file'], () => requireWritable(resolve(baseDir, audit.file))];
  yield [
    ['stores', 'database'],
    () => {
      const file = databaseFile(stores.database, baseDir);
      if (file === null) return;
      requireWritable(file);
      requireDatabase(file);
    },
  ];
}

function requireWritable(file: string): void {
  if (!isWritable(file)) throw new Error(`${file} cannot be written`);
}

const MAGIC = 'SQLite format 3\0';

/** Throws for a file that holds something else. */
function requireDatabase(file: string): void {
  if ((statSync(file, { throwIfNoEntry: false })?.size ?? 0) === 0) return;
  const descriptor = openSync(file, 'r');
  try {
    const head = Buffer.alloc(MAGIC.length);
    readSync(descriptor, head, 0, head.length, 0);
    if (head.toString('latin1') !== MAGIC) throw new Error(`${file} is no SQLite database`);
  } finally {
    closeSync(descriptor);
  }
}
