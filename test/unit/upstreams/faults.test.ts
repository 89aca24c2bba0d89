import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { GatewayError } from '../../../src/core/errors.ts';
import { verifies } from '../../helpers/verifies.ts';
import { cleanups, dispatch, failureOf, httpServer, rawServer, send, startProcess, upstreamTo } from './fixtures.ts';

describe('faults of an upstream', () => {
  verifies('S-85', 'SF-63', 'X-06');

  const answers: [string, string, string][] = [
    ['closes without an answer', '', 'UPSTREAM_ERROR'],
    ['speaks something else', 'SSH-2.0-OpenSSH\r\n', 'UPSTREAM_ERROR'],
    [
      'sends both lengths',
      'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
      'UPSTREAM_ERROR',
    ],
    ['sends two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab', 'UPSTREAM_ERROR'],
    ['ends inside the headers', 'HTTP/1.1 200 OK\r\nX-A: ', 'UPSTREAM_ERROR'],
    ['folds a header', 'HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 0\r\n\r\n', 'UPSTREAM_ERROR'],
    ['puts NUL into a header', 'HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 0\r\n\r\n', 'UPSTREAM_ERROR'],
    ['sends 40 KB of headers', `HTTP/1.1 200 OK\r\nX-A: ${'b'.repeat(40_000)}\r\n\r\n`, 'UPSTREAM_ERROR'],
    [
      'switches protocols unasked',
      'HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n',
      'UPSTREAM_ERROR',
    ],
    ['sends interim answers without end', 'HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(5000), 'UPSTREAM_ERROR'],
    ['cuts a body short', 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc', 'UPSTREAM_ERROR'],
    ['cuts a chunked body', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab', 'UPSTREAM_ERROR'],
    ['sends a bad chunk', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n', 'UPSTREAM_ERROR'],
  ];

  test.each(answers)('an upstream that %s ends as an error', async (_name, bytes, code) => {
    const { url } = await rawServer((socket) => socket.end(bytes, 'latin1'));
    expect((await failureOf(send(upstreamTo(url)))).code).toBe(code);
  });

  test('a few interim answers are no fault', async () => {
    const { url } = await rawServer((socket) =>
      socket.end(
        `${'HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n'.repeat(3)}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n`,
      ),
    );
    expect((await send(upstreamTo(url))).status).toBe(200);
  });

  test('an unasked second answer is never taken for that of the next request', async () => {
    const one = (text: string): string => `HTTP/1.1 200 OK\r\nContent-Length: ${text.length}\r\n\r\n${text}`;
    const { url } = await rawServer((socket, head) => {
      const asked = /GET \/(\w+)/.exec(head)?.[1] ?? '';
      socket.write(one(asked) + (asked === 'first' ? one('poison') : ''));
    });
    const upstream = upstreamTo(url, { pool: { max_connections: 1 } });
    expect((await send(upstream, { path: '/first' })).body.toString()).toBe('first');
    const next = await send(upstream, { path: '/second' }).then(
      (response) => response.body.toString(),
      (error: GatewayError) => error.code,
    );
    expect(['second', 'UPSTREAM_ERROR']).toContain(next);
  });

  test('silence before the headers, and inside the body, ends as a time-out', async () => {
    const silent = await rawServer(() => {});
    const before = failureOf(send(upstreamTo(silent.url), { headersTimeoutMs: 50 }));
    const half = await rawServer((socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc'));
    const inside = failureOf(send(upstreamTo(half.url), { idleTimeoutMs: 50 }));
    expect([(await before).code, (await inside).code]).toEqual(['GATEWAY_TIMEOUT', 'GATEWAY_TIMEOUT']);
  });

  test('opens after the volume of faults, then does not call the upstream at all', async () => {
    let calls = 0;
    const url = await httpServer((_request, response) => {
      calls++;
      response.writeHead(500).end();
    });
    const upstream = upstreamTo(url, { breaker: { volume: 3, reset_ms: 30_000 } });
    for (let i = 0; i < 3; i++) expect((await send(upstream)).status).toBe(500);
    const refused = await failureOf(send(upstream));
    expect([refused.code, refused.status, refused.extras.retryAfter]).toEqual(['UPSTREAM_CIRCUIT_OPEN', 503, 30]);
    expect(calls).toBe(3);
    upstream.reset();
    expect((await send(upstream)).status).toBe(500);
  });

  test.each([400, 401, 403, 404, 408, 409, 422, 429, 501])('status %i is an answer, not a fault', async (status) => {
    const url = await httpServer((_request, response) => response.writeHead(status).end());
    const upstream = upstreamTo(url, { breaker: { volume: 1 } });
    for (let i = 0; i < 3; i++) expect((await send(upstream)).status).toBe(status);
    expect(upstream.health().state).toBe('closed');
  });

  test('one upstream’s faults do not touch another', async () => {
    const { url: bad } = await rawServer((socket) => socket.destroy());
    const good = upstreamTo(await httpServer((_request, response) => response.end('ok')));
    const broken = upstreamTo(bad, { breaker: { volume: 1 } });
    await failureOf(send(broken));
    expect(broken.health().state).toBe('open');
    expect((await send(good)).status).toBe(200);
  });

  test('a stream counts as answered with its headers, whatever becomes of its body', async () => {
    const { url } = await rawServer((socket) =>
      socket.end('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab'),
    );
    const upstream = upstreamTo(url, { breaker: { volume: 1 } });
    expect(await dispatch(upstream).ended.promise).toMatchObject({ code: 'UPSTREAM_ERROR' });
    expect(upstream.health().state).toBe('closed');
  });

  test('an upstream killed with SIGKILL gives 502, then 503 with Retry-After, and recovers when it returns', async () => {
    const halfOpen = Promise.withResolvers<void>();
    const first = await startProcess(0);
    const upstream = upstreamTo(`http://127.0.0.1:${first.port}`, {
      breaker: { volume: 3, reset_ms: 400, error_percentage: 50 },
      onStateChange: (state) => state === 'half_open' && halfOpen.resolve(),
    });
    expect((await send(upstream)).body.toString()).toBe('alive');
    await first.kill();
    const codes: string[] = [];
    let last = new GatewayError('INTERNAL_ERROR');
    while (last.code !== 'UPSTREAM_CIRCUIT_OPEN' && codes.length < 10) {
      last = await failureOf(send(upstream));
      codes.push(`${last.status}`);
    }
    expect(codes).toEqual(['502', '502', '502', '503']);
    expect(last.extras.retryAfter).toBe(1);
    await startProcess(first.port);
    await halfOpen.promise;
    expect((await send(upstream)).body.toString()).toBe('alive');
    expect(upstream.health().state).toBe('closed');
  });

  test('a burst leaves no more idle connections than it may', async () => {
    const waiting: (() => void)[] = [];
    const open = new Set<Socket>();
    const server = createHttpServer((_request, response) => {
      waiting.push(() => response.end('x'));
      if (waiting.length === 8) for (const answer of waiting.splice(0)) answer();
    });
    const closed = Promise.withResolvers<void>();
    server.on('connection', (socket) => {
      open.add(socket);
      socket.on('close', () => {
        open.delete(socket);
        if (open.size === 2) closed.resolve();
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    cleanups.push(() => server.close());
    const upstream = upstreamTo(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, {
      pool: { max_keepalive: 2 },
    });
    await Promise.all(Array.from({ length: 8 }, () => send(upstream)));
    await closed.promise;
    expect(upstream.health().idle).toBe(2);
  });
});

describe('a flapping upstream', () => {
  verifies('SF-63');

  test('is never called more often than the breaker lets through, and is used again when it stays up', async () => {
    let up = false;
    let calls = 0;
    const url = await httpServer((_request, response) => {
      calls++;
      if (up) response.end('ok');
      else response.socket?.resetAndDestroy();
    });
    let changed = Promise.withResolvers<void>();
    const upstream = upstreamTo(url, {
      breaker: { volume: 2, reset_ms: 30 },
      onStateChange: (state) => state === 'half_open' && changed.resolve(),
    });
    for (let round = 0; round < 5; round++) {
      up = false;
      // Two faults open it from closed; when half-open one failed probe does.
      while (upstream.health().state !== 'open') await failureOf(send(upstream));
      const before = calls;
      const stampede = await Promise.all(Array.from({ length: 20 }, () => failureOf(send(upstream))));
      expect(stampede.filter((error) => error.code === 'UPSTREAM_CIRCUIT_OPEN').length).toBeGreaterThanOrEqual(19);
      expect(calls - before).toBeLessThanOrEqual(1);
      if (upstream.health().state === 'open') await changed.promise;
      changed = Promise.withResolvers();
      up = round % 2 === 1;
      await send(upstream).catch(() => null);
    }
    up = true;
    if (upstream.health().state === 'open') await changed.promise;
    expect((await send(upstream)).status).toBe(200);
    expect(upstream.health().state).toBe('closed');
  });
});
