/**
 * What policies read of their input, found in their syntax trees. The engine sends nothing else: less to copy, a decision
 * key that is exact, and no way in for floods of keys nobody asked for. Where the trees do not tell, the answer is "all".
 *
 * Rules may be functions of the document (`decide(call)`), so a parameter that is given the document anywhere stands for
 * it. Elements of `input.calls` count as documents too: by contract they have the same members.
 */
import { EXACT_COUNT } from './input-shape.ts';
import type { OpaCommand } from './opa-command.ts';
import { run } from './opa-command.ts';

/** A term, expression or rule of `opa parse --format json`; only what is looked at has a name. */
type Node = { readonly [member: string]: unknown };

interface FunctionScope {
  /** `data.a.b.f` */
  readonly id: string;
  readonly parameters: readonly string[];
  readonly rule: Node;
  readonly module: Module;
  /** Names that stand for the document in this rule. */
  readonly documents: Set<string>;
}

interface Module {
  readonly prefix: string;
  readonly imports: ReadonlyMap<string, string>;
}

/**
 * Packages that compare the count of requests with nothing but the limits of the data: for them counts between the same
 * limits are alike. Any other package may hold a figure of its own.
 */
const BY_LIMITS = new Set(['data.mcp.gateway.context', 'data.portcullis.main']);

/** Paths, sorted, without those another one covers; null when some policy takes the document as a whole. */
export async function readSet(
  opa: OpaCommand,
  dir: string,
  files: readonly string[],
): Promise<readonly (readonly string[])[] | null> {
  const scopes: FunctionScope[] = [];
  for (const file of files) {
    const { status, stdout } = await run(opa.path, ['parse', '--format', 'json', file], { cwd: dir });
    if (status !== 0) return null;
    const found = scopesOf(JSON.parse(stdout) as Node);
    if (found === null) return null;
    scopes.push(...found);
  }
  return new Analysis(scopes).paths();
}

/** Null when the document is imported under another name. */
function scopesOf(tree: Node): FunctionScope[] | null {
  const prefix = nameOf((tree.package as Node).path as Node[]);
  const imports = new Map<string, string>();
  for (const each of (tree.imports ?? []) as Node[]) {
    const target = nameOf((each.path as Node).value as Node[]);
    if (target.split('.')[0] === 'input') return null;
    const alias = typeof each.alias === 'string' ? each.alias : target.slice(target.lastIndexOf('.') + 1);
    imports.set(alias, target);
  }
  const module = { prefix, imports };
  return ((tree.rules ?? []) as Node[]).map((rule) => {
    const head = rule.head as Node;
    const parameters = ((head.args ?? []) as Node[]).map((arg) => (arg.type === 'var' ? String(arg.value) : ''));
    const name = typeof head.name === 'string' ? head.name : nameOf((head.ref ?? []) as Node[]);
    return { id: `${prefix}.${name}`, parameters, rule, module, documents: new Set(['input']) };
  });
}

/** `data.a.b` of a reference whose every part is plain. */
function nameOf(parts: readonly Node[]): string {
  return parts.map((part) => String(part.value)).join('.');
}

/** Thrown and caught here alone: the document goes where its reading cannot be followed. */
class Unbounded extends Error {}

class Analysis {
  readonly #scopes: readonly FunctionScope[];
  readonly #byId = new Map<string, FunctionScope[]>();
  /** Functions whose value is the document, merged with something. */
  readonly #givesDocument = new Set<string>();
  readonly #paths = new Map<string, readonly string[]>();
  #changed = true;

  constructor(scopes: readonly FunctionScope[]) {
    this.#scopes = scopes;
    for (const scope of scopes) this.#byId.set(scope.id, [...(this.#byId.get(scope.id) ?? []), scope]);
  }

  /** Runs until no further parameter turns out to stand for the document. */
  paths(): readonly (readonly string[])[] | null {
    try {
      while (this.#changed) {
        this.#changed = false;
        for (const scope of this.#scopes) this.#rule(scope, scope.rule);
      }
    } catch (thrown) {
      if (thrown instanceof Unbounded) return null;
      throw thrown;
    }
    return minimal([...this.#paths.values()]);
  }

  #rule(scope: FunctionScope, rule: Node): void {
    for (const expression of (rule.body ?? []) as Node[]) this.#node(scope, expression);
    const head = rule.head as Node;
    for (const term of [head.value, head.key]) {
      if (term === undefined) continue;
      if (this.#isDocument(scope, term as Node)) this.#gives(scope);
      if (!this.#isBare(scope, term as Node)) this.#node(scope, term as Node);
    }
    for (const part of ((head.ref ?? []) as Node[]).slice(1)) this.#node(scope, part);
    if (rule.else !== undefined) this.#rule(scope, rule.else as Node);
  }

  /** Whoever calls the function reads the document; who names a rule without parameters cannot be followed. */
  #gives(scope: FunctionScope): void {
    if (scope.parameters.length === 0) throw new Unbounded();
    this.#mark(this.#givesDocument, scope.id);
  }

  #mark(set: Set<string>, name: string): void {
    if (set.has(name)) return;
    set.add(name);
    this.#changed = true;
  }

  #isBare(scope: FunctionScope, term: Node): boolean {
    if (term.type === 'var') return scope.documents.has(String(term.value));
    if (term.type !== 'ref') return false;
    const parts = term.value as Node[];
    return parts.length === 1 && scope.documents.has(String(parts[0]?.value));
  }

  /** A bare name of the document, or a call of a function that gives it. */
  #isDocument(scope: FunctionScope, term: Node): boolean {
    if (this.#isBare(scope, term)) return true;
    if (term.type !== 'call') return false;
    return this.#givesDocument.has(this.#callee(scope, (term.value as Node[])[0])) || this.#isMerge(scope, term);
  }

  /** `object.union` and `object.remove` of a document are documents: who reads the result is what counts. */
  #isMerge(scope: FunctionScope, term: Node): boolean {
    if (term.type !== 'call') return false;
    const [operator, ...args] = term.value as Node[];
    const name = this.#callee(scope, operator);
    if (name !== 'object.union' && name !== 'object.remove') return false;
    return args.some((arg) => this.#isDocument(scope, arg));
  }

  #callee(scope: FunctionScope, operator: Node | undefined): string {
    if (operator === undefined || operator.type !== 'ref') return '';
    const [head, ...rest] = operator.value as Node[];
    const first = String(head?.value);
    const tail = rest.map((part) => `.${String(part.value)}`).join('');
    const local = `${scope.module.prefix}.${first}${tail}`;
    if (this.#byId.has(local)) return local;
    return `${scope.module.imports.get(first) ?? first}${tail}`;
  }

  #node(scope: FunctionScope, node: unknown): void {
    if (Array.isArray(node)) {
      for (const each of node) this.#node(scope, each);
      return;
    }
    if (typeof node !== 'object' || node === null) return;
    const term = node as Node;
    if (Array.isArray(term.terms)) this.#call(scope, term.terms as Node[]);
    else if (term.type === 'call') this.#call(scope, term.value as Node[]);
    else if (term.type === 'ref') this.#reference(scope, term.value as Node[]);
    else if (term.type === 'var') this.#bare(scope, term);
    else for (const member in term) if (member !== 'with') this.#node(scope, term[member]);
    for (const replacement of (term.with ?? []) as Node[]) this.#replacement(scope, replacement);
  }

  /** `with input as …`: rules read the other document by their own references. */
  #replacement(scope: FunctionScope, replacement: Node): void {
    const [target, value] = [replacement.target as Node, replacement.value as Node];
    const ofInput = target.type === 'ref' && nameOf(target.value as Node[]) === 'input';
    if (this.#isDocument(scope, value) && !ofInput) throw new Unbounded();
    if (!this.#isBare(scope, value)) this.#node(scope, value);
  }

  #bare(scope: FunctionScope, term: Node): void {
    if (scope.documents.has(String(term.value))) throw new Unbounded();
  }

  #reference(scope: FunctionScope, parts: readonly Node[]): void {
    const [head, ...rest] = parts;
    if (head === undefined) return;
    for (const part of rest) this.#node(scope, part);
    if (head.type !== 'var') this.#node(scope, head);
    if (this.#isDocument(scope, head)) this.#read(scope, groundPrefix(rest));
  }

  #read(scope: FunctionScope, path: readonly string[]): void {
    if (path.length === 0 || path[0] === 'calls') throw new Unbounded();
    this.#paths.set(JSON.stringify(path), path);
    const isCount = path[0] === EXACT_COUNT[0] && path[1] === 'count';
    if (isCount && !BY_LIMITS.has(scope.module.prefix)) this.#paths.set(JSON.stringify(EXACT_COUNT), EXACT_COUNT);
  }

  #call(scope: FunctionScope, terms: readonly Node[]): void {
    const [operator, ...args] = terms;
    const callee = this.#callee(scope, operator);
    if (this.#iteratesCalls(scope, callee, args)) return;
    const functions = this.#byId.get(callee);
    for (const [index, arg] of args.entries()) {
      if (!this.#isBare(scope, arg)) this.#node(scope, arg);
      if (!this.#isDocument(scope, arg)) continue;
      if (functions !== undefined) for (const each of functions) this.#bind(each, index);
      else this.#builtin(scope, callee, args, index);
    }
  }

  #bind(callee: FunctionScope, index: number): void {
    const parameter = callee.parameters[index];
    if (parameter === undefined || parameter === '') throw new Unbounded();
    // A wildcard parameter reads nothing.
    if (!parameter.startsWith('$')) this.#mark(callee.documents, parameter);
  }

  /** `some element in input.calls` */
  #iteratesCalls(scope: FunctionScope, callee: string, args: readonly Node[]): boolean {
    const [element, list] = args;
    if (callee !== 'internal.member_2' || element?.type !== 'var' || list?.type !== 'ref') return false;
    const parts = list.value as Node[];
    if (parts.length !== 2 || parts[0]?.value !== 'input' || parts[1]?.value !== 'calls') return false;
    this.#mark(scope.documents, String(element.value));
    return true;
  }

  /** The builtins a document may be given to: reading one member, merging, and asking for the names of its members. */
  #builtin(scope: FunctionScope, name: string, args: readonly Node[], index: number): void {
    if (name === 'object.union' || name === 'object.remove' || name === 'object.keys') return;
    const second = args[1];
    if (name === 'object.get' && index === 0 && second?.type === 'string') {
      this.#read(scope, [String(second.value)]);
      return;
    }
    const namesOnly = second?.type === 'var' && String(second.value).startsWith('$');
    if (name === 'internal.member_3' && index === 2 && namesOnly) return;
    throw new Unbounded();
  }
}

function groundPrefix(parts: readonly Node[]): string[] {
  const end = parts.findIndex((part) => part.type !== 'string');
  return (end === -1 ? parts : parts.slice(0, end)).map((part) => String(part.value));
}

function minimal(paths: readonly (readonly string[])[]): readonly (readonly string[])[] {
  const covers = (a: readonly string[], b: readonly string[]): boolean =>
    a.length < b.length && a.every((part, index) => part === b[index]);
  return paths
    .filter((path) => !paths.some((other) => covers(other, path)))
    .sort((a, b) => (a.join('\0') < b.join('\0') ? -1 : 1));
}
