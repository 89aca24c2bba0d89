/** `units.*` and `semver.*`. Source: OPA policy reference, Semantic Versioning 2.0. */
import type { Rego } from '../values.ts';
import { asText, fromBigInt, Mismatch, pure } from './support.ts';

/** Powers of 1000 and of 1024 by prefix. */
const PREFIXES: Readonly<Record<string, bigint>> = Object.fromEntries(
  ['k', 'm', 'g', 't', 'p', 'e'].flatMap((letter, i) => [
    [letter, 1000n ** BigInt(i + 1)],
    [`${letter}i`, 1024n ** BigInt(i + 1)],
  ]),
);

/** An amount as exact fraction. */
interface Amount {
  readonly digits: bigint;
  /** Power of ten of the denominator; may be negative. */
  readonly decimals: number;
  readonly unit: string;
}

const MAX_EXPONENT = 999;

/** A number, with or without exponent, and what follows it. */
function readAmount(text: string): Amount {
  const match = /^([+-]?)(?:(\d+)\.?(\d*)|\.(\d+))(?:[eE]([+-]?\d+))?(\D*)$/.exec(text.replaceAll('"', ''));
  if (match === null || text.includes(' ')) throw new Mismatch('not an amount');
  const [, sign, whole = '', part = match[4] ?? '', , exponent = '0', unit = ''] = match;
  if (Math.abs(Number(exponent)) > MAX_EXPONENT) throw new Mismatch('the exponent is too large');
  const digits = BigInt(`${whole}${part}` || '0');
  return { digits: sign === '-' ? -digits : digits, decimals: part.length - Number(exponent), unit };
}

function scale({ digits, decimals }: Amount, factor: bigint): readonly [bigint, bigint] {
  const value = digits * factor;
  return decimals < 0 ? [value * 10n ** BigInt(-decimals), 1n] : [value, 10n ** BigInt(decimals)];
}

/** `10MiB` and the like; fractions of a byte are cut off. */
function parseBytes(text: string): Rego {
  const amount = readAmount(text.toLowerCase());
  const unit = amount.unit.replace(/b$/, '');
  const factor = unit === '' && amount.unit === '' ? 1n : PREFIXES[unit];
  if (factor === undefined) throw new Mismatch('no such unit');
  const [value, denominator] = scale(amount, factor);
  return fromBigInt(value / denominator);
}

/** SI and binary units; of the one-letter ones `m` is a thousandth and `M` a million. */
function parseUnits(text: string): Rego {
  const amount = readAmount(text);
  const { unit } = amount;
  const known = unit === '' || unit === 'm' ? 1n : PREFIXES[unit.toLowerCase()];
  if (known === undefined) throw new Mismatch('no such unit');
  const [value, base] = scale(amount, known);
  const denominator = unit === 'm' ? base * 1000n : base;
  return value % denominator === 0n ? fromBigInt(value / denominator) : Number(value) / Number(denominator);
}

/** A leading `v` is let pass, as OPA does. */
const SEMVER = new RegExp(
  [
    /^v?(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)/,
    /(?:-((?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*))?/,
    /(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?$/,
  ]
    .map((piece) => piece.source)
    .join(''),
);

/** Semantic Versioning 2.0, clause 11. */
function compareVersions(a: string, b: string): number {
  const x = SEMVER.exec(a);
  const y = SEMVER.exec(b);
  if (x === null || y === null) throw new Mismatch('not a semantic version');
  for (let i = 1; i <= 3; i++) {
    const left = BigInt(x[i] ?? 0);
    const right = BigInt(y[i] ?? 0);
    if (left !== right) return left < right ? -1 : 1;
  }
  if (x[4] === undefined || y[4] === undefined) return x[4] === y[4] ? 0 : x[4] === undefined ? 1 : -1;
  return comparePrerelease(x[4].split('.'), y[4].split('.'));
}

function comparePrerelease(a: readonly string[], b: readonly string[]): number {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const x = a[i] ?? '';
    const y = b[i] ?? '';
    if (x === y) continue;
    const numeric = /^\d+$/.test(x);
    if (numeric !== /^\d+$/.test(y)) return numeric ? -1 : 1;
    return (numeric ? BigInt(x) < BigInt(y) : x < y) ? -1 : 1;
  }
  return Math.sign(a.length - b.length);
}

export const UNITS = pure({
  'units.parse': ([text]) => parseUnits(asText(text)),
  'units.parse_bytes': ([text]) => parseBytes(asText(text)),
  'semver.is_valid': ([text]) => typeof text === 'string' && SEMVER.test(text),
  'semver.compare': ([a, b]) => compareVersions(asText(a), asText(b)),
});
