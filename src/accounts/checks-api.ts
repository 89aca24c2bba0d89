/**
 * `/auth/me`, `/auth/verify`, `/auth/verify-permission`, `/auth/verify-api-key`: what other services ask about a caller,
 * whatever the identity providers are. Source: contracts 6, acceptance V-11, V-16, V-22, VF-08, VF-23.
 */
import { z } from 'zod';
import type { Call } from '../core/call.ts';
import { GatewayError } from '../core/errors.ts';
import type { Admitted } from '../core/exchange.ts';
import type { Principal } from '../core/principal.ts';
import type { Endpoint, EndpointReply, EndpointRequest } from '../protocols/endpoint.ts';
import type { AccountRecord } from '../stores/accounts.ts';
import type { ApiKeyRecord } from '../stores/api-keys.ts';
import type { AccountReports } from './account.ts';
import { viewOf } from './account.ts';
import { originOf, post } from './api.ts';
import type { Guard } from './guard.ts';
import { coversAll, type Roles } from './roles.ts';

export interface ChecksApiOptions {
  readonly roles: Roles;
  /** Null while the gateway keeps no accounts. */
  readonly reports: AccountReports | null;
  readonly guard: Guard | null;
  /** The account behind a principal of ours, as it is now; null for any other principal. */
  account(principal: Principal): Promise<AccountRecord | null>;
  /** Asks the policy whether the caller may. */
  isPermitted(exchange: Admitted, call: Call): boolean;
  /** The record of a key that is good now and here. */
  findGoodKey(text: string): Promise<ApiKeyRecord | null>;
  /** Why the owner of a key, or the key, may do nothing now; null when it may. */
  refusalOf(record: ApiKeyRecord): GatewayError | null;
  /** Whether a key may be used from an address. */
  isAllowedFrom(record: ApiKeyRecord, address: string): boolean;
  /** `X-Auth-User` and `X-Auth-Roles` as upstreams get them. */
  identityHeaders(exchange: Admitted): Readonly<Record<string, string>>;
}

const permission = z.string().min(1).max(128);
const resource = z.union([
  z.string().min(1).max(512),
  z.strictObject({
    type: z.string().min(1).max(64).default('resource'),
    id: z.string().max(512).default(''),
    owner_id: z.string().max(512).nullable().default(null),
    tenant_id: z.string().max(128).nullable().default(null),
  }),
]);
const permissionBody = z.strictObject({ permission, resource: resource.nullish() });
const keyBody = z.strictObject({
  api_key: z.string().min(1).max(256),
  client_ip: z.union([z.ipv4(), z.ipv6()]).optional(),
});

/** What a caller has to hold who says from where somebody else shows a key. */
const VERIFY_KEYS = 'api_keys.verify';

/** Endpoints that are there whoever knows the callers. */
export function checkEndpoints(options: ChecksApiOptions): readonly Endpoint[] {
  const common = { method: 'GET', access: 'authenticated', body: null } as const;
  return [
    { ...common, path: '/auth/me', answer: ({ exchange }) => me(options, exchange) },
    { ...common, path: '/auth/verify', answer: (request) => verify(options, request) },
    post('/auth/verify-permission', 'authenticated', permissionBody, (request) => verifyPermission(options, request)),
    post('/auth/verify-api-key', 'anyone', keyBody, (request) => verifyKey(options, request)),
  ];
}

async function me(options: ChecksApiOptions, { principal }: Admitted): Promise<EndpointReply> {
  const { parties: _parties, ...shown } = principal;
  const account = await options.account(principal);
  return { status: 200, body: account === null ? shown : { ...shown, ...viewOf(account) } };
}

/** For `auth_request` of nginx: the answer is the status, the identity stands in headers. */
function verify(options: ChecksApiOptions, { exchange, query }: EndpointRequest<unknown>): EndpointReply {
  for (const wanted of query.getAll('permission')) {
    if (!holds(options, exchange, wanted, null)) throw denied(options, exchange, wanted);
  }
  const { 'x-request-id': _id, ...headers } = options.identityHeaders(exchange);
  return { status: 200, headers };
}

type Resource = z.output<typeof resource>;

async function verifyPermission(
  options: ChecksApiOptions,
  { exchange, body }: EndpointRequest<z.output<typeof permissionBody>>,
): Promise<EndpointReply> {
  const has_permission = holds(options, exchange, body.permission, body.resource ?? null);
  if (!has_permission) denied(options, exchange, body.permission);
  const role = exchange.principal.roles[0] ?? null;
  return { status: 200, body: { has_permission, permission: body.permission, role } };
}

/** The policy's word on the permission, and that what belongs to somebody else is not for roles that have only their own. */
function holds(
  { roles, isPermitted }: ChecksApiOptions,
  exchange: Admitted,
  wanted: string,
  of: Resource | null,
): boolean {
  const { principal, received } = exchange;
  const facts = typeof of === 'string' || of === null ? { ...NO_RESOURCE, id: of ?? '' } : of;
  if (facts.tenant_id !== null && facts.tenant_id !== principal.tenant_id) return false;
  const isForeign = facts.owner_id !== null && facts.owner_id !== principal.id;
  if (isForeign && ownOnly(roles, principal)) return false;
  return isPermitted(exchange, {
    action: `http:${received.method.toLowerCase()}`,
    server: null,
    tool: null,
    parameters: {},
    annotations: null,
    schema_hash: null,
    resource: {
      type: 'http',
      id: facts.type === '' ? facts.id : `${facts.type}:${facts.id}`,
      tenant_id: facts.tenant_id ?? principal.tenant_id,
      owner_id: facts.owner_id,
      permissions: { allOf: [wanted] },
    },
    llm: null,
  });
}

const NO_RESOURCE = { type: '', id: '', owner_id: null, tenant_id: null } as const;

/** Without a role that goes further, and for every key and every caller of another kind, only one's own. */
function ownOnly(roles: Roles, { permissions, roles: held }: Principal): boolean {
  if (permissions.includes('*')) return false;
  return !held.some((name) => roles.get(name)?.own_only === false);
}

async function verifyKey(
  options: ChecksApiOptions,
  { exchange, body }: EndpointRequest<z.output<typeof keyBody>>,
): Promise<EndpointReply> {
  const origin = originOf(exchange);
  await options.guard?.admitVerification(origin.source_ip, origin.now);
  const from = addressOf(options, exchange, body.client_ip);
  const record = await options.findGoodKey(body.api_key);
  // A key from the wrong place is no better than none: who has stolen it learns nothing.
  if (record === null || !options.isAllowedFrom(record, from)) {
    await options.guard?.noteBad(origin.source_ip);
    throw new GatewayError('INVALID_CREDENTIALS', { challenge: 'Bearer realm="portcullis"' });
  }
  // Who asks is somebody else: what is switched off has to be looked at for the key.
  const off = options.refusalOf(record);
  if (off !== null) throw off;
  const { id, owner_id, tenant_id, name, facts, expires_at } = record;
  return {
    status: 200,
    body: {
      ...{ valid: true, key_id: id, name, user_id: owner_id, tenant_id, username: facts.username },
      ...{ role: facts.roles[0] ?? null, permissions: facts.permissions },
      expires_at: expires_at === null ? null : new Date(expires_at).toISOString(),
      address_bound: facts.allowed_ips.length > 0,
    },
  };
}

/** From where a key is shown: the caller's own address, unless the caller may speak for somebody else's. */
function addressOf(options: ChecksApiOptions, exchange: Admitted, told: string | undefined): string {
  const { principal, received } = exchange;
  if (told === undefined) return received.peer.address;
  if (principal.actor === null && coversAll(principal.permissions, [VERIFY_KEYS])) return told;
  throw denied(options, exchange, VERIFY_KEYS);
}

function denied({ reports }: ChecksApiOptions, exchange: Admitted, wanted: string): GatewayError {
  const { auth, id, tenant_id } = exchange.principal;
  reports?.event({
    ...{ type: 'permission_denied', origin: originOf(exchange), account: { id, tenant_id } },
    ...{ session_id: auth.session_id, key_id: auth.key_id, details: { permission: wanted } },
  });
  return new GatewayError('FORBIDDEN', { message: `Permission denied: ${wanted} is required` });
}
