/**
 * From a file and the environment to a checked configuration, or to every problem at once. Source: contracts 5,
 * acceptance X-08.
 */
import { isUtf8 } from 'node:buffer';
import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { z } from 'zod';
import { applyAliases } from './aliases.ts';
import { checkConfig, checkNames } from './checks.ts';
import { readDocument } from './document.ts';
import { fileFaultText } from './file-faults.ts';
import { issuesToProblems, wrongTypes } from './issues.ts';
import { configJsonSchema } from './json-schema.ts';
import { type Path, type Place, type Problem, problem } from './problem.ts';
import { type Environment, SecretFiles } from './references.ts';
import { type Config, configSchema } from './schema.ts';
import { secretProblems } from './secrets.ts';

/** A file by its name, or its text under a name (the name says what relative paths are relative to). */
export type ConfigSource = string | { readonly text: string; readonly path: string };

export interface LoadOptions {
  readonly env: Environment;
  /** The union of the identity modules' schemas: config knows no plug-in. */
  readonly providers: z.ZodType<{ kind: string }>;
  /** Directories whose texts no secret may occur in; default: the product's own `config/` and `docs/`. */
  readonly publicTexts?: readonly string[];
}

interface Loaded {
  /** Warnings never stop a start. */
  readonly warnings: readonly Problem[];
  /** Absolute path of the configuration. */
  readonly file: string;
  /** What relative paths are relative to. */
  readonly baseDir: string;
  /** Absolute paths of everything that was read: what a reload watches. */
  readonly read: readonly string[];
  /** Where a setting was written, for what is found out later. */
  placeOf(path: Path): Place;
}

export type LoadResult =
  | (Loaded & { readonly config: Config; readonly problems: readonly [] })
  | (Loaded & { readonly config: null; readonly problems: readonly Problem[] });

/** A value that came from a reference is text; where the schema wants a figure or a yes/no, it may be one. */
function retype(root: unknown, path: readonly PropertyKey[], expected: string): boolean {
  const last = path.at(-1);
  let holder: unknown = root;
  for (const part of path.slice(0, -1)) holder = Reflect.get(Object(holder), part);
  if (last === undefined || typeof holder !== 'object' || holder === null) return false;
  const text: unknown = Reflect.get(holder, last);
  if (typeof text !== 'string') return false;
  if ((expected === 'number' || expected === 'int') && /^-?\d+(?:\.\d+)?$/.test(text)) {
    return Reflect.set(holder, last, Number(text));
  }
  return expected === 'boolean' && (text === 'true' || text === 'false')
    ? Reflect.set(holder, last, text === 'true')
    : false;
}

function validate(value: unknown, referenced: ReadonlySet<string>, providers: LoadOptions['providers']) {
  const schema = configSchema(providers);
  const first = schema.safeParse(value);
  if (first.success) return first;
  let changed = false;
  for (const { path, expected } of wrongTypes(first.error.issues)) {
    if (referenced.has(path.join('\0'))) changed = retype(value, path, expected) || changed;
  }
  return changed ? schema.safeParse(value) : first;
}

const inFileOrder = (a: Problem, b: Problem): number =>
  a.source.localeCompare(b.source) || a.line - b.line || a.column - b.column;

/** Checks a text that was already read. Reads only the files it refers to. */
export function loadConfigText(text: string, path: string, options: LoadOptions): LoadResult {
  const file = resolve(path);
  const baseDir = dirname(file);
  const files = new SecretFiles(baseDir);
  const document = readDocument(text, path, options.env, files);
  const problems: Problem[] = [...document.problems];
  if (document.value !== undefined) problems.push(...applyAliases(document.value, document.places, options.env, files));
  const loaded = () => ({
    warnings: problems.filter((problem) => problem.severity === 'warning').toSorted(inFileOrder),
    file,
    baseDir,
    read: [file, ...files.read],
    placeOf: (at: Path) => document.places.of(at),
  });
  const failed = () => problems.some((problem) => problem.severity === 'error');
  const fail = (): LoadResult => ({
    config: null,
    problems: problems.filter((problem) => problem.severity === 'error').toSorted(inFileOrder),
    ...loaded(),
  });
  if (document.value === undefined) return fail();
  problems.push(...checkNames(document.value, document.places));
  const reported = new Set(problems.filter(({ severity }) => severity === 'error').map(({ path }) => path));
  // What could not be resolved is a text like another for what follows: one problem is enough.
  const add = (found: readonly Problem[]) => problems.push(...found.filter(({ path }) => !reported.has(path)));
  const parsed = validate(document.value, document.referenced, options.providers);
  if (!parsed.success) {
    const schema = () => configJsonSchema(options.providers);
    add(issuesToProblems(parsed.error.issues, document.places, schema, document.value));
    return fail();
  }
  add(checkConfig(parsed.data, document.places));
  add(secretProblems(parsed.data, document.places, options.publicTexts));
  return failed() ? fail() : { config: parsed.data, problems: [], ...loaded() };
}

function unreadable(path: string, message: string): LoadResult {
  const file = resolve(path);
  const place = { source: path, line: 0, column: 0 };
  const problems = [problem('error', [], message, place)];
  return { config: null, problems, warnings: [], file, baseDir: dirname(file), read: [file], placeOf: () => place };
}

/** Reads and checks a configuration. A file that cannot be read is a problem like any other. */
export async function loadConfig(source: ConfigSource, options: LoadOptions): Promise<LoadResult> {
  if (typeof source !== 'string') return loadConfigText(source.text, source.path, options);
  try {
    const bytes = await readFile(source);
    if (!isUtf8(bytes)) return unreadable(source, 'is not UTF-8 text');
    return loadConfigText(bytes.toString('utf8'), source, options);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error)) throw error;
    return unreadable(source, error.code === 'ENOENT' ? 'no such file' : `cannot be read: ${fileFaultText(error)}`);
  }
}
