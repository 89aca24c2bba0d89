/** One acts for another through the real listeners: token exchange, MCP with the public client, the upstream, the audit. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TestGateway } from '../helpers/gateway.ts';
import { ADMIN_TOKEN, startGateway } from '../helpers/gateway.ts';
import { type Answer, call } from '../helpers/gateway-calls.ts';
import type { Example } from '../helpers/processes.ts';
import { cleanEnv, MAIN, ROOT, runToEnd, startExample } from '../helpers/processes.ts';
import type { Recorder } from '../helpers/upstreams.ts';
import { record } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

const GRANT = 'urn:ietf:params:oauth:grant-type:token-exchange';
const JWT = 'urn:ietf:params:oauth:token-type:jwt';

let orders: Example;
let upstream: Recorder;
let gateway: TestGateway;
const keys: Record<string, string> = {};

beforeAll(async () => {
  orders = await startExample('orders-server');
  upstream = await record(orders.url);
  gateway = await startGateway({
    servers: { orders: { type: 'sql', dialect: 'sqlite', url: upstream.url, environment: 'staging' } },
    routes: [{ match: '/mcp/orders', protocol: 'mcp', server: 'orders', identity: ['keys'] }],
  });
  const make = async (role: string, facts = {}) => {
    keys[role] = await gateway.key(role, facts);
  };
  await make('admin', { tenure_months: 24 });
  await make('developer', { tenure_months: 6 });
  await make('data_engineer', { tenure_months: 6 });
  await make('analyst', {});
  await make('guest', {});
  await gateway.key('rival', { tenant_id: 'rival', owner_id: 'user-rival', roles: ['analyst'] });
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
  await orders?.crash();
});

interface Grant {
  readonly access_token: string;
  readonly delegation_id: string;
  readonly expires_in: number;
}

function form(path: string, key: string, fields: Record<string, string>, token?: string): Promise<Answer> {
  const headers = {
    'content-type': 'application/x-www-form-urlencoded',
    ...(token === undefined ? {} : { 'x-delegation-token': token }),
    ...(key === '' ? {} : { 'x-api-key': key }),
  };
  return call(`${gateway.url}${path}`, { method: 'POST', headers, body: new URLSearchParams(fields).toString() });
}

const exchange = (from: string, fields: Record<string, string>, token?: string): Promise<Answer> =>
  form('/api/v1/token/exchange', keys[from] ?? '', fields, token);

async function delegate(from: string, to: string, fields: Record<string, string> = {}, token?: string): Promise<Grant> {
  const answer = await exchange(from, { grant_type: GRANT, requested_actor: `user-${to}`, ...fields }, token);
  expect(answer.body).toMatchObject({ issued_token_type: JWT, token_type: 'N_A' });
  return answer.body as Grant;
}

function query(as: string, sql: string, token?: string): Promise<Answer> {
  const headers: Record<string, string> = token === undefined ? {} : { 'x-delegation-token': token };
  const json = { server_name: 'orders', tool_name: 'execute_query', parameters: { query: sql } };
  return call(`${gateway.url}/tools/invoke`, { key: keys[as] ?? '', json, headers });
}

const READ = 'SELECT id FROM orders LIMIT 1';
const COUNT = 'SELECT region, COUNT(*) FROM orders GROUP BY region';
const WRITE = "UPDATE orders SET status = 'open' WHERE id = 1";

describe('a delegated call', () => {
  test.each([
    // What each may alone: admin all, developer reads and counts, analyst counts, data engineer all three.
    ['admin', 'developer', READ, 200],
    ['admin', 'developer', COUNT, 200],
    ['admin', 'developer', WRITE, 403],
    ['admin', 'analyst', READ, 403],
    ['admin', 'analyst', COUNT, 200],
    ['developer', 'data_engineer', READ, 200],
    ['developer', 'data_engineer', WRITE, 403],
  ])('of %s through %s: "%s" is answered with %i', async (from, to, sql, status) => {
    verifies('SF-42');
    const { access_token } = await delegate(from, to);
    expect((await query(to, sql, access_token)).status).toBe(status);
  });

  test('reaches the upstream in the name of the delegator, says who acts, and leaves the token behind', async () => {
    verifies('SF-42', 'S-49');
    const { access_token } = await delegate('admin', 'data_engineer');
    expect((await query('data_engineer', READ, access_token)).status).toBe(200);
    expect(upstream.header('x-auth-user')).toContain('user-admin');
    expect(upstream.header('x-auth-actor')).toContain('user-data_engineer');
    expect(upstream.sent().toLowerCase()).not.toContain('x-delegation-token');
    expect(upstream.sent()).not.toContain(access_token);
  });

  test('goes through MCP with the public client as well, list and calls', async () => {
    verifies('SF-42');
    const { access_token } = await delegate('admin', 'analyst');
    const client = new Client({ name: 'scenario', version: '1.0.0' });
    const headers = { 'x-api-key': keys.analyst ?? '', 'x-delegation-token': access_token };
    const transport = new StreamableHTTPClientTransport(new URL(`${gateway.url}/mcp/orders`), {
      requestInit: { headers },
    });
    await client.connect(transport as Transport);
    const listed = await client.listTools();
    expect(listed.tools.map(({ name }) => name)).toContain('execute_query');
    expect(listed.tools.map(({ name }) => name)).not.toContain('reset_database');
    const counted = await client.callTool({ name: 'execute_query', arguments: { query: COUNT } });
    expect(counted.isError ?? false).toBe(false);
    await expect(client.callTool({ name: 'execute_query', arguments: { query: READ } })).rejects.toMatchObject({
      code: -31403,
    });
    await client.close();
  });

  test('is on record with everyone in the chain, when it is lent and when it is used', async () => {
    verifies('S-49', 'S-90');
    const first = await delegate('admin', 'developer');
    const second = await delegate('developer', 'analyst', {}, first.access_token);
    const answer = await query('analyst', COUNT, second.access_token);
    expect(answer.status).toBe(200);
    const events = await gateway.audited((all) =>
      all.some((event) => event.event_type === 'delegation_request' && event.request_id === answer.requestId),
    );
    const lent = events.filter((event) => event.event_type === 'delegation_request');
    expect(lent.map(({ delegation }) => delegation)).toContainEqual({
      phase: 'issue',
      delegation_id: second.delegation_id,
      delegator_id: 'user-admin',
      actors: ['user-developer'],
      target_id: 'user-analyst',
    });
    expect(lent.find(({ request_id }) => request_id === answer.requestId)?.delegation).toEqual({
      phase: 'use',
      delegation_id: second.delegation_id,
      delegator_id: 'user-admin',
      actors: ['user-analyst', 'user-developer'],
      target_id: null,
    });
    expect(
      events.find((event) => event.event_type === 'tool_invocation' && event.request_id === answer.requestId),
    ).toMatchObject({ user_id: 'user-admin', actor_id: 'user-analyst' });
    expect(JSON.stringify(events)).not.toContain(second.access_token);
  });

  test('cannot make what would outlast it', async () => {
    const { access_token } = await delegate('admin', 'developer');
    const headers = { 'x-delegation-token': access_token };
    const answer = await call(`${gateway.url}/approvals/apr_1/approve`, {
      key: keys.developer ?? '',
      json: {},
      headers,
    });
    expect(answer.status).toBeGreaterThanOrEqual(400);
  });
});

describe('a delegation token', () => {
  test('is worth nothing to another actor, alone, as a bearer token, or when it was changed', async () => {
    verifies('S-49', 'SF-35');
    const { access_token } = await delegate('admin', 'developer');
    const url = `${gateway.url}/tools/invoke`;
    const json = { server_name: 'orders', tool_name: 'execute_query', parameters: { query: COUNT } };
    const stolen = await query('analyst', COUNT, access_token);
    expect([stolen.status, stolen.body]).toMatchObject([401, { error: { code: 'INVALID_CREDENTIALS' } }]);
    expect((await call(url, { json, headers: { 'x-delegation-token': access_token } })).status).toBe(401);
    expect((await call(url, { json, headers: { authorization: `Bearer ${access_token}` } })).status).toBe(401);
    expect((await query('developer', COUNT, `${access_token.slice(0, -2)}AA`)).status).toBe(401);
    expect((await query('developer', COUNT, '')).status).toBe(401);
    expect((await query('developer', COUNT, access_token)).status).toBe(200);
  });

  test('can be taken back by who lent, and by nobody else', async () => {
    const { access_token: token } = await delegate('admin', 'developer');
    expect((await query('developer', COUNT, token)).status).toBe(200);
    expect((await form('/api/v1/token/revoke', keys.developer ?? '', { token })).status).toBe(403);
    expect((await query('developer', COUNT, token)).status).toBe(200);
    expect((await form('/api/v1/token/revoke', keys.admin ?? '', { token })).status).toBe(200);
    expect((await query('developer', COUNT, token)).status).toBe(401);
  });

  test('lasts no longer than what it was made from, and names its target by its own credential too', async () => {
    const parent = await delegate('admin', 'developer', { expires_in: '60' });
    expect(parent.expires_in).toBe(60);
    const answer = await exchange(
      'developer',
      { grant_type: GRANT, actor_token: keys.analyst ?? '', actor_token_type: JWT, expires_in: '3600' },
      parent.access_token,
    );
    expect((answer.body as Grant).expires_in).toBeLessThanOrEqual(60);
    expect((await query('analyst', COUNT, (answer.body as Grant).access_token)).status).toBe(200);
  });

  test('ends with the key of the delegator', async () => {
    const lender = await gateway.key('lender', { owner_id: 'user-lender', roles: ['developer'], tenure_months: 6 });
    keys.lender = lender;
    const { access_token } = await delegate('lender', 'analyst');
    expect((await query('analyst', COUNT, access_token)).status).toBe(200);
    const revoked = await call(`${gateway.admin}/keys/${lender.split('_')[2]}`, {
      method: 'DELETE',
      headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
    });
    expect(revoked.status).toBeLessThan(300);
    expect((await query('analyst', COUNT, access_token)).status).toBe(401);
  });
});

describe('portcullis delegate', () => {
  const run = (args: readonly string[]) =>
    runToEnd(process.execPath, [MAIN, 'delegate', '--url', gateway.url, ...args], {
      cwd: gateway.home,
      env: cleanEnv({ PORTCULLIS_API_KEY: keys.admin ?? '' }),
    });

  test('prints a token that works, and takes it back', { timeout: 30_000 }, async () => {
    const lent = await run(['--to', 'user-developer', '--role', 'admin', '--expires-in', '60']);
    expect({ code: lent.code, err: lent.stderr }).toMatchObject({
      code: 0,
      err: expect.stringContaining('60 seconds'),
    });
    const token = lent.stdout.trim();
    expect((await query('developer', COUNT, token)).status).toBe(200);
    const taken = await run(['--revoke', token]);
    expect(taken).toMatchObject({ code: 0, stdout: '' });
    expect(taken.stderr).toMatch(/^taken back: dlg_\w+, with which user-developer acted for user-admin, and all/);
    expect((await query('developer', COUNT, token)).status).toBe(401);
    const again = await run(['--revoke', token, '--json']);
    expect(JSON.parse(again.stdout)).toMatchObject({ revoked: true, actor_id: 'user-developer' });
    const unknown = await run(['--revoke', `${token}x`]);
    expect(unknown).toMatchObject({ code: 1, stdout: '' });
    expect(unknown.stderr).toContain('nothing was taken back');
  });

  test('works as docs/delegation.md shows it', { timeout: 30_000 }, async () => {
    const text = readFileSync(join(ROOT, 'docs/delegation.md'), 'utf8');
    const [, block = ''] = /^```sh\n(.*?)^```$/ms.exec(text) ?? [];
    const shim = `portcullis() { "${process.execPath}" "${MAIN}" "$@"; }`;
    const env = cleanEnv({
      PORTCULLIS_API_KEY: keys.admin ?? '',
      AGENT_KEY: keys.developer ?? '',
      PORTCULLIS_URL: gateway.url,
    });
    const done = await runToEnd('bash', ['-euc', `${shim}\n${block}`], { cwd: gateway.home, env });
    expect(done.code, done.stderr).toBe(0);
    expect(JSON.parse(done.stdout)).toMatchObject({ success: true });
  });

  test('says why not', { timeout: 30_000 }, async () => {
    const refused = await run(['--to', 'nobody-there']);
    expect(refused).toMatchObject({ code: 1, stdout: '' });
    expect(refused.stderr).toContain('INVALID_REQUEST');
    expect(refused.stderr).toContain('owner_id');
    expect((await run(['--to', 'user-developer', '--role', 'king'])).stderr).toContain('than is held: role king');
    expect((await run(['--to', 'user-admin'])).stderr).toContain('Nobody lends to themselves');
    expect((await run([])).code).toBe(2);
  });
});

interface ExchangeCase {
  readonly name: string;
  readonly fields: Record<string, string>;
  readonly key: string;
  readonly status: number;
  readonly code?: string;
}
const corpus = JSON.parse(
  readFileSync(new URL('../corpus/delegation/exchange.json', import.meta.url), 'utf8'),
) as readonly ExchangeCase[];

test('while the store cannot be read, the answer is to come again, not a fault', async () => {
  const { access_token } = await delegate('admin', 'developer');
  const database = new DatabaseSync(join(gateway.home, 'portcullis.db'));
  // The credential that asks is remembered; only who is asked about has to be looked up.
  database.exec('ALTER TABLE api_keys RENAME TO api_keys_away; ALTER TABLE shared_values RENAME TO shared_values_away');
  const answers = [
    await exchange('admin', { grant_type: GRANT, requested_actor: 'user-analyst' }),
    await form('/api/v1/token/revoke', keys.admin ?? '', { token: access_token }),
  ];
  database.exec('ALTER TABLE api_keys_away RENAME TO api_keys; ALTER TABLE shared_values_away RENAME TO shared_values');
  database.close();
  for (const { status, headers, body } of answers) {
    expect(body).toMatchObject({ error: { code: 'STORE_UNAVAILABLE' } });
    expect([status, headers.get('retry-after')]).toEqual([503, '1']);
  }
  expect((await delegate('admin', 'analyst')).expires_in).toBe(300);
});

test('who is not trusted enough is told both levels and where they are set', async () => {
  const { status, text } = await exchange('analyst', { grant_type: GRANT, requested_actor: 'user-developer' });
  expect(status).toBe(403);
  for (const part of ['trusted as \\"low\\"', 'to act as \\"high\\"', 'data.config.trust.roles']) {
    expect(text).toContain(part);
  }
});

describe('a request for a delegation', () => {
  test.each(corpus)('with $name is answered with $status', async ({ fields, key, status, code }) => {
    verifies('SF-35');
    const answer = await exchange(key, fields);
    expect({ status: answer.status, code: (answer.body as { error?: { code?: string } }).error?.code }).toEqual({
      status,
      code,
    });
  });
});
