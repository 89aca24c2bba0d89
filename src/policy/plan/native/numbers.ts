/**
 * Arithmetic, comparison, type tests and aggregates: builtins that OPA compiles into the module and that an interpreter
 * of the plan has to bring itself. Decimal as in the module. Source: OPA policy reference.
 */
import { asBigInt, asItems, asNumber, fromBigInt, isSet, Mismatch, pure } from '../../wasm/builtins/support.ts';
import { compareRego, type Rego, sortRego } from '../../wasm/values.ts';
import { differenceOf } from './sets.ts';

/** `digits × 10^-scale` */
interface Decimal {
  readonly digits: bigint;
  readonly scale: number;
}

const MAX_SCALE = 400;

function decimal(value: Rego | undefined): Decimal {
  if (typeof value === 'bigint') return { digits: value, scale: 0 };
  const match = /^(-?\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(String(asNumber(value)));
  if (match === null) throw new Mismatch('not a finite number');
  const fraction = match[2] ?? '';
  const scale = fraction.length - Number(match[3] ?? 0);
  const digits = BigInt((match[1] ?? '') + fraction);
  if (Math.abs(scale) > MAX_SCALE) throw new Mismatch('out of range');
  return scale >= 0 ? { digits, scale } : { digits: digits * 10n ** BigInt(-scale), scale: 0 };
}

function fromDecimal({ digits, scale }: Decimal): Rego {
  if (scale === 0) return fromBigInt(digits);
  const unit = 10n ** BigInt(scale);
  return digits % unit === 0n ? fromBigInt(digits / unit) : Number(`${digits}e-${scale}`);
}

/** Both at the same scale. */
function aligned(a: Decimal, b: Decimal): readonly [bigint, bigint, number] {
  const scale = Math.max(a.scale, b.scale);
  return [a.digits * 10n ** BigInt(scale - a.scale), b.digits * 10n ** BigInt(scale - b.scale), scale];
}

function add(a: Rego | undefined, b: Rego | undefined): Rego {
  const [x, y, scale] = aligned(decimal(a), decimal(b));
  return fromDecimal({ digits: x + y, scale });
}

function multiply(a: Rego | undefined, b: Rego | undefined): Rego {
  const [x, y] = [decimal(a), decimal(b)];
  return fromDecimal({ digits: x.digits * y.digits, scale: x.scale + y.scale });
}

function minus(a: Rego | undefined, b: Rego | undefined): Rego {
  if (isSet(a) && isSet(b)) return differenceOf(a, b);
  const [x, y, scale] = aligned(decimal(a), decimal(b));
  return fromDecimal({ digits: x - y, scale });
}

function divide(a: Rego | undefined, b: Rego | undefined): Rego {
  const [x, y] = aligned(decimal(a), decimal(b));
  if (y === 0n) throw new Mismatch('division by zero');
  return x % y === 0n ? fromBigInt(x / y) : asNumber(a) / asNumber(b);
}

function remainder(a: Rego | undefined, b: Rego | undefined): Rego {
  const divisor = asBigInt(b);
  if (divisor === 0n) throw new Mismatch('division by zero');
  return fromBigInt(asBigInt(a) % divisor);
}

/** Towards a whole number; `half`: to the nearest, away from zero where both are as near. */
function whole(value: Rego | undefined, direction: 'up' | 'down' | 'half'): Rego {
  const { digits, scale } = decimal(value);
  const unit = 10n ** BigInt(scale);
  const rest = digits % unit;
  const cut = digits / unit;
  if (rest === 0n) return fromBigInt(cut);
  const negative = digits < 0n;
  if (direction === 'up') return fromBigInt(negative ? cut : cut + 1n);
  if (direction === 'down') return fromBigInt(negative ? cut - 1n : cut);
  const away = (negative ? -rest : rest) * 2n >= unit;
  return fromBigInt(!away ? cut : negative ? cut - 1n : cut + 1n);
}

function absolute(value: Rego | undefined): Rego {
  const { digits, scale } = decimal(value);
  return fromDecimal({ digits: digits < 0n ? -digits : digits, scale });
}

function extreme(value: Rego | undefined, sign: 1 | -1): Rego {
  let best: Rego | undefined;
  for (const item of asItems(value)) if (best === undefined || compareRego(item, best) * sign > 0) best = item;
  if (best === undefined) throw new Mismatch('nothing to choose from');
  return best;
}

function countOf(value: Rego | undefined): number {
  if (typeof value === 'string') return [...value].length;
  if (value instanceof Map) return value.size;
  return asItems(value).length;
}

/** The name of the type of a value. */
export function typeName(value: Rego | undefined): string {
  if (value === null) return 'null';
  if (typeof value === 'bigint') return 'number';
  if (typeof value !== 'object') return typeof value;
  return Array.isArray(value) ? 'array' : value instanceof Map ? 'object' : 'set';
}

const isType =
  (name: string) =>
  ([value]: readonly Rego[]): Rego =>
    typeName(value) === name;

const compared =
  (test: (order: number) => boolean) =>
  ([a, b]: readonly Rego[]): Rego =>
    test(compareRego(a ?? null, b ?? null));

const MAX_SHIFT = 4096n;

function shift(value: Rego | undefined, places: Rego | undefined, left: boolean): Rego {
  const count = asBigInt(places);
  if (count < 0n || count > MAX_SHIFT) throw new Mismatch('not a shift');
  return fromBigInt(left ? asBigInt(value) << count : asBigInt(value) >> count);
}

function range(from: Rego | undefined, to: Rego | undefined): Rego {
  const [first, last] = [asBigInt(from), asBigInt(to)];
  if ((last > first ? last - first : first - last) > 1_000_000n) throw new Mismatch('the range is too long');
  const out: Rego[] = [];
  if (first <= last) for (let i = first; i <= last; i++) out.push(fromBigInt(i));
  else for (let i = first; i >= last; i--) out.push(fromBigInt(i));
  return out;
}

export const NUMBERS = pure({
  plus: ([a, b]) => add(a, b),
  minus: ([a, b]) => minus(a, b),
  mul: ([a, b]) => multiply(a, b),
  div: ([a, b]) => divide(a, b),
  rem: ([a, b]) => remainder(a, b),
  abs: ([value]) => absolute(value),
  round: ([value]) => whole(value, 'half'),
  ceil: ([value]) => whole(value, 'up'),
  floor: ([value]) => whole(value, 'down'),
  'bits.and': ([a, b]) => fromBigInt(asBigInt(a) & asBigInt(b)),
  'bits.or': ([a, b]) => fromBigInt(asBigInt(a) | asBigInt(b)),
  'bits.xor': ([a, b]) => fromBigInt(asBigInt(a) ^ asBigInt(b)),
  'bits.negate': ([value]) => fromBigInt(~asBigInt(value)),
  'bits.lsh': ([value, places]) => shift(value, places, true),
  'bits.rsh': ([value, places]) => shift(value, places, false),
  equal: compared((order) => order === 0),
  neq: compared((order) => order !== 0),
  lt: compared((order) => order < 0),
  lte: compared((order) => order <= 0),
  gt: compared((order) => order > 0),
  gte: compared((order) => order >= 0),
  is_number: isType('number'),
  is_string: isType('string'),
  is_boolean: isType('boolean'),
  is_array: isType('array'),
  is_set: isType('set'),
  is_object: isType('object'),
  is_null: isType('null'),
  type_name: ([value]) => typeName(value),
  count: ([value]) => countOf(value),
  sum: ([value]) => asItems(value).reduce<Rego>((total, item) => add(total, item), 0),
  product: ([value]) => asItems(value).reduce<Rego>((total, item) => multiply(total, item), 1),
  max: ([value]) => extreme(value, 1),
  min: ([value]) => extreme(value, -1),
  sort: ([value]) => sortRego([...asItems(value)]),
  all: ([value]) => asItems(value).every((item) => item === true),
  any: ([value]) => asItems(value).some((item) => item === true),
  'numbers.range': ([from, to]) => range(from, to),
});
