/** Texts, numbers and casts that the module does not bring itself. Source: OPA policy reference. */
import { drawnBy } from '../imports.ts';
import { compareRego, equalRego, getRego, type Rego, spellings } from '../values.ts';
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

/** The first parts, or with a negative number the last ones. */
function splitN(text: string, separator: string, count: number): Rego {
  const parts = separator === '' ? [...text] : text.split(separator);
  return count < 0 ? parts.slice(Math.max(0, parts.length + count)) : parts.slice(0, count);
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

/** Breadth-first paths of a graph given as object of neighbours. */
function reachablePaths(graph: Rego | undefined, initial: Rego | undefined): Rego {
  const edges = asObject(graph);
  const found: Rego[] = [];
  const walk = (node: Rego, path: readonly Rego[]): void => {
    if (found.length > 10_000 || path.length > 500) throw new Mismatch('the graph is too large');
    const next = getRego(edges, node);
    if (next === undefined) return void found.push(path);
    const here = [...path, node];
    const neighbours = next === null ? [] : asItems(next);
    if (neighbours.length === 0) found.push(here);
    for (const one of neighbours) {
      // A cycle ends the path.
      if (here.some((seen) => equalRego(seen, one))) found.push(here);
      else walk(one, here);
    }
  };
  for (const node of asItems(initial)) if (getRego(edges, node) !== undefined) walk(node, []);
  return new Set(found.filter((path, i) => found.findIndex((other) => compareRego(path, other) === 0) === i));
}

const GLOB_SPECIAL = new Set('*?\\[]{}');

export const STRINGS = [
  ...pure({
    sprintf: ([format, values]) => sprintf(asText(format), asArray(values), spellings.get(asArray(values))),
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
    'graph.reachable_paths': ([graph, initial]) => reachablePaths(graph, initial),
    trace: () => true,
    print: () => true,
    'internal.print': () => true,
  }),
  ...changing({
    'rand.intn': ([key, limit], context) => {
      const bound = Math.abs(asInteger(limit));
      const name = drawnBy('rand.intn', [asText(key), bound]);
      const value = context.memo.get(name) ?? (bound === 0 ? 0 : Math.floor(Math.random() * bound));
      context.memo.set(name, value);
      return value;
    },
  }),
];
