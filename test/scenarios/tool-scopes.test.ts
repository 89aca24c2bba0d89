/** Tools that need scopes: who gets through, who is told what to ask for, and that nothing reaches a server before. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.ts';
import { startGateway, type TestGateway } from '../helpers/gateway.ts';
import { type Answer, call } from '../helpers/gateway-calls.ts';
import { connectLegacy } from '../helpers/gateway-mcp.ts';
import { type Example, freePorts, startExample } from '../helpers/processes.ts';
import { type Recorder, record, type Service, startService } from '../helpers/upstreams.ts';

interface Row {
  readonly name: string;
  /** Who gave out the credential, and with which scopes. */
  readonly as: string;
  readonly call: keyof typeof BODIES;
  readonly on?: string;
  readonly server?: string;
  readonly status: number;
  /** The scopes of the challenge. Absent: there is none that asks for more. */
  readonly challenge?: string;
  readonly code?: string;
  readonly shows?: string;
}

const rows = JSON.parse(
  readFileSync(join(import.meta.dirname, '../corpus/oauth/tool-scope-calls.json'), 'utf8'),
) as Row[];

const SCOPES = 'orders:use orders:write orders:writer orders:admin ORDERS:WRITE orders:*';
const CLIENT = {
  ...{ client_id: 'robot', client_secret: 'a-secret-of-robot-that-is-long-enough' },
  ...{ grant_types: ['client_credentials'], redirect_uris: [], response_types: [] },
} as never;

let orders: Example;
let upstream: Recorder;
let jobs: Service;
let staff: AuthorizationServer;
let partners: AuthorizationServer;
let gateway: TestGateway;
let base: string;

beforeAll(async () => {
  orders = await startExample('orders-server');
  upstream = await record(orders.url);
  jobs = await startService((request, response) => {
    const result = { resultType: 'task', taskId: `t-${request.headers['mcp-name']}`, status: 'working' };
    response.setHeader('content-type', 'application/json').end(JSON.stringify({ jsonrpc: '2.0', id: 1, result }));
  });
  const common = { clients: [CLIENT], claims: { roles: ['data_engineer'] }, scopes: SCOPES };
  staff = await startAuthorizationServer(common);
  partners = await startAuthorizationServer(common);
  const [port = 0] = await freePorts(1);
  base = `http://127.0.0.1:${port}`;
  const jwt = ({ issuer }: AuthorizationServer) => ({ kind: 'jwt', issuer, audience: base, jwks: `${issuer}/jwks` });
  const server = { type: 'sql', dialect: 'sqlite', url: upstream.url, environment: 'staging' } as const;
  const route = { protocol: 'mcp' as const, server: 'orders', identity: ['keys', 'staff'] };
  gateway = await startGateway({
    public_url: base,
    listen: { data: `127.0.0.1:${port}`, admin: { address: '127.0.0.1:0' } },
    identity: {
      ...{ keys: { kind: 'api-key' }, staff: jwt(staff), partners: jwt(partners) },
      guests: { ...jwt(partners), grantable_scopes: ['orders:use'] },
    } as never,
    servers: {
      orders: {
        ...server,
        tools: { 'update_*': { scopes: ['orders:write'] }, reset_database: { scopes: ['orders:admin'] } },
      },
      copies: server,
      jobs: { type: 'custom', url: jobs.url, tools: { purge: { scopes: ['orders:write'] } } },
    },
    routes: [
      { ...route, match: '/mcp/orders', scopes: ['orders:use'] },
      { ...route, match: '/mcp/watched', mode: 'report' },
      { ...route, match: '/mcp/guests', identity: ['staff', 'guests'], scopes: ['orders:use'] },
      { ...route, match: '/mcp/told', denial: 'result' },
      { ...route, match: '/mcp/jobs', server: 'jobs', mode: 'report' },
      { ...route, match: '/mcp/open', anonymous: true, mode: 'report' },
    ],
  });
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await staff?.[Symbol.asyncDispose]();
  await partners?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
  await jobs?.[Symbol.asyncDispose]();
  await orders?.crash();
});

async function tokenOf({ issuer }: AuthorizationServer, scope: string): Promise<string> {
  const response = await fetch(`${issuer}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa('robot:a-secret-of-robot-that-is-long-enough')}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', resource: base, scope }),
  });
  return ((await response.json()) as { access_token: string }).access_token;
}

const made = new Map<string, Promise<Record<string, string>>>();

/** `staff a b`: a token of that issuer with these scopes. */
function credential(as: string): Promise<Record<string, string>> {
  const known = made.get(as) ?? makeCredential(as);
  made.set(as, known);
  return known;
}

async function makeCredential(as: string): Promise<Record<string, string>> {
  const [kind = '', ...scopes] = as.split(' ');
  if (kind === 'nobody') return {};
  if (kind === 'key') return { 'x-api-key': await gateway.key('data_engineer', { scopes }) };
  return { authorization: `Bearer ${await tokenOf(kind === 'staff' ? staff : partners, scopes.join(' '))}` };
}

const _meta = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientInfo': { name: 'raw', version: '1' },
  'io.modelcontextprotocol/clientCapabilities': {},
};
const UPDATE = { order_id: 1, status: 'open' };
const toolCall = (name: string, args: object) => ({
  ...{ jsonrpc: '2.0', id: 1, method: 'tools/call' },
  params: { name, arguments: args, _meta },
});
const BODIES = {
  read: toolCall('execute_query', { query: 'SELECT 1 AS one' }),
  write: toolCall('update_order_status', UPDATE),
  WRITE: toolCall('UPDATE_order_status', UPDATE),
  reset: toolCall('reset_database', {}),
  list: { jsonrpc: '2.0', id: 1, method: 'tools/list', params: { _meta } },
  batch: [toolCall('execute_query', { query: 'SELECT 1' }), toolCall('update_order_status', UPDATE)],
  silent: { ...toolCall('update_order_status', UPDATE), id: undefined },
};

function send({ on = '/mcp/orders', call: which, server = 'orders' }: Row, headers: Record<string, string>) {
  const body = BODIES[which];
  const params = 'params' in body ? body.params : null;
  const name = params !== null && 'name' in params ? String(params.name) : null;
  if (on === '/tools') {
    const parameters = params !== null && 'arguments' in params ? params.arguments : {};
    return call(`${base}/tools/invoke`, { headers, json: { server_name: server, tool_name: name, parameters } });
  }
  const mcp: Record<string, string> = {
    ...{ accept: 'application/json, text/event-stream', 'mcp-protocol-version': '2026-07-28' },
    ...{ 'mcp-method': 'method' in body ? body.method : 'tools/call', ...(name === null ? {} : { 'mcp-name': name }) },
  };
  return call(`${base}${on}`, { headers: { ...mcp, ...headers }, json: body });
}

const codeOf = ({ body }: Answer): unknown => {
  const { error } = body as { error?: { code?: unknown; data?: { code?: unknown } } };
  return error?.data?.code ?? error?.code;
};

describe('a call', () => {
  test.each(rows)('$name', async (row) => {
    const headers = await credential(row.as);
    const before = upstream.sent().length;
    const answer = await send(row, headers);
    expect(`${answer.status} ${answer.status < 400 ? '' : answer.text}`).toMatch(`${row.status} `);
    const challenge = answer.headers.get('www-authenticate') ?? '';
    if (row.challenge === undefined) expect(challenge).not.toContain('insufficient_scope');
    else {
      expect(challenge).toContain('error="insufficient_scope"');
      expect(challenge).toContain(`scope="${row.challenge}"`);
      const where = row.on ?? '/mcp/orders';
      expect(challenge).toContain(`resource_metadata="${base}/.well-known/oauth-protected-resource${where}"`);
    }
    const code = row.code ?? (row.challenge === undefined ? null : 'INSUFFICIENT_SCOPE');
    if (code !== null) expect(codeOf(answer)).toBe(code);
    if (row.shows !== undefined) expect(answer.text).toContain(row.shows);
    const isThrough = row.status === 200 && row.code === undefined;
    expect(upstream.sent().length > before).toBe(isThrough);
  });

  test('is recorded as refused, with the decision and without the token', async () => {
    const headers = await credential('staff orders:use');
    const answer = await send({ name: '', as: '', call: 'write', status: 403 }, headers);
    const events = await gateway.audited((all) => all.some(({ request_id }) => request_id === answer.requestId));
    const found = events.filter(({ request_id }) => request_id === answer.requestId);
    expect(found).toContainEqual(
      expect.objectContaining({
        ...{ outcome: 'denied', status: 403, code: 'INSUFFICIENT_SCOPE' },
        reasons: [expect.objectContaining({ code: 'INSUFFICIENT_SCOPE' })],
      }),
    );
    expect(answer.headers.get('x-decision-id')).toMatch(/./);
    expect(JSON.stringify(events)).not.toContain(headers.authorization?.slice(7));
  });

  test('on a route whose scopes are lacking is recorded as whose it is, and paid for', async () => {
    const key = await gateway.key('data_engineer', { owner_id: 'scopeless', rate_limit_per_hour: 2 });
    const answers: Answer[] = [];
    for (let i = 0; i < 3; i++)
      answers.push(await send({ name: '', as: '', call: 'read', status: 0 }, { 'x-api-key': key }));
    expect(answers.map(codeOf)).toEqual(['INSUFFICIENT_SCOPE', 'INSUFFICIENT_SCOPE', 'RATE_LIMIT_EXCEEDED']);
    const [first] = answers;
    const events = await gateway.audited((all) => all.some(({ request_id }) => request_id === first?.requestId));
    expect(events.find(({ request_id }) => request_id === first?.requestId)).toMatchObject({
      ...{ event_type: 'request_refused', outcome: 'denied', code: 'INSUFFICIENT_SCOPE' },
      ...{ user_id: 'scopeless', auth_provider: 'keys' },
    });
  });

  test('of the same caller counts by the token of the moment, whatever the policy remembers', async () => {
    const [less, more] = [await credential('staff orders:use'), await credential('staff orders:use orders:write')];
    const statuses: number[] = [];
    for (const headers of [more, less, more, less])
      statuses.push((await send({ name: '', as: '', call: 'write', status: 0 }, headers)).status);
    expect(statuses).toEqual([200, 403, 200, 403]);
  });

  test('in a session of the era before is refused alone: the session goes on', async () => {
    const key = await gateway.key('data_engineer', { scopes: ['orders:use'] });
    await using legacy = await connectLegacy(`${base}/mcp/orders`, key);
    const write = legacy.client.callTool({ name: 'update_order_status', arguments: UPDATE });
    await expect(write).rejects.toMatchObject({ code: 403 });
    const read = await legacy.client.callTool({ name: 'execute_query', arguments: { query: 'SELECT 1 AS one' } });
    expect(JSON.stringify(read)).toContain('one');
  });

  test('that a person would have to approve needs its scopes first: nobody is asked', async () => {
    const before = (await gateway.audit()).length;
    const key = await gateway.key('admin', { tenure_months: 24 });
    const json = { server_name: 'orders', tool_name: 'reset_database', parameters: {} };
    const refused = await call(`${base}/tools/invoke`, { key, json });
    expect(codeOf(refused)).toBe('INSUFFICIENT_SCOPE');
    const covered = await gateway.key('admin', { tenure_months: 24, scopes: ['orders:admin'] });
    const asked = await call(`${base}/tools/invoke`, { key: covered, json });
    expect(codeOf(asked)).toBe('APPROVAL_REQUIRED');
    const events = await gateway.audited((all) => all.some(({ request_id }) => request_id === asked.requestId));
    const requests = events.slice(before).filter(({ event_type }) => String(event_type).startsWith('approval_'));
    expect(requests.every(({ request_id }) => request_id !== refused.requestId)).toBe(true);
  });
});

test.each([
  ['key orders:use', false, 'INSUFFICIENT_SCOPE'],
  ['key orders:use orders:write', true, null],
])('who only asks the policy is told the same: %s', async (as, allow, code) => {
  const json = { server_name: 'orders', tool_name: 'update_order_status', parameters: UPDATE };
  const question = { ...json, action: 'gateway:tool:invoke' };
  const headers = await credential(as);
  const { body } = await call(`${base}/api/v1/gateway/authorize`, { headers, json: question });
  expect(body).toMatchObject({ allow, code });
});

test('what goes on of a call in a task needs its scopes as well, whichever token of its owner is shown', async () => {
  const key = (scopes: string[]) => gateway.key('data_engineer', { owner_id: 'worker', scopes });
  const [more, less] = [await key(['orders:write']), await key([])];
  const ask = async (by: string, method: string, name: string) => {
    const params = { [method === 'tools/call' ? 'name' : 'taskId']: name, _meta };
    const headers = {
      ...{ accept: 'application/json, text/event-stream', 'mcp-protocol-version': '2026-07-28' },
      ...{ 'mcp-method': method, 'mcp-name': name },
    };
    const json = { jsonrpc: '2.0', id: 1, method, params };
    const answer = await call(`${base}/mcp/jobs`, { key: by, headers, json });
    return answer.status === 200 ? 200 : codeOf(answer);
  };
  expect(await ask(less, 'tools/call', 'purge')).toBe('INSUFFICIENT_SCOPE');
  expect(await ask(more, 'tools/call', 'purge')).toBe(200);
  expect(await ask(less, 'tools/call', 'count')).toBe(200);
  for (const method of ['tasks/get', 'tasks/update', 'tasks/cancel']) {
    expect(await ask(more, method, 't-purge')).toBe(200);
    expect(await ask(less, method, 't-purge')).toBe('INSUFFICIENT_SCOPE');
    expect(await ask(less, method, 't-count')).toBe(200);
    expect(await ask(less, method, 't-nobody-saw')).toBe('INSUFFICIENT_SCOPE');
  }
});

const BOTH = ['orders:use', 'orders:write'];

test.each([
  ['/tools', ['orders:write'], ['orders:write'], 200],
  ['/tools', ['orders:write'], [], 403],
  ['/tools', [], ['orders:write'], 403],
  ['/tools', ['orders:*'], ['orders:write'], 403],
  ['/tools', ['orders:*'], ['orders:write'], 403, 'orders:write'],
  ['/tools', BOTH, ['orders:write'], 200, 'orders:write'],
  ['/mcp/orders', BOTH, BOTH, 200],
  ['/mcp/orders', ['orders:write'], BOTH, 403],
  ['/mcp/orders', BOTH, ['orders:write'], 403],
  ['/mcp/orders', BOTH, ['orders:use'], 403],
])('on %s a delegated call needs the scopes of both parties: %j through %j is %i', async (...row) => {
  const [on, from, to, status, scope] = row as [string, string[], string[], number, string?];
  const GRANT = 'urn:ietf:params:oauth:grant-type:token-exchange';
  const lender = await gateway.key('admin', { tenure_months: 24, owner_id: 'lender', scopes: from });
  const id = `borrower-${crypto.randomUUID()}`;
  const borrower = await gateway.key('data_engineer', { owner_id: id, scopes: to });
  const exchanged = await call(`${base}/api/v1/token/exchange`, {
    ...{ method: 'POST', key: lender, headers: { 'content-type': 'application/x-www-form-urlencoded' } },
    body: new URLSearchParams({ grant_type: GRANT, requested_actor: id, ...(scope && { scope }) }).toString(),
  });
  const { access_token } = exchanged.body as { access_token: string };
  const headers = { 'x-api-key': borrower, 'x-delegation-token': access_token };
  const answer = await send({ name: '', as: '', on, call: 'write', status }, headers);
  expect(`${answer.status} ${answer.text}`).toMatch(`${status} `);
  if (status === 403) expect(answer.text).toContain('each party of the delegation');
  expect(answer.headers.get('www-authenticate')).toBeNull();
});

test('what can be asked for is published: of a route, of the tools of all servers, and of the gateway', async () => {
  const supported = async (path: string) => {
    const response = await fetch(`${base}/.well-known/oauth-protected-resource${path}`);
    return ((await response.json()) as { scopes_supported?: string[] }).scopes_supported;
  };
  expect(await supported('/mcp/orders')).toEqual(['orders:use', 'orders:write', 'orders:admin']);
  expect(await supported('/mcp/watched')).toEqual(['orders:write', 'orders:admin']);
  expect(await supported('/tools')).toEqual(['orders:write', 'orders:admin']);
  expect(await supported('')).toEqual(['orders:use', 'orders:write', 'orders:admin']);
});
