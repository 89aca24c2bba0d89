import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer as createHttpServer, type IncomingMessage } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { verifies } from '../../helpers/verifies.ts';
import {
  cleanups,
  dispatch,
  failureOf,
  httpServer,
  never,
  rawServer,
  requestOf,
  send,
  upstreamTo,
} from './fixtures.ts';

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
          'X-Sendfile: /a\r\nX-Accel-Redirect: /a\r\nX-End: y\r\nContent-Length: 2\r\n\r\nok',
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
