/** Rows for people. */
import { type Io, line } from './io.ts';

/** Prints rows in columns as wide as they have to be; the first row names them. Cells are printable already. */
export function table(rows: readonly (readonly string[])[], io: Io): void {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  for (const row of rows) {
    const cells = row.map((text, column) => text.padEnd(widths[column] ?? 0));
    line(io, cells.join('  ').trimEnd());
  }
}
