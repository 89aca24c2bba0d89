/**
 * Which entrypoint decides on which route, as the author of the rules says it beside them:
 * `custom.portcullis.routes` in the metadata of an entrypoint. The configuration has the last word.
 * Source: policy-engine 7, OPA annotations (openpolicyagent.org/docs/latest/policy-language/#annotations).
 */
import { isJsonObject, type JsonValue } from '../core/json.ts';
import { PolicyLoadError } from './wasm/program.ts';

/** One route that one entrypoint wants to decide on. */
export interface RouteClaim {
  readonly entrypoint: string;
  /** A route's `match`, or a path that ends with `/*`: the route of that path and all below it. */
  readonly route: string;
  /** `file:line` of the rule; null where the bundle does not say. */
  readonly at: string | null;
}

/** A route as far as entrypoints are concerned. */
export interface BindableRoute {
  readonly match: string;
  /** What the configuration names for it; null: nothing. */
  readonly entrypoint: string | null;
  /** False for what the gateway adds by itself: `/*` does not mean that. */
  readonly isConfigured: boolean;
}

/** Who decides on a route, and who said so. */
export interface RouteBinding {
  readonly route: string;
  readonly entrypoint: string;
  readonly from: 'configuration' | 'bundle' | 'default';
}

const MAX_CLAIMS = 1000;
const MAX_ROUTE = 256;

function refused(why: string): PolicyLoadError {
  return new PolicyLoadError(`the bundle ${why}`);
}

/** The routes in one block of metadata. A text says what is wrong with them, as a person reads it after "the routes". */
export function routesOf(annotation: JsonValue): readonly string[] | string {
  const custom = isJsonObject(annotation) ? annotation.custom : undefined;
  const ours = custom !== undefined && isJsonObject(custom) ? custom.portcullis : undefined;
  if (ours === undefined) return [];
  if (!isJsonObject(ours)) return 'have to be written as custom.portcullis.routes';
  const other = Object.keys(ours).find((name) => name !== 'routes');
  if (other !== undefined)
    return `have an unknown neighbour, custom.portcullis.${shown(other)}: there is only "routes"`;
  const { routes } = ours;
  if (!Array.isArray(routes) || routes.length === 0) return 'have to be a list with at least one path';
  if (routes.length > MAX_CLAIMS) return `are more than ${MAX_CLAIMS}`;
  const texts: string[] = [];
  for (const route of routes as readonly JsonValue[]) {
    const path = typeof route === 'string' ? plain(route) : null;
    if (path === null) return `hold ${shown(JSON.stringify(route))}, which is no path such as "/mcp/orders" or "/v1/*"`;
    texts.push(path);
  }
  return texts;
}

/** As the configuration has it: without slashes at the end. Null for what is no path. */
function plain(route: string): string | null {
  if (route.length > MAX_ROUTE || !/^\/[!-~]*$/.test(route) || /[?#]/.test(route)) return null;
  const star = route.indexOf('*');
  if (star !== -1 && (star !== route.length - 1 || !route.endsWith('/*'))) return null;
  return route.length > 1 ? route.replace(/\/+$/, '') || '/' : route;
}

/** Texts of a bundle end in logs and on terminals. */
const isPlain = (text: string): boolean => text.length > 0 && text.length <= MAX_ROUTE && !/\p{C}/u.test(text);
const shown = (text: string): string => text.slice(0, 80).replaceAll(/\p{C}/gu, '?');

/** The claims of `.manifest`: what `opa build` writes there of the metadata. Throws PolicyLoadError. */
export function claimsOfModules(entries: readonly JsonValue[]): readonly RouteClaim[] {
  const claims: RouteClaim[] = [];
  for (const entry of entries) {
    if (!isJsonObject(entry) || typeof entry.entrypoint !== 'string' || entry.annotations === undefined) continue;
    if (!Array.isArray(entry.annotations)) throw refused('has unreadable annotations in .manifest');
    const { entrypoint } = entry;
    if (!isPlain(entrypoint)) throw refused(`has annotations of an unreadable entrypoint (${shown(entrypoint)})`);
    for (const annotation of entry.annotations as readonly JsonValue[]) {
      const routes = routesOf(annotation);
      if (typeof routes === 'string') throw refused(`binds routes to ${shown(entrypoint)}, but they ${routes}`);
      for (const route of routes) claims.push({ entrypoint, route, at: null });
    }
  }
  return claims;
}

/** The claims of the gateway's own manifest (`bindings`). Throws PolicyLoadError. */
export function claimsOfManifest(value: JsonValue | undefined): readonly RouteClaim[] {
  if (value === undefined) return [];
  const bad = () => refused('has unreadable bindings in manifest.json');
  if (!Array.isArray(value)) throw bad();
  return (value as readonly JsonValue[]).map((entry) => {
    if (!isJsonObject(entry) || typeof entry.entrypoint !== 'string' || typeof entry.route !== 'string') throw bad();
    const { entrypoint, at = null } = entry;
    const route = plain(entry.route);
    if (route === null || !isPlain(entrypoint)) throw bad();
    if (at !== null && (typeof at !== 'string' || !isPlain(at))) throw bad();
    return { entrypoint, route, at };
  });
}

/** Each claim once and in order, those with a place before those without. Throws PolicyLoadError where two contradict. */
export function settleClaims(claims: readonly RouteClaim[]): readonly RouteClaim[] {
  const byText = new Map<string, RouteClaim>();
  for (const claim of claims) {
    const text = JSON.stringify([claim.route, claim.entrypoint]);
    if (byText.get(text)?.at === undefined || byText.get(text)?.at === null) byText.set(text, claim);
  }
  if (byText.size > MAX_CLAIMS) throw refused(`binds more than ${MAX_CLAIMS} routes`);
  const settled = [...byText.keys()].sort().map((text) => byText.get(text) as RouteClaim);
  const quarrel = contradiction(settled);
  if (quarrel !== null) throw refused(quarrel.why);
  return settled;
}

/** The same text for claims that mean the same, wherever in the sources they stand. */
export function claimsText(claims: readonly RouteClaim[]): string {
  return JSON.stringify(claims.map(({ route, entrypoint }) => [route, entrypoint]));
}

/** Two entrypoints that want the same route, or of which one wants all below a path and the other a part of that. */
export function contradiction(
  claims: readonly RouteClaim[],
): { readonly claim: RouteClaim; readonly why: string } | null {
  const exact = new Map<string, RouteClaim>();
  for (const claim of claims) {
    const other = exact.get(claim.route);
    if (other !== undefined && other.entrypoint !== claim.entrypoint) return quarrel(other, claim);
    exact.set(claim.route, claim);
  }
  const wide = claims.filter(({ route }) => route.endsWith('/*'));
  for (const all of wide) {
    const part = claims.find((one) => one.entrypoint !== all.entrypoint && covers(all.route, baseOf(one.route)));
    if (part !== undefined) return quarrel(all, part);
  }
  return null;
}

function quarrel(one: RouteClaim, other: RouteClaim): { readonly claim: RouteClaim; readonly why: string } {
  const side = ({ entrypoint, route, at }: RouteClaim) => `${route} to ${entrypoint}${at === null ? '' : ` (${at})`}`;
  return { claim: other, why: `binds ${side(one)} and ${side(other)}: a route has one entrypoint` };
}

const baseOf = (route: string): string => (route.endsWith('/*') ? route.slice(0, -2) : route);

/** Whether the claimed route means this path. */
function covers(claimed: string, path: string): boolean {
  if (!claimed.endsWith('/*')) return claimed === path;
  const base = claimed.slice(0, -2);
  return path === base || path.startsWith(`${base}/`);
}

function means({ route }: RouteClaim, { match, isConfigured }: BindableRoute): boolean {
  return route.endsWith('/*') ? isConfigured && covers(route, match) : route === match;
}

/** For each route, in their order, who decides on it: the configuration's word, else the bundle's, else the default. */
export function bindRoutes(
  routes: readonly BindableRoute[],
  claims: readonly RouteClaim[],
  standard: string,
): readonly RouteBinding[] {
  return routes.map((one) => {
    if (one.entrypoint !== null) return { route: one.match, entrypoint: one.entrypoint, from: 'configuration' };
    const claim = claims.find((each) => means(each, one));
    if (claim === undefined) return { route: one.match, entrypoint: standard, from: 'default' };
    return { route: one.match, entrypoint: claim.entrypoint, from: 'bundle' };
  });
}

/** Claims on routes that the configuration does not have. */
export function claimsOnNothing(
  routes: readonly BindableRoute[],
  claims: readonly RouteClaim[],
): readonly RouteClaim[] {
  return claims.filter((claim) => !routes.some((one) => means(claim, one)));
}

/** A claim on a route that is not there, as a sentence. */
export function nothingText({ route, entrypoint, at }: RouteClaim): string {
  const where = at === null ? '' : ` (${at})`;
  return `the policy binds ${route} to ${entrypoint}${where}, but the configuration has no such route`;
}
