/** Reading arguments of builtins. A thrown Mismatch makes the builtin undefined, as a type error does in OPA. */
import type { Builtin, BuiltinSpec } from '../imports.ts';
import type { Rego, RegoObject, RegoSet } from '../values.ts';

/** An argument is of another type, or no answer exists. */
export class Mismatch extends Error {
  override readonly name = 'Mismatch';
}

export function asText(value: Rego | undefined): string {
  if (typeof value !== 'string') throw new Mismatch('not a string');
  return value;
}

export function asNumber(value: Rego | undefined): number {
  if (typeof value === 'bigint') return Number(value);
  if (typeof value !== 'number') throw new Mismatch('not a number');
  return value;
}

/** An integer that a double holds exactly. */
export function asInteger(value: Rego | undefined): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw new Mismatch('not an integer');
  return value;
}

export function asBigInt(value: Rego | undefined): bigint {
  if (typeof value === 'bigint') return value;
  if (typeof value !== 'number' || !Number.isInteger(value)) throw new Mismatch('not an integer');
  return BigInt(value);
}

export function asArray(value: Rego | undefined): readonly Rego[] {
  if (!Array.isArray(value)) throw new Mismatch('not an array');
  return value as readonly Rego[];
}

export function asObject(value: Rego | undefined): RegoObject {
  if (!(value instanceof Map)) throw new Mismatch('not an object');
  return value;
}

export function isSet(value: Rego | undefined): value is RegoSet {
  return value instanceof Set;
}

/** Members of an array or a set. */
export function asItems(value: Rego | undefined): readonly Rego[] {
  return isSet(value) ? [...value] : asArray(value);
}

/** A number small enough for JSON as number, beyond that as bigint. */
export function fromBigInt(value: bigint): Rego {
  const small = Number(value);
  return Number.isSafeInteger(small) ? small : value;
}

/** Wraps functions whose answer depends on their arguments alone. */
export function pure(functions: Readonly<Record<string, Builtin>>): [string, BuiltinSpec][] {
  return Object.entries(functions).map(([name, call]) => [name, { call }]);
}

/** Wraps functions whose answer can differ from one evaluation to the next. */
export function changing(functions: Readonly<Record<string, Builtin>>): [string, BuiltinSpec][] {
  return Object.entries(functions).map(([name, call]) => [name, { call, volatile: true }]);
}
