import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TestGateway } from '../helpers/gateway.ts';
import { leading, startGateway } from '../helpers/gateway.ts';
import { call, invoke } from '../helpers/gateway-calls.ts';
import type { Example } from '../helpers/processes.ts';
import { startExample } from '../helpers/processes.ts';
import type { Recorder } from '../helpers/upstreams.ts';
import { record } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

let orders: Example;
let everything: Example;
let upstream: Recorder;
let gateway: TestGateway;
const keys: Record<string, string> = {};
const ROLES = ['admin', 'developer', 'analyst', 'data_engineer', 'viewer', 'nobody'];

beforeAll(async () => {
  [orders, everything] = await Promise.all([startExample('orders-server'), startExample('everything-server')]);
  upstream = await record(orders.url);
  gateway = await startGateway({
    servers: {
      orders: {
        type: 'sql',
        dialect: 'sqlite',
        url: upstream.url,
        environment: 'staging',
        tools: {
          update_order_status: { type: 'mutation', sensitivity: 'medium' },
          reset_database: { type: 'admin', sensitivity: 'critical' },
        },
      },
      everything: {
        url: everything.url,
        tools: { echo: { type: 'query', sensitivity: 'low' }, 'get-sum': { type: 'analytics', sensitivity: 'low' } },
      },
      asleep: { url: everything.url, enabled: false },
    },
  });
  for (const role of ROLES) keys[role] = await gateway.key(role);
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
  await Promise.all([orders?.crash(), everything?.crash()]);
});

const keyOf = (role: string) => keys[role] ?? '';

describe('POST /tools/invoke', () => {
  test.each([
    ['developer', 'SELECT id, customer FROM orders LIMIT 3', 200],
    ['developer', 'SELECT region, COUNT(*) FROM orders GROUP BY region', 200],
    ['developer', "UPDATE orders SET status = 'paid' WHERE id = 1", 403],
    ['developer', 'DELETE FROM orders', 403],
    ['developer', 'DROP TABLE orders', 403],
    ['analyst', 'SELECT * FROM orders', 403],
    ['analyst', 'SELECT region, COUNT(*) FROM orders GROUP BY region', 200],
    ['data_engineer', "UPDATE orders SET status = 'paid' WHERE id = 1", 200],
    ['data_engineer', 'DROP TABLE orders', 403],
    ['admin', "UPDATE orders SET status = 'open' WHERE id = 1", 200],
    ['viewer', 'SELECT id FROM orders LIMIT 1', 200],
    ['viewer', 'SELECT region, COUNT(*) FROM orders GROUP BY region', 403],
    ['nobody', 'SELECT id FROM orders LIMIT 1', 403],
  ])('answers %s who asks "%s" with %i', async (role, query, status) => {
    verifies('S-24', 'S-30', 'S-32', 'S-33', 'S-34', 'SW-09');
    const answer = await invoke(gateway.url, keyOf(role), query);
    expect({ status: answer.status, success: (answer.body as { success?: boolean }).success }).toEqual(
      status === 200 ? { status, success: true } : { status, success: undefined },
    );
  });

  test('asks a human before an admin may drop a table, whatever the caller claims of it', async () => {
    verifies('SF-32');
    const json = {
      server_name: 'orders',
      tool_name: 'execute_query',
      parameters: { query: 'DROP TABLE orders' },
      gateway_metadata: { approval_token: 'x', sensitivity_level: 'low', approval: { verified: true } },
    };
    const answer = await call(`${gateway.url}/tools/invoke`, { key: keyOf('admin'), json });
    expect(answer.status).toBe(403);
    expect(answer.body).toMatchObject({ error: { code: 'APPROVAL_REQUIRED' } });
  });

  test('gives the rows of the server with the ids of the request and the decision', async () => {
    verifies('SW-09');
    const answer = await invoke(gateway.url, keyOf('developer'), 'SELECT id, customer FROM orders WHERE id = 2');
    expect(answer.headers.get('x-decision-id')).toMatch(/^dec_/);
    expect(answer.body).toMatchObject({
      success: true,
      error: null,
      result: { content: [{ type: 'text', text: '[{"id":2,"customer":"Grace"}]' }] },
      audit_id: answer.requestId,
      request_id: answer.requestId,
      decision_id: answer.headers.get('x-decision-id'),
    });
  });

  test('says of a failure inside the tool that the tool failed', async () => {
    const answer = await invoke(gateway.url, keyOf('developer'), 'SELECT id FROM nowhere');
    expect(answer.status).toBe(200);
    expect(answer.body).toMatchObject({ success: false, error: { code: 'TOOL_ERROR' } });
  });

  test('refuses with reasons a caller can act on and nothing of the policy behind them', async () => {
    const answer = await invoke(gateway.url, keyOf('analyst'), 'SELECT * FROM orders');
    expect(answer.headers.get('content-type')).toContain('application/problem+json');
    expect(answer.body).toMatchObject({
      status: 403,
      error: { code: 'POLICY_DENIED', message: expect.stringContaining('analyst') },
      request_id: answer.requestId,
    });
    expect(answer.text).not.toMatch(/portcullis\.main|mcp\.gateway|tenure/);
  });

  test('never asks the upstream about a call that is not allowed', async () => {
    const marker = 'a_column_nobody_may_see';
    await invoke(gateway.url, keyOf('nobody'), `SELECT ${marker} FROM orders`);
    expect(upstream.sent()).not.toContain(marker);
  });

  test.each([
    [404, 'SERVER_NOT_FOUND', { server_name: 'nowhere', tool_name: 'echo', parameters: {} }],
    [503, 'SERVER_DISABLED', { server_name: 'asleep', tool_name: 'echo', parameters: {} }],
    [403, 'POLICY_DENIED', { server_name: 'everything', tool_name: 'get-env', parameters: {} }],
    [400, 'INVALID_REQUEST', { server_name: 'orders', parameters: {} }],
  ])('answers %i %s where the call cannot be made', async (status, code, json) => {
    verifies('SW-09', 'S-37');
    const answer = await call(`${gateway.url}/tools/invoke`, { key: keyOf('developer'), json });
    expect(answer.status).toBe(status);
    expect(answer.body).toMatchObject({ error: { code } });
  });

  test('asks for credentials and says how they are given', async () => {
    verifies('D-04', 'D-05');
    const json = { server_name: 'orders', tool_name: 'execute_query', parameters: { query: 'SELECT 1' } };
    const missing = await call(`${gateway.url}/tools/invoke`, { json });
    expect(missing.status).toBe(401);
    expect(missing.headers.get('www-authenticate')).toMatch(/Bearer/);
    expect(missing.body).toMatchObject({ error: { code: 'MISSING_CREDENTIALS' } });
    const bad = await call(`${gateway.url}/tools/invoke`, { json, key: `${keyOf('admin').slice(0, -1)}~` });
    expect(bad.status).toBe(401);
    expect(bad.body).toMatchObject({ error: { code: 'INVALID_CREDENTIALS' } });
  });

  test('records one leading event per call, under the id that the caller and the upstream saw', async () => {
    verifies('X-02', 'S-92', 'S-93');
    const allowed = await invoke(gateway.url, keyOf('developer'), 'SELECT 42 AS answer FROM orders LIMIT 1');
    const denied = await invoke(gateway.url, keyOf('developer'), 'DELETE FROM orders');
    const events = await gateway.audited((all) => all.some(({ request_id }) => request_id === denied.requestId));
    const of = (id: string) => events.filter(({ request_id }) => request_id === id);
    expect(upstream.header('x-request-id')).toContain(allowed.requestId);
    expect(leading(of(allowed.requestId))).toMatchObject([
      { event_type: 'tool_invocation', outcome: 'allowed', status: 200, tool_type: 'query', sensitivity_level: 'low' },
    ]);
    expect(leading(of(denied.requestId))).toMatchObject([
      { event_type: 'tool_invocation', outcome: 'denied', status: 403, code: 'POLICY_DENIED' },
    ]);
    expect(of(denied.requestId).filter(({ event_type }) => event_type === 'policy_violation')).toHaveLength(1);
  });
});

interface Listed {
  readonly tools: { readonly server_name: string; readonly name: string }[];
}

describe('GET /tools and GET /servers', () => {
  test.each([
    ['admin', ['execute_query', 'reset_database', 'update_order_status']],
    ['developer', ['execute_query']],
    ['analyst', ['execute_query']],
    ['viewer', ['execute_query']],
    ['data_engineer', ['execute_query', 'update_order_status']],
    ['nobody', []],
  ])('shows %s of the orders server %j', async (role, names) => {
    verifies('X-12');
    const answer = await call(`${gateway.url}/tools?server_name=orders`, { key: keyOf(role) });
    // A server of which nothing may be seen is as if it were not there.
    const tools = answer.status === 404 ? [] : (answer.body as Listed).tools;
    expect(tools.map(({ name }) => name).sort()).toEqual(names);
  });

  test('shows tools of all servers and hides those that nobody has declared harmless', async () => {
    const answer = await call(`${gateway.url}/tools`, { key: keyOf('developer') });
    const names = (answer.body as Listed).tools.map(({ server_name, name }) => `${server_name}/${name}`);
    expect(names.sort()).toEqual(['everything/echo', 'everything/get-sum', 'orders/execute_query']);
  });

  test('lists servers with their tools to those with a role, and none to others', async () => {
    verifies('SW-09');
    const seen = await call(`${gateway.url}/servers?include_tools=true`, { key: keyOf('viewer') });
    expect(seen.body).toMatchObject({
      servers: expect.arrayContaining([
        expect.objectContaining({
          name: 'orders',
          enabled: true,
          metadata: expect.objectContaining({ server_type: 'sql' }),
        }),
      ]),
    });
    const hidden = await gateway.gateway.keys.create({ name: 'roleless', tenant_id: 'default', roles: [] });
    const unseen = await call(`${gateway.url}/servers`, { key: hidden });
    expect(unseen.body).toEqual({ servers: [] });
  });
});
