import { beforeEach, describe, expect, test } from 'vitest';
import type { Call, ClassifiedCall } from '../../../../src/core/call.ts';
import { GatewayError } from '../../../../src/core/errors.ts';
import type { Admitted, Permitted, Reply } from '../../../../src/core/exchange.ts';
import { ToolCatalog } from '../../../../src/protocols/mcp/catalog.ts';
import { McpClient } from '../../../../src/protocols/mcp/client.ts';
import type { Protocol } from '../../../../src/protocols/protocol.ts';
import { createToolsProtocol } from '../../../../src/protocols/tools-api.ts';
import type { UpstreamRequest } from '../../../../src/upstreams/upstream.ts';
import type { Asked } from '../../../helpers/mcp-exchange.ts';
import {
  admitted,
  decision,
  judgeOf,
  mcpServer,
  plainProblem,
  scriptedUpstream,
} from '../../../helpers/mcp-exchange.ts';
import { json, LegacyServer, ModernServer } from '../../../helpers/mcp-fake-server.ts';

let allowed: (call: Call) => boolean;
let protocol: Protocol;
let sent: UpstreamRequest[];

beforeEach(() => begin(new ToolCatalog()));

function begin(catalog: ToolCatalog): void {
  allowed = () => true;
  const modern = scriptedUpstream(new ModernServer().answer);
  const legacy = scriptedUpstream(new LegacyServer().answer);
  const dead = scriptedUpstream(() => json(502, {}));
  sent = modern.sent;
  protocol = createToolsProtocol({
    servers: new Map([
      ['orders', mcpServer(modern.upstream, { type: 'sql', description: 'Orders', sensitivity_level: 'high' })],
      ['old', mcpServer(legacy.upstream, { name: 'old' })],
      ['dead', mcpServer(dead.upstream, { name: 'dead' })],
      ['asleep', mcpServer(dead.upstream, { name: 'asleep', enabled: false })],
    ]),
    client: new McpClient(catalog),
    catalog,
    judge: judgeOf((call) => allowed(call)).judge,
    problem: plainProblem,
    identityHeaders: (exchange) => ({ 'x-auth-user': exchange.principal.id }),
  });
}

const route = (match: string) => ({ match, protocol: 'tools' as const, server: null });

function invoke(body: unknown, headers: Record<string, string> = { 'content-type': 'application/json' }): Asked {
  return { method: 'POST', path: '/tools/invoke', route: route('/tools'), headers, body };
}

const get = (path: string, query = ''): Asked => ({
  method: 'GET',
  path,
  query,
  route: route(path.startsWith('/servers') ? '/servers' : '/tools'),
});

/** What the pipeline does between decoding and answering, with the test's policy in the middle. */
async function run(asked: Asked): Promise<{ calls: readonly Call[]; status: number; body: Record<string, unknown> }> {
  const exchange: Admitted = admitted(asked);
  const message = await protocol.decode(exchange);
  const decisions = message.calls.map((call) => decision(allowed(call)));
  if (message.plan.kind !== 'local') throw new Error('not a local plan');
  const calls = message.calls as readonly ClassifiedCall[];
  const permitted = { ...exchange, message, calls, decisions } as unknown as Permitted;
  const reply: Reply = await message.plan.answer(permitted);
  return { calls, status: reply.status, body: JSON.parse(String(reply.body)) as Record<string, unknown> };
}

async function codeOf(asked: Asked): Promise<string> {
  const thrown = await run(asked).then(
    () => null,
    (error: unknown) => error,
  );
  if (!(thrown instanceof GatewayError)) throw new Error(`expected a refusal, got ${String(thrown)}`);
  return thrown.code;
}

const echo = { server_name: 'orders', tool_name: 'echo', parameters: { a: [1, 'ü'] } };

describe('POST /tools/invoke', () => {
  test('asks about exactly this call and gives the tool’s result', async () => {
    const { calls, status, body } = await run(invoke(echo));
    expect(calls).toHaveLength(1);
    expect(calls[0]).toMatchObject({
      action: 'gateway:tool:invoke',
      server: 'orders',
      tool: 'echo',
      parameters: { a: [1, 'ü'] },
    });
    expect(status).toBe(200);
    expect(body).toEqual({
      success: true,
      result: { content: [{ type: 'text', text: '{"a":[1,"ü"]}' }] },
      error: null,
      audit_id: 'req_TEST',
      request_id: 'req_TEST',
      decision_id: 'dec_TEST',
    });
  });

  test('tells the upstream who calls, with the gateway’s credential', async () => {
    await run(invoke(echo, { 'content-type': 'application/json', authorization: 'Bearer caller' }));
    expect(sent.at(-1)?.headers).toMatchObject({ 'x-auth-user': 'alice', authorization: 'Bearer upstream-secret' });
  });

  test('reaches legacy servers too', async () => {
    expect((await run(invoke({ ...echo, server_name: 'old' }))).body).toMatchObject({ success: true });
  });

  test('says when the tool failed or is not there', async () => {
    expect((await run(invoke({ ...echo, tool_name: 'fail' }))).body).toMatchObject({
      success: false,
      error: { code: 'TOOL_ERROR', message: 'it broke' },
    });
    expect(await codeOf(invoke({ ...echo, tool_name: 'nothing' }))).toBe('TOOL_NOT_FOUND');
  });

  test('says what a tool says of itself where the list is too long to be remembered', async () => {
    class Forgetful extends ToolCatalog {
      override get = () => null;
    }
    begin(new Forgetful());
    expect((await run(invoke({ ...echo, tool_name: 'fail' }))).body).toMatchObject({ error: { code: 'TOOL_ERROR' } });
    expect(await codeOf(invoke({ ...echo, tool_name: 'nothing' }))).toBe('TOOL_NOT_FOUND');
  });

  test('does not believe a gateway_metadata that the caller sends', async () => {
    const lie = { tool_type: 'query', sensitivity_level: 'low', approval_token: 'x' };
    const honest = await run(invoke(echo));
    const liar = await run(invoke({ ...echo, gateway_metadata: lie }));
    expect(liar.calls).toEqual(honest.calls);
    expect(JSON.stringify(sent.at(-1))).not.toContain('gateway_metadata');
  });

  test.each([
    ['an unknown server', { ...echo, server_name: 'nobody' }, 'SERVER_NOT_FOUND'],
    ['a server named like a prototype member', { ...echo, server_name: 'constructor' }, 'SERVER_NOT_FOUND'],
    ['a disabled server', { ...echo, server_name: 'asleep' }, 'SERVER_DISABLED'],
    ['a dead server', { ...echo, server_name: 'dead' }, 'UPSTREAM_ERROR'],
    ['no server', { tool_name: 'echo' }, 'INVALID_REQUEST'],
    ['no tool', { server_name: 'orders' }, 'INVALID_REQUEST'],
    ['a hidden character in the name', { ...echo, tool_name: 'ec\u200bho' }, 'INVALID_REQUEST'],
    ['parameters that are a list', { ...echo, parameters: [] }, 'INVALID_REQUEST'],
    ['a list', [echo], 'INVALID_REQUEST'],
    ['duplicate members', '{"server_name":"orders","server_name":"old","tool_name":"echo"}', 'INVALID_REQUEST'],
  ])('refuses %s', async (_, body, code) => {
    expect(await codeOf(invoke(body))).toBe(code);
  });

  test('refuses another content type, another method and another path', async () => {
    expect(await codeOf(invoke(echo, { 'content-type': 'text/plain' }))).toBe('UNSUPPORTED_MEDIA_TYPE');
    expect(await codeOf({ ...invoke(echo), method: 'PUT' })).toBe('METHOD_NOT_ALLOWED');
    expect(await codeOf({ ...invoke(echo), path: '/tools/invoke/x' })).toBe('ROUTE_NOT_FOUND');
  });
});

describe('GET /servers and /tools', () => {
  const names = (list: unknown) => (list as { name: string }[]).map(({ name }) => name);

  test('show the servers one may see', async () => {
    allowed = (call) => call.resource.id !== 'old';
    const { calls, body } = await run(get('/servers'));
    expect(calls.map((call) => call.action)).toEqual(Array(4).fill('gateway:server:list'));
    expect(names(body.servers)).toEqual(['orders', 'dead', 'asleep']);
    expect((body.servers as object[])[0]).toEqual({
      name: 'orders',
      description: 'Orders',
      enabled: true,
      metadata: { server_type: 'sql', environment: null, sensitivity_level: 'high' },
    });
  });

  test('show with ?include_tools the tools one may discover, and what does not answer', async () => {
    allowed = (call) => call.tool !== 'secret';
    const { body } = await run(get('/servers', '?include_tools=true'));
    const [orders, old, dead] = body.servers as { tools: { name: string }[]; tools_available?: boolean }[];
    expect(names(orders?.tools)).toEqual(['echo', 'fail']);
    expect(names(old?.tools)).toEqual(['echo', 'fail']);
    expect(dead).toMatchObject({ tools: [], tools_available: false });
  });

  test('one server by name, or none', async () => {
    expect((await run(get('/servers/orders'))).body).toMatchObject({ name: 'orders' });
    expect(await codeOf(get('/servers/nobody'))).toBe('SERVER_NOT_FOUND');
    allowed = () => false;
    expect(await codeOf(get('/servers/orders'))).toBe('SERVER_NOT_FOUND');
  });

  test('list tools of one server or of all, one dead server apart', async () => {
    allowed = (call) => call.tool !== 'secret';
    const one = await run(get('/tools', '?server_name=orders'));
    expect(names(one.body.tools)).toEqual(['echo', 'fail']);
    const all = await run(get('/tools'));
    expect((all.body.tools as { server_name: string }[]).map((tool) => tool.server_name)).toEqual([
      'orders',
      'orders',
      'old',
      'old',
    ]);
    expect(all.body.errors).toEqual([{ server_name: 'dead', code: 'UPSTREAM_ERROR' }]);
    expect(await codeOf(get('/tools', '?server_name=asleep'))).toBe('SERVER_DISABLED');
  });

  test('do not ask servers one may not see', async () => {
    allowed = (call) => call.action !== 'gateway:server:list';
    expect((await run(get('/tools'))).body).toEqual({ tools: [] });
    expect(sent).toEqual([]);
  });

  test('a route above both serves both', async () => {
    const asked = { method: 'GET', path: '/gw/servers/orders', route: route('/gw') };
    expect((await run(asked)).body).toMatchObject({ name: 'orders' });
  });
});
