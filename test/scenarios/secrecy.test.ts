import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { AuditEvent } from '../../src/audit/event.ts';
import type { TestGateway } from '../helpers/gateway.ts';
import { ADMIN_TOKEN, leading, startGateway } from '../helpers/gateway.ts';
import type { Answer } from '../helpers/gateway-calls.ts';
import { call, invoke } from '../helpers/gateway-calls.ts';
import { connectLegacy, connectModern } from '../helpers/gateway-mcp.ts';
import type { Example } from '../helpers/processes.ts';
import { startExample } from '../helpers/processes.ts';
import type { Recorder } from '../helpers/upstreams.ts';
import { record, startTasks } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

/**
 * One long day of a gateway: every kind of client, every kind of end. Afterwards everything that was written or sent
 * anywhere is searched for what must not be there, and each end is looked up.
 */
const MODEL_KEY = 'model-credential-3vN8kQw5ZtYp7LsR';
const SERVER_KEY = 'server-credential-9bX2mHf6JdGc4WuE';
const PARAMETER_SECRET = 'hunter2-but-much-longer-T5kL';
let orders: Example;
let model: Example;
let tasks: Awaited<ReturnType<typeof startTasks>>;
let recorders: Recorder[];
let gateway: TestGateway;
const keys: string[] = [];
const answers: Answer[] = [];
/** Captured before the gateway closes. */
let sent: string;
let events: AuditEvent[];
let files: Map<string, string>;
let metrics: string;

async function theDay(): Promise<void> {
  const [developer = '', viewer = '', nobody = ''] = keys;
  const say = async (answer: Promise<Answer>) => void answers.push(await answer);
  await say(invoke(gateway.url, developer, 'SELECT id FROM orders LIMIT 1'));
  await say(invoke(gateway.url, developer, `SELECT id FROM orders WHERE customer = '${PARAMETER_SECRET}'`));
  await say(invoke(gateway.url, developer, 'DROP TABLE orders'));
  await say(invoke(gateway.url, nobody, 'SELECT id FROM orders'));
  await say(invoke(gateway.url, `${developer.slice(0, -4)}AAAA`, 'SELECT 1'));
  await say(call(`${gateway.url}/tools/invoke`, { json: { server_name: 'orders' } }));
  await say(call(`${gateway.url}/tools`, { key: viewer }));
  await say(call(`${gateway.url}/servers`, { key: viewer }));
  await say(call(`${gateway.url}/nowhere`, { key: developer }));
  await say(call(`${gateway.url}/api/tasks`, { key: developer }));
  await say(call(`${gateway.url}/api/tasks`, { key: viewer, method: 'DELETE' }));
  await say(call(`${gateway.url}/down`, { key: developer }));
  await say(call(`${gateway.url}/v1/chat/completions`, { key: developer, method: 'POST', body: '{"a":1,"a":2}' }));
  await say(call(`${gateway.url}/mcp/orders`, { headers: { authorization: `Bearer ${nobody}` }, json: [] }));
  // A key in a place where none belongs.
  await say(call(`${gateway.url}/api/tasks?api_key=${developer}`));
  await say(
    call(`${gateway.url}/api/${developer}`, { key: developer, headers: { 'user-agent': `curl ${developer}` } }),
  );
  await say(call(`${gateway.url}/api//${developer}`, { key: developer }));
  const openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: developer, maxRetries: 0 });
  const messages = [{ role: 'user' as const, content: 'good evening' }];
  for await (const _ of await openai.chat.completions.create({ model: 'small', messages, stream: true }));
  await new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: viewer }).chat.completions
    .create({ model: 'small', messages })
    .catch(() => undefined);
  const denied = { name: 'execute_query', arguments: { query: 'DELETE FROM orders' } };
  {
    await using legacy = await connectLegacy(`${gateway.url}/mcp/orders`, developer);
    await legacy.client.listTools();
    await legacy.client.callTool(denied).catch(() => undefined);
  }
  {
    await using modern = await connectModern(`${gateway.url}/mcp/orders`, developer);
    await modern.client.callTool(denied).catch(() => undefined);
  }
}

beforeAll(async () => {
  orders = await startExample('orders-server');
  model = await startExample('model-server', { MODEL_KEY });
  tasks = await startTasks();
  const relays = [await record(orders.url), await record(model.url), await record(tasks.url)] as const;
  const [toOrders, toModel, toTasks] = relays;
  recorders = [...relays];
  gateway = await startGateway({
    logging: { level: 'debug' },
    servers: {
      orders: {
        type: 'sql',
        dialect: 'sqlite',
        url: toOrders.url,
        environment: 'staging',
        credential: { header: 'x-server-key', value: SERVER_KEY },
        tools: { execute_query: { sensitive_params: ['query'] } },
      },
    },
    models: { small: { url: toModel.url, credential: MODEL_KEY } },
    routes: [
      { match: '/mcp/orders', protocol: 'mcp', server: 'orders', identity: ['keys'] },
      { match: '/v1', protocol: 'llm', model: 'small', identity: ['keys'] },
      {
        match: '/api/tasks',
        protocol: 'http',
        url: toTasks.url,
        rewrite: '/tasks',
        identity: ['keys'],
        permissions: { GET: ['tasks.read'], '*': ['tasks.admin'] },
      },
      { match: '/api', protocol: 'http', url: toTasks.url, identity: ['keys'], permissions: { '*': ['tasks.admin'] } },
      { match: '/down', protocol: 'http', url: 'http://127.0.0.1:9', identity: ['keys'] },
    ],
  });
  keys.push(await gateway.key('developer', { permissions: ['tasks.read'] }), await gateway.key('viewer'));
  keys.push(await gateway.gateway.keys.create({ name: 'nobody', tenant_id: 'default' }));
  await theDay();
  metrics = (await call(`${gateway.admin}/metrics`)).text;
  await gateway.stop();
  events = await gateway.audit();
  sent = recorders.map((recorder) => recorder.sent()).join('\n');
  files = new Map(
    readdirSync(gateway.home)
      .filter((name) => statSync(join(gateway.home, name)).isFile())
      .map((name) => [name, readFileSync(join(gateway.home, name), 'latin1')]),
  );
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  for (const recorder of recorders ?? []) await recorder[Symbol.asyncDispose]();
  await tasks?.[Symbol.asyncDispose]();
  await Promise.all([orders?.crash(), model?.crash()]);
});

/** The part of a key nobody may learn; what stands before it is its public id. */
const secretOf = (key: string) => key.slice(key.lastIndexOf('_') + 1);

describe('after a day of every kind of request', () => {
  test('no upstream has seen a byte of a caller’s key', () => {
    expect(sent.length).toBeGreaterThan(5000);
    for (const key of keys) expect(sent.includes(secretOf(key))).toBe(false);
  });

  test('no key of a caller and no credential of an upstream was written down anywhere', () => {
    verifies('X-07');
    expect([...files.keys()]).toEqual(expect.arrayContaining(['audit.jsonl', 'decisions.jsonl', 'portcullis.db']));
    const places = new Map([...files, ['the log', gateway.logs.join('\n')], ['metrics', metrics]]);
    const secrets = [...keys.map(secretOf), MODEL_KEY, SERVER_KEY, ADMIN_TOKEN];
    const found = [...places].flatMap(([place, text]) =>
      secrets.filter((secret) => text.includes(secret)).map((secret) => `${secret.slice(0, 6)}… in ${place}`),
    );
    expect(found).toEqual([]);
  });

  test('parameters that a tool declares sensitive are in no record', () => {
    verifies('SF-66');
    expect(sent).toContain(PARAMETER_SECRET);
    for (const name of ['audit.jsonl', 'decisions.jsonl']) expect(files.get(name)).not.toContain(PARAMETER_SECRET);
  });

  test('no answer told a caller about the machines behind', () => {
    const refusals = answers.filter(({ status }) => status >= 400);
    expect(refusals.length).toBeGreaterThan(5);
    for (const { text } of refusals)
      expect(text).not.toMatch(/ECONNREFUSED|node:internal|\/src\/|sqlite|127\.0\.0\.1/i);
  });

  test('a key in the query is no credential', () => {
    verifies('HF-09');
    const refused = events.filter((event) => event.event_type === 'request_refused' && event.path === '/api/tasks');
    expect(refused).toMatchObject([{ status: 401, code: 'MISSING_CREDENTIALS' }]);
  });

  test('each end left exactly one leading event under the id that the caller saw', () => {
    verifies('X-02', 'S-91');
    for (const { requestId, status } of answers) {
      const own = leading(events).filter((event) => event.request_id === requestId);
      expect(own, `${requestId} ${status}`).toHaveLength(1);
      expect(own[0]).toMatchObject({ status });
    }
    const perRequest = Map.groupBy(leading(events), ({ request_id }) => request_id);
    const several = [...perRequest].filter(([, own]) => own.length !== 1).map(([id]) => id);
    // A list of tools asks for each server and is still one event.
    expect(several).toEqual([]);
    expect(new Set(events.map(({ event_id }) => event_id)).size).toBe(events.length);
  });

  test('what an upstream saw went by ids of this record, and was allowed', () => {
    verifies('X-02');
    const seen = new Set(recorders.flatMap((recorder) => recorder.header('x-request-id')));
    expect(seen.size).toBeGreaterThan(5);
    for (const id of seen) {
      const own = leading(events).find((event) => event.request_id === id);
      expect(own).toMatchObject({ outcome: 'allowed' });
    }
  });

  test('every denial names its reason, as an event of its own', () => {
    verifies('S-93');
    const denied = leading(events).filter((event) => 'reasons' in event && event.reasons.length > 0);
    expect(denied.length).toBeGreaterThanOrEqual(5);
    for (const { request_id } of denied) {
      const violations = events.filter(
        (event) => event.request_id === request_id && event.event_type === 'policy_violation',
      );
      expect(violations.length).toBeGreaterThan(0);
    }
  });
});
