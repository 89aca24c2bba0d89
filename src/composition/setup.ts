/**
 * A gateway inside a program of yours: `createGateway({ config, auth, storage })`, without a file. The configuration is
 * the one that a file would hold, and it is checked in the same way. Source: acceptance D-18.
 */
import { join, resolve } from 'node:path';
import { loadConfigText } from '../config/load.ts';
import type { Config, ConfigInput } from '../config/schema.ts';
import type { GatewayOptions } from '../gateway.ts';
import { GIVEN, PROGRAM_SCHEMA } from '../modules.ts';

export interface GatewaySetup extends GatewayOptions {
  /** What a configuration file would hold. Secrets are texts. */
  readonly config: Omit<ConfigInput, 'version'> & { readonly version?: 1 };
  /**
   * Where `${env:NAME}` and the variables of docs/configuration.md are read. Default: nowhere, for a program says what it
   * means. Pass `process.env` for what `portcullis serve` does.
   */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** A configuration that cannot be used: every problem at once, each with the setting it is about. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`the configuration is not usable\n${problems.join('\n')}`);
    this.problems = problems;
  }
}

/**
 * Checks a setup, for `createGateway` and for `Gateway.reload`. Routes that name no provider and are not anonymous get
 * those of `auth`, in their order. Throws a `ConfigError`.
 */
export function checkConfig({ config, auth = [], env = {}, baseDir }: GatewaySetup): Config {
  const names = auth.map(({ name }) => name);
  const taken = names.filter((name, at) => Object.hasOwn(config.identity ?? {}, name) || names.indexOf(name) !== at);
  if (taken.length > 0) throw new ConfigError(taken.map((name) => `auth: there are two providers "${name}"`));
  const ghosts = Object.entries(config.identity ?? {}).filter(
    ([, entry]) => Reflect.get(Object(entry), 'kind') === GIVEN,
  );
  if (ghosts.length > 0) throw new ConfigError(ghosts.map(([name]) => `identity.${name}: belongs into auth`));
  const given = Object.fromEntries(names.map((name) => [name, { kind: GIVEN }]));
  const routes = (config.routes ?? []).map((route) =>
    route.identity === undefined && route.anonymous !== true ? { ...route, identity: names } : route,
  );
  const text = JSON.stringify({ version: 1, ...config, identity: { ...config.identity, ...given }, routes });
  const loaded = loadConfigText(text, join(resolve(baseDir ?? process.cwd()), 'config'), {
    env,
    providers: PROGRAM_SCHEMA,
  });
  if (loaded.config === null)
    throw new ConfigError(loaded.problems.map(({ path, message }) => (path === '' ? message : `${path}: ${message}`)));
  return loaded.config;
}
