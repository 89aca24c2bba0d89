/** `/auth/api-keys`: keys that people make for their programs, never for more than they may themselves. Source: contracts 6, acceptance V-13 to V-15, V-27, VF-09. */
import { z } from 'zod';
import { GatewayError } from '../core/errors.ts';
import type { Admitted } from '../core/exchange.ts';
import type { Principal } from '../core/principal.ts';
import type { Secret } from '../core/secret.ts';
import type { Endpoint, EndpointReply, EndpointRequest } from '../protocols/endpoint.ts';
import type { ApiKeyRecord, ApiKeyStore } from '../stores/api-keys.ts';
import type { AccountReports } from './account.ts';
import { originOf, post } from './api.ts';
import { coversAll } from './roles.ts';
import type { RequireStanding } from './standing.ts';

/** What a key has to hold to make, replace or withdraw keys. */
export const MANAGE_KEYS = 'api_keys.create';
/** What keys of accounts begin with. */
export const ACCOUNT_KEY_PREFIX = 'vllm';
const DAY_MS = 86_400_000;
/** Keys of one owner that are good at the same time. */
const MAX_KEYS = 100;

/** A key that was just made. */
interface NewKey {
  readonly record: ApiKeyRecord;
  readonly key: Secret;
}

/** What a key is made of. */
export interface AccountKeyRequest {
  readonly name: string;
  readonly tenant_id: string;
  readonly owner_id: string;
  readonly type: Principal['type'];
  readonly username: string | null;
  readonly email: string | null;
  readonly roles: readonly string[];
  readonly permissions: readonly string[];
  readonly expires_at: number;
  readonly allowed_ips: readonly string[];
  readonly rate_limit_per_hour: number | null;
  readonly prefix: string;
}

export interface KeysApiOptions {
  readonly keys: Pick<ApiKeyStore, 'find' | 'list'>;
  readonly reports: AccountReports;
  readonly maxDays: number;
  issue(request: AccountKeyRequest): Promise<NewKey>;
  /** Null: no such key, or it is not live. */
  rotate(tenant: string, id: string): Promise<NewKey | null>;
  revoke(tenant: string, id: string): Promise<boolean>;
  readonly requireStanding: RequireStanding;
}

const permission = z
  .string()
  .regex(/^(\*|[\w-]+([.:][\w-]+)*([.:]\*)?)$/, 'a permission such as tasks.read or tasks.*');
const createBody = z.strictObject({
  name: z
    .string()
    .min(1)
    .max(100)
    .regex(/^[^\p{C}]*$/u, 'must not have control characters'),
  permissions: z.array(permission.max(128)).max(100).default([]),
  roles: z.array(z.string().max(32)).max(20).default([]),
  expires_in_days: z.coerce.number().int().min(1).max(3650).optional(),
});
type CreateBody = z.output<typeof createBody>;

export function keyEndpoints(options: KeysApiOptions): readonly Endpoint[] {
  const common = { access: 'authenticated', body: null } as const;
  return [
    post('/auth/api-keys', 'authenticated', createBody, (request) => create(options, request)),
    { ...common, method: 'GET', path: '/auth/api-keys', answer: (request) => list(options, request) },
    { ...common, method: 'DELETE', path: '/auth/api-keys/{id}', answer: (request) => revoke(options, request) },
    { ...common, method: 'POST', path: '/auth/api-keys/{id}/rotate', answer: (request) => rotate(options, request) },
  ];
}

async function create(
  options: KeysApiOptions,
  { exchange, body }: EndpointRequest<CreateBody>,
): Promise<EndpointReply> {
  const { principal, received } = exchange;
  requireMaker(options, exchange);
  if (!isWithin(body, principal)) {
    throw denied(options, exchange, 'A key cannot do more than who makes it', body.permissions);
  }
  const days = body.expires_in_days ?? Math.min(90, options.maxDays);
  if (days > options.maxDays) {
    throw new GatewayError('UNPROCESSABLE', { message: `expires_in_days: at most ${options.maxDays}` });
  }
  let live = 0;
  for await (const record of keysOf(options.keys, principal.tenant_id, principal.id)) {
    if (isLive(record, received.receivedAt)) live += 1;
  }
  if (live >= MAX_KEYS) {
    throw new GatewayError('CONFLICT', { message: `There are ${MAX_KEYS} keys already: withdraw one first` });
  }
  // A key that a key makes ends with it, and is bound to the same addresses and rate.
  const { key_id } = principal.auth;
  const parent = key_id === null ? null : await options.keys.find(key_id);
  const parentEnd = key_id === null ? null : principal.auth.expires_at;
  const wanted = received.receivedAt + days * DAY_MS;
  const issued = await options.issue({
    name: body.name,
    tenant_id: principal.tenant_id,
    owner_id: principal.id,
    type: principal.type,
    username: principal.username,
    email: principal.email,
    roles: body.roles,
    permissions: [...new Set(body.permissions)],
    allowed_ips: parent?.facts.allowed_ips ?? [],
    rate_limit_per_hour: parent?.facts.rate_limit_per_hour ?? null,
    expires_at: parentEnd === null ? wanted : Math.min(wanted, parentEnd * 1000),
    prefix: ACCOUNT_KEY_PREFIX,
  });
  await keepIfStanding(options, exchange, issued);
  report(options, exchange, 'api_key_created', issued.record, {});
  return { status: 201, body: shownOnce(issued) };
}

/**
 * Whose account is taken away has all keys withdrawn that are there: one that is made at this moment, or on a gateway that
 * does not know of it yet, would stay. So it is asked again once the key is there.
 */
async function keepIfStanding(options: KeysApiOptions, exchange: Admitted, { record }: NewKey): Promise<void> {
  try {
    await options.requireStanding(exchange);
  } catch (error) {
    await options.revoke(record.tenant_id, record.id);
    throw error;
  }
}

type Rights = Pick<Principal, 'permissions' | 'roles'> & Partial<Pick<Principal, 'scopes'>>;

/** True when `wanted` is nothing that `held` does not have. */
const isWithin = (wanted: Rights, held: Rights): boolean =>
  coversAll(held.permissions, wanted.permissions) &&
  coversAll([...held.permissions, ...(held.scopes ?? [])], wanted.scopes ?? []) &&
  wanted.roles.every((one) => held.roles.includes(one));

/**
 * True when a key is bound at least as much as the one that asks for another in its place: a key that may be used from one
 * address must not get hold of one that may be used from everywhere.
 */
function isAsBound(key: ApiKeyRecord, by: ApiKeyRecord): boolean {
  if (key.id === by.id) return true;
  const [mine, theirs] = [key.facts, by.facts];
  const within = (some: readonly string[], all: readonly string[]) => some.every((one) => all.includes(one));
  const isPlaced =
    theirs.allowed_ips.length === 0 || (mine.allowed_ips.length > 0 && within(mine.allowed_ips, theirs.allowed_ips));
  return (
    isPlaced &&
    (mine.rate_limit_per_hour ?? Number.POSITIVE_INFINITY) <=
      (theirs.rate_limit_per_hour ?? Number.POSITIVE_INFINITY) &&
    (key.expires_at ?? Number.POSITIVE_INFINITY) <= (by.expires_at ?? Number.POSITIVE_INFINITY) &&
    within(mine.teams, theirs.teams) &&
    within(mine.groups, theirs.groups) &&
    (theirs.mfa_verified || !mine.mfa_verified) &&
    (theirs.device_compliant || !mine.device_compliant)
  );
}

/** All keys of an owner, ended ones as well. */
export async function* keysOf(
  keys: Pick<ApiKeyStore, 'list'>,
  tenant: string,
  owner_id: string,
): AsyncGenerator<ApiKeyRecord> {
  for (let after: string | undefined; ; ) {
    const page = await keys.list(tenant, { owner_id, limit: MAX_PAGE, ...(after === undefined ? {} : { after }) });
    yield* page;
    after = page.at(-1)?.id;
    if (page.length < MAX_PAGE) return;
  }
}

/** Who acts for somebody makes no keys, and a key only where it was given that right. */
function requireMaker(options: KeysApiOptions, exchange: Admitted): void {
  const { actor, auth, permissions } = exchange.principal;
  if (actor !== null) throw denied(options, exchange, 'Keys are for who acts in their own right', [MANAGE_KEYS]);
  if (auth.method === 'api-key' && !coversAll(permissions, [MANAGE_KEYS])) {
    throw denied(options, exchange, `A key needs ${MANAGE_KEYS} to make keys`, [MANAGE_KEYS]);
  }
}

const time = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());

const isLive = ({ revoked_at, expires_at }: ApiKeyRecord, now: number): boolean =>
  revoked_at === null && (expires_at === null || expires_at > now);

function shownOnce({ record, key }: NewKey): object {
  return { api_key: key.reveal(), ...factsOf(record) };
}

const factsOf = ({ id, name, facts, expires_at, created_at }: ApiKeyRecord) => ({
  key_id: id,
  name,
  permissions: facts.permissions,
  expires_at: time(expires_at),
  created_at: time(created_at),
});

const MAX_PAGE = 1000;

async function list({ keys }: KeysApiOptions, { exchange }: EndpointRequest<unknown>): Promise<EndpointReply> {
  const { principal, received } = exchange;
  const records = await keys.list(principal.tenant_id, { owner_id: principal.id, limit: MAX_PAGE });
  const items = records.map((record) => ({
    ...factsOf(record),
    last_used: time(record.last_used_at),
    is_active: isLive(record, received.receivedAt),
  }));
  return { status: 200, body: { items } };
}

/** The caller's own key, or any of the tenant for an administrator; otherwise it is as if it were not there. */
async function findManaged({ keys }: KeysApiOptions, { exchange, params }: EndpointRequest<unknown>) {
  const { principal } = exchange;
  const record = await keys.find(params.id ?? '');
  const isAdmin = principal.permissions.includes('*');
  const isTheirs = record?.tenant_id === principal.tenant_id && (record.owner_id === principal.id || isAdmin);
  if (record === null || !isTheirs) throw new GatewayError('NOT_FOUND');
  return record;
}

async function revoke(options: KeysApiOptions, request: EndpointRequest<unknown>): Promise<EndpointReply> {
  const { exchange } = request;
  // What a key may always do is end itself.
  if (exchange.principal.auth.key_id !== request.params.id) requireMaker(options, exchange);
  const record = await findManaged(options, request);
  await options.revoke(record.tenant_id, record.id);
  report(options, exchange, 'api_key_revoked', record, { reason: 'withdrawn' });
  return { status: 204 };
}

async function rotate(options: KeysApiOptions, request: EndpointRequest<unknown>): Promise<EndpointReply> {
  const { exchange } = request;
  requireMaker(options, exchange);
  const record = await findManaged(options, request);
  const { principal } = exchange;
  // Whoever has fewer rights by now does not get a new key with the old ones.
  if (record.owner_id === principal.id && !isWithin(record.facts, principal)) {
    throw denied(options, exchange, 'A key cannot do more than who makes it', record.facts.permissions);
  }
  const { key_id } = principal.auth;
  const asking = key_id === null ? null : await options.keys.find(key_id);
  if (asking !== null && !isAsBound(record, asking)) {
    throw denied(options, exchange, 'A key replaces only keys that are bound as much as itself', [MANAGE_KEYS]);
  }
  await options.requireStanding(exchange);
  const issued = await options.rotate(record.tenant_id, record.id);
  if (issued === null) throw new GatewayError('CONFLICT', { message: 'The key has ended or was replaced before' });
  await keepIfStanding(options, exchange, issued);
  report(options, exchange, 'api_key_created', issued.record, { replaces: record.id });
  return { status: 201, body: shownOnce(issued) };
}

function report(
  { reports }: KeysApiOptions,
  exchange: Admitted,
  type: 'api_key_created' | 'api_key_revoked',
  { id, name, owner_id, tenant_id, facts }: ApiKeyRecord,
  more: Readonly<Record<string, unknown>>,
): void {
  const { principal } = exchange;
  reports.event({
    ...{ type, origin: originOf(exchange), account: { id: principal.id, tenant_id } },
    ...{ session_id: principal.auth.session_id, key_id: id },
    details: { name, owner_id, permissions: facts.permissions, ...more },
  });
}

function denied(
  { reports }: KeysApiOptions,
  exchange: Admitted,
  message: string,
  permissions: readonly string[],
): GatewayError {
  const { principal } = exchange;
  const { auth, id, tenant_id } = principal;
  reports.event({
    ...{ type: 'permission_denied', origin: originOf(exchange), account: { id, tenant_id } },
    ...{ session_id: auth.session_id, key_id: auth.key_id, details: { permissions } },
  });
  return new GatewayError('FORBIDDEN', { message: `Permission denied: ${message}` });
}
