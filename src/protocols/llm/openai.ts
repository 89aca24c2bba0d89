/**
 * The OpenAI wire format under a route's match: chat completions and embeddings go upstream byte for byte, the model
 * list is answered here. Source: contracts 2, llm 6.
 */
import type { Action } from '../../core/call.ts';
import { GatewayError } from '../../core/errors.ts';
import type { Admitted, Message } from '../../core/exchange.ts';
import type { Route } from '../../core/route.ts';
import { readBody } from '../body.ts';
import { parseStrict } from '../json.ts';
import type { Protocol } from '../protocol.ts';
import { amendOpenAi } from './amend.ts';
import { encodeOpenAiError, encodeOpenAiStreamError } from './errors.ts';
import { listModels, ModelCatalog, type ModelEntry } from './models.ts';
import { chatFacts, embeddingFacts, llmCall, readRequest } from './request.ts';

export interface OpenAiProtocolOptions {
  /** Every configured model by its name in the configuration. */
  readonly models: ReadonlyMap<string, ModelEntry>;
}

interface Operation {
  readonly path: string;
  readonly action: Action;
  readonly facts: typeof chatFacts;
}

const OPERATIONS: readonly Operation[] = [
  { path: '/chat/completions', action: 'llm:chat:create', facts: chatFacts },
  { path: '/embeddings', action: 'llm:embeddings:create', facts: embeddingFacts },
];

/** All that an upstream model needs to know of the caller's headers. Nothing that names or proves who the caller is. */
const FORWARDED = ['content-type', 'accept', 'idempotency-key', 'traceparent', 'tracestate'] as const;

/** One protocol for all LLM routes. */
export function createOpenAiProtocol({ models }: OpenAiProtocolOptions): Protocol {
  const catalogs = new WeakMap<Route, ModelCatalog>();
  const catalogOf = (route: Route): ModelCatalog => {
    let catalog = catalogs.get(route);
    if (catalog === undefined) {
      catalog = new ModelCatalog(route.models.flatMap((name) => models.get(name) ?? []));
      catalogs.set(route, catalog);
    }
    return catalog;
  };
  return {
    decode: (exchange) => decodeOpenAi(exchange, catalogOf(exchange.route)),
    encodeError: (error, context) => encodeOpenAiError(error, context),
    encodeStreamError: encodeOpenAiStreamError,
    amend: ({ message }, amendment) => amendOpenAi(message, amendment),
  };
}

async function decodeOpenAi(exchange: Admitted, catalog: ModelCatalog): Promise<Message> {
  const { received, route } = exchange;
  const path = received.path.slice(route.match === '/' ? 0 : route.match.length);
  if (path === '/models' || path.startsWith('/models/')) {
    requireMethod(exchange, 'GET');
    return listModels(catalog, path === '/models' ? null : modelInPath(path.slice('/models/'.length)));
  }
  const operation = OPERATIONS.find((one) => one.path === path);
  if (operation === undefined) throw new GatewayError('ROUTE_NOT_FOUND', { message: 'No such LLM endpoint' });
  requireMethod(exchange, 'POST');
  requireJson(received.headers['content-type']);
  const bytes = await readBody(received, route.limits.body_bytes);
  return createMessage(operation, exchange, catalog, bytes);
}

function createMessage(operation: Operation, exchange: Admitted, catalog: ModelCatalog, bytes: Buffer): Message {
  const { body, model } = readRequest(parseStrict(bytes));
  const entry = catalog.resolve(model);
  const facts = operation.facts(body, model, entry);
  return {
    calls: [llmCall(operation.action, body, facts, entry)],
    mode: 'all',
    body: bytes,
    dialect: 'openai',
    rpcId: undefined,
    plan: {
      kind: 'upstream',
      upstream: entry.name,
      method: 'POST',
      // The caller's query is not sent on: nothing in it was looked at.
      path: entry.basePath + operation.path,
      headers: forwardedHeaders(exchange.received.headers),
      rewrite: null,
    },
  };
}

function forwardedHeaders(headers: Readonly<Record<string, string>>): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const name of FORWARDED) {
    const value = headers[name];
    if (value !== undefined) kept[name] = value;
  }
  return kept;
}

function requireMethod({ received }: Admitted, allow: 'GET' | 'POST'): void {
  if (received.method !== allow) throw new GatewayError('METHOD_NOT_ALLOWED', { details: { allow } });
}

/** Another type or charset could make an upstream read other members than were decided on. */
function requireJson(contentType: string | undefined): void {
  const [type, ...parameters] = (contentType ?? '').split(';').map((part) => part.trim().toLowerCase());
  const isUtf8 = parameters.every((part) => !part.startsWith('charset=') || /^charset="?utf-?8"?$/.test(part));
  if (type === 'application/json' && isUtf8) return;
  throw new GatewayError('UNSUPPORTED_MEDIA_TYPE', { message: 'The body has to be application/json in UTF-8' });
}

function modelInPath(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new GatewayError('INVALID_REQUEST', { message: 'The model name in the path is not well-formed' });
  }
}
