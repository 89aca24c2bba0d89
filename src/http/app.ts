/** The control plane of the data listener: health. Other folders' apps are mounted on it by the composition root. */
import { Hono } from 'hono';
import type { GatewayError } from '../core/errors.ts';
import { GatewayError as Failure, toGatewayError } from '../core/errors.ts';
import type { Reply } from '../core/exchange.ts';
import type { ControlEnv } from './control.ts';

/** Whether the gateway should be sent traffic. */
export interface Readiness {
  readonly ready: boolean;
  /** Names of what is not usable, e.g. `policy`; shown to operators on the admin listener only. */
  readonly failing: readonly string[];
  /** What should be looked at though traffic may come, e.g. `policy_stale`. */
  readonly warnings?: readonly string[];
}

export interface HealthOptions {
  readiness(): Readiness | Promise<Readiness>;
  renderError(error: GatewayError, requestId: string): Reply;
  /** A handler threw something that is no GatewayError. */
  onDefect(error: unknown, requestId: string): void;
}

export type ControlHono = Hono<{ Bindings: ControlEnv }>;

/** Path -> what it asks: is the process alive, or is it ready for traffic. */
const HEALTH: Readonly<Record<string, 'live' | 'ready'>> = {
  __proto__: null as never,
  '/livez': 'live',
  '/live': 'live',
  '/readyz': 'ready',
  '/ready': 'ready',
  '/health': 'ready',
};

/** Exactly the health paths: `/healthXYZ` and `/health/` are none of them. */
export function isHealthPath(path: string): boolean {
  return HEALTH[path] !== undefined;
}

/** Answers the health paths, and whatever is mounted later; the rest is ROUTE_NOT_FOUND. */
export function createHealthApp(options: HealthOptions): ControlHono {
  const app: ControlHono = new Hono();
  const reply = (error: GatewayError, id: string): Response => {
    const { status, headers, body } = options.renderError(error, id);
    return new Response(typeof body === 'string' ? body : new Uint8Array(body), { status, headers: { ...headers } });
  };
  for (const [path, question] of Object.entries(HEALTH)) {
    app.get(path, async () => {
      if (question === 'live') return health(200, 'ok');
      const { ready } = await options.readiness();
      return ready ? health(200, 'ready') : health(503, 'not ready');
    });
    app.all(path, (c) => reply(new Failure('METHOD_NOT_ALLOWED'), c.env.received.id));
  }
  app.notFound((c) => reply(new Failure('ROUTE_NOT_FOUND'), c.env.received.id));
  app.onError((thrown, c) => {
    const error = toGatewayError(thrown);
    if (error.code === 'INTERNAL_ERROR') options.onDefect(thrown, c.env.received.id);
    return reply(error, c.env.received.id);
  });
  return app;
}

function health(status: number, text: string): Response {
  return Response.json({ status: text }, { status, headers: { 'cache-control': 'no-store' } });
}
