/**
 * The administration listener. With the admin token everything; without one configured only health and metrics, so that
 * a forgotten token opens nothing. Source: contracts 4 and 5, design "Operations".
 */
import { Hono } from 'hono';
import { z } from 'zod';
import type { GatewayError } from '../core/errors.ts';
import { GatewayError as Failure, toGatewayError } from '../core/errors.ts';
import type { Received, Reply } from '../core/exchange.ts';
import type { Secret } from '../core/secret.ts';
import type { Invalidation } from '../policy/cache.ts';
import type { PolicyEngine } from '../policy/engine.ts';
import type { UpstreamHealth } from '../upstreams/upstream.ts';
import { readBody } from './body.ts';
import { type ExplainAdmin, explainRoutes } from './explain.ts';
import type { KeyAdmin } from './keys.ts';
import { keyRoutes } from './keys.ts';
import type { SwitchAdmin } from './switches.ts';
import { switchRoutes } from './switches.ts';

export interface AdminEnv {
  readonly received: Received;
}

export type AdminHono = Hono<{ Bindings: AdminEnv }>;

/** One thing an operator did or tried, for the audit trail. */
export interface AdminAction {
  readonly received: Received;
  /** E.g. `policy:reload`. */
  readonly operation: string;
  readonly outcome: 'allowed' | 'denied' | 'failed';
  readonly details: Readonly<Record<string, unknown>>;
}

export interface AdminParts {
  /** Bearer token, read for each request; null when the listener opens leaves only health and metrics. */
  readonly token: Secret | null;
  /** Answers health paths, and ROUTE_NOT_FOUND for what nobody serves. */
  health(request: Request, env: AdminEnv): Response | Promise<Response>;
  readonly metrics: { readonly contentType: string; text(): Promise<string> };
  /** State of every part, for `/health/detailed`: JSON, without secrets. */
  details(): Promise<Readonly<Record<string, unknown>>>;
  readonly policy: Pick<PolicyEngine, 'status' | 'reload'> & {
    /** Takes the last activation back and keeps it out; false when there is none before it. */
    rollback?(): boolean;
    /** What a candidate policy would decide otherwise; null when none is tried out. */
    shadow?(): object | null;
  };
  /** Remembered decisions. */
  readonly cache: {
    /** Forgets those that match; gives how many. */
    invalidate(what: Invalidation): number;
    size(): number;
    /** Makes every gateway forget what it knows of an API key. Rejects when they cannot be told. */
    forgetKey?(id: string): Promise<void>;
  };
  readonly upstreams: {
    states(): Readonly<Record<string, UpstreamHealth>>;
    /** Closes the breaker; false when there is no such upstream. */
    reset(name: string): boolean;
  };
  /** The running configuration with secrets redacted. */
  config(): unknown;
  /** Reads the configuration file again; rejects with a sentence for the operator. Null when there is no file to read. */
  readonly reloadConfig: (() => Promise<void>) | null;
  readonly version: Readonly<Record<string, string>>;
  /** API key administration; null when there is no key store. */
  readonly keys: KeyAdmin | null;
  /** Why the policy decides what it decides; absent where nobody can say. */
  readonly explain?: ExplainAdmin;
  /** What is switched off; null when nothing can be. */
  readonly switches: SwitchAdmin | null;
  onAction(action: AdminAction): void;
  renderError(error: GatewayError, requestId: string): Reply;
  onDefect(error: unknown, requestId: string): void;
}

export function createAdminApp(parts: AdminParts): AdminHono {
  const app: AdminHono = new Hono();
  if (parts.token !== null) {
    app.use('*', async (c, next) => {
      const { received } = c.env;
      if (!isProtected(received.path)) return next();
      authorize(parts, received);
      await next();
      c.res.headers.set('cache-control', 'no-store');
    });
    policyRoutes(app, parts);
    rollbackRoute(app, parts);
    if (parts.explain !== undefined) explainRoutes(app, parts.explain, parts);
    cacheRoutes(app, parts);
    upstreamRoutes(app, parts);
    app.get('/health/detailed', async (c) => c.json(await parts.details()));
    configRoutes(app, parts);
    app.get('/config', (c) => c.json(parts.config() as object));
    app.get('/version', (c) => c.json(parts.version));
    if (parts.keys !== null) keyRoutes(app, parts.keys, parts);
    if (parts.switches !== null) switchRoutes(app, parts.switches, parts);
  }
  app.get('/metrics', async () => {
    return new Response(await parts.metrics.text(), { headers: { 'content-type': parts.metrics.contentType } });
  });
  app.notFound((c) => parts.health(c.req.raw, c.env));
  app.onError((thrown, c) => {
    const { id } = c.env.received;
    const error = toGatewayError(thrown);
    if (error.code === 'INTERNAL_ERROR') parts.onDefect(thrown, id);
    const { status, headers, body } = parts.renderError(error, id);
    return new Response(typeof body === 'string' ? body : new Uint8Array(body), { status, headers: { ...headers } });
  });
  return app;
}

/** All but the health answers, which say one word and are asked by machines without credentials. */
function isProtected(path: string): boolean {
  const open = ['/livez', '/readyz', '/live', '/ready', '/health'];
  return !open.includes(path);
}

const resetRequest = z.strictObject({ name: z.string().min(1).max(256) });

const CHALLENGE = 'Bearer realm="portcullis-admin"';

/** Runs before a path is even looked up, so that a caller without the token cannot tell which paths exist. */
function authorize(parts: AdminParts, received: Received): void {
  const header = received.headers.authorization;
  if (header === undefined) throw new Failure('MISSING_CREDENTIALS', { challenge: CHALLENGE });
  const presented = /^bearer +([^\s]+)$/i.exec(header)?.[1];
  if (presented !== undefined && parts.token?.equals(presented) === true) return;
  const details = { method: received.method, path: received.path.slice(0, 256) };
  parts.onAction({ received, operation: 'authenticate', outcome: 'denied', details });
  throw new Failure('INVALID_CREDENTIALS', { challenge: `${CHALLENGE}, error="invalid_token"` });
}

function policyRoutes(app: AdminHono, parts: AdminParts): void {
  app.get('/policy/status', (c) => c.json(parts.policy.status()));
  app.get('/policy/shadow', (c) => {
    const status = parts.policy.shadow?.() ?? null;
    if (status === null) throw new Failure('NOT_FOUND', { message: 'No candidate is tried out: set policy.shadow' });
    return c.json(status);
  });
  app.post('/policy/reload', async (c) => {
    const { received } = c.env;
    const status = await parts.policy.reload();
    const failed = status.last_error !== null;
    const details = { revision: status.revision, error: status.last_error };
    parts.onAction({ received, operation: 'policy:reload', outcome: failed ? 'failed' : 'allowed', details });
    // The old policy stays in force when the new one is refused: the request was understood but could not be done.
    return c.json(status, failed ? 422 : 200);
  });
}

function rollbackRoute(app: AdminHono, parts: AdminParts): void {
  app.post('/policy/rollback', (c) => {
    const { received } = c.env;
    const from = parts.policy.status().revision;
    const done = parts.policy.rollback?.() ?? false;
    const status = parts.policy.status();
    const details = { revision: status.revision, from };
    parts.onAction({ received, operation: 'policy:rollback', outcome: done ? 'allowed' : 'failed', details });
    if (!done)
      throw new Failure('CONFLICT', { message: 'It was rolled back already, or there is no policy before this one' });
    return c.json(status);
  });
}

function configRoutes(app: AdminHono, parts: AdminParts): void {
  const { reloadConfig } = parts;
  if (reloadConfig === null) return;
  app.post('/reload', async (c) => {
    const { received } = c.env;
    const refused = await reloadConfig().then(
      () => null,
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    );
    const outcome = refused === null ? 'allowed' : 'failed';
    parts.onAction({ received, operation: 'config:reload', outcome, details: { error: refused } });
    // As with a policy: the running configuration stays when the new one is refused.
    return c.json({ reloaded: refused === null, error: refused }, refused === null ? 200 : 422);
  });
}

const name = z.string().min(1).max(1024).optional();
const invalidation = z.strictObject({ tenant: name, user: name, server: name, tool: name });

function cacheRoutes(app: AdminHono, parts: AdminParts): void {
  // An empty body means everything: a name that is misspelled is refused, so it cannot come to mean that.
  app.post('/cache/invalidate', async (c) => {
    const { received } = c.env;
    const what = await readBody(c, invalidation);
    const named = Object.fromEntries(Object.entries(what).filter(([, value]) => value !== undefined));
    const invalidated = parts.cache.invalidate(named);
    const details = { ...named, invalidated };
    parts.onAction({ received, operation: 'cache:invalidate', outcome: 'allowed', details });
    return c.json({ invalidated, remaining: parts.cache.size() });
  });
  const { forgetKey } = parts.cache;
  if (forgetKey === undefined) return;
  // What a key service calls when it withdrew a key: the same answer for keys that nobody knows.
  app.delete('/cache/keys/:id', async (c) => {
    const { received } = c.env;
    const id = c.req.param('id').slice(0, 256);
    const told = await forgetKey(id).then(
      () => true,
      () => false,
    );
    const outcome = told ? 'allowed' : 'failed';
    parts.onAction({ received, operation: 'cache:forget-key', outcome, details: { key_id: id } });
    if (!told) throw new Failure('STORE_UNAVAILABLE', { retryAfter: 1 });
    return c.body(null, 204);
  });
}

function upstreamRoutes(app: AdminHono, parts: AdminParts): void {
  app.get('/breakers', (c) => {
    const states = parts.upstreams.states();
    return c.json({ items: Object.entries(states).map(([name, health]) => ({ name, ...health })) });
  });
  const reset = (received: Received, name: string): object => {
    const known = parts.upstreams.reset(name);
    const outcome = known ? 'allowed' : 'failed';
    parts.onAction({ received, operation: 'breaker:reset', outcome, details: { upstream: name.slice(0, 128) } });
    if (!known) throw new Failure('NOT_FOUND', { message: 'No such upstream' });
    return { name, ...parts.upstreams.states()[name] };
  };
  app.post('/breakers/:name/reset', (c) => c.json(reset(c.env.received, c.req.param('name'))));
  // Names of plain HTTP upstreams hold slashes, which a path cannot carry unambiguously.
  app.post('/breakers/reset', async (c) => c.json(reset(c.env.received, (await readBody(c, resetRequest)).name)));
}
