/**
 * `/api/v1/keys`: keys for callers who may manage some, each with no more rights than the caller holds. Another gateway
 * asks here whether a key is good (`key-validation.ts`). Source: acceptance H-12, HW-07, HW-08, design 2.8.
 */
import { z } from 'zod';
import { GatewayError } from '../core/errors.ts';
import type { Admitted } from '../core/exchange.ts';
import type { Principal } from '../core/principal.ts';
import type { PermissionRule } from '../core/route.ts';
import type { Endpoint, EndpointReply, EndpointRequest } from '../protocols/endpoint.ts';
import type { ApiKeyFacts, ApiKeyRecord } from '../stores/api-keys.ts';
import type { KeyUsageStore } from '../stores/key-usage.ts';
import { addressList, type IssuedKey, issueKey, type KeyIssuing, revokeKey, rotateKey } from './key-issuing.ts';

export interface KeyServiceOptions {
  readonly issuing: KeyIssuing;
  readonly usage: KeyUsageStore;
  /** Of new keys. */
  readonly prefix: string;
  /** What a new key is for when the caller does not say. */
  readonly serviceId: string;
  /** Asks the policy whether the caller holds all these permissions. */
  holds(exchange: Admitted, permissions: readonly string[]): boolean;
}

const PATH = '/api/v1/keys';
/** Whoever holds it manages the keys of the tenant, not only own ones. */
const EVERYTHING = 'keys:*';
/** Requests an hour, when the caller does not say. */
const DEFAULT_LIMIT = 1000;
const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

const ENVIRONMENTS = {
  production: 'production',
  staging: 'staging',
  test: 'staging',
  development: 'development',
} as const;

const text = (max: number) =>
  z
    .string()
    .trim()
    .min(1)
    .max(max)
    .regex(/^\P{Cc}*$/u, 'must not hold control characters');
const words = z.array(text(256)).max(1000).default([]);

const creation = z
  .strictObject({
    name: text(128),
    service_id: text(128).optional(),
    environment: z.enum(['production', 'staging', 'test', 'development']).default('production'),
    scopes: words,
    permissions: words,
    roles: words,
    allowed_ips: z.array(text(64)).max(100).default([]),
    rate_limit_per_hour: z.int().min(1).max(1_000_000_000).optional(),
    expires_at: z.iso.datetime({ offset: true }).optional(),
    expires_in_days: z.int().min(1).max(36_500).optional(),
    owner_id: text(256).optional().describe('whom the key stands for; only for those who manage the keys of others'),
  })
  .refine((body) => body.expires_at === undefined || body.expires_in_days === undefined, {
    message: 'give either expires_at or expires_in_days',
  });
type Creation = z.output<typeof creation>;

const rotation = z.strictObject({ grace_hours: z.number().min(0).max(8760).default(24) });
type Rotation = z.output<typeof rotation>;

const rule = (action: string): PermissionRule => ({ allOf: [`keys:${action}`] });

export function keyServiceEndpoints(options: KeyServiceOptions): readonly Endpoint[] {
  return [
    {
      method: 'POST',
      path: PATH,
      access: rule('create'),
      body: { schema: creation },
      answer: (request) => create(options, request as EndpointRequest<Creation>),
    },
    { method: 'GET', path: PATH, access: rule('list'), body: null, answer: (request) => list(options, request) },
    {
      method: 'DELETE',
      path: `${PATH}/{id}`,
      access: rule('revoke'),
      body: null,
      answer: (request) => revoke(options, request),
    },
    {
      method: 'POST',
      path: `${PATH}/{id}/rotate`,
      access: rule('rotate'),
      body: { schema: rotation },
      answer: (request) => rotate(options, request as EndpointRequest<Rotation>),
    },
    {
      method: 'GET',
      path: `${PATH}/{id}/usage`,
      access: rule('list'),
      body: null,
      answer: (request) => usage(options, request),
    },
  ];
}

async function create(
  options: KeyServiceOptions,
  { exchange, body }: EndpointRequest<Creation>,
): Promise<EndpointReply> {
  const { principal } = exchange;
  refuseDelegated(principal);
  const isAdmin = options.holds(exchange, [EVERYTHING]);
  const restrictions = await restrictionsOf(options, principal, isAdmin, body);
  requireWithin(options, exchange, isAdmin, body);
  if (!isAdmin && body.owner_id !== undefined && body.owner_id !== principal.id) {
    throw new GatewayError('FORBIDDEN', { message: 'A key for somebody else needs keys:*' });
  }
  const issuing = { ...options.issuing, environment: ENVIRONMENTS[body.environment] };
  const own = isAdmin ? {} : { owner_id: principal.id };
  const issued = await issueKey(issuing, {
    name: body.name,
    tenant_id: principal.tenant_id,
    ...own,
    ...(body.owner_id === undefined ? {} : { owner_id: body.owner_id }),
    prefix: options.prefix,
    scopes: body.scopes,
    permissions: body.permissions,
    roles: body.roles,
    metadata: { service_id: body.service_id ?? options.serviceId },
    ...restrictions,
  });
  return { status: 201, body: withText(issued) };
}

/** What was lent for a while must not become a credential that stays. */
function refuseDelegated({ actor }: Principal): void {
  if (actor !== null) throw new GatewayError('FORBIDDEN', { message: 'Keys are not managed on behalf of others' });
}

type Rights = Pick<Creation, 'scopes' | 'permissions'> & { readonly roles: readonly string[] };

/** Nobody gives what he does not hold; the policy knows what roles bring along. */
function requireWithin(options: KeyServiceOptions, exchange: Admitted, isAdmin: boolean, wanted: Rights): void {
  if (isAdmin) return;
  const { roles } = exchange.principal;
  const permissions = [...wanted.scopes, ...wanted.permissions];
  const isWithin = wanted.roles.every((role) => roles.includes(role));
  if (isWithin && (permissions.length === 0 || options.holds(exchange, permissions))) return;
  throw new GatewayError('FORBIDDEN', { message: 'A key cannot have roles, permissions or scopes you do not have' });
}

/** A key that is bound to addresses or to a rate, or ends, makes no key that is not or that stays. */
async function restrictionsOf(
  { issuing }: KeyServiceOptions,
  principal: Principal,
  isAdmin: boolean,
  body: Creation,
): Promise<Pick<ApiKeyFacts, 'allowed_ips' | 'rate_limit_per_hour'> & Pick<ApiKeyRecord, 'expires_at'>> {
  checkAddresses(body.allowed_ips);
  const { key_id } = principal.auth;
  const asking = isAdmin || key_id === null ? null : await issuing.keys.find(key_id);
  const bound = asking?.facts.allowed_ips ?? [];
  const most = asking?.facts.rate_limit_per_hour ?? Number.POSITIVE_INFINITY;
  const rate_limit_per_hour = body.rate_limit_per_hour ?? Math.min(DEFAULT_LIMIT, most);
  if (bound.length > 0 && !body.allowed_ips.every((range) => bound.includes(range))) {
    throw new GatewayError('FORBIDDEN', { message: 'Your own key may not be used from all these addresses' });
  }
  if (rate_limit_per_hour > most) {
    throw new GatewayError('FORBIDDEN', { message: `Your own key has ${most} requests an hour` });
  }
  const wanted = expiryOf(body, issuing.clock.now());
  const last = asking?.expires_at ?? null;
  const expires_at = last === null ? wanted : Math.min(last, wanted ?? last);
  return { allowed_ips: body.allowed_ips.length === 0 ? bound : body.allowed_ips, rate_limit_per_hour, expires_at };
}

function checkAddresses(ranges: readonly string[]): void {
  try {
    addressList(ranges);
  } catch (error) {
    throw new GatewayError('UNPROCESSABLE', { message: `allowed_ips: ${(error as Error).message}` });
  }
}

function expiryOf({ expires_at, expires_in_days }: Creation, now: number): number | null {
  if (expires_in_days !== undefined) return now + expires_in_days * DAY_MS;
  if (expires_at === undefined) return null;
  const at = Date.parse(expires_at);
  if (at <= now) throw new GatewayError('UNPROCESSABLE', { message: 'expires_at: must be in the future' });
  return at;
}

async function list(options: KeyServiceOptions, { exchange, query }: EndpointRequest<unknown>): Promise<EndpointReply> {
  const { principal } = exchange;
  const limit = Number(query.get('limit') ?? 100);
  if (!Number.isInteger(limit) || limit < 1 || limit > 1000) {
    throw new GatewayError('INVALID_REQUEST', { message: 'limit: a whole number from 1 to 1000' });
  }
  const after = query.get('after');
  const records = await options.issuing.keys.list(principal.tenant_id, {
    limit,
    ...(after === null ? {} : { after }),
    ...(options.holds(exchange, [EVERYTHING]) ? {} : { owner_id: principal.id }),
  });
  const next = records.length === limit ? (records.at(-1)?.id ?? null) : null;
  return { status: 200, body: { items: records.map(shownKey), next } };
}

/** Own ones, and for those who manage all of them any of the tenant. What is not theirs is not there. */
async function findKey(options: KeyServiceOptions, request: EndpointRequest<unknown>): Promise<ApiKeyRecord> {
  const { exchange, params } = request;
  const { principal } = exchange;
  const record = await options.issuing.keys.find(params.id ?? '');
  const isTheirs = record?.owner_id === principal.id || options.holds(exchange, [EVERYTHING]);
  if (record === null || record.tenant_id !== principal.tenant_id || !isTheirs) {
    throw new GatewayError('NOT_FOUND', { message: 'No such key' });
  }
  return record;
}

async function revoke(options: KeyServiceOptions, request: EndpointRequest<unknown>): Promise<EndpointReply> {
  refuseDelegated(request.exchange.principal);
  const { tenant_id, id } = await findKey(options, request);
  await revokeKey(options.issuing, tenant_id, id);
  return { status: 204 };
}

async function rotate(options: KeyServiceOptions, request: EndpointRequest<Rotation>): Promise<EndpointReply> {
  const { exchange, body } = request;
  refuseDelegated(exchange.principal);
  const { tenant_id, id, environment, facts } = await findKey(options, request);
  // The answer is a good key with these rights: nobody gets stronger by it.
  const isAdmin = options.holds(exchange, [EVERYTHING]);
  requireWithin(options, exchange, isAdmin, {
    roles: facts.roles,
    scopes: [...facts.scopes],
    permissions: [...facts.permissions],
  });
  const issuing = { ...options.issuing, environment: environmentOf(environment) };
  const next = await rotateKey(issuing, tenant_id, id, body.grace_hours * HOUR_MS);
  if (next === null)
    throw new GatewayError('CONFLICT', { message: 'The key is revoked, expired or was rotated before' });
  return { status: 201, body: { ...withText(next), replaces: id } };
}

function environmentOf(word: string): KeyIssuing['environment'] {
  if (word === 'live') return 'production';
  return word === 'test' ? 'staging' : 'development';
}

async function usage(options: KeyServiceOptions, request: EndpointRequest<unknown>): Promise<EndpointReply> {
  const record = await findKey(options, request);
  const { id, created_at, last_used_at } = record;
  const uses = await options.usage.of(id, options.issuing.clock.now());
  return { status: 200, body: { key_id: id, created_at: time(created_at), last_used_at: time(last_used_at), uses } };
}

const time = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());

const withText = ({ record, key }: IssuedKey) => ({ api_key: key.reveal(), ...shownKey(record) });

/** What may be seen of a key: everything but its hash. */
export function shownKey(record: ApiKeyRecord) {
  const { facts } = record;
  return {
    key_id: record.id,
    name: record.name,
    prefix: record.prefix,
    environment: environmentOf(record.environment),
    service_id: facts.metadata.service_id ?? null,
    tenant_id: record.tenant_id,
    owner_id: record.owner_id,
    roles: facts.roles,
    permissions: facts.permissions,
    scopes: facts.scopes,
    allowed_ips: facts.allowed_ips,
    rate_limit_per_hour: facts.rate_limit_per_hour,
    created_at: time(record.created_at),
    expires_at: time(record.expires_at),
    revoked_at: time(record.revoked_at),
    last_used_at: time(record.last_used_at),
    replaced_by: record.replaced_by,
  };
}
