import OpenAI, { APIError } from 'openai';
import { describe, expect, test, vi } from 'vitest';
import { startGateway } from '../helpers/gateway.ts';
import type { Answer } from '../helpers/gateway-calls.ts';
import { call, invoke } from '../helpers/gateway-calls.ts';
import { connectLegacy } from '../helpers/gateway-mcp.ts';
import { freePorts, startExample } from '../helpers/processes.ts';
import { record } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

const breaker = { volume: 5, error_percentage: 50, window_ms: 10_000, reset_ms: 400 };
const SELECT = 'SELECT id FROM orders LIMIT 1';

describe('an upstream that is killed', () => {
  test('is a 502 at first, a 503 with Retry-After once the breaker has opened, and back when it is back', async () => {
    verifies('S-85', 'SW-15', 'X-01');
    const [port = 0] = await freePorts(1);
    await using first = await startExample('orders-server', {}, port);
    await using gateway = await startGateway({
      servers: { orders: { type: 'sql', dialect: 'sqlite', url: first.url, environment: 'staging', breaker } },
    });
    const key = await gateway.key('admin');
    expect((await invoke(gateway.url, key, SELECT)).status).toBe(200);
    await first.crash();
    const answers: Answer[] = [];
    for (let i = 0; i < 8; i++) answers.push(await invoke(gateway.url, key, SELECT));
    expect(answers.map(({ status }) => status)).toEqual([502, 502, 502, 502, 502, 503, 503, 503]);
    expect(answers[0]?.body).toMatchObject({ error: { code: 'UPSTREAM_ERROR' } });
    expect(answers[7]?.body).toMatchObject({ error: { code: 'UPSTREAM_CIRCUIT_OPEN' } });
    expect(Number(answers[7]?.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    // Nothing of the machine behind it reaches the caller.
    for (const { text } of answers) expect(text).not.toMatch(new RegExp(`${port}|ECONN|127\\.0\\.0\\.1`));
    const events = await gateway.audited((all) => all.some((event) => event.request_id === answers[7]?.requestId));
    for (const { requestId, status } of answers) {
      expect(events.filter((event) => event.request_id === requestId)).toMatchObject([
        { event_type: 'tool_invocation', outcome: 'failed', status, flag: status === 502 ? 'UF' : 'UO' },
      ]);
    }
    await using _second = await startExample('orders-server', {}, port);
    await vi.waitFor(async () => expect((await invoke(gateway.url, key, SELECT)).status).toBe(200), {
      timeout: 5000,
      interval: 100,
    });
  });

  test('takes no other upstream with it', async () => {
    await using orders = await startExample('orders-server');
    await using model = await startExample('model-server');
    await using gateway = await startGateway({
      servers: { orders: { type: 'sql', dialect: 'sqlite', url: orders.url, breaker } },
      models: { small: { url: model.url } },
      routes: [{ match: '/v1', protocol: 'llm', model: 'small', identity: ['keys'] }],
    });
    const key = await gateway.key('developer');
    await orders.crash();
    for (let i = 0; i < 6; i++) await invoke(gateway.url, key, SELECT);
    const json = { model: 'small', messages: [{ role: 'user', content: 'still there?' }] };
    expect((await call(`${gateway.url}/v1/chat/completions`, { key, json })).status).toBe(200);
    expect((await call(`${gateway.url}/readyz`)).status).toBe(200);
  });

  test('in the middle of a stream ends it with an error, never as if it were complete', async () => {
    await using model = await startExample('model-server');
    await using gateway = await startGateway({
      models: { small: { url: model.url } },
      routes: [{ match: '/v1', protocol: 'llm', model: 'small', identity: ['keys'] }],
    });
    const openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: await gateway.key('developer') });
    const stream = await openai.chat.completions.create({
      model: 'small',
      stream: true,
      max_completion_tokens: 400,
      messages: [{ role: 'user', content: 'tell me everything' }],
    });
    let pieces = 0;
    const reading = async () => {
      for await (const _ of stream) if (++pieces === 3) await model.crash();
    };
    await expect(reading()).rejects.toThrow(APIError);
    expect(pieces).toBeGreaterThanOrEqual(3);
  });

  test('answers an MCP client with an error under its own id', async () => {
    verifies('X-12');
    await using orders = await startExample('orders-server');
    await using upstream = await record(orders.url);
    await using gateway = await startGateway({
      servers: { orders: { type: 'sql', dialect: 'sqlite', url: upstream.url, breaker } },
      routes: [{ match: '/mcp/orders', protocol: 'mcp', server: 'orders', identity: ['keys'] }],
    });
    await using connection = await connectLegacy(`${gateway.url}/mcp/orders`, await gateway.key('developer'));
    await orders.crash();
    const asking = connection.client.callTool({ name: 'execute_query', arguments: { query: SELECT } });
    await expect(asking).rejects.toMatchObject({ code: -31503, data: { code: 'UPSTREAM_ERROR' } });
  });
});
