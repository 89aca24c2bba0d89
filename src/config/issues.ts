/** Turns what zod found into problems with a place and, for unknown names, a suggestion. Values are never repeated. */
import type { z } from 'zod';
import { type Path, type Places, type Problem, problem, suggestion } from './problem.ts';

type Issue = z.core.$ZodIssue;
/** The part of a JSON Schema that is looked at. */
export interface SchemaNode {
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly additionalProperties?: SchemaNode | boolean;
  readonly items?: SchemaNode;
  readonly anyOf?: readonly SchemaNode[];
  readonly oneOf?: readonly SchemaNode[];
}

function alternatives(node: SchemaNode): readonly SchemaNode[] {
  const inner = [...(node.anyOf ?? []), ...(node.oneOf ?? [])];
  return [node, ...inner.flatMap(alternatives)];
}

function descend(nodes: readonly SchemaNode[], part: PropertyKey): readonly SchemaNode[] {
  const next: SchemaNode[] = [];
  for (const node of nodes.flatMap(alternatives)) {
    const child =
      typeof part === 'number'
        ? node.items
        : (node.properties?.[String(part)] ??
          (typeof node.additionalProperties === 'object' ? node.additionalProperties : undefined));
    if (child !== undefined) next.push(child);
  }
  return next;
}

/** Every key the schema knows at a path. */
export function keysAt(schema: SchemaNode, path: readonly PropertyKey[]): ReadonlySet<string> {
  let nodes: readonly SchemaNode[] = [schema];
  for (const part of path) nodes = descend(nodes, part);
  return new Set(nodes.flatMap(alternatives).flatMap((node) => Object.keys(node.properties ?? {})));
}

const plainPath = (path: readonly PropertyKey[]): Path =>
  path.map((part) => (typeof part === 'number' ? part : String(part)));

interface WrongChoice {
  readonly path: readonly PropertyKey[];
  readonly options: readonly string[];
}

/** The key that tells the branches apart (`kind`), when no branch takes the value written there. */
function wrongChoice(branches: readonly (readonly Issue[])[]): WrongChoice | null {
  const choices = branches.map((issues) =>
    issues.find((issue) => issue.code === 'invalid_value' && issue.path.length === 1),
  );
  const [first] = choices;
  if (first === undefined || choices.some((choice) => choice?.path[0] !== first.path[0])) return null;
  const options = choices.flatMap((choice) => (choice?.code === 'invalid_value' ? choice.values.map(String) : []));
  return { path: first.path, options };
}

/** Branches that are meant by the value's `kind`; all of them when nothing tells them apart. */
function meant(branches: readonly (readonly Issue[])[]): readonly (readonly Issue[])[] {
  const named = branches.filter(
    (issues) => !issues.some((issue) => issue.code === 'invalid_value' && issue.path.length === 1),
  );
  return named.length > 0 && named.length < branches.length ? named : branches;
}

/** Every wrong type, also inside a union: there in the branches that are meant. Paths are from the root. */
export function* wrongTypes(
  issues: readonly Issue[],
  base: readonly PropertyKey[] = [],
): Generator<{ readonly path: readonly PropertyKey[]; readonly expected: string }> {
  for (const issue of issues) {
    const path = [...base, ...issue.path];
    if (issue.code === 'invalid_type') yield { path, expected: issue.expected };
    else if (issue.code === 'invalid_union') for (const branch of meant(issue.errors)) yield* wrongTypes(branch, path);
  }
}

/** Of the branches of a union the one that got furthest says best what is wrong. */
function bestBranch(branches: readonly (readonly Issue[])[]): readonly Issue[] | undefined {
  const depth = (issues: readonly Issue[]) => Math.max(0, ...issues.map((issue) => issue.path.length));
  const unknown = (issues: readonly Issue[]) => issues.filter((issue) => issue.code === 'unrecognized_keys').length;
  const inner = meant(branches).filter((issues) => depth(issues) > 0 || unknown(issues) > 0);
  return inner.toSorted((a, b) => a.length - b.length || depth(b) - depth(a))[0];
}

function expectations(branches: readonly (readonly Issue[])[]): string {
  const kinds = new Set(
    branches.flat().map((issue) => (issue.code === 'invalid_type' ? issue.expected : issue.message)),
  );
  return `expected ${[...kinds].map((kind) => (kind === 'custom' ? 'string' : kind)).join(' or ')}`;
}

function sentence(issue: Issue): string {
  if (issue.code === 'invalid_type' && issue.message.endsWith('received undefined')) return 'is required';
  return issue.message.replace(/^Invalid input: /, '').replace(/^Too (small|big): /, '');
}

/** All problems of one validation, in the order of the file. */
export function issuesToProblems(
  issues: readonly Issue[],
  places: Places,
  schema: () => SchemaNode,
  root: unknown,
): Problem[] {
  const problems: Problem[] = [];
  const add = (path: readonly PropertyKey[], message: string, atKey = false) => {
    const plain = plainPath(path);
    const place = (atKey ? places.ofKey(plain) : undefined) ?? places.of(plain);
    problems.push(problem('error', plain, message, place));
  };
  const visit = (issue: Issue, base: readonly PropertyKey[]) => {
    const path = [...base, ...issue.path];
    if (issue.code === 'unrecognized_keys') {
      for (const key of issue.keys) add([...path, key], `unknown key${suggestion(key, keysAt(schema(), path))}`, true);
    } else if (issue.code === 'invalid_union') {
      const wrong = wrongChoice(issue.errors);
      const best = bestBranch(issue.errors);
      if (wrong !== null) {
        const at = [...path, ...wrong.path];
        add(at, choiceMessage(wrong.options, valueAt(root, at)));
      } else if (best !== undefined) for (const inner of best) visit(inner, path);
      else if (issue.errors.length > 0) add(path, expectations(issue.errors));
      else add(path, choiceMessage(optionsOf(issue), valueAt(root, path)));
    } else if (issue.code === 'invalid_value') {
      add(path, choiceMessage(issue.values.map(String), valueAt(root, path)));
    } else if (issue.code === 'invalid_key' || issue.code === 'invalid_element') {
      for (const inner of issue.issues) add(path, sentence(inner), true);
    } else {
      add(path, sentence(issue));
    }
  };
  for (const issue of issues) visit(issue, []);
  return problems;
}

function optionsOf(issue: Issue): string[] {
  return 'options' in issue && Array.isArray(issue.options) ? issue.options.map(String) : [];
}

function valueAt(root: unknown, path: readonly PropertyKey[]): unknown {
  let value: unknown = root;
  for (const part of path) value = typeof value === 'object' && value !== null ? Reflect.get(value, part) : undefined;
  return value;
}

/** A choice (`kind`, `protocol`, `dialect`) is a word, not a secret: it may be compared with the known ones. */
function choiceMessage(options: readonly string[], value: unknown): string {
  if (value === undefined) return `is required: ${options.join(', ')}`;
  if (options.length === 1) return `expected ${options[0]}`;
  return `expected one of ${options.join(', ')}${typeof value === 'string' ? suggestion(value, options) : ''}`;
}
