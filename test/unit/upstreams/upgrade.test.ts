import { once } from 'node:events';
import { createServer, type RequestListener, type Server, ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import type { GatewayError } from '../../../src/core/errors.ts';
import { proxyUpgrade } from '../../../src/upstreams/upgrade.ts';
import { verifies } from '../../helpers/verifies.ts';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function listening(server: Server | ReturnType<typeof createTcpServer>): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanups.push(() => {
    if ('closeAllConnections' in server) server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** A front that hands every upgrade to `proxyUpgrade`, and its outcomes. */
async function front(upstreamPort: number, idleTimeoutMs = 5000) {
  const outcome = Promise.withResolvers<number | GatewayError>();
  const server = createServer();
  server.on('upgrade', (incoming, socket: Socket, head: Buffer) => {
    const outgoing = new ServerResponse(incoming);
    outgoing.assignSocket(socket);
    socket.on('error', () => {});
    const controller = new AbortController();
    socket.on('close', () => controller.abort());
    const headers = { ...(incoming.headers as Record<string, string>), authorization: 'Bearer upstream' };
    proxyUpgrade(
      { url: `http://127.0.0.1:${upstreamPort}`, ca: null, headersTimeoutMs: 300, idleTimeoutMs },
      {
        path: '/up?x=1',
        headers,
        socket,
        head,
        outgoing,
        signal: controller.signal,
        answerHeaders: { 'x-request-id': 'req_1' },
      },
    ).then(outcome.resolve, (error: GatewayError) => {
      outcome.resolve(error);
      outgoing.writeHead(error.status, { 'content-length': 0, connection: 'close' }).end();
    });
  });
  const url = `ws://127.0.0.1:${await listening(server)}/ws`;
  return { url, outcome: outcome.promise };
}

async function echo(): Promise<{ port: number; requests: string[]; clients: WebSocketServer['clients'] }> {
  const requests: string[] = [];
  const http = createServer();
  const sockets = new WebSocketServer({ server: http });
  sockets.on('connection', (client, request) => {
    requests.push(`${request.url} ${request.headers.authorization} ${request.headers['proxy-connection']}`);
    client.send('welcome');
    client.on('message', (data, binary) => client.send(data, { binary }));
  });
  return { port: await listening(http), requests, clients: sockets.clients };
}

const answering = async (handler: RequestListener): Promise<number> => listening(createServer(handler));

async function statusOf(url: string): Promise<number> {
  const client = new WebSocket(url);
  client.on('error', () => {});
  const [, response] = await once(client, 'unexpected-response');
  response.resume();
  return response.statusCode;
}

describe('a WebSocket through the gateway', () => {
  verifies('VW-03');

  test('is joined with the upstream’s, in both directions, with the gateway’s headers', async () => {
    const upstream = await echo();
    const { url, outcome } = await front(upstream.port);
    const client = new WebSocket(url, { headers: { 'proxy-connection': 'x' } });
    const upgraded = once(client, 'upgrade');
    expect((await once(client, 'message'))[0].toString()).toBe('welcome');
    expect((await upgraded)[0].headers['x-request-id']).toBe('req_1');
    const large = Buffer.alloc(300_000, 7);
    client.send(large);
    expect((await once(client, 'message'))[0].equals(large)).toBe(true);
    expect(await outcome).toBe(101);
    expect(upstream.requests).toEqual(['/up?x=1 Bearer upstream undefined']);
    client.close();
    await once(client, 'close');
  });

  test('ends at the upstream when the client vanishes, and at the client when the upstream does', async () => {
    const upstream = await echo();
    const { url } = await front(upstream.port);
    const first = new WebSocket(url);
    await once(first, 'message');
    const [theirs] = upstream.clients;
    first.terminate();
    if (theirs !== undefined && theirs.readyState !== WebSocket.CLOSED) await once(theirs, 'close');
    const second = new WebSocket((await front(upstream.port)).url);
    await once(second, 'message');
    for (const one of upstream.clients) one.terminate();
    await once(second, 'close');
  });

  test('is closed when nothing moves for too long', async () => {
    const upstream = await echo();
    const client = new WebSocket((await front(upstream.port, 50)).url);
    await once(client, 'close');
    expect(upstream.clients.size).toBe(0);
  });

  test('passes the upstream’s refusal on', async () => {
    const port = await answering((_request, response) => response.writeHead(403, { 'x-why': 'no' }).end('no'));
    const { url, outcome } = await front(port);
    expect(await statusOf(url)).toBe(403);
    expect(await outcome).toBe(403);
  });

  test('is refused when the upstream is away, is silent, or switches to something else', async () => {
    const closed = createTcpServer();
    const port = await listening(closed);
    closed.close();
    expect(await statusOf((await front(port)).url)).toBe(502);
    expect(await statusOf((await front(await answering(() => {}))).url)).toBe(504);
    const odd = createTcpServer((socket) =>
      socket.on('error', () => {}).end('HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n'),
    );
    expect(await statusOf((await front(await listening(odd))).url)).toBe(502);
  });
});
