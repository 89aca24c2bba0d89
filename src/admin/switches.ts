/** Switching principals, keys, tenants, servers and tools off and on, on the admin listener. Source: security 2.10. */
import type { Context } from 'hono';
import { z } from 'zod';
import { GatewayError } from '../core/errors.ts';
import type { SwitchedOff } from '../stores/switches.ts';
import type { AdminAction, AdminEnv, AdminHono } from './app.ts';
import { invalid, readBody } from './body.ts';

/** Names end up in logs and terminals, so they hold no control characters. */
const text = (max: number) =>
  z
    .string()
    .max(max)
    .regex(/^\P{Cc}*$/u, 'must not hold control characters')
    .refine((value) => value.isWellFormed(), 'must be well-formed text');
const name = text(512).min(1);

const common = {
  reason: text(500).default(''),
  public: z.boolean().default(false),
  until: z.iso.datetime({ offset: true }).nullable().default(null),
};
const plain = <K extends string>(kind: K) => z.strictObject({ kind: z.literal(kind), name, ...common });

const request = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('principal'), name, tenant: name.default('default'), ...common }),
  plain('key'),
  plain('tenant'),
  plain('server'),
  z.strictObject({ kind: z.literal('tool'), name, server: name, ...common }),
]);

/** What to switch off. `until` is epoch milliseconds. */
export type SwitchTarget = Pick<SwitchedOff, 'kind' | 'name' | 'within' | 'reason' | 'is_public' | 'until'>;

/** The switches behind these endpoints. */
export interface SwitchAdmin {
  list(): Promise<readonly SwitchedOff[]>;
  off(target: SwitchTarget, by: string): Promise<SwitchedOff>;
  /** Null when there is no such switch. */
  on(id: string): Promise<SwitchedOff | null>;
  /** Sentences on names that nothing is called by. */
  warnings(target: Pick<SwitchTarget, 'kind' | 'name' | 'within'>): Promise<readonly string[]>;
  now(): number;
}

interface SwitchEvents {
  onAction(action: AdminAction): void;
}

type C = Context<{ Bindings: AdminEnv }>;

const time = (ms: number | null) => (ms === null ? null : new Date(ms).toISOString());

/** A switch as commands and the API show it; times are RFC 3339. */
export function shownSwitch(record: SwitchedOff): Readonly<Record<string, unknown>> {
  const { id, kind, name, within, reason, is_public, created_by } = record;
  return {
    id,
    kind,
    name,
    ...(kind === 'principal' ? { tenant: within } : kind === 'tool' ? { server: within } : {}),
    reason,
    public: is_public,
    until: time(record.until),
    created_at: time(record.created_at),
    created_by,
  };
}

function targetOf(wanted: z.output<typeof request>, now: number): SwitchTarget {
  const until = wanted.until === null ? null : Date.parse(wanted.until);
  if (until !== null && !(until > now)) throw invalid('until', 'must be in the future');
  const within = wanted.kind === 'principal' ? wanted.tenant : wanted.kind === 'tool' ? wanted.server : '';
  const { kind, name, reason } = wanted;
  return { kind, name, within, reason, is_public: wanted.public, until };
}

export function switchRoutes(app: AdminHono, switches: SwitchAdmin, events: SwitchEvents): void {
  app.get('/switches', async (c) => c.json({ items: (await switches.list()).map(shownSwitch) }));
  app.post('/switches', async (c) => {
    const { received } = c.env;
    const target = targetOf(await readBody(c, request), switches.now());
    const shown = shownSwitch(await switches.off(target, `admin:${received.peer.address}`));
    events.onAction({ received, operation: 'switch:off', outcome: 'allowed', details: shown });
    return c.json({ ...shown, warnings: await switches.warnings(target) }, 201);
  });
  const on = async (c: C, id: string) => {
    const { received } = c.env;
    const record = await switches.on(id);
    const details = record === null ? { id: id.slice(0, 64) } : shownSwitch(record);
    events.onAction({ received, operation: 'switch:on', outcome: record === null ? 'failed' : 'allowed', details });
    if (record === null) throw new GatewayError('NOT_FOUND', { message: 'No such switch' });
    return shownSwitch(record);
  };
  app.delete('/switches/:id', async (c) => {
    await on(c, c.req.param('id'));
    return c.body(null, 204);
  });
  app.post('/switches/:id/on', async (c) => c.json(await on(c, c.req.param('id'))));
}
