/** Which endpoint a path belongs to: exact paths first, then templates such as `/approvals/{id}`. */
import type { Endpoint } from './endpoint.ts';

/** The endpoints of one path by method, and what its `{name}` segments stand for. */
export interface EndpointMatch {
  readonly template: string;
  readonly methods: ReadonlyMap<string, Endpoint>;
  readonly params: Readonly<Record<string, string>>;
}

interface Template {
  readonly template: string;
  readonly segments: readonly string[];
  readonly methods: Map<string, Endpoint>;
}

const NO_PARAMS: Readonly<Record<string, string>> = Object.freeze({});

/** Immutable once made. Throws when two endpoints claim the same method and path: that is a defect, seen at start. */
export class EndpointTable {
  readonly #exact = new Map<string, Template>();
  readonly #templates: Template[] = [];

  constructor(endpoints: readonly Endpoint[]) {
    const byPath = new Map<string, Template>();
    for (const endpoint of endpoints) {
      const known = byPath.get(shapeOf(endpoint.path));
      const entry = known ?? { template: endpoint.path, segments: endpoint.path.split('/'), methods: new Map() };
      if (entry.template !== endpoint.path || entry.methods.has(endpoint.method)) {
        throw new Error(`two endpoints answer ${endpoint.method} ${endpoint.path}`);
      }
      entry.methods.set(endpoint.method, endpoint);
      byPath.set(shapeOf(endpoint.path), entry);
    }
    for (const entry of byPath.values()) {
      if (entry.segments.some(isPlaceholder)) this.#templates.push(entry);
      else this.#exact.set(entry.template, entry);
    }
  }

  /** @param path canonical, so that each segment decodes */
  find(path: string): EndpointMatch | null {
    const exact = this.#exact.get(path);
    if (exact !== undefined) return { template: exact.template, methods: exact.methods, params: NO_PARAMS };
    const segments = path.split('/');
    for (const { template, segments: wanted, methods } of this.#templates) {
      if (!fits(wanted, segments)) continue;
      return { template, methods, params: paramsOf(wanted, segments) };
    }
    return null;
  }
}

const isPlaceholder = (segment: string): boolean => segment.startsWith('{') && segment.endsWith('}');

/** Templates that differ only in the names of their placeholders match the same paths. */
const shapeOf = (path: string): string =>
  path
    .split('/')
    .map((segment) => (isPlaceholder(segment) ? '{}' : segment))
    .join('/');

function fits(wanted: readonly string[], segments: readonly string[]): boolean {
  if (wanted.length !== segments.length) return false;
  for (const [at, segment] of segments.entries()) {
    const want = wanted[at] ?? '';
    if (isPlaceholder(want) ? segment === '' : want !== segment) return false;
  }
  return true;
}

function paramsOf(wanted: readonly string[], segments: readonly string[]): Readonly<Record<string, string>> {
  const params: Record<string, string> = {};
  for (const [at, want] of wanted.entries()) {
    if (isPlaceholder(want)) params[want.slice(1, -1)] = decodeURIComponent(segments[at] ?? '');
  }
  return params;
}

/** What `Allow` says of a path: HEAD goes with GET, and OPTIONS with everything. */
export function allowedMethods({ methods }: EndpointMatch): string {
  const named = [...methods.keys()].sort();
  return [...(methods.has('GET') ? ['GET', 'HEAD'] : []), 'OPTIONS', ...named.filter((one) => one !== 'GET')].join(
    ', ',
  );
}
