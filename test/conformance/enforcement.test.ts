import { mkdtempSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Gateway } from '../../src/gateway.ts';
import { verifies } from '../helpers/verifies.ts';
import { startFixture } from './fixture/server.ts';
import { startGateway } from './gateway.ts';

const home = mkdtempSync(join(tmpdir(), 'enforcement-'));
let fixture: { server: Server; url: string };
let gateway: Gateway;
let admin: string;
let viewer: string;

beforeAll(async () => {
  fixture = await startFixture();
  gateway = await startGateway(fixture.url, home);
  admin = await gateway.keys.create({ name: 'admin', tenant_id: 'default', roles: ['admin'] });
  viewer = await gateway.keys.create({ name: 'viewer', tenant_id: 'default', roles: ['viewer'] });
});

afterAll(async () => {
  fixture.server.closeAllConnections();
  fixture.server.close();
  await gateway.close();
  rmSync(home, { recursive: true, force: true });
});

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** Every JSON message of the answer, be it a body or a stream. */
  readonly messages: readonly Record<string, never>[];
}

async function send(path: string, key: string, init: RequestInit): Promise<Answer> {
  const headers = { 'x-api-key': key, ...(init.headers as Record<string, string>) };
  const response = await fetch(`${gateway.urls.data}${path}`, { ...init, headers });
  const text = await response.text();
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream') ?? false;
  const parts = isStream ? [...text.matchAll(/^data: ?(.+)$/gm)].map((match) => match[1] ?? '') : [text];
  const messages = parts.filter((part) => part !== '').map((part) => JSON.parse(part) as Record<string, never>);
  return { status: response.status, headers: response.headers, messages };
}

let id = 0;

function rpc(path: string, key: string, method: string, params: object, extra: Record<string, string> = {}) {
  const headers = {
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    'mcp-protocol-version': '2025-11-25',
    ...extra,
  };
  return send(path, key, {
    method: 'POST',
    headers,
    body: JSON.stringify({ jsonrpc: '2.0', id: ++id, method, params }),
  });
}

/** A session of the legacy generation that can do all a client can. */
async function begin(path: string, key: string): Promise<Record<string, string>> {
  const answer = await rpc(path, key, 'initialize', {
    protocolVersion: '2025-11-25',
    capabilities: { sampling: {}, elicitation: {} },
    clientInfo: { name: 'test', version: '1' },
  });
  const session = answer.headers.get('mcp-session-id');
  expect(session).toBeTruthy();
  return { 'mcp-session-id': String(session) };
}

const call = (name: string) => ({ name, arguments: {} });

describe('a caller without rights', () => {
  verifies('X-12');

  test('sees no tool and calls none', async () => {
    const session = await begin('/mcp', viewer);
    const listed = await rpc('/mcp', viewer, 'tools/list', {}, session);
    expect(listed.messages.at(-1)).toMatchObject({ result: { tools: [] } });
    const called = await rpc('/mcp', viewer, 'tools/call', call('test_simple_text'), session);
    expect(called.status).toBe(200);
    expect(called.messages).toHaveLength(1);
    expect(called.messages[0]).toMatchObject({
      id,
      error: { code: -31403, data: { request_id: called.headers.get('x-request-id') } },
    });
    expect(JSON.stringify(called.messages)).not.toMatch(/portcullis\.|mcp\.gateway|data\.config/);
  });

  test('is refused in words for a model where the route says so', async () => {
    const session = await begin('/readable', viewer);
    const called = await rpc('/readable', viewer, 'tools/call', call('test_simple_text'), session);
    expect(called.messages[0]).toMatchObject({ id, result: { isError: true, content: [{ type: 'text' }] } });
  });

  test('cannot use the session of another', async () => {
    const session = await begin('/mcp', admin);
    expect((await rpc('/mcp', viewer, 'tools/list', {}, session)).status).toBe(404);
    expect((await rpc('/mcp', admin, 'tools/list', {}, session)).status).toBe(200);
  });

  test('is not let in without a key', async () => {
    const answer = await rpc('/mcp', 'pc_dev_wrong', 'tools/list', {});
    expect(answer.status).toBe(401);
  });
});

describe('a server without rights', () => {
  const elicit = { name: 'test_elicitation', arguments: { message: 'Tell me a secret' } };
  const sample = { name: 'test_sampling', arguments: { prompt: 'Tell me a secret' } };

  test('has a request on the stream of the call refused, and does not wait for ever', async () => {
    const session = await begin('/closed', admin);
    const called = await rpc('/closed', admin, 'tools/call', elicit, session);
    expect(JSON.stringify(called.messages)).not.toContain('Tell me a secret');
    expect(called.messages.at(-1)).toMatchObject({ id, result: { isError: true } });
  });

  test('has a request on the stream of the session refused', async () => {
    const session = await begin('/closed', admin);
    const leave = new AbortController();
    const headers = { 'x-api-key': admin, accept: 'text/event-stream', ...session };
    const stream = await fetch(`${gateway.urls.data}/closed`, { headers, signal: leave.signal });
    expect(stream.status).toBe(200);
    const called = await rpc('/closed', admin, 'tools/call', sample, session);
    expect(called.messages.at(-1)).toMatchObject({ id, result: { isError: true } });
    leave.abort();
    await expect(stream.text()).rejects.toThrow();
  });
});

describe('tools over plain JSON', () => {
  const invoke = (key: string, body: object) =>
    send('/tools/invoke', key, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  const simple = { server_name: 'fixture', tool_name: 'test_simple_text', parameters: {} };

  test('give the result of a permitted call', async () => {
    const { status, messages, headers } = await invoke(admin, simple);
    expect(status).toBe(200);
    expect(messages[0]).toMatchObject({
      success: true,
      error: null,
      result: { content: [{ text: 'This is a simple text response for testing.' }] },
      request_id: headers.get('x-request-id'),
      decision_id: headers.get('x-decision-id'),
    });
  });

  test('refuse with a reason, whatever metadata the caller sends', async () => {
    const { status, messages } = await invoke(viewer, {
      ...simple,
      gateway_metadata: { tool_type: 'query', sensitivity_level: 'low', approval_token: 'x' },
    });
    expect(status).toBe(403);
    expect(messages[0]).toMatchObject({ status: 403, error: { code: 'POLICY_DENIED' } });
  });

  test('tell unknown and disabled servers apart', async () => {
    expect((await invoke(admin, { ...simple, server_name: 'nobody' })).status).toBe(404);
    expect((await invoke(admin, { ...simple, server_name: 'asleep' })).status).toBe(503);
  });

  test('list what the caller may see', async () => {
    const seen = await send('/tools?server_name=fixture', admin, {});
    expect(JSON.stringify(seen.messages)).toContain('test_simple_text');
    const unseen = await send('/tools?server_name=fixture', viewer, {});
    expect(JSON.stringify(unseen.messages)).not.toContain('test_simple_text');
    expect((await send('/servers?include_tools=true', admin, {})).messages[0]).toHaveProperty('servers');
  });
});
