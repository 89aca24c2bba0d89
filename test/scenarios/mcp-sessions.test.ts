import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
  LoggingMessageNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TestGateway } from '../helpers/gateway.ts';
import { leading, startGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import { connectLegacy, textOf } from '../helpers/gateway-mcp.ts';
import type { Example } from '../helpers/processes.ts';
import { startExample } from '../helpers/processes.ts';
import type { Recorder } from '../helpers/upstreams.ts';
import { record } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

let orders: Example;
let everything: Example;
let upstream: Recorder;
let gateway: TestGateway;
let developer: string;
let admin: string;
let analyst: string;

const harmless = { type: 'query', sensitivity: 'low' } as const;

beforeAll(async () => {
  [orders, everything] = await Promise.all([startExample('orders-server'), startExample('everything-server')]);
  upstream = await record(everything.url);
  const everythingServer = {
    url: upstream.url,
    tools: {
      echo: harmless,
      'get-sum': harmless,
      'get-roots-list': harmless,
      'trigger-sampling-request': harmless,
      'trigger-elicitation-request': harmless,
      'trigger-long-running-operation': harmless,
    },
  };
  const keys = ['keys'];
  gateway = await startGateway({
    servers: {
      orders: { type: 'sql', dialect: 'sqlite', url: orders.url, environment: 'staging' },
      everything: { ...everythingServer, allow: ['sampling', 'elicitation', 'roots'] },
      closed: everythingServer,
    },
    routes: [
      { match: '/mcp/orders', protocol: 'mcp', server: 'orders', identity: keys },
      { match: '/mcp/readable', protocol: 'mcp', server: 'orders', identity: keys, denial: 'result' },
      { match: '/mcp/everything', protocol: 'mcp', server: 'everything', identity: keys },
      { match: '/mcp/closed', protocol: 'mcp', server: 'closed', identity: keys },
    ],
  });
  [developer, admin, analyst] = await Promise.all([
    gateway.key('developer'),
    gateway.key('admin'),
    gateway.key('analyst'),
  ]);
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
  await Promise.all([orders?.crash(), everything?.crash()]);
});

const at = (name: string) => `${gateway.url}/mcp/${name}`;

describe('a client of the session generation', () => {
  test('initializes, lists, calls and ends its session', async () => {
    verifies('X-12');
    await using connection = await connectLegacy(at('everything'), developer);
    const { client, transport } = connection;
    expect(transport.sessionId).toMatch(/^[0-9a-f-]{36}$/);
    expect(client.getServerVersion()).toMatchObject({ name: expect.stringContaining('everything') });
    expect(textOf(await client.callTool({ name: 'echo', arguments: { message: 'open sesame' } }))).toContain(
      'open sesame',
    );
    expect(textOf(await client.callTool({ name: 'get-sum', arguments: { a: 20, b: 22 } }))).toContain('42');
    const session = transport.sessionId ?? '';
    await transport.terminateSession();
    const after = await call(at('everything'), {
      key: developer,
      json: { jsonrpc: '2.0', id: 1, method: 'tools/list' },
      headers: { 'mcp-session-id': session, accept: 'application/json, text/event-stream' },
    });
    expect(after.status).toBe(404);
  });

  test('sees in the list what its role may use, and nothing else', async () => {
    verifies('X-12');
    const namesFor = async (key: string) => {
      await using connection = await connectLegacy(at('everything'), key);
      return (await connection.client.listTools()).tools.map(({ name }) => name).sort();
    };
    const [forDeveloper, forAnalyst, forAdmin] = [
      await namesFor(developer),
      await namesFor(analyst),
      await namesFor(admin),
    ];
    expect(forDeveloper).toEqual(['echo', 'get-sum', 'trigger-long-running-operation']);
    expect(forAnalyst).toEqual([]);
    // Undeclared tools are custom/high: an admin's.
    expect(forAdmin).toEqual(expect.arrayContaining([...forDeveloper, 'get-env', 'gzip-file-as-resource']));
  });

  test('gets a denial as a JSON-RPC error with code, reasons and ids', async () => {
    await using connection = await connectLegacy(at('orders'), developer);
    const denied = connection.client.callTool({ name: 'execute_query', arguments: { query: 'DELETE FROM orders' } });
    await expect(denied).rejects.toMatchObject({
      code: -31403,
      data: {
        code: 'POLICY_DENIED',
        reasons: [{ code: 'POLICY_DENIED', message: expect.stringContaining('developer') }],
        request_id: expect.stringMatching(/^req_/),
        decision_id: expect.stringMatching(/^dec_/),
      },
    });
    const rows = await connection.client.callTool({
      name: 'execute_query',
      arguments: { query: 'SELECT COUNT(*) AS n FROM orders' },
    });
    expect(textOf(rows)).toBe('[{"n":40}]');
  });

  test('gets it as a result a model can read where the route says so', async () => {
    await using connection = await connectLegacy(at('readable'), developer);
    const result = await connection.client.callTool({
      name: 'execute_query',
      arguments: { query: 'DROP TABLE orders' },
    });
    expect(result.isError).toBe(true);
    expect(textOf(result)).toMatch(/^[A-Z_]+: /);
    expect(result._meta).toMatchObject({ 'portcullis/denial': { request_id: expect.stringMatching(/^req_/) } });
  });

  test('reports progress while a long call runs', async () => {
    await using connection = await connectLegacy(at('everything'), developer);
    const progress: number[] = [];
    const result = await connection.client.callTool(
      { name: 'trigger-long-running-operation', arguments: { duration: 0.3, steps: 3 } },
      undefined,
      { onprogress: (update) => void progress.push(update.progress) },
    );
    expect(progress).toEqual([1, 2, 3]);
    expect(textOf(result)).toContain('completed');
  });

  test('answers the sampling, elicitation and roots requests of a server that may send them', async () => {
    const capabilities = { sampling: {}, elicitation: {}, roots: { listChanged: true } };
    const rootsSynced = Promise.withResolvers<string>();
    await using connection = await connectLegacy(at('everything'), developer, { capabilities }, (client) => {
      client.setRequestHandler(CreateMessageRequestSchema, ({ params }) => ({
        role: 'assistant' as const,
        model: 'scenario-model',
        content: { type: 'text' as const, text: `sampled ${params.maxTokens}` },
      }));
      client.setRequestHandler(ElicitRequestSchema, () => ({ action: 'accept' as const, content: { name: 'Ada' } }));
      client.setRequestHandler(ListRootsRequestSchema, () => ({ roots: [{ uri: 'file:///gate', name: 'gate' }] }));
      client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => {
        const text = JSON.stringify(params.data);
        if (text.includes('Roots')) rootsSynced.resolve(text);
      });
    });
    const { client } = connection;
    // The server asks for the roots by itself, on the GET stream, and then says on it how many it got.
    expect(await rootsSynced.promise).toContain('1');
    const sampled = await client.callTool({
      name: 'trigger-sampling-request',
      arguments: { prompt: 'who goes there', maxTokens: 7 },
    });
    expect(textOf(sampled)).toContain('sampled 7');
    expect(textOf(await client.callTool({ name: 'trigger-elicitation-request', arguments: {} }))).toContain('Ada');
  });

  test('never sees the requests of a server that may not send them, and the server is told', async () => {
    let asked = 0;
    const capabilities = { sampling: {} };
    await using connection = await connectLegacy(at('closed'), developer, { capabilities }, (client) => {
      client.setRequestHandler(CreateMessageRequestSchema, () => {
        asked++;
        return { role: 'assistant' as const, model: 'scenario-model', content: { type: 'text' as const, text: 'x' } };
      });
    });
    const result = await connection.client.callTool({
      name: 'trigger-sampling-request',
      arguments: { prompt: 'who goes there', maxTokens: 7 },
    });
    expect(result.isError).toBe(true);
    expect(textOf(result)).toMatch(/denied/i);
    expect(asked).toBe(0);
  });

  test('cannot use the session of another principal, which looks like one that never was', async () => {
    await using connection = await connectLegacy(at('everything'), developer);
    const use = (session: string, method: string) =>
      call(at('everything'), {
        key: admin,
        method,
        headers: { 'mcp-session-id': session, accept: 'application/json, text/event-stream' },
        ...(method === 'POST' ? { json: { jsonrpc: '2.0', id: 9, method: 'ping' } } : {}),
      });
    const withoutIds = (text: string) => text.replaceAll(/(?:req|dec)_[\w-]+/g, 'id');
    for (const method of ['POST', 'GET', 'DELETE']) {
      const foreign = await use(connection.transport.sessionId ?? '', method);
      const unknown = await use('11111111-2222-3333-4444-555555555555', method);
      expect(foreign.status).toBe(404);
      expect(withoutIds(foreign.text)).toBe(withoutIds(unknown.text));
    }
    // Its owner has lost nothing.
    await connection.client.ping();
  });

  test('takes its upstream request with it when it hangs up', async () => {
    verifies('X-06');
    await using connection = await connectLegacy(at('everything'), developer);
    const leave = new AbortController();
    const response = await fetch(at('everything'), {
      method: 'POST',
      signal: leave.signal,
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        'x-api-key': developer,
        'mcp-session-id': connection.transport.sessionId ?? '',
        'mcp-protocol-version': connection.transport.protocolVersion ?? '',
      },
      body: JSON.stringify({
        jsonrpc: '2.0',
        id: 77,
        method: 'tools/call',
        params: {
          name: 'trigger-long-running-operation',
          arguments: { duration: 30, steps: 300 },
          _meta: { progressToken: 'p' },
        },
      }),
    });
    const id = response.headers.get('x-request-id');
    const reader = response.body?.getReader();
    expect(new TextDecoder().decode((await reader?.read())?.value)).toContain('progress');
    expect(upstream.isOpen('"id":77')).toBe(true);
    leave.abort();
    await upstream.until((seen) => !seen.isOpen('"id":77'));
    const events = await gateway.audited((all) => all.some(({ request_id }) => request_id === id));
    expect(leading(events).filter(({ request_id }) => request_id === id)).toHaveLength(1);
  });
});
