import { once } from 'node:events';
import type { ClientRequest, IncomingMessage } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import type { TestGateway } from '../helpers/gateway.ts';
import { leading, startGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import type { Recorder } from '../helpers/upstreams.ts';
import { record, startTasks } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

let tasks: Awaited<ReturnType<typeof startTasks>>;
let upstream: Recorder;
let gateway: TestGateway;
let reader: string;
let writer: string;
let almighty: string;

beforeAll(async () => {
  tasks = await startTasks();
  upstream = await record(tasks.url);
  gateway = await startGateway({
    routes: [
      {
        match: '/api/tasks',
        protocol: 'http',
        url: upstream.url,
        rewrite: '/tasks',
        identity: ['keys'],
        tenant_header: true,
        permissions: {
          GET: ['tasks.read'],
          POST: ['tasks.create'],
          DELETE: { anyOf: ['tasks.delete', 'tasks.admin'] },
          '*': ['tasks.admin'],
        },
      },
      {
        match: '/status',
        protocol: 'http',
        url: upstream.url,
        rewrite: '/tasks',
        anonymous: true,
        permissions: { GET: [] },
      },
      {
        match: '/archive',
        protocol: 'http',
        url: upstream.url,
        rewrite: '/tasks',
        identity: ['keys'],
        permissions: { GET: ['tasks.read'], POST: ['tasks.create'] },
      },
      { match: '/commons', protocol: 'http', url: upstream.url, rewrite: '/tasks', identity: ['keys'] },
    ],
  });
  reader = await gateway.key('reader', { roles: [], permissions: ['tasks.read'] });
  writer = await gateway.key('writer', { roles: [], permissions: ['tasks.*'] });
  almighty = await gateway.key('almighty', { roles: ['admin'], permissions: ['*'] });
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
  await tasks?.[Symbol.asyncDispose]();
});

describe('an ordinary API behind a route with permissions', () => {
  test('asks who is there before anything else', async () => {
    verifies('V-08', 'D-04');
    const before = upstream.sent().length;
    const answer = await call(`${gateway.url}/api/tasks`);
    expect(answer.status).toBe(401);
    expect(answer.body).toMatchObject({ error: { code: 'MISSING_CREDENTIALS' } });
    expect(upstream.sent().length).toBe(before);
  });

  test('takes a key in either header', async () => {
    verifies('V-08', 'V-17');
    const byKey = await call(`${gateway.url}/api/tasks/1`, { key: reader });
    const byBearer = await call(`${gateway.url}/api/tasks/1`, { headers: { authorization: `Bearer ${reader}` } });
    expect(byKey.body).toEqual({ id: 1, title: 'raise the gate' });
    expect(byBearer.body).toEqual(byKey.body);
  });

  test('lets each method pass for the permissions it names', async () => {
    verifies('VF-10', 'VF-11');
    const create = (key: string) => call(`${gateway.url}/api/tasks`, { key, json: { title: 'oil the winch' } });
    const remove = (key: string, id: number) => call(`${gateway.url}/api/tasks/${id}`, { key, method: 'DELETE' });
    const refused = await create(reader);
    expect(refused.status).toBe(403);
    expect(refused.body).toMatchObject({
      error: { code: 'FORBIDDEN', message: expect.stringContaining('tasks.create') },
    });
    const made = await create(writer);
    expect(made.status).toBe(201);
    const { id } = made.body as { id: number };
    expect((await remove(reader, id)).status).toBe(403);
    expect((await remove(writer, id)).status).toBe(200);
    expect((await call(`${gateway.url}/api/tasks`, { key: reader, method: 'PUT' })).status).toBe(403);
  });

  test('closes every method the route does not name, unless it names none', async () => {
    const before = upstream.sent().length;
    for (const method of ['DELETE', 'PUT', 'PATCH']) {
      for (const key of [writer, almighty]) {
        const answer = await call(`${gateway.url}/archive`, { key, method });
        expect(answer.status).toBe(403);
        expect(answer.text).toContain('no permission opens this method');
      }
    }
    expect(upstream.sent().length).toBe(before);
    expect((await call(`${gateway.url}/archive`, { key: reader })).status).toBe(200);
    expect((await call(`${gateway.url}/commons`, { key: reader })).status).toBe(200);
    expect((await call(`${gateway.url}/commons`, { key: reader, method: 'PUT' })).status).not.toBe(403);
  });

  test('does not take a longer name for a permission below it', async () => {
    verifies('VF-10');
    const near = await gateway.key('near', { roles: [], permissions: ['tasksfoo.*', 'task', 'tasks'] });
    expect((await call(`${gateway.url}/api/tasks`, { key: near })).status).toBe(403);
  });

  test('tells the API who calls, and lets nobody else say it', async () => {
    verifies('VF-21', 'X-02');
    const answer = await call(`${gateway.url}/api/tasks?spoofed=1`, {
      key: reader,
      headers: { 'x-auth-user': 'root', 'x-auth-roles': 'admin', 'x-tenant-id': 'elsewhere', 'x-auth-extra': 'root' },
    });
    expect(answer.status).toBe(200);
    expect(upstream.header('x-auth-user')).not.toContain('root');
    expect(upstream.header('x-auth-user')).toContain('user-reader');
    expect(new Set(upstream.header('x-tenant-id'))).toEqual(new Set(['default']));
    expect(upstream.header('x-request-id')).toContain(answer.requestId);
    expect(upstream.sent()).not.toContain('elsewhere');
    expect(upstream.sent()).not.toContain(reader);
  });

  test.each([
    ['the query', (key: string) => `?page=1&api_key=${key}`],
    ['the path', (key: string) => `/${key}/x`],
  ])('refuses a key that stands in %s besides its header, and keeps it', async (_where, target) => {
    verifies('HF-09');
    const answer = await call(`${gateway.url}/api/tasks${target(reader)}`, { key: reader });
    expect(answer).toMatchObject({
      status: 400,
      body: { error: { message: 'A credential must not be in the address' } },
    });
    expect(answer.text.includes(reader)).toBe(false);
    expect(upstream.sent().includes(reader)).toBe(false);
    // Another's key of the upstream's own is the caller's business.
    expect((await call(`${gateway.url}/api/tasks?api_key=of-the-weather-service`, { key: reader })).status).toBe(200);
  });

  test('is open without a credential only where a line says so, and still refuses a bad one', async () => {
    verifies('VF-15');
    expect((await call(`${gateway.url}/status`)).status).toBe(200);
    for (const method of ['POST', 'DELETE']) {
      expect((await call(`${gateway.url}/status`, { method })).status).toBe(403);
    }
    expect((await call(`${gateway.url}/status`, { key: `${reader.slice(0, -2)}zz` })).status).toBe(401);
  });

  test('records each of these ends once', async () => {
    const { requestId } = await call(`${gateway.url}/api/tasks`, { key: reader });
    const events = await gateway.audited((all) => all.some((event) => event.request_id === requestId));
    expect(leading(events).filter((event) => event.request_id === requestId)).toMatchObject([
      { event_type: 'data_access', action: 'http:get', outcome: 'allowed', status: 200, user_id: 'user-reader' },
    ]);
  });
});

describe('a WebSocket through such a route', () => {
  const address = () => `${gateway.url.replace('http', 'ws')}/api/tasks/live`;

  test('carries text and bytes both ways for a caller with the permission', async () => {
    verifies('VW-03');
    const socket = new WebSocket(address(), { headers: { 'x-api-key': reader } });
    const [hello] = (await once(socket, 'message')) as [Buffer];
    expect(JSON.parse(hello.toString())).toEqual({ user: 'user-reader' });
    socket.send('who goes there');
    expect(String(((await once(socket, 'message')) as [Buffer])[0])).toBe('who goes there');
    const bytes = Buffer.alloc(200_000, 7);
    socket.send(bytes);
    expect(((await once(socket, 'message')) as [Buffer])[0]).toEqual(bytes);
    const closed = once(socket, 'close');
    socket.close(1000);
    await closed;
    expect(upstream.sent()).not.toContain(reader);
  });

  test.each([
    ['without the permission', 403, () => gateway.key('stranger', { roles: [] })],
    ['without a credential', 401, () => Promise.resolve(undefined)],
  ])('is refused %s before anything is joined', async (_how, status, makeKey) => {
    const key = await makeKey();
    const asked = () => upstream.sent().split('/tasks/live').length;
    const before = asked();
    const socket = new WebSocket(address(), key === undefined ? {} : { headers: { 'x-api-key': key } });
    const [, response] = (await once(socket, 'unexpected-response')) as [ClientRequest, IncomingMessage];
    expect(response.statusCode).toBe(status);
    expect(response.headers['x-request-id']).toMatch(/^req_/);
    expect(asked()).toBe(before);
    response.resume();
    socket.on('error', () => undefined);
    socket.terminate();
  });
});
