/** A person says yes to exactly one call: with the public MCP client, over plain JSON, and with two gateways. */
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { AuditEvent } from '../../src/audit/event.ts';
import type { PartialConfig, TestGateway } from '../helpers/gateway.ts';
import { ADMIN_TOKEN, dataWithoutLimits, POLICIES, startGateway, writeConfig } from '../helpers/gateway.ts';
import type { Answer } from '../helpers/gateway-calls.ts';
import { call } from '../helpers/gateway-calls.ts';
import { connectLegacy, connectModern, textOf } from '../helpers/gateway-mcp.ts';
import { KEYS_AND_PEOPLE, personToken } from '../helpers/people.ts';
import type { Example } from '../helpers/processes.ts';
import {
  cleanEnv,
  MAIN,
  ROOT,
  runToEnd,
  startExample,
  startPortcullis,
  temporaryDirectory,
} from '../helpers/processes.ts';
import type { Recorder } from '../helpers/upstreams.ts';
import { record } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

let orders: Example;
let upstream: Recorder;
let gateway: TestGateway;
let admin: string;
let engineer: string;
let approver: string;
let time = Date.parse('2026-03-02T10:00:00Z');

const SERVER = { type: 'sql', dialect: 'sqlite', environment: 'staging' } as const;
const CRITICAL = 'DROP TABLE approvals_scenario';

const DECIDER = { sub: 'user-approver', permissions: ['approvals:decide'] };

const home = temporaryDirectory();

/** `floor`: the least class of the tool that people have to approve. */
function partial(floor: 'low' | 'high'): PartialConfig {
  const update_order_status = { floor, requires_hitl: true, sensitive_params: ['note'] };
  const route = { protocol: 'mcp' as const, server: 'orders', identity: ['keys'] };
  return {
    identity: KEYS_AND_PEOPLE,
    servers: { orders: { ...SERVER, url: upstream.url, tools: { update_order_status } } },
    routes: [
      { ...route, match: '/mcp/orders' },
      { ...route, match: '/mcp/readable', denial: 'result' },
    ],
    policy: { bundle: POLICIES, data: join(home.path, 'data.json'), watch: false },
    approvals: { max_pending: 5 },
  };
}

beforeAll(async () => {
  orders = await startExample('orders-server');
  upstream = await record(orders.url);
  await writeFile(join(home.path, 'data.json'), await dataWithoutLimits());
  gateway = await startGateway(partial('low'), { clock: { now: () => time } });
  [admin, engineer] = await Promise.all([gateway.key('admin'), gateway.key('data_engineer')]);
  approver = personToken(DECIDER, time);
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
  await orders?.crash();
  home[Symbol.dispose]();
});

interface Asked {
  readonly approval_id: string;
  readonly approval_url: string;
  readonly rejection_url: string;
  readonly status_url: string;
  readonly expires_at: string;
  readonly request_id: string;
}

const invoke = (key: string, query: string, token?: string) =>
  call(`${gateway.url}/tools/invoke`, {
    key,
    json: { server_name: 'orders', tool_name: 'execute_query', parameters: { query } },
    headers: token === undefined ? {} : { 'x-approval-token': token },
  });
const get = (key: string, path: string) => call(gateway.url + path, { key });
const post = (key: string, path: string, json: unknown = {}) => call(gateway.url + path, { key, json });
const detailsOf = (answer: Answer) => (answer.body as { error: { details: Asked } }).error.details;

/** In front of a server: puts a label before each description, or keeps its lists to itself. */
async function relabelling(target: string) {
  const state: { label: string | null } = { label: '' };
  const server = createServer(async (request, response) => {
    const body = await text(request);
    const { 'mcp-session-id': session, 'mcp-protocol-version': version, 'mcp-method': method } = request.headers;
    if (state.label === null && body.includes('"tools/list"')) return void response.writeHead(500).end();
    const headers = {
      ...{ 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
      ...(session === undefined ? {} : { 'mcp-session-id': String(session) }),
      ...(version === undefined ? {} : { 'mcp-protocol-version': String(version) }),
      ...(method === undefined ? {} : { 'mcp-method': String(method) }),
      ...(request.headers['mcp-name'] === undefined ? {} : { 'mcp-name': String(request.headers['mcp-name']) }),
    };
    const answer = await fetch(target, { method: 'POST', headers, body });
    const kept = [...answer.headers].filter(([name]) => name.startsWith('mcp-') || name === 'content-type');
    response.writeHead(answer.status, Object.fromEntries(kept));
    response.end((await answer.text()).replaceAll('"description":"', `"description":"${state.label}`));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return Object.assign(state, {
    url: `http://127.0.0.1:${port}/mcp`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  });
}

async function askFor(query: string): Promise<Asked> {
  const answer = await invoke(admin, query);
  expect(answer.body).toMatchObject({ error: { code: 'APPROVAL_REQUIRED' } });
  return detailsOf(answer);
}

async function tokenFor(query: string): Promise<string> {
  const { approval_id } = await askFor(query);
  expect((await post(approver, `/approve/${approval_id}`)).status).toBe(200);
  return ((await get(admin, `/approvals/${approval_id}`)).body as { token: string }).token;
}

describe('a critical call', () => {
  test('is asked for, approved by another person, and made once', async () => {
    verifies('S-31', 'S-35', 'SF-32', 'TW-06');
    const denied = await invoke(admin, CRITICAL);
    expect(denied.status).toBe(403);
    const asked = detailsOf(denied);
    expect(asked).toMatchObject({
      approval_id: expect.stringMatching(/^apr_/),
      approval_url: `/approve/${asked.approval_id}`,
      rejection_url: `/reject/${asked.approval_id}`,
      expires_at: new Date(time + 900_000).toISOString(),
      request_id: denied.requestId,
      tool_calls: [{ server_name: 'orders', tool_name: 'execute_query' }],
    });
    expect(denied.body).toMatchObject({ error: { message: expect.stringMatching(/^Human intervention required\./) } });
    // Asking again is the same question.
    expect(detailsOf(await invoke(admin, CRITICAL)).approval_id).toBe(asked.approval_id);

    const own = await post(admin, asked.approval_url, { reason: 'I trust myself' });
    expect(own.status).toBe(403);
    expect((await post(engineer, asked.approval_url)).status).toBe(403);
    const pending = await get(admin, asked.status_url);
    expect(pending.body).toMatchObject({ state: 'pending', parameters: { query: CRITICAL } });
    expect(pending.body).not.toHaveProperty('token');

    const approved = await post(approver, asked.approval_url, { reason: 'Ticket 4711' });
    expect(approved.body).toMatchObject({
      state: 'approved',
      approver_id: 'user-approver',
      decision_reason: 'Ticket 4711',
    });
    expect(approved.body).not.toHaveProperty('token');
    const { token } = (await get(admin, asked.status_url)).body as { token: string };
    expect((await invoke(admin, `${CRITICAL} `, token)).body).toMatchObject({
      error: { code: 'APPROVAL_INVALID', details: { why: 'changed_arguments' } },
    });

    expect(upstream.sent()).not.toContain('DROP TABLE');
    const made = await invoke(admin, CRITICAL, token);
    expect(made.status).toBe(200);
    const again = await invoke(admin, CRITICAL, token);
    expect(again.body).toMatchObject({ error: { code: 'APPROVAL_INVALID', details: { why: 'used' } } });
    expect(upstream.sent().split('DROP TABLE')).toHaveLength(2);
    expect(upstream.sent()).not.toContain(token);
    expect((await get(admin, asked.status_url)).body).toMatchObject({ state: 'used' });
  });
});

/** What an MCP client is thrown when a person has to say yes. */
interface Thrown {
  readonly code: number;
  readonly message: string;
  readonly data: Asked & { readonly code: string; readonly reasons: unknown[]; readonly decision_id: string };
}
const thrownBy = (calling: Promise<unknown>): Promise<Thrown> =>
  calling.then(
    () => Promise.reject(new Error('nothing was thrown')),
    (error: unknown) => error as Thrown,
  );

/** Asks for the state again and again until it is another one, as a client would. */
async function untilDecided(key: string, path: string, at = gateway.url): Promise<{ state: string; token?: string }> {
  for (;;) {
    const body = (await call(at + path, { key })).body as { state: string; token?: string };
    if (body.state !== 'pending') return body;
  }
}

describe('an MCP client', () => {
  test.each(['session', 'stateless'] as const)('of the %s generation waits for a yes and goes on', async (era) => {
    verifies('S-31', 'SF-32', 'TW-05', 'TW-06');
    const url = `${gateway.url}/mcp/orders`;
    await using connection = await (era === 'session' ? connectLegacy(url, engineer) : connectModern(url, engineer));
    const { client } = connection;
    // The tool is in the list: an approval may be had.
    expect((await client.listTools()).tools.map(({ name }) => name)).toContain('update_order_status');
    const asked = {
      name: 'update_order_status',
      arguments: { order_id: 1, status: era === 'session' ? 'paid' : 'shipped' },
    };
    const { code, message, data } = await thrownBy(client.callTool(asked));
    expect(code).toBe(-31410);
    expect(message).toContain('Human intervention required.');
    expect(data).toMatchObject({
      code: 'APPROVAL_REQUIRED',
      reasons: [{ code: 'APPROVAL_REQUIRED', message: 'This call needs the approval of another person' }],
      request_id: expect.stringMatching(/^req_/),
      decision_id: expect.stringMatching(/^dec_/),
      approval_id: expect.stringMatching(/^apr_/),
      approval_url: expect.stringMatching(/^\/approve\/apr_/),
    });
    const waiting = untilDecided(engineer, data.status_url);
    expect((await post(approver, data.approval_url, { reason: 'seen' })).status).toBe(200);
    const { state, token } = await waiting;
    expect(state).toBe('approved');
    const _meta = { 'portcullis/approval': token, 'example.com/kept': true };
    // Foreign members of `_meta` are part of what is approved.
    expect((await thrownBy(client.callTool({ ...asked, _meta }))).data).toMatchObject({ why: 'changed_arguments' });
    const result = await client.callTool({ ...asked, _meta: { 'portcullis/approval': token } });
    expect(result.isError).not.toBe(true);
    expect(upstream.sent()).not.toContain(token);
    expect(upstream.sent()).not.toContain('portcullis/approval');
    expect((await thrownBy(client.callTool({ ...asked, _meta: { 'portcullis/approval': token } }))).code).toBe(-31410);
  });

  test('whose model reads results is told in words what to do', async () => {
    verifies('TW-06');
    await using connection = await connectLegacy(`${gateway.url}/mcp/readable`, engineer);
    const { client } = connection;
    const asked = { name: 'update_order_status', arguments: { order_id: 2, status: 'readable' } };
    const result = await client.callTool(asked);
    expect(result.isError).toBe(true);
    expect(textOf(result)).toMatch(/^APPROVAL_REQUIRED: Human intervention required\. .*Read \/approvals\/apr_/);
    const { approval_id } = (result._meta as Record<string, Asked>)['portcullis/denial'] as Asked;
    await post(approver, `/approvals/${approval_id}/reject`, { reason: 'Not on a Monday' });
    expect(textOf(await client.callTool(asked))).toBe(
      'APPROVAL_INVALID: The call was rejected by an approver: Not on a Monday',
    );
  });
});

describe('requests for approval', () => {
  test('are made only where a yes would help', async () => {
    verifies('SF-32');
    const answer = await invoke(engineer, CRITICAL);
    expect(answer.body).toMatchObject({ error: { code: 'POLICY_DENIED' } });
    expect(answer.text).not.toContain('approval_id');
    expect((await get(engineer, '/approvals?state=pending')).body).toMatchObject({ items: [] });
  });

  test('are seen by their requester and by approvers, without secrets', async () => {
    verifies('TW-07');
    const secret = 'note-never-written-9x';
    const answer = await call(`${gateway.url}/tools/invoke`, {
      key: engineer,
      json: {
        server_name: 'orders',
        tool_name: 'update_order_status',
        parameters: { order_id: 3, status: 'x', note: secret, password: secret },
      },
    });
    const { approval_id, status_url } = detailsOf(answer);
    const seen = await get(approver, status_url);
    expect(seen.body).toMatchObject({
      parameters: { order_id: 3, status: 'x', note: '[redacted]', password: '[redacted]' },
      requester: { id: 'user-data_engineer', roles: ['data_engineer'] },
      tool_type: 'mutation',
      sensitivity_level: 'medium',
      policy_revision: expect.stringMatching(/^sha256:/),
    });
    const idsFor = async (key: string) =>
      ((await get(key, '/approvals')).body as { items: { approval_id: string }[] }).items.map(
        (item) => item.approval_id,
      );
    expect(await idsFor(approver)).toContain(approval_id);
    expect(await idsFor(engineer)).toContain(approval_id);
    expect(await idsFor(admin)).toContain(approval_id);
    const stranger = await gateway.key('analyst');
    expect(await idsFor(stranger)).toEqual([]);
    expect((await get(stranger, status_url)).status).toBe(404);
    const lent = await call(`${gateway.url}/api/v1/token/exchange`, {
      method: 'POST',
      headers: { 'x-api-key': engineer, 'content-type': 'application/x-www-form-urlencoded' },
      body: 'grant_type=urn:ietf:params:oauth:grant-type:token-exchange&requested_actor=user-analyst',
    });
    const headers = { 'x-delegation-token': (lent.body as { access_token: string }).access_token };
    const acting = (path: string) => call(gateway.url + path, { key: stranger, headers });
    expect((await acting('/approvals')).body).toEqual({ items: [], next: null });
    expect((await acting(status_url)).status).toBe(404);
    const foreign = await gateway.key('approver', { tenant_id: 'rival', permissions: ['*'], mfa_verified: true });
    expect(await idsFor(foreign)).toEqual([]);
    expect((await get(foreign, status_url)).body).toMatchObject({ error: { code: 'NOT_FOUND' } });
    const database = new DatabaseSync(join(gateway.home, 'portcullis.db'), { readOnly: true });
    expect(JSON.stringify(database.prepare('SELECT * FROM approvals').all())).not.toContain(secret);
    database.close();
  });

  test('are decided together, each with an answer of its own', async () => {
    verifies('TW-07');
    const [one, two] = [await askFor('DROP TABLE batch_one'), await askFor('DROP TABLE batch_two')];
    const decisions = [
      { approval_id: one.approval_id, action: 'approve' },
      { approval_id: two.approval_id, action: 'reject', reason: 'Too much' },
      { approval_id: one.approval_id, action: 'reject', reason: 'Changed my mind' },
      { approval_id: 'apr_nothing', action: 'approve' },
    ];
    const answer = await post(approver, '/approvals/decide', { decisions });
    expect(answer.body).toMatchObject({
      results: [
        { state: 'approved' },
        { state: 'rejected' },
        { error: { code: 'CONFLICT' } },
        { error: { code: 'NOT_FOUND' } },
      ],
    });
    const own = await askFor('DROP TABLE batch_own');
    await post(admin, '/approvals/decide', { decisions: [{ approval_id: own.approval_id, action: 'approve' }] });
    const resource = `approval:${own.approval_id}`;
    const refused = { event_type: 'policy_violation', user_id: 'user-admin', attempted_action: 'approvals:decide' };
    const events = await gateway.audited((all) =>
      all.some((event) => 'resource' in event && event.resource === resource),
    );
    expect(events).toContainEqual(expect.objectContaining({ ...refused, resource }));
    expect((await post(engineer, '/approvals/decide', { decisions })).status).toBe(403);
    const rejected = await invoke(admin, 'DROP TABLE batch_two');
    expect(rejected.body).toMatchObject({
      error: { code: 'APPROVAL_INVALID', message: 'The call was rejected by an approver: Too much' },
    });
  });

  test('are rejected by time, once, and can be made again', async () => {
    verifies('TW-07');
    const { approval_id, status_url } = await askFor('DROP TABLE too_late');
    time += 900_000;
    expect((await get(admin, status_url)).body).toMatchObject({ state: 'expired' });
    expect((await post(approver, `/approve/${approval_id}`)).status).toBe(409);
    expect((await askFor('DROP TABLE too_late')).approval_id).not.toBe(approval_id);
    const events = await gateway.audited((all) => all.some(({ event_type }) => event_type === 'approval_expired'));
    const ends = events.filter((event) => event.event_type === 'approval_expired' && event.approval_id === approval_id);
    expect(ends).toHaveLength(1);
  });

  test('cannot be heaped up', async () => {
    time += 900_000;
    const asked = await Promise.all(Array.from({ length: 12 }, (_, at) => invoke(admin, `DROP TABLE heap_${at}`)));
    expect(asked.map(({ status }) => status).sort()).toEqual([...Array(5).fill(403), ...Array(7).fill(429)]);
    time += 900_000;
  });

  test('leave records that name both people, and figures', async () => {
    verifies('TW-07');
    const token = await tokenFor('DROP TABLE recorded');
    const isMine = (event: AuditEvent) => event.event_type === 'approval_used' && event.requester_id === 'user-admin';
    const count = (await gateway.audit()).filter(isMine).length;
    await invoke(admin, 'DROP TABLE recorded', token);
    const events = await gateway.audited((all) => all.filter(isMine).length > count);
    const used = events.findLast(isMine);
    expect(used).toMatchObject({
      user_id: 'user-admin',
      requester_id: 'user-admin',
      approver_id: 'user-approver',
      tool_name: 'execute_query',
      sensitivity_level: 'critical',
    });
    const { approval_id } = used as { approval_id: string };
    const steps = events.filter((event) => 'approval_id' in event && event.approval_id === approval_id);
    expect(steps.map(({ event_type }) => event_type)).toEqual(
      expect.arrayContaining(['approval_requested', 'approval_approved', 'approval_used', 'tool_invocation']),
    );
    expect(JSON.stringify(events)).not.toContain(token);
    expect(gateway.logs.join('')).not.toContain(token);
    const headers = { authorization: `Bearer ${ADMIN_TOKEN}` };
    const metrics = await (await fetch(`${gateway.admin}/metrics`, { headers })).text();
    expect(metrics).toMatch(/portcullis_approvals_total\{step="used"\} [1-9]/);
    expect(metrics).toMatch(/portcullis_approvals_pending \d/);
  });
});

describe('an approval does not survive', () => {
  const asked = {
    server_name: 'orders',
    tool_name: 'update_order_status',
    parameters: { order_id: 4, status: 'cancelled' },
  };
  const useIt = (token: string) =>
    call(`${gateway.url}/tools/invoke`, { key: engineer, json: asked, headers: { 'x-approval-token': token } });
  const approved = async () => {
    const answer = await call(`${gateway.url}/tools/invoke`, { key: engineer, json: asked });
    const { approval_id, status_url } = detailsOf(answer);
    await post(approver, `/approve/${approval_id}`);
    return ((await get(engineer, status_url)).body as { token: string }).token;
  };

  test('another class of its call', async () => {
    verifies('SF-32');
    const token = await approved();
    await gateway.reload(partial('high'));
    expect((await useIt(token)).body).toMatchObject({ error: { details: { why: 'changed_class' } } });
    // A gateway that has just begun knows no definition yet, and that is no fault of the requester.
    await gateway.reload(partial('low'));
    expect((await useIt(token)).status).toBe(200);
  });

  test('what is switched off, without a word to the server', async () => {
    const token = await approved();
    const authorization = { authorization: `Bearer ${ADMIN_TOKEN}` };
    const off = await call(`${gateway.admin}/switches`, {
      headers: authorization,
      json: { kind: 'server', name: 'orders' },
    });
    const before = upstream.sent().length;
    expect((await useIt(token)).body).toMatchObject({ error: { code: 'SWITCHED_OFF' } });
    expect(upstream.sent().length).toBe(before);
    const { id } = off.body as { id: string };
    await call(`${gateway.admin}/switches/${id}`, { method: 'DELETE', headers: authorization });
    expect((await useIt(token)).status).toBe(200);
  });

  test('another policy', async () => {
    verifies('SF-32');
    const token = await approved();
    const data = JSON.parse(await dataWithoutLimits()) as { config: object };
    await writeFile(join(home.path, 'data.json'), JSON.stringify({ ...data, changed: true }));
    const reloaded = await fetch(`${gateway.admin}/policy/reload`, {
      method: 'POST',
      headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
    });
    expect(reloaded.status).toBe(200);
    expect((await useIt(token)).body).toMatchObject({ error: { details: { why: 'changed_policy' } } });
  });
});

test('an approval is for the tool as it is, whoever has listed it', async () => {
  verifies('SF-32');
  await using server = await relabelling(orders.url);
  await using other = await startGateway({
    identity: KEYS_AND_PEOPLE,
    servers: { orders: { ...SERVER, url: server.url } },
    routes: [{ match: '/mcp/orders', protocol: 'mcp', server: 'orders', identity: ['keys'] }],
    policy: { bundle: POLICIES, data: join(home.path, 'data.json'), watch: false },
  });
  const requester = await other.key('admin');
  const yes = personToken(DECIDER, Date.now());
  const list = () => call(`${other.url}/tools`, { key: requester });
  const use = (token: string) => {
    const json = { server_name: 'orders', tool_name: 'execute_query', parameters: { query: 'DROP TABLE labelled' } };
    return call(`${other.url}/tools/invoke`, {
      key: requester,
      json,
      headers: token === '' ? {} : { 'x-approval-token': token },
    });
  };
  const approved = async () => {
    const { status_url } = detailsOf(await use(''));
    await call(`${other.url}${status_url}/approve`, { key: yes, json: {} });
    return ((await call(`${other.url}${status_url}`, { key: requester })).body as { token: string }).token;
  };
  const refused = async (token: string, why: string) => {
    expect((await use(token)).body).toMatchObject({ error: { code: 'APPROVAL_INVALID', details: { why } } });
  };
  const token = await approved();
  // The server changes what the tool says it does, and nobody lists it.
  server.label = 'Deletes everything. ';
  await refused(token, 'changed_definition');
  await list();
  await refused(token, 'changed_definition');
  server.label = null;
  await refused(token, 'unknown_definition');
  server.label = '';
  expect((await use(token)).status).toBe(200);
  await refused(token, 'used');
});

test('the same tool of a server that is elsewhere now is not what was approved', async () => {
  verifies('SF-32');
  const config = (url: string): PartialConfig => ({ ...partial('low'), servers: { orders: { ...SERVER, url } } });
  await using other = await startGateway(config(orders.url));
  const key = await other.key('admin');
  const json = { server_name: 'orders', tool_name: 'execute_query', parameters: { query: 'DROP TABLE moved' } };
  const use = (token?: string) =>
    call(`${other.url}/tools/invoke`, { key, json, ...(token ? { headers: { 'x-approval-token': token } } : {}) });
  const { status_url } = detailsOf(await use());
  const yes = personToken(DECIDER, Date.now());
  expect((await call(`${other.url}${status_url}/approve`, { key: yes, json: {} })).status).toBe(200);
  const { token } = (await call(`${other.url}${status_url}`, { key })).body as { token: string };
  await other.reload(config(upstream.url));
  expect((await use(token)).body).toMatchObject({ error: { details: { why: 'changed_definition' } } });
  expect(upstream.sent()).not.toContain('DROP TABLE moved');
  await other.reload(config(orders.url));
  expect((await use(token)).body).not.toMatchObject({ error: { code: 'APPROVAL_INVALID' } });
});

test('a tool that its server does not list is approved only where the configuration says so', async () => {
  verifies('SF-32');
  const ghost = { type: 'mutation', sensitivity: 'high', requires_hitl: true } as const;
  const config = (approvals: PartialConfig['approvals']): PartialConfig => ({
    ...partial('low'),
    servers: { orders: { ...SERVER, url: upstream.url, tools: { ghost } } },
    approvals,
  });
  await using other = await startGateway(config({}));
  const key = await other.key('admin');
  const json = { server_name: 'orders', tool_name: 'ghost', parameters: { who: 'you gonna call' } };
  const use = (token?: string) =>
    call(`${other.url}/tools/invoke`, { key, json, ...(token ? { headers: { 'x-approval-token': token } } : {}) });
  expect((await use()).body).toMatchObject({
    error: { code: 'POLICY_DENIED', message: expect.stringContaining('its server does not list such a tool') },
  });
  expect((await call(`${other.url}/approvals`, { key })).body).toMatchObject({ items: [] });
  await other.reload(config({ allow_unlisted_tools: true }));
  const approved = async () => {
    const { status_url } = detailsOf(await use());
    const yes = personToken(DECIDER, Date.now());
    expect((await call(`${other.url}${status_url}/approve`, { key: yes, json: {} })).status).toBe(200);
    return ((await call(`${other.url}${status_url}`, { key })).body as { token: string }).token;
  };
  const first = await approved();
  expect(upstream.sent()).not.toContain('you gonna call');
  // Somewhere else is another server, whatever it is called here.
  await other.reload({
    ...config({ allow_unlisted_tools: true }),
    servers: { orders: { ...SERVER, url: orders.url, tools: { ghost } } },
  });
  expect((await use(first)).body).toMatchObject({ error: { details: { why: 'changed_definition' } } });
  await other.reload(config({ allow_unlisted_tools: true }));
  await use(first);
  expect(upstream.sent().split('you gonna call')).toHaveLength(2);
});

test('programs decide only where the configuration says so, agents nowhere', async () => {
  const decider = { roles: [], permissions: ['approvals:decide'], mfa_verified: true };
  await using other = await startGateway({ ...partial('low'), approvals: { allow_programs: true } });
  const ask = async (query: string) => {
    const json = { server_name: 'orders', tool_name: 'execute_query', parameters: { query } };
    const answer = await call(`${other.url}/tools/invoke`, { key: await other.key('admin'), json });
    return `${other.url}${detailsOf(answer).status_url}/approve`;
  };
  const [bot, person, agent] = await Promise.all([
    other.key('bot', { ...decider, type: 'service' }),
    other.key('person', { ...decider, type: 'user' }),
    other.key('agent', { ...decider, type: 'agent' }),
  ]);
  const first = await ask('DROP TABLE programs_one');
  expect((await call(first, { key: agent, json: {} })).status).toBe(403);
  expect((await call(first, { key: bot, json: {} })).status).toBe(200);
  const unproved = await other.key('unproved', { ...decider, type: 'user', mfa_verified: false });
  const second = await ask('DROP TABLE programs_two');
  expect((await call(second, { key: unproved, json: {} })).body).toMatchObject({ error: { code: 'MFA_REQUIRED' } });
  expect((await call(second, { key: person, json: {} })).status).toBe(200);
  // Withdrawn elsewhere a moment ago: what this gateway remembers of a key does not count for a decision.
  const third = await ask('DROP TABLE programs_three');
  const database = new DatabaseSync(join(other.home, 'portcullis.db'));
  database.exec("UPDATE api_keys SET revoked_at = 1 WHERE owner_id = 'user-bot'");
  database.close();
  expect((await call(third, { key: bot, json: {} })).status).toBe(401);
  expect((await call(third, { key: person, json: {} })).status).toBe(200);
});

test('the webhook is told what was asked for, signed, and again after a reload if it was away', async () => {
  const told: { readonly body: string; readonly signature: unknown; readonly id: unknown; readonly time: unknown }[] =
    [];
  const { promise: first, resolve: failed } = Promise.withResolvers<void>();
  const { promise: second, resolve: arrived } = Promise.withResolvers<void>();
  const receiver = createServer(async (request, response) => {
    const { 'webhook-signature': signature, 'webhook-id': id, 'webhook-timestamp': at } = request.headers;
    told.push({ body: await text(request), signature, id, time: at });
    response.writeHead(told.length === 1 ? 503 : 204).end();
    (told.length === 1 ? failed : arrived)();
  });
  receiver.listen(0, '127.0.0.1');
  await once(receiver, 'listening');
  const secret = 'a-secret-for-the-webhook-0123456789';
  const webhook = { url: `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/hook`, secret };
  const config: PartialConfig = { ...partial('low'), approvals: { webhook } };
  await using other = await startGateway(config);
  const asked = { server_name: 'orders', tool_name: 'execute_query', parameters: { query: 'DROP TABLE hooked' } };
  const answer = await call(`${other.url}/tools/invoke`, { key: await other.key('admin'), json: asked });
  await first;
  await other.reload(config);
  await second;
  receiver.close();
  const [one, two] = told;
  expect(JSON.parse(two?.body ?? '')).toMatchObject({
    type: 'approval.requested',
    data: { approval_id: detailsOf(answer).approval_id, tool_name: 'execute_query' },
  });
  expect(two?.body).toBe(one?.body);
  expect(two?.body).not.toContain('DROP TABLE');
  const signed = createHmac('sha256', secret).update(`${two?.id}.${two?.time}.${two?.body}`).digest('base64');
  expect(two?.signature).toBe(`v1,${signed}`);
});

test('without its store nothing is approved and nothing passes', async () => {
  const token = await tokenFor('DROP TABLE storeless');
  const database = new DatabaseSync(join(gateway.home, 'portcullis.db'));
  database.exec('ALTER TABLE approvals RENAME TO approvals_away');
  const answers = [
    await invoke(admin, 'DROP TABLE storeless', token),
    await invoke(admin, 'DROP TABLE storeless_two'),
    await get(admin, '/approvals'),
    await get(admin, '/approvals/apr_1'),
    await post(approver, '/approve/apr_1'),
    await post(approver, '/approvals/decide', { decisions: [{ approval_id: 'apr_1', action: 'approve' }] }),
  ];
  const headers = { authorization: `Bearer ${ADMIN_TOKEN}` };
  expect((await fetch(`${gateway.admin}/metrics`, { headers })).status).toBe(200);
  database.exec('ALTER TABLE approvals_away RENAME TO approvals');
  database.close();
  for (const answer of answers) {
    expect(answer.status).toBe(503);
    expect(answer.body).toMatchObject({ error: { code: 'STORE_UNAVAILABLE' } });
  }
  expect(upstream.sent()).not.toContain('DROP TABLE storeless');
});

test('the commands of the documentation do what it says', { timeout: 60_000 }, async () => {
  verifies('TW-07');
  const text = await readFile(join(ROOT, 'docs/approvals.md'), 'utf8');
  const [, commands = ''] = /```sh\n(.*?)```/s.exec(text) ?? [];
  expect(commands).toContain('portcullis approvals approve');
  const shim = `portcullis() { "${process.execPath}" "${MAIN}" "$@"; }`;
  const env = cleanEnv({ GW: gateway.url, REQUESTER: admin, APPROVER: approver });
  const done = await runToEnd('bash', ['-euo', 'pipefail', '-c', `${shim}\n${commands}`], { env, cwd: home.path });
  expect(done.code, `${done.stdout}\n${done.stderr}`).toBe(0);
  expect(done.stdout).toMatch(/apr_\w+ {2}pending +orders\/execute_query +admin\/critical +user-admin/);
  expect(done.stdout).toMatch(/apr_\w+ {2}approved/);
});

describe('the command line', () => {
  test('rejects with a reason, tells what was refused, and how it is used', { timeout: 60_000 }, async () => {
    const { approval_id } = await askFor('DROP TABLE from_the_command_line');
    const run = (key: string, ...args: string[]) =>
      runToEnd(process.execPath, [MAIN, 'approvals', ...args, '--url', gateway.url], {
        env: cleanEnv({ PORTCULLIS_API_KEY: key }),
      });
    const own = await run(admin, 'approve', approval_id);
    expect([own.code, own.stdout]).toEqual([1, expect.stringContaining('Nobody decides on a request of their own')]);
    expect((await run(approver, 'reject', approval_id)).code).toBe(2);
    const rejected = await run(approver, 'reject', approval_id, '--reason', 'No', '--json');
    expect([rejected.code, JSON.parse(rejected.stdout)]).toEqual([0, { approval_id, state: 'rejected' }]);
    expect((await run(approver, 'show', approval_id, '--json')).stdout).toContain('"state":"rejected"');
    const { stdout: shown } = await run(approver, 'show', approval_id);
    expect(shown).toMatch(/\nstate {2,}rejected\n/);
    expect(shown).toMatch(/\nparameters {2,}\{"query":"DROP TABLE from_the_command_line"\}\n/);
    expect(shown).toMatch(/\nreasons {2,}This call needs the approval of another person \(APPROVAL_REQUIRED\)\n/);
    expect(shown).toMatch(/\nrequester {2,}user-admin; type \w+/);
    expect((await run('pc_dev_wrong', 'list')).code).toBe(1);
    expect((await run(approver, 'show')).code).toBe(2);
    const nowhere = await runToEnd(process.execPath, [MAIN, 'approvals', 'list', '--url', 'http://127.0.0.1:1'], {
      env: cleanEnv({ PORTCULLIS_API_KEY: approver }),
    });
    expect(nowhere.code).toBe(3);
  });
});

/** A client asks at one gateway and waits, a person says yes at the other, where the client then goes on: once. */
async function askedHereUsedThere(
  here: string,
  there: string,
  boss: string,
  key: string,
  era: 'session' | 'stateless',
) {
  const connect = era === 'session' ? connectLegacy : connectModern;
  await using first = await connect(`${here}/mcp/orders`, key);
  await using second = await connect(`${there}/mcp/orders`, key);
  const asked = {
    name: 'update_order_status',
    arguments: { order_id: 3, status: era === 'session' ? 'paid' : 'shipped' },
  };
  const { code, data } = await thrownBy(first.client.callTool(asked));
  expect(code).toBe(-31410);
  const waiting = untilDecided(key, data.status_url, here);
  expect((await call(there + data.approval_url, { key: boss, json: { reason: 'seen' } })).status).toBe(200);
  const { state, token } = await waiting;
  expect(state).toBe('approved');
  const uses = [second, first, second, first].map(({ client }) =>
    client.callTool({ ...asked, _meta: { 'portcullis/approval': token } }).then(
      ({ isError }) => (isError === true ? 'failed' : 'made'),
      ({ data: refused }: Thrown & { readonly data: { readonly why?: string } }) => refused.why,
    ),
  );
  expect((await Promise.all(uses)).sort()).toEqual(['made', 'used', 'used', 'used']);
}

describe('two gateways over one database', () => {
  test('let one of many uses pass, and an MCP client ask at one and go on at the other', {
    timeout: 60_000,
  }, async () => {
    verifies('S-31', 'SF-32', 'X-11');
    const shared = temporaryDirectory();
    const settings = { ...partial('low'), policy: { bundle: POLICIES, watch: false } };
    const file = await writeConfig(shared.path, { ...settings, logging: { level: 'info' } });
    const env = cleanEnv();
    const newKey = async (...args: string[]) => {
      const made = await runToEnd(process.execPath, [MAIN, 'keys', 'create', '-c', file, ...args], { env });
      return made.stdout.trim();
    };
    const asker = await newKey('--name', 'asker', '--owner', 'alice', '--role', 'admin');
    const engineerThere = await newKey('--name', 'engineer', '--owner', 'erin', '--role', 'data_engineer');
    const boss = personToken(DECIDER, Date.now());
    await using one = startPortcullis(['serve', '-c', file], { env });
    await using two = startPortcullis(['serve', '-c', file], { env });
    const urls = await Promise.all(
      [one, two].map(async (process) => (await process.printed(/"data":"(http[^"]+)"/))[1] ?? ''),
    );
    const json = { server_name: 'orders', tool_name: 'execute_query', parameters: { query: 'DROP TABLE raced' } };
    const at = (index: number) => urls[index % 2] ?? '';
    const ask = await call(`${at(0)}/tools/invoke`, { key: asker, json });
    // The other one knows the question.
    const again = await call(`${at(1)}/tools/invoke`, { key: asker, json });
    const { approval_id } = detailsOf(ask);
    expect(detailsOf(again).approval_id).toBe(approval_id);
    const decided = await Promise.all(
      [0, 1, 2, 3].map((index) => call(`${at(index)}/approve/${approval_id}`, { key: boss, json: {} })),
    );
    expect(decided.map(({ status }) => status).sort()).toEqual([200, 409, 409, 409]);
    const { token } = (await call(`${at(1)}/approvals/${approval_id}`, { key: asker })).body as { token: string };
    const before = upstream.sent().split('DROP TABLE raced').length;
    const uses = await Promise.all(
      Array.from({ length: 40 }, (_, index) =>
        call(`${at(index)}/tools/invoke`, { key: asker, json, headers: { 'x-approval-token': token } }),
      ),
    );
    expect(uses.filter(({ status }) => status === 200)).toHaveLength(1);
    expect(uses.filter(({ status }) => status === 403)).toHaveLength(39);
    expect(upstream.sent().split('DROP TABLE raced').length - before).toBe(1);
    for (const era of ['session', 'stateless'] as const)
      await askedHereUsedThere(at(0), at(1), boss, engineerThere, era);
    for (const process of [one, two]) {
      process.kill('SIGTERM');
      await process.exited;
    }
    shared[Symbol.dispose]();
  });
});
