/** Upstreams for scenarios: a recorder of every byte that reaches an upstream, and a plain HTTP and WebSocket service. */
import { once } from 'node:events';
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import { createServer as createHttpServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { connect, createServer } from 'node:net';
import { WebSocketServer } from 'ws';

async function listen(
  server: { listen(port: number, host: string): unknown; address(): unknown } & NodeJS.EventEmitter,
) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

export interface Recorder extends AsyncDisposable {
  /** The same URL as the target's, on another port. */
  readonly url: string;
  /** Everything clients sent, in the order of arrival per connection. */
  sent(): string;
  /** Values of a header in what clients sent. */
  header(name: string): string[];
  /** True while a connection is open on which this text was sent. */
  isOpen(text: string): boolean;
  /** Resolves as soon as it holds; looked at whenever something is sent or a connection opens or closes. */
  until(holds: (recorder: Recorder) => boolean): Promise<void>;
  /** Where to send new connections from now on: the target moved. */
  retarget(url: string): void;
}

/** A TCP relay in front of an upstream that keeps what was sent: nothing can reach the upstream unseen. */
export async function record(target: string): Promise<Recorder> {
  let { hostname, port } = new URL(target);
  const connections: { readonly chunks: Buffer[]; readonly client: Socket }[] = [];
  const sockets = new Set<Socket>();
  const looks = new Set<() => void>();
  const changed = () => {
    for (const look of looks) look();
  };
  const server = createServer((client) => {
    const chunks: Buffer[] = [];
    connections.push({ chunks, client });
    const upstream = connect(Number(port), hostname);
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        sockets.delete(one);
        other.destroy();
        changed();
      });
    }
    client.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      changed();
    });
    client.pipe(upstream);
    upstream.pipe(client);
  });
  const url = new URL(target);
  url.port = String(await listen(server));
  const textOf = (chunks: readonly Buffer[]) => Buffer.concat(chunks).toString('latin1');
  const sent = () => connections.map(({ chunks }) => textOf(chunks)).join('\n');
  const recorder: Recorder = {
    url: url.href,
    sent,
    header: (name) => [...sent().matchAll(new RegExp(`^${name}: (.*?)\\r?$`, 'gim'))].map((match) => match[1] ?? ''),
    isOpen: (text) => connections.some(({ chunks, client }) => !client.destroyed && textOf(chunks).includes(text)),
    until(holds) {
      return new Promise((done) => {
        const look = () => {
          if (!holds(recorder)) return;
          looks.delete(look);
          done();
        };
        looks.add(look);
        look();
      });
    },
    retarget(next) {
      ({ hostname, port } = new URL(next));
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
  return recorder;
}

export interface Service extends AsyncDisposable {
  readonly url: string;
  readonly server: Server;
}

/** A plain HTTP server on a free port. */
export async function startService(listener: RequestListener): Promise<Service> {
  const server = createHttpServer(listener);
  const url = `http://127.0.0.1:${await listen(server)}`;
  return {
    url,
    server,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

interface Task {
  readonly id: number;
  readonly title: string;
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  let text = '';
  for await (const chunk of request) text += String(chunk);
  return JSON.parse(text);
}

/** A task list: GET, POST and DELETE on /tasks, and a WebSocket on /tasks/live that tells what it is sent back. */
export async function startTasks(): Promise<Service & { readonly tasks: Map<number, Task> }> {
  const tasks = new Map<number, Task>([[1, { id: 1, title: 'raise the gate' }]]);
  const json = (response: ServerResponse, status: number, value: unknown) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(value));
  };
  const service = await startService(async (request, response) => {
    const path = new URL(request.url ?? '/', 'http://localhost').pathname;
    const id = Number(path.split('/')[2] ?? Number.NaN);
    if (request.method === 'GET' && path === '/tasks') return json(response, 200, [...tasks.values()]);
    if (request.method === 'GET' && tasks.has(id)) return json(response, 200, tasks.get(id));
    if (request.method === 'POST' && path === '/tasks') {
      const task = { id: tasks.size + 1, ...((await readJson(request)) as { title: string }) };
      tasks.set(task.id, task);
      return json(response, 201, task);
    }
    if (request.method === 'DELETE' && tasks.delete(id)) return json(response, 200, { deleted: id });
    return json(response, 404, { error: 'not found' });
  });
  const live = new WebSocketServer({ server: service.server, path: '/tasks/live' });
  live.on('connection', (socket, request) => {
    socket.send(JSON.stringify({ user: request.headers['x-auth-user'] }));
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
  return {
    ...service,
    tasks,
    async [Symbol.asyncDispose]() {
      for (const client of live.clients) client.terminate();
      live.close();
      await service[Symbol.asyncDispose]();
    },
  };
}
