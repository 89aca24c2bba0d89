/**
 * The protocol of what the gateway answers itself: endpoints under the same stages as everything else. Each request is
 * one question to the policy, `http:<method>` with the endpoint's permissions unless the endpoint asks another.
 * Source: contracts 4 and 5, design 2.8.
 */
import type { Call } from '../core/call.ts';
import { GatewayError } from '../core/errors.ts';
import type { Admitted, Amendment, Decoded, Message, Permitted, Reply, Routed } from '../core/exchange.ts';
import type { JsonObject } from '../core/json.ts';
import type { PermissionRule } from '../core/route.ts';
import type { Endpoint, EndpointReply, EndpointRequest } from './endpoint.ts';
import { readEndpointBody } from './endpoint-body.ts';
import type { EndpointMatch } from './endpoint-table.ts';
import { allowedMethods, EndpointTable } from './endpoint-table.ts';
import { versionHeader } from './pdp/questions-path.ts';
import type { Protocol } from './protocol.ts';
import { hideInReply } from './redaction.ts';

export interface ApiProtocolOptions {
  readonly endpoints: readonly Endpoint[];
  readonly problem: Protocol['encodeError'];
}

/** Throws when two endpoints claim the same method and path. */
export function createApiProtocol(options: ApiProtocolOptions): Protocol {
  const table = new EndpointTable(options.endpoints);
  return {
    decode: (exchange) => decodeApi(table, exchange),
    encodeError: (error, context, exchange) => versioned(options.problem(error, context, exchange), exchange),
    amend: amendApi,
    serves: (path) => table.find(path) !== null,
  };
}

async function decodeApi(table: EndpointTable, exchange: Admitted): Promise<Message> {
  const { received } = exchange;
  const found = table.find(received.path);
  if (found === null) throw new GatewayError('ROUTE_NOT_FOUND');
  if (received.method === 'OPTIONS') return optionsMessage(exchange, found);
  const endpoint = found.methods.get(received.method === 'HEAD' ? 'GET' : received.method);
  if (endpoint === undefined) {
    throw new GatewayError('METHOD_NOT_ALLOWED', { details: { allow: allowedMethods(found) } });
  }
  // Before the body: who may not come in need not send one.
  if (endpoint.access !== 'anyone' && exchange.principal.type === 'anonymous') {
    throw new GatewayError('MISSING_CREDENTIALS', { challenge: 'Bearer realm="portcullis"' });
  }
  if (endpoint.off !== undefined) throw new GatewayError(endpoint.off);
  const body: unknown = endpoint.body === null ? undefined : await readEndpointBody(endpoint.body, exchange);
  const query = new URLSearchParams(received.query);
  const request: EndpointRequest<unknown> = { exchange, params: found.params, query, body };
  const asked = endpoint.call?.(request) ?? endpointCall(exchange, found.template, permissionsOf(endpoint));
  const call = asked instanceof Promise ? await asked : asked;
  return local(call, async (permitted) => versioned(written(await endpoint.answer(request, permitted)), exchange));
}

/** Which version of the API answered. */
function versioned(reply: Reply, exchange: Routed | null): Reply {
  if (exchange === null) return reply;
  return { ...reply, headers: { ...versionHeader(exchange.received.path), ...reply.headers } };
}

/** What of this path can be asked for: no secret, and nothing is done. */
function optionsMessage(exchange: Admitted, found: EndpointMatch): Message {
  const headers = { allow: allowedMethods(found) };
  return local(endpointCall(exchange, found.template, null), () => written({ status: 204, headers }));
}

function permissionsOf({ access }: Endpoint): PermissionRule | null {
  return typeof access === 'string' ? null : access;
}

const NO_PARAMETERS: JsonObject = Object.freeze({});

/**
 * The question `http:<method>` on an endpoint. The resource is the path as the endpoint spells it, so that ids do not
 * make a new question each; null permissions are for what needs none.
 */
export function endpointCall(
  { received }: Pick<Admitted, 'received'>,
  template: string,
  permissions: PermissionRule | null,
): Call {
  return {
    action: `http:${received.method.toLowerCase()}`,
    server: null,
    tool: null,
    parameters: NO_PARAMETERS,
    annotations: null,
    schema_hash: null,
    resource: { type: 'http', id: template, tenant_id: null, owner_id: null, permissions },
    llm: null,
  };
}

function local(call: Call, answer: (permitted: Permitted) => Promise<Reply> | Reply): Message {
  return {
    calls: [call],
    mode: 'all',
    body: null,
    dialect: 'problem',
    rpcId: undefined,
    plan: { kind: 'local', answer },
  };
}

/** What the gateway says of itself is for this caller at this moment, unless the endpoint says otherwise. */
function written({ status, body, text, headers, cookies }: EndpointReply): Reply {
  const type = body === undefined ? {} : { 'content-type': 'application/json' };
  return {
    status,
    headers: { 'cache-control': 'no-store', ...type, ...headers },
    body: text ?? (body === undefined ? '' : JSON.stringify(body)),
    ...(cookies === undefined || cookies.length === 0 ? {} : { cookies }),
  };
}

/** The body was read before; of the rest only what is shown can be changed. */
function amendApi({ message }: Decoded, { removed, hidden, ceilings }: Amendment): Message | null {
  const { plan } = message;
  if (removed.length > 0 || ceilings.size > 0 || plan.kind !== 'local') return null;
  return hidden.length === 0 ? message : { ...message, plan: hideInReply(plan, hidden) };
}
