/** A key service as somebody else would have written it: it knows a few keys, and remembers what it was asked. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface ServiceCall {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Record<string, unknown>;
  /** The key that was asked about, wherever it stood. */
  readonly key: string;
  readonly key_id: string | null;
}

export interface ServiceAnswer {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON, or as it is when it is a text or bytes. */
  readonly body?: unknown;
  /** Ends the connection without an answer. */
  readonly hangUp?: boolean;
  /** Never answers. */
  readonly silent?: boolean;
}

export interface KeyService extends AsyncDisposable {
  readonly url: string;
  readonly calls: ServiceCall[];
  /** Connections that were opened. */
  connections(): number;
  /** What is answered to this key; a function is asked each time. */
  readonly keys: Map<string, ServiceAnswer | ((call: ServiceCall) => ServiceAnswer | Promise<ServiceAnswer>)>;
  /** For every key, instead of what is in `keys`. */
  always: ServiceAnswer | null;
  /** Resolves when this many questions were asked altogether. */
  asked(count: number): Promise<void>;
}

/** A good key's answer, in the words of the service. */
export function goodKey(keyId: string, more: Readonly<Record<string, unknown>> = {}): ServiceAnswer {
  return {
    body: {
      is_valid: true,
      user_id: `user-${keyId}`,
      email: `${keyId}@example.com`,
      key_id: keyId,
      service_id: 'ml-platform',
      scopes: ['model:read'],
      roles: ['developer'],
      is_admin: false,
      rate_limit_per_hour: 1000,
      error: null,
      has_sufficient_balance: true,
      balance: 12.5,
      error_type: null,
      ...more,
    },
  };
}

const UNKNOWN: ServiceAnswer = { status: 401, body: { is_valid: false, error: 'unknown key' } };

export async function startKeyService(): Promise<KeyService> {
  const calls: ServiceCall[] = [];
  const keys: KeyService['keys'] = new Map();
  const waiting: { count: number; done: () => void }[] = [];
  let connections = 0;
  const server = createServer((request, response) => void serve(request, response));
  server.on('connection', () => {
    connections++;
  });
  const serve = async (request: IncomingMessage, response: ServerResponse) => {
    if (request.url === '/_calls') return void response.end(JSON.stringify(calls));
    const call = await read(request, keys);
    calls.push(call);
    for (const one of waiting) if (calls.length >= one.count) one.done();
    const rule = service.always ?? keys.get(call.key) ?? UNKNOWN;
    const answer = typeof rule === 'function' ? await rule(call) : rule;
    if (answer.silent === true) return;
    if (answer.hangUp === true) return void request.socket.destroy();
    response.writeHead(answer.status ?? 200, { 'content-type': 'application/json', ...answer.headers });
    response.end(
      typeof answer.body === 'string' || Buffer.isBuffer(answer.body) ? answer.body : JSON.stringify(answer.body ?? {}),
    );
  };
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const service: KeyService = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls,
    keys,
    always: null,
    connections: () => connections,
    asked: (count) =>
      new Promise((done) => {
        if (calls.length >= count) done();
        else waiting.push({ count, done });
      }),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
  return service;
}

async function read(request: IncomingMessage, keys: KeyService['keys']): Promise<ServiceCall> {
  const pieces: Buffer[] = [];
  for await (const piece of request as AsyncIterable<Buffer>) pieces.push(piece);
  const text = Buffer.concat(pieces).toString('utf8');
  const body = text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
  const bearer = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1];
  const key = bearer ?? (typeof body.api_key === 'string' ? body.api_key : '');
  const rule = keys.get(key);
  const known = typeof rule === 'object' ? (rule.body as { key_id?: string } | undefined)?.key_id : undefined;
  const { method = '', url = '', headers } = request;
  return { method, path: url, headers, body, key, key_id: known ?? null };
}
