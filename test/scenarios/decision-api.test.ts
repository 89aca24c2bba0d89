/** The decision API as a product of its own: what it may be asked how often, which parts are there, and each way it refuses. */
import { text } from 'node:stream/consumers';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { AuditEvent } from '../../src/audit/event.ts';
import { CATALOGUE, type ErrorCode } from '../../src/core/errors.ts';
import { decisionDocument, toolList } from '../../src/protocols/pdp/schemas.ts';
import { publishedApi } from '../helpers/described.ts';
import type { PartialConfig, TestGateway } from '../helpers/gateway.ts';
import { startGateway } from '../helpers/gateway.ts';
import type { Answer } from '../helpers/gateway-calls.ts';
import { call } from '../helpers/gateway-calls.ts';
import { type Example, startExample } from '../helpers/processes.ts';
import { type Service, startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

/** A Wednesday. Time stands still unless a test moves it. */
const NOW = Date.parse('2025-01-15T10:30:00Z');
const ISSUER = 'https://idp.example.com';
let time = NOW;

let orders: Example;
let issuer: Service;
/** Speaks MCP until it is asked to call a tool; then it is silent. */
let silent: Service;
/** As it is without settings. */
let usual: TestGateway;
let sign: (claims: Record<string, unknown>, lives?: number) => Promise<string>;

beforeAll(async () => {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true });
  const jwk = { ...(await exportJWK(publicKey)), kid: 'k1', alg: 'ES256', use: 'sig' };
  issuer = await startService((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ keys: [jwk] }));
  });
  silent = await startService(async (request, response) => {
    const { id, method } = JSON.parse(await text(request)) as { id: number; method: string };
    if (method === 'tools/call') return;
    const result = { supportedVersions: ['2026-07-28'], capabilities: {} };
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ jsonrpc: '2.0', id, result }));
  });
  orders = await startExample('orders-server');
  sign = (claims, lives = 3600) =>
    new SignJWT(claims)
      .setProtectedHeader({ alg: 'ES256', kid: 'k1', typ: 'at+jwt' })
      .setIssuer(ISSUER)
      .setAudience('portcullis')
      .setIssuedAt(NOW / 1000 - 60)
      .setExpirationTime(NOW / 1000 + lives)
      .sign(privateKey);
  usual = await start();
});

afterAll(async () => {
  await usual?.[Symbol.asyncDispose]();
  await Promise.all([issuer, silent].map((service) => service?.[Symbol.asyncDispose]()));
  await orders?.crash();
});

function start(more: PartialConfig = {}): Promise<TestGateway> {
  time = NOW;
  return startGateway(
    {
      identity: {
        keys: { kind: 'api-key' },
        staff: { kind: 'jwt', issuer: ISSUER, audience: 'portcullis', jwks: `${issuer.url}/jwks` },
      },
      servers: {
        orders: {
          ...{ type: 'sql', dialect: 'sqlite', url: orders.url, environment: 'staging' },
          tools: {
            update_order_status: {
              ...{ requires_hitl: true, cost: 'high', data_sensitivity: 'confidential' },
              scopes: ['orders:write'],
            },
            nothing_like_it: { sensitivity: 'low', type: 'query' },
          },
        },
        silent: { url: silent.url, headers_timeout_ms: 20, tools: { wait: { sensitivity: 'low', type: 'query' } } },
      },
      routes: [
        { match: '/mcp/orders', protocol: 'mcp', server: 'orders', identity: ['keys', 'staff'], scopes: ['orders'] },
      ],
      ...more,
    },
    { clock: { now: () => time } },
  );
}

const published = publishedApi();
const select = {
  action: 'gateway:tool:invoke',
  server_name: 'orders',
  tool_name: 'execute_query',
  parameters: { query: 'SELECT id FROM orders LIMIT 1' },
};
const agents = {
  source_agent: { id: 'planner', trust_level: 'high', capabilities: ['plan'] },
  target_agent: { id: 'searcher', trust_level: 'medium', capabilities: ['search'] },
  tool_name: 'search',
};
const flagOf = (event: AuditEvent) => ('flag' in event ? event.flag : null);
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

/** Holds what every refusal of this API has, and gives its details. */
function refused(answer: Answer, code: ErrorCode): Record<string, unknown> {
  expect(answer.body, answer.text).toMatchObject({
    error: { code, message: expect.stringMatching(/\S/), details: expect.any(Object) },
    request_id: answer.requestId,
  });
  expect(answer.status).toBe(CATALOGUE[code].status);
  expect(answer.headers.get('content-type')).toBe('application/problem+json');
  expect(answer.headers.get('link')).toBe(`</api/v1/errors/${code}>; rel="help"`);
  return (answer.body as { error: { details: Record<string, unknown> } }).error.details;
}

/** Every endpoint below `/api/v1/gateway` with a request that it would answer. */
const REQUESTS: readonly (readonly [method: 'GET' | 'POST', path: string, json: object | undefined])[] = [
  ['POST', '/api/v1/gateway/authorize', select],
  ['POST', '/api/v1/gateway/authorize-a2a', agents],
  ['GET', '/api/v1/gateway/servers', undefined],
  ['GET', '/api/v1/gateway/tools', undefined],
  ['POST', '/api/v1/gateway/audit', { event_type: 'tool_invocation' }],
];

describe('a gateway elsewhere', () => {
  test('asks in its own words, whole, and is answered whole', async () => {
    verifies('SW-01', 'SW-02', 'SW-03', 'SW-04');
    const key = await usual.key('pep', { permissions: ['gateway:*'], roles: [] });
    const ask = async (path: string, json: object) => {
      const answer = await call(`${usual.url}/api/v1/gateway/${path}`, { key, json });
      expect(answer.status, answer.text).toBe(200);
      return answer;
    };
    const gateway_metadata = { request_id: 'gw-1', timestamp: 1736937000, source_ip: '203.0.113.9' };
    const user = { id: 'alice', email: 'alice@example.com', roles: ['developer'] };
    for (const [action, more] of [
      ['gateway:tool:invoke', { tool_name: 'execute_query', parameters: select.parameters }],
      ['gateway:tool:discover', { tool_name: 'execute_query' }],
      ['gateway:server:access', {}],
      ['gateway:server:list', {}],
      ['gateway:server:list', { server_name: undefined }],
      ['gateway:server:info', {}],
      ['gateway:resource:read', { resource_uri: 'file:///a' }],
    ] as const) {
      const answer = await ask('authorize', { action, server_name: 'orders', ...more, user, gateway_metadata });
      expect(answer.body).toMatchObject({
        ...{ allow: action !== 'gateway:server:access', audit_id: answer.requestId, cache_ttl: expect.any(Number) },
        metadata: { policy_version: expect.stringMatching(/^sha256:/), evaluated_at: new Date(NOW).toISOString() },
      });
      expect(answer.body).toHaveProperty('reason');
      expect(answer.body).toHaveProperty('filtered_parameters');
    }
    const agent = (id: string, trust_level: string) => ({ id, name: id, trust_level, capabilities: ['search'] });
    for (const [trust, allow] of [
      ['trusted', true],
      ['limited', false],
      ['untrusted', false],
    ] as const) {
      const answer = await ask('authorize-a2a', {
        ...{ source_agent: agent('planner', trust), target_agent: agent('searcher', 'trusted'), tool_name: 'search' },
        ...{ parameters: { q: 'x' }, context: { workflow_id: 'wf-1', user_id: 'alice' } },
      });
      const { max_delegation_depth, ...document } = answer.body as { max_delegation_depth: number };
      expect(document).toMatchObject({ allow, audit_id: answer.requestId });
      expect(max_delegation_depth > 0).toBe(allow);
    }
    const needed = await call(`${usual.url}/api/v1/gateway/authorize`, { key, json: { ...select, tool_name: null } });
    expect(refused(needed, 'INVALID_REQUEST')).toEqual({
      problems: ['tool_name: needed for gateway:tool:invoke'],
    });
  });
});

describe('a part that the operator turned off', () => {
  test('says so to whoever has a credential, before it reads a word, and it is recorded', async () => {
    verifies('SW-05', 'SW-08');
    await using gateway = await start({ decision_api: { gateway: false } });
    const key = await gateway.key('all', { permissions: ['gateway:*'], roles: [] });
    const developer = await gateway.key('developer');
    for (const [method, path, json] of REQUESTS) {
      const sent = json === undefined ? {} : { json };
      // Right or wrong, with or without the permission: the same words. Without a credential there are others.
      for (const answer of [
        await call(`${gateway.url}${path}`, { key, ...sent }),
        await call(`${gateway.url}${path}`, { key: developer, ...sent }),
        await call(`${gateway.url}${path}`, { key, method, ...(json === undefined ? {} : { json: { bad: true } }) }),
      ]) {
        refused(answer, 'GATEWAY_NOT_ENABLED');
        expect(answer.headers.get('x-should-retry')).toBe('false');
        expect(answer.headers.get('x-api-version')).toBe('1');
        expect(published.fault(method, path, 503, answer.headers.get('content-type'), answer.body)).toBeNull();
      }
      refused(await call(`${gateway.url}${path}`, sent), 'MISSING_CREDENTIALS');
      refused(await call(`${gateway.url}${path}`, { key: `${key}x`, ...sent }), 'INVALID_CREDENTIALS');
    }
    const events = await gateway.audited((all) => all.filter((one) => flagOf(one) === 'GN').length === 15);
    expect(events.find((one) => flagOf(one) === 'GN')).toMatchObject({ status: 503, user_id: 'user-all' });
    expect(await gateway.decisions()).not.toContain('gateway/authorize');
    expect((await call(`${gateway.url}/api/v1/version`, { key })).body).toMatchObject({
      features: { gateway: false, a2a: false, authzen: true },
    });
    // What is no part of it goes on.
    const tool = { server_name: 'orders', tool_name: 'execute_query', parameters: select.parameters };
    expect((await call(`${gateway.url}/tools/invoke`, { key: developer, json: tool })).status).toBe(200);
  });

  test('is the part between agents alone, and comes back with a reload', async () => {
    verifies('SW-05', 'SW-08');
    await using gateway = await start({ decision_api: { a2a: false } });
    const key = await gateway.key('all', { permissions: ['gateway:*'], roles: ['developer'] });
    const ask = () => call(`${gateway.url}/api/v1/gateway/authorize-a2a`, { key, json: agents });
    refused(await ask(), 'A2A_NOT_ENABLED');
    refused(await call(`${gateway.url}/api/v1/gateway/authorize-a2a`, { json: agents }), 'MISSING_CREDENTIALS');
    expect((await call(`${gateway.url}/api/v1/gateway/authorize`, { key, json: select })).status).toBe(200);
    expect((await call(`${gateway.url}/api/v1/version`, { key })).body).toMatchObject({
      features: { gateway: true, a2a: false },
    });
    await gateway.reload({});
    expect((await ask()).status).toBe(200);
    const events = await gateway.audited((all) => all.some((one) => flagOf(one) === 'AN'));
    expect(events.find((one) => flagOf(one) === 'AN')).toMatchObject({ status: 503, user_id: 'user-all' });
  });
});

describe('how often it may be asked', () => {
  const told = ({ headers }: Answer) =>
    ['limit', 'remaining', 'reset'].map((name) => Number(headers.get(`x-ratelimit-${name}`)));

  test('goes by the kind of credential: 1,000 a minute of people, 5,000 of agents, 10,000 of keys and services', async () => {
    verifies('SW-06');
    const person = bearer(await sign({ sub: 'ann', roles: ['developer'] }));
    const agent = bearer(await sign({ sub: 'bot', principal_type: 'agent', roles: ['developer'] }));
    const service = bearer(await sign({ sub: 'svc', principal_type: 'service', roles: ['developer'] }));
    const key = { 'x-api-key': await usual.key('developer') };
    for (const path of ['/api/v1/gateway/authorize', '/access/v1/evaluation']) {
      for (const [headers, limit] of [
        [person, 1000],
        [agent, 5000],
        [key, 10_000],
        [service, 10_000],
      ] as const) {
        const answer = await call(`${usual.url}${path}`, { headers, json: path.startsWith('/api') ? select : {} });
        expect(told(answer).slice(0, 1)).toEqual([limit]);
        expect(answer.headers.get('ratelimit-policy')).toMatch(new RegExp(`^"questions:[a-z]+";q=${limit};w=60$`));
      }
    }
    // Both questions came out of one bucket.
    const [, remaining, reset] = told(await call(`${usual.url}/api/v1/gateway/servers`, { headers: person }));
    expect([remaining, reset]).toEqual([997, Math.ceil(NOW / 1000 + 0.18)]);
    // Traffic and the rest of the API have none of it.
    for (const path of ['/tools', '/api/v1/version']) {
      const answer = await call(`${usual.url}${path}`, { headers: key });
      expect([answer.status, answer.headers.get('x-ratelimit-limit')]).toEqual([200, null]);
    }
  });

  test('ends with 429 and the seconds to wait, for that credential alone, and begins again', async () => {
    verifies('SW-05', 'SW-06');
    await using gateway = await start({ decision_api: { limits: { users: 3, agents: 5, gateways: 8 } } });
    const [one, other] = [await gateway.key('developer'), await gateway.key('developer')];
    for (const [headers, limit] of [
      [bearer(await sign({ sub: 'ann', roles: ['developer'] })), 3],
      [bearer(await sign({ sub: 'bot', principal_type: 'agent', roles: ['developer'] })), 5],
      [{ 'x-api-key': one }, 8],
    ] as const) {
      const ask = () => call(`${gateway.url}/api/v1/gateway/authorize`, { headers, json: select });
      for (let left = limit - 1; left >= 0; left--) {
        const answer = await ask();
        expect(answer.status).toBe(200);
        expect(told(answer).slice(0, 2)).toEqual([limit, left]);
      }
      const over = await ask();
      const seconds = Math.ceil(60 / limit);
      expect(refused(over, 'RATE_LIMIT_EXCEEDED')).toMatchObject({ retry_after: seconds, limit, window_seconds: 60 });
      expect(over.headers.get('retry-after')).toBe(String(seconds));
      expect(over.headers.get('x-api-version')).toBe('1');
      expect(told(over)).toEqual([limit, 0, NOW / 1000 + seconds]);
      time += seconds * 1000;
      expect((await ask()).status).toBe(200);
      expect((await ask()).status).toBe(429);
      time = NOW;
    }
    // Two keys of one owner are two credentials.
    const answer = await call(`${gateway.url}/api/v1/gateway/authorize`, { key: other, json: select });
    expect(told(answer).slice(0, 2)).toEqual([8, 7]);
  });

  test('is not what the policy counts: that is calls, of whom is asked about', async () => {
    verifies('SW-06', 'SW-17');
    await using gateway = await start({ decision_api: { limits: { gateways: null } } });
    // No role with a figure of its own: the policy allows 100 calls a minute.
    const key = await gateway.key('pep', { permissions: ['gateway:authorize'], roles: [] });
    const own = await gateway.key('user');
    const about = async (who: string, json: object) => {
      const answer = await call(`${gateway.url}/api/v1/gateway/authorize`, { key: who, json });
      expect(answer.status).toBe(200);
      expect(answer.headers.get('x-ratelimit-limit')).toBeNull();
      return decisionDocument.parse(answer.body);
    };
    const asked = await Promise.all(
      Array.from({ length: 120 }, (_, i) => about(key, { ...select, user: { id: `u${i}`, roles: ['user'] } })),
    );
    expect(asked.every(({ allow }) => allow)).toBe(true);
    const busy = await Promise.all(Array.from({ length: 105 }, () => about(own, select)));
    expect(busy.filter(({ allow }) => allow)).toHaveLength(100);
    expect(busy.find(({ allow }) => !allow)).toMatchObject({ code: 'RATE_LIMIT_EXCEEDED', status: 429 });
  });
});

describe('each way to be refused', () => {
  let key: string;
  beforeAll(async () => {
    key = await usual.key('admin');
  });
  const authorize = (json: unknown, headers: Record<string, string> = { 'x-api-key': key }) =>
    call(`${usual.url}/api/v1/gateway/authorize`, { headers, json });
  const get = (path: string) => call(`${usual.url}${path}`, { key });
  const invoke = (server_name: string, tool_name: string) =>
    call(`${usual.url}/tools/invoke`, { key, json: { server_name, tool_name, parameters: {} } });

  test('has its code, its status and the same body', async () => {
    verifies('SW-05');
    expect(refused(await authorize({ server_name: 'orders' }), 'INVALID_REQUEST')).toHaveProperty('problems');
    refused(await authorize({ ...select, server_name: 'nowhere' }), 'SERVER_NOT_FOUND');
    refused(await get('/api/v1/gateway/tools?server_name=nowhere'), 'SERVER_NOT_FOUND');
    refused(await authorize({ ...select, user: { id: 'other' } }, bearer(await sign({ sub: 'ben' }))), 'FORBIDDEN');
    refused(await authorize(select, {}), 'MISSING_CREDENTIALS');
    refused(await authorize(select, bearer('not.a.token')), 'INVALID_CREDENTIALS');
    refused(await authorize(select, { 'x-api-key': 'pc_dev_0_0' }), 'INVALID_CREDENTIALS');
    refused(await authorize(select, bearer(await sign({ sub: 'ben', roles: ['developer'] }, -40))), 'TOKEN_EXPIRED');
    // Half a character: Rego has no such text.
    const odd = await usual.key('developer', { roles: ['developer', 'half-\ud800'] });
    refused(await authorize(select, { 'x-api-key': odd }), 'POLICY_EVALUATION_ERROR');
    refused(await invoke('silent', 'wait'), 'GATEWAY_TIMEOUT');
    const named = await get('/api/v1/errors/UNAUTHORIZED');
    expect(named.body).toMatchObject({ codes: expect.arrayContaining(['MISSING_CREDENTIALS', 'INVALID_CREDENTIALS']) });
    expect((await get('/api/v1/errors/GATEWAY_NOT_ENABLED')).body).toMatchObject({ number: 'CF-004', status: 503 });
  });

  test('a tool that there is not is not found, in lists and where it was called', async () => {
    verifies('SW-05', 'SW-09');
    refused(await get('/api/v1/gateway/tools?server_name=orders&tool_name=nothing'), 'TOOL_NOT_FOUND');
    refused(await get('/api/v1/gateway/tools?tool_name=nothing_like_it&server_name=orders'), 'TOOL_NOT_FOUND');
    const found = toolList.parse((await get('/api/v1/gateway/tools?server_name=orders&tool_name=execute_query')).body);
    expect(found.tools.map(({ name }) => name)).toEqual(['execute_query']);
    refused(await invoke('orders', 'nothing_like_it'), 'TOOL_NOT_FOUND');
    // It is there and fails: that is the tool's own word.
    const failed = await invoke('orders', 'execute_query');
    expect([failed.status, failed.body]).toEqual([200, expect.objectContaining({ success: false })]);
    // Who may not see it is told the same as if it were not there.
    const viewer = await usual.key('viewer');
    const hidden = `${usual.url}/api/v1/gateway/tools?server_name=orders&tool_name=reset_database`;
    expect((await call(hidden, { key: viewer })).text.replaceAll(/req_\w+/g, '')).toBe(
      (await call(hidden.replace('reset_database', 'nothing'), { key: viewer })).text.replaceAll(/req_\w+/g, ''),
    );
  });
});

test('a tool of a list says what the operator said of it, and where a token for it comes from', async () => {
  verifies('TW-05');
  const key = await usual.key('admin');
  const list = async (path: string) => toolList.parse((await call(`${usual.url}${path}`, { key })).body).tools;
  for (const path of ['/api/v1/gateway/tools?server_name=orders', '/tools?server_name=orders']) {
    const byName = new Map((await list(path)).map((tool) => [tool.name, tool]));
    expect(byName.get('update_order_status')).toMatchObject({
      tool_id: 'orders-update_order_status',
      governance: { requires_hitl: true, cost: 'high', data_sensitivity: 'confidential' },
      auth: { auth_type: 'oauth2', auth_server: ISSUER, scopes: ['orders', 'orders:write'] },
    });
    expect(byName.get('execute_query')).toMatchObject({
      tool_id: 'orders-execute_query',
      governance: { requires_hitl: false, cost: null, data_sensitivity: null },
      auth: { scopes: ['orders'] },
    });
  }
});
