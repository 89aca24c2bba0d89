/** What upstreams are told of callers, through the real listeners: in headers, and in a token signed for each of them. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createRemoteJWKSet, decodeJwt, decodeProtectedHeader, type JWTPayload, jwtVerify } from 'jose';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { parseKey } from '../../src/identity/key-format.ts';
import type { TestGateway } from '../helpers/gateway.ts';
import { ADMIN_TOKEN, startGateway } from '../helpers/gateway.ts';
import { call, invoke } from '../helpers/gateway-calls.ts';
import { connectLegacy, connectModern } from '../helpers/gateway-mcp.ts';
import type { Example } from '../helpers/processes.ts';
import { cleanEnv, follow, freePorts, ROOT, startExample, temporaryDirectory } from '../helpers/processes.ts';
import type { Recorder } from '../helpers/upstreams.ts';
import { record, startTasks } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

const MODEL_KEY = 'model-credential-7Tz2wQp9LsXk4VbN';
let examples: Example[];
let tasks: Awaited<ReturnType<typeof startTasks>>;
let orders: Recorder;
let model: Recorder;
let api: Recorder;
let gateway: TestGateway;
let base: string;
let developer: string;
let recipePort: number;
const folder = temporaryDirectory();
const sessions = join(folder.path, 'sessions.json');

beforeAll(async () => {
  examples = await Promise.all([startExample('orders-server'), startExample('model-server', { MODEL_KEY })]);
  tasks = await startTasks();
  orders = await record(examples[0]?.url ?? '');
  model = await record(examples[1]?.url ?? '');
  api = await record(tasks.url);
  const [port = 0, free = 0] = await freePorts(2);
  recipePort = free;
  base = `http://127.0.0.1:${port}`;
  const upstream = { protocol: 'http' as const, url: api.url, rewrite: '/tasks', identity: ['keys'] };
  gateway = await startGateway({
    public_url: base,
    listen: { data: `127.0.0.1:${port}`, admin: { address: '127.0.0.1:0', token: ADMIN_TOKEN } },
    identity: {
      keys: { kind: 'api-key' },
      // Trusts the right keys, issuer and audience: only the type of token is wrong.
      sessions: { kind: 'custom', module: join(ROOT, 'examples/session-file-auth.ts'), options: { file: sessions } },
      own: { kind: 'jwt', issuer: base, audience: 'orders', jwks: `${base}/.well-known/jwks.json` },
    },
    servers: {
      orders: {
        type: 'sql',
        dialect: 'sqlite',
        url: orders.url,
        environment: 'staging',
        identity_token: { audience: 'orders' },
      },
    },
    models: { small: { url: model.url, credential: MODEL_KEY, identity_token: {} } },
    routes: [
      { match: '/mcp/orders', protocol: 'mcp', server: 'orders', identity: ['keys'] },
      { match: '/v1', protocol: 'llm', model: 'small', identity: ['keys'] },
      { ...upstream, match: '/api', identity_token: { header: 'Authorization', audience: 'tasks' }, user_header: true },
      { ...upstream, match: '/own', identity: ['own'] },
      {
        ...{ match: '/recipe', protocol: 'http', url: `http://127.0.0.1:${recipePort}`, identity: ['keys'] },
        identity_token: { audience: 'recipe' },
      },
      {
        ...{ ...upstream, match: '/both', identity: ['keys', 'own', 'sessions'], tenant_header: true },
        identity_token: { header: 'X-Both-Caller', audience: 'both' },
      },
      {
        ...upstream,
        match: '/open',
        anonymous: true,
        identity_token: { header: 'X-Acme-Caller', claims: ['request_id'] },
      },
    ],
  });
  developer = await gateway.key('developer', { permissions: ['tasks.read'] });
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  for (const recorder of [orders, model, api]) await recorder?.[Symbol.asyncDispose]();
  await tasks?.[Symbol.asyncDispose]();
  await Promise.all((examples ?? []).map((example) => example.crash()));
  folder[Symbol.dispose]();
});

/** As an upstream would. */
async function checked(token: string, audience: string): Promise<JWTPayload> {
  const keys = createRemoteJWKSet(new URL(`${base}/.well-known/jwks.json`));
  const { payload } = await jwtVerify(token, keys, { issuer: base, audience, typ: 'portcullis-identity+jwt' });
  return payload;
}

const HEADER = 'x-portcullis-identity';
const bearers = () => api.header('authorization').map((value) => value.replace(/^Bearer /, ''));

describe('each way to an upstream carries the token for it', () => {
  test('MCP of either generation, with every message', async () => {
    verifies('VF-21');
    {
      await using legacy = await connectLegacy(`${gateway.url}/mcp/orders`, developer);
      await legacy.client.listTools();
    }
    await using modern = await connectModern(`${gateway.url}/mcp/orders`, developer);
    await modern.client.callTool({ name: 'execute_query', arguments: { query: 'SELECT id FROM orders LIMIT 1' } });
    const requests = orders.header('x-request-id').length;
    expect(requests).toBeGreaterThan(3);
    expect(orders.header(HEADER)).toHaveLength(requests);
    for (const token of new Set(orders.header(HEADER))) {
      expect(await checked(token, 'orders')).toMatchObject({ sub: 'user-developer', roles: ['developer'] });
    }
  });

  test('calls and lists of the tools API', async () => {
    const before = orders.header(HEADER).length;
    expect((await invoke(gateway.url, developer, 'SELECT id FROM orders LIMIT 1')).status).toBe(200);
    expect((await call(`${gateway.url}/tools`, { key: developer })).status).toBe(200);
    const tokens = orders.header(HEADER).slice(before);
    expect(tokens.length).toBeGreaterThanOrEqual(2);
    for (const token of tokens) expect(await checked(token, 'orders')).toMatchObject({ tenant: 'default' });
  });

  test('models, beside the credential of the gateway', async () => {
    const openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: developer, maxRetries: 0 });
    await openai.chat.completions.create({ model: 'small', messages: [{ role: 'user', content: 'good evening' }] });
    expect(model.header('authorization')).toEqual([`Bearer ${MODEL_KEY}`]);
    const [token = ''] = model.header(HEADER);
    expect(await checked(token, model.url)).toMatchObject({ sub: 'user-developer' });
  });

  test('plain HTTP and the upgrade to a WebSocket', async () => {
    expect((await call(`${gateway.url}/api`, { key: developer })).status).toBe(200);
    const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}/api/live`, {
      headers: { 'x-api-key': developer, authorization: `ApiKey ${developer}` },
    });
    await once(socket, 'message');
    socket.terminate();
    expect(bearers()).toHaveLength(2);
    for (const token of bearers()) expect(await checked(token, 'tasks')).toMatchObject({ sub: 'user-developer' });
  });

  test('delegated calls, with who acts', async () => {
    const boss = await gateway.key('admin', { tenure_months: 24 });
    await gateway.key('developer', { owner_id: 'agent-7', name: 'agent' });
    const agent = await gateway.key('developer', { owner_id: 'agent-7', tenure_months: 6 });
    const form = { grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange', requested_actor: 'agent-7' };
    const lent = await call(`${gateway.url}/api/v1/token/exchange`, {
      method: 'POST',
      key: boss,
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams(form).toString(),
    });
    const { access_token = '' } = lent.body as { access_token?: string };
    const headers = { 'x-delegation-token': access_token };
    expect((await call(`${gateway.url}/api`, { key: agent, headers })).status).toBe(200);
    const token = bearers().find((text) => decodeJwt(text).sub === 'user-admin') ?? '';
    expect(await checked(token, 'tasks')).toMatchObject({ act: { sub: 'agent-7', principal_type: 'service' } });
  });
});

describe('nobody else speaks in its place', () => {
  const forged = { 'x-acme-caller': 'forged', 'x-portcullis-identity': 'forged', 'X-ACME-CALLER': 'forged' };

  test.each(['/open', '/api', '/both'])('a client that fills the headers itself is not heard on %s', async (path) => {
    verifies('VF-21');
    const answer = await call(`${gateway.url}${path}`, { key: developer, headers: forged });
    expect(answer.status).toBe(200);
    expect(api.sent()).not.toContain('forged');
  });

  test('a caller nobody knows is sent on without one', async () => {
    const before = api.header('x-acme-caller').length;
    expect((await call(`${gateway.url}/open`, { headers: forged })).status).toBe(200);
    expect(api.header('x-acme-caller')).toHaveLength(before);
    expect(api.sent()).not.toContain('forged');
  });

  test('each request has a token of its own where its id is in it', async () => {
    await call(`${gateway.url}/open`, { key: developer });
    const own = api.header('x-acme-caller').at(-1) ?? '';
    expect(decodeJwt(own)).toMatchObject({ request_id: expect.stringMatching(/^req_/), aud: api.url });
  });
});

describe('a token that was sent upstream', () => {
  /** Another one than that of requests: what an upstream could come back with. */
  const captured = async () => {
    await invoke(gateway.url, developer, 'SELECT id FROM orders LIMIT 1');
    return orders.header(HEADER).at(-1) ?? '';
  };

  test('opens nothing at the gateway, however it is shown', async () => {
    verifies('VF-21');
    const token = await captured();
    expect(decodeProtectedHeader(token)).toMatchObject({ typ: 'portcullis-identity+jwt', alg: 'EdDSA' });
    const ways: Record<string, string>[] = [
      { authorization: `Bearer ${token}` },
      { authorization: `ApiKey ${token}` },
      { authorization: `Basic ${btoa(`user-developer:${token}`)}` },
      { 'x-api-key': token },
      { 'x-portcullis-identity': token },
      { 'x-access-token': token },
      { cookie: `portcullis_session=${token}; __Host-portcullis=${token}` },
      { 'x-delegation-token': token },
    ];
    for (const headers of ways) {
      for (const path of ['/own', '/both', '/api', '/mcp/orders', '/v1/models', '/tools', '/approvals', '/auth/me']) {
        const { status } = await call(`${gateway.url}${path}`, { headers });
        expect(status, `${path} ${Object.keys(headers)}`).toBe(401);
      }
    }
    const beside = await call(`${gateway.url}/api`, { key: developer, headers: { 'x-delegation-token': token } });
    expect(beside.status).toBe(401);
  });

  test('is not reflected into logs, audit or metrics', async () => {
    const token = await captured();
    await call(`${gateway.url}/own`, { headers: { authorization: `Bearer ${token}` } });
    await gateway.audited((all) => all.some((event) => 'path' in event && event.path === '/own'));
    const places = [
      gateway.logs.join('\n'),
      readFileSync(join(gateway.home, 'audit.jsonl'), 'utf8'),
      await gateway.decisions(),
      (await call(`${gateway.admin}/metrics`)).text,
    ];
    const signature = token.slice(token.lastIndexOf('.') + 1);
    for (const place of places) expect(place).not.toContain(signature);
  });
});

describe('a caller who may not any more', () => {
  const administration = { authorization: `Bearer ${ADMIN_TOKEN}` };

  test('with other roles gets a token with these, at once', async () => {
    verifies('VF-21');
    const id = createHash('sha256').update('sess_changing').digest('hex');
    const rolesNow = async (role: string) => {
      writeFileSync(sessions, JSON.stringify({ [id]: { user: 'carol', organization: 'acme', role } }));
      const headers = { authorization: 'Bearer sess_changing' };
      expect((await call(`${gateway.url}/both`, { headers })).status).toBe(200);
      const tokens = api.header('x-both-caller').map((text) => decodeJwt(text));
      return tokens.filter(({ sub }) => sub === 'carol').map(({ roles }) => roles);
    };
    expect(await rolesNow('service')).toEqual([['developer']]);
    expect(await rolesNow('nothing')).toEqual([['developer'], ['user']]);
    expect(await rolesNow('service')).toEqual([['developer'], ['user'], ['developer']]);
  });

  test('gets no token once the key is withdrawn or the caller switched off', async () => {
    const own = { owner_id: 'user-leaving', permissions: ['tasks.read'] };
    const key = await gateway.key('developer', own);
    expect((await call(`${gateway.url}/api`, { key })).status).toBe(200);
    const gone = await gateway.key('developer', own);
    expect((await call(`${gateway.url}/api`, { key: gone })).status).toBe(200);
    const count = bearers().length;
    const id = parseKey(gone)?.id ?? '';
    const withdrawn = await call(`${gateway.admin}/keys/${id}`, { method: 'DELETE', headers: administration });
    expect(withdrawn.status, withdrawn.text).toBeLessThan(300);
    expect((await call(`${gateway.url}/api`, { key: gone })).status).toBe(401);
    const off = { kind: 'principal', name: 'user-leaving', reason: 'left' };
    const switched = await call(`${gateway.admin}/switches`, { headers: administration, json: off });
    expect(switched.status, switched.text).toBeLessThan(300);
    expect((await call(`${gateway.url}/api`, { key })).status).toBe(403);
    expect(bearers()).toHaveLength(count);
  });
});

describe('the recipe for upstreams', () => {
  const recipe = join(ROOT, 'examples/upstream-identity.ts');

  test('is the one in the documentation', () => {
    const page = readFileSync(join(ROOT, 'docs/identity.md'), 'utf8');
    const [, shown = ''] = /^ {2}```ts\n(.*?)^ {2}```$/ms.exec(page) ?? [];
    expect(shown.length).toBeGreaterThan(300);
    expect(readFileSync(recipe, 'utf8')).toContain(shown.replaceAll(/^ {2}/gm, ''));
  });

  test('knows the caller and refuses everybody else', async () => {
    verifies('VF-21');
    const other = bearers()[0] ?? '';
    const env = cleanEnv({ GATEWAY: base, AUDIENCE: 'recipe', PORT: String(recipePort) });
    await using upstream = follow(spawn(process.execPath, [recipe], { env, stdio: ['ignore', 'pipe', 'pipe'] }));
    await upstream.printed(/listening/);
    const answer = await call(`${gateway.url}/recipe`, { key: developer });
    expect(answer.body).toEqual({ sub: 'user-developer', tenant: 'default', roles: ['developer'] });
    const straight = `http://127.0.0.1:${recipePort}/`;
    for (const token of ['', 'forged', other, orders.header(HEADER)[0] ?? '']) {
      const { status } = await call(straight, { headers: token === '' ? {} : { [HEADER]: token } });
      expect(status).toBe(401);
    }
    expect((await call(`${gateway.url}/recipe`)).status).toBe(401);
  });
});
