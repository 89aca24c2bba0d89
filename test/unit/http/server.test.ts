import assert from 'node:assert';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { GatewayError } from '../../../src/core/errors.ts';
import type { Received } from '../../../src/core/exchange.ts';
import type { DoorRefusal } from '../../../src/http/door.ts';
import { SlowReaders } from '../../../src/http/slow-readers.ts';
import { verifies } from '../../helpers/verifies.ts';
import { LIMITS, openDoor, RawClient } from './open-door.ts';

const GET = 'GET /a HTTP/1.1\r\nHost: gate.example\r\n\r\n';
const post = (length: number): string => `POST /a HTTP/1.1\r\nHost: gate.example\r\nContent-Length: ${length}\r\n\r\n`;

/** A handler that holds every request until the test answers it. */
function holding() {
  const waiting: Received[] = [];
  let wake: () => void = () => {};
  return {
    onRequest: (received: Received) => {
      waiting.push(received);
      wake();
    },
    async take(): Promise<Received> {
      while (waiting.length === 0) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      return waiting.shift() as Received;
    },
  };
}

const answer = ({ outgoing }: Received, status = 200): void => {
  outgoing.writeHead(status, ['content-length', '2']);
  outgoing.end('ok');
};

const codeOf = (body: string | undefined): unknown =>
  (JSON.parse(body ?? '{}') as { error?: { code?: string } }).error?.code;

describe('every request is answered', () => {
  test('a handler that throws or rejects becomes INTERNAL_ERROR without its message', async () => {
    const failing = [
      () => {
        throw new Error('secret detail');
      },
      () => Promise.reject(new Error('secret detail')),
    ];
    for (const onRequest of failing) {
      await using opened = await openDoor({ onRequest });
      await using client = new RawClient(opened.port);
      const got = await client.send(GET).answer();
      expect(got?.status).toBe(500);
      expect(got?.body).not.toContain('secret');
    }
  });

  test('a handler that throws a GatewayError is answered with it', async () => {
    await using opened = await openDoor({ onRequest: () => Promise.reject(new GatewayError('RATE_LIMIT_EXCEEDED')) });
    await using client = new RawClient(opened.port);
    expect((await client.send(GET).answer())?.status).toBe(429);
  });

  test('each answer carries the request id that the handler saw', async () => {
    await using opened = await openDoor();
    await using client = new RawClient(opened.port);
    const got = await client.send(GET).answer();
    expect(got?.headers['x-request-id']).toBe(opened.seen[0]?.id);
  });

  test('a handler that writes the id itself does not double it', async () => {
    await using opened = await openDoor({
      onRequest: ({ outgoing, id }) => {
        outgoing.writeHead(200, ['X-Request-Id', id, 'content-length', '0']);
        outgoing.end();
      },
    });
    await using client = new RawClient(opened.port);
    expect((await client.send(GET).answer())?.headers['x-request-id']).toBe(opened.seen[0]?.id);
  });

  test('paths that are not of the data plane go to the app, with cleaned headers and path', async () => {
    const seen: string[] = [];
    await using opened = await openDoor({
      isDataPath: (path) => path !== '/auth/me',
      app: (request, { received }) => {
        seen.push(request.url, received.id, JSON.stringify([...request.headers]));
        return Response.json({ ok: true });
      },
    });
    await using client = new RawClient(opened.port);
    client.send('GET /auth/%6de?q=1 HTTP/1.1\r\nHost: gate.example\r\nX-Auth-User: root\r\nX-A: 1\r\n\r\n');
    const got = await client.answer();
    expect(got?.status).toBe(200);
    expect(seen[0]).toBe('http://gate.example/auth/me?q=1');
    expect(seen[1]).toBe(got?.headers['x-request-id']);
    expect(seen[2]).not.toContain('root');
    expect(seen[2]).toContain('x-a');
    expect(opened.seen).toHaveLength(0);
  });

  test('an app that throws is answered with INTERNAL_ERROR', async () => {
    await using opened = await openDoor({
      isDataPath: () => false,
      app: () => Promise.reject(new Error('secret detail')),
    });
    await using client = new RawClient(opened.port);
    const got = await client.send(GET).answer();
    expect([got?.status, codeOf(got?.body)]).toEqual([500, 'INTERNAL_ERROR']);
  });

  test('refusals are reported with what is known of the request', async () => {
    const refusals: DoorRefusal[] = [];
    await using opened = await openDoor({ onRefused: (refusal) => refusals.push(refusal) });
    await using client = new RawClient(opened.port);
    const got = await client.send('GET /a//b?token=x HTTP/1.1\r\nHost: gate.example\r\n\r\n').answer();
    expect(refusals).toMatchObject([
      { id: got?.headers['x-request-id'], method: 'GET', target: '/a//b', address: '127.0.0.1', received: null },
    ]);
    expect(refusals[0]?.error.code).toBe('AMBIGUOUS_PATH');
  });
});

describe('limits', () => {
  verifies('X-05');

  test('more requests in flight than allowed are told so at once, and health still answers', async () => {
    const held = holding();
    await using opened = await openDoor({
      limits: { ...LIMITS, max_in_flight: 1 },
      onRequest: held.onRequest,
      isDataPath: (path) => path !== '/livez',
    });
    await using first = new RawClient(opened.port);
    await using second = new RawClient(opened.port);
    first.send(GET);
    const waiting = await held.take();
    const refused = await second.send(GET).answer();
    expect([refused?.status, codeOf(refused?.body)]).toEqual([503, 'OVERLOADED']);
    expect((await second.send(GET.replace('/a', '/livez')).answer())?.status).toBe(200);
    answer(waiting);
    expect((await first.answer())?.status).toBe(200);
  });

  test('connections over the limit of an address are closed and counted', async () => {
    const reasons: string[] = [];
    await using opened = await openDoor({
      limits: { ...LIMITS, connections_per_ip: 1 },
      onConnectionRefused: (reason) => reasons.push(reason),
    });
    await using first = new RawClient(opened.port);
    expect((await first.send(GET).answer())?.status).toBe(200);
    await using second = new RawClient(opened.port);
    await second.closed();
    expect(reasons).toEqual(['address']);
    expect((await first.send(GET).answer())?.status).toBe(200);
    first.socket.destroy();
    await first.closed();
    while (opened.door.connections > 0) await new Promise((resolve) => setImmediate(resolve));
    await using third = new RawClient(opened.port);
    expect((await third.send(GET).answer())?.status).toBe(200);
  });

  test('connections over the total are refused', async () => {
    const reasons: string[] = [];
    await using opened = await openDoor({
      limits: { ...LIMITS, connections: 1 },
      onConnectionRefused: (reason) => reasons.push(reason),
    });
    await using first = new RawClient(opened.port);
    expect((await first.send(GET).answer())?.status).toBe(200);
    await using second = new RawClient(opened.port);
    await second.closed();
    expect(reasons).toEqual(['total']);
  });

  test('a header section or a body that drips in too slowly is answered with 408', async () => {
    const held = holding();
    await using opened = await openDoor({
      limits: { ...LIMITS, headers_timeout_ms: 50, request_timeout_ms: 50 },
      onRequest: held.onRequest,
    });
    await using slowHead = new RawClient(opened.port);
    await using slowBody = new RawClient(opened.port);
    slowHead.send('GET /a HTTP/1.1\r\nHost: gate');
    slowBody.send(`${post(10)}abc`);
    const received = await held.take();
    const [head, body] = await Promise.all([slowHead.answer(), slowBody.answer()]);
    expect([head?.status, codeOf(head?.body)]).toEqual([408, 'REQUEST_TIMEOUT']);
    expect([body?.status, body?.headers['x-request-id']]).toEqual([408, received.id]);
    expect(received.signal.aborted).toBe(true);
  });

  test('a body that was answered before it was whole and then stops gets no second answer', async () => {
    await using opened = await openDoor({
      limits: { ...LIMITS, headers_timeout_ms: 50, request_timeout_ms: 50 },
      onRequest: answer,
    });
    await using client = new RawClient(opened.port);
    expect((await client.send(`${post(10)}abc`).answer())?.status).toBe(200);
    expect(await client.answer()).toBeNull();
  });

  test('a client that does not take its answer loses its connection, and whoever writes learns of it', async () => {
    verifies('X-06');
    const held = holding();
    await using opened = await openDoor({ limits: { ...LIMITS, write_timeout_ms: 50 }, onRequest: held.onRequest });
    await using client = new RawClient(opened.port);
    client.socket.pause();
    client.send(GET);
    const { outgoing, signal } = await held.take();
    outgoing.writeHead(200, []);
    const piece = Buffer.alloc(65_536);
    const fill = (): void => {
      while (outgoing.write(piece));
    };
    outgoing.on('drain', fill);
    fill();
    await new Promise((resolve) => signal.addEventListener('abort', resolve));
    expect(opened.door.inFlight).toBe(0);
  });

  test('a client that takes a large answer slowly keeps its connection', async () => {
    let now = 0;
    const socket = { destroyed: false, writableLength: 10, bytesWritten: 10, destroy: () => assert.fail() };
    const readers = new SlowReaders(100);
    for (; now < 1000; now += 90) {
      readers.look([socket as unknown as Socket], now);
      socket.bytesWritten += 10;
    }
  });

  test('an upload that is refused while it is being sent still gets its answer', async () => {
    await using opened = await openDoor({ onRequest: () => Promise.reject(new GatewayError('PAYLOAD_TOO_LARGE')) });
    await using client = new RawClient(opened.port);
    client.send(post(1_000_000_000));
    for (let i = 0; i < 20; i++) client.send('x'.repeat(65_536));
    const got = await client.answer();
    expect([got?.status, got?.headers.connection]).toEqual([413, 'close']);
    client.socket.end();
    await client.closed();
  });

  test('what follows a refused upload on the same connection has no effect', async () => {
    await using opened = await openDoor({ onRequest: () => Promise.reject(new GatewayError('PAYLOAD_TOO_LARGE')) });
    await using client = new RawClient(opened.port);
    client.send(post(100_000));
    expect((await client.answer())?.status).toBe(413);
    client.send(`${'x'.repeat(100_000)}${GET}`).socket.end();
    await client.closed();
    expect(opened.seen).toHaveLength(1);
  });

  test('a small body nobody wanted is thrown away and the connection stays in use', async () => {
    await using opened = await openDoor({ onRequest: () => Promise.reject(new GatewayError('MISSING_CREDENTIALS')) });
    await using client = new RawClient(opened.port);
    for (const rest of ['abcde', '']) {
      client.send(`${post(5)}${rest}`);
      expect(await client.answer()).toMatchObject({ status: 401, headers: { connection: 'keep-alive' } });
      if (rest === '') client.send('abcde');
    }
    expect((await client.send(GET).answer())?.status).toBe(401);
    expect(opened.seen).toHaveLength(3);
  });

  test('100 Continue is said when the body is wanted and not before', async () => {
    const held = holding();
    await using opened = await openDoor({ onRequest: held.onRequest });
    await using client = new RawClient(opened.port);
    client.send('POST /a HTTP/1.1\r\nHost: gate.example\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n');
    const received = await held.take();
    received.incoming.on('data', () => {});
    received.incoming.on('end', () => answer(received));
    expect((await client.answer())?.status).toBe(100);
    expect((await client.send('abc').answer())?.status).toBe(200);

    client.send('POST /a HTTP/1.1\r\nHost: gate.example\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n');
    answer(await held.take(), 401);
    const refused = await client.answer();
    expect([refused?.status, refused?.headers.connection]).toEqual([401, 'close']);
  });
});

describe('a client that leaves', () => {
  verifies('X-06');

  test('aborts the signal, also one that is asked for afterwards', async () => {
    const held = holding();
    await using opened = await openDoor({ onRequest: held.onRequest });
    await using client = new RawClient(opened.port);
    client.send(GET);
    const received = await held.take();
    const { signal } = received;
    const aborted = once(signal, 'abort');
    client.socket.destroy();
    await aborted;
    expect(signal.reason).toMatchObject({ code: 'CLIENT_CLOSED' });
    expect(opened.door.inFlight).toBe(0);

    await using late = new RawClient(opened.port);
    late.send(GET);
    const second = await held.take();
    const closed = once(second.outgoing, 'close');
    late.socket.destroy();
    await closed;
    expect(second.signal.aborted).toBe(true);
  });

  test('an answer that is complete aborts nothing', async () => {
    const held = holding();
    await using opened = await openDoor({ onRequest: held.onRequest });
    await using client = new RawClient(opened.port);
    client.send(GET);
    const received = await held.take();
    const { signal } = received;
    const closed = once(received.outgoing, 'close');
    answer(received);
    await closed;
    expect((await client.answer())?.status).toBe(200);
    expect(signal.aborted).toBe(false);
    expect(opened.door.inFlight).toBe(0);
  });
});

describe('a drain', () => {
  verifies('X-09');

  test('lets requests in flight finish, takes no new connection and says close', async () => {
    const held = holding();
    await using opened = await openDoor({ onRequest: held.onRequest });
    await using client = new RawClient(opened.port);
    client.send(GET);
    const received = await held.take();
    const drained = opened.door.drain(10_000, 0);
    expect(opened.door.draining).toBe(true);
    await using late = new RawClient(opened.port);
    await late.closed();
    answer(received);
    const got = await client.answer();
    expect([got?.status, got?.headers.connection]).toEqual([200, 'close']);
    expect(await drained).toEqual({ drained: true });
  });

  test('answers a request that was already on its way on an idle connection', async () => {
    await using opened = await openDoor();
    await using client = new RawClient(opened.port);
    expect((await client.send(GET).answer())?.status).toBe(200);
    client.send(GET);
    const drained = await opened.door.drain(5000, 50);
    expect((await client.answer())?.headers.connection).toBe('close');
    expect(drained).toEqual({ drained: true });
  });

  test('tells those without an answer at the deadline, and cuts the others', async () => {
    const held = holding();
    await using opened = await openDoor({ onRequest: held.onRequest });
    await using mute = new RawClient(opened.port);
    await using streaming = new RawClient(opened.port);
    mute.send(GET);
    await held.take();
    streaming.send(GET);
    const second = await held.take();
    second.outgoing.writeHead(200, ['content-length', '100']);
    second.outgoing.write('part');
    expect(await opened.door.drain(30, 0)).toEqual({ drained: false });
    const got = await mute.answer();
    expect([got?.status, codeOf(got?.body)]).toEqual([503, 'SHUTTING_DOWN']);
    expect(await streaming.answer()).toBeNull();
  });

  test('loses no request of clients that hammer while it runs', async () => {
    await using opened = await openDoor();
    let answered = 0;
    let lost = 0;
    /** One connection after the other, each used until it is closed; ends when none is to be had. */
    const hammer = async (): Promise<void> => {
      for (let taken = true; taken; ) {
        await using client = new RawClient(opened.port);
        taken = false;
        for (;;) {
          const got = await client.send(GET).answer();
          if (got === null && taken) lost++;
          if (got === null) break;
          taken = true;
          answered++;
          if (got.headers.connection === 'close') break;
        }
      }
    };
    const clients = Array.from({ length: 16 }, hammer);
    while (answered < 500) await new Promise((resolve) => setImmediate(resolve));
    const result = await opened.door.drain(5000, 100);
    await Promise.all(clients);
    expect(result).toEqual({ drained: true });
    expect({ lost, unanswered: opened.seen.length - answered }).toEqual({ lost: 0, unanswered: 0 });
  });
});

describe('WebSocket upgrades', () => {
  const UPGRADE =
    'GET /ws HTTP/1.1\r\nHost: gate.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n';

  test('are not taken without a handler', async () => {
    await using opened = await openDoor();
    await using client = new RawClient(opened.port);
    const got = await client.send(`${UPGRADE}\r\n`).answer();
    expect([got?.status, got?.headers.connection]).toEqual([501, 'close']);
    await client.closed();
    expect(opened.seen).toHaveLength(0);
  });

  test('count as requests in flight', async () => {
    const held = holding();
    await using opened = await openDoor({
      limits: { ...LIMITS, max_in_flight: 1 },
      onRequest: held.onRequest,
      onUpgrade: held.onRequest,
    });
    await using first = new RawClient(opened.port);
    first.send(GET);
    const waiting = await held.take();
    await using second = new RawClient(opened.port);
    expect((await second.send(`${UPGRADE}\r\n`).answer())?.status).toBe(503);
    answer(waiting);
    expect((await first.answer())?.status).toBe(200);
  });

  test('pass the same hygiene', async () => {
    const seen: Received[] = [];
    await using opened = await openDoor({ onUpgrade: (received) => void seen.push(received) });
    await using client = new RawClient(opened.port);
    const got = await client.send(`${UPGRADE.replace('/ws', '/a/../ws')}\r\n`).answer();
    expect(got?.status).toBe(400);
    expect(seen).toHaveLength(0);
  });

  test('can be refused like any request, or taken over', async () => {
    const { promise, resolve } = Promise.withResolvers<Socket>();
    await using opened = await openDoor({
      onUpgrade: (received, socket, head) => {
        if (received.headers.authorization === undefined)
          return Promise.reject(new GatewayError('MISSING_CREDENTIALS'));
        received.outgoing.detachSocket(socket);
        socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n');
        socket.write(head);
        socket.on('end', () => socket.end()).resume();
        resolve(socket);
        return undefined;
      },
    });
    await using refused = new RawClient(opened.port);
    expect((await refused.send(`${UPGRADE}\r\n`).answer())?.status).toBe(401);
    await refused.closed();
    await using taken = new RawClient(opened.port);
    expect((await taken.send(`${UPGRADE}Authorization: Bearer x\r\n\r\n`).answer())?.status).toBe(101);
    expect(opened.door.inFlight).toBe(1);
    const socket = await promise;
    const closed = once(socket, 'close');
    taken.socket.destroy();
    await closed;
    expect(opened.door.inFlight).toBe(0);
  });

  test('that were taken over are cut at the deadline of a drain and not refused as well', async () => {
    const refusals: DoorRefusal[] = [];
    await using opened = await openDoor({
      onUpgrade: ({ outgoing }, socket) => {
        outgoing.detachSocket(socket);
        socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n');
      },
      onRefused: (refusal) => refusals.push(refusal),
    });
    await using client = new RawClient(opened.port);
    expect((await client.send(`${UPGRADE}\r\n`).answer())?.status).toBe(101);
    expect(await opened.door.drain(50, 0)).toEqual({ drained: false });
    await client.closed();
    expect(refusals).toEqual([]);
  });
});
