/**
 * JSON of policies and their data, whose numbers have to mean what they say: a limit or an account number that is rounded
 * on its way would decide about something else. Source: RFC 8259 section 6, RFC 7493 section 2.2.
 */
import type { JsonValue } from '../core/json.ts';

/** A number that JavaScript would round or lose; the message says which one and what to do. */
export class InexactNumberError extends Error {
  override readonly name = 'InexactNumberError';
}

/** Sixteen digits in a row, or an exponent; in texts too, which costs a slower look and no more. */
const MAYBE_INEXACT = /\d{16}|\d[eE]/;

/** Characters: the largest number has 309 digits, and whoever writes more of them means to keep us busy. */
const MAX_EXACT = 400;

/** Throws SyntaxError, and InexactNumberError for whole numbers of 2^53 and more that are not kept exactly. */
export function parseExactJson(text: string): JsonValue {
  return (MAYBE_INEXACT.test(text) ? JSON.parse(text, exact as never) : JSON.parse(text)) as JsonValue;
}

/** `source`: the number as it was written (ECMA-262, JSON.parse source text access). */
function exact(_: string, value: unknown, { source = '' }: { readonly source?: string }): unknown {
  if (typeof value !== 'number' || Math.abs(value) <= Number.MAX_SAFE_INTEGER) return value;
  // What is beyond all numbers would become null on its way to the module: a limit that is none.
  if (!Number.isFinite(value))
    throw new InexactNumberError(`has a number beyond all that can be held (${shown(source)})`);
  if (source.length <= MAX_EXACT && wholeOf(source) === BigInt(value)) return value;
  throw new InexactNumberError(`has a number that cannot be held exactly (${shown(source)}): write it as text`);
}

/** The whole number that is written, or null: one with a fraction is not whole. */
function wholeOf(source: string): bigint | null {
  const [, digits = '', fraction = '', exponent = '0'] = /^(-?\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(source) ?? [];
  const zeros = Number(exponent) - fraction.length;
  if (zeros >= 0) return BigInt(digits + fraction) * 10n ** BigInt(zeros);
  const all = BigInt(digits + fraction);
  const divisor = 10n ** BigInt(-zeros);
  return all % divisor === 0n ? all / divisor : null;
}

const shown = (source: string): string => (source.length > 40 ? `${source.slice(0, 40)}…` : source);
