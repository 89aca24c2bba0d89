/** Why something failed, in one line for the operator. */

/** Causes of causes that are told. */
const DEPTH = 4;

/** The message of an error and of what caused it: "the directory cannot be reached: self-signed certificate". */
export function reasonOf(error: unknown, depth = 0): string {
  if (!(error instanceof Error)) return 'unknown error';
  const own = error.message === '' ? error.name : error.message;
  if (error.cause === undefined || depth === DEPTH) return own;
  const cause = reasonOf(error.cause, depth + 1);
  return own.includes(cause) ? own : `${own}: ${cause}`;
}
