/** How much memory a document takes, roughly: enough to know when too many wait. */

/** What a value takes besides its text. */
const VALUE_BYTES = 32;

/** Bytes, or something above `most` as soon as it is more than that. */
export function roughSize(document: unknown, most: number): number {
  let size = 0;
  const open: unknown[] = [document];
  while (open.length > 0 && size <= most) {
    const value = open.pop();
    size += VALUE_BYTES;
    if (typeof value === 'string') size += value.length;
    else if (Array.isArray(value)) size += enter(open, value, most);
    else if (typeof value === 'object' && value !== null) {
      for (const key of Object.keys(value)) size += key.length;
      size += enter(open, Object.values(value), most);
    }
  }
  return size;
}

/** A list longer than all that is allowed need not be gone through. */
function enter(open: unknown[], values: readonly unknown[], most: number): number {
  if (values.length * VALUE_BYTES > most) return most + 1;
  for (const value of values) open.push(value);
  return 0;
}
