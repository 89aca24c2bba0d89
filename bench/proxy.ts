/** P1, P2, P3 of docs/performance.md: CPU per request of each contender, interleaved so that drift hits all alike. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { BenchGateway } from './gateway.ts';
import { startBare, startFull } from './gateway.ts';
import type { Payload, Sample } from './load.ts';
import { load } from './load.ts';
import type { Contender } from './processes.ts';
import { freePort, startProgram, startScript } from './processes.ts';
import type { Row } from './report.ts';
import { startHaproxy, startNginxProxy, startUpstream } from './upstream.ts';

export interface Effort {
  readonly seconds: number;
  readonly rounds: number;
}

/** After 2 s the compiler's threads still take a third of a gateway's CPU, and the first round would measure them. */
const WARM_UP_SECONDS = 10;

interface Entry {
  readonly contender: Contender;
  readonly payload: Payload;
}

const JSON_HEADERS = { 'content-type': 'application/json' };
const QUERY = 'SELECT id, customer, total FROM orders WHERE id = 7';

function toolCall(query: string, gateway?: BenchGateway): Payload {
  const message = {
    jsonrpc: '2.0',
    id: 1,
    method: 'tools/call',
    params: { name: 'execute_query', arguments: { query } },
  };
  return {
    path: gateway ? '/mcp/orders' : '/mcp',
    headers: {
      ...JSON_HEADERS,
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': '2025-11-25',
      ...(gateway?.authorization ? { authorization: gateway.authorization } : {}),
    },
    body: JSON.stringify(message),
  };
}

const CHAT_BODY = JSON.stringify({
  model: 'tiny-gate',
  messages: [
    { role: 'system', content: 'You answer in one sentence.' },
    { role: 'user', content: 'What does a portcullis do when nobody knows the answer?' },
  ],
  temperature: 0.2,
  max_tokens: 64,
});

const chat = (headers: Readonly<Record<string, string>> = {}): Payload => ({
  path: '/v1/chat/completions',
  headers: { ...JSON_HEADERS, ...headers },
  body: CHAT_BODY,
});

/** Starts what is there; a line says what is missing. */
async function optional(
  start: () => Promise<Contender>,
  stack: AsyncDisposableStack,
  say: (line: string) => void,
): Promise<Contender[]> {
  try {
    return [stack.use(await start())];
  } catch (error) {
    say(`skipped: ${error instanceof Error ? error.message : String(error)}`);
    return [];
  }
}

async function startPortkey(): Promise<Contender> {
  const folder = join(import.meta.dirname, 'contenders/node_modules/@portkey-ai/gateway');
  if (!existsSync(folder)) throw new Error('Portkey is not installed (npm ci --prefix bench/contenders)');
  const port = await freePort();
  const command = [process.execPath, join(folder, 'build/start-server.js'), '--headless', `--port=${port}`];
  return startProgram('Portkey 1.15.2', command, `http://127.0.0.1:${port}`, { env: { NODE_ENV: 'production' } });
}

async function measure(
  lane: string,
  entries: readonly Entry[],
  effort: Effort,
  say: (line: string) => void,
): Promise<Row[]> {
  const samples = new Map<Contender, Sample[]>(entries.map(({ contender }) => [contender, []]));
  for (const { contender, payload } of entries) await load(contender, payload, WARM_UP_SECONDS);
  for (let round = 1; round <= effort.rounds; round++) {
    say(`${lane}: round ${round} of ${effort.rounds}`);
    for (const { contender, payload } of entries) {
      samples.get(contender)?.push(await load(contender, payload, effort.seconds));
    }
  }
  return entries.map(({ contender }) => ({ lane, name: contender.name, samples: samples.get(contender) ?? [] }));
}

/** tools/call, full configuration: decision cached, decision not cached, and everything seen for the first time. */
export async function toolLane(effort: Effort, say: (line: string) => void): Promise<Row[]> {
  await using stack = new AsyncDisposableStack();
  const upstream = stack.use(await startUpstream());
  const floor = stack.use(await startScript('floor', join(import.meta.dirname, 'floor.ts'), [upstream.url]));
  const cached = stack.use(await startFull(upstream.url, { decisionCache: true }));
  const uncached = stack.use(await startFull(upstream.url, { decisionCache: false }));
  const fresh = { ...cached, name: 'Portcullis, full, first sight of every query' };
  const plain = [
    ...(await optional(() => startNginxProxy(upstream.url), stack, say)),
    ...(await optional(() => startHaproxy(upstream.url), stack, say)),
  ];
  const entries: Entry[] = [
    { contender: floor, payload: toolCall(QUERY) },
    { contender: cached, payload: toolCall(QUERY, cached) },
    { contender: uncached, payload: toolCall(QUERY, uncached) },
    { contender: fresh, payload: { ...toolCall(QUERY.replace('7', '770077'), cached), unique: '770077' } },
    ...plain.map((contender) => ({ contender, payload: toolCall(QUERY) })),
  ];
  // Awaited here: the contenders are stopped when this function ends.
  return await measure('tools/call', entries, effort, say);
}

/** chat/completions, bare and full, beside Portkey. */
export async function chatLane(effort: Effort, say: (line: string) => void): Promise<Row[]> {
  await using stack = new AsyncDisposableStack();
  const upstream = stack.use(await startUpstream());
  const floor = stack.use(await startScript('floor', join(import.meta.dirname, 'floor.ts'), [upstream.url]));
  const bare = stack.use(await startBare(upstream.url));
  const full = stack.use(await startFull(upstream.url, { decisionCache: true }));
  const portkey = await optional(startPortkey, stack, say);
  const portkeyHeaders = {
    'x-portkey-provider': 'openai',
    'x-portkey-custom-host': `${upstream.url}/v1`,
    authorization: 'Bearer none',
  };
  const entries: Entry[] = [
    { contender: floor, payload: chat() },
    { contender: bare, payload: chat() },
    { contender: full, payload: chat(full.authorization ? { authorization: full.authorization } : {}) },
    ...portkey.map((contender) => ({ contender, payload: chat(portkeyHeaders) })),
  ];
  // Awaited here: the contenders are stopped when this function ends.
  return await measure('chat/completions', entries, effort, say);
}
