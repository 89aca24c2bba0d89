/** From the configuration's routes, servers and models to what the pipeline works with. Pure: no sockets, no files. */
import type { ServerFacts } from '../classification/classifier.ts';
import type { Config, CredentialConfig, RouteConfig, ServerConfig } from '../config/schema.ts';
import type { PermissionRule, Route } from '../core/route.ts';
import { Secret } from '../core/secret.ts';
import { VALIDATE_PATH } from '../identity/key-validation.ts';
import type { BindableRoute } from '../policy/bindings.ts';

/** Paths of the tools API; one route each, present unless the configuration serves the path itself. */
const TOOLS_PATHS = ['/tools', '/servers'] as const;

/**
 * Paths of what the gateway answers itself, likewise. They let everyone in, for some of it is for everyone; an endpoint
 * that is not asks for a credential itself.
 */
const API_PATHS = ['/approvals', '/approve', '/reject', '/api/v1', '/access/v1', '/auth', '/.well-known'] as const;

/** Where the gateway's own authorization server is. */
export const OAUTH_PATH = '/oauth';

export function buildRoutes(config: Config): Route[] {
  const routes = config.routes.map((route) => buildRoute(route, config));
  const taken = new Set(routes.map((route) => route.match));
  const identity = Object.keys(config.identity);
  const add = (match: string, protocol: 'tools' | 'api', anonymous: boolean) => {
    if (taken.has(match)) return;
    const common = { match, identity, anonymous, tenant_header: false, user_header: false, scopes: [] };
    const route: RouteConfig = protocol === 'api' ? { ...common, protocol } : { ...common, protocol, mode: 'enforce' };
    routes.push(buildRoute(route, config));
  };
  for (const match of TOOLS_PATHS) add(match, 'tools', false);
  for (const match of API_PATHS) add(match, 'api', true);
  // Credentials there are those of clients, which no provider of ours knows.
  if (config.accounts.authorization_server.enabled) add(OAUTH_PATH, 'api', true);
  if (config.key_service.enabled && isOurs(config, '/api/v1')) add(VALIDATE_PATH, 'api', true);
  // A route is built before its place in the list is known, and nobody has seen it yet.
  return routes.map((route, place) => Object.assign(route, { place }));
}

/** The routes at their places, as far as a policy may bind them to its entrypoints. */
export function bindableRoutes(config: Config): readonly BindableRoute[] {
  return buildRoutes(config).map(({ match, entrypoint }, at) => {
    return { match, entrypoint, isConfigured: at < config.routes.length };
  });
}

/** Whether what is below this path is answered here, and not by an upstream that the configuration names. */
function isOurs({ routes }: Config, match: string): boolean {
  const named = routes.find((route) => route.match === match);
  return named === undefined || named.protocol === 'api';
}

function buildRoute(route: RouteConfig, config: Config): Route {
  return {
    id: route.match,
    match: route.match,
    protocol: route.protocol,
    identity: route.identity,
    anonymous: route.anonymous,
    entrypoint: route.entrypoint ?? null,
    server: route.protocol === 'mcp' ? route.server : null,
    models: modelsOf(route),
    upstream: route.protocol === 'http' ? route.match : null,
    rewrite: route.protocol === 'http' ? (route.rewrite ?? null) : null,
    permissions: route.protocol === 'http' ? permissionsOf(route.permissions) : {},
    denial: route.protocol === 'mcp' ? route.denial : 'error',
    tenant_header: route.tenant_header,
    user_header: route.user_header,
    scopes: route.scopes,
    mode: route.protocol === 'api' ? 'enforce' : route.mode,
    limits: { body_bytes: route.body_bytes ?? config.limits.body_bytes, ...timeouts(route, config) },
  };
}

function modelsOf(route: RouteConfig): readonly string[] {
  if (route.protocol !== 'llm') return [];
  return route.models ?? (route.model === undefined ? [] : [route.model]);
}

/** Time-outs belong to the upstream; a route of several models waits as long as the most patient of them. */
function timeouts(route: RouteConfig, config: Config): { headers_timeout_ms: number; idle_timeout_ms: number } {
  if (route.protocol === 'http') return route;
  const behind =
    route.protocol === 'mcp'
      ? [config.servers[route.server]]
      : route.protocol === 'llm'
        ? modelsOf(route).map((name) => config.models[name])
        : Object.values(config.servers);
  const known = behind.filter((one) => one !== undefined);
  return {
    headers_timeout_ms: Math.max(30_000, ...known.map((one) => one.headers_timeout_ms)),
    idle_timeout_ms: Math.max(1000, ...known.map((one) => one.idle_timeout_ms)),
  };
}

function permissionsOf(rules: Record<string, { allOf?: string[] | undefined; anyOf?: string[] | undefined }>) {
  const result: Record<string, PermissionRule> = {};
  for (const [method, { allOf, anyOf }] of Object.entries(rules)) {
    result[method] = { ...(allOf ? { allOf } : {}), ...(anyOf ? { anyOf } : {}) };
  }
  return result;
}

/** The server's own truth as policy and classification see it. */
export function serverFacts(name: string, server: ServerConfig): ServerFacts {
  return {
    name,
    type: server.type,
    dialect: server.type === 'sql' ? (server.dialect ?? 'postgres') : null,
    environment: server.environment ?? null,
    region: server.region ?? null,
    data_region: server.data_region ?? null,
    tags: server.tags,
    owner_team: server.owner_team ?? null,
    enabled: server.enabled,
    description: server.description ?? null,
    sensitivity_level: server.sensitivity_level ?? null,
    sensitivity_floor: server.sensitivity_floor ?? null,
    tools: server.tools,
    allow: server.allow,
  };
}

/** The request headers that carry an upstream credential; a bare secret is a bearer token. */
export function credentialHeaders(credential: CredentialConfig | undefined): Readonly<Record<string, string>> | null {
  if (credential === undefined) return null;
  if (credential instanceof Secret) return { authorization: `Bearer ${credential.reveal()}` };
  return { [credential.header.toLowerCase()]: credential.value.reveal() };
}
