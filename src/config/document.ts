/**
 * YAML 1.2 to plain values, with the place of each. What makes a file mean something else than it seems to say is
 * refused: duplicate keys, merge keys, anchors and aliases (also the way of expansion bombs), tags, several documents.
 * The one user of `yaml` for reading. Source: acceptance X-08.
 */
import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type ParsedNode,
  parseDocument,
  type YAMLMap,
} from 'yaml';
import { type Path, type Place, Places, type Problem, problem } from './problem.ts';
import { type Environment, resolveReferences, type SecretFiles, UnresolvedError } from './references.ts';

const MAX_TEXT = 4_194_304;
const MAX_DEPTH = 40;
const FORBIDDEN_KEYS = new Set(['__proto__', 'constructor', 'prototype']);

export interface ConfigDocument {
  readonly value: unknown;
  readonly places: Places;
  /** Paths (joined with NUL) whose text came from a reference: such a text may stand for a number or boolean. */
  readonly referenced: ReadonlySet<string>;
  readonly problems: readonly Problem[];
}

class Reader {
  readonly problems: Problem[] = [];
  readonly places: Places;
  readonly referenced = new Set<string>();
  readonly #file: string;
  readonly #lines: LineCounter;
  readonly #env: Environment;
  readonly #files: SecretFiles;

  constructor(file: string, lines: LineCounter, env: Environment, files: SecretFiles) {
    this.#file = file;
    this.#lines = lines;
    this.#env = env;
    this.#files = files;
    this.places = new Places(file);
  }

  place(offset: number): Place {
    const { line, col } = this.#lines.linePos(offset);
    return { source: this.#file, line: Math.max(line, 1), column: Math.max(col, 1) };
  }

  problem(path: Path, place: Place, message: string): undefined {
    this.problems.push(problem('error', path, message, place));
    return undefined;
  }

  #placeOf(node: Node | null): Place {
    return this.place(node?.range?.[0] ?? 0);
  }

  value(node: ParsedNode | null, path: Path): unknown {
    if (node === null) return null;
    if (isAlias(node) || node.anchor !== undefined) {
      return this.problem(path, this.#placeOf(node), 'anchors and aliases are not supported: write the value out');
    }
    if (node.tag !== undefined && !node.tag.startsWith('tag:yaml.org,2002:')) {
      return this.problem(path, this.#placeOf(node), 'tags are not supported');
    }
    if (path.length > MAX_DEPTH) return this.problem(path, this.#placeOf(node), 'nested too deeply');
    if (isMap(node)) return this.#map(node, path);
    if (isSeq(node)) {
      return node.items.map((item, index) => {
        const inner = [...path, index];
        this.places.set(inner, this.#placeOf(item as ParsedNode));
        return this.value(item as ParsedNode, inner);
      });
    }
    return isScalar(node) ? this.#scalar(node.value, path, this.#placeOf(node)) : null;
  }

  #map(node: YAMLMap.Parsed, path: Path): Record<string, unknown> {
    const object: Record<string, unknown> = {};
    for (const pair of node.items) {
      const keyPlace = this.#placeOf(pair.key);
      if (!isScalar(pair.key) || typeof pair.key.value !== 'string') {
        this.problem(path, keyPlace, 'a key must be a text');
        continue;
      }
      const key = pair.key.value;
      const inner = [...path, key];
      if (key === '<<') this.problem(inner, keyPlace, 'merge keys are not supported: write the values out');
      else if (FORBIDDEN_KEYS.has(key)) this.problem(inner, keyPlace, 'this name is not allowed');
      else {
        this.places.set(inner, pair.value === null ? keyPlace : this.#placeOf(pair.value), keyPlace);
        object[key] = this.value(pair.value, inner);
      }
    }
    return object;
  }

  #scalar(value: unknown, path: Path, place: Place): unknown {
    if (typeof value !== 'string' || !value.includes('${')) return value;
    try {
      const text = resolveReferences(value, this.#env, this.#files);
      this.referenced.add(path.join('\0'));
      return text;
    } catch (error) {
      if (!(error instanceof UnresolvedError)) throw error;
      this.problem(path, place, error.message);
      // As it is written: that something stands here is known, and counts where one of several settings is needed.
      return value;
    }
  }
}

function parse(text: string, lines: LineCounter) {
  return parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    version: '1.2',
    schema: 'core',
    merge: false,
    uniqueKeys: true,
    strict: true,
    stringKeys: false,
    logLevel: 'error',
  });
}

/** Reads the text of a configuration file. `file` is only used to name places. */
export function readDocument(text: string, file: string, env: Environment, files: SecretFiles): ConfigDocument {
  const lines = new LineCounter();
  const reader = new Reader(file, lines, env, files);
  const { places, referenced, problems } = reader;
  const start: Place = { source: file, line: 1, column: 1 };
  if (text.length > MAX_TEXT) {
    reader.problem([], start, 'the file is larger than 4 MiB');
    return { value: undefined, places, referenced, problems };
  }
  let value: unknown;
  try {
    const document = parse(text, lines);
    for (const fault of [...document.errors, ...document.warnings]) {
      reader.problem([], reader.place(fault.pos[0]), fault.message);
    }
    if (problems.length === 0) value = reader.value(document.contents, []);
    if (value === null && problems.length === 0) reader.problem([], start, 'the file is empty');
  } catch (error) {
    // The parser recurses: a file of brackets ends it, and that must be a problem like any other.
    if (!(error instanceof RangeError)) throw error;
    reader.problem([], start, 'nested too deeply');
  }
  return { value, places, referenced, problems };
}
