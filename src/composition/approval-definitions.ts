/**
 * What an approval is bound to where no server defines what is called: the place in the configuration that says where the
 * call goes. Only where, and not how: other time limits make no other call of it. Source: design 2.4.
 */
import { digestOf } from '../approvals/digest.ts';
import type { Config } from '../config/schema.ts';
import type { Call } from '../core/call.ts';
import type { JsonObject } from '../core/json.ts';
import type { Route } from '../core/route.ts';

/** `sha256:<hex>` of the server a call is for, or else of the route it came by. */
export function definitions(config: Config): (call: Pick<Call, 'server'>, route: Route) => string {
  const routes = new Map(config.routes.map((route) => [route.match, route]));
  return ({ server }, { match, protocol, models }) => {
    const known = server !== null && Object.hasOwn(config.servers, server) ? config.servers[server] : undefined;
    if (known !== undefined) return digestOf({ server, url: known.url, type: known.type });
    const route = routes.get(match);
    const target: JsonObject = route?.protocol === 'http' ? { url: route.url, rewrite: route.rewrite ?? null } : {};
    return digestOf({ match, protocol, ...target, models: models.map((name) => modelOf(config, name)) });
  };
}

function modelOf({ models }: Config, name: string): JsonObject {
  const { url, protocol } = models[name] ?? {};
  return { name, url: url ?? null, protocol: protocol ?? null };
}
