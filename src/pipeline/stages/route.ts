/** Stage 1: which route serves this path. */
import { GatewayError } from '../../core/errors.ts';
import type { Received, Routed } from '../../core/exchange.ts';
import type { Route } from '../../core/route.ts';

/** Whether there is anything at this path of a route. The gateway's own paths must not hide a backend's beside them. */
export type Serves = (route: Route, path: string) => boolean;

/** Finds the longest match by whole segments; `/mcp` serves `/mcp/a` but not `/mcpx`. */
export class RouteTable {
  readonly #routes: readonly Route[];
  readonly #serves: Serves;

  /** `serves` is asked for `api` routes only; by default they serve all that they match. */
  constructor(routes: readonly Route[], serves: Serves = () => true) {
    this.#routes = [...routes].sort((a, b) => b.match.length - a.match.length);
    this.#serves = serves;
  }

  find(path: string): Route | null {
    for (const route of this.#routes) {
      if (covers(route.match, path) && (route.protocol !== 'api' || this.#serves(route, path))) return route;
    }
    return null;
  }

  get all(): readonly Route[] {
    return this.#routes;
  }
}

function covers(match: string, path: string): boolean {
  if (match === '/') return true;
  return path.startsWith(match) && (path.length === match.length || path.charCodeAt(match.length) === 47);
}

export function route(table: RouteTable, received: Received): Routed {
  const found = table.find(received.path);
  if (found === null) throw new GatewayError('ROUTE_NOT_FOUND');
  return { received, route: found };
}
