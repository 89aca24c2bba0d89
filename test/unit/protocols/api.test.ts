import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { Call } from '../../../src/core/call.ts';
import { GatewayError } from '../../../src/core/errors.ts';
import type { LocalPlan, Message, Permitted } from '../../../src/core/exchange.ts';
import { ANONYMOUS } from '../../../src/core/principal.ts';
import { createApiProtocol, endpointCall } from '../../../src/protocols/api.ts';
import type { Endpoint } from '../../../src/protocols/endpoint.ts';
import { problem } from '../../../src/protocols/problem.ts';
import type { Asked } from '../../helpers/mcp-exchange.ts';
import { admitted } from '../../helpers/mcp-exchange.ts';

const note = z.strictObject({ text: z.string().max(10), stars: z.int().min(1) });
const form = z.strictObject({ name: z.string() });

const endpoints: readonly Endpoint[] = [
  { method: 'GET', path: '/notes', access: 'anyone', body: null, answer: () => ({ status: 200, body: ['all'] }) },
  {
    method: 'POST',
    path: '/notes',
    access: 'authenticated',
    body: { schema: note, limit: 200 },
    answer: ({ body }) => ({ status: 201, body, headers: { location: '/notes/1' } }),
  },
  {
    method: 'GET',
    path: '/notes/{id}',
    access: { allOf: ['notes.read'] },
    body: null,
    answer: ({ params, query }) => ({ status: 200, body: { ...params, page: query.get('page') } }),
  },
  {
    method: 'DELETE',
    path: '/notes/{id}',
    access: 'authenticated',
    body: null,
    call: async ({ exchange }) => ({ ...endpointCall(exchange, '/x', null), action: 'approvals:decide' }) as Call,
    answer: () => ({ status: 204 }),
  },
  {
    method: 'GET',
    path: '/notes/latest',
    access: 'authenticated',
    body: null,
    answer: () => ({ status: 200, body: 'latest' }),
  },
  {
    method: 'POST',
    path: '/notes/{id}/form',
    access: 'anyone',
    body: { schema: form, encoding: 'form', misfit: 'INVALID_REQUEST' },
    answer: ({ body }) => ({ status: 200, body }),
  },
];
const protocol = createApiProtocol({ endpoints, problem });

const JSON_TYPE = { 'content-type': 'application/json' };
const FORM_TYPE = { 'content-type': 'application/x-www-form-urlencoded' };
const decode = (asked: Asked) => protocol.decode(admitted({ method: 'GET', ...asked }));
const post = (body: unknown, more: Asked = {}) =>
  decode({ method: 'POST', path: '/notes', headers: JSON_TYPE, body, ...more });

async function answered(message: Message) {
  const reply = await (message.plan as LocalPlan).answer({} as Permitted);
  return { ...reply, body: String(reply.body) };
}

async function refused(pending: Promise<Message>): Promise<GatewayError> {
  const error = await pending.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (error instanceof GatewayError) return error;
  throw new Error('expected a GatewayError');
}

describe('the api protocol', () => {
  test('asks one question: the method on the path as the endpoint spells it', async () => {
    const message = await decode({ path: '/notes/a%20b', query: '?page=2' });
    expect(message.calls).toEqual([
      {
        action: 'http:get',
        server: null,
        tool: null,
        parameters: {},
        annotations: null,
        schema_hash: null,
        resource: {
          type: 'http',
          id: '/notes/{id}',
          tenant_id: null,
          owner_id: null,
          permissions: { allOf: ['notes.read'] },
        },
        llm: null,
      },
    ]);
    expect(message).toMatchObject({ mode: 'all', body: null, dialect: 'problem' });
    expect(await answered(message)).toEqual({
      status: 200,
      headers: { 'cache-control': 'no-store', 'content-type': 'application/json' },
      body: '{"id":"a b","page":"2"}',
    });
  });

  test('an endpoint may ask a question of its own', async () => {
    const message = await decode({ method: 'DELETE', path: '/notes/1' });
    expect(message.calls).toMatchObject([{ action: 'approvals:decide' }]);
    expect(await answered(message)).toEqual({ status: 204, headers: { 'cache-control': 'no-store' }, body: '' });
  });

  test('an exact path goes before a template, and placeholders stand for one segment', async () => {
    expect((await answered(await decode({ path: '/notes/latest' }))).body).toBe('"latest"');
    for (const path of ['/notes/a/b', '/notes/', '/note', '/']) {
      expect((await refused(decode({ path }))).code, path).toBe('ROUTE_NOT_FOUND');
      expect(protocol.serves?.(path), path).toBe(false);
    }
    expect(protocol.serves?.('/notes/x')).toBe(true);
  });

  test('names the methods there are', async () => {
    const error = await refused(decode({ method: 'PUT', path: '/notes' }));
    expect(error.code).toBe('METHOD_NOT_ALLOWED');
    const context = { requestId: 'req_1', decisionId: null, rpcId: undefined };
    expect(protocol.encodeError(error, context, null).headers.allow).toBe('GET, HEAD, OPTIONS, POST');
    const options = await answered(await decode({ method: 'OPTIONS', path: '/notes/1', principal: ANONYMOUS }));
    expect(options).toMatchObject({ status: 204, headers: { allow: 'GET, HEAD, OPTIONS, DELETE' } });
    expect((await decode({ method: 'HEAD', path: '/notes' })).calls[0]?.action).toBe('http:head');
  });

  test('only what is for anyone is answered without a credential, and no body is read for the rest', async () => {
    expect((await decode({ path: '/notes', principal: ANONYMOUS })).calls[0]?.resource.permissions).toBeNull();
    const asked = admitted({ method: 'POST', path: '/notes', headers: JSON_TYPE, body: '{', principal: ANONYMOUS });
    const error = await refused(protocol.decode(asked));
    expect(error).toMatchObject({ code: 'MISSING_CREDENTIALS', extras: { challenge: 'Bearer realm="portcullis"' } });
    expect(asked.received.incoming.readableLength).toBe(1);
    expect((await refused(decode({ path: '/notes/1', principal: ANONYMOUS }))).code).toBe('MISSING_CREDENTIALS');
  });

  test('a body reaches the endpoint as its schema gives it', async () => {
    const reply = await answered(await post({ text: 'hello', stars: 3 }));
    expect(reply).toMatchObject({ status: 201, body: '{"text":"hello","stars":3}' });
    expect(reply.headers).toMatchObject({ location: '/notes/1' });
  });

  test('every bad field is named in one error, without its value', async () => {
    const error = await refused(post({ text: 'much-too-long-and-secret', stars: 0, more: 1 }));
    expect(error.code).toBe('UNPROCESSABLE');
    expect(error.message).toMatch(/text: .*stars: .*body: Unrecognized key: "more"/);
    expect(error.message).not.toContain('secret');
    expect(error.extras.details?.problems).toHaveLength(3);
  });

  test('an absent body counts as an empty object', async () => {
    const error = await refused(decode({ method: 'POST', path: '/notes' }));
    expect(error.message).toMatch(/text: .*; stars: /);
  });

  test.each([
    ['no media type', {}, '{}', 'UNSUPPORTED_MEDIA_TYPE'],
    ['a form where JSON is wanted', FORM_TYPE, '{}', 'UNSUPPORTED_MEDIA_TYPE'],
    ['broken JSON', JSON_TYPE, '{', 'INVALID_REQUEST'],
    ['a doubled key', JSON_TYPE, '{"text":"a","text":"b","stars":1}', 'INVALID_REQUEST'],
    ['__proto__', JSON_TYPE, '{"__proto__":{"stars":1}}', 'INVALID_REQUEST'],
    ['no object', JSON_TYPE, '[]', 'UNPROCESSABLE'],
    ['too much', JSON_TYPE, `{"text":"${'x'.repeat(300)}"}`, 'PAYLOAD_TOO_LARGE'],
  ])('refuses %s', async (_, headers, body, code) => {
    expect((await refused(post(body, { headers }))).code).toBe(code);
  });

  test('a form has each field once, in its own media type', async () => {
    const send = (body: string, headers: Record<string, string> = FORM_TYPE) =>
      decode({ method: 'POST', path: '/notes/1/form', headers, body });
    expect((await answered(await send('name=a+b%21'))).body).toBe('{"name":"a b!"}');
    expect((await refused(send('name=a', JSON_TYPE))).code).toBe('UNSUPPORTED_MEDIA_TYPE');
    // What curl sends without a header: nothing of it comes back, for it may hold a password.
    const json = await refused(send('{"name":"hunter2"}'));
    expect(json.code).toBe('UNSUPPORTED_MEDIA_TYPE');
    expect(JSON.stringify([json.message, json.extras])).not.toContain('hunter2');
    for (const bad of ['name=a&name=b', '__proto__=x', 'name=a&other=b', '', 'x=1&'.repeat(200)]) {
      expect((await refused(send(bad))).code, bad).toBe('INVALID_REQUEST');
    }
    expect(
      (await refused(decode({ method: 'POST', path: '/notes/1/form', headers: FORM_TYPE, body: Buffer.from([255]) })))
        .code,
    ).toBe('INVALID_REQUEST');
  });

  test('hides members of an answer where a policy says so, and refuses what it cannot do', async () => {
    const exchange = admitted({ method: 'POST', path: '/notes', headers: JSON_TYPE, body: { text: 'a', stars: 1 } });
    const decoded = { ...exchange, message: await protocol.decode(exchange) };
    const none = { removed: [], hidden: [], ceilings: new Map<string, number>(), headers: null };
    expect(protocol.amend?.(decoded, none)).toBe(decoded.message);
    expect(protocol.amend?.(decoded, { ...none, removed: ['text'] })).toBeNull();
    const hidden = protocol.amend?.(decoded, { ...none, hidden: ['text'] });
    if (hidden === null || hidden === undefined) throw new Error('not amended');
    expect(JSON.parse((await answered(hidden)).body)).toMatchObject({ text: expect.not.stringMatching('a$') });
  });

  test('two endpoints of one method and path are refused at start, whatever they call their placeholders', () => {
    const [first] = endpoints;
    if (first === undefined) throw new Error('no endpoint');
    expect(() => createApiProtocol({ endpoints: [first, first], problem })).toThrow('two endpoints answer GET /notes');
    const twice = [
      { ...first, path: '/a/{x}' },
      { ...first, path: '/a/{y}' },
    ];
    expect(() => createApiProtocol({ endpoints: twice, problem })).toThrow('two endpoints');
  });
});
