/** The members of the policy input that speak of delegation and of calls between agents. Source: design 2.3. */
import type { A2aFacts } from '../core/call.ts';
import type { JsonObject, JsonValue } from '../core/json.ts';
import type { Actor } from '../core/principal.ts';
import { markLasting } from './wasm/input-writer.ts';

/** Members of the document, in its own spelling. */
export interface A2aMembers {
  readonly source_user: JsonValue;
  readonly target_user: JsonValue;
  readonly source_agent: JsonValue;
  readonly target_agent: JsonValue;
  readonly capability: string | null;
  readonly context: JsonObject;
}

const NO_CHAIN: readonly JsonValue[] = markLasting([]);
const NONE: A2aMembers = {
  source_user: null,
  target_user: null,
  source_agent: null,
  target_agent: null,
  capability: null,
  context: markLasting({ workflow_id: null, user_id: null, delegation_depth: 0 }),
};

const chains = new WeakMap<Actor, readonly JsonValue[]>();

/** Who acts, the current actor first; its length is the depth of the delegation. The host verified it. */
export function chainOf(actor: Actor | null): readonly JsonValue[] {
  if (actor === null) return NO_CHAIN;
  const known = chains.get(actor);
  if (known !== undefined) return known;
  const chain: JsonValue[] = [];
  for (let at: Actor | null = actor; at !== null; at = at.actor) chain.push({ id: at.id, type: at.type });
  const made = markLasting(chain);
  chains.set(actor, made);
  return made;
}

/** `depth`: of the caller's own chain, for a call that is none between agents. */
export function a2aMembers(facts: A2aFacts | undefined, depth: number): A2aMembers {
  if (facts === undefined) {
    if (depth === 0) return NONE;
    return { ...NONE, context: { workflow_id: null, user_id: null, delegation_depth: depth } };
  }
  // Facts are plain JSON by their types; interfaces merely lack the index signature.
  return {
    source_user: facts.source_user as unknown as JsonValue,
    target_user: facts.target_user as unknown as JsonValue,
    source_agent: facts.source_agent as unknown as JsonValue,
    target_agent: facts.target_agent as unknown as JsonValue,
    capability: facts.capability,
    context: facts.context,
  };
}
