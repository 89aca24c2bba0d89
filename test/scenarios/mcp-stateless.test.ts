import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TestGateway } from '../helpers/gateway.ts';
import { startGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import { connectModern, textOf } from '../helpers/gateway-mcp.ts';
import type { Example } from '../helpers/processes.ts';
import { startExample } from '../helpers/processes.ts';
import type { Recorder } from '../helpers/upstreams.ts';
import { record } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

let orders: Example;
let upstream: Recorder;
let gateway: TestGateway;
let developer: string;
let admin: string;

beforeAll(async () => {
  orders = await startExample('orders-server');
  upstream = await record(orders.url);
  gateway = await startGateway({
    servers: {
      orders: {
        type: 'sql',
        dialect: 'sqlite',
        url: upstream.url,
        environment: 'staging',
        tools: { update_order_status: { type: 'mutation', sensitivity: 'medium' } },
      },
    },
    routes: [
      { match: '/mcp/orders', protocol: 'mcp', server: 'orders', identity: ['keys'] },
      { match: '/mcp/readable', protocol: 'mcp', server: 'orders', identity: ['keys'], denial: 'result' },
    ],
  });
  [developer, admin] = await Promise.all([gateway.key('developer'), gateway.key('admin')]);
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
  await orders?.crash();
});

const at = (name: string) => `${gateway.url}/mcp/${name}`;

describe('a client of the stateless generation', () => {
  test('discovers the server and settles on revision 2026-07-28', async () => {
    verifies('X-12');
    await using connection = await connectModern(at('orders'), developer);
    expect(connection.client.getProtocolEra()).toBe('modern');
    expect(connection.client.getServerVersion()).toMatchObject({ name: 'orders' });
    expect(upstream.header('mcp-session-id')).toEqual([]);
  });

  test('sees in the list what its role may use', async () => {
    verifies('X-12');
    await using forDeveloper = await connectModern(at('orders'), developer);
    await using forAdmin = await connectModern(at('orders'), admin);
    const names = (tools: readonly { name: string }[]) => tools.map(({ name }) => name).sort();
    expect(names((await forDeveloper.client.listTools()).tools)).toEqual(['execute_query']);
    expect(names((await forAdmin.client.listTools()).tools)).toContain('update_order_status');
  });

  test('calls what is allowed', async () => {
    await using connection = await connectModern(at('orders'), developer);
    const result = await connection.client.callTool({
      name: 'execute_query',
      arguments: { query: "SELECT COUNT(*) AS n FROM orders WHERE region = 'north'" },
    });
    expect(textOf(result)).toBe('[{"n":10}]');
  });

  test('is told of a denial by code and reasons', async () => {
    await using connection = await connectModern(at('orders'), developer);
    const denied = connection.client.callTool({ name: 'execute_query', arguments: { query: 'DROP TABLE orders' } });
    await expect(denied).rejects.toMatchObject({
      code: -31403,
      data: { code: 'POLICY_DENIED', request_id: expect.stringMatching(/^req_/) },
    });
  });

  test('reads a denial as a result where the route says so', async () => {
    await using connection = await connectModern(at('readable'), developer);
    const result = await connection.client.callTool({
      name: 'execute_query',
      arguments: { query: 'DELETE FROM orders' },
    });
    expect(result.isError).toBe(true);
    expect(textOf(result)).toMatch(/^POLICY_DENIED: /);
  });

  test.each([
    ['the method', { 'mcp-method': 'tools/list' }],
    ['the name', { 'mcp-name': 'reset_database' }],
    ['the revision', { 'mcp-protocol-version': '2025-11-25' }],
  ])(
    'is refused when a header disagrees with the body about %s, and the server hears nothing',
    async (_what, wrong) => {
      const marker = `SELECT ${Math.random().toString(36).slice(2)}x FROM orders`;
      const version = '2026-07-28';
      const answer = await call(at('orders'), {
        key: developer,
        headers: {
          accept: 'application/json, text/event-stream',
          'mcp-protocol-version': version,
          'mcp-method': 'tools/call',
          'mcp-name': 'execute_query',
          ...wrong,
        },
        json: {
          jsonrpc: '2.0',
          id: 5,
          method: 'tools/call',
          params: {
            name: 'execute_query',
            arguments: { query: marker },
            _meta: {
              'io.modelcontextprotocol/protocolVersion': version,
              'io.modelcontextprotocol/clientCapabilities': {},
              'io.modelcontextprotocol/clientInfo': { name: 'scenario', version: '1' },
            },
          },
        },
      });
      expect(answer.status).toBe(400);
      expect(answer.body).toMatchObject({ id: 5, error: { data: { request_id: answer.requestId } } });
      expect(upstream.sent()).not.toContain(marker);
    },
  );

  test('sends the server the very bytes that were decided on', async () => {
    verifies('X-03');
    const version = '2026-07-28';
    // Spaces, escapes and order that no serializer would produce.
    const body = `{ "id" : 6,"jsonrpc":"2.0",  "params":{"arguments":{"query":"SELECT \\u0031 AS one FROM orders LIMIT 1"},
      "name":"execute_query","_meta":{"io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":
      {"name":"scenario","version":"1"},"io.modelcontextprotocol/protocolVersion":"${version}"}},"method":"tools/call" }`;
    const answer = await call(at('orders'), {
      key: developer,
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        'mcp-protocol-version': version,
        'mcp-method': 'tools/call',
        'mcp-name': 'execute_query',
      },
      body,
    });
    expect(answer.status).toBe(200);
    expect(answer.text).toContain('one');
    expect(upstream.sent()).toContain(body);
  });
});
