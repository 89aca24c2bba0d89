import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TestGateway } from '../helpers/gateway.ts';
import { ADMIN_TOKEN, startGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import type { Service } from '../helpers/upstreams.ts';
import { startService } from '../helpers/upstreams.ts';

let upstream: Service;
let gateway: TestGateway;
let key: string;

beforeAll(async () => {
  upstream = await startService((request, response) => {
    if (request.url === '/endless') {
      const piece = Buffer.alloc(65_536);
      const fill = () => {
        while (!response.destroyed && response.write(piece));
      };
      response.on('drain', fill);
      fill();
    } else if (request.url === '/broken') request.socket.destroy();
    else response.writeHead(200, { 'x-accel-redirect': '/etc/passwd', 'strict-transport-security': 'max-age=1' }).end();
  });
  const api = { protocol: 'http' as const, url: upstream.url, rewrite: '/', identity: ['keys'] };
  gateway = await startGateway({
    limits: { write_timeout_ms: 100 },
    routes: [
      { match: '/api', ...api },
      { match: '/narrow', ...api, pool: { max_connections: 1 } },
    ],
  });
  key = await gateway.key('user');
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
});

describe('attacks that once worked', () => {
  test('a client that does not read cannot keep the connections of an upstream from the others', async () => {
    const { port } = new URL(gateway.url);
    const slow = connect({ port: Number(port), host: '127.0.0.1' }).pause();
    const closed = new Promise((resolve) => slow.once('close', resolve));
    slow.on('error', () => {});
    slow.write(`GET /narrow/endless HTTP/1.1\r\nHost: localhost\r\nX-API-Key: ${key}\r\n\r\n`);
    expect((await call(`${gateway.url}/narrow/quick`, { key })).status).toBe(200);
    slow.resume();
    await closed;
  });

  test('an upstream gives no orders to a web server in front of the gateway', async () => {
    const { headers } = await call(`${gateway.url}/api/file`, { key });
    expect([headers.get('x-accel-redirect'), headers.get('strict-transport-security')]).toEqual([null, null]);
  });

  test('secrets in a query reach no log', async () => {
    const answer = await call(`${gateway.url}/api/x?api_key=hunter2secret&page=2&token=hunter3secret`, { key });
    expect(answer.status).toBe(200);
    await gateway.audited((events) => events.some(({ request_id }) => request_id === answer.requestId));
    await gateway.stop();
    const decisions = await gateway.decisions();
    expect(decisions).toContain('page=2');
    const written = decisions + gateway.logs.join('') + JSON.stringify(await gateway.audit());
    expect(written).not.toMatch(/hunter\dsecret/);
  });
});

describe('what an operator has to know', () => {
  test('why an upstream failed is in the log, with the id that the caller has', async () => {
    await using broken = await startGateway({
      routes: [{ match: '/api', protocol: 'http', url: upstream.url, rewrite: '/', identity: ['keys'] }],
    });
    const answer = await call(`${broken.url}/api/broken`, { key: await broken.key('user') });
    expect(answer.body).toMatchObject({ error: { code: 'UPSTREAM_ERROR' } });
    expect(answer.text).not.toContain('socket');
    const line = await broken.logged(/request_failed/);
    expect(JSON.parse(line)).toMatchObject({ code: 'UPSTREAM_ERROR', request_id: answer.requestId, route: '/api' });
    expect(line).toContain('other side closed');
  });

  test('a key for addresses that are none is refused with the reason', async () => {
    await using own = await startGateway();
    const answer = await call(`${own.admin}/keys`, {
      json: { name: 'ci', allowed_ips: ['10.0.0.0/99'] },
      headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
    });
    expect(answer.status).toBe(422);
    expect(answer.text).toContain('10.0.0.0/99');
  });
});
