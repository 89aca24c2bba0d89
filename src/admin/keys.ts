/** API key administration on the admin listener. Source: design "Keys service", acceptance H-17. */
import type { Context } from 'hono';
import { z } from 'zod';
import { GatewayError } from '../core/errors.ts';
import type { AdminAction, AdminEnv, AdminHono } from './app.ts';
import { invalid, readBody } from './body.ts';

/** Names end up in headers, logs and terminals, so they hold no control characters. */
const text = (max: number) =>
  z
    .string()
    .max(max)
    .regex(/^\P{Cc}*$/u, 'must not hold control characters');

/** What may be asked of a new key; the rest is the store's business. Times are RFC 3339. */
const request = z.strictObject({
  name: text(128).trim().min(1),
  tenant_id: text(128).min(1).default('default'),
  owner_id: text(256).min(1).optional(),
  type: z.enum(['service', 'user', 'agent']).default('service'),
  roles: z.array(text(128)).max(100).default([]),
  permissions: z.array(text(256)).max(1000).default([]),
  scopes: z.array(text(256)).max(1000).default([]),
  teams: z.array(text(128)).max(100).default([]),
  allowed_ips: z.array(text(64)).max(100).default([]),
  rate_limit_per_hour: z.int().min(1).nullable().default(null),
  expires_at: z.iso.datetime({ offset: true }).nullable().default(null),
});

const rotation = z.strictObject({ grace_hours: z.number().min(0).max(8760).default(24) });

export type KeyRequest = z.output<typeof request>;

/** The key service behind these endpoints. Descriptions of keys never hold a hash; `api_key` is shown once. */
export interface KeyAdmin {
  /** Rejects with a GatewayError for a request that is well-formed but not valid. */
  create(wanted: KeyRequest): Promise<{ readonly api_key: string; readonly key_id: string } & object>;
  /** One page in the order of ids; `tenant` null means all. */
  list(page: {
    readonly tenant: string | null;
    readonly after: string | null;
    readonly limit: number;
  }): Promise<readonly object[]>;
  /** False when there is no such key. */
  revoke(id: string): Promise<boolean>;
  /** Null when there is no such key that could be rotated. */
  rotate(id: string, graceMs: number): Promise<({ readonly api_key: string; readonly key_id: string } & object) | null>;
}

interface KeyEvents {
  onAction(action: AdminAction): void;
}

type C = Context<{ Bindings: AdminEnv }>;

const PAGE_LIMIT = 1000;

export function keyRoutes(app: AdminHono, keys: KeyAdmin, events: KeyEvents): void {
  const note = (c: C, operation: string, id: string | null): void =>
    events.onAction({
      received: c.env.received,
      operation,
      outcome: id === null ? 'failed' : 'allowed',
      details: { key_id: id },
    });

  app.post('/keys', async (c) => {
    const made = await keys.create(await readBody(c, request));
    note(c, 'keys:create', made.key_id);
    return c.json(made, 201);
  });
  app.get('/keys', async (c) => {
    const { tenant, after, limit } = c.req.query();
    const size = limit === undefined ? 100 : Number(limit);
    if (!Number.isInteger(size) || size < 1 || size > PAGE_LIMIT)
      throw invalid('limit', `must be from 1 to ${PAGE_LIMIT}`);
    return c.json({ items: await keys.list({ tenant: tenant ?? null, after: after ?? null, limit: size }) });
  });
  app.delete('/keys/:id', async (c) => {
    const id = c.req.param('id');
    const known = await keys.revoke(id);
    note(c, 'keys:revoke', known ? id : null);
    if (!known) throw new GatewayError('NOT_FOUND', { message: 'No such key' });
    return c.body(null, 204);
  });
  app.post('/keys/:id/rotate', async (c) => {
    const { grace_hours } = await readBody(c, rotation);
    const made = await keys.rotate(c.req.param('id'), grace_hours * 3_600_000);
    note(c, 'keys:rotate', made?.key_id ?? null);
    if (made === null) throw new GatewayError('NOT_FOUND', { message: 'No such key' });
    return c.json(made, 201);
  });
}
