/** The decision API through the real listeners: who may ask what, and that nothing the asker claims changes the facts. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ACTIONS as AUTHZEN_ACTIONS } from '../../src/protocols/pdp/authzen-words.ts';
import {
  ASKABLE,
  a2aDecisionDocument,
  decisionDocument,
  serverList,
  toolList,
} from '../../src/protocols/pdp/schemas.ts';
import { publishedApi } from '../helpers/described.ts';
import type { TestGateway } from '../helpers/gateway.ts';
import { ADMIN_TOKEN, startGateway } from '../helpers/gateway.ts';
import type { Answer } from '../helpers/gateway-calls.ts';
import { call, invoke } from '../helpers/gateway-calls.ts';
import type { Example } from '../helpers/processes.ts';
import { cleanEnv, ROOT, runToEnd, startExample } from '../helpers/processes.ts';
import { verifies } from '../helpers/verifies.ts';

let orders: Example;
let gateway: TestGateway;
const keys: Record<string, string> = {};

beforeAll(async () => {
  orders = await startExample('orders-server');
  gateway = await startGateway({
    servers: {
      orders: {
        type: 'sql',
        dialect: 'sqlite',
        url: orders.url,
        environment: 'staging',
        tools: { reset_database: { type: 'admin', sensitivity: 'critical' } },
      },
      asleep: { url: orders.url, enabled: false },
    },
    models: { local: { url: 'http://127.0.0.1:9/v1', serves: ['small-model'] } },
  });
  const permissions: Record<string, string[]> = {
    asker: ['gateway:authorize'],
    agents: ['gateway:authorize-a2a'],
    auditor: ['gateway:audit'],
    catalogue: ['gateway:servers:read', 'gateway:tools:read'],
    all: ['gateway:*'],
  };
  for (const [name, held] of Object.entries(permissions)) {
    keys[name] = await gateway.key(name, { permissions: held, roles: [] });
  }
  for (const role of ['admin', 'developer', 'analyst', 'viewer']) keys[role] = await gateway.key(role);
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await orders?.crash();
});

const published = publishedApi();
const answered = new Set<string>();

/** Each answer of this file is held against the published document. */
async function described(method: 'GET' | 'POST', path: string, calling: Promise<Answer>): Promise<Answer> {
  const answer = await calling;
  const { status, headers, body } = answer;
  const [plain = ''] = path.split('?');
  expect(published.fault(method, plain, status, headers.get('content-type'), body)).toBeNull();
  if (status < 300) answered.add(`${method} ${plain}`);
  return answer;
}

const post = (path: string, who: string, json: unknown, init: RequestInit = {}): Promise<Answer> =>
  described('POST', path, call(`${gateway.url}${path}`, { key: keys[who] ?? '', json, ...init }));
const get = (path: string, who: string): Promise<Answer> =>
  described('GET', path, call(`${gateway.url}${path}`, { key: keys[who] ?? '' }));
const authorize = (who: string, json: unknown) => post('/api/v1/gateway/authorize', who, json);

const select = {
  action: 'gateway:tool:invoke',
  server_name: 'orders',
  tool_name: 'execute_query',
  parameters: { query: 'SELECT id FROM orders LIMIT 1' },
};
const drop = { ...select, parameters: { query: 'DROP TABLE orders' } };
const developer = { id: 'dev-1', roles: ['developer'] };
const decided = (answer: Answer) => decisionDocument.parse(answer.body);
const codeOf = (answer: Answer) => (answer.body as { error?: { code?: string } }).error?.code;

describe('POST /api/v1/gateway/authorize', () => {
  test('tells a caller what the policy would say to it, and 200 for a deny too', async () => {
    verifies('SW-01', 'SW-02', 'SW-03');
    const yes = await authorize('developer', select);
    expect(yes.status).toBe(200);
    const allowed = decided(yes);
    expect(allowed).toMatchObject({
      allow: true,
      decision: 'allow',
      code: null,
      status: 200,
      reason: null,
      deny: [],
      filtered_parameters: select.parameters,
      classification: { tool_type: 'query' },
      request_id: yes.requestId,
      audit_id: yes.requestId,
    });
    const { policy, metadata, cache_ttl, valid_until } = allowed;
    expect(metadata.policy_version).toMatch(/^sha256:/);
    expect(policy.revision).toBe(metadata.policy_version);
    expect(policy.eval_us > 0).toBe(!policy.cached);
    expect(Date.parse(valid_until ?? '')).toBe(Date.parse(metadata.evaluated_at) + cache_ttl * 1000);
    expect(Date.parse(allowed.metadata.evaluated_at)).toBeGreaterThan(0);
    expect(yes.headers.get('x-api-version')).toBe('1');
    const no = await authorize('developer', drop);
    expect(no.status).toBe(200);
    expect(decided(no)).toMatchObject({
      allow: false,
      decision: 'deny',
      status: 403,
      filtered_parameters: null,
      cache_ttl: 0,
      valid_until: null,
      classification: { tool_type: 'admin', sensitivity_level: 'critical' },
    });
    expect(decided(no).reason).not.toBe('');
  });

  test.each([
    ['developer', 'SELECT id FROM orders LIMIT 1'],
    ['developer', 'DROP TABLE orders'],
    ['analyst', 'SELECT * FROM orders'],
    ['analyst', 'SELECT region, COUNT(*) FROM orders GROUP BY region'],
    ['viewer', 'SELECT id FROM orders LIMIT 1'],
    ['admin', "UPDATE orders SET status = 'open' WHERE id = 1"],
  ])('says of %s and "%s" what the gateway then does', async (role, query) => {
    const said = decided(await authorize(role, { ...select, parameters: { query } }));
    const done = await invoke(gateway.url, keys[role] ?? '', query);
    expect(said.status).toBe(done.status);
    expect(said.code).toBe(done.status === 200 ? null : codeOf(done));
  });

  test('answers for somebody else to those who may ask, with that person’s roles', async () => {
    expect(decided(await authorize('asker', { ...select, user: developer })).allow).toBe(true);
    expect(decided(await authorize('asker', { ...select, user: { id: 'x', roles: [] } })).allow).toBe(false);
    expect(decided(await authorize('all', { ...drop, user: developer })).allow).toBe(false);
  });

  test('a caller without the permission cannot speak of others', async () => {
    const answer = await authorize('developer', { ...select, user: { id: 'somebody', roles: ['admin'] } });
    expect(answer.status).toBe(403);
    expect(codeOf(answer)).toBe('FORBIDDEN');
    expect(answer.text).toContain('gateway:authorize');
  });

  test('who speaks of itself gets its own roles, whatever the body says', async () => {
    const update = { ...select, parameters: { query: "UPDATE orders SET status = 'open' WHERE id = 1" } };
    const own = { id: 'user-developer', roles: ['admin'], mfa_verified: true, permissions: ['gateway:*'] };
    expect(decided(await authorize('developer', { ...update, user: own })).allow).toBe(false);
    expect(decided(await authorize('asker', { ...select, user: { id: 'user-asker', roles: ['admin'] } })).allow).toBe(
      false,
    );
  });

  test('nobody speaks for another tenant, not even about itself', async () => {
    for (const who of ['asker', 'all']) {
      const answer = await authorize(who, { ...select, user: { ...developer, tenant_id: 'rival' } });
      expect(answer.status).toBe(403);
      expect(codeOf(answer)).toBe('FORBIDDEN');
    }
    expect(
      (await authorize('developer', { ...select, user: { id: 'user-developer', tenant_id: 'rival' } })).status,
    ).toBe(403);
  });

  test('classification, approval and encryption are the gateway’s, not the body’s', async () => {
    const forged = {
      ...drop,
      user: { id: 'boss', roles: ['admin'], mfa_verified: true },
      gateway_metadata: {
        tool_type: 'query',
        sensitivity_level: 'low',
        encryption_enabled: true,
        approval_token: 'forged',
        approval: { present: true, verified: true, approver_id: 'me' },
        classification: { sensitivity_level: 'low' },
      },
    };
    const answer = decided(await authorize('asker', forged));
    expect(answer.allow).toBe(false);
    expect(answer.classification).toMatchObject({ tool_type: 'admin', sensitivity_level: 'critical' });
    expect(answer.obligations).toContainEqual(expect.objectContaining({ type: 'require_approval' }));
    expect(answer.code).toBe('APPROVAL_REQUIRED');
  });

  test('never shows where in the policy a reason stands', async () => {
    const answer = await authorize('developer', drop);
    expect(answer.text).not.toMatch(/package|mcp\.gateway|portcullis\.main/);
  });

  test.each([
    ['no action', { server_name: 'orders' }, 400, 'INVALID_REQUEST'],
    ['an unknown action', { ...select, action: 'gateway:tool:destroy' }, 400, 'INVALID_REQUEST'],
    ['an administration action', { ...select, action: 'admin:reload' }, 400, 'INVALID_REQUEST'],
    ['a tool call without a tool', { ...select, tool_name: undefined }, 400, 'INVALID_REQUEST'],
    ['a resource without its URI', { ...select, action: 'gateway:resource:read' }, 400, 'INVALID_REQUEST'],
    ['a tool name with a line break', { ...select, tool_name: 'a\nb' }, 400, 'INVALID_REQUEST'],
    ['parameters that are a list', { ...select, parameters: [] }, 400, 'INVALID_REQUEST'],
    ['a user without an id', { ...select, user: { roles: ['admin'] } }, 400, 'INVALID_REQUEST'],
    ['roles that are no list', { ...select, user: { id: 'a', roles: 'admin' } }, 400, 'INVALID_REQUEST'],
    ['a user who would be anonymous', { ...select, user: { id: 'a', type: 'anonymous' } }, 400, 'INVALID_REQUEST'],
    ['ten thousand roles', { ...select, user: { id: 'a', roles: Array(10_000).fill('r') } }, 400, 'INVALID_REQUEST'],
    ['an unknown server', { ...select, server_name: 'nowhere' }, 404, 'SERVER_NOT_FOUND'],
    ['a server named like a prototype', { ...select, server_name: 'constructor' }, 404, 'SERVER_NOT_FOUND'],
    ['an unknown model', { action: 'llm:chat:create', model: 'huge' }, 404, 'MODEL_NOT_FOUND'],
  ])('refuses %s', async (_, body, status, code) => {
    verifies('SW-05');
    const answer = await authorize('asker', body);
    expect(answer.status).toBe(status);
    expect(codeOf(answer)).toBe(code);
    expect(answer.body).toMatchObject({ error: { message: expect.any(String), details: expect.any(Object) } });
  });

  test.each([
    [
      '__proto__ beside the action',
      '{"action":"gateway:server:list","server_name":"orders","__proto__":{"allow":true}}',
    ],
    ['__proto__ inside parameters', '{"action":"gateway:tool:invoke","parameters":{"__proto__":{"a":1}}}'],
    ['a doubled user', '{"action":"gateway:server:list","user":{"id":"a"},"user":{"id":"b"}}'],
    ['a byte order mark', '\ufeff{}'],
    ['no JSON', 'action=x'],
  ])('refuses %s before it looks at it', async (_, body) => {
    const headers = { 'content-type': 'application/json' };
    const answer = await call(`${gateway.url}/api/v1/gateway/authorize`, {
      key: keys.asker ?? '',
      method: 'POST',
      headers,
      body,
    });
    expect(answer.status).toBe(400);
  });

  test('a disabled server is a deny that says so', async () => {
    const said = decided(await authorize('developer', { ...select, server_name: 'asleep' }));
    expect(said).toMatchObject({ allow: false, code: 'SERVER_DISABLED', status: 503 });
  });

  test.each([
    ['gateway:server:list', {}, true],
    ['gateway:server:info', {}, true],
    ['gateway:tool:discover', { tool_name: 'execute_query' }, true],
    ['gateway:tool:discover', { tool_name: 'reset_database' }, false],
    ['gateway:resource:read', { resource_uri: 'file:///a' }, true],
    ['gateway:prompt:get', { prompt_name: 'hello' }, true],
    ['llm:chat:create', { model: 'small-model' }, true],
  ])('is asked about %s %o', async (action, fields, allow) => {
    const target = action.startsWith('llm:') ? {} : { server_name: 'orders' };
    const answer = await authorize('developer', { action, ...target, ...fields });
    expect(decided(answer).allow).toBe(allow);
  });

  test('somebody who is switched off is denied, and the asker is not', async () => {
    const admin = { authorization: `Bearer ${ADMIN_TOKEN}` };
    const off = { kind: 'principal', name: 'suspended', reason: 'test' };
    const done = await call(`${gateway.admin}/switches`, { json: off, headers: admin });
    expect(done.status, done.text).toBeLessThan(300);
    const said = await authorize('asker', { ...select, user: { id: 'suspended', roles: ['developer'] } });
    expect(said.status).toBe(200);
    expect(decided(said)).toMatchObject({ allow: false, code: 'SWITCHED_OFF', status: 403, obligations: [] });
    const listed = async (id: string) =>
      (await get(`/api/v1/gateway/servers?user_id=${id}&roles=developer`, 'catalogue')).body;
    expect(await listed('suspended')).toEqual({ servers: [] });
    expect(await listed('somebody')).not.toEqual({ servers: [] });
  });

  test('without a policy there is no answer, and that is no allow', async () => {
    await using bare = await startGateway({ policy: { bundle: './nothing', watch: false } });
    const key = await bare.key('admin');
    for (const path of ['/api/v1/gateway/authorize', '/access/v1/evaluation']) {
      const json = path.startsWith('/api')
        ? { action: 'llm:models:list', model: 'x' }
        : {
            subject: { type: 'user', id: 'user-admin' },
            action: { name: 'list' },
            resource: { type: 'model', id: 'x' },
          };
      const answer = await call(`${bare.url}${path}`, { key, json });
      expect(answer.status).toBe(503);
      expect(codeOf(answer)).toBe('POLICY_UNAVAILABLE');
    }
  });

  test('without a credential it answers nothing', async () => {
    const answer = await call(`${gateway.url}/api/v1/gateway/authorize`, { json: select });
    expect(answer.status).toBe(401);
    expect(codeOf(answer)).toBe('MISSING_CREDENTIALS');
  });

  test('leaves a record of who asked about whom and what was said', async () => {
    const answer = await authorize('asker', { ...drop, user: { id: 'watched', roles: ['developer'] } });
    const events = await gateway.audited((all) => all.some((one) => one.user_id === 'watched'));
    const event = events.find((one) => one.user_id === 'watched');
    expect(event).toMatchObject({
      event_type: 'authorization_decision',
      request_id: answer.requestId,
      asked_by: 'user-asker',
      tenant_id: 'default',
      action: 'gateway:tool:invoke',
      server_name: 'orders',
      tool_name: 'execute_query',
      outcome: 'denied',
      decision_id: decided(answer).decision_id,
    });
  });
});

describe('POST /api/v1/gateway/authorize-a2a', () => {
  const ask = (who: string, json: unknown) => post('/api/v1/gateway/authorize-a2a', who, json);
  const source_agent = { id: 'planner', name: 'Planner', trust_level: 'high', capabilities: ['plan'] };
  const target_agent = { id: 'searcher', name: 'Searcher', trust_level: 'medium', capabilities: ['search'] };
  const question = { source_agent, target_agent, tool_name: 'search', parameters: {}, context: { workflow_id: 'w1' } };

  test('decides on trust and capability, and says how deep it may go on', async () => {
    verifies('SW-04');
    const answer = await ask('agents', question);
    expect(answer.status).toBe(200);
    const document = a2aDecisionDocument.parse(answer.body);
    expect(document.allow).toBe(true);
    expect(document.max_delegation_depth).toBeGreaterThan(0);
    const deeper = { ...question, context: { delegation_depth: document.max_delegation_depth } };
    expect(a2aDecisionDocument.parse((await ask('agents', deeper)).body)).toMatchObject({
      allow: false,
      max_delegation_depth: 0,
    });
    const last = { ...question, context: { delegation_depth: document.max_delegation_depth - 1 } };
    expect(a2aDecisionDocument.parse((await ask('agents', last)).body).allow).toBe(true);
  });

  test.each([
    ['an untrusted source', { source_agent: { ...source_agent, trust_level: 'untrusted' } }],
    ['a source of unknown trust', { source_agent: { ...source_agent, trust_level: 'emperor' } }],
    ['a source without trust', { source_agent: { id: 'planner' } }],
    ['a capability the target has not', { tool_name: 'delete' }],
    ['no capability', { tool_name: null }],
  ])('refuses %s', async (_, change) => {
    const document = a2aDecisionDocument.parse((await ask('agents', { ...question, ...change })).body);
    expect(document).toMatchObject({ allow: false, max_delegation_depth: 0 });
  });

  test('rights are handed on between people, not by agents', async () => {
    const people = {
      action: 'a2a:delegate',
      source_user: { id: 'boss', roles: ['admin'], tenure_months: 24 },
      target_user: { id: 'intern', roles: ['viewer'] },
    };
    const document = a2aDecisionDocument.parse((await ask('agents', people)).body);
    expect(document.allow).toBe(true);
    const back = { ...people, source_user: people.target_user, target_user: people.source_user };
    expect(a2aDecisionDocument.parse((await ask('agents', back)).body).allow).toBe(false);
  });

  test.each([
    ['developer', question, 403],
    ['asker', question, 403],
    ['all', question, 200],
    ['agents', { ...question, target_agent: undefined }, 400],
    ['agents', { ...question, action: 'a2a:delegate' }, 400],
    ['agents', { ...question, action: 'a2a:destroy' }, 400],
    ['agents', { ...question, context: { delegation_depth: -1 } }, 400],
    ['agents', { ...question, context: { delegation_depth: 1e9 } }, 400],
  ])('%s asking %o gets %i', async (who, json, status) => {
    expect((await ask(who, json)).status).toBe(status);
  });
});

describe('GET /api/v1/gateway/servers and /tools', () => {
  test('lists what the caller may see, with tools on request', async () => {
    verifies('SW-01');
    const plain = serverList.parse((await get('/api/v1/gateway/servers', 'developer')).body);
    expect(plain.servers.map(({ name }) => name)).toContain('orders');
    expect(plain.servers[0]?.tools).toBeUndefined();
    const full = serverList.parse((await get('/api/v1/gateway/servers?include_tools=true', 'developer')).body);
    const tools = full.servers.find(({ name }) => name === 'orders')?.tools?.map(({ name }) => name);
    expect(tools).toContain('execute_query');
    expect(tools).not.toContain('reset_database');
  });

  test('shows what somebody else may see to those who may ask', async () => {
    const of = async (query: string) =>
      toolList
        .parse((await get(`/api/v1/gateway/tools?server_name=orders&${query}`, 'catalogue')).body)
        .tools.map(({ name }) => name);
    expect(await of('user_id=boss&roles=admin')).toContain('reset_database');
    expect(await of('user_id=dev&roles=developer')).not.toContain('reset_database');
    // The owner of an API key is known without being described; nobody of that name sees nothing.
    expect(await of('user_id=user-developer')).toContain('execute_query');
    expect((await get('/api/v1/gateway/tools?server_name=orders&user_id=nobody-knows', 'catalogue')).status).toBe(404);
    expect((await get('/api/v1/gateway/servers?user_id=other', 'developer')).status).toBe(403);
    expect((await get('/api/v1/gateway/tools?user_id=other', 'developer')).status).toBe(403);
    expect((await get('/api/v1/gateway/servers?user_id=user-developer&roles=admin', 'developer')).status).toBe(200);
  });

  test('unknown servers and bad users are refused', async () => {
    expect(codeOf(await get('/api/v1/gateway/tools?server_name=nowhere', 'developer'))).toBe('SERVER_NOT_FOUND');
    expect((await get('/api/v1/gateway/servers?user_id=', 'catalogue')).status).toBe(400);
    expect((await get('/api/v1/gateway/servers?user_id=a%0Ab', 'catalogue')).status).toBe(400);
  });
});

describe('POST /api/v1/gateway/audit', () => {
  const report = {
    event_type: 'tool_invocation',
    user_id: 'reported-user',
    server_name: 'elsewhere',
    tool_name: 'run',
    decision: 'allow',
    timestamp: '2026-01-15T10:30:00Z',
    gateway_request_id: 'their-1',
    metadata: { password: 'hunter2-secret', rows: 3 },
  };

  test('keeps the report as the word of the one who sent it', async () => {
    verifies('SW-01');
    const answer = await post('/api/v1/gateway/audit', 'auditor', report);
    expect(answer.status).toBe(201);
    expect(answer.body).toEqual({ audit_id: answer.requestId, request_id: answer.requestId, recorded: true });
    const events = await gateway.audited((all) => all.some((one) => one.event_type === 'reported_event'));
    expect(events.find((one) => one.event_type === 'reported_event')).toMatchObject({
      request_id: answer.requestId,
      user_id: 'user-auditor',
      tenant_id: 'default',
      reported_type: 'tool_invocation',
      reported: { user_id: 'reported-user', server_name: 'elsewhere', decision: 'allow' },
      details: { rows: 3 },
    });
    expect(JSON.stringify(events)).not.toContain('hunter2-secret');
  });

  test.each([
    ['developer', report, 403],
    ['auditor', {}, 400],
    ['auditor', { ...report, decision: 'maybe' }, 400],
    ['auditor', { ...report, timestamp: 'yesterday' }, 400],
  ])('%s sending %o gets %i', async (who, json, status) => {
    expect((await post('/api/v1/gateway/audit', who, json)).status).toBe(status);
  });
});

describe('OpenID AuthZEN', () => {
  const subject = { type: 'user', id: 'dev-1', properties: { roles: ['developer'] } };
  const action = { name: 'invoke', properties: { parameters: select.parameters } };
  const dropping = { name: 'invoke', properties: { parameters: drop.parameters } };
  const resource = { type: 'tool', id: 'orders:execute_query' };
  const evaluate = (who: string, json: unknown, init: RequestInit = {}) =>
    post('/access/v1/evaluation', who, json, init);
  const evaluateAll = (json: unknown, who = 'asker') => post('/access/v1/evaluations', who, json);
  const results = (answer: Answer) =>
    (answer.body as { evaluations: { decision: boolean; context?: Record<string, unknown> }[] }).evaluations;

  test('answers one evaluation with a boolean and a reason', async () => {
    const yes = await evaluate('asker', { subject, action, resource });
    expect(yes.status).toBe(200);
    expect(yes.body).toMatchObject({ decision: true, context: { request_id: yes.requestId } });
    const no = await evaluate('asker', { subject, action: dropping, resource });
    expect(no.status).toBe(200);
    expect(no.body).toMatchObject({
      decision: false,
      context: { reason: expect.any(String), code: expect.any(String) },
    });
    expect(no.text).not.toMatch(/package|mcp\.gateway/);
  });

  test('sends the caller’s X-Request-ID back, unless it is no plain id', async () => {
    const headers = { 'x-request-id': 'bfe9eb29-ab87-4ca3-be83-a1d5d8305716' };
    const answer = await evaluate('asker', { subject, action, resource }, { headers });
    expect(answer.requestId).toBe(headers['x-request-id']);
    for (const [who, json, status] of [
      ['developer', { subject, action, resource }, 403],
      ['asker', { subject, action, resource: { type: 'tool', id: 'nowhere:x' } }, 404],
      ['asker', { subject }, 400],
      ['', { subject, action, resource }, 401],
    ] as const) {
      const refused = await evaluate(who, json, { headers });
      expect([refused.status, refused.requestId]).toEqual([status, headers['x-request-id']]);
    }
    const odd = await evaluate('asker', { subject, action, resource }, { headers: { 'x-request-id': 'a b' } });
    expect(odd.requestId).toMatch(/^req_/);
  });

  test.each([
    ['server', 'orders', 'read', true],
    ['server', 'orders', 'gateway:server:list', true],
    ['tool', 'orders:reset_database', 'discover', false],
    ['resource', 'orders:file:///a:b', 'read', true],
    ['prompt', 'orders:hello', 'get', true],
    ['model', 'small-model', 'chat', true],
  ])('understands %s %s %s', async (type, id, name, decision) => {
    const answer = await evaluate('asker', { subject, action: { name }, resource: { type, id } });
    expect(answer.body).toMatchObject({ decision });
  });

  test.each([
    ['no subject', { action, resource }, 400],
    ['a subject without an id', { subject: { type: 'user' }, action, resource }, 400],
    ['a subject of another kind', { subject: { type: 'anonymous', id: 'a' }, action, resource }, 400],
    ['an unknown resource type', { subject, action, resource: { type: 'door', id: '1' } }, 400],
    ['an action that does not go with the resource', { subject, action: { name: 'chat' }, resource }, 400],
    ['a tool without a server', { subject, action, resource: { type: 'tool', id: 'execute_query' } }, 400],
    ['an unknown server', { subject, action, resource: { type: 'tool', id: 'nowhere:x' } }, 404],
    ['another tenant', { subject: { ...subject, properties: { tenant_id: 'rival' } }, action, resource }, 403],
  ])('refuses %s', async (_, json, status) => {
    expect((await evaluate('asker', json)).status).toBe(status);
  });

  test('asking for others takes the permission, and asking for oneself brings one’s own roles', async () => {
    expect((await evaluate('developer', { subject, action, resource })).status).toBe(403);
    const own = { type: 'user', id: 'user-developer', properties: { roles: ['admin'] } };
    const discover = { name: 'discover' };
    const reset = { type: 'tool', id: 'orders:reset_database' };
    expect((await evaluate('developer', { subject: own, action: discover, resource: reset })).body).toMatchObject({
      decision: false,
    });
  });

  test('several evaluations share defaults and keep their order; a bad one is a deny that says why', async () => {
    const answer = await evaluateAll({
      subject,
      action,
      resource,
      evaluations: [
        {},
        { action: dropping },
        { resource: { type: 'tool', id: 'nowhere:x' } },
        { resource: { type: 'door', id: 'x' } },
        { action: { name: 'read' }, resource: { type: 'server', id: 'orders' } },
      ],
    });
    expect(answer.status).toBe(200);
    expect(results(answer).map(({ decision }) => decision)).toEqual([true, false, false, false, true]);
    expect(results(answer)[2]?.context).toMatchObject({ error: { status: 404, code: 'SERVER_NOT_FOUND' } });
    expect(results(answer)[3]?.context).toMatchObject({ error: { status: 400 } });
  });

  test.each([
    ['execute_all', [true, false, true]],
    ['deny_on_first_deny', [true, false]],
    ['permit_on_first_permit', [true]],
  ])('%s answers %o', async (evaluations_semantic, expected) => {
    const evaluations = [{}, { action: dropping }, {}];
    const answer = await evaluateAll({ subject, action, resource, evaluations, options: { evaluations_semantic } });
    expect(results(answer).map(({ decision }) => decision)).toEqual(expected);
  });

  test('a list about one person counts once for that person', async () => {
    const many = { type: 'user', id: 'busy', properties: { roles: ['viewer'] } };
    const list = { type: 'server', id: 'orders' };
    const evaluations = Array.from({ length: 100 }, () => ({}));
    for (let round = 0; round < 3; round++) {
      const answer = await evaluateAll({ subject: many, action: { name: 'list' }, resource: list, evaluations });
      expect(results(answer).every(({ decision }) => decision)).toBe(true);
    }
  });

  test('without a list it is one evaluation', async () => {
    expect((await evaluateAll({ subject, action, resource })).body).toMatchObject({ decision: true });
    expect((await evaluateAll({ subject, action, resource, evaluations: [] })).body).toMatchObject({ decision: true });
    expect((await evaluateAll({ subject, action })).status).toBe(400);
  });

  test('one stranger in the list is enough to need the permission', async () => {
    const own = { type: 'user', id: 'user-developer' };
    const mixed = { subject: own, action, resource, evaluations: [{}, { subject }] };
    expect((await evaluateAll(mixed, 'developer')).status).toBe(403);
    expect(results(await evaluateAll({ ...mixed, evaluations: [{}, {}] }, 'developer'))).toHaveLength(2);
  });

  test('a list of more than a hundred is refused as a whole', async () => {
    const evaluations = Array.from({ length: 101 }, () => ({}));
    const answer = await evaluateAll({ subject, action, resource, evaluations });
    expect(answer.status).toBe(400);
    expect(answer.text).toContain('at most 100 evaluations');
    expect(results(await evaluateAll({ subject, action, resource, evaluations: evaluations.slice(1) }))).toHaveLength(
      100,
    );
  });

  test('is not asked more than it answers beside others', async () => {
    const long = (length: number) => ({ name: 'invoke', properties: { parameters: { query: 'x'.repeat(length) } } });
    for (const [path, json] of [
      ['/api/v1/gateway/authorize', { ...select, parameters: { query: 'x'.repeat(1_048_577) } }],
      ['/access/v1/evaluation', { subject, action: long(1_048_577), resource }],
      ['/access/v1/evaluations', { subject, action: long(1_048_577), resource, evaluations: [{}] }],
    ] as const) {
      const answer = await post(path, 'asker', json);
      expect(answer.body).toMatchObject({
        error: { code: 'PAYLOAD_TOO_LARGE', details: { limit_bytes: 1_048_576 } },
      });
    }
    const shared = { subject, action: long(60_000), resource };
    const few = Array.from({ length: 60 }, () => ({}));
    expect(results(await evaluateAll({ ...shared, evaluations: few }))).toHaveLength(60);
    const many = await evaluateAll({ ...shared, evaluations: [...few, ...few.slice(20)] });
    expect(many.status).toBe(413);
    expect(many.text).toContain('ask for fewer at once');
    // What an entry has of its own is not written out.
    const own = few.map(() => ({ action: long(10) }));
    expect(results(await evaluateAll({ ...shared, evaluations: [...own, ...own.slice(20)] }))).toHaveLength(100);
  });

  test('lets others be answered between two evaluations', async () => {
    const statement = `SELECT ${'a, b, '.repeat(6000)} c FROM orders`;
    const long = { name: 'invoke', properties: { parameters: { query: statement } } };
    let isOver = false;
    const all = evaluateAll({ subject, action: long, resource, evaluations: Array.from({ length: 100 }, () => ({})) });
    const over = all.finally(() => {
      isOver = true;
    });
    let others = 0;
    while (!isOver) {
      const { status } = await call(`${gateway.url}/.well-known/authzen-configuration`);
      expect(status).toBe(200);
      if (!isOver) others++;
    }
    expect(results(await over)).toHaveLength(100);
    expect(others).toBeGreaterThan(3);
  });

  test('says where it is, to everyone', async () => {
    const answer = await call(`${gateway.url}/.well-known/authzen-configuration`);
    expect(answer.status).toBe(200);
    expect(answer.body).toEqual({
      policy_decision_point: gateway.url,
      access_evaluation_endpoint: `${gateway.url}/access/v1/evaluation`,
      access_evaluations_endpoint: `${gateway.url}/access/v1/evaluations`,
    });
  });
});

test('every operation of the published document answered, as it says', async () => {
  await get('/api/v1/version', 'viewer');
  await get('/.well-known/authzen-configuration', 'viewer');
  expect([...answered].sort()).toEqual([...published.operations].sort());
});

describe('docs/pdp-api.md', () => {
  const text = readFileSync(join(ROOT, 'docs/pdp-api.md'), 'utf8');
  const sessions = [...text.matchAll(/^```sh\n(.*?)^```$/gms)].map((match): [string] => [match[1] ?? '']);

  test.each(sessions)('runs %s', async (session) => {
    const env = cleanEnv({ GATEWAY: gateway.url, KEY: keys.all ?? '' });
    const done = await runToEnd('bash', ['-euc', session], { cwd: ROOT, env });
    expect(done.code, `${done.stdout}\n${done.stderr}`).toBe(0);
    expect(done.stdout).toMatch(/^\{/);
  });

  test('names every member of the answer, every action and every resource type', async () => {
    const members = Object.keys(decisionDocument.shape).filter((name) => name !== 'version');
    for (const word of [...members, ...ASKABLE, ...Object.keys(AUTHZEN_ACTIONS)]) expect(text).toContain(`\`${word}\``);
    for (const names of Object.values(AUTHZEN_ACTIONS))
      for (const name of names.keys()) expect(text).toContain(`\`${name}\``);
  });
});
