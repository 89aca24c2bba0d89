import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer as createHttpServer, type IncomingMessage } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { afterEach, describe, expect, test } from 'vitest';
import { GatewayError } from '../../../src/core/errors.ts';
import { createHttpUpstream, type HttpUpstreamOptions } from '../../../src/upstreams/http-pool.ts';
import type { Flow, ResponseSink, Upstream, UpstreamRequest } from '../../../src/upstreams/upstream.ts';
import { verifies } from '../../helpers/verifies.ts';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Overrides {
  readonly breaker?: Partial<HttpUpstreamOptions['options']['breaker']>;
  readonly pool?: Partial<HttpUpstreamOptions['options']['pool']>;
  readonly headersTimeout?: number;
  readonly onStateChange?: HttpUpstreamOptions['onStateChange'];
  readonly ca?: string;
}

function upstreamTo(url: string, overrides: Overrides = {}): Upstream {
  const upstream = createHttpUpstream({
    name: 'test',
    url,
    ca: overrides.ca ?? null,
    options: {
      headers_timeout_ms: overrides.headersTimeout ?? 2000,
      idle_timeout_ms: 2000,
      breaker: { volume: 5, error_percentage: 50, window_ms: 10_000, reset_ms: 60_000, ...overrides.breaker },
      pool: {
        max_connections: 10,
        max_keepalive: 5,
        keepalive_expiry_ms: 5000,
        connect_timeout_ms: 1000,
        ...overrides.pool,
      },
      ca: undefined,
    },
    ...(overrides.onStateChange === undefined ? {} : { onStateChange: overrides.onStateChange }),
  });
  cleanups.push(() => upstream[Symbol.asyncDispose]());
  return upstream;
}

/** A server that answers with whatever bytes the test writes. */
async function rawServer(onRequest: (socket: Socket, head: string) => void): Promise<{ url: string; server: Server }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    socket.on('data', (data) => onRequest(socket, data.toString('latin1')));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}

async function httpServer(handler: Parameters<typeof createHttpServer>[1]): Promise<string> {
  const server = createHttpServer(handler as never);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const requestOf = (request: Partial<UpstreamRequest> = {}): UpstreamRequest => ({
  method: 'GET',
  path: '/',
  headers: {},
  body: null,
  headersTimeoutMs: 2000,
  idleTimeoutMs: 2000,
  ...request,
});

const never = new AbortController().signal;
const send = (upstream: Upstream, request: Partial<UpstreamRequest> = {}, signal = never) =>
  upstream.request(requestOf(request), signal, 1_000_000);

async function failureOf(outcome: Promise<unknown>): Promise<GatewayError> {
  const thrown = await outcome.then(
    () => null,
    (error: unknown) => error,
  );
  if (thrown instanceof GatewayError) return thrown;
  throw new Error(`not refused: ${String(thrown)}`);
}

/** Records what a dispatch gives, and lets the test wait for its parts. */
class Recorder implements ResponseSink {
  readonly headed = Promise.withResolvers<number>();
  readonly ended = Promise.withResolvers<Error | null>();
  readonly first = Promise.withResolvers<void>();
  flow: Flow | null = null;
  bytes = 0;
  ends = 0;

  head(status: number, _headers: unknown, flow: Flow): void {
    this.flow = flow;
    this.headed.resolve(status);
  }
  data(chunk: Buffer): void {
    this.bytes += chunk.length;
    this.first.resolve();
  }
  end(): void {
    this.ends++;
    this.ended.resolve(null);
  }
  error(error: Error): void {
    this.ends++;
    this.ended.resolve(error);
  }
}

function dispatch(upstream: Upstream, request: Partial<UpstreamRequest> = {}, signal = never): Recorder {
  const recorder = new Recorder();
  upstream.dispatch(requestOf(request), recorder, signal);
  return recorder;
}

async function text(stream: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

describe('forwarding over a pool', () => {
  verifies('S-80', 'SF-65', 'X-06');

  test('sends the exact bytes and gives the exact bytes back', async () => {
    const seen: string[] = [];
    const url = await httpServer(async (request, response) => {
      seen.push(`${request.method} ${request.url} ${request.headers['content-type']} ${await text(request)}`);
      response.writeHead(201, { 'x-a': 'b' }).end('{"ok" : true}');
    });
    const answer = await send(upstreamTo(`${url}/base/`), {
      method: 'POST',
      path: '/base/x?q=1',
      headers: { 'content-type': 'application/json', 'content-length': '99' },
      body: Buffer.from('{"a" : 1}'),
    });
    expect(seen).toEqual(['POST /base/x?q=1 application/json {"a" : 1}']);
    expect([answer.status, answer.body.toString(), answer.headers['x-a']]).toEqual([201, '{"ok" : true}', 'b']);
    expect(upstreamTo(`${url}/base/`).basePath).toBe('/base');
    expect(upstreamTo(`${url}`).basePath).toBe('');
  });

  test('writes its own Host and Accept-Encoding and drops headers of the hop', async () => {
    let seen: IncomingMessage['headers'] = {};
    const url = await httpServer((request, response) => {
      seen = request.headers;
      response.end();
    });
    await send(upstreamTo(url), {
      headers: { host: 'evil', 'accept-encoding': 'br', te: 'trailers', expect: '100-continue', 'x-kept': '1' },
    });
    expect(seen).toMatchObject({ host: new URL(url).host, 'accept-encoding': 'identity', 'x-kept': '1' });
    expect(seen).not.toHaveProperty('te');
    expect(seen).not.toHaveProperty('expect');
  });

  test('drops response headers of the hop and those that Connection names, and keeps each set-cookie', async () => {
    const { url } = await rawServer((socket) => {
      socket.write(
        'HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nTrailer: x\r\n' +
          'Alt-Svc: h2=":1"\r\nProxy-Authenticate: Basic\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n__proto__: x\r\n' +
          'X-End: y\r\nContent-Length: 2\r\n\r\nok',
      );
    });
    const { headers } = await send(upstreamTo(url));
    expect({ ...headers }).toEqual({ 'set-cookie': ['a=1', 'b=2'], 'x-end': 'y', 'content-length': '2' });
  });

  test('streams a body it does not hold, with its length or chunked', async () => {
    const seen: (string | undefined)[] = [];
    const url = await httpServer(async (request, response) => {
      seen.push(request.headers['content-length'], request.headers['transfer-encoding'], await text(request));
      response.end();
    });
    const upstream = upstreamTo(url);
    const headers = { 'content-length': '6' };
    await send(upstream, { method: 'POST', headers, body: Readable.from([Buffer.from('abc'), Buffer.from('def')]) });
    await send(upstream, { method: 'PUT', body: Readable.from([Buffer.from('xyz')]) });
    expect(seen).toEqual(['6', undefined, 'abcdef', undefined, 'chunked', 'xyz']);
  });

  test('reuses a connection, and opens no more than it may', async () => {
    let connections = 0;
    const waiting: (() => void)[] = [];
    const server = createHttpServer((_request, response) => {
      waiting.push(() => response.end('x'));
      if (waiting.length >= 2) for (const answer of waiting.splice(0)) answer();
    });
    server.on('connection', () => connections++);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    cleanups.push(() => server.close());
    const upstream = upstreamTo(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, {
      pool: { max_connections: 2 },
    });
    await Promise.all(Array.from({ length: 8 }, () => send(upstream)));
    expect(connections).toBe(2);
    expect(upstream.health()).toEqual({ state: 'closed', active: 0, idle: 2, waiting: 0 });
  });

  test('holds the upstream back while the client does not read', async () => {
    const total = 40_000_000;
    let written = 0;
    const url = await httpServer((_request, response) => {
      const source = new Readable({
        read() {
          written += 65_536;
          this.push(written >= total ? null : Buffer.alloc(65_536));
        },
      });
      source.pipe(response);
    });
    const recorder = dispatch(upstreamTo(url));
    await recorder.headed.promise;
    recorder.flow?.pause();
    await recorder.first.promise.catch(() => {});
    // The same process serves both ends: several turns of the loop show that nothing moves any more.
    let last = -1;
    while (last !== written) {
      last = written;
      for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
    }
    expect(written).toBeLessThan(total / 2);
    recorder.flow?.resume();
    expect(await recorder.ended.promise).toBeNull();
    expect(recorder.bytes).toBeGreaterThan(total - 200_000);
  });

  test('cuts the upstream when the client goes away, and that is no fault of the upstream', async () => {
    const gone = Promise.withResolvers<void>();
    const url = await httpServer((_request, response) => {
      response.on('close', () => gone.resolve());
      response.write('data: 1\n\n');
    });
    const upstream = upstreamTo(url, { breaker: { volume: 1 } });
    const controller = new AbortController();
    const recorder = dispatch(upstream, {}, controller.signal);
    await recorder.first.promise;
    controller.abort();
    expect(await recorder.ended.promise).toMatchObject({ code: 'CLIENT_CLOSED' });
    await gone.promise;
    expect(recorder.ends).toBe(1);
    expect(upstream.health().state).toBe('closed');
  });

  test('an abort before the answer, and one before the start, end once and are not counted', async () => {
    const arrived = Promise.withResolvers<void>();
    const url = await httpServer(() => arrived.resolve());
    const upstream = upstreamTo(url, { breaker: { volume: 1 } });
    const controller = new AbortController();
    const running = dispatch(upstream, {}, controller.signal);
    await arrived.promise;
    controller.abort();
    expect(await running.ended.promise).toMatchObject({ code: 'CLIENT_CLOSED' });
    const late = dispatch(upstream, {}, controller.signal);
    expect(await late.ended.promise).toMatchObject({ code: 'CLIENT_CLOSED' });
    expect(upstream.health().state).toBe('closed');
  });

  test('an abort while waiting for a connection answers at once', async () => {
    const arrived = Promise.withResolvers<void>();
    const url = await httpServer(() => arrived.resolve());
    const upstream = upstreamTo(url, { pool: { max_connections: 1 } });
    dispatch(upstream);
    await arrived.promise;
    const controller = new AbortController();
    const queued = dispatch(upstream, {}, controller.signal);
    controller.abort();
    expect(await queued.ended.promise).toMatchObject({ code: 'CLIENT_CLOSED' });
  });

  test('a client that breaks off its upload is not the upstream’s fault', async () => {
    const url = await httpServer((request) => request.resume());
    const upstream = upstreamTo(url, { breaker: { volume: 1 } });
    const body = new PassThrough();
    const controller = new AbortController();
    const recorder = dispatch(upstream, { method: 'POST', body }, controller.signal);
    body.write('part');
    controller.abort();
    body.destroy(new Error('reset'));
    expect(await recorder.ended.promise).toMatchObject({ code: 'CLIENT_CLOSED' });
    expect(upstream.health().state).toBe('closed');
  });

  test('refuses an answer that is larger than the caller can hold', async () => {
    const url = await httpServer((_request, response) => response.end('x'.repeat(2000)));
    const refused = await failureOf(upstreamTo(url).request(requestOf(), never, 1000));
    expect(refused.message).toContain('more than 1000 bytes');
  });

  test('tells a time-out of the caller from a client that left', async () => {
    const url = await httpServer(() => {});
    expect((await failureOf(send(upstreamTo(url), {}, AbortSignal.timeout(20)))).code).toBe('GATEWAY_TIMEOUT');
  });

  test('does not send what cannot be written as HTTP', async () => {
    const url = await httpServer((_request, response) => response.end());
    const upstream = upstreamTo(url, { breaker: { volume: 1 } });
    expect((await failureOf(send(upstream, { headers: { 'x-a': 'b\r\nx: y' } }))).code).toBe('INVALID_REQUEST');
    expect(upstream.health().state).toBe('closed');
  });
});

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

describe('an upstream behind TLS', () => {
  verifies('S-80');

  /** A self-signed certificate for a host name, made by the system's openssl. */
  function certificate(host: string): { cert: string; key: string } {
    const directory = mkdtempSync(join(tmpdir(), 'upstream-tls-'));
    cleanups.push(() => rmSync(directory, { recursive: true }));
    const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
    const name = /^[\d.]+$/.test(host) ? `IP:${host}` : `DNS:${host}`;
    const args = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=x -addext subjectAltName=${name}`;
    execFileSync('openssl', [...args.split(' '), '-keyout', key, '-out', cert], { stdio: 'ignore' });
    return { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') };
  }

  async function httpsServer(host: string): Promise<{ url: string; ca: string; protocols: string[] }> {
    const pair = certificate(host);
    const protocols: string[] = [];
    const server = createHttpsServer({ ...pair, ALPNProtocols: ['h2', 'http/1.1'] }, (request, response) => {
      protocols.push(request.httpVersion);
      response.end('secret');
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    cleanups.push(() => {
      server.closeAllConnections();
      server.close();
    });
    return { url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, ca: pair.cert, protocols };
  }

  test('is called with the authority that was configured, over HTTP/1.1', async () => {
    const { url, ca, protocols } = await httpsServer('127.0.0.1');
    const upstream = upstreamTo(url, { ca });
    expect((await send(upstream)).body.toString()).toBe('secret');
    expect([upstream.encrypted, protocols]).toEqual([true, ['1.1']]);
  });

  test('is not called when its certificate is of an unknown authority or of another host', async () => {
    const unknown = await httpsServer('127.0.0.1');
    const other = await httpsServer('other.test');
    const upstream = upstreamTo(unknown.url, { breaker: { volume: 1 } });
    expect((await failureOf(send(upstream))).code).toBe('UPSTREAM_ERROR');
    expect(upstream.health().state).toBe('open');
    expect((await failureOf(send(upstreamTo(other.url, { ca: other.ca })))).code).toBe('UPSTREAM_ERROR');
    expect([...unknown.protocols, ...other.protocols]).toEqual([]);
  });

  test('is not called in the clear when it does not speak TLS', async () => {
    const seen: string[] = [];
    const { url } = await rawServer((socket, data) => {
      seen.push(data);
      socket.end('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
    });
    const refused = await failureOf(send(upstreamTo(url.replace('http:', 'https:'))));
    expect(refused.code).toBe('UPSTREAM_ERROR');
    expect(seen.join('')).not.toContain('GET ');
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

/** A real upstream process that can be killed. */
async function startProcess(port: number): Promise<{ port: number; kill(): Promise<void> }> {
  const script = `require('node:http').createServer((q, s) => s.end('alive'))
    .listen(${port}, '127.0.0.1', function () { console.log(this.address().port); })`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const kill = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  };
  cleanups.push(kill);
  return { port: Number(line.toString()), kill };
}
