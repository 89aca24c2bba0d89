/**
 * A small language model behind the OpenAI wire format, for trying the gateway out without a network: it answers with
 * word pairs learnt from the text below. It makes little sense, but it streams, counts tokens and asks for its key.
 *
 *     MODEL_KEY=… node examples/model-server.ts 7003
 */
import { hash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { serve } from './serve.ts';

const TEXT = `a portcullis is a heavy gate that falls when the guard says so and rises when the guard says so . the guard
asks who you are and what you want before the gate rises . a gateway asks the same of an agent : who are you , what do you
want , and may you have it now . when nobody knows the answer the gate stays down . every question and every answer is
written in the book , and the book is kept . an agent that asks for a list sees what it may use . an agent that asks for
more is told why not . the gate is quick , for a slow gate is left open .`;

const MODEL = 'tiny-gate';
const pairs = new Map<string, string[]>();
const words = TEXT.split(/\s+/);
for (let i = 0; i + 1 < words.length; i++) {
  const word = words[i] ?? '';
  pairs.set(word, [...(pairs.get(word) ?? []), words[i + 1] ?? '.']);
}

/** Words for a prompt: the same prompt gives the same answer. */
function* answer(prompt: string, limit: number): Generator<string> {
  const digest = hash('sha256', prompt, 'buffer');
  let word = 'the';
  for (let i = 0; i < limit; i++) {
    yield i === 0 ? word : ` ${word}`;
    const next = pairs.get(word) ?? ['the'];
    word = next[(digest[i % 32] ?? 0) % next.length] ?? 'the';
    if (word === '.' && i > 12) return yield ' .';
  }
}

interface ChatBody {
  model?: string;
  stream?: boolean;
  stream_options?: { include_usage?: boolean };
  max_tokens?: number;
  max_completion_tokens?: number;
  messages?: { role: string; content: unknown }[];
  input?: string | string[];
}

const count = (value: unknown) => JSON.stringify(value ?? '').split(/\W+/).length;

function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

const refuse = (response: ServerResponse, status: number, message: string, code: string) =>
  json(response, status, { error: { message, type: 'invalid_request_error', param: null, code } });

async function chat(body: ChatBody, response: ServerResponse): Promise<void> {
  const prompt = JSON.stringify(body.messages ?? []);
  const limit = Math.min(body.max_completion_tokens ?? body.max_tokens ?? 40, 400);
  const id = `chatcmpl-${hash('sha256', prompt).slice(0, 24)}`;
  const created = Math.floor(Date.now() / 1000);
  const parts = [...answer(prompt, limit)];
  const finish = parts.length < limit ? 'stop' : 'length';
  const usage = {
    prompt_tokens: count(body.messages),
    completion_tokens: parts.length,
    total_tokens: count(body.messages) + parts.length,
  };
  if (!body.stream) {
    const message = { role: 'assistant', content: parts.join(''), refusal: null };
    const choices = [{ index: 0, message, finish_reason: finish, logprobs: null }];
    return json(response, 200, { id, object: 'chat.completion', created, model: MODEL, choices, usage });
  }
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
  const send = (choices: unknown[], extra: object = {}) =>
    response.write(
      `data: ${JSON.stringify({ id, object: 'chat.completion.chunk', created, model: MODEL, choices, ...extra })}\n\n`,
    );
  send([{ index: 0, delta: { role: 'assistant', content: '' }, finish_reason: null }]);
  for (const part of parts) {
    if (response.destroyed) return;
    send([{ index: 0, delta: { content: part }, finish_reason: null }]);
    await pause(15);
  }
  send([{ index: 0, delta: {}, finish_reason: finish }]);
  if (body.stream_options?.include_usage) send([], { usage });
  response.end('data: [DONE]\n\n');
}

function embeddings(body: ChatBody, response: ServerResponse): void {
  const inputs = Array.isArray(body.input) ? body.input : [body.input ?? ''];
  const data = inputs.map((input, index) => {
    const digest = hash('sha512', input, 'buffer');
    return { object: 'embedding', index, embedding: Array.from(digest, (byte) => (byte - 127.5) / 127.5) };
  });
  const tokens = inputs.reduce((sum, input) => sum + count(input), 0);
  json(response, 200, { object: 'list', data, model: MODEL, usage: { prompt_tokens: tokens, total_tokens: tokens } });
}

async function read(request: IncomingMessage): Promise<ChatBody> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return JSON.parse(Buffer.concat(chunks).toString('utf8')) as ChatBody;
}

async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const key = process.env.MODEL_KEY;
  if (key !== undefined && request.headers.authorization !== `Bearer ${key}`) {
    return refuse(response, 401, 'Incorrect API key provided.', 'invalid_api_key');
  }
  if (request.url === '/v1/models') {
    const model = { id: MODEL, object: 'model', created: 1_767_225_600, owned_by: 'portcullis-examples' };
    return json(response, 200, { object: 'list', data: [model] });
  }
  const body = request.method === 'POST' ? await read(request) : {};
  if (request.url === '/v1/chat/completions') return chat(body, response);
  if (request.url === '/v1/embeddings') return embeddings(body, response);
  return refuse(response, 404, `Unknown path ${request.url ?? ''}`, 'not_found');
}

await serve((request, response) => {
  handle(request, response).catch(() => refuse(response, 400, 'The body is not JSON.', 'invalid_json'));
}, '/v1');
