/** An authorization server that answers exactly what a test says: for the answers no honest server gives. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

export type Answering = (asked: Asked, response: ServerResponse) => void;

export interface FakeServer extends AsyncDisposable {
  readonly url: string;
  readonly asked: Asked[];
  /** What it answers at a path from now on. */
  at(path: string, answering: Answering): void;
  json(path: string, value: unknown): void;
}

export async function fakeServer(): Promise<FakeServer> {
  const asked: Asked[] = [];
  const paths = new Map<string, Answering>();
  const server = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on('data', (piece: Buffer) => pieces.push(piece));
    request.on('end', () => {
      const path = request.url ?? '';
      const one = {
        method: request.method ?? '',
        path,
        headers: request.headers,
        body: Buffer.concat(pieces).toString(),
      };
      asked.push(one);
      const answering = paths.get(path.split('?', 1)[0] ?? '');
      if (answering === undefined) response.writeHead(404).end();
      else answering(one, response);
    });
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const at: FakeServer['at'] = (path, answering) => void paths.set(path, answering);
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    at,
    json: (path, value) =>
      at(path, (_asked, response) =>
        response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value)),
      ),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

/** Numbers for texts such as `{now+60}`, the issuer for `{issuer}`, all the way down. */
export function filled(value: unknown, issuer: string, nowSeconds: number): unknown {
  if (typeof value === 'string') {
    const time = /^\{now([+-]\d+)\}$/.exec(value);
    return time === null ? value.replace('{issuer}', issuer) : nowSeconds + Number(time[1]);
  }
  if (Array.isArray(value)) return value.map((one) => filled(one, issuer, nowSeconds));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, filled(one, issuer, nowSeconds)]));
}
