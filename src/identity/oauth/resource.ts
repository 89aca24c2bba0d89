/** Names of protected resources. Source: RFC 8707 2, RFC 9728 3, MCP authorization (canonical URI of a server). */

/**
 * The resource at a path: lower-case scheme and host, no fragment, no query, no final slash.
 * @param publicUrl base URL under which clients reach the gateway
 * @param path the route's match, from `/`
 */
export function resourceUri(publicUrl: string, path: string): string {
  const base = new URL(publicUrl);
  return `${base.origin}${`${base.pathname}${path}`.replaceAll(/\/{2,}/g, '/').replace(/\/+$/, '')}`;
}

/** Where the metadata of such a resource is: the well-known part goes between host and path (RFC 9728 3.1). */
export function metadataUrl(publicUrl: string, path: string): string {
  const base = new URL(publicUrl);
  const tail = resourceUri(publicUrl, path).slice(base.origin.length);
  return `${base.origin}/.well-known/oauth-protected-resource${tail}`;
}

/**
 * The audiences a token may name on a route: those of the configuration, else the route itself or the whole gateway.
 * Without either nothing is accepted.
 */
export class Audiences {
  readonly #configured: readonly string[] | null;
  readonly #publicUrl: string | null;
  readonly #byRoute = new Map<string, string[]>();

  constructor(configured: readonly string[] | undefined, publicUrl: string | null | undefined) {
    this.#configured = configured ?? null;
    this.#publicUrl = publicUrl ?? null;
  }

  get areKnown(): boolean {
    return this.#configured !== null || this.#publicUrl !== null;
  }

  /** What distinguishes two routes in a cache: nothing when the audience is the same for all. */
  key(route: string): string {
    return this.#configured === null ? route : '';
  }

  /** @param route its match; routes come from the configuration, so there are few */
  of(route: string): string[] {
    if (this.#configured !== null) return [...this.#configured];
    let known = this.#byRoute.get(route);
    if (known === undefined) {
      const base = this.#publicUrl;
      known = base === null ? [] : [...new Set([resourceUri(base, route), resourceUri(base, '')])];
      this.#byRoute.set(route, known);
    }
    return known;
  }
}
