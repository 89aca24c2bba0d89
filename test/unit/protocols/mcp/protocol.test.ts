import { beforeEach, describe, expect, test } from 'vitest';
import type { Call } from '../../../../src/core/call.ts';
import { GatewayError } from '../../../../src/core/errors.ts';
import type { Message } from '../../../../src/core/exchange.ts';
import type { Principal } from '../../../../src/core/principal.ts';
import { METHODS } from '../../../../src/protocols/mcp/methods.ts';
import { createMcpProtocol } from '../../../../src/protocols/mcp/protocol.ts';
import type { Protocol } from '../../../../src/protocols/protocol.ts';
import type { UpstreamRequest } from '../../../../src/upstreams/upstream.ts';
import type { Asked } from '../../../helpers/mcp-exchange.ts';
import {
  admitted,
  alice,
  ask,
  BOTH,
  bob,
  headersFor,
  judgeOf,
  LEGACY,
  MODERN,
  mcpServer,
  otherAlice,
  plainProblem,
  scriptedUpstream,
  silent,
  upstreamPlan,
} from '../../../helpers/mcp-exchange.ts';
import { verifies } from '../../../helpers/verifies.ts';

const JSON_HEAD = { 'content-type': 'application/json' };
const SSE_HEAD = { 'content-type': 'text/event-stream' };

let allowed: (call: Call) => boolean;
let sent: UpstreamRequest[];
let judged: (readonly Call[])[];
let protocol: Protocol;

beforeEach(() => {
  allowed = () => true;
  const scripted = scriptedUpstream(() => ({ status: 202, headers: {}, body: Buffer.alloc(0) }));
  const judge = judgeOf((call) => allowed(call));
  const identity = (who: Principal, id: string) => ({ 'x-portcullis-identity': `${who.id} in ${id}` });
  sent = scripted.sent;
  judged = judge.asked;
  protocol = createMcpProtocol({
    servers: new Map([
      ['orders', { ...mcpServer(scripted.upstream), identity }],
      ['asleep', mcpServer(scripted.upstream, { name: 'asleep', enabled: false })],
    ]),
    judge: judge.judge,
    logger: silent,
    problem: plainProblem,
    maxHandles: 3,
  });
});

async function failure(asked: Asked): Promise<GatewayError> {
  const thrown = await protocol.decode(admitted(asked)).then(
    () => null,
    (error: unknown) => error,
  );
  if (!(thrown instanceof GatewayError)) throw new Error('expected a refusal');
  return thrown;
}

/** A legacy client begins a session that the upstream names. */
async function begin(session: string, principal: Principal = alice): Promise<void> {
  const message = await protocol.decode(admitted({ ...ask(LEGACY, 'initialize'), principal }));
  rewriterOf(message).head?.(200, { ...JSON_HEAD, 'mcp-session-id': session });
}

function rewriterOf(message: Message) {
  const { rewrite } = upstreamPlan(message);
  if (rewrite === null) throw new Error('no rewriter');
  return rewrite;
}

function inSession(session: string, principal: Principal, method = 'tools/list'): Asked {
  const asked = ask(LEGACY, method);
  return { ...asked, headers: { ...asked.headers, 'mcp-session-id': session }, principal };
}

describe('actions', () => {
  verifies('X-12');
  const params: Record<string, object> = {
    'tools/call': { name: 'execute_query', arguments: { query: 'SELECT 1' } },
    'prompts/get': { name: 'p' },
    'resources/read': { uri: 'file:///a' },
    'resources/subscribe': { uri: 'file:///a' },
    'resources/unsubscribe': { uri: 'file:///a' },
    'completion/complete': { ref: { type: 'ref/prompt', name: 'p' } },
    'tasks/get': { taskId: 't' },
    'tasks/result': { taskId: 't' },
    'tasks/update': { taskId: 't' },
    'tasks/cancel': { taskId: 't' },
  };

  test.each([...METHODS])('%s asks for its action', async (method, spec) => {
    const message = await protocol.decode(admitted(ask(LEGACY, method, params[method])));
    expect(message.calls.map((call) => call.action)).toEqual([spec.action]);
    expect(message.calls[0]?.server).toBe('orders');
    expect(message.mode).toBe('all');
  });

  test('a tool call carries the tool and exactly its arguments', async () => {
    const message = await protocol.decode(admitted(ask(MODERN, 'tools/call', params['tools/call'])));
    expect(message.calls[0]).toMatchObject({
      action: 'gateway:tool:invoke',
      tool: 'execute_query',
      parameters: { query: 'SELECT 1' },
      resource: { type: 'tool', id: 'orders:execute_query' },
    });
  });

  test.each(['tools/destroy', 'Tools/call', 'tools/call ', 'constructor', 'notifications/initialized/../x'])(
    'the unknown method %s is asked about as such',
    async (method) => {
      const message = await protocol.decode(admitted(ask(LEGACY, method)));
      expect(message.calls[0]?.action).toBe('gateway:method:call');
    },
  );

  test.each(['initialize', 'ping', 'logging/setLevel', 'resources/subscribe', 'tasks/list', 'tasks/result'])(
    '%s does not exist for modern clients',
    async (method) => {
      const exchange = admitted(ask(MODERN, method));
      const message = await protocol.decode(exchange);
      expect(message.calls[0]?.action).toBe('gateway:method:call');
      const context = { requestId: 'r', decisionId: 'd', rpcId: 1 };
      const reply = protocol.encodeError(new GatewayError('POLICY_DENIED'), context, exchange);
      expect([reply.status, (JSON.parse(String(reply.body)) as { error: { code: number } }).error.code]).toEqual([
        404, -32601,
      ]);
    },
  );

  test('a notification is protocol traffic, with an id it is not', async () => {
    const body = { jsonrpc: '2.0', method: 'notifications/initialized' };
    const notification = await protocol.decode(admitted({ headers: headersFor(LEGACY, body), body }));
    expect(notification.calls[0]?.action).toBe('mcp:protocol');
    expect(notification.rpcId).toBeUndefined();
    const request = await protocol.decode(admitted(ask(LEGACY, 'notifications/initialized')));
    expect(request.calls[0]?.action).toBe('gateway:method:call');
  });

  test('a tool call without an id is still a tool call', async () => {
    const body = { jsonrpc: '2.0', method: 'tools/call', params: { name: 'reset_database' } };
    const message = await protocol.decode(admitted({ headers: headersFor(LEGACY, body), body }));
    expect(message.calls[0]).toMatchObject({ action: 'gateway:tool:invoke', tool: 'reset_database' });
  });

  test('listening on resources is as good as reading each of them', async () => {
    const uris = { notifications: { toolsListChanged: true, resourceSubscriptions: ['file:///a', 'file:///b'] } };
    const message = await protocol.decode(admitted(ask(MODERN, 'subscriptions/listen', uris)));
    expect(message.calls.map((call) => [call.action, call.resource.id])).toEqual([
      ['mcp:protocol', 'orders:subscriptions/listen'],
      ['gateway:resource:read', 'orders:file:///a'],
      ['gateway:resource:read', 'orders:file:///b'],
    ]);
  });

  test('completing a resource template is asked about as reading it', async () => {
    const target = { ref: { type: 'ref/resource', uri: 'file:///{x}' } };
    const message = await protocol.decode(admitted(ask(LEGACY, 'completion/complete', target)));
    expect(message.calls[0]?.action).toBe('gateway:resource:read');
  });
});

describe('subscriptions', () => {
  test('are asked about wherever a server may look for them', async () => {
    const params = { notifications: { resourceSubscriptions: ['file:///a'] }, resourceSubscriptions: ['file:///b'] };
    const { calls } = await protocol.decode(admitted(ask(MODERN, 'subscriptions/listen', params)));
    expect(calls.map(({ resource }) => resource.id).slice(1)).toEqual(['orders:file:///b', 'orders:file:///a']);
  });
});

describe('what goes upstream', () => {
  test('is the received bytes, and no credential of the caller', async () => {
    const body = ' {"jsonrpc":"2.0" , "id":1,"method":"tools/call","params":{"name":"a","arguments":{"n":1.0}}}\n';
    const headers = {
      ...headersFor(LEGACY, {}),
      authorization: 'Bearer caller',
      'x-api-key': 'caller',
      cookie: 'a=b',
      'mcp-method': 'tools/list',
      'mcp-param-x': '1',
      traceparent: '00-0-0-00',
    };
    const message = await protocol.decode(admitted({ headers, body }));
    expect(message.body?.toString()).toBe(body);
    expect(upstreamPlan(message).path).toBe('/mcp');
    expect(upstreamPlan(message).headers).toEqual({ ...headersFor(LEGACY, {}), traceparent: '00-0-0-00' });
  });

  test('keeps mirrored headers, known or not, in the modern era and drops the session', async () => {
    const asked = ask(MODERN, 'tools/call', { name: 'a' });
    const extra = { 'mcp-param-unknown': 'x', 'mcp-session-id': 'made-up', 'last-event-id': '5' };
    const message = await protocol.decode(admitted({ ...asked, headers: { ...asked.headers, ...extra } }));
    expect(upstreamPlan(message).headers).toMatchObject({ 'mcp-param-unknown': 'x', 'mcp-name': 'a' });
    expect(upstreamPlan(message).headers).not.toHaveProperty('mcp-session-id');
    expect(upstreamPlan(message).headers).not.toHaveProperty('last-event-id');
  });

  test.each([
    ['another content type', { 'content-type': 'text/plain' }, 'UNSUPPORTED_MEDIA_TYPE'],
    ['another charset', { 'content-type': 'application/json; charset=utf-16' }, 'UNSUPPORTED_MEDIA_TYPE'],
    ['no stream accepted', { accept: 'application/json' }, 'NOT_ACCEPTABLE'],
    ['no JSON accepted', { accept: 'text/event-stream' }, 'NOT_ACCEPTABLE'],
    ['JSON refused by weight', { accept: 'application/json;q=0, text/event-stream' }, 'NOT_ACCEPTABLE'],
  ])('nothing, for %s', async (_, headers, code) => {
    const asked = ask(MODERN, 'tools/list');
    expect((await failure({ ...asked, headers: { ...asked.headers, ...headers } })).code).toBe(code);
  });

  test.each([
    ['below the endpoint', { path: '/mcp/orders/x' }, 'ROUTE_NOT_FOUND'],
    ['with PUT', { method: 'PUT' }, 'METHOD_NOT_ALLOWED'],
    ['to an unknown server', { route: { server: 'nobody' } }, 'SERVER_NOT_FOUND'],
    ['to a disabled server', { route: { server: 'asleep' } }, 'SERVER_DISABLED'],
  ])('nothing, %s', async (_, change, code) => {
    expect((await failure({ ...ask(LEGACY, 'tools/list'), ...change })).code).toBe(code);
  });

  test.each(['GET', 'DELETE'])('nothing for a modern %s', async (method) => {
    const asked = { method, headers: { accept: BOTH, 'mcp-protocol-version': MODERN } };
    const error = await failure(asked);
    const reply = protocol.encodeError(error, { requestId: 'r', decisionId: null, rpcId: undefined }, admitted(asked));
    expect([reply.status, reply.headers.allow]).toEqual([405, 'POST']);
  });
});

describe('lists', () => {
  verifies('X-12');
  const tools = [
    { name: 'safe', annotations: { readOnlyHint: true }, inputSchema: { type: 'object' } },
    { name: 'secret', inputSchema: { type: 'object' } },
    { name: 'also_safe', inputSchema: { type: 'object' } },
  ];
  const answer = (result: object) => JSON.stringify({ jsonrpc: '2.0', id: 1, result });

  async function listed(version: string, result: object, method = 'tools/list') {
    const message = await protocol.decode(admitted(ask(version, method)));
    const rewriter = rewriterOf(message);
    rewriter.head?.(200, JSON_HEAD);
    const text = rewriter.message(answer(result));
    return text === null || text === 'drop' ? text : (JSON.parse(text) as { result: Record<string, unknown> }).result;
  }

  test('show only what may be discovered, by one judgement', async () => {
    allowed = (call) => call.tool !== 'secret';
    const result = await listed(LEGACY, { tools, nextCursor: 'page-2' });
    expect(result).toEqual({ tools: [tools[0], tools[2]], nextCursor: 'page-2' });
    expect(judged).toHaveLength(1);
    expect(judged[0]?.map((call) => [call.action, call.tool, call.parameters])).toEqual([
      ['gateway:tool:discover', 'safe', null],
      ['gateway:tool:discover', 'secret', null],
      ['gateway:tool:discover', 'also_safe', null],
    ]);
    expect(judged[0]?.[0]?.annotations).toEqual({ readOnlyHint: true });
    expect(judged[0]?.[0]?.schema_hash).toMatch(/^sha256:[0-9a-f]{64}$/);
  });

  test('of equal text are decided anew for every caller, and parsed once', async () => {
    const text = answer({ tools });
    const seen: unknown[] = [];
    for (const hidden of ['secret', 'safe', 'nothing']) {
      allowed = (call) => call.tool !== hidden;
      const rewriter = rewriterOf(await protocol.decode(admitted(ask(LEGACY, 'tools/list'))));
      rewriter.head?.(200, JSON_HEAD);
      const shown = rewriter.message(text);
      seen.push(shown === null ? 'all' : tools.filter((tool) => String(shown).includes(`"${tool.name}"`)).length);
    }
    expect(seen).toEqual([2, 2, 'all']);
    expect(judged.map((calls) => calls.length)).toEqual([3, 3, 3]);
    expect(judged[2]?.[1]?.schema_hash).toBe(judged[0]?.[1]?.schema_hash);
  });

  test('keep their bytes when everything may be seen', async () => {
    expect(await listed(LEGACY, { tools })).toBeNull();
    expect(await listed(MODERN, { tools, cacheScope: 'private' })).toBeNull();
  });

  test('are private to the caller in the modern era', async () => {
    expect(await listed(MODERN, { tools, ttlMs: 5, cacheScope: 'public' })).toEqual({
      tools,
      ttlMs: 5,
      cacheScope: 'private',
    });
    expect(await listed(MODERN, { tools })).toMatchObject({ cacheScope: 'private' });
  });

  test.each([
    ['prompts/list', { prompts: [{ name: 'a' }, { name: 'b' }] }, 'gateway:prompt:discover'],
    ['resources/list', { resources: [{ uri: 'a' }, { uri: 'b' }] }, 'gateway:resource:discover'],
    [
      'resources/templates/list',
      { resourceTemplates: [{ uriTemplate: 'a' }, { uriTemplate: 'b' }] },
      'gateway:resource:discover',
    ],
    ['tasks/list', { tasks: [{ taskId: 'a' }, { taskId: 'b' }] }, 'gateway:task:access'],
  ])('of %s are filtered alike', async (method, result, action) => {
    allowed = (call) => call.action === action && call.resource.id === 'orders:b';
    const kept = await listed(LEGACY, result, method);
    expect(Object.values(kept as object)).toEqual([[Object.values(result)[0]?.[1]]]);
  });

  test.each([
    ['is not a list', { tools: { safe: {} } }],
    ['holds nothing with a name', { tools: [1, null, {}, { name: 5 }] }],
  ])('show nothing when what should be a list %s', async (_, result) => {
    expect(await listed(LEGACY, result)).toEqual({ tools: [] });
  });

  test('are refused in a form that cannot be filtered', async () => {
    const rewriter = rewriterOf(await protocol.decode(admitted(ask(LEGACY, 'tools/list'))));
    expect(() => rewriter.head?.(200, { 'content-type': 'text/plain' })).toThrow(GatewayError);
    expect(() => rewriter.head?.(200, { 'content-type': ['application/json', 'text/plain'] })).toThrow(GatewayError);
    expect(() => rewriter.head?.(200, { ...JSON_HEAD, 'content-encoding': 'gzip' })).toThrow(GatewayError);
    expect(rewriter.head?.(202, {})).toEqual({});
  });

  test('are read whatever the case of their media type', async () => {
    const rewriter = rewriterOf(await protocol.decode(admitted(ask(LEGACY, 'tools/list'))));
    expect(rewriter.head?.(200, { 'content-type': 'Text/Event-Stream' })).toEqual(SSE_HEAD);
  });

  test('of a stream that is none are refused', async () => {
    await begin('s-1');
    const headers = { ...headersFor(LEGACY, {}), 'mcp-session-id': 's-1' };
    const rewriter = rewriterOf(await protocol.decode(admitted({ method: 'GET', headers })));
    expect(() => rewriter.head?.(200, {})).toThrow(GatewayError);
    expect(rewriter.head?.(405, {})).toEqual({});
  });

  test('that cannot be read in one way are written anew or not shown', async () => {
    const rewriter = rewriterOf(await protocol.decode(admitted(ask(LEGACY, 'tools/list'))));
    rewriter.head?.(200, JSON_HEAD);
    const twice = `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"x"}],"tools":[{"name":"safe"}]}}`;
    expect(rewriter.message(twice)).toBe('{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"safe"}]}}');
    expect(rewriter.message('{"jsonrpc":"2.0","id":1,')).toContain('-31503');
    expect(rewriter.message('[{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}]')).toContain('-31503');
  });

  test('that are replayed on a stream are filtered there too', async () => {
    allowed = (call) => call.tool !== 'secret';
    const stream = await protocol.decode(admitted({ method: 'GET', headers: { accept: 'text/event-stream' } }));
    const rewriter = rewriterOf(stream);
    rewriter.head?.(200, SSE_HEAD);
    expect(rewriter.message(answer({ tools }))).not.toContain('secret');
  });

  test('leave out tools whose mirrored headers break the rules', async () => {
    const bad = (header: unknown, type: string) => ({
      name: `bad-${String(header)}-${type}`,
      inputSchema: { type: 'object', properties: { a: { type, 'x-mcp-header': header } } },
    });
    const unreachable = { name: 'deep', inputSchema: { items: { type: 'string', 'x-mcp-header': 'A' } } };
    const twice = {
      name: 'twice',
      inputSchema: {
        properties: { a: { type: 'string', 'x-mcp-header': 'A' }, b: { type: 'string', 'x-mcp-header': 'a' } },
      },
    };
    const good = { name: 'good', inputSchema: { properties: { 'x-mcp-header': { type: 'string' } } } };
    const all = [
      bad('a b', 'string'),
      bad('', 'string'),
      bad(5, 'string'),
      bad('A', 'object'),
      unreachable,
      twice,
      good,
    ];
    expect(await listed(MODERN, { tools: all, cacheScope: 'private' })).toMatchObject({ tools: [good] });
  });
});

describe('sessions', () => {
  verifies('X-12');

  test('belong to the principal they were issued to', async () => {
    await begin('s-1');
    const message = await protocol.decode(admitted(inSession('s-1', alice)));
    expect(upstreamPlan(message).headers['mcp-session-id']).toBe('s-1');
    for (const stranger of [bob, otherAlice]) {
      const error = await failure(inSession('s-1', stranger));
      const context = { requestId: 'r', decisionId: null, rpcId: undefined };
      const reply = protocol.encodeError(error, context, admitted(inSession('s-1', stranger)));
      expect(reply.status).toBe(404);
      expect(JSON.parse(String(reply.body))).toMatchObject({ id: 1, error: { code: -31404 } });
    }
  });

  test.each(['GET', 'DELETE'])('cannot be used by another with %s', async (method) => {
    await begin('s-1');
    const headers = { accept: 'text/event-stream', 'mcp-session-id': 's-1', 'last-event-id': '7' };
    expect((await failure({ method, headers, principal: bob })).code).toBe('NOT_FOUND');
    const message = await protocol.decode(admitted({ method, headers, principal: alice }));
    expect(message.calls[0]?.action).toBe('mcp:protocol');
    expect(upstreamPlan(message).method).toBe(method);
  });

  test('that a client made up are unknown', async () => {
    expect((await failure(inSession('made-up', alice))).code).toBe('NOT_FOUND');
    expect((await failure(inSession('made-up', alice, 'initialize'))).code).toBe('NOT_FOUND');
  });

  test('end with DELETE, and with the upstream’s 404', async () => {
    await begin('s-1');
    const headers = { accept: BOTH, 'mcp-session-id': 's-1' };
    const refused = await protocol.decode(admitted({ method: 'DELETE', headers }));
    rewriterOf(refused).head?.(405, {});
    const done = await protocol.decode(admitted({ method: 'DELETE', headers }));
    rewriterOf(done).head?.(200, {});
    expect((await failure(inSession('s-1', alice))).code).toBe('NOT_FOUND');
    await begin('s-2');
    const late = await protocol.decode(admitted(inSession('s-2', alice)));
    rewriterOf(late).head?.(404, JSON_HEAD);
    expect((await failure(inSession('s-2', alice))).code).toBe('NOT_FOUND');
  });

  test('issued twice to different people are refused', async () => {
    await begin('s-1');
    await expect(begin('s-1', bob)).rejects.toThrow(GatewayError);
    await expect(begin('bad session', bob)).rejects.toThrow(GatewayError);
  });

  test('are bounded: the oldest unused one is forgotten', async () => {
    for (const each of ['s-1', 's-2', 's-3']) await begin(each);
    await protocol.decode(admitted(inSession('s-1', alice)));
    await begin('s-4');
    await protocol.decode(admitted(inSession('s-1', alice)));
    expect((await failure(inSession('s-2', alice))).code).toBe('NOT_FOUND');
  });

  test('are not shown where none begins', async () => {
    const rewriter = rewriterOf(await protocol.decode(admitted(ask(LEGACY, 'tools/list'))));
    expect(rewriter.head?.(200, { ...JSON_HEAD, 'mcp-session-id': 'x' })).toEqual(JSON_HEAD);
    const modern = rewriterOf(await protocol.decode(admitted(ask(MODERN, 'server/discover'))));
    expect(modern.head?.(200, { ...JSON_HEAD, 'mcp-session-id': 'x' })).toEqual(JSON_HEAD);
  });
});

describe('what servers ask of clients', () => {
  const sampling = '{"jsonrpc":"2.0","id":"srv-1","method":"sampling/createMessage","params":{}}';

  async function stream(version = LEGACY) {
    await begin('s-1');
    const asked = ask(version, 'tools/call', { name: 'a' });
    const session = version === LEGACY ? { 'mcp-session-id': 's-1' } : {};
    const message = await protocol.decode(admitted({ ...asked, headers: { ...asked.headers, ...session } }));
    const rewriter = rewriterOf(message);
    rewriter.head?.(200, SSE_HEAD);
    judged.length = 0;
    return rewriter;
  }

  test('passes as it is when permitted', async () => {
    const rewriter = await stream();
    expect(rewriter.message(sampling)).toBeNull();
    expect(judged[0]?.[0]).toMatchObject({ action: 'gateway:sampling:create', server: 'orders' });
    expect(sent).toEqual([]);
  });

  test.each([
    ['sampling/createMessage', 'gateway:sampling:create'],
    ['elicitation/create', 'gateway:elicitation:create'],
    ['roots/list', 'gateway:roots:list'],
    ['tools/call', 'gateway:method:call'],
  ])('%s is dropped when denied, and the server is told', async (method, action) => {
    allowed = (call) => call.action !== action;
    const rewriter = await stream();
    expect(rewriter.message(`{"jsonrpc":"2.0","id":"srv-1","method":"${method}"}`)).toBe('drop');
    expect(sent).toHaveLength(1);
    expect(sent[0]).toMatchObject({ method: 'POST', path: '/mcp' });
    expect(sent[0]?.headers).toMatchObject({ 'mcp-session-id': 's-1', authorization: 'Bearer upstream-secret' });
    expect(sent[0]?.headers).toMatchObject({ 'x-portcullis-identity': 'alice in req_TEST' });
    expect(JSON.parse(String(sent[0]?.body))).toMatchObject({ id: 'srv-1', error: { code: -31403 } });
  });

  test.each([
    ['an escaped key', sampling.replace('"method"', '"m\\u0065thod"')],
    ['an escaped value', sampling.replace('sampling', 's\\u0061mpling')],
  ])('is found behind %s', async (_, text) => {
    allowed = () => false;
    expect((await stream()).message(text)).toBe('drop');
  });

  test.each([
    ['a case twin', sampling.replace('"method"', '"Method"')],
    ['two methods', sampling.replace('"method"', '"method":"notifications/message","method"')],
    ['a batch', `[${sampling}]`],
    ['broken JSON', `${sampling}}`],
  ])('with %s is dropped even if all is permitted', async (_, text) => {
    expect((await stream()).message(text)).toBe('drop');
  });

  test('pings and notifications pass without a question', async () => {
    const rewriter = await stream();
    expect(rewriter.message('{"jsonrpc":"2.0","id":9,"method":"ping"}')).toBeNull();
    expect(rewriter.message('{"jsonrpc":"2.0","method":"notifications/progress","params":{}}')).toBeNull();
    expect(judged).toEqual([]);
  });

  test('never arrives as a request in the modern era', async () => {
    expect((await stream(MODERN)).message(sampling)).toBe('drop');
    expect(sent).toEqual([]);
  });

  test('is judged inside an input_required result', async () => {
    const input = (method: string) =>
      JSON.stringify({
        jsonrpc: '2.0',
        id: 1,
        result: { resultType: 'input_required', inputRequests: { a: { method, params: {} } } },
      });
    const rewriter = await stream(MODERN);
    expect(rewriter.message(input('elicitation/create'))).toBeNull();
    allowed = (call) => call.action !== 'gateway:elicitation:create';
    expect(JSON.parse(String(rewriter.message(input('elicitation/create'))))).toMatchObject({
      id: 1,
      error: { code: -31403 },
    });
    expect(rewriter.message(input('roots/list'))).toBeNull();
    expect(rewriter.message(input('roots/list').replace('inputRequests', 'input\\u0052equests'))).toBeNull();
  });

  test('tool results pass byte for byte, whatever numbers they hold', async () => {
    const rewriter = await stream();
    const text =
      '{"jsonrpc":"2.0","id":1,"result":{"content":[],"structuredContent":{"method":1e400,"id":9007199254740993}}}';
    expect(rewriter.message(text)).toBeNull();
  });

  test('the client’s answers are let through in its session only', async () => {
    await begin('s-1');
    const body = { jsonrpc: '2.0', id: 'srv-1', result: {} };
    const headers = { ...headersFor(LEGACY, body), 'mcp-session-id': 's-1' };
    const message = await protocol.decode(admitted({ headers, body }));
    expect(message.calls[0]?.action).toBe('mcp:protocol');
    expect((await failure({ headers, body, principal: bob })).code).toBe('NOT_FOUND');
    expect((await failure({ headers: headersFor(MODERN, body), body })).code).toBe('INVALID_REQUEST');
  });
});

describe('tasks', () => {
  test('belong to whoever started them', async () => {
    const start = await protocol.decode(admitted(ask(MODERN, 'tools/call', { name: 'slow' })));
    const rewriter = rewriterOf(start);
    rewriter.head?.(200, JSON_HEAD);
    rewriter.message('{"jsonrpc":"2.0","id":1,"result":{"resultType":"task","taskId":"t-1","status":"working"}}');
    const mine = await protocol.decode(admitted(ask(MODERN, 'tasks/get', { taskId: 't-1' })));
    expect(mine.calls[0]?.resource).toEqual({
      type: 'task',
      id: 'orders:t-1',
      tenant_id: 'acme',
      owner_id: 'alice',
      permissions: null,
    });
    const unknown = await protocol.decode(admitted(ask(MODERN, 'tasks/get', { taskId: 't-2' })));
    expect(unknown.calls[0]?.resource.owner_id).toBeNull();
  });

  test.each(['tasks/get', 'tasks/update', 'tasks/cancel'])('are known by %s for what began them', async (method) => {
    const begin = async (asked: string, params: object, id: string) => {
      const rewriter = rewriterOf(await protocol.decode(admitted(ask(MODERN, asked, params))));
      rewriter.head?.(200, JSON_HEAD);
      rewriter.message(`{"jsonrpc":"2.0","id":1,"result":{"resultType":"task","taskId":"${id}","status":"working"}}`);
    };
    const begunBy = async (taskId: string) => {
      const { calls } = await protocol.decode(admitted(ask(MODERN, method, { taskId })));
      return calls.map((call) => call.begunBy);
    };
    await begin('tools/call', { name: 'slow' }, 't-1');
    expect(await begunBy('t-1')).toEqual(['slow']);
    // No answer to another request makes it another's.
    await begin('tools/call', { name: 'quick' }, 't-1');
    await begin(method, { taskId: 't-1' }, 't-1');
    expect(await begunBy('t-1')).toEqual(['slow']);
    await begin(method, { taskId: 't-2' }, 't-2');
    expect(await begunBy('t-2')).toEqual([null]);
  });
});
