/**
 * Plain HTTP routes: the method is the action, the route says which permissions it needs, and the body passes unread.
 * Source: contracts 2 and 4, acceptance VW-03.
 */
import type { Call } from '../core/call.ts';
import { GatewayError } from '../core/errors.ts';
import type { Admitted, Amendment, Decoded, Message, Received } from '../core/exchange.ts';
import type { JsonObject } from '../core/json.ts';
import type { PermissionRule, Route } from '../core/route.ts';
import { problem } from './problem.ts';
import type { Protocol } from './protocol.ts';
import { RedactingRewriter } from './redaction.ts';

export interface HttpProtocolOptions {
  /** The caller's headers that may go on: no credential, no identity, nothing of the hop. */
  upstreamHeaders(headers: Readonly<Record<string, string>>): Record<string, string>;
  /** Path of the upstream's configured URL, without trailing slash. */
  basePath(upstream: string): string;
}

export function createHttpProtocol(options: HttpProtocolOptions): Protocol {
  return {
    decode: (exchange) => Promise.resolve(decodeHttp(options, exchange)),
    encodeError: problem,
    amend: amendHttp,
  };
}

/** The request passes unread, so nothing in it can be changed; a WebSocket's answer cannot be looked into either. */
function amendHttp({ received, message }: Decoded, { removed, hidden, ceilings }: Amendment): Message | null {
  const { plan } = message;
  if (removed.length > 0 || ceilings.size > 0 || plan.kind !== 'upstream') return null;
  if (hidden.length === 0 || received.method === 'HEAD') return message;
  if (received.headers['sec-websocket-key'] !== undefined || received.headers.upgrade !== undefined) return null;
  const { range: _range, 'if-range': _ifRange, ...headers } = plan.headers;
  const rewrite = new RedactingRewriter(hidden, 'whole', plan.rewrite);
  return { ...message, plan: { ...plan, headers: { ...headers, 'accept-encoding': 'identity' }, rewrite } };
}

const PROVING = ['authorization', 'x-api-key', 'x-delegation-token', 'x-approval-token'] as const;
/** Characters: shorter ones may be in an address by chance. */
const TELLING = 16;
const EQUALS = 0x3d;

/**
 * Path and query go upstream as they are. Who shows a credential and writes it there as well would hand it to the upstream
 * and to its logs; RFC 6750 section 2 allows one place only.
 */
function refuseCredentialInTarget({ headers, path, query }: Received): void {
  const longest = Math.max(path.length, query.length);
  if (longest < TELLING) return;
  // The path has one spelling by now, the query is as it came.
  const plain = query.includes('%') ? unescaped(query) : query;
  for (const name of PROVING) {
    const value = headers[name];
    if (value === undefined) continue;
    let end = value.length;
    // Padding is written in other ways in an address.
    while (end > 0 && value.charCodeAt(end - 1) === EQUALS) end--;
    const text = value.slice(value.lastIndexOf(' ') + 1, end);
    if (text.length < TELLING || text.length > longest) continue;
    if (!plain.includes(text) && !query.includes(text) && !path.includes(text)) continue;
    throw new GatewayError('INVALID_REQUEST', { message: 'A credential must not be in the address' });
  }
}

const unescaped = (query: string): string =>
  query.replaceAll(/%([0-9a-f]{2})/gi, (_escape, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));

/** Reads the request line only. An upgrade to WebSocket is decided as the GET it is, with `websocket: true`. */
function decodeHttp(options: HttpProtocolOptions, exchange: Admitted): Message {
  const { received, route } = exchange;
  if (route.upstream === null) throw new GatewayError('ROUTE_NOT_FOUND');
  refuseCredentialInTarget(received);
  return {
    calls: [callOf(exchange)],
    mode: 'all',
    body: null,
    dialect: 'problem',
    rpcId: undefined,
    plan: {
      kind: 'upstream',
      upstream: route.upstream,
      method: received.method,
      path: options.basePath(route.upstream) + rewritten(route, received.path) + received.query,
      headers: options.upstreamHeaders(received.headers),
      rewrite: null,
    },
  };
}

function callOf({ received, route }: Admitted): Call {
  const parameters: JsonObject = {
    method: received.method,
    path: received.path,
    query: received.query,
    ...(received.headers['sec-websocket-key'] === undefined ? {} : { websocket: true }),
  };
  return {
    action: `http:${received.method.toLowerCase()}`,
    server: null,
    tool: null,
    parameters,
    annotations: null,
    schema_hash: null,
    resource: {
      type: 'http',
      id: received.path,
      tenant_id: null,
      owner_id: null,
      permissions: permissionsFor(route, received.method),
    },
    llm: null,
  };
}

/** Nothing a caller could hold is enough: any of none. */
const UNCOVERED: PermissionRule = Object.freeze({ anyOf: Object.freeze([]) });

/**
 * The rule of the method, HEAD's being GET's; `*` stands for methods without one. Null: no permission is asked for. A
 * route that names permissions for some methods and has no `*` is closed for the others.
 */
export function permissionsFor(route: Pick<Route, 'permissions'>, method: string): PermissionRule | null {
  const { permissions } = route;
  const named = Object.hasOwn(permissions, method) ? permissions[method] : undefined;
  const asGet = method === 'HEAD' && Object.hasOwn(permissions, 'GET') ? permissions.GET : undefined;
  const rule = named ?? asGet ?? (Object.hasOwn(permissions, '*') ? permissions['*'] : undefined);
  if (rule === undefined) return isEmpty(permissions) ? null : UNCOVERED;
  // An empty list asks for nothing, as the absence of rules does: `GET: []` beside `anonymous: true` is open to everyone.
  return rule.anyOf === undefined && (rule.allOf ?? []).length === 0 ? null : rule;
}

function isEmpty(record: Readonly<Record<string, unknown>>): boolean {
  for (const key in record) if (Object.hasOwn(record, key)) return false;
  return true;
}

/** The path on the upstream: `rewrite` in the place of the match, or the path as it is. */
export function rewritten(route: Pick<Route, 'match' | 'rewrite'>, path: string): string {
  if (route.rewrite === null) return path;
  const rest = path.slice(route.match === '/' ? 0 : route.match.length);
  const prefix = route.rewrite.endsWith('/') ? route.rewrite.slice(0, -1) : route.rewrite;
  return prefix + rest === '' ? '/' : prefix + rest;
}
