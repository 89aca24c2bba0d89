import { beforeEach, describe, expect, test } from 'vitest';
import { GatewayError } from '../../../../src/core/errors.ts';
import type { Principal } from '../../../../src/core/principal.ts';
import { ToolCatalog } from '../../../../src/protocols/mcp/catalog.ts';
import type { Caller } from '../../../../src/protocols/mcp/client.ts';
import { McpClient } from '../../../../src/protocols/mcp/client.ts';
import { eraVerdict } from '../../../../src/protocols/mcp/era-probe.ts';
import type { UpstreamRequest } from '../../../../src/upstreams/upstream.ts';
import { alice, bob, MODERN, mcpServer, otherAlice, scriptedUpstream } from '../../../helpers/mcp-exchange.ts';
import { json, LegacyServer, ModernServer, TOOLS } from '../../../helpers/mcp-fake-server.ts';

function callerOf(principal: Principal): Caller {
  return { principal, headers: { 'x-request-id': 'req_1' }, signal: new AbortController().signal };
}

const methods = (sent: readonly UpstreamRequest[]) =>
  sent.map((request) => (JSON.parse(String(request.body)) as { method: string }).method);

let client: McpClient;
beforeEach(() => {
  client = new McpClient(new ToolCatalog());
});

describe('a legacy server', () => {
  test('gets one handshake, and its answer is found among the events', async () => {
    const { upstream, sent } = scriptedUpstream(new LegacyServer().answer);
    const server = mcpServer(upstream);
    const outcome = await client.callTool(server, 'echo', { a: 1 }, callerOf(alice));
    await client.callTool(server, 'echo', { a: 2 }, callerOf(alice));
    expect(outcome).toMatchObject({ kind: 'result', result: { content: [{ text: '{"a":1}' }] } });
    expect(methods(sent)).toEqual([
      'server/discover',
      'initialize',
      'notifications/initialized',
      'tools/call',
      'tools/call',
    ]);
    expect(sent[4]?.headers).toMatchObject({ 'mcp-session-id': 's-1', authorization: 'Bearer upstream-secret' });
  });

  test('never sees two principals in one session', async () => {
    const legacy = new LegacyServer();
    const { upstream, sent } = scriptedUpstream(legacy.answer);
    const server = mcpServer(upstream);
    for (const each of [alice, bob, otherAlice]) await client.callTool(server, 'echo', {}, callerOf(each));
    expect(legacy.begun).toBe(3);
    const used = sent.filter((_, at) => methods(sent)[at] === 'tools/call').map((r) => r.headers['mcp-session-id']);
    expect(new Set(used).size).toBe(3);
  });

  test('that forgot the session is greeted again, once', async () => {
    const legacy = new LegacyServer();
    const { upstream } = scriptedUpstream(legacy.answer);
    const server = mcpServer(upstream);
    await client.callTool(server, 'echo', {}, callerOf(alice));
    legacy.sessions.clear();
    expect((await client.callTool(server, 'echo', {}, callerOf(alice))).kind).toBe('result');
    expect(legacy.begun).toBe(2);
  });

  test('that never knows its own sessions ends in an error', async () => {
    const legacy = new LegacyServer();
    const { upstream } = scriptedUpstream((request) => {
      legacy.sessions.clear();
      const answer = legacy.answer(request);
      legacy.sessions.clear();
      return answer;
    });
    await expect(client.callTool(mcpServer(upstream), 'echo', {}, callerOf(alice))).rejects.toThrow(GatewayError);
    expect(legacy.begun).toBe(2);
  });
});

describe('a modern server', () => {
  test('gets no handshake and agreeing headers', async () => {
    const { upstream, sent } = scriptedUpstream(new ModernServer().answer);
    const outcome = await client.callTool(mcpServer(upstream), 'echo', { a: 1 }, callerOf(alice));
    expect(outcome.kind).toBe('result');
    expect(methods(sent)).toEqual(['server/discover', 'tools/call']);
    expect(sent[1]?.headers).toMatchObject({
      'mcp-protocol-version': MODERN,
      'mcp-name': 'echo',
      'x-request-id': 'req_1',
    });
  });

  test('that mirrors arguments is asked for its schema and tried once more', async () => {
    const modern = new ModernServer();
    modern.demandedHeader = 'mcp-param-region';
    const { upstream, sent } = scriptedUpstream(modern.answer);
    const outcome = await client.callTool(mcpServer(upstream), 'echo', { region: 'süd' }, callerOf(alice));
    expect(outcome.kind).toBe('result');
    expect(methods(sent)).toEqual(['server/discover', 'tools/call', 'tools/list', 'tools/call']);
    expect(sent[3]?.headers['mcp-param-region']).toBe('=?base64?c8O8ZA==?=');
  });

  test('has all its pages read, an empty cursor included', async () => {
    const { upstream } = scriptedUpstream(new ModernServer().answer);
    expect(await client.listTools(mcpServer(upstream), callerOf(alice))).toEqual(TOOLS);
  });

  test('has all pages of a listing together in the room of one answer, however many there are', async () => {
    const modern = new ModernServer();
    const rooms: number[] = [];
    const { upstream } = scriptedUpstream((request) => modern.answer(request));
    const measured: typeof upstream = {
      ...upstream,
      async request(request, signal, maxBytes) {
        const message = JSON.parse(String(request.body)) as { id: number; method: string };
        if (message.method !== 'tools/list') return upstream.request(request, signal, maxBytes);
        rooms.push(maxBytes);
        const body = Buffer.alloc(10_000_000, ' ');
        body.write(JSON.stringify({ jsonrpc: '2.0', id: message.id, result: { tools: [], nextCursor: 'more' } }));
        if (body.length > maxBytes) throw new GatewayError('UPSTREAM_ERROR');
        return { status: 200, headers: { 'content-type': 'application/json' }, body };
      },
    };
    await expect(client.listTools(mcpServer(measured), callerOf(alice))).rejects.toThrow(GatewayError);
    expect(rooms).toHaveLength(4);
    expect(rooms[3]).toBeLessThan(10_000_000);
  });
});

describe('the verdict on a generation', () => {
  test.each([
    [200, { result: { supportedVersions: [MODERN] } }, 'modern'],
    [200, { result: { supportedVersions: ['2025-11-25'] } }, 'legacy'],
    [200, { error: { code: -32601 } }, 'legacy'],
    [404, { error: { code: -32601 } }, 'legacy'],
    [404, null, 'legacy'],
    [405, null, 'legacy'],
    [400, { error: { code: -32000 } }, 'legacy'],
    [400, { error: { code: -32020 } }, 'modern'],
    [400, { error: { code: -32021 } }, 'modern'],
    [400, { error: { code: -32022, data: { supported: [MODERN] } } }, 'modern'],
    [400, { error: { code: -32022, data: { supported: ['2025-11-25'] } } }, 'legacy'],
  ])('HTTP %i with %j is %s', (status, message, era) => {
    expect(eraVerdict(status, message)).toBe(era);
  });

  test.each([401, 403, 407, 408, 429, 500, 502, 503])('HTTP %i is none', (status) => {
    expect(() => eraVerdict(status, null)).toThrow(GatewayError);
  });

  test('is asked for again after a failure', async () => {
    const modern = new ModernServer();
    let isUp = false;
    const { upstream } = scriptedUpstream((request) => (isUp ? modern.answer(request) : json(503, {})));
    const server = mcpServer(upstream);
    await expect(client.callTool(server, 'echo', {}, callerOf(alice))).rejects.toThrow(GatewayError);
    isUp = true;
    expect((await client.callTool(server, 'echo', {}, callerOf(alice))).kind).toBe('result');
  });
});
