import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import OpenAI, { APIConnectionError, APIError } from 'openai';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Call } from '../../../../src/core/call.ts';
import type { Decision, DecisionRequest } from '../../../../src/core/decision.ts';
import type { Received } from '../../../../src/core/exchange.ts';
import { makePrincipal } from '../../../../src/core/principal.ts';
import type { Route } from '../../../../src/core/route.ts';
import { handle, type PipelineParts, type RequestEnd } from '../../../../src/pipeline/pipeline.ts';
import { RunningExchanges } from '../../../../src/pipeline/running.ts';
import { RouteTable } from '../../../../src/pipeline/stages/route.ts';
import { Switchboard } from '../../../../src/pipeline/switchboard.ts';
import { createOpenAiProtocol } from '../../../../src/protocols/llm/openai.ts';
import { problem } from '../../../../src/protocols/problem.ts';
import { createMemoryShared } from '../../../../src/stores/memory-shared.ts';
import { createHttpUpstream } from '../../../../src/upstreams/http-pool.ts';
import { verifies } from '../../../helpers/verifies.ts';

/** The public client against the real stages, protocol and pool; only identity and policy are the test's own. */
const cleanups: (() => unknown)[] = [];
let upstream: (request: IncomingMessage, response: ServerResponse, body: string) => void;
let decide: (call: Call) => Partial<Decision>;
let requests: IncomingMessage[];
let bodies: string[];
let ends: RequestEnd[];
let received: number;
let client: OpenAI;

async function listen(server: ReturnType<typeof createServer>): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const route: Route = {
  id: '/v1',
  match: '/v1',
  protocol: 'llm',
  identity: [],
  anonymous: false,
  entrypoint: null,
  server: null,
  models: ['main', 'other'],
  upstream: null,
  rewrite: null,
  permissions: {},
  denial: 'error',
  tenant_header: false,
  limits: { body_bytes: 1_000_000, headers_timeout_ms: 2000, idle_timeout_ms: 2000 },
};

function partsFor(upstreamUrl: string): PipelineParts {
  const pool = createHttpUpstream({
    name: 'main',
    url: `${upstreamUrl}/v1`,
    ca: null,
    options: {
      headers_timeout_ms: 2000,
      idle_timeout_ms: 2000,
      breaker: { volume: 100, error_percentage: 50, window_ms: 10_000, reset_ms: 60_000 },
      pool: { max_connections: 10, max_keepalive: 5, keepalive_expiry_ms: 5000, connect_timeout_ms: 1000 },
      ca: undefined,
    },
  });
  cleanups.push(() => pool[Symbol.asyncDispose]());
  const models = new Map([
    ['main', { name: 'main', serves: ['gpt-test', 'embed-test'], basePath: pool.basePath }],
    ['other', { name: 'other', serves: ['hidden'], basePath: pool.basePath }],
  ]);
  const protocol = createOpenAiProtocol({ models });
  const decideOne = ({ call }: DecisionRequest): Decision => ({
    decision_id: 'dec_1',
    allow: true,
    deny: [],
    obligations: [],
    revision: 'sha256:test',
    cached: false,
    eval_us: 1,
    failure: null,
    ...decide(call),
  });
  const shared = createMemoryShared();
  const switches = new Switchboard();
  const performing = { protocol, shared, switches, onFailure: () => undefined };
  return {
    routes: new RouteTable([route]),
    authenticator: () => ({
      authenticate: async () => makePrincipal({ id: 'alice', roles: ['developer'] }, 'test', 'bearer'),
      missing: () => new Error('not used'),
    }),
    admission: { shared, limits: { take: () => undefined }, windowMs: 60_000, switches },
    running: new RunningExchanges({ graceMs: () => 0, onCut: () => undefined, onTunnelCut: () => undefined }),
    protocol: () => protocol,
    performing: { mcp: performing, llm: performing, http: performing, tools: performing, api: performing },
    fallback: problem,
    classify: (call) => ({
      ...call,
      classification: { tool_type: 'integration', sensitivity_level: 'low', reasons: [], resources: [] },
    }),
    facts: { regionOf: () => 'unknown', upstreamEncrypted: () => false },
    engine: {
      decide: decideOne,
      weigh: decideOne,
      decideMany: (all) => all.map(decideOne),
      entrypointAt: () => 'portcullis/main/decision',
      revision: 'sha256:test',
      status: () => ({ revision: 'sha256:test', activated_at: 0, last_error: null, entrypoints: [] }),
      reload: () => Promise.reject(new Error('not used')),
      close: () => Promise.resolve(),
    },
    forwarding: {
      upstream: () => pool,
      tunnel: () => null,
      credential: () => ({ authorization: 'Bearer upstream-key' }),
      streamError: (permitted, error) =>
        protocol.encodeStreamError?.(error, {
          requestId: permitted.received.id,
          decisionId: 'dec_1',
          rpcId: undefined,
        }) ?? null,
    },
    onEnd: (end) => void ends.push(end),
  };
}

function receive(incoming: IncomingMessage, outgoing: ServerResponse): Received {
  const controller = new AbortController();
  outgoing.on('close', () => controller.abort());
  return {
    id: `req_${++received}`,
    method: incoming.method ?? '',
    path: incoming.url ?? '',
    query: '',
    headers: incoming.headers as Record<string, string>,
    peer: { address: '127.0.0.1', encrypted: false, host: 'localhost' },
    receivedAt: Date.now(),
    incoming,
    outgoing,
    abort: (reason) => controller.abort(reason),
    signal: controller.signal,
    cancel: controller.signal,
  };
}

const say = (content: string): object => ({
  id: 'c1',
  object: 'chat.completion.chunk',
  created: 1,
  model: 'gpt-test',
  choices: [{ index: 0, delta: { content }, finish_reason: null }],
});

const ask = { model: 'gpt-test', messages: [{ role: 'user' as const, content: 'hello' }] };

beforeEach(async () => {
  requests = [];
  bodies = [];
  ends = [];
  received = 0;
  decide = () => ({});
  const upstreamUrl = await listen(
    createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      requests.push(request);
      bodies.push(Buffer.concat(chunks).toString());
      upstream(request, response, bodies.at(-1) ?? '');
    }),
  );
  const parts = partsFor(upstreamUrl);
  const url = await listen(createServer((incoming, outgoing) => void handle(parts, receive(incoming, outgoing))));
  client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'client-key', maxRetries: 2 });
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function failureOf(outcome: PromiseLike<unknown>): Promise<APIError> {
  try {
    await outcome;
  } catch (thrown) {
    if (thrown instanceof APIError) return thrown;
    throw thrown;
  }
  throw new Error('not refused');
}

function startStream(response: ServerResponse, ...words: string[]): void {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  for (const word of words) response.write(`data: ${JSON.stringify(say(word))}\n\n`);
}

describe('the openai client through the gateway', () => {
  verifies('X-03', 'X-06');

  test('gets its completion; the upstream gets the same bytes and the gateway’s credential', async () => {
    upstream = (_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ id: 'c1', object: 'chat.completion', choices: [{ message: { content: 'hi' } }] }));
    };
    const { data, response } = await client.chat.completions.create(ask).withResponse();
    expect(data.choices[0]?.message.content).toBe('hi');
    expect([response.headers.get('x-request-id'), response.headers.get('x-decision-id')]).toEqual(['req_1', 'dec_1']);
    expect(JSON.parse(bodies[0] ?? '')).toEqual(ask);
    expect(requests[0]?.url).toBe('/v1/chat/completions');
    expect(requests[0]?.headers).toMatchObject({ authorization: 'Bearer upstream-key', 'x-auth-user': 'alice' });
    expect(JSON.stringify(requests[0]?.rawHeaders)).not.toContain('client-key');
  });

  test('reads a stream event by event', async () => {
    const resume = Promise.withResolvers<void>();
    upstream = async (_request, response) => {
      startStream(response, 'one');
      await resume.promise;
      response.write(`data: ${JSON.stringify(say(' two é😀'))}\n\n`);
      response.end('data: [DONE]\n\n');
    };
    const words: string[] = [];
    for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
      words.push(chunk.choices[0]?.delta.content ?? '');
      // The second word is only sent once the first has arrived: nothing waits for the end of the stream.
      resume.resolve();
    }
    expect(words).toEqual(['one', ' two é😀']);
  });

  test.each([
    ['between two events', ''],
    ['inside an event', 'data: {"id":"c1","choi'],
  ])('never takes a stream that broke %s for a whole one', async (_name, partial) => {
    upstream = (_request, response) => {
      startStream(response, 'one');
      response.write(partial, () => response.destroy());
    };
    const words: string[] = [];
    const failure = await client.chat.completions.create({ ...ask, stream: true }).then(async (stream) => {
      try {
        for await (const chunk of stream) words.push(chunk.choices[0]?.delta.content ?? '');
        return null;
      } catch (thrown) {
        return thrown;
      }
    });
    expect(words).toEqual(['one']);
    expect(failure).toBeInstanceOf(Error);
  });

  test('cancels the upstream when it stops reading', async () => {
    const cancelled = Promise.withResolvers<void>();
    upstream = (_request, response) => {
      response.on('close', () => cancelled.resolve());
      startStream(response, 'one');
    };
    const stream = await client.chat.completions.create({ ...ask, stream: true });
    for await (const _chunk of stream) break;
    await cancelled.promise;
  });

  test('sees a policy refusal once, with code, reasons and ids, and nothing reaches the upstream', async () => {
    decide = () => ({
      allow: false,
      deny: [{ package: 'secret.package', code: 'MODEL_NOT_GRANTED', message: 'Not for you', severity: 'high' }],
    });
    const error = await failureOf(client.chat.completions.create(ask));
    expect([error.status, error.code, error.type]).toEqual([403, 'POLICY_DENIED', 'permission_error']);
    expect(error.message).toContain('Not for you');
    expect(JSON.stringify(error.error)).not.toContain('secret.package');
    expect([received, requests.length]).toEqual([1, 0]);
    expect(ends[0]?.decisions).toHaveLength(1);
  });

  test.each<[Decision['failure'], number, string]>([
    ['no_bundle', 503, 'POLICY_UNAVAILABLE'],
    ['timeout', 500, 'POLICY_EVALUATION_ERROR'],
  ])('does not repeat a request whose decision failed with %s', async (failure, status, code) => {
    decide = () => ({ allow: false, failure });
    const error = await failureOf(client.chat.completions.create(ask));
    expect([error.status, error.code, received]).toEqual([status, code, 1]);
  });

  test('is told of a model that does not exist', async () => {
    const error = await failureOf(client.chat.completions.create({ ...ask, model: 'gpt-none' }));
    expect([error.status, error.code, error.param]).toEqual([404, 'model_not_found', 'model']);
  });

  test('lists only the models its caller may use', async () => {
    decide = (call) => ({ allow: call.llm?.model !== 'hidden' });
    const ids: string[] = [];
    for await (const model of client.models.list()) ids.push(model.id);
    expect(ids).toEqual(['gpt-test', 'embed-test']);
    expect((await client.models.retrieve('gpt-test')).owned_by).toBe('main');
    expect((await failureOf(client.models.retrieve('hidden'))).code).toBe('model_not_found');
    expect(requests).toHaveLength(0);
  });

  test('gets embeddings', async () => {
    upstream = (_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end('{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,1]}]}');
    };
    const answer = await client.embeddings.create({ model: 'embed-test', input: 'x', encoding_format: 'float' });
    expect(answer.data[0]?.embedding).toEqual([0.5, 1]);
    expect(requests[0]?.url).toBe('/v1/embeddings');
  });

  test('passes the upstream’s own errors through', async () => {
    upstream = (_request, response) => {
      response.writeHead(400, { 'content-type': 'application/json' });
      response.end('{"error":{"message":"too long","type":"invalid_request_error","code":"context_length_exceeded"}}');
    };
    expect((await failureOf(client.chat.completions.create(ask))).code).toBe('context_length_exceeded');
  });

  test('repeats a request that the upstream dropped, and each attempt is decided anew', async () => {
    upstream = (request) => request.socket.destroy();
    client = client.withOptions({ maxRetries: 1 });
    const error = await failureOf(client.chat.completions.create(ask));
    expect(error).not.toBeInstanceOf(APIConnectionError);
    expect([error.status, error.code, received]).toEqual([502, 'UPSTREAM_ERROR', 2]);
  });
});
