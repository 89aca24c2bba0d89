import OpenAI, { APIUserAbortError, AuthenticationError, NotFoundError, PermissionDeniedError } from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TestGateway } from '../helpers/gateway.ts';
import { leading, startGateway } from '../helpers/gateway.ts';
import type { Example } from '../helpers/processes.ts';
import { startExample } from '../helpers/processes.ts';
import type { Recorder } from '../helpers/upstreams.ts';
import { record } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

const SMALL_KEY = 'upstream-key-of-the-small-model-5fK2';
const LARGE_KEY = 'upstream-key-of-the-large-model-9cQ8';
let examples: Example[];
let small: Recorder;
let large: Recorder;
let gateway: TestGateway;
let developer: string;

beforeAll(async () => {
  examples = await Promise.all([
    startExample('model-server', { MODEL_KEY: SMALL_KEY }),
    startExample('model-server', { MODEL_KEY: LARGE_KEY }),
  ]);
  small = await record(examples[0]?.url ?? '');
  large = await record(examples[1]?.url ?? '');
  gateway = await startGateway({
    models: {
      small: { url: small.url, credential: SMALL_KEY },
      large: { url: large.url, credential: LARGE_KEY, serves: ['large-1', 'large-1-mini'] },
    },
    routes: [{ match: '/v1', protocol: 'llm', models: ['small', 'large'], identity: ['keys'] }],
  });
  developer = await gateway.key('developer');
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  for (const recorder of [small, large]) await recorder?.[Symbol.asyncDispose]();
  await Promise.all((examples ?? []).map((example) => example.crash()));
});

/** The public client as its users have it: base URL and key, default retries. Counts what it sends. */
function client(key: string): { readonly openai: OpenAI; sent(): number } {
  let sent = 0;
  const counting: typeof fetch = (...args) => {
    sent++;
    return fetch(...args);
  };
  return { openai: new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: key, fetch: counting }), sent: () => sent };
}

const question = (content: string) => [{ role: 'user' as const, content }];

describe('the public OpenAI client', () => {
  test('chats, whole and streamed, with the same words', async () => {
    const { openai } = client(developer);
    const messages = question('What is a portcullis?');
    const whole = await openai.chat.completions.create({ model: 'small', messages });
    const stream = await openai.chat.completions.create({
      model: 'small',
      messages,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = '';
    let tokens = 0;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? '';
      tokens = chunk.usage?.completion_tokens ?? tokens;
    }
    expect(whole.choices[0]?.message.content).toMatch(/^the /);
    expect(text).toBe(whole.choices[0]?.message.content);
    expect(tokens).toBe(whole.usage?.completion_tokens);
  });

  test('gets embeddings and the list of models it may use', async () => {
    const { openai } = client(developer);
    const embeddings = await openai.embeddings.create({ model: 'small', input: ['gate', 'guard'] });
    expect(embeddings.data).toHaveLength(2);
    expect(embeddings.data[0]?.embedding.length).toBeGreaterThan(10);
    const models: string[] = [];
    for await (const model of openai.models.list()) models.push(model.id);
    expect(models).toEqual(['small', 'large-1', 'large-1-mini']);
    expect((await openai.models.retrieve('large-1')).owned_by).toBe('large');
  });

  test('reaches each model by its name, each with the credential of its upstream and never its own', async () => {
    verifies('X-02');
    const { openai } = client(developer);
    const marker = 'only the large one hears this';
    const { request_id } = await openai.chat.completions
      .create({ model: 'large-1-mini', messages: question(marker) })
      .withResponse();
    expect(large.sent()).toContain(marker);
    expect(small.sent()).not.toContain(marker);
    expect(large.header('x-request-id')).toContain(request_id);
    expect(new Set(large.header('authorization'))).toEqual(new Set([`Bearer ${LARGE_KEY}`]));
    expect(new Set(small.header('authorization'))).toEqual(new Set([`Bearer ${SMALL_KEY}`]));
    expect(new Set(large.header('x-auth-user'))).toEqual(new Set(['user-developer']));
    expect(small.sent() + large.sent()).not.toContain(developer);
  });

  test('is refused for a role without the right, once and without retries', async () => {
    const { openai, sent } = client(await gateway.key('viewer'));
    const denied = openai.chat.completions.create({ model: 'small', messages: question('a viewer asks') });
    await expect(denied).rejects.toThrow(PermissionDeniedError);
    await expect(denied).rejects.toMatchObject({
      status: 403,
      code: 'POLICY_DENIED',
      type: 'permission_error',
      requestID: expect.stringMatching(/^req_/),
    });
    expect(sent()).toBe(1);
    expect(small.sent()).not.toContain('a viewer asks');
  });

  test('is told apart what is wrong: the key, the model, the request', async () => {
    const stranger = client(`${developer.slice(0, -3)}abc`);
    await expect(stranger.openai.models.list()).rejects.toThrow(AuthenticationError);
    expect(stranger.sent()).toBe(1);
    const { openai } = client(developer);
    const unknown = openai.chat.completions.create({ model: 'huge', messages: question('?') });
    await expect(unknown).rejects.toThrow(NotFoundError);
    await expect(unknown).rejects.toMatchObject({ code: 'model_not_found', param: 'model' });
  });

  test('takes the upstream request with it when it leaves a stream', async () => {
    verifies('X-06');
    const { openai } = client(developer);
    const marker = 'a question whose answer nobody waits for';
    const leave = new AbortController();
    const { data, request_id } = await openai.chat.completions
      .create(
        { model: 'small', messages: question(marker), stream: true, max_completion_tokens: 400 },
        { signal: leave.signal },
      )
      .withResponse();
    let pieces = 0;
    const reading = (async () => {
      for await (const _ of data) if (++pieces === 2) leave.abort();
    })();
    await reading.catch((error: unknown) => expect(error).toBeInstanceOf(APIUserAbortError));
    await small.until((seen) => !seen.isOpen(marker));
    const events = await gateway.audited((all) => all.some((event) => event.request_id === request_id));
    expect(leading(events).filter((event) => event.request_id === request_id)).toHaveLength(1);
  });

  test('leaves the breaker alone by leaving', async () => {
    verifies('X-06');
    const { openai } = client(developer);
    const messages = question('hello, goodbye');
    for (let i = 0; i < 8; i++) {
      const leave = new AbortController();
      const stream = await openai.chat.completions.create(
        { model: 'large-1', messages, stream: true },
        { signal: leave.signal },
      );
      leave.abort();
      await stream[Symbol.asyncIterator]()
        .next()
        .catch(() => undefined);
    }
    const answer = await openai.chat.completions.create({ model: 'large-1', messages });
    expect(answer.object).toBe('chat.completion');
  });
});
