import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { GatewayError } from '../../../src/core/errors.ts';
import { type Bodied, BodyBudget, readBody } from '../../../src/protocols/body.ts';
import { verifies } from '../../helpers/verifies.ts';

const LIMIT = 100;
let server: Server;
let next: PromiseWithResolvers<IncomingMessage>;

/** Sends raw bytes and gives the request the server made of them. */
async function arrive(...parts: string[]): Promise<{ incoming: IncomingMessage; socket: Socket }> {
  next = Promise.withResolvers();
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  socket.on('error', () => {});
  await once(socket, 'connect');
  for (const part of parts) socket.write(part);
  return { incoming: await next.promise, socket };
}

const head = (...headers: string[]): string => `POST / HTTP/1.1\r\nHost: x\r\n${headers.join('\r\n')}\r\n\r\n`;

async function codeOf(body: Promise<Buffer>): Promise<string> {
  const outcome = await body.catch((error: unknown) => error);
  return outcome instanceof GatewayError ? outcome.code : 'none';
}

describe('reading a body', () => {
  verifies('X-03', 'X-06');

  beforeAll(async () => {
    server = createServer((incoming) => next.resolve(incoming));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });

  /** The request as the door hands it on; it is cancelled when its connection closes. */
  function received(incoming: IncomingMessage, signal?: AbortSignal): Bodied {
    const controller = new AbortController();
    incoming.socket.once('close', () => controller.abort());
    return { incoming, headers: incoming.headers as Record<string, string>, cancel: signal ?? controller.signal };
  }

  test('gives the exact bytes of a body that came in one piece', async () => {
    const { incoming, socket } = await arrive(`${head('Content-Length: 5')}h\0llo`);
    expect(await readBody(received(incoming), LIMIT)).toEqual(Buffer.from('h\0llo'));
    socket.destroy();
  });

  test('large bodies that are together more than the budget are refused, and make room when they are gone', async () => {
    verifies('X-05');
    const size = 100_000;
    const budget = new BodyBudget(1.5 * size);
    const slow = await arrive(head(`Content-Length: ${size}`), 'x'.repeat(size - 1));
    const first = readBody(received(slow.incoming), size, budget);
    while (budget.held < size - 1) await once(slow.incoming, 'data');
    const late = await arrive(head(`Content-Length: ${size}`), 'x'.repeat(size));
    expect(await codeOf(readBody(received(late.incoming), size, budget))).toBe('OVERLOADED');
    const small = await arrive(`${head('Content-Length: 5')}hello`);
    expect(await readBody(received(small.incoming), size, budget)).toHaveLength(5);
    slow.socket.destroy();
    expect(await codeOf(first)).toBe('CLIENT_CLOSED');
    expect(budget.held).toBe(0);
    for (const { socket } of [late, small]) socket.destroy();
  });

  test('a body counts until its answer is over', async () => {
    const size = 100_000;
    const budget = new BodyBudget(size);
    const { incoming, socket } = await arrive(head(`Content-Length: ${size}`), 'x'.repeat(size));
    const outgoing = new ServerResponse(incoming);
    expect(await readBody({ ...received(incoming), outgoing }, size, budget)).toHaveLength(size);
    expect(budget.held).toBe(size);
    outgoing.emit('close');
    expect(budget.held).toBe(0);
    socket.destroy();
  });

  test('joins a chunked body in order', async () => {
    const { incoming, socket } = await arrive(head('Transfer-Encoding: chunked'));
    const body = readBody(received(incoming), LIMIT);
    socket.write('3\r\nabc\r\n');
    socket.write('2\r\nde\r\n0\r\n\r\n');
    expect((await body).toString()).toBe('abcde');
    socket.destroy();
  });

  test('is empty without a length and with length zero', async () => {
    const none = await arrive('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    expect(await readBody(received(none.incoming), LIMIT)).toHaveLength(0);
    const zero = await arrive(head('Content-Length: 0'));
    expect(await readBody(received(zero.incoming), LIMIT)).toHaveLength(0);
    none.socket.destroy();
    zero.socket.destroy();
  });

  test('takes a body of exactly the limit', async () => {
    const { incoming, socket } = await arrive(head(`Content-Length: ${LIMIT}`) + 'x'.repeat(LIMIT));
    expect(await readBody(received(incoming), LIMIT)).toHaveLength(LIMIT);
    socket.destroy();
  });

  test('refuses a declared length beyond the limit before a byte of it came', async () => {
    const { incoming, socket } = await arrive(head(`Content-Length: ${LIMIT + 1}`));
    expect(await codeOf(readBody(received(incoming), LIMIT))).toBe('PAYLOAD_TOO_LARGE');
    socket.destroy();
  });

  test('stops reading a chunked body at the limit', async () => {
    const { incoming, socket } = await arrive(head('Transfer-Encoding: chunked'));
    const body = readBody(received(incoming), LIMIT);
    socket.write(`65\r\n${'x'.repeat(LIMIT + 1)}\r\n`);
    expect(await codeOf(body)).toBe('PAYLOAD_TOO_LARGE');
    expect(incoming.isPaused()).toBe(true);
    socket.destroy();
  });

  test('ends with CLIENT_CLOSED when the client goes away half way', async () => {
    const { incoming, socket } = await arrive(`${head('Content-Length: 50')}part`);
    const body = readBody(received(incoming), LIMIT);
    socket.destroy();
    expect(await codeOf(body)).toBe('CLIENT_CLOSED');
  });

  test('ends with CLIENT_CLOSED when the request is aborted, and takes its listeners off', async () => {
    const { incoming, socket } = await arrive(`${head('Content-Length: 50')}part`);
    const controller = new AbortController();
    const before = incoming.listenerCount('data');
    const body = readBody(received(incoming, controller.signal), LIMIT);
    controller.abort();
    expect(await codeOf(body)).toBe('CLIENT_CLOSED');
    expect(incoming.listenerCount('data')).toBe(before);
    expect(await codeOf(readBody(received(incoming, controller.signal), LIMIT))).toBe('CLIENT_CLOSED');
    socket.destroy();
  });
});
