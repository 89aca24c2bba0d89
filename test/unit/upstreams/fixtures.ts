/** Real servers that misbehave, and an upstream under test. Everything opened is closed after each test. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { afterEach } from 'vitest';
import { GatewayError } from '../../../src/core/errors.ts';
import { createHttpUpstream, type HttpUpstreamOptions } from '../../../src/upstreams/http-pool.ts';
import type { Flow, ResponseSink, Upstream, UpstreamRequest } from '../../../src/upstreams/upstream.ts';

export const cleanups: (() => unknown)[] = [];
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

export function upstreamTo(url: string, overrides: Overrides = {}): Upstream {
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
export async function rawServer(
  onRequest: (socket: Socket, head: string) => void,
): Promise<{ url: string; server: Server }> {
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

export async function httpServer(handler: Parameters<typeof createHttpServer>[1]): Promise<string> {
  const server = createHttpServer(handler as never);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

export const requestOf = (request: Partial<UpstreamRequest> = {}): UpstreamRequest => ({
  method: 'GET',
  path: '/',
  headers: {},
  body: null,
  headersTimeoutMs: 2000,
  idleTimeoutMs: 2000,
  ...request,
});

export const never = new AbortController().signal;
export const send = (upstream: Upstream, request: Partial<UpstreamRequest> = {}, signal = never) =>
  upstream.request(requestOf(request), signal, 1_000_000);

export async function failureOf(outcome: Promise<unknown>): Promise<GatewayError> {
  const thrown = await outcome.then(
    () => null,
    (error: unknown) => error,
  );
  if (thrown instanceof GatewayError) return thrown;
  throw new Error(`not refused: ${String(thrown)}`);
}

/** Records what a dispatch gives, and lets the test wait for its parts. */
export class Recorder implements ResponseSink {
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

export function dispatch(upstream: Upstream, request: Partial<UpstreamRequest> = {}, signal = never): Recorder {
  const recorder = new Recorder();
  upstream.dispatch(requestOf(request), recorder, signal);
  return recorder;
}

/** A real upstream process that can be killed. */
export async function startProcess(port: number): Promise<{ port: number; kill(): Promise<void> }> {
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
