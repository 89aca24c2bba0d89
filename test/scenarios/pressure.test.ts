import { once } from 'node:events';
import { request } from 'node:http';
import OpenAI, { RateLimitError } from 'openai';
import { describe, expect, test } from 'vitest';
import type { PartialConfig } from '../helpers/gateway.ts';
import { startGateway } from '../helpers/gateway.ts';
import { call, invoke } from '../helpers/gateway-calls.ts';
import { connectLegacy } from '../helpers/gateway-mcp.ts';
import { startExample } from '../helpers/processes.ts';
import { startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

const MEGABYTE = 1_048_576;

describe('a client that reads slowly', () => {
  test('slows its upstream down instead of filling the gateway', async () => {
    verifies('X-06');
    const WHOLE = 96 * MEGABYTE;
    let written = 0;
    await using upstream = await startService(async (incoming, response) => {
      if (incoming.url === '/quick') return void response.end('quick');
      const piece = Buffer.alloc(64 * 1024, 7);
      response.writeHead(200, { 'content-type': 'application/octet-stream' });
      while (written < WHOLE && !response.destroyed) {
        written += piece.length;
        if (!response.write(piece)) await once(response, 'drain').catch(() => undefined);
      }
      response.end();
    });
    await using gateway = await startGateway({
      routes: [{ match: '/data', protocol: 'http', url: upstream.url, rewrite: '/', identity: ['keys'] }],
    });
    const key = await gateway.key('admin');
    const asking = request(`${gateway.url}/data/large`, { headers: { 'x-api-key': key } }).end();
    const [answer] = (await once(asking, 'response')) as [NodeJS.ReadableStream];
    answer.pause();
    // Other requests are the clock: the stream had every chance to run on meanwhile.
    for (let i = 0; i < 200; i++) await call(`${gateway.url}/data/quick`, { key });
    expect(written).toBeLessThan(24 * MEGABYTE);
    let received = 0;
    for await (const chunk of answer) received += (chunk as Buffer).length;
    expect(received).toBe(WHOLE);
  });
});

describe('a caller beyond its rate', () => {
  test('is told when to come back, in the words of its protocol, and only then recorded as such', async () => {
    verifies('S-51', 'S-52', 'SF-34', 'SW-05');
    await using orders = await startExample('orders-server');
    await using model = await startExample('model-server');
    // Time stands still, so that no new window begins in between.
    const now = Date.now();
    const config: PartialConfig = {
      servers: { orders: { type: 'sql', dialect: 'sqlite', url: orders.url, environment: 'staging' } },
      models: { small: { url: model.url } },
      routes: [
        { match: '/mcp/orders', protocol: 'mcp', server: 'orders', identity: ['keys'] },
        { match: '/v1', protocol: 'llm', model: 'small', identity: ['keys'] },
      ],
    };
    await using gateway = await startGateway(config, { clock: { now: () => now } });
    // No role with a limit of its own: 100 a minute.
    const key = await gateway.key('user');
    await using connection = await connectLegacy(`${gateway.url}/mcp/orders`, key);
    const statuses: number[] = [];
    for (let i = 0; i < 110; i++) statuses.push((await call(`${gateway.url}/v1/models`, { key })).status);
    expect(statuses.slice(0, 90)).toEqual(Array.from({ length: 90 }, () => 200));
    expect(statuses.slice(-8)).toEqual(Array.from({ length: 8 }, () => 429));
    // Nor is an empty list told where the answer is "not now".
    expect((await call(`${gateway.url}/tools`, { key })).status).toBe(429);
    const refused = await invoke(gateway.url, key, 'SELECT id FROM orders LIMIT 1');
    expect(refused.status).toBe(429);
    const seconds = Number(refused.headers.get('retry-after'));
    expect(seconds).toBeGreaterThanOrEqual(1);
    expect(seconds).toBeLessThanOrEqual(60);
    expect(refused.body).toMatchObject({ error: { code: 'RATE_LIMIT_EXCEEDED', details: { retry_after: seconds } } });
    const told = (name: string) => refused.headers.get(name);
    expect([told('x-ratelimit-limit'), told('x-ratelimit-remaining')]).toEqual(['100', '0']);
    expect(Math.abs(Number(told('x-ratelimit-reset')) - now / 1000 - seconds)).toBeLessThanOrEqual(1);
    expect(told('ratelimit')).toBe(`"policy";r=0;t=${seconds}`);
    expect(told('ratelimit-policy')).toBe('"policy";q=100;w=60');
    const tool = { name: 'execute_query', arguments: { query: 'SELECT id FROM orders LIMIT 1' } };
    await expect(connection.client.callTool(tool)).rejects.toMatchObject({ code: -31429 });
    const openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: key, maxRetries: 0 });
    await expect(openai.models.list()).rejects.toThrow(RateLimitError);
    // Others are not touched by it.
    expect((await invoke(gateway.url, await gateway.key('developer'), tool.arguments.query)).status).toBe(200);
    const events = await gateway.audited((all) => all.some((event) => event.event_type === 'rate_limit_exceeded'));
    expect(events.find((event) => event.event_type === 'rate_limit_exceeded')).toMatchObject({ status: 429 });
  });
});
