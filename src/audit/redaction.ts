/**
 * Takes secrets and bulk out of what is audited. By name (built-in, configured, and the tool's `sensitive_params`), by
 * look, and by size. Values that need no change are returned as they are: the common case allocates nothing.
 * Source: acceptance SF-66.
 */
import { hash } from 'node:crypto';
import { comparableName, isSensitiveName, REDACTED, scrubText } from '../core/redaction.ts';
import { Secret } from '../core/secret.ts';

/** Deeper or wider values are cut: an audit line is a record, not a copy of the traffic. */
const MAX_DEPTH = 32;
const MAX_NODES = 2000;

export interface RedactionRules {
  /** Names of the deployment, besides the built-in ones; any case and punctuation. */
  readonly names: readonly string[];
  /** Longest text kept, in UTF-16 units; longer ones keep their beginning, their length and their SHA-256. */
  readonly maxValueBytes: number;
}

/** Redacts one value; `extra` are the names this tool declares as sensitive. */
export type Redactor = (value: unknown, extra: readonly string[]) => unknown;

/** The end of a cut text says how long the whole was and what it hashed to, so that an auditor can match it. */
function cutText(text: string, limit: number): string {
  const digest = hash('sha256', text);
  const bytes = Buffer.byteLength(text);
  return `${scrubText(text.slice(0, limit))}…[truncated, ${bytes} bytes, sha256:${digest}]`;
}

class Walk {
  readonly #names: ReadonlySet<string>;
  readonly #extra: readonly string[];
  readonly #limit: number;
  #nodes = 0;

  constructor(names: ReadonlySet<string>, extra: readonly string[], limit: number) {
    this.#names = names;
    this.#extra = extra;
    this.#limit = limit;
  }

  #sensitive(name: string): boolean {
    if (isSensitiveName(name)) return true;
    if (this.#names.size === 0 && this.#extra.length === 0) return false;
    const plain = comparableName(name);
    return this.#names.has(plain) || this.#extra.some((other) => comparableName(other) === plain);
  }

  #text(text: string): string {
    return text.length > this.#limit ? cutText(text, this.#limit) : scrubText(text);
  }

  value(value: unknown, depth: number): unknown {
    if (typeof value === 'string') return this.#text(value);
    if (typeof value !== 'object' || value === null) return typeof value === 'bigint' ? String(value) : value;
    if (value instanceof Secret) return REDACTED;
    this.#nodes++;
    if (depth >= MAX_DEPTH || this.#nodes > MAX_NODES) return '[truncated]';
    return Array.isArray(value) ? this.#array(value, depth) : this.#object(value as Record<string, unknown>, depth);
  }

  #array(list: readonly unknown[], depth: number): readonly unknown[] {
    let copy: unknown[] | null = list.length > MAX_NODES ? list.slice(0, MAX_NODES) : null;
    const length = Math.min(list.length, MAX_NODES);
    for (let i = 0; i < length; i++) {
      const next = this.value(list[i], depth + 1);
      if (next === list[i]) continue;
      copy ??= list.slice();
      copy[i] = next;
    }
    return copy ?? list;
  }

  #object(object: Record<string, unknown>, depth: number): Record<string, unknown> {
    const names = Object.keys(object);
    let copy: Record<string, unknown> | null = null;
    for (const [index, name] of names.entries()) {
      if (index >= MAX_NODES)
        return { ...Object.fromEntries(Object.entries(copy ?? object).slice(0, index)), '…': '[truncated]' };
      const value = object[name];
      const next =
        this.#sensitive(name) && value !== null && value !== undefined ? REDACTED : this.value(value, depth + 1);
      const label = name.length > 16 ? this.#text(name) : name;
      if (next === value && label === name) continue;
      copy ??= Object.assign(Object.create(null) as Record<string, unknown>, object);
      if (label !== name) delete copy[name];
      copy[label] = next;
    }
    return copy ?? object;
  }
}

/** Builds the redactor of one deployment. */
export function createRedactor(rules: RedactionRules): Redactor {
  const names = new Set(rules.names.map(comparableName));
  return (value, extra) => new Walk(names, extra, rules.maxValueBytes).value(value, 0);
}
