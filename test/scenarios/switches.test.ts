import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import type { AuditEvent } from '../../src/audit/event.ts';
import { ADMIN_TOKEN, writeConfig } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import type { Example, RunningProcess } from '../helpers/processes.ts';
import {
  cleanEnv,
  MAIN,
  ROOT,
  runToEnd,
  startExample,
  startPortcullis,
  temporaryDirectory,
} from '../helpers/processes.ts';
import type { Service } from '../helpers/upstreams.ts';
import { startService, startTasks } from '../helpers/upstreams.ts';

/** Two gateways as processes of their own over one database; what one is told has to hold in the other. */
interface Instance {
  readonly process: RunningProcess;
  readonly data: string;
  readonly admin: string;
  readonly audit: string;
}

/** Milliseconds within which a switch has to hold everywhere. */
const EVERYWHERE_MS = 1000;

const home = temporaryDirectory();
const config = join(home.path, 'portcullis.yaml');
let orders: Example;
let tasks: Awaited<ReturnType<typeof startTasks>>;
let events: Service;
const waiting: string[] = [];
let one: Instance;
let two: Instance;

async function startInstance(name: string): Promise<Instance> {
  const audit = `./audit-${name}.jsonl`;
  await writeConfig(home.path, {
    audit: { file: audit },
    logging: { level: 'info' },
    servers: { orders: { url: orders.url, type: 'sql', dialect: 'sqlite' } },
    routes: [
      { match: '/mcp/orders', protocol: 'mcp', server: 'orders', identity: ['keys'] },
      { match: '/tools', protocol: 'tools', identity: ['keys'] },
      { match: '/servers', protocol: 'tools', identity: ['keys'] },
      { match: '/events', protocol: 'http', url: events.url, identity: ['keys'] },
      { match: '/api/tasks', protocol: 'http', url: tasks.url, rewrite: '/tasks', identity: ['keys'] },
    ],
  });
  const process = startPortcullis(['serve', '-c', config]);
  const [, data = '', admin = ''] = await process.printed(/"data":"(http[^"]+)","admin":"(http[^"]+)"/);
  return { process, data, admin, audit: join(home.path, audit) };
}

beforeAll(async () => {
  [orders, tasks] = await Promise.all([startExample('orders-server'), startTasks()]);
  events = await startService((request, response) => {
    // One that takes its time.
    if (request.url?.endsWith('/waiting')) return void waiting.push(request.url);
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write('data: begun\n\n');
  });
  one = await startInstance('one');
  two = await startInstance('two');
});

afterAll(async () => {
  for (const part of [one?.process, two?.process, events, tasks, orders]) await part?.[Symbol.asyncDispose]();
  home[Symbol.dispose]();
});

async function portcullis(...args: string[]) {
  const done = await runToEnd(process.execPath, [MAIN, ...args, '-c', config], { env: cleanEnv() });
  if (done.code !== 0) throw new Error(`${args.join(' ')}: ${done.stderr}`);
  return done;
}

interface Key {
  readonly api_key: string;
  readonly key_id: string;
}

const operate = (path: string, method = 'GET', json?: unknown, at = one) =>
  call(`${at.admin}${path}`, {
    headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
    ...(json === undefined ? {} : { json }),
    method,
  });

async function key(owner: string, tenant = 'default'): Promise<Key> {
  const wanted = { name: owner, owner_id: owner, tenant_id: tenant, permissions: ['*'], roles: ['admin'] };
  const made = await operate('/keys', 'POST', wanted);
  expect(made.status, made.text).toBe(201);
  return made.body as Key;
}

const codeOf = (answer: { body: unknown }) => (answer.body as { error?: { code?: string } } | undefined)?.error?.code;

/** Asks again and again until the answer is as wanted; gives how long that took. */
async function until(ask: () => Promise<boolean>): Promise<number> {
  const began = performance.now();
  while (!(await ask())) if (performance.now() - began > 10_000) throw new Error('it never came to hold');
  return performance.now() - began;
}

const tasksOf = (at: Instance, { api_key }: Key) => call(`${at.data}/api/tasks`, { key: api_key });
const isOff = (at: Instance, who: Key) => async () => codeOf(await tasksOf(at, who)) === 'SWITCHED_OFF';
const isOn = (at: Instance, who: Key) => async () => (await tasksOf(at, who)).status === 200;

const recorded = async (at: Instance): Promise<AuditEvent[]> =>
  (await readFile(at.audit, 'utf8'))
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as AuditEvent);

/** An event stream that has begun; `ended` resolves with all that came. */
async function openStream(at: Instance, { api_key }: Key): Promise<{ readonly ended: Promise<string> }> {
  const response = await fetch(`${at.data}/events`, { headers: { 'x-api-key': api_key } });
  expect(response.status).toBe(200);
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const first = await reader.read();
  const text = [Buffer.from(first.value ?? []).toString()];
  const rest = async () => {
    try {
      for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
        text.push(Buffer.from(piece.value).toString());
      }
    } catch {
      text.push('(cut)');
    }
    return text.join('');
  };
  return { ended: rest() };
}

async function openSocket(at: Instance, { api_key }: Key): Promise<WebSocket> {
  const socket = new WebSocket(`${at.data.replace('http', 'ws')}/api/tasks/live`, {
    headers: { 'x-api-key': api_key },
  });
  socket.on('error', () => {});
  await once(socket, 'message');
  return socket;
}

const has = (list: readonly AuditEvent[], part: object) =>
  list.some((event) =>
    Object.entries(part).every(([name, value]) => (event as unknown as Record<string, unknown>)[name] === value),
  );

describe('a principal that is switched off', () => {
  test('through one gateway is off in the other within a second, with every key, and comes back', async () => {
    const [first, second, other] = [await key('mallory'), await key('mallory'), await key('alice')];
    expect(await isOn(two, first)()).toBe(true);
    const made = await operate('/switches', 'POST', { kind: 'principal', name: 'mallory', reason: 'stolen laptop' });
    expect(made).toMatchObject({ status: 201, body: { kind: 'principal', tenant: 'default', warnings: [] } });
    expect(await isOff(one, first)()).toBe(true);
    expect(await until(isOff(two, first))).toBeLessThan(EVERYWHERE_MS);
    expect(await isOff(two, second)()).toBe(true);
    expect(await isOn(two, other)()).toBe(true);
    const refused = await tasksOf(two, first);
    expect(refused.status).toBe(403);
    expect(refused.text).not.toContain('stolen laptop');
    const { id } = made.body as { id: string };
    expect((await operate('/switches')).text).toContain(id);
    expect((await operate(`/switches/${id}`, 'DELETE')).status).toBe(204);
    expect(await until(isOn(two, first))).toBeLessThan(EVERYWHERE_MS);
    expect(await isOn(one, second)()).toBe(true);
  });

  test('shows in the records of each gateway, with the operator, the reason and the refused calls', async () => {
    const target = await key('trent');
    await portcullis('switch', 'off', '--principal', 'trent', '--reason', 'left the company');
    for (const at of [one, two]) {
      expect(await until(isOff(at, target))).toBeLessThan(EVERYWHERE_MS);
      await until(async () => has(await recorded(at), { code: 'SWITCHED_OFF', user_id: 'trent' }));
      const off = (await recorded(at)).find(
        (event) =>
          event.event_type === 'admin_action' && event.operation === 'switch:off' && event.details.name === 'trent',
      );
      expect(off).toMatchObject({
        details: { reason: 'left the company', created_by: expect.stringMatching(/^cli:./) },
      });
    }
    const list = JSON.parse((await portcullis('switch', 'list', '--json')).stdout) as { items: { name: string }[] };
    expect(list.items.map(({ name }) => name)).toEqual(['trent']);
    await portcullis('switch', 'on', '--principal', 'trent');
    expect(await until(isOn(two, target))).toBeLessThan(EVERYWHERE_MS);
  });
});

describe('what is open', () => {
  test('ends with the switch: event streams and WebSockets, in both gateways, and the records say why', async () => {
    const owner = await key('eve');
    const streams = await Promise.all([openStream(one, owner), openStream(two, owner)]);
    const sockets = await Promise.all([openSocket(one, owner), openSocket(two, owner)]);
    const closed = sockets.map((socket) => once(socket, 'close'));
    const began = performance.now();
    await operate('/switches', 'POST', { kind: 'key', name: owner.key_id }, two);
    const texts = await Promise.all(streams.map(({ ended }) => ended));
    await Promise.all(closed);
    expect(performance.now() - began).toBeLessThan(EVERYWHERE_MS);
    for (const text of texts) expect(text).toContain('data: begun');
    for (const at of [one, two]) {
      const ends = async () =>
        (await recorded(at)).filter(
          (event) => event.user_id === 'eve' && 'code' in event && event.code === 'SWITCHED_OFF',
        );
      await until(async () => (await ends()).length === 2);
      expect((await ends()).map((event) => ('status' in event ? event.status : null)).sort()).toEqual([101, 200]);
    }
  });

  test('ends also while it waits for an answer, in both gateways', async () => {
    const owner = await key('walter');
    const calls = [one, two].map((at) => call(`${at.data}/events/waiting`, { key: owner.api_key }));
    await until(() => setImmediate(waiting.length === 2));
    const began = performance.now();
    await operate('/switches', 'POST', { kind: 'principal', name: 'walter' }, two);
    const answers = await Promise.all(calls);
    expect(performance.now() - began).toBeLessThan(EVERYWHERE_MS);
    expect(answers.map((answer) => [answer.status, codeOf(answer)])).toEqual(Array(2).fill([403, 'SWITCHED_OFF']));
    await portcullis('switch', 'on', '--principal', 'walter');
  });

  test('ends when its API key is revoked by a command beside the gateway', async () => {
    const owner = await key('judy');
    const bystander = await key('bob');
    const stream = await openStream(one, owner);
    const socket = await openSocket(two, owner);
    const kept = await openSocket(two, bystander);
    const closed = once(socket, 'close');
    await portcullis('keys', 'revoke', owner.key_id, '--yes');
    const began = performance.now();
    await Promise.all([stream.ended, closed]);
    expect(performance.now() - began).toBeLessThan(EVERYWHERE_MS);
    await until(async () => has(await recorded(two), { code: 'TOKEN_REVOKED', user_id: 'judy' }));
    const echoed = once(kept, 'message');
    kept.send('still here');
    expect(String((await echoed)[0])).toBe('still here');
    kept.terminate();
  });

  test('ends when its API key expires', async () => {
    const expires_at = new Date(Date.now() + 2000).toISOString();
    const wanted = { name: 'brief', owner_id: 'brief', permissions: ['*'], roles: ['admin'], expires_at };
    const made = (await operate('/keys', 'POST', wanted)).body as Key;
    const socket = await openSocket(one, made);
    await once(socket, 'close');
    expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(expires_at));
    await until(async () => has(await recorded(one), { code: 'TOKEN_EXPIRED', user_id: 'brief' }));
  });
});

describe('a server, a tool, a route or a tenant', () => {
  const query = (at: Instance, { api_key }: Key) => {
    const parameters = { query: 'SELECT 1' };
    return call(`${at.data}/tools/invoke`, {
      key: api_key,
      json: { server_name: 'orders', tool_name: 'execute_query', parameters },
    });
  };

  test('is refused by name and left out of lists', async () => {
    const user = await key('carol');
    expect((await query(two, user)).status).toBe(200);
    await portcullis('switch', 'off', '--tool', 'orders:execute_query', '--reason', 'bad release', '--public');
    expect(await until(async () => codeOf(await query(two, user)) === 'SWITCHED_OFF')).toBeLessThan(EVERYWHERE_MS);
    expect((await query(two, user)).text).toContain('Switched off by an operator: bad release');
    const tools = async () => (await call(`${two.data}/tools`, { key: user.api_key })).text;
    expect(await tools()).toContain('"orders"');
    expect(await tools()).not.toContain('"execute_query"');
    await portcullis('switch', 'on', '--tool', 'orders:execute_query');
    expect(await until(async () => (await tools()).includes('"execute_query"'))).toBeLessThan(EVERYWHERE_MS);
    await portcullis('switch', 'off', '--server', 'orders');
    await until(async () => codeOf(await query(two, user)) === 'SWITCHED_OFF');
    expect((await call(`${two.data}/servers`, { key: user.api_key })).body).toEqual({ servers: [] });
    const rpc = { jsonrpc: '2.0', id: 1, method: 'tools/list' };
    const listed = await call(`${two.data}/mcp/orders`, { key: user.api_key, json: rpc });
    expect(listed.text).not.toContain('execute_query');
    await portcullis('switch', 'on', '--server', 'orders');
    await portcullis('switch', 'off', '--server', '/api/tasks');
    expect(await until(isOff(two, user))).toBeLessThan(EVERYWHERE_MS);
    expect(has(await recorded(two), { code: 'SWITCHED_OFF', user_id: 'carol', tool_name: 'execute_query' })).toBe(true);
    await portcullis('switch', 'on', '--server', '/api/tasks');
    expect(await until(isOn(two, user))).toBeLessThan(EVERYWHERE_MS);
  });

  test('of a tenant means everybody of it and nobody else, for as long as was said', async () => {
    const [inside, outside] = [await key('dave', 'acme'), await key('dave', 'zenith')];
    await operate('/switches', 'POST', {
      kind: 'tenant',
      name: 'acme',
      until: new Date(Date.now() + 1500).toISOString(),
    });
    expect(await until(isOff(two, inside))).toBeLessThan(EVERYWHERE_MS);
    expect(await isOn(two, outside)()).toBe(true);
    expect(await until(isOn(two, inside))).toBeLessThan(3000);
    expect((await operate('/switches')).text).not.toContain('acme');
  });

  test('that nothing is called by is switched off with a warning', async () => {
    const odd = await portcullis('switch', 'off', '--server', 'ordres');
    expect(odd.stderr).toContain('warning: the configuration has no server, model or HTTP route "ordres"');
    const made = await operate('/switches', 'POST', { kind: 'tool', name: 'x', server: 'nowhere' });
    expect(made.body).toMatchObject({ warnings: ['the configuration has no server "nowhere"'] });
    expect((await operate(`/switches/${(made.body as { id: string }).id}/on`, 'POST')).status).toBe(200);
    await portcullis('switch', 'on', '--server', 'ordres');
  });
});

describe('the administration listener', () => {
  const BAD: readonly (readonly [string, unknown])[] = [
    ['no kind', { name: 'x' }],
    ['another kind', { kind: 'everything', name: 'x' }],
    ['no name', { kind: 'principal' }],
    ['an empty name', { kind: 'server', name: '' }],
    ['a name with a line break', { kind: 'server', name: 'a\nb' }],
    ['half a character', { kind: 'server', name: '\ud800' }],
    ['a name that is too long', { kind: 'key', name: 'k'.repeat(513) }],
    ['a list of names', { kind: 'server', name: ['a'] }],
    ['a member nobody knows', { kind: 'server', name: 'a', tenant: 'b' }],
    ['a tool without its server', { kind: 'tool', name: 'a' }],
    ['a time in the past', { kind: 'server', name: 'a', until: '2001-01-01T00:00:00Z' }],
    ['a time that is none', { kind: 'server', name: 'a', until: 'tomorrow' }],
    ['a reason that is a book', { kind: 'server', name: 'a', reason: 'r'.repeat(501) }],
    ['public that is a word', { kind: 'server', name: 'a', public: 'yes' }],
    ['a list', []],
  ];

  test.each(BAD)('refuses %s and switches nothing', async (_what, body) => {
    expect((await operate('/switches', 'POST', body)).status).toBe(422);
    expect((await operate('/switches')).body).toEqual({ items: [expect.objectContaining({ kind: 'key' })] });
  });

  test('takes names of object members for names', async () => {
    for (const name of ['__proto__', 'constructor', 'toString']) {
      const made = await operate('/switches', 'POST', { kind: 'principal', name, tenant: name });
      expect(made.status).toBe(201);
      expect((await operate(`/switches/${(made.body as { id: string }).id}`, 'DELETE')).status).toBe(204);
    }
    const alice = await key('proto');
    expect(await isOn(one, alice)()).toBe(true);
  });

  test('asks for its token, knows what it does not have, and lets no path be taken for an id', async () => {
    expect((await call(`${one.admin}/switches`, { json: { kind: 'server', name: 'orders' } })).status).toBe(401);
    for (const id of ['swi_none', '%2e%2e', 'a'.repeat(500)]) {
      expect((await operate(`/switches/${id}`, 'DELETE')).status).toBeGreaterThanOrEqual(400);
    }
    expect((await operate('/metrics')).text).toMatch(/^portcullis_switched_off\{kind="key"\} 1$/m);
    expect((await operate('/metrics')).text).toMatch(/^portcullis_exchanges_cut_total\{code="SWITCHED_OFF"\} [1-9]/m);
  });
});

test('the commands of the guide do what it says', async () => {
  const guide = await readFile(join(ROOT, 'docs/operations.md'), 'utf8');
  const [, block = ''] = /## Switch something off.*?```sh\n(.*?)```/s.exec(guide) ?? [];
  const lines = block.trim().split('\n');
  expect(lines.length).toBeGreaterThan(5);
  for (const line of lines) {
    const words = [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare ?? '');
    expect(words[0]).toBe('portcullis');
    await portcullis(...words.slice(1, -2));
  }
  const { items } = JSON.parse((await portcullis('switch', 'list', '--json')).stdout) as { items: { kind: string }[] };
  expect(items.map(({ kind }) => kind)).toEqual(expect.arrayContaining(['key', 'server', 'tool', 'tenant']));
  expect(items.map(({ kind }) => kind)).not.toContain('principal');
});
