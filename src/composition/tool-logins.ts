/** Where callers get tokens for the tools of a server: from the issuer that the server's own route takes tokens of. Source: acceptance TW-05. */
import type { Config } from '../config/schema.ts';
import type { McpServer } from '../protocols/mcp/server.ts';
import { protectedRoutes, scopeTerms } from './oauth.ts';
import { buildRoutes } from './routes.ts';
import { toolScopes } from './tool-scope-rules.ts';

/** By server; those whose route takes no tokens, or that have no route of their own, are left out. */
export function toolLogins(config: Config): ReadonlyMap<string, NonNullable<McpServer['login']>> {
  const routes = buildRoutes(config).filter(({ protocol }) => protocol === 'mcp');
  const described = new Map(protectedRoutes(config, routes).map((route) => [route.match, route]));
  const guarded = toolScopes(config, scopeTerms(config, routes));
  const logins = new Map<string, NonNullable<McpServer['login']>>();
  for (const { server, match } of routes) {
    const route = described.get(match);
    const [issuer] = route?.issuers ?? [];
    if (server === null || route === undefined || issuer === undefined || logins.has(server)) continue;
    logins.set(server, (tool) => {
      const scopes = [...new Set([...route.scopes, ...(guarded?.neededFor(server, tool) ?? [])])];
      return { auth_type: 'oauth2', auth_server: issuer, scopes };
    });
  }
  return logins;
}
