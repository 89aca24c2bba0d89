/** Texts, numbers and casts that the module does not bring itself. Source: OPA policy reference. */
import { compareRego, equalRego, getRego, type Rego } from '../values.ts';
import { sprintf, termText } from './sprintf.ts';
import {
  asArray,
  asBigInt,
  asInteger,
  asItems,
  asObject,
  asText,
  changing,
  fromBigInt,
  isSet,
  Mismatch,
  pure,
} from './support.ts';

function anyPair(
  texts: Rego | undefined,
  parts: Rego | undefined,
  test: (text: string, part: string) => boolean,
): boolean {
  const left = typeof texts === 'string' ? [texts] : asItems(texts).map(asText);
  const right = typeof parts === 'string' ? [parts] : asItems(parts).map(asText);
  return left.some((text) => right.some((part) => test(text, part)));
}

/** Positions of `part` counted in code points. */
function positions(text: string, part: string): number[] {
  if (part === '') throw new Mismatch('empty search text');
  const chars = [...text];
  const wanted = [...part];
  const found: number[] = [];
  for (let i = 0; i + wanted.length <= chars.length; i++) {
    if (wanted.every((char, j) => chars[i + j] === char)) found.push(i);
  }
  return found;
}

function countOf(text: string, part: string): number {
  return part === '' ? [...text].length + 1 : text.split(part).length - 1;
}

/** Go's strings.SplitN. */
function splitN(text: string, separator: string, limit: number): Rego {
  const parts = separator === '' ? [...text] : text.split(separator);
  if (limit === 0) return [];
  if (limit < 0 || parts.length <= limit) return parts;
  return [...parts.slice(0, limit - 1), parts.slice(limit - 1).join(separator)];
}

const MAX_RANGE = 1_000_000n;

function rangeStep(from: bigint, to: bigint, step: bigint): Rego {
  if (step <= 0n) throw new Mismatch('the step must be positive');
  if ((to > from ? to - from : from - to) / step > MAX_RANGE) throw new Mismatch('the range is too long');
  const out: Rego[] = [];
  if (from <= to) for (let i = from; i <= to; i += step) out.push(fromBigInt(i));
  else for (let i = from; i >= to; i -= step) out.push(fromBigInt(i));
  return out;
}

function template(parts: readonly Rego[]): string {
  let out = '';
  for (const part of parts) {
    if (!isSet(part)) {
      out += typeof part === 'string' ? part : termText(part);
      continue;
    }
    if (part.size > 1) throw new Mismatch('more than one value');
    const [value] = part;
    out += value === undefined ? '<undefined>' : typeof value === 'string' ? value : termText(value);
  }
  return out;
}

/** A cast succeeds for values of the type and has no value otherwise. */
function cast(test: (value: Rego) => boolean) {
  return ([value]: readonly Rego[]): Rego | undefined => (value !== undefined && test(value) ? value : undefined);
}

const BYTE_UNITS: Readonly<Record<string, bigint>> = Object.fromEntries(
  ['k', 'm', 'g', 't', 'p', 'e'].flatMap((letter, i) => [
    [letter, 1000n ** BigInt(i + 1)],
    [`${letter}b`, 1000n ** BigInt(i + 1)],
    [`${letter}i`, 1024n ** BigInt(i + 1)],
    [`${letter}ib`, 1024n ** BigInt(i + 1)],
  ]),
);

/** `10MiB` and the like; fractions are cut off. */
function parseBytes(text: string): Rego {
  const match = /^(-?\d*\.?\d+|-?\d+\.)\s*([a-z]*)$/.exec(text.replaceAll('"', '').toLowerCase());
  const unit = match?.[2] ?? '';
  const scale = unit === '' || unit === 'b' ? 1n : BYTE_UNITS[unit];
  if (match === null || scale === undefined) throw new Mismatch('not an amount of bytes');
  return fromBigInt(scaled(match[1] ?? '0', scale, 1n));
}

function scaled(amount: string, scale: bigint, divisor: bigint): bigint {
  const negative = amount.startsWith('-');
  const [whole = '', part = ''] = amount.replace('-', '').split('.');
  const digits = part.slice(0, 40);
  const value = (BigInt(whole + digits || '0') * scale) / (10n ** BigInt(digits.length) * divisor);
  return negative ? -value : value;
}

const SI_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  m: 1e-3,
  k: 1e3,
  K: 1e3,
  M: 1e6,
  G: 1e9,
  g: 1e9,
  T: 1e12,
  t: 1e12,
  P: 1e15,
  p: 1e15,
  E: 1e18,
  e: 1e18,
  Ki: 1024,
  ki: 1024,
  Mi: 1024 ** 2,
  mi: 1024 ** 2,
  Gi: 1024 ** 3,
  gi: 1024 ** 3,
  Ti: 1024 ** 4,
  ti: 1024 ** 4,
  Pi: 1024 ** 5,
  pi: 1024 ** 5,
  Ei: 1024 ** 6,
  ei: 1024 ** 6,
};

function parseUnits(text: string): Rego {
  const match = /^(-?\d*\.?\d+(?:[eE]-?\d+)?|-?\d+\.)([A-Za-z]*)$/.exec(text.replaceAll('"', ''));
  const scale = SI_UNITS[match?.[2] ?? ''];
  if (match === null || scale === undefined) throw new Mismatch('not an amount');
  return scale === 1e-3 ? Number(match[1]) / 1000 : Number(match[1]) * scale;
}

const SEMVER =
  /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?$/;

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

/** Breadth-first paths of a graph given as object of neighbours. */
function reachablePaths(graph: Rego | undefined, initial: Rego | undefined): Rego {
  const edges = asObject(graph);
  const found: Rego[] = [];
  const walk = (node: Rego, path: readonly Rego[]): void => {
    if (found.length > 10_000 || path.length > 500) throw new Mismatch('the graph is too large');
    const next = getRego(edges, node);
    if (next === undefined) return void (path.length > 0 && found.push(path));
    const here = [...path, node];
    const open = (next === null ? [] : asItems(next)).filter((one) => !here.some((seen) => equalRego(seen, one)));
    if (open.length === 0) found.push(here);
    for (const one of open) walk(one, here);
  };
  for (const node of asItems(initial)) walk(node, []);
  return new Set(found.filter((path, i) => found.findIndex((other) => compareRego(path, other) === 0) === i));
}

const GLOB_SPECIAL = new Set('*?\\[]{}');

export const STRINGS = [
  ...pure({
    sprintf: ([format, values]) => sprintf(asText(format), asArray(values)),
    'internal.template_string': ([parts]) => template(asArray(parts)),
    indexof_n: ([text, part]) => positions(asText(text), asText(part)),
    'strings.count': ([text, part]) => countOf(asText(text), asText(part)),
    'strings.any_prefix_match': ([texts, parts]) => anyPair(texts, parts, (text, part) => text.startsWith(part)),
    'strings.any_suffix_match': ([texts, parts]) => anyPair(texts, parts, (text, part) => text.endsWith(part)),
    'strings.split_n': ([text, separator, limit]) => splitN(asText(text), asText(separator), asInteger(limit)),
    'glob.quote_meta': ([text]) =>
      [...asText(text)].map((char) => (GLOB_SPECIAL.has(char) ? `\\${char}` : char)).join(''),
    'numbers.range_step': ([from, to, step]) => rangeStep(asBigInt(from), asBigInt(to), asBigInt(step)),
    cast_array: ([value]) => (isSet(value) ? [...value].sort(compareRego) : asArray(value)),
    cast_set: ([value]) => new Set(isSet(value) ? value : asArray(value)),
    cast_boolean: cast((value) => typeof value === 'boolean'),
    cast_null: cast((value) => value === null),
    cast_object: cast((value) => value instanceof Map),
    cast_string: cast((value) => typeof value === 'string'),
    'units.parse': ([text]) => parseUnits(asText(text)),
    'units.parse_bytes': ([text]) => parseBytes(asText(text)),
    'semver.is_valid': ([text]) => typeof text === 'string' && SEMVER.test(text),
    'semver.compare': ([a, b]) => compareVersions(asText(a), asText(b)),
    'graph.reachable_paths': ([graph, initial]) => reachablePaths(graph, initial),
    trace: () => true,
    print: () => true,
    'internal.print': () => true,
  }),
  ...changing({
    'rand.intn': ([key, limit], context) => {
      const bound = Math.abs(asInteger(limit));
      const name = `rand ${asText(key)} ${bound}`;
      const value = context.memo.get(name) ?? (bound === 0 ? 0 : Math.floor(Math.random() * bound));
      context.memo.set(name, value);
      return value;
    },
  }),
];
