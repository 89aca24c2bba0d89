/** Which entrypoint of a policy decides on which route of a configuration, and which routes it binds that are not there. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { bundlePath, signingRules } from '../composition/policy-sources.ts';
import { bindableRoutes } from '../composition/routes.ts';
import type { Config } from '../config/schema.ts';
import { isJsonObject, type JsonObject, type JsonValue } from '../core/json.ts';
import { bindRoutes, claimsOnNothing, nothingText, type RouteBinding, type RouteClaim } from '../policy/bindings.ts';
import { loadBundle } from '../policy/bundle.ts';
import type { LintFinding } from '../policy/lint.ts';
import { configFile, readConfigFile, requireConfig } from './config-file.ts';
import type { Io } from './io.ts';

export interface RoutesReport {
  /** One for each route that is bound and is not there. */
  readonly findings: readonly LintFinding[];
  readonly routes: readonly RouteBinding[];
}

/**
 * What the claims of the policy in `dir` mean for a configuration: the one that is named, or the usual one where it takes
 * its policy from `dir`. Null: there is none.
 */
export async function routesReport(
  dir: string,
  claims: readonly RouteClaim[],
  named: string | undefined,
  io: Io,
): Promise<RoutesReport | null> {
  const config =
    named === undefined ? await usualConfig(dir, io) : (await requireConfig(configFile(named, io), io)).config;
  if (config === null) return null;
  const routes = bindableRoutes(config);
  const findings = claimsOnNothing(routes, claims).map((claim): LintFinding => {
    const [, file = '', at = '0'] = /^(.*):(\d+)$/.exec(claim.at ?? '') ?? [];
    const message = nothingText({ ...claim, at: null });
    return { file, line: Number(at), column: 1, severity: 'warning', code: 'unknown-route', message };
  });
  return { findings, routes: bindRoutes(routes, claims, config.policy.entrypoint) };
}

async function usualConfig(dir: string, io: Io): Promise<Config | null> {
  const file = configFile(undefined, io);
  if (!existsSync(file)) return null;
  const { config, baseDir } = await readConfigFile(file, io);
  const path = config === null ? null : bundlePath(config.policy.bundle);
  return path !== null && resolve(baseDir, path) === dir ? config : null;
}

/** Sentences on the routes that the policy of a configuration binds and that are not there; none where it cannot be read. */
export async function boundToNothing(config: Config, baseDir: string): Promise<readonly string[]> {
  const path = bundlePath(config.policy.bundle);
  if (path === null) return [];
  const bundle = resolve(baseDir, path);
  try {
    const { claims } = await loadBundle({ bundleDir: bundle, dataFile: null }, signingRules(config.policy.bundle));
    return claimsOnNothing(bindableRoutes(config), claims).map(nothingText);
  } catch {
    // Whether there is a policy, and whether it and its keys can be used, is the doctor's question.
    return [];
  }
}

const WHO: Readonly<Record<string, string>> = {
  configuration: 'as the configuration says',
  bundle: 'as the policy says',
};

/** The routes as lines for people: those somebody spoke of, then the others together. */
export function* routeLines(routes: JsonValue | undefined, unknown: JsonValue | undefined): Generator<string> {
  const others = new Set<string>();
  let spoken = false;
  for (const { route, entrypoint, from } of objects(routes)) {
    const who = WHO[String(from)];
    if (who === undefined) others.add(String(entrypoint));
    else {
      spoken = true;
      yield `${route}: ${entrypoint}, ${who}`;
    }
  }
  for (const { route, entrypoint, at } of objects(unknown)) {
    yield `${route}: ${entrypoint}${typeof at === 'string' ? ` (${at})` : ''}, but the configuration has no such route`;
  }
  for (const entrypoint of others) yield `${spoken ? 'all others' : 'all routes'}: ${entrypoint}`;
}

function objects(value: JsonValue | undefined): readonly JsonObject[] {
  return Array.isArray(value) ? (value as readonly JsonValue[]).filter(isJsonObject) : [];
}
