/**
 * What policy may know of a model request. Only facts that rules can use leave the body: names, numbers and switches,
 * never the contents of messages. Source: llm 6.3, contracts 3 (Bytes).
 */
import type { Call, LlmFacts } from '../../core/call.ts';
import { GatewayError } from '../../core/errors.ts';
import type { JsonObject, JsonValue } from '../../core/json.ts';
import { isJsonObject } from '../../core/json.ts';
import type { ModelEntry } from './models.ts';

/** Members that reach policy in `parameters` when they are plain values. */
const PLAIN = [
  'model',
  'stream',
  'max_tokens',
  'max_completion_tokens',
  'max_output_tokens',
  'n',
  'best_of',
  'temperature',
  'top_p',
  'seed',
  'store',
  'service_tier',
  'reasoning_effort',
  'parallel_tool_calls',
  'user',
  'dimensions',
  'encoding_format',
] as const;

/** Members on which a decision depends: an upstream that ignores case must not read another value than the gateway. */
const DECISIVE = new Set<string>([
  ...PLAIN,
  ...['messages', 'input', 'tools', 'functions', 'tool_choice', 'function_call', 'models', 'fallbacks'],
]);

/** Members by which some upstreams turn to another model than the one that was decided on. */
const OTHER_MODELS = ['models', 'fallbacks'] as const;

const MAX_MODEL = 256;
const MAX_TEXT = 256;

const bad = (param: string, message: string): GatewayError =>
  new GatewayError('INVALID_REQUEST', { message: `${param}: ${message}`, details: { param } });

/** The body as an object, with the name of the model. Throws INVALID_REQUEST that names the member. */
export function readRequest(value: JsonValue): { readonly body: JsonObject; readonly model: string } {
  if (!isJsonObject(value)) throw new GatewayError('INVALID_REQUEST', { message: 'The body has to be a JSON object' });
  for (const key in value) {
    if (!DECISIVE.has(key) && DECISIVE.has(folded(key))) throw bad(folded(key), 'is spelled in another case as well');
  }
  for (const member of OTHER_MODELS) {
    if (Object.hasOwn(value, member)) throw bad(member, 'a request names one model, in "model"');
  }
  const { model } = value;
  if (typeof model !== 'string' || model === '') throw bad('model', 'a model name is required');
  if (model.length > MAX_MODEL) throw bad('model', `at most ${MAX_MODEL} characters`);
  return { body: value, model };
}

/** As case-insensitive parsers compare: also U+017F with s and U+212A with k. */
const folded = (key: string): string => key.toUpperCase().toLowerCase();

/** Facts of `POST /chat/completions`. */
export function chatFacts(body: JsonObject, model: string, entry: ModelEntry): LlmFacts {
  const { messages } = body;
  if (!Array.isArray(messages) || messages.length === 0) throw bad('messages', 'a list with at least one message');
  return {
    model,
    resolved_model: entry.name,
    stream: readSwitch(body, 'stream'),
    max_tokens: answerLength(body),
    message_count: messages.length,
    tools: toolNames(body),
  };
}

/** Facts of `POST /embeddings`; `message_count` counts the inputs. */
export function embeddingFacts(body: JsonObject, model: string, entry: ModelEntry): LlmFacts {
  const { input } = body;
  if (typeof input !== 'string' && !Array.isArray(input)) throw bad('input', 'a text or a list is required');
  return {
    model,
    resolved_model: entry.name,
    stream: false,
    max_tokens: null,
    message_count: Array.isArray(input) ? input.length : 1,
    tools: [],
  };
}

/** The call to decide. `parameters` holds the plain members and the names of tools. */
export function llmCall(action: Call['action'], body: JsonObject, facts: LlmFacts, entry: ModelEntry): Call {
  const parameters: Record<string, JsonValue> = {};
  for (const name of PLAIN) {
    const value = Object.hasOwn(body, name) ? body[name] : undefined;
    if (value === undefined || (typeof value === 'object' && value !== null)) continue;
    parameters[name] = typeof value === 'string' ? value.slice(0, MAX_TEXT) : value;
  }
  if (facts.tools.length > 0) parameters.tools = facts.tools;
  return {
    action,
    server: null,
    tool: null,
    parameters,
    annotations: null,
    schema_hash: null,
    resource: { type: 'model', id: entry.name, tenant_id: null, owner_id: null, permissions: null },
    llm: facts,
  };
}

/**
 * The most tokens that may be generated. Several members name the length; an upstream may read any, so the largest
 * counts, and it counts for each of the answers that are asked for.
 */
function answerLength(body: JsonObject): number | null {
  const lengths = [
    readCount(body, 'max_tokens'),
    readCount(body, 'max_completion_tokens'),
    readCount(body, 'max_output_tokens'),
  ];
  const answers = Math.max(readCount(body, 'n') ?? 1, readCount(body, 'best_of') ?? 1);
  const given = lengths.filter((length) => length !== null);
  return given.length === 0 ? null : Math.min(Math.max(...given) * answers, Number.MAX_SAFE_INTEGER);
}

function readCount(body: JsonObject, name: string): number | null {
  const value = Object.hasOwn(body, name) ? body[name] : undefined;
  if (value === undefined || value === null) return null;
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1) throw bad(name, 'a positive integer');
  return value;
}

function readSwitch(body: JsonObject, name: string): boolean {
  const value = Object.hasOwn(body, name) ? body[name] : undefined;
  if (value === undefined || value === null) return false;
  if (typeof value !== 'boolean') throw bad(name, 'true or false');
  return value;
}

/** Names of the tools on offer, in the present and the deprecated form; a tool without a name shows its type. */
function toolNames(body: JsonObject): readonly string[] {
  const names: string[] = [];
  for (const member of ['tools', 'functions']) {
    const list = Object.hasOwn(body, member) ? body[member] : undefined;
    if (list === undefined || list === null) continue;
    if (!Array.isArray(list)) throw bad(member, 'a list');
    for (const tool of list) names.push(toolName(tool as JsonValue, member));
  }
  return names;
}

function toolName(tool: JsonValue, member: string): string {
  if (!isJsonObject(tool)) throw bad(member, 'a list of objects');
  const inner = isJsonObject(tool.function) ? tool.function : isJsonObject(tool.custom) ? tool.custom : tool;
  const name = inner.name ?? tool.type;
  if (typeof name !== 'string') throw bad(member, 'each tool needs a name');
  return name.slice(0, MAX_TEXT);
}
