/** From the configuration's tools to the scopes that are needed for them. */
import type { Config } from '../config/schema.ts';
import type { Route } from '../core/route.ts';
import { type ScopeTerms, scopesLacking } from '../identity/oauth/protected-resource.ts';
import { type ToolScopeRule, ToolScopes } from '../pipeline/tool-scopes.ts';

export type TermsOf = (route: Pick<Route, 'match'>) => ScopeTerms;

type Servers = Pick<Config, 'servers'>;

/** Every scope that a tool of this server needs; in the order of the configuration, no duplicates. */
function scopesOf(tools: Config['servers'][string]['tools']): string[] {
  return [...new Set(Object.values(tools).flatMap(({ scopes }) => scopes))];
}

/** Every scope that some tool needs. */
export function guardedScopes({ servers }: Servers): ReadonlySet<string> {
  return new Set(Object.values(servers).flatMap(({ tools }) => scopesOf(tools)));
}

/** What tools that are called by this route need. */
export function scopesOfTools(config: Servers, route: Pick<Route, 'protocol' | 'server'>): readonly string[] {
  if (route.protocol === 'tools') return [...guardedScopes(config)];
  const server = route.protocol === 'mcp' && route.server !== null ? config.servers[route.server] : undefined;
  return server === undefined ? [] : scopesOf(server.tools);
}

/** Null when no tool needs any. */
export function toolScopes({ servers }: Servers, terms: TermsOf): ToolScopes | null {
  const rules = new Map<string, ToolScopeRule[]>();
  for (const [name, { tools }] of Object.entries(servers)) {
    const of = Object.entries(tools).flatMap(([pattern, { scopes }]) =>
      scopes.length === 0 ? [] : [{ pattern, scopes }],
    );
    if (of.length > 0) rules.set(name, of);
  }
  if (rules.size === 0) return null;
  return new ToolScopes(rules, ({ route, principal }, needed) => scopesLacking(principal, needed, terms(route)));
}
