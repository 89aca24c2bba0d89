import type { IncomingMessage, ServerResponse } from 'node:http';
import { PassThrough } from 'node:stream';
import type { ServerFacts } from '../../src/classification/classifier.ts';
import type { Call } from '../../src/core/call.ts';
import type { Decision, Obligation } from '../../src/core/decision.ts';
import type { Admitted, Message, UpstreamPlan } from '../../src/core/exchange.ts';
import type { Logger } from '../../src/core/module.ts';
import type { Principal } from '../../src/core/principal.ts';
import { makePrincipal } from '../../src/core/principal.ts';
import type { Route } from '../../src/core/route.ts';
import type { McpServer } from '../../src/protocols/mcp/server.ts';
import type { Protocol } from '../../src/protocols/protocol.ts';
import type { BufferedResponse, Upstream, UpstreamRequest } from '../../src/upstreams/upstream.ts';

export const silent: Logger = { debug() {}, info() {}, warn() {}, error() {} };

export const MODERN = '2026-07-28';
export const LEGACY = '2025-11-25';
export const BOTH = 'application/json, text/event-stream';

export const alice = makePrincipal({ id: 'alice', tenant_id: 'acme', roles: ['developer'] }, 'keys', 'api-key');
export const bob = makePrincipal({ id: 'bob', tenant_id: 'acme', roles: ['developer'] }, 'keys', 'api-key');
/** The same name in another tenant is another person. */
export const otherAlice = makePrincipal({ id: 'alice', tenant_id: 'rival' }, 'keys', 'api-key');

export function serverFacts(facts: Partial<ServerFacts> = {}): ServerFacts {
  return {
    name: 'orders',
    type: 'custom',
    dialect: null,
    environment: null,
    region: null,
    data_region: null,
    tags: [],
    owner_team: null,
    enabled: true,
    description: null,
    sensitivity_level: null,
    sensitivity_floor: null,
    tools: {},
    allow: [],
    ...facts,
  };
}

export const mcpRoute: Route = {
  id: '/mcp/orders',
  match: '/mcp/orders',
  protocol: 'mcp',
  identity: ['keys'],
  anonymous: false,
  entrypoint: null,
  server: 'orders',
  models: [],
  upstream: null,
  rewrite: null,
  permissions: {},
  denial: 'error',
  tenant_header: false,
  limits: { body_bytes: 1_000_000, headers_timeout_ms: 1000, idle_timeout_ms: 1000 },
};

export interface Asked {
  readonly method?: string;
  readonly path?: string;
  readonly query?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** A string or Buffer goes as it is, anything else as JSON. */
  readonly body?: unknown;
  readonly principal?: Principal;
  readonly route?: Partial<Route>;
}

function bytesOf(body: unknown): Buffer {
  if (Buffer.isBuffer(body)) return body;
  return Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
}

/** A request as it stands when a protocol sees it. */
export function admitted(asked: Asked): Admitted {
  const bytes = asked.body === undefined ? null : bytesOf(asked.body);
  const stream = new PassThrough();
  if (bytes === null) stream.end();
  else stream.end(bytes);
  const incoming = Object.assign(stream, {
    headers: bytes === null ? {} : { 'content-length': String(bytes.length) },
    complete: true,
  }) as unknown as IncomingMessage;
  return {
    received: {
      id: 'req_TEST',
      method: asked.method ?? 'POST',
      path: asked.path ?? '/mcp/orders',
      query: asked.query ?? '',
      headers: { ...(bytes === null ? {} : { 'content-length': String(bytes.length) }), ...asked.headers },
      peer: { address: '127.0.0.1', encrypted: false, host: 'localhost' },
      receivedAt: 1_700_000_000_000,
      incoming,
      outgoing: {} as ServerResponse,
      abort: () => {},
      signal: new AbortController().signal,
      cancel: new AbortController().signal,
    },
    route: { ...mcpRoute, ...asked.route },
    principal: asked.principal ?? alice,
    rate: { window_seconds: 60, count: 0 },
    rateResetAt: 1_700_000_060_000,
  };
}

/** A plain rendering for requests that are no JSON-RPC. */
export const plainProblem: Protocol['encodeError'] = (error, context) => ({
  status: error.status,
  headers: { 'content-type': 'application/problem+json' },
  body: JSON.stringify({ status: error.status, error: { code: error.code }, request_id: context.requestId }),
});

/** Headers of a correct request of this message in this generation. */
export function headersFor(version: string, message: { readonly [member: string]: unknown }): Record<string, string> {
  const headers: Record<string, string> = {
    'content-type': 'application/json',
    accept: BOTH,
    'mcp-protocol-version': version,
  };
  if (version !== MODERN || typeof message.method !== 'string') return headers;
  headers['mcp-method'] = message.method;
  const params = message.params as Record<string, unknown> | undefined;
  const name = message.method === 'resources/read' ? params?.uri : (params?.name ?? params?.taskId);
  if (typeof name === 'string') headers['mcp-name'] = name;
  return headers;
}

export const META = {
  'io.modelcontextprotocol/protocolVersion': MODERN,
  'io.modelcontextprotocol/clientCapabilities': {},
};

/** A correct request of either generation. */
export function ask(version: string, method: string, params: object = {}, id: string | number = 1): Asked {
  const body = { jsonrpc: '2.0', id, method, params: version === MODERN ? { ...params, _meta: META } : params };
  return { headers: headersFor(version, body), body };
}

export function decision(allow: boolean, obligations: readonly Obligation[] = []): Decision {
  return {
    decision_id: 'dec_TEST',
    allow,
    deny: [],
    obligations,
    revision: 'sha256:test',
    cached: false,
    eval_us: 0,
    failure: null,
  };
}

/** A judge that allows what the test says, and remembers what it was asked. */
export function judgeOf(allows: (call: Call) => boolean): {
  judge: (exchange: Admitted, calls: readonly Call[]) => readonly Decision[];
  asked: (readonly Call[])[];
} {
  const asked: (readonly Call[])[] = [];
  return {
    asked,
    judge: (_, calls) => {
      asked.push(calls);
      return calls.map((call) => decision(allows(call)));
    },
  };
}

/** An upstream that answers what the test says and remembers what it was sent. */
export function scriptedUpstream(answer: (request: UpstreamRequest) => BufferedResponse | Promise<BufferedResponse>): {
  upstream: Upstream;
  sent: UpstreamRequest[];
} {
  const sent: UpstreamRequest[] = [];
  const upstream: Upstream = {
    name: 'orders',
    basePath: '/mcp',
    encrypted: false,
    dispatch() {
      throw new Error('not used');
    },
    request: async (request) => {
      sent.push(request);
      return answer(request);
    },
    health: () => ({ state: 'closed', active: 0, idle: 0, waiting: 0 }),
    reset() {},
    [Symbol.asyncDispose]: async () => {},
  };
  return { upstream, sent };
}

export function mcpServer(upstream: Upstream, facts: Partial<ServerFacts> = {}): McpServer {
  return {
    facts: serverFacts(facts),
    upstream,
    credential: { authorization: 'Bearer upstream-secret' },
    headersTimeoutMs: 1000,
    idleTimeoutMs: 1000,
  };
}

/** The plan of a message that goes upstream. */
export function upstreamPlan(message: Message): UpstreamPlan {
  if (message.plan.kind !== 'upstream') throw new Error('not an upstream plan');
  return message.plan;
}
