/** A real door on a free loopback port, and a raw TCP client for it. */
import type { Socket } from 'node:net';
import { connect } from 'node:net';
import { CATALOGUE, type GatewayError } from '../../../src/core/errors.ts';
import type { Received, Reply } from '../../../src/core/exchange.ts';
import type { Logger } from '../../../src/core/module.ts';
import type { Door, DoorLimits, DoorOptions } from '../../../src/http/door.ts';
import { createDoor } from '../../../src/http/server.ts';

export const LIMITS: DoorLimits = {
  header_bytes: 16_384,
  header_count: 100,
  target_bytes: 8192,
  headers_timeout_ms: 10_000,
  request_timeout_ms: 30_000,
  keep_alive_ms: 65_000,
  write_timeout_ms: 30_000,
  connections: 10_000,
  connections_per_ip: 1000,
  max_in_flight: 5000,
};

export const silent: Logger = { debug() {}, info() {}, warn() {}, error() {} };

export function renderError(error: GatewayError, requestId: string): Reply {
  return {
    status: error.status,
    headers: { 'content-type': 'application/problem+json' },
    body: JSON.stringify({ title: CATALOGUE[error.code].title, error: { code: error.code }, request_id: requestId }),
  };
}

export interface OpenDoor extends AsyncDisposable {
  readonly door: Door;
  readonly port: number;
  /** Every request that reached a handler of the data plane. */
  readonly seen: Received[];
}

export async function openDoor(change: Partial<DoorOptions> = {}): Promise<OpenDoor> {
  const seen: Received[] = [];
  const { onRequest = answerOk, ...rest } = change;
  const door = createDoor({
    listen: '127.0.0.1:0',
    limits: LIMITS,
    trustedProxies: [],
    hosts: 'any',
    cors: { origins: [], credentials: false, max_age_seconds: 600 },
    guardsOrigin: () => false,
    isDataPath: () => true,
    app: () => new Response('control'),
    renderError,
    clock: { now: () => Date.now() },
    logger: silent,
    onRequest: (received) => {
      seen.push(received);
      return onRequest(received);
    },
    ...rest,
  });
  const { port } = await door.start();
  return { door, port, seen, [Symbol.asyncDispose]: () => door.close() };
}

/** Reads the whole body, then answers 200 with it. */
export function answerOk({ incoming, outgoing }: Received): void {
  const chunks: Buffer[] = [];
  incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
  incoming.on('error', () => {});
  incoming.on('end', () => {
    const body = Buffer.concat(chunks);
    outgoing.writeHead(200, ['content-type', 'text/plain', 'content-length', String(body.length)]);
    outgoing.end(body);
  });
}

export interface RawAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** A connection that is written to byte for byte and whose answers are read one by one. */
export class RawClient implements AsyncDisposable {
  readonly socket: Socket;
  private buffer = '';
  private ended = false;
  private wake: () => void = () => {};

  constructor(port: number) {
    this.socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    this.socket.on('data', (chunk) => {
      this.buffer += chunk.toString('latin1');
      this.wake();
    });
    const over = (): void => {
      this.ended = true;
      this.wake();
    };
    this.socket.on('end', over);
    this.socket.on('close', over);
    this.socket.on('error', over);
  }

  send(bytes: string): this {
    this.socket.write(Buffer.from(bytes, 'latin1'));
    return this;
  }

  /** The next answer, or null when the connection ends before it is whole. `head`: it answers a HEAD request. */
  async answer(head = false): Promise<RawAnswer | null> {
    for (;;) {
      const parsed = parseAnswer(this.buffer, head);
      if (parsed !== null) {
        this.buffer = this.buffer.slice(parsed.length);
        return parsed.answer;
      }
      if (this.ended) return null;
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
  }

  /** Resolves when the other side has ended the connection. */
  async closed(): Promise<void> {
    while (!this.ended) {
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.socket.destroy();
  }
}

function parseAnswer(text: string, head: boolean): { answer: RawAnswer; length: number } | null {
  const end = text.indexOf('\r\n\r\n');
  if (end === -1) return null;
  const [statusLine = '', ...lines] = text.slice(0, end).split('\r\n');
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  const status = Number(statusLine.split(' ')[1]);
  const bodyStart = end + 4;
  if (head || status === 100 || status === 101 || status === 204)
    return { answer: { status, headers, body: '' }, length: bodyStart };
  if (headers['transfer-encoding'] === 'chunked') {
    const last = text.indexOf('0\r\n\r\n', bodyStart);
    if (last === -1) return null;
    return { answer: { status, headers, body: text.slice(bodyStart, last) }, length: last + 5 };
  }
  const length = Number(headers['content-length'] ?? 0);
  if (text.length < bodyStart + length) return null;
  return { answer: { status, headers, body: text.slice(bodyStart, bodyStart + length) }, length: bodyStart + length };
}
