/**
 * The composition root and the programmatic API: `createGateway(config)` gives a gateway that can be started, reloaded
 * and closed. A reload assembles a second generation, swaps one reference and disposes of the first once its requests
 * are done; a request keeps the generation it started with.
 */
import type { Socket } from 'node:net';
import { resolve } from 'node:path';
import { createAdminApp } from './admin/app.ts';
import { isAuthPath } from './composition/account-set.ts';
import { administrationParts, renderError } from './composition/administration.ts';
import type { Generation } from './composition/assembly.ts';
import { assemble } from './composition/assembly.ts';
import { type AskedResource, isAuthorized } from './composition/authorizing.ts';
import { answeredHosts, baseUrl, hostOf, refusedAddress, tlsFiles } from './composition/listening.ts';
import type { OpenPlatform, OwnStorage } from './composition/platform.ts';
import { credentialFacts, openPlatform, reportRefusal } from './composition/platform.ts';
import { reading } from './composition/setting-fault.ts';
import { checkConfig, type GatewaySetup } from './composition/setup.ts';
import type { Config } from './config/schema.ts';
import type { Action } from './core/call.ts';
import type { Clock } from './core/clock.ts';
import { GatewayError } from './core/errors.ts';
import type { Received } from './core/exchange.ts';
import type { Logger } from './core/module.ts';
import { fixedNodeRelease } from './core/node-release.ts';
import type { PrincipalFacts } from './core/principal.ts';
import { declaredAlike } from './core/tool-name.ts';
import type { Readiness } from './http/app.ts';
import { createHealthApp, isHealthPath } from './http/app.ts';
import { hostRule } from './http/host.ts';
import type { Door, DoorOptions } from './http/server.ts';
import { createDoor } from './http/server.ts';
import type { KeyIssuing, KeyRequest } from './identity/key-issuing.ts';
import { findGoodKey, issueKey } from './identity/key-issuing.ts';
import type { NamedOwnProvider } from './identity/own-provider.ts';
import { handle } from './pipeline/pipeline.ts';

/** What a program needs to make a gateway and to bring its own parts. */
export type { AskedResource } from './composition/authorizing.ts';
export { ListenError } from './composition/listening.ts';
export type { OwnStorage } from './composition/platform.ts';
export { ConfigError, checkConfig, type GatewaySetup } from './composition/setup.ts';
export type { Action } from './core/call.ts';
export type { Principal, PrincipalFacts } from './core/principal.ts';
export type { NamedOwnProvider, OwnCredential, OwnProvider } from './identity/own-provider.ts';
export type { AuthResult, IdentityFacts } from './identity/provider.ts';
/** What policies are given and answer, and what callers of the decision API read. */
export type { PolicyDecision } from './policy/decision-schema.ts';
export type { PolicyInput } from './policy/input.ts';
export type { A2aDecisionDocument, DecisionDocument } from './protocols/pdp/schemas.ts';
export type { Backend } from './stores/database.ts';
export type { Shared } from './stores/shared.ts';

export interface GatewayOptions {
  /** What relative paths of the configuration are relative to. Default: the working directory. */
  readonly baseDir?: string;
  /** Tests move time; refused in production mode. */
  readonly clock?: Clock;
  /** Where log lines go; standard error when absent. */
  readonly writeLog?: (line: string) => void;
  /** Providers of your own, besides those of the configuration; they are yours to close. */
  readonly auth?: readonly NamedOwnProvider[];
  /** Stores of your own, in place of the configured ones. */
  readonly storage?: OwnStorage;
  /** What `POST /reload` on the administration listener does; without it there is no such path. */
  readonly onReloadRequest?: () => Promise<void>;
}

/** A tool server as a client may see it. */
export interface ServerSummary {
  readonly name: string;
  readonly type: string;
  readonly dialect: string | null;
  readonly url: string;
  readonly tools: readonly string[];
}

export interface GatewayUrls {
  readonly data: string;
  readonly admin: string;
  /** Where accounts have a listener of their own. */
  readonly auth?: string;
}

export interface Gateway {
  /** Base URLs, once started. */
  readonly urls: GatewayUrls;
  readonly logger: Logger;
  readonly keys: {
    /** The text of a new key: it is shown here and kept nowhere. */
    create(request: KeyRequest): Promise<string>;
    isGood(key: string): Promise<boolean>;
  };
  servers(): readonly ServerSummary[];
  /** Whether a principal may do this to that, by the policy in use. What it does not decide is no. Never throws. */
  authorize(principal: PrincipalFacts, resource: AskedResource, action: Action): boolean;
  /** Opens both listeners. Rejects when an address is taken. */
  start(): Promise<void>;
  /** Swaps to another configuration; on any fault the running one stays and the promise rejects. */
  reload(config: Config): Promise<void>;
  /** Drains, flushes the audit, closes everything. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Makes a gateway from what a program has, or from a checked configuration. Nothing listens before `start`. Rejects with
 * a `ConfigError` that tells every problem, or with the reason why a store or a provider cannot be opened.
 */
export function createGateway(setup: GatewaySetup): Promise<Gateway>;
export function createGateway(config: Config, options?: GatewayOptions): Promise<Gateway>;
export async function createGateway(given: GatewaySetup | Config, options: GatewayOptions = {}): Promise<Gateway> {
  return 'config' in given ? openGateway(checkConfig(given), given) : openGateway(given, options);
}

async function openGateway(config: Config, options: GatewayOptions): Promise<Gateway> {
  if (options.clock !== undefined && config.mode === 'production')
    throw new Error('a test clock is refused in production mode');
  const platform = await openPlatform(config, { ...options, baseDir: resolve(options.baseDir ?? process.cwd()) });
  try {
    return new RunningGateway(platform, await assemble(config, platform), options.onReloadRequest ?? null);
  } catch (error) {
    await platform.close();
    throw error;
  }
}

type Listener = Pick<Config['listen']['data'], 'address'> & { readonly tls?: Config['listen']['data']['tls'] };

/** Parts of the configuration that the listeners and the platform were made with. */
const FIXED = [
  ...(['listen', 'public_url', 'allowed_hosts', 'trusted_proxies', 'cors', 'limits'] as const),
  ...(['stores', 'audit', 'logging', 'mode'] as const),
];

/** Only files of a listener's TLS can be at fault before it is opened. */
const tlsOf = (listener: keyof Config['listen']) => ['listen', listener, 'tls'];

/** A generation and the requests that still use it. */
interface Current {
  readonly generation: Generation;
  inFlight: number;
  retired: boolean;
}

class RunningGateway implements Gateway {
  readonly #platform: OpenPlatform;
  readonly #data: Door;
  readonly #admin: Door;
  /** Accounts only; null where the configuration names no such listener. */
  readonly #auth: Door | null;
  readonly logger: Logger;
  #current: Current;
  #urls: GatewayUrls = { data: '', admin: '' };
  #closing: Promise<void> | null = null;

  constructor(platform: OpenPlatform, generation: Generation, reloadConfig: (() => Promise<void>) | null) {
    this.#platform = platform;
    this.logger = platform.logging.component('gateway');
    this.#current = { generation, inFlight: 0, retired: false };
    platform.sensitiveParams = (server, tool) => this.#sensitiveParams(server, tool);
    platform.credentialFacts = (provider) => credentialFacts(this.#config, provider);
    const { data, auth } = this.#config.listen;
    this.#data = reading(tlsOf('data'), () => this.#openDataDoor(data, (path) => !isHealthPath(path)));
    this.#auth = auth === undefined ? null : reading(tlsOf('auth'), () => this.#openDataDoor(auth, isAuthPath));
    this.#admin = reading(tlsOf('admin'), () => this.#openAdminDoor(reloadConfig));
  }

  get urls(): GatewayUrls {
    return this.#urls;
  }

  get #config(): Config {
    return this.#current.generation.config;
  }

  get #issuing(): KeyIssuing {
    const { keys, pepper, clock, shared } = this.#platform;
    return { keys, pepper, clock, shared, environment: this.#config.environment };
  }

  readonly keys = {
    create: async (request: KeyRequest): Promise<string> => (await issueKey(this.#issuing, request)).key.reveal(),
    isGood: async (key: string): Promise<boolean> => (await findGoodKey(this.#issuing, key)) !== null,
  };

  servers(): readonly ServerSummary[] {
    return Object.entries(this.#config.servers).map(([name, server]) => ({
      name,
      type: server.type,
      dialect: server.dialect ?? null,
      url: `${this.#urls.data}${this.#config.routes.find((route) => route.protocol === 'mcp' && route.server === name)?.match ?? ''}`,
      tools: Object.keys(server.tools),
    }));
  }

  authorize(principal: PrincipalFacts, resource: AskedResource, action: Action): boolean {
    return isAuthorized(this.#platform, this.#current.generation.parts, { principal, resource, action });
  }

  async start(): Promise<void> {
    const { listen } = this.#config;
    const fixed = fixedNodeRelease(process.version);
    if (fixed !== null) this.logger.warn({ node: process.version, fixed_in: fixed }, 'node_lacks_security_fixes');
    await using opened = new AsyncDisposableStack();
    const open = async (door: Door, { address, tls }: Listener): Promise<string> => {
      const bound = await door.start().catch((error: unknown) => refusedAddress(error, address));
      opened.defer(() => door.close());
      return baseUrl(tls !== undefined, bound);
    };
    const data = await open(this.#data, listen.data);
    const auth = this.#auth === null || listen.auth === undefined ? {} : { auth: await open(this.#auth, listen.auth) };
    this.#urls = { data, admin: await open(this.#admin, listen.admin), ...auth };
    opened.move();
    const { auth: accounts, ...urls } = this.#urls;
    // A field called `auth` would be hidden as a secret.
    const places = accounts === undefined ? urls : { ...urls, accounts };
    this.logger.info({ ...places, revision: this.#current.generation.engine.revision }, 'ready');
  }

  async reload(config: Config): Promise<void> {
    const changed: string[] = FIXED.filter(
      (part) => JSON.stringify(config[part]) !== JSON.stringify(this.#config[part]),
    );
    // As text every secret looks the same. The administration token may change; what key hashes are made with may not.
    if (config.stores.pepper?.reveal() !== this.#config.stores.pepper?.reveal()) changed.push('stores.pepper');
    if (changed.length > 0) throw new Error(`a change of ${changed.join(', ')} needs a restart`);
    const generation = await assemble(config, this.#platform).catch((error: unknown) => {
      this.#platform.metrics.reload('config', false);
      throw error;
    });
    const old = this.#current;
    this.#current = { generation, inFlight: 0, retired: false };
    old.retired = true;
    this.#release(old);
    this.#platform.metrics.reload('config', true);
    this.logger.info({ revision: generation.engine.revision }, 'config_reloaded');
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    const { drain_ms } = this.#config.limits;
    const doors = this.#auth === null ? [this.#data] : [this.#data, this.#auth];
    const ends = await Promise.all(doors.map((door) => door.drain(drain_ms)));
    if (ends.some(({ drained }) => !drained)) this.logger.warn({ drain_ms }, 'drain_timed_out');
    for (const door of doors) await door.close();
    await this.#admin.close();
    await this.#current.generation[Symbol.asyncDispose]();
    this.logger.info({}, 'stopped');
    await this.#platform.close();
  }

  async #handle(received: Received): Promise<void> {
    const current = this.#current;
    current.inFlight += 1;
    this.#platform.metrics.started();
    try {
      await handle(current.generation.parts, received);
    } finally {
      this.#platform.metrics.finished();
      current.inFlight -= 1;
      this.#release(current);
    }
  }

  /** A retired generation goes with its last request. */
  #release(current: Current): void {
    if (!current.retired || current.inFlight > 0) return;
    current.generation[Symbol.asyncDispose]().then(undefined, (error: unknown) => {
      this.logger.error({ err: error }, 'generation_close_failed');
    });
  }

  #sensitiveParams(server: string | null, tool: string | null): readonly string[] {
    if (server === null || tool === null) return [];
    const tools = this.#config.servers[server]?.tools;
    return tools === undefined ? [] : (declaredAlike(tools, tool)?.sensitive_params ?? []);
  }

  /** `serves`: what goes through the pipeline; the rest is health, or nothing. */
  #openDataDoor({ address, tls }: Listener, serves: (path: string) => boolean): Door {
    const { limits, trusted_proxies, allowed_hosts, public_url, cors, mode } = this.#config;
    const app = createHealthApp({
      readiness: () => this.#readiness(),
      renderError,
      onDefect: (error, request_id) => this.logger.error({ err: error, request_id }, 'control_request_failed'),
    });
    return createDoor({
      listen: address,
      limits,
      tls: tlsFiles(tls, this.#platform.baseDir),
      trustedProxies: trusted_proxies,
      hosts: answeredHosts(hostRule(hostOf(address), allowed_hosts, mode), public_url),
      cors,
      guardsOrigin: (path) => this.#current.generation.parts.routes.find(path)?.protocol === 'mcp',
      isDataPath: serves,
      onRequest: (received) => this.#handle(received),
      onUpgrade: (received, socket, head) => this.#upgrade(received, socket, head),
      app: (request, env) => app.fetch(request, env),
      renderError,
      onRefused: (refusal) => reportRefusal(this.#platform, refusal),
      ...this.#doorFigures('http'),
    });
  }

  /** What all doors count and say. */
  #doorFigures(name: string): Pick<DoorOptions, 'onConnectionRefused' | 'onTlsReload' | 'clock' | 'logger'> {
    const { metrics, clock, logging } = this.#platform;
    return {
      clock,
      logger: logging.component(name),
      onConnectionRefused: (reason) => metrics.connectionRefused(reason),
      onTlsReload: (ok) => metrics.reload('tls', ok),
    };
  }

  #openAdminDoor(reloadConfig: (() => Promise<void>) | null): Door {
    const { listen, limits, mode, allowed_hosts } = this.#config;
    const { address, tls } = listen.admin;
    const app = createAdminApp(
      administrationParts({
        platform: this.#platform,
        generation: () => this.#current.generation,
        readiness: () => this.#readiness(),
        issuing: () => this.#issuing,
        reloadConfig,
      }),
    );
    return createDoor({
      listen: address,
      limits,
      tls: tlsFiles(tls, this.#platform.baseDir),
      trustedProxies: [],
      hosts: hostRule(hostOf(address), allowed_hosts, mode),
      cors: { origins: [], credentials: false, max_age_seconds: 0 },
      guardsOrigin: () => true,
      isDataPath: () => false,
      onRequest: () => undefined,
      app: (request, env) => app.fetch(request, env),
      renderError,
      ...this.#doorFigures('admin'),
    });
  }

  /** A WebSocket upgrade goes the same way as any request; the forward stage finds its socket here. */
  async #upgrade(received: Received, socket: Socket, head: Buffer): Promise<void> {
    const route = this.#current.generation.parts.routes.find(received.path);
    if (route !== null && route.protocol !== 'http') throw new GatewayError('NOT_IMPLEMENTED');
    this.#platform.upgrades.set(received, { socket, head });
    await this.#handle(received);
  }

  #readiness(): Readiness {
    const failing: string[] = [];
    if (this.#current.generation.engine.revision === null) failing.push('policy');
    if (!this.#platform.audit.status().healthy) failing.push('audit');
    if (this.#platform.switching.isStale) failing.push('switches');
    if (this.#data.draining) failing.push('draining');
    const warnings = this.#current.generation.engine.status().stale === true ? ['policy_stale'] : [];
    return { ready: failing.length === 0, failing, warnings };
  }
}
