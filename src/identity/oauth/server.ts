/**
 * An authorization server as its discovery document describes it: asked for once, checked to be the issuer's own, asked
 * for again when it is old, and kept through a bounded outage. Source: RFC 8414 3.3, OpenID Connect Discovery 4.3,
 * acceptance S-63, security 2.4.
 */
import type { ClientAuth, ServerMetadata } from 'openid-client';
import { allowInsecureRequests, Configuration, customFetch, enableNonRepudiationChecks } from 'openid-client';
import type { Clock } from '../../core/clock.ts';
import type { JsonObject } from '../../core/json.ts';
import type { Logger } from '../../core/module.ts';
import { fetchDocument, isFetchable } from '../key-fetch.ts';
import type { ProviderHealth } from '../provider.ts';
import { readJsonObject } from '../strict-json.ts';
import { boundedFetch } from './wire.ts';

export interface ServerOptions {
  readonly provider: string;
  readonly issuer: string;
  readonly clientId: string;
  readonly authentication: ClientAuth;
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Endpoints that need no discovery, e.g. `introspection_endpoint`. Null: ask for the document. */
  readonly known: Readonly<Partial<ServerMetadata>> | null;
}

/** Milliseconds a document counts as fresh, and how long beyond that it serves while it cannot be renewed. */
const MAX_AGE_MS = 600_000;
const STALE_MS = 3_600_000;
/** Milliseconds between two tries while the issuer does not answer. */
const RETRY_MS = 5000;

const ENDPOINTS = [
  'authorization_endpoint',
  'token_endpoint',
  'introspection_endpoint',
  'userinfo_endpoint',
  'jwks_uri',
  'end_session_endpoint',
  'registration_endpoint',
  'device_authorization_endpoint',
  'revocation_endpoint',
] as const;

export class AuthorizationServer {
  readonly #options: ServerOptions;
  #configuration: Configuration | null = null;
  #loadedAt = 0;
  #triedAt = Number.NEGATIVE_INFINITY;
  #failing = false;
  #loading: Promise<void> | null = null;

  constructor(options: ServerOptions) {
    this.#options = options;
    if (options.known !== null) this.#configuration = this.#configure({ ...options.known, issuer: options.issuer });
  }

  get issuer(): string {
    return this.#options.issuer;
  }

  /** Null while the issuer has not said what it is, or not for too long. */
  async configuration(): Promise<Configuration | null> {
    if (this.#options.known !== null) return this.#configuration;
    const age = this.#options.clock.now() - this.#loadedAt;
    if (this.#configuration !== null && age <= MAX_AGE_MS) return this.#configuration;
    const mayServe = this.#configuration !== null && age <= MAX_AGE_MS + STALE_MS;
    // Who can be served meanwhile does not wait.
    const loading = this.#load();
    if (!mayServe) await loading;
    return this.#options.clock.now() - this.#loadedAt <= MAX_AGE_MS + STALE_MS ? this.#configuration : null;
  }

  #load(): Promise<void> {
    if (this.#loading !== null) return this.#loading;
    if (this.#options.clock.now() - this.#triedAt < RETRY_MS) return Promise.resolve();
    this.#loading = this.#loadOnce().finally(() => {
      this.#loading = null;
    });
    return this.#loading;
  }

  async #loadOnce(): Promise<void> {
    const { clock, issuer, logger, provider } = this.#options;
    this.#triedAt = clock.now();
    try {
      const document = readJsonObject(await fetchDocument(discoveryUrl(issuer)));
      const problem = document === null ? 'is no unambiguous JSON object' : documentProblem(document, issuer);
      if (document === null || problem !== null) throw new Error(problem ?? '');
      // Every member that is used was checked above; the others are not looked at.
      this.#configuration = this.#configure(document as unknown as ServerMetadata);
      this.#loadedAt = clock.now();
      this.#failing = false;
    } catch (error) {
      this.#failing = true;
      logger.warn({ provider, err: error }, 'the discovery document of the issuer could not be used');
    }
  }

  #configure(metadata: ServerMetadata): Configuration {
    const { authentication, clientId, timeoutMs } = this.#options;
    const made = new Configuration(metadata, clientId, {}, authentication);
    made[customFetch] = boundedFetch(timeoutMs);
    // The fetch above refuses plain http anywhere but on this machine.
    allowInsecureRequests(made);
    enableNonRepudiationChecks(made);
    return made;
  }

  async health(): Promise<ProviderHealth> {
    if ((await this.configuration()) === null) return { state: 'down', detail: 'no discovery document' };
    return this.#failing ? { state: 'degraded', detail: 'the discovery document cannot be renewed' } : { state: 'ok' };
  }
}

/** OpenID Connect Discovery 4.1: appended to the issuer, whose final slash does not count. */
export function discoveryUrl(issuer: string): string {
  return `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`;
}

/** What keeps a discovery document from being believed, in words for the operator; null for nothing. */
export function documentProblem(document: JsonObject, issuer: string): string | null {
  // Byte by byte: an issuer that is nearly the same is another one.
  if (document.issuer !== issuer) return 'names another issuer';
  // Plain http is for servers on this machine: one elsewhere has no business with what listens here.
  const scheme = issuer.startsWith('https:') ? 'https:' : '';
  for (const name of ENDPOINTS) {
    const value = document[name];
    if (value === undefined) continue;
    const isGood = typeof value === 'string' && isFetchable(value) && new URL(value).protocol.startsWith(scheme);
    if (!isGood) return `${name} is no URL that may be asked`;
  }
  for (const name of ['code_challenge_methods_supported', 'introspection_endpoint_auth_methods_supported']) {
    const value = document[name];
    if (value !== undefined && !(Array.isArray(value) && value.every((one) => typeof one === 'string'))) {
      return `${name} is no list of texts`;
    }
  }
  return null;
}
