import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import type { Decision } from '../../../../src/core/decision.ts';
import { type ErrorCode, type ErrorExtras, GatewayError } from '../../../../src/core/errors.ts';
import type { Admitted, Message, Permitted, Reply, UpstreamPlan } from '../../../../src/core/exchange.ts';
import type { Route } from '../../../../src/core/route.ts';
import type { ModelEntry } from '../../../../src/protocols/llm/models.ts';
import { createOpenAiProtocol } from '../../../../src/protocols/llm/openai.ts';
import { verifies } from '../../../helpers/verifies.ts';

const entry = (name: string, serves: string[] = []): [string, ModelEntry] => [
  name,
  { name, serves, basePath: '/api/v1' },
];
const models = new Map([entry('local'), entry('big', ['gpt-4', 'meta/llama-3']), entry('small', ['gpt-3', 'gpt-4'])]);
const protocol = createOpenAiProtocol({ models });

interface Asked {
  readonly path?: string;
  readonly method?: string;
  readonly body?: unknown;
  readonly text?: string;
  readonly headers?: Record<string, string>;
  readonly models?: readonly string[];
}

function exchangeOf(asked: Asked): Admitted {
  const bytes = Buffer.from(asked.text ?? JSON.stringify(asked.body ?? {}));
  const headers = { 'content-type': 'application/json', 'content-length': String(bytes.length), ...asked.headers };
  const route: Partial<Route> = {
    id: '/v1',
    match: '/v1',
    protocol: 'llm',
    models: asked.models ?? ['local'],
    limits: { body_bytes: 10_000, headers_timeout_ms: 1, idle_timeout_ms: 1 },
  };
  return {
    route,
    received: {
      method: asked.method ?? 'POST',
      path: asked.path ?? '/v1/chat/completions',
      query: '?api-version=2',
      headers,
      incoming: Object.assign(Readable.from([bytes]), { headers }),
      cancel: new AbortController().signal,
    },
  } as unknown as Admitted;
}

const decode = (asked: Asked): Promise<Message> => protocol.decode(exchangeOf(asked));

async function refusalOf(asked: Asked): Promise<GatewayError> {
  const thrown: unknown = await decode(asked).then(
    () => null,
    (error: unknown) => error,
  );
  if (thrown instanceof GatewayError) return thrown;
  throw new Error('not refused');
}

const chat = (extra: object = {}): object => ({
  model: 'local',
  messages: [{ role: 'user', content: 'hello' }],
  ...extra,
});
const context = { requestId: 'req_1', decisionId: 'dec_1', rpcId: undefined };

describe('a chat completion', () => {
  verifies('X-03');

  test('goes to the model’s upstream with the bytes that were received', async () => {
    const text = '{"model" : "local",\n "messages":[{"role":"user","content":"h\\u00e9"}]}';
    const message = await decode({
      text,
      headers: { accept: 'text/event-stream', 'openai-organization': 'x', cookie: 'y' },
    });
    expect(message.body?.toString()).toBe(text);
    expect(message.plan).toEqual({
      kind: 'upstream',
      upstream: 'local',
      method: 'POST',
      path: '/api/v1/chat/completions',
      headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
      rewrite: null,
    });
    expect([message.mode, message.dialect]).toEqual(['all', 'openai']);
  });

  test('tells policy its facts and never its contents', async () => {
    const message = await decode({
      body: chat({
        stream: true,
        max_tokens: 10,
        temperature: 0.5,
        tools: [
          { type: 'function', function: { name: 'get_weather', parameters: { secret: 'schema' } } },
          { type: 'web_search' },
          { type: 'custom', custom: { name: 'shell' } },
        ],
        functions: [{ name: 'old' }],
        response_format: { type: 'json_object' },
      }),
    });
    const [call] = message.calls;
    expect(call).toMatchObject({
      action: 'llm:chat:create',
      server: null,
      resource: { type: 'model', id: 'local' },
      parameters: { model: 'local', stream: true, max_tokens: 10, temperature: 0.5 },
      llm: {
        model: 'local',
        resolved_model: 'local',
        stream: true,
        max_tokens: 10,
        message_count: 1,
        tools: ['get_weather', 'web_search', 'shell', 'old'],
      },
    });
    expect(JSON.stringify(call)).not.toMatch(/hello|secret/);
  });

  test('counts the larger of the two lengths, because an upstream may read either', async () => {
    const both = await decode({ body: chat({ max_tokens: 5, max_completion_tokens: 5000 }) });
    expect(both.calls[0]?.llm?.max_tokens).toBe(5000);
    const none = await decode({ body: chat({ max_tokens: null }) });
    expect(none.calls[0]?.llm?.max_tokens).toBeNull();
  });

  test('counts the length for each answer that is asked for', async () => {
    const lengthOf = async (more: object) => (await decode({ body: chat(more) })).calls[0]?.llm?.max_tokens;
    expect(await lengthOf({ max_tokens: 100, n: 1 })).toBe(100);
    expect(await lengthOf({ max_tokens: 100, n: 50 })).toBe(5000);
    expect(await lengthOf({ max_tokens: 100, n: 2, best_of: 4 })).toBe(400);
    expect(await lengthOf({ max_tokens: 1, max_output_tokens: 900 })).toBe(900);
    expect(await lengthOf({ max_tokens: 2 ** 53 - 1, n: 2 ** 53 - 1 })).toBe(Number.MAX_SAFE_INTEGER);
  });

  const malformed: [string, object, string][] = [
    ['no model', { messages: [{}] }, 'model'],
    ['a model that is no text', chat({ model: 7 }), 'model'],
    ['an empty model', chat({ model: '' }), 'model'],
    ['a very long model', chat({ model: 'x'.repeat(300) }), 'model'],
    ['no messages', { model: 'local' }, 'messages'],
    ['empty messages', chat({ messages: [] }), 'messages'],
    ['messages that are no list', chat({ messages: 'hello' }), 'messages'],
    ['a length that is text', chat({ max_tokens: '100000' }), 'max_tokens'],
    ['a length of zero', chat({ max_tokens: 0 }), 'max_tokens'],
    ['a length that is no integer', chat({ max_completion_tokens: 1.5 }), 'max_completion_tokens'],
    ['a switch that is text', chat({ stream: 'true' }), 'stream'],
    ['tools that are no list', chat({ tools: {} }), 'tools'],
    ['a tool that is no object', chat({ tools: ['x'] }), 'tools'],
    ['a tool without a name', chat({ tools: [{ function: {} }] }), 'tools'],
    ['functions that are no list', chat({ functions: 'x' }), 'functions'],
    ['the model in another case', { ...chat(), Model: 'other' }, 'model'],
    ['further models to turn to', chat({ models: ['other'] }), 'models'],
    ['fallbacks to turn to', chat({ fallbacks: [{ model: 'other' }] }), 'fallbacks'],
    ['further models in another case', chat({ Models: ['other'] }), 'models'],
    ['the length in another case', chat({ MAX_TOKENS: 9 }), 'max_tokens'],
    ['messages with a long s', chat({ 'me\u017fsages': [] }), 'messages'],
    ['tools with the Kelvin sign', chat({ 'max_to\u212aens': 1 }), 'max_tokens'],
  ];

  test.each(malformed)('with %s is refused and the member is named', async (_name, body, param) => {
    const error = await refusalOf({ body });
    expect(error.code).toBe('INVALID_REQUEST');
    const reply = protocol.encodeError(error, context, null);
    expect(JSON.parse(String(reply.body)).error).toMatchObject({ param, type: 'invalid_request_error' });
  });

  test.each(['[]', '"x"', 'null', '7', '', '{"model":"a","model":"b","messages":[{}]}', '{"model":"a"'])(
    'is refused when its body is %j',
    async (text) => {
      expect((await refusalOf({ text })).code).toBe('INVALID_REQUEST');
    },
  );

  test.each([
    'text/plain',
    'application/x-www-form-urlencoded',
    'application/json; charset=utf-16',
    'application/jsonx',
    '',
  ])('is refused as %j', async (type) => {
    expect((await refusalOf({ body: chat(), headers: { 'content-type': type } })).code).toBe('UNSUPPORTED_MEDIA_TYPE');
  });

  test.each(['application/json; charset=UTF-8', 'Application/JSON;charset="utf-8"'])('is read as %j', async (type) => {
    expect((await decode({ body: chat(), headers: { 'content-type': type } })).calls).toHaveLength(1);
  });

  test('is refused when it is larger than the route allows', async () => {
    expect((await refusalOf({ body: chat({ user: 'x'.repeat(20_000) }) })).code).toBe('PAYLOAD_TOO_LARGE');
  });
});

describe('choosing the model', () => {
  const asked = async (model: string, models: readonly string[]): Promise<string> => {
    const message = await decode({ body: chat({ model }), models });
    return (message.plan as UpstreamPlan).upstream;
  };

  test('takes the first entry of the route that serves the name', async () => {
    expect(await asked('gpt-4', ['big', 'small'])).toBe('big');
    expect(await asked('gpt-4', ['small', 'big'])).toBe('small');
    expect(await asked('gpt-3', ['big', 'small'])).toBe('small');
    expect(await asked('local', ['big', 'local'])).toBe('local');
  });

  test('takes any name for the only model of a route, and policy still sees the name asked for', async () => {
    const [call] = (await decode({ body: chat({ model: 'whatever' }) })).calls;
    expect(call?.llm).toMatchObject({ model: 'whatever', resolved_model: 'local' });
  });

  test.each([
    ['a name nobody serves', 'gpt-5', ['big', 'local']],
    ['the entry’s own name when it serves others', 'big', ['big']],
    ['a model of another route', 'gpt-3', ['big']],
    ['a name of the prototype', '__proto__', ['big']],
    ['a name of the prototype’s members', 'constructor', ['big', 'local']],
  ])('does not find %s', async (_name, model, models) => {
    const error = await refusalOf({ body: chat({ model }), models });
    expect([error.code, error.status]).toEqual(['MODEL_NOT_FOUND', 404]);
    expect(JSON.parse(String(protocol.encodeError(error, context, null).body)).error).toMatchObject({
      code: 'model_not_found',
      param: 'model',
      type: 'invalid_request_error',
    });
  });
});

describe('embeddings', () => {
  test('are decided as such and forwarded', async () => {
    const message = await decode({
      path: '/v1/embeddings',
      body: { model: 'local', input: ['a', 'b'], dimensions: 8 },
    });
    expect(message.calls[0]).toMatchObject({
      action: 'llm:embeddings:create',
      parameters: { model: 'local', dimensions: 8 },
      llm: { message_count: 2, stream: false, max_tokens: null },
    });
    expect((message.plan as UpstreamPlan).path).toBe('/api/v1/embeddings');
  });

  test('need an input', async () => {
    expect((await refusalOf({ path: '/v1/embeddings', body: { model: 'local' } })).extras.details).toEqual({
      param: 'input',
    });
  });
});

describe('the model list', () => {
  const verdict = (allow: boolean): Decision => ({ allow, failure: null }) as Decision;

  async function answer(path: string, allow: (model: string) => boolean): Promise<Reply> {
    const message = await decode({ path, method: 'GET', models: ['big', 'small', 'local'] });
    expect(message.mode).toBe('filter');
    if (message.plan.kind !== 'local') throw new Error('not answered here');
    const decisions = message.calls.map((call) => verdict(allow(call.llm?.model ?? '')));
    return message.plan.answer({ decisions } as unknown as Permitted);
  }

  test('holds each name once, with one decision for each', async () => {
    const reply = await answer('/v1/models', () => true);
    expect(JSON.parse(String(reply.body))).toEqual({
      object: 'list',
      data: [
        { id: 'gpt-4', object: 'model', created: 0, owned_by: 'big' },
        { id: 'meta/llama-3', object: 'model', created: 0, owned_by: 'big' },
        { id: 'gpt-3', object: 'model', created: 0, owned_by: 'small' },
        { id: 'local', object: 'model', created: 0, owned_by: 'local' },
      ],
    });
    expect(reply.headers['cache-control']).toContain('private');
  });

  test('leaves out what the caller may not use, and what could not be decided', async () => {
    const reply = await answer('/v1/models', (model) => model !== 'gpt-4');
    expect(String(reply.body)).not.toContain('gpt-4');
    const message = await decode({ path: '/v1/models', method: 'GET' });
    if (message.plan.kind !== 'local') throw new Error('not answered here');
    const failed = [{ allow: true, failure: 'timeout' }] as unknown as Decision[];
    expect(
      JSON.parse(String((await message.plan.answer({ decisions: failed } as unknown as Permitted)).body)).data,
    ).toEqual([]);
  });

  test('gives one model by its name, also with a slash', async () => {
    expect(JSON.parse(String((await answer('/v1/models/meta/llama-3', () => true)).body)).id).toBe('meta/llama-3');
  });

  test('answers alike for a model that is not there and one that may not be seen', async () => {
    const hidden = await answer('/v1/models/gpt-4', () => false).catch((error: GatewayError) => error);
    const missing = await refusalOf({ path: '/v1/models/gpt-9', method: 'GET', models: ['big'] });
    expect((hidden as GatewayError).message.replace('gpt-4', '')).toBe(missing.message.replace('gpt-9', ''));
    expect((hidden as GatewayError).code).toBe(missing.code);
  });
});

describe('other paths and methods', () => {
  test.each([
    '/v1',
    '/v1/responses',
    '/v1/chat',
    '/v1/chat/completions/',
    '/v1/chat/completions/x',
    '/v1/modelsx',
    '/v1/files',
  ])('%s is no endpoint', async (path) => {
    const error = await refusalOf({ path, body: chat() });
    expect([error.code, error.status]).toEqual(['ROUTE_NOT_FOUND', 404]);
  });

  test.each([
    ['GET', '/v1/chat/completions', 'POST'],
    ['DELETE', '/v1/embeddings', 'POST'],
    ['POST', '/v1/models', 'GET'],
    ['DELETE', '/v1/models/local', 'GET'],
  ])('%s %s is told which method is allowed', async (method, path, allow) => {
    const reply = protocol.encodeError(await refusalOf({ method, path, body: chat() }), context, null);
    expect([reply.status, reply.headers.allow]).toEqual([405, allow]);
  });
});

describe('errors in the OpenAI dialect', () => {
  const encode = (code: ErrorCode, extras: ErrorExtras = {}): Reply =>
    protocol.encodeError(new GatewayError(code, extras), context, null);

  test('carry message, type, param and code, and the ids', () => {
    const reply = encode('POLICY_DENIED', { message: 'Not yours', reasons: [{ code: 'X', message: 'Not yours' }] });
    expect(reply.status).toBe(403);
    expect(reply.headers).toMatchObject({
      'x-should-retry': 'false',
      'x-request-id': 'req_1',
      'x-decision-id': 'dec_1',
    });
    expect(JSON.parse(String(reply.body))).toEqual({
      error: {
        message: 'Not yours',
        type: 'permission_error',
        param: null,
        code: 'POLICY_DENIED',
        details: { code: 'POLICY_DENIED', reasons: [{ code: 'X', message: 'Not yours' }], decision_id: 'dec_1' },
      },
      request_id: 'req_1',
    });
  });

  test.each<[ErrorCode, string | undefined]>([
    ['POLICY_DENIED', 'false'],
    ['POLICY_UNAVAILABLE', 'false'],
    ['POLICY_EVALUATION_ERROR', 'false'],
    ['INSUFFICIENT_BALANCE', 'false'],
    ['INTERNAL_ERROR', 'false'],
    ['RATE_LIMIT_EXCEEDED', undefined],
    ['UPSTREAM_ERROR', undefined],
    ['UPSTREAM_CIRCUIT_OPEN', undefined],
  ])('%s sends x-should-retry %s', (code, expected) => {
    expect(encode(code).headers['x-should-retry']).toBe(expected);
  });

  test('tell how long to wait, and which credentials are asked for', () => {
    expect(encode('RATE_LIMIT_EXCEEDED', { retryAfter: 7 }).headers['retry-after']).toBe('7');
    const missing = encode('MISSING_CREDENTIALS', { challenge: 'Bearer' });
    expect(missing.headers['www-authenticate']).toBe('Bearer');
    expect(JSON.parse(String(missing.body)).error).toMatchObject({
      type: 'authentication_error',
      code: 'invalid_api_key',
    });
  });

  test('never show the technical cause', () => {
    const reply = encode('UPSTREAM_ERROR', { cause: new Error('ECONNREFUSED 10.0.0.7:443') });
    expect(String(reply.body)).not.toContain('10.0.0.7');
  });

  test('end a broken stream with an event of its own that clients throw on', () => {
    const event = protocol.encodeStreamError?.(new GatewayError('UPSTREAM_ERROR'), context) ?? '';
    const broken = `data: {"choices":[{"delta":{"content":"ha${event}`;
    const last = broken.split('\n\n').at(-2) ?? '';
    expect(JSON.parse(last.slice('data: '.length)).error).toMatchObject({
      type: 'server_error',
      code: 'UPSTREAM_ERROR',
    });
  });
});
