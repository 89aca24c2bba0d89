/**
 * Tool definitions seen in upstream lists: what classification and policy know of a tool besides its name. Annotations
 * are untrusted hints; the hash lets policy notice a definition that changed. Source: mcp 1.4 (Tools), security 2.5.
 */
import { hash, randomUUID } from 'node:crypto';
import type { JsonObject, JsonValue } from '../../core/json.ts';
import { isJsonObject } from '../../core/json.ts';
import type { MirroredParam } from './era.ts';

export interface ToolDefinition {
  readonly name: string;
  readonly annotations: JsonObject | null;
  /** `sha256:<hex>` over the canonical form of name, description, schemas and annotations. */
  readonly schema_hash: string;
  /** Arguments that headers repeat; null: the schema declares them in a way that is not allowed. */
  readonly mirrored: readonly MirroredParam[] | null;
}

const MAX_TOOLS_PER_SERVER = 2000;
const HASHED = ['annotations', 'description', 'inputSchema', 'name', 'outputSchema', 'title'] as const;

export class ToolCatalog {
  readonly #servers = new Map<string, Map<string, ToolDefinition>>();
  /** Hashing a definition costs more than judging it; the same parsed item is read once. */
  readonly #read = new WeakMap<JsonObject, ToolDefinition>();

  get(server: string, tool: string): ToolDefinition | null {
    return this.#servers.get(server)?.get(tool) ?? null;
  }

  /** Reads and keeps one definition; null when it has no name. The newest answer of the server counts. */
  record(server: string, item: JsonValue): ToolDefinition | null {
    if (!isJsonObject(item) || typeof item.name !== 'string') return null;
    let definition = this.#read.get(item);
    if (definition === undefined) {
      definition = readDefinition(item, item.name);
      this.#read.set(item, definition);
    }
    let tools = this.#servers.get(server);
    if (tools === undefined) {
      tools = new Map();
      this.#servers.set(server, tools);
    }
    tools.delete(definition.name);
    tools.set(definition.name, definition);
    if (tools.size > MAX_TOOLS_PER_SERVER) {
      const oldest = tools.keys().next();
      if (!oldest.done) tools.delete(oldest.value);
    }
    return definition;
  }
}

function readDefinition(item: JsonObject, name: string): ToolDefinition {
  const annotations = item.annotations;
  const parts: Record<string, JsonValue> = {};
  for (const key of HASHED) {
    const value = item[key];
    if (value !== undefined) parts[key] = value;
  }
  return {
    name,
    annotations: isJsonObject(annotations) ? annotations : null,
    schema_hash: `sha256:${hash('sha256', canonical(parts, 0), 'hex')}`,
    mirrored: mirroredParams(item.inputSchema),
  };
}

/** Equal values give equal text: members sorted by UTF-16 code units, as RFC 8785 does; far inside, as they came. */
export function canonical(value: JsonValue, depth: number): string {
  if (depth > 64) return asItCame(value);
  if (Array.isArray(value)) return `[${value.map((each: JsonValue) => canonical(each, depth + 1)).join(',')}]`;
  if (!isJsonObject(value)) return JSON.stringify(value);
  const members = Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonical(value[key] ?? null, depth + 1)}`);
  return `{${members.join(',')}}`;
}

/** What is too deep to be written is like nothing else, not even itself: nobody could tell whether it changed. */
function asItCame(value: JsonValue): string {
  try {
    return JSON.stringify(value);
  } catch {
    return randomUUID();
  }
}

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const TYPES: readonly unknown[] = ['string', 'integer', 'boolean'];

/** Null: some `x-mcp-header` breaks the rules (not a token, repeated, wrong type, not reachable through `properties`). */
function mirroredParams(schema: JsonValue | undefined): readonly MirroredParam[] | null {
  const found: MirroredParam[] = [];
  if (!isJsonObject(schema)) return found;
  if (!collect(schema, [], found)) return null;
  if (countDeclared(schema, 0) !== found.length) return null;
  return new Set(found.map((param) => param.header)).size === found.length ? found : null;
}

function collect(schema: JsonObject, path: readonly string[], found: MirroredParam[]): boolean {
  const properties = schema.properties;
  if (!isJsonObject(properties) || path.length > 32) return true;
  for (const [name, property] of Object.entries(properties)) {
    if (!isJsonObject(property)) continue;
    const here = [...path, name];
    if (Object.hasOwn(property, 'x-mcp-header')) {
      const header = property['x-mcp-header'];
      if (typeof header !== 'string' || !TOKEN.test(header) || !TYPES.includes(property.type)) return false;
      const type = property.type as MirroredParam['type'];
      found.push({ header: `mcp-param-${header.toLowerCase()}`, path: here, type });
    }
    if (!collect(property, here, found)) return false;
  }
  return true;
}

/** How often the keyword stands anywhere a keyword can stand; a property that merely has its name does not count. */
function countDeclared(node: JsonValue, depth: number): number {
  if (depth > 64) return 0;
  if (Array.isArray(node))
    return node.reduce((sum: number, each: JsonValue) => sum + countDeclared(each, depth + 1), 0);
  if (!isJsonObject(node)) return 0;
  let sum = Object.hasOwn(node, 'x-mcp-header') ? 1 : 0;
  for (const [key, value] of Object.entries(node)) {
    if (key === 'default' || key === 'const' || key === 'enum' || key === 'examples') continue;
    if ((key === 'properties' || key === '$defs' || key === 'definitions') && isJsonObject(value)) {
      for (const each of Object.values(value)) sum += countDeclared(each, depth + 1);
    } else {
      sum += countDeclared(value, depth + 1);
    }
  }
  return sum;
}
