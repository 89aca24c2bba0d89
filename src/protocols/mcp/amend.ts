/**
 * What obligations change about an MCP message: its arguments (and with them the headers that repeat arguments), and
 * what is let through of the answer. Source: design 2.5, mcp 1.4 (SEP-2243).
 */
import type { Amendment, Message, UpstreamPlan } from '../../core/exchange.ts';
import type { JsonObject, JsonValue } from '../../core/json.ts';
import { isJsonObject } from '../../core/json.ts';
import { parseStrict } from '../json.ts';
import { clampMembers, foldNames, hasMember, RedactingRewriter, withoutMembers } from '../redaction.ts';
import type { ToolCatalog } from './catalog.ts';
import { encodeMirror, MODERN_VERSION, valueAt } from './era.ts';

/** The amended message, or null when it cannot be amended in that way. */
export function amendMessage(catalog: ToolCatalog, message: Message, amendment: Amendment): Message | null {
  const { plan } = message;
  if (plan.kind !== 'upstream') return null;
  const changed = amendRequest(catalog, message, plan, amendment);
  if (changed === null || amendment.hidden.length === 0) return changed;
  const target = changed.plan as UpstreamPlan;
  const rewrite = new RedactingRewriter(amendment.hidden, 'json-rpc', target.rewrite);
  return { ...changed, plan: { ...target, rewrite } };
}

function amendRequest(
  catalog: ToolCatalog,
  message: Message,
  plan: UpstreamPlan,
  amendment: Amendment,
): Message | null {
  const { removed, ceilings } = amendment;
  if (message.body === null || (removed.length === 0 && ceilings.size === 0)) return message;
  // The bytes were read before: this cannot fail.
  const body = parseStrict(message.body) as JsonObject;
  const next = amendBody(body, foldNames(removed), ceilings);
  if (next === null) return null;
  const headers = mirroredHeaders(catalog, message, plan.headers, next);
  if (headers === null) return null;
  if (next === body) return message;
  return { ...message, body: Buffer.from(JSON.stringify(next)), plan: { ...plan, headers } };
}

function amendBody(
  body: JsonObject,
  names: ReadonlySet<string>,
  ceilings: ReadonlyMap<string, number>,
): JsonObject | null {
  const { method, params, result } = body;
  // A client's answer to its server: what the user filled in.
  if (method === undefined)
    return result === undefined ? body : replaced(body, 'result', withoutMembers(result, names));
  if (!isJsonObject(params)) return body;
  switch (method) {
    case 'tools/call': {
      const given = isJsonObject(params.arguments) ? params.arguments : {};
      const next = clampMembers(withoutMembers(given, names), ceilings);
      return next === null ? null : next === given ? body : withArguments(body, params, next);
    }
    case 'prompts/get': {
      const given = params.arguments ?? {};
      // Arguments of prompts are texts; there is no number to cap.
      if (hasMember(given, foldNames(ceilings.keys()))) return null;
      const next = withoutMembers(given, names);
      return next === given ? body : withArguments(body, params, next);
    }
    case 'completion/complete':
      return completes(params, names) ? null : body;
    default:
      return body;
  }
}

/** The argument that is being completed, and those already filled in, are what the obligation speaks of. */
function completes(params: JsonObject, names: ReadonlySet<string>): boolean {
  const { argument } = params;
  const name = isJsonObject(argument) ? argument.name : undefined;
  const isNamed = typeof name === 'string' && hasMember({ [name]: null }, names);
  return isNamed || hasMember(params.context ?? null, names);
}

function withArguments(body: JsonObject, params: JsonObject, next: JsonValue): JsonObject {
  return { ...body, params: { ...params, arguments: next } };
}

function replaced(body: JsonObject, member: string, next: JsonValue): JsonObject {
  return next === body[member] ? body : { ...body, [member]: next };
}

const PARAM_HEADER = 'mcp-param-';

/**
 * The headers with those that repeat arguments made anew. Null when there is one of which nobody knows what it repeats:
 * it could carry on what the body no longer holds.
 */
function mirroredHeaders(
  catalog: ToolCatalog,
  message: Message,
  headers: Readonly<Record<string, string>>,
  body: JsonObject,
): Readonly<Record<string, string>> | null {
  const repeating = Object.keys(headers).filter((name) => name.startsWith(PARAM_HEADER));
  const [call] = message.calls;
  const { server = null, tool = null } = call ?? {};
  const mirrored = server === null || tool === null ? null : catalog.get(server, tool)?.mirrored;
  if (repeating.some((name) => !mirrored?.some(({ header }) => header === name))) return null;
  const isModern = headers['mcp-protocol-version'] === MODERN_VERSION;
  const next: Record<string, string> = { ...headers };
  const given = isJsonObject(body.params) ? body.params.arguments : undefined;
  for (const { header, path } of mirrored ?? []) {
    const value = valueAt(given, path);
    if (value === undefined || value === null) delete next[header];
    else if (isModern) next[header] = encodeMirror(String(value));
  }
  return next;
}
