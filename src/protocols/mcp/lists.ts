/** Shows of a list only what the caller may discover; one judgement for the whole list. Source: contracts 2, mcp 1.4 (Caching). */
import type { Decision } from '../../core/decision.ts';
import type { Admitted, Judge } from '../../core/exchange.ts';
import type { JsonObject, JsonValue } from '../../core/json.ts';
import { isJsonObject } from '../../core/json.ts';
import type { Seen } from './calls.ts';
import { itemCall } from './calls.ts';
import type { ListSpec } from './methods.ts';

export interface ListContext extends Seen {
  readonly exchange: Admitted;
  readonly server: string;
  readonly judge: Judge;
  readonly isModern: boolean;
}

/** Listed if the caller may use it at least in some way: what has to be done for a call is decided at the call. */
function isListed(decision: Decision | undefined): boolean {
  return decision?.allow === true && decision.failure === null;
}

/** The result to show instead, or null when everything in it may be shown as it is. */
export function filterList(context: ListContext, spec: ListSpec, result: JsonObject): JsonObject | null {
  const items = result[spec.key];
  // What should be a list and is not cannot be judged: nothing of it is shown.
  const kept = Array.isArray(items) ? keepListed(context, spec, items) : [];
  const isWhole = Array.isArray(items) && kept.length === items.length;
  // The answer depends on who asks, so no cache may share it.
  const isPrivate = !context.isModern || result.cacheScope === 'private';
  if (isWhole && isPrivate) return null;
  return context.isModern ? { ...result, [spec.key]: kept, cacheScope: 'private' } : { ...result, [spec.key]: kept };
}

function keepListed(context: ListContext, spec: ListSpec, items: readonly JsonValue[]): readonly JsonValue[] {
  const named = items.filter((item) => isShowable(context, spec, item));
  if (named.length === 0) return named;
  const calls = named.map((item) =>
    itemCall(context, spec.action, spec.type, context.server, String((item as JsonObject)[spec.id])),
  );
  const decisions = context.judge(context.exchange, calls);
  return named.filter((_, at) => isListed(decisions[at]));
}

/** Keeps the definition of a tool whether it is shown or not, and leaves out what has no name or breaks the header rules. */
function isShowable(context: ListContext, spec: ListSpec, item: JsonValue): boolean {
  if (!isJsonObject(item) || typeof item[spec.id] !== 'string') return false;
  if (spec.type !== 'tool') return true;
  const definition = context.catalog.record(context.server, item);
  return definition !== null && (definition.mirrored !== null || !context.isModern);
}
