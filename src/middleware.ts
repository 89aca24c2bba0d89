/**
 * For services of your own that stand beside a gateway and not behind it: Hono middleware that lets in who has a token or
 * a key of the gateway's accounts and may do what is asked, and counts what each caller does.
 * `import { authenticate, requireAuth } from 'portcullis/middleware'`. Source: acceptance V-02, V-30, V-31.
 */
import { isIP } from 'node:net';
import type { Context, MiddlewareHandler } from 'hono';
import { coversAll } from './accounts/roles.ts';
import { type Clock, systemClock } from './core/clock.ts';
import { GatewayError, toGatewayError } from './core/errors.ts';
import { makeId } from './core/ids.ts';
import type { Logger } from './core/module.ts';
import { ANONYMOUS, type Principal } from './core/principal.ts';
import { Secret } from './core/secret.ts';
import { AuthService } from './identity/auth-service.ts';
import { isFetchable } from './identity/key-fetch.ts';
import { parseKey } from './identity/key-format.ts';
import { problem } from './protocols/problem.ts';
import { createMemoryShared } from './stores/memory-shared.ts';

export type { Principal } from './core/principal.ts';

/** `new Hono<AuthEnv>()`: then `c.get('principal')` has its type in every handler. */
export interface AuthEnv {
  Variables: { principal: Principal };
}

export interface AuthConfig {
  /** Address of the gateway, or of its listener for accounts; https, or http to this machine. */
  readonly auth_service_url: string;
  /** The gateway's `JWT_SECRET_KEY`, where it signs with HS256. Otherwise its published keys are used. */
  readonly jwt_secret_key?: string;
  /** What every caller must have (all of it), whatever the route asks for. */
  readonly required_permissions?: readonly string[];
  /** Lets requests without a credential through as `anonymous`; a bad credential is refused all the same. */
  readonly allow_anonymous?: boolean;
  /** Default `X-API-Key`. */
  readonly api_key_header?: string;
  /** Paths that need no credential, compared whole. Default: none; `PUBLIC_PATHS` are the usual ones. */
  readonly public_paths?: readonly string[];
  /** Issuer of the tokens (`accounts.tokens.issuer` or `public_url` of the gateway). Default `urn:portcullis:accounts`. */
  readonly issuer?: string;
  /** Default: the issuer. */
  readonly audience?: string;
  /** Seconds after which a revocation counts here at the latest: 0 to 60, default 10. */
  readonly cache_seconds?: number;
  /**
   * From where a request comes, as `192.0.2.7` or `2001:db8::7`: the address of the connection, or what a proxy of yours says.
   * Without it keys that are bound to addresses are refused. It needs `service_key`.
   */
  readonly client_address?: (c: Context<AuthEnv>) => string;
  /** A key of this service that holds `api_keys.verify`, with which the gateway believes `client_address`. */
  readonly service_key?: string;
  /** Milliseconds for one question to the gateway. Default 1,500. */
  readonly timeout_ms?: number;
  readonly logger?: Pick<Logger, 'warn'>;
  readonly clock?: Clock;
  readonly fetch?: typeof globalThis.fetch;
}

/** What services of this kind leave open: health, documentation, login and registration. */
export const PUBLIC_PATHS: readonly string[] = Object.freeze([
  '/health',
  '/docs',
  '/openapi.json',
  '/redoc',
  '/auth/login',
  '/auth/register',
]);

const ISSUER = 'urn:portcullis:accounts';
const MIN_SECRET = 32;
const silent = () => {};

/**
 * Finds out who asks, and keeps it as `c.get('principal')`; put it before everything else. 401 for a bad credential or
 * none, 403 without `required_permissions`, 503 while the gateway cannot be asked. Throws TypeError for a setting that
 * would leave the service open.
 */
export function authenticate(config: AuthConfig): MiddlewareHandler<AuthEnv> {
  const service = new AuthService(serviceOptions(config));
  const header = (config.api_key_header ?? 'x-api-key').toLowerCase();
  const required = textsOf(config.required_permissions, 'required_permissions');
  const open = new Set(textsOf(config.public_paths, 'public_paths'));
  if (config.allow_anonymous === true && required.length > 0) {
    throw new TypeError('allow_anonymous and required_permissions contradict each other');
  }
  return guarded(async (c) => {
    const headers = presented(c, header);
    const isAsked = Object.keys(headers).length > 0;
    const found = await service.authenticate(headers, isAsked ? addressOf(config, c) : null);
    if (found instanceof GatewayError) return found;
    const isOpen = config.allow_anonymous === true || open.has(c.req.path);
    if (found === null && !isOpen) return missing();
    c.set('principal', found ?? ANONYMOUS);
    return found === null || coversAll(found.permissions, required) ? null : denied(required);
  });
}

export interface RequireOptions {
  /** Whether all of the permissions are needed (the default) or one of them is enough. */
  readonly mode?: 'allOf' | 'anyOf';
}

/**
 * Lets through who holds these permissions, by segments: `tasks.*` covers `tasks.read`. An empty list asks for somebody
 * who is known. It needs `authenticate` before it: without, every request is refused.
 */
export function requireAuth(
  permissions: readonly string[] = [],
  { mode = 'allOf' }: RequireOptions = {},
): MiddlewareHandler<AuthEnv> {
  if (mode !== 'allOf' && mode !== 'anyOf') throw new TypeError('mode: allOf or anyOf');
  textsOf(permissions, 'permissions');
  return guarded(async (c) => {
    const principal = c.get('principal') as Principal | undefined;
    if (principal === undefined || principal.type === 'anonymous') return missing();
    const holds = (one: string) => coversAll(principal.permissions, [one]);
    const isMet = mode === 'allOf' || permissions.length === 0 ? permissions.every(holds) : permissions.some(holds);
    return isMet ? null : denied(permissions);
  });
}

export interface RateLimitOptions {
  readonly limit: number;
  readonly window_seconds: number;
  /** Where an anonymous caller comes from; without it all of them count as one. */
  readonly address?: (c: Context<AuthEnv>) => string;
  readonly clock?: Clock;
}

/** A token bucket for each caller in this process; 429 with `Retry-After` when it is empty. It needs `authenticate` before it. */
export function rateLimit({ limit, window_seconds, address, clock }: RateLimitOptions): MiddlewareHandler<AuthEnv> {
  if (!(limit > 0 && window_seconds > 0)) throw new TypeError('limit and window_seconds: numbers above 0');
  const buckets = createMemoryShared(clock === undefined ? {} : { clock });
  return guarded(async (c) => {
    const principal = c.get('principal') as Principal | undefined;
    if (principal === undefined) return missing();
    const isKnown = principal.type !== 'anonymous';
    const key = JSON.stringify(isKnown ? [principal.tenant_id, principal.id] : [address?.(c) ?? '']);
    const { isAllowed, remaining, fullInMs, retryInMs } = await buckets.take(key, {
      limit,
      windowMs: window_seconds * 1000,
    });
    c.header('RateLimit-Policy', `"default";q=${limit};w=${window_seconds}`);
    c.header('RateLimit', `"default";r=${remaining};t=${Math.ceil(fullInMs / 1000)}`);
    if (isAllowed) return null;
    return new GatewayError('RATE_LIMIT_EXCEEDED', { retryAfter: Math.max(1, Math.ceil(retryInMs / 1000)) });
  });
}

/** Goes on only when there is nothing to object; what nobody expected ends the request as well. */
function guarded(check: (c: Context<AuthEnv>) => Promise<GatewayError | null>): MiddlewareHandler<AuthEnv> {
  return async (c, next) => {
    const refusal = await check(c).catch(toGatewayError);
    if (refusal === null) return next();
    const context = { requestId: makeId('req_', Date.now()), decisionId: null, rpcId: undefined };
    const { status, headers, body } = problem(refusal, context, null);
    for (const [name, value] of Object.entries(headers)) c.header(name, String(value));
    return c.body(String(body), status as 401);
  };
}

/** Null where the service does not say. Throws TypeError for what is no address: nobody can say then where a key may be used. */
function addressOf({ client_address }: AuthConfig, c: Context<AuthEnv>): string | null {
  if (client_address === undefined) return null;
  // As a socket for both kinds of address tells the old kind.
  const address = String(client_address(c)).replace(/^::ffff:(?=[\d.]+$)/i, '');
  if (isIP(address) === 0) throw new TypeError('client_address: no IP address');
  return address;
}

function presented(c: Context<AuthEnv>, keyHeader: string): Record<string, string> {
  const headers: Record<string, string> = {};
  const authorization = c.req.header('authorization');
  const key = c.req.header(keyHeader);
  if (authorization !== undefined) headers.authorization = authorization;
  if (key !== undefined) headers['x-api-key'] = key;
  return headers;
}

/** Programs without types may give one text, whose letters would be taken for a list: `/` of `/health` opens a page. */
function textsOf(list: readonly string[] | undefined, setting: string): readonly string[] {
  if (list === undefined) return [];
  if (Array.isArray(list) && list.every((one) => typeof one === 'string' && one !== '')) return list;
  throw new TypeError(`${setting}: a list of texts`);
}

function serviceOptions(config: AuthConfig) {
  // A variable that is not set comes as undefined, whatever the type says.
  const url = String(config.auth_service_url ?? '').replace(/\/+$/, '');
  if (!isFetchable(url) || url.includes('?')) {
    throw new TypeError('auth_service_url: https, or http to this machine, without credentials and query');
  }
  const { jwt_secret_key: secret, cache_seconds = 10, timeout_ms = 1500 } = config;
  if (secret !== undefined && Buffer.byteLength(secret) < MIN_SECRET) {
    throw new TypeError(`jwt_secret_key: at least ${MIN_SECRET} bytes`);
  }
  if (!(cache_seconds >= 0 && cache_seconds <= 60)) throw new TypeError('cache_seconds: 0 to 60');
  if (!(timeout_ms > 0)) throw new TypeError('timeout_ms: a number above 0');
  const { client_address, service_key } = config;
  if ((client_address === undefined) !== (service_key === undefined)) {
    throw new TypeError('client_address and service_key: both or neither');
  }
  if (client_address !== undefined && typeof client_address !== 'function') {
    throw new TypeError('client_address: a function of the request');
  }
  if (service_key !== undefined && parseKey(service_key) === null) {
    throw new TypeError('service_key: not a key of the gateway');
  }
  const issuer = config.issuer ?? ISSUER;
  const warn = config.logger?.warn.bind(config.logger) ?? silent;
  return {
    ...{ url, issuer, audience: config.audience ?? issuer, timeoutMs: timeout_ms, cacheMs: cache_seconds * 1000 },
    secret: secret === undefined ? null : new Secret(secret),
    serviceKey: service_key === undefined ? null : new Secret(service_key),
    clock: config.clock ?? systemClock,
    logger: { debug: silent, info: silent, warn, error: warn },
    fetch: config.fetch ?? globalThis.fetch,
  };
}

function missing(): GatewayError {
  return new GatewayError('MISSING_CREDENTIALS', { challenge: 'Bearer realm="portcullis"' });
}

function denied(permissions: readonly string[]): GatewayError {
  return new GatewayError('FORBIDDEN', { message: `Permission denied: ${permissions.join(', ')} is required` });
}
