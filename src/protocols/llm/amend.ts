/** What obligations change about a model request: its top-level members, and what is let through of the answer. Source: design 2.5. */
import type { Amendment, Message } from '../../core/exchange.ts';
import type { JsonObject, JsonValue } from '../../core/json.ts';
import { parseStrict } from '../json.ts';
import { clampMembers, foldName, foldNames, hideInReply, RedactingRewriter } from '../redaction.ts';

/** Without these there is no request left. */
const ESSENTIAL: ReadonlySet<string> = new Set(['model', 'messages', 'input']);

/** One length under several names; an upstream may read either. */
const LENGTHS: readonly string[] = ['max_tokens', 'max_completion_tokens'];

/** The amended message, or null when it cannot be amended in that way. */
export function amendOpenAi(message: Message, { removed, hidden, ceilings }: Amendment): Message | null {
  const { plan, body } = message;
  // The list of models: answered here, without parameters.
  if (plan.kind === 'local') return hidden.length === 0 ? message : { ...message, plan: hideInReply(plan, hidden) };
  if (body === null) return null;
  // The bytes were read before: this cannot fail.
  const request = parseStrict(body) as JsonObject;
  // Members of an event can be hidden, but JSON that comes in pieces cannot be looked into.
  if (hidden.length > 0 && request.stream === true) return null;
  const kept = without(request, foldNames(removed));
  const next = kept === null ? null : clampMembers(kept, bothLengths(kept, ceilings));
  if (next === null) return null;
  const changed = next === request ? message : { ...message, body: Buffer.from(JSON.stringify(next)) };
  if (hidden.length === 0) return changed;
  return { ...changed, plan: { ...plan, rewrite: new RedactingRewriter(hidden, 'whole', plan.rewrite) } };
}

function without(request: JsonObject, names: ReadonlySet<string>): JsonObject | null {
  const kept: Record<string, JsonValue> = {};
  let isSame = true;
  for (const [name, value] of Object.entries(request)) {
    if (!names.has(foldName(name))) kept[name] = value;
    else if (ESSENTIAL.has(name)) return null;
    else isSame = false;
  }
  return isSame ? request : kept;
}

/** A ceiling on a length holds for each name under which it is given; where none is, for the name the policy uses. */
function bothLengths(request: JsonObject, ceilings: ReadonlyMap<string, number>): ReadonlyMap<string, number> {
  const limits = LENGTHS.flatMap((name) => ceilings.get(name) ?? []);
  const given = LENGTHS.filter((name) => Object.hasOwn(request, name) && request[name] !== null);
  if (limits.length === 0 || given.length === 0) return ceilings;
  const all = new Map(ceilings);
  for (const name of LENGTHS) all.delete(name);
  for (const name of given) all.set(name, Math.min(...limits));
  return all;
}
