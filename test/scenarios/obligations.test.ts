/** What a policy demands besides letting a call through is done to the bytes that travel, or the call is refused. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TestGateway } from '../helpers/gateway.ts';
import { ADMIN_TOKEN, POLICIES, startGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import { connectLegacy, connectModern, textOf } from '../helpers/gateway-mcp.ts';
import { KEYS_AND_PEOPLE, personToken } from '../helpers/people.ts';
import type { PolicyDirectory } from '../helpers/policy-dir.ts';
import { documentedRego, NO_COMPILER, policyDirectory } from '../helpers/policy-dir.ts';
import type { Service } from '../helpers/upstreams.ts';
import { startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

if (NO_COMPILER !== null) console.warn(`obligation tests are skipped: ${NO_COMPILER}`);

/** Obligations that nobody should write, by tool. */
const ODD = `package portcullis.custom.odd

obligations contains data.odd[input.tool_name]

obligations contains data.odd_paths[input.gateway_metadata.endpoint]

obligations contains {"type": "redact_result", "names": ["ssn"]} if startswith(input.gateway_metadata.endpoint, "/api/people")

obligations contains {"type": "redact_result", "names": ["ssn"]} if input.llm.model == "careful"
`;
const ODD_DATA = {
  odd: {
    unknown: { type: 'make_coffee' },
    malformed: { type: 'clamp', name: 'limit' },
    'bad-header': { type: 'set_header', name: 'x-auth-user', value: 'root' },
    vault: { type: 'inject_credential', auth_type: 'oauth2', key: 'k' },
    'asks-mfa': { type: 'require_mfa' },
    'asks-human': { type: 'require_approval' },
    'asks-soon': { type: 'require_approval', reason: 'Money moves', ttl_seconds: 60 },
  },
  odd_paths: { '/api/form': { type: 'redact_parameters', names: ['password'] } },
};

interface Seen {
  readonly path: string;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: Record<string, unknown> & { readonly params?: { readonly arguments?: unknown } };
}

/** Big enough that JavaScript would round it. */
const ACCOUNT = '12345678901234567890';
const CUSTOMER = `{"id":1,"ssn":"078-05-1120","account":${ACCOUNT},"family":[{"SSN":"219-09-9999","name":"Bo"}]}`;

const TOOLS = ['get_customer', 'search', 'send_mail', 'plain', ...Object.keys(ODD_DATA.odd)];
const seen: Seen[] = [];
let upstream: Service;
let policy: PolicyDirectory;
let gateway: TestGateway;
let key = '';

function answerTool(name: unknown): string {
  const content = `[{"type":"text","text":${JSON.stringify(name === 'get_customer' ? CUSTOMER : '{"ok":true}')}}]`;
  return `{"content":${content},"structuredContent":${CUSTOMER}}`;
}

/** A stateless MCP server of both generations, a model and a plain service behind one address. */
async function startUpstream(): Promise<Service> {
  return startService(async (request, response) => {
    const raw = await text(request);
    const body = (raw === '' ? {} : JSON.parse(raw)) as Seen['body'] & { id?: number; method?: string };
    seen.push({ path: request.url ?? '', headers: request.headers, body });
    const send = (type: string, reply: string, status = 200) => {
      response.writeHead(status, { 'content-type': type });
      response.end(reply);
    };
    if (request.url === '/people') return send('application/json', `{"people":[${CUSTOMER}]}`);
    if (request.url === '/people/page') return send('text/html', '<p>078-05-1120</p>');
    if (request.url?.startsWith('/v1')) {
      return send('application/json', '{"object":"chat.completion","choices":[{"message":{"content":"hi"}}]}');
    }
    if (request.method !== 'POST') return send('text/plain', '', 405);
    if (body.id === undefined) {
      response.writeHead(202);
      response.end();
      return;
    }
    const rpc = (result: string) => `{"jsonrpc":"2.0","id":${JSON.stringify(body.id)},"result":${result}}`;
    const params = body.params as { name?: string; protocolVersion?: string } | undefined;
    switch (body.method) {
      case 'server/discover':
        return send('application/json', rpc('{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}'));
      case 'initialize':
        return send(
          'application/json',
          rpc(
            `{"protocolVersion":"${params?.protocolVersion}","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"}}`,
          ),
        );
      case 'tools/list': {
        const schema = {
          type: 'object',
          properties: { limit: { type: 'integer', 'x-mcp-header': 'Limit' }, debug: { type: 'string' } },
        };
        const list = TOOLS.map((name) => ({ name, inputSchema: name === 'search' ? schema : { type: 'object' } }));
        return send(
          'application/json',
          rpc(JSON.stringify({ resultType: 'complete', ttlMs: 0, cacheScope: 'private', tools: list })),
        );
      }
      default: {
        const result = answerTool(params?.name).replace('{', '{"resultType":"complete",');
        const progress = `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":${CUSTOMER}}}`;
        return send('text/event-stream', `data: ${progress}\n\nevent: message\ndata: ${rpc(result)}\n\n`);
      }
    }
  });
}

beforeAll(async () => {
  if (NO_COMPILER !== null) return;
  upstream = await startUpstream();
  const data = JSON.parse(await readFile(join(POLICIES, 'data.json'), 'utf8')) as object;
  policy = await policyDirectory({
    'duties.rego': await documentedRego('## Obligations'),
    'odd.rego': ODD,
    'data.json': JSON.stringify({ ...data, ...ODD_DATA }),
  });
  const harmless = Object.fromEntries(TOOLS.map((name) => [name, { type: 'query', sensitivity: 'low' }] as const));
  gateway = await startGateway({
    identity: KEYS_AND_PEOPLE,
    servers: {
      crm: { url: `${upstream.url}/mcp`, tools: harmless },
      clinic: { url: `${upstream.url}/mcp`, tags: ['private'], tools: harmless },
    },
    models: { local: { url: `${upstream.url}/v1`, protocol: 'openai' } },
    routes: [
      { match: '/mcp/crm', protocol: 'mcp', server: 'crm', identity: ['keys'] },
      { match: '/tools', protocol: 'tools', identity: ['keys'] },
      { match: '/v1', protocol: 'llm', model: 'local', identity: ['keys'] },
      { match: '/api/people', protocol: 'http', url: `${upstream.url}`, rewrite: '/people', identity: ['keys'] },
      { match: '/api/form', protocol: 'http', url: `${upstream.url}`, rewrite: '/form', identity: ['keys'] },
    ],
    policy: { bundle: policy.path, watch: false, decision_log: { file: './decisions.jsonl' } },
  });
  key = await gateway.key('user');
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
  policy?.[Symbol.dispose]();
});

function invoke(tool: string, parameters: object, server = 'crm') {
  return call(`${gateway.url}/tools/invoke`, { key, json: { server_name: server, tool_name: tool, parameters } });
}

const lastSeen = () => seen.at(-1) as Seen;
/** Calls alone: a question for approval may list the tools again, to say which tool it is about. */
const callsSeen = () => seen.filter(({ body }) => body.method === 'tools/call').length;

describe.skipIf(NO_COMPILER !== null)('obligations of tool calls', () => {
  test('leave named arguments out at any depth, and change nothing of a call without any', async () => {
    await invoke('plain', { debug: 'x', list: [{ Debug: 'y', keep: 1 }], keep: 2 });
    expect(lastSeen().body.params?.arguments).toEqual({ list: [{ keep: 1 }], keep: 2 });
  });

  test('cap a numeric argument, set it where it is absent, and refuse one that is no number', async () => {
    await invoke('search', { q: 'a', limit: 5000 });
    expect(lastSeen().body.params?.arguments).toEqual({ q: 'a', limit: 100 });
    await invoke('search', { limit: 7 });
    expect(lastSeen().body.params?.arguments).toEqual({ limit: 7 });
    await invoke('search', {});
    expect(lastSeen().body.params?.arguments).toEqual({ limit: 100 });
    const count = seen.length;
    const refused = await invoke('search', { limit: '5000' });
    expect(refused.status).toBe(500);
    expect(refused.body).toMatchObject({ error: { code: 'POLICY_EVALUATION_ERROR' } });
    expect(seen.length).toBe(count);
  });

  test('hide named members of the answer, also in text that is JSON, and keep every digit of the rest', async () => {
    const answer = await invoke('get_customer', {});
    expect(answer.status).toBe(200);
    expect(answer.text).not.toMatch(/078-05-1120|219-09-9999/);
    expect(answer.text).toContain('Bo');
    expect(answer.text.replaceAll('\\', '')).toContain('"ssn":"[redacted]"');
  });

  test('limit the calls of one caller and say when to come back', async () => {
    const statuses = [];
    for (let i = 0; i < 3; i++) statuses.push((await invoke('send_mail', {})).status);
    const answer = await invoke('send_mail', {});
    expect(statuses).toEqual([200, 200, 429]);
    expect(answer.body).toMatchObject({ error: { code: 'RATE_LIMIT_EXCEEDED' } });
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
    const other = await gateway.key('user', { owner_id: 'somebody-else' });
    const json = { server_name: 'crm', tool_name: 'send_mail', parameters: {} };
    expect((await call(`${gateway.url}/tools/invoke`, { key: other, json })).status).toBe(200);
  });

  test('keep arguments out of the audit and the decision log where the policy wants metadata only', async () => {
    const secret = 'diagnosis-of-a-patient';
    const hidden = await invoke('plain', { note: secret }, 'clinic');
    const shown = await invoke('plain', { note: 'nothing special' });
    const events = await gateway.audited((all) => all.some(({ request_id }) => request_id === shown.requestId));
    const of = (id: string) => events.find(({ request_id }) => request_id === id);
    expect(of(hidden.requestId)).toMatchObject({ event_type: 'tool_invocation', outcome: 'allowed', parameters: null });
    expect(of(shown.requestId)).toMatchObject({ parameters: { note: 'nothing special' } });
    expect(JSON.stringify(events)).not.toContain(secret);
    expect(await gateway.decisions()).not.toContain(secret);
    expect(lastSeen().headers['x-data-class']).toBeUndefined();
  });

  test('add a header to the request of the tools API', async () => {
    await invoke('plain', {}, 'clinic');
    expect(lastSeen().headers['x-data-class']).toBe('private');
  });

  test.each([
    ['unknown', 500, 'POLICY_EVALUATION_ERROR'],
    ['malformed', 500, 'POLICY_EVALUATION_ERROR'],
    ['bad-header', 500, 'POLICY_EVALUATION_ERROR'],
    ['vault', 500, 'POLICY_EVALUATION_ERROR'],
    ['asks-mfa', 403, 'MFA_REQUIRED'],
    ['asks-human', 403, 'APPROVAL_REQUIRED'],
  ])('that cannot be met (%s) refuse the call with %i %s', async (tool, status, code) => {
    const count = callsSeen();
    expect(count).toBeGreaterThan(0);
    const answer = await invoke(tool, {});
    expect(answer.status).toBe(status);
    expect(answer.body).toMatchObject({ error: { code } });
    expect(callsSeen()).toBe(count);
  });
});

describe.skipIf(NO_COMPILER !== null)('an approval that a package demands', () => {
  test('is asked for in the words of the rule and met by a person, once', async () => {
    verifies('SF-32', 'TW-07');
    const parameters = { amount: 1 };
    const asked = await invoke('asks-soon', parameters);
    expect(asked.status).toBe(403);
    const { error } = asked.body as { error: { code: string; details: Record<string, string> } };
    expect(error).toMatchObject({
      code: 'APPROVAL_REQUIRED',
      details: { reasons: [{ code: 'APPROVAL_REQUIRED', message: 'Money moves' }] },
    });
    const { approval_id = '', expires_at = '' } = error.details;
    expect(Date.parse(expires_at) - Date.now()).toBeLessThanOrEqual(60_000);
    const boss = personToken({ sub: 'boss', permissions: ['approvals:decide'] }, Date.now());
    expect((await call(`${gateway.url}/approve/${approval_id}`, { key: boss, json: {} })).status).toBe(200);
    const { token } = (await call(`${gateway.url}/approvals/${approval_id}`, { key })).body as { token: string };
    const count = seen.length;
    const again = { server_name: 'crm', tool_name: 'asks-soon', parameters };
    const headers = { 'x-approval-token': token };
    expect((await call(`${gateway.url}/tools/invoke`, { key, json: again, headers })).status).toBe(200);
    expect(seen.length).toBeGreaterThan(count);
    expect((await call(`${gateway.url}/tools/invoke`, { key, json: again, headers })).status).toBe(403);
  });
});

describe.skipIf(NO_COMPILER !== null)('obligations of MCP messages', () => {
  test('hold in a stream for the answer and for what comes before it', async () => {
    const logged: unknown[] = [];
    await using connection = await connectLegacy(`${gateway.url}/mcp/crm`, key, {}, (client) => {
      client.fallbackNotificationHandler = async (message) => void logged.push(message);
    });
    const result = await connection.client.callTool({ name: 'get_customer', arguments: { debug: 'x', id: 1 } });
    expect(textOf(result)).toContain('[redacted]');
    expect(textOf(result)).toContain(ACCOUNT);
    expect(JSON.stringify([result, logged])).not.toMatch(/078-05-1120|219-09-9999/);
    expect(lastSeen().body.params?.arguments).toEqual({ id: 1 });
    expect(lastSeen().headers['content-length']).toBe(String(JSON.stringify(lastSeen().body).length));
  });

  test('keep the headers that repeat arguments true', async () => {
    await using connection = await connectModern(`${gateway.url}/mcp/crm`, key);
    await connection.client.listTools();
    await connection.client.callTool({ name: 'search', arguments: { limit: 900 } });
    expect(lastSeen().body.params?.arguments).toEqual({ limit: 100 });
    expect(lastSeen().headers['mcp-param-limit']).toBe('100');
  });

  test('refuse a header of which nobody knows what it repeats', async () => {
    const message = {
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: {
        name: 'plain',
        arguments: {},
        _meta: {
          'io.modelcontextprotocol/protocolVersion': '2026-07-28',
          'io.modelcontextprotocol/clientCapabilities': {},
        },
      },
    };
    const headers = {
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': '2026-07-28',
      'mcp-method': 'tools/call',
      'mcp-name': 'plain',
    };
    const send = (more: object) =>
      call(`${gateway.url}/mcp/crm`, { key, json: message, headers: { ...headers, ...more } });
    expect((await send({ 'mcp-param-debug': 'x' })).body).toMatchObject({
      error: { data: { code: 'POLICY_EVALUATION_ERROR' } },
    });
    expect((await send({})).text).toContain('"result"');
  });
});

describe.skipIf(NO_COMPILER !== null)('obligations of model and HTTP calls', () => {
  const chat = (more: object) =>
    call(`${gateway.url}/v1/chat/completions`, {
      key,
      json: { model: 'local', messages: [{ role: 'user', content: 'hello' }], ...more },
    });

  test.each([
    [{ max_tokens: 4000 }, { max_tokens: 256 }],
    [{ max_tokens: 10 }, { max_tokens: 10 }],
    [{}, { max_tokens: 256 }],
    [{ max_completion_tokens: 4000 }, { max_completion_tokens: 256 }],
    [
      { max_tokens: 5, max_completion_tokens: 4000 },
      { max_tokens: 5, max_completion_tokens: 256 },
    ],
  ])('turn the length %j into %j', async (asked, sent) => {
    expect((await chat({ ...asked, temperature: 0.5 })).status).toBe(200);
    expect(lastSeen().body).toEqual({
      model: 'local',
      messages: [{ role: 'user', content: 'hello' }],
      temperature: 0.5,
      ...sent,
    });
  });

  test('hide members of a plain JSON answer, and do not pass on one that cannot be looked into', async () => {
    const answer = await call(`${gateway.url}/api/people`, { key });
    expect(answer.status).toBe(200);
    expect(answer.text).not.toMatch(/078-05-1120|219-09-9999/);
    expect(answer.text).toContain(`"account":${ACCOUNT}`);
    const page = await call(`${gateway.url}/api/people/page`, { key });
    expect(page.status).toBe(502);
    expect(page.text).not.toContain('078-05-1120');
  });

  test('refuse a streamed model answer that would have to be looked into', async () => {
    const streamed = await chat({ model: 'careful', stream: true });
    expect(streamed.status).toBe(500);
    expect((await chat({ model: 'careful' })).status).toBe(200);
  });

  test('refuse a change of a body that passes unread', async () => {
    const count = seen.length;
    const answer = await call(`${gateway.url}/api/form`, { key, json: { password: 'x' } });
    expect(answer.status).toBe(500);
    expect(answer.body).toMatchObject({ error: { code: 'POLICY_EVALUATION_ERROR' } });
    expect(seen.length).toBe(count);
    const metrics = await call(`${gateway.admin}/metrics`, {
      headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
    });
    expect(metrics.text).toMatch(/portcullis_decision_failures_total\{kind="unknown_obligation"\} [1-9]/);
  });
});
