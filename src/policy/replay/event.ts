/** What a replay takes from an event of a decision log. Source: OPA's decision log, contracts 3. */
import type { Obligation, Violation } from '../../core/decision.ts';
import { isJsonObject, type JsonObject, type JsonValue } from '../../core/json.ts';
import type { Compared } from '../shadow-compare.ts';
import { type Drawn, drawnBy } from '../wasm/imports.ts';
import type { Rego } from '../wasm/values.ts';

/** Why an event cannot be decided again. */
export type Unreplayable =
  | 'broken'
  | 'too_long'
  | 'no_input'
  | 'no_result'
  | 'no_time'
  | 'masked'
  | 'list_without_document'
  | 'nondeterministic'
  | 'other_entrypoint';

export interface LoggedEvent {
  readonly decision_id: string;
  readonly request_id: string;
  readonly entrypoint: string;
  readonly input: JsonObject;
  readonly logged: Compared;
  /** Epoch milliseconds that the policy saw. */
  readonly now: number;
  /** What the policy drew by chance; empty where it drew nothing or the log does not say. */
  readonly drawn: Drawn;
  /** Of the policy that decided; empty where the log does not name it. */
  readonly revision: string;
  /** JSON pointers of what was hidden or removed. */
  readonly hidden: readonly string[];
  /** Set for a call of a list. */
  readonly batch: { readonly id: string; readonly index: number } | null;
}

const NONE: readonly never[] = [];
const NOTHING: Drawn = new Map();
/** Builtins whose answers of then are given again. */
const BY_CHANCE: ReadonlySet<string> = new Set(['rand.intn', 'uuid.rfc4122']);

/** Reads the text of an event. */
export function readEvent(text: string): LoggedEvent | Unreplayable {
  let event: unknown;
  try {
    event = JSON.parse(text);
  } catch {
    return 'broken';
  }
  if (!isJsonObject(event as JsonValue)) return 'broken';
  return fromEvent(event as JsonObject);
}

function fromEvent(event: JsonObject): LoggedEvent | Unreplayable {
  const { decision_id, path, input, result } = event;
  if (typeof decision_id !== 'string' || typeof path !== 'string') return 'broken';
  if (input === undefined || !isJsonObject(input)) return 'no_input';
  const logged = verdictOf(result, event.error);
  if (logged === null) return 'no_result';
  const now = timeOf(event);
  if (now === null) return 'no_time';
  if (now === false) return 'nondeterministic';
  const drawn = drawnOf(event.nd_builtin_cache);
  if (drawn === null) return 'nondeterministic';
  return {
    decision_id,
    request_id: typeof event.req_id === 'string' ? event.req_id : '',
    // OPA writes paths as they were asked for; its own API asks without the dots of `data.`.
    entrypoint: path.charCodeAt(0) === 0x2f ? path.slice(1) : path,
    input,
    logged,
    now,
    drawn,
    revision: revisionOf(event.bundles),
    hidden: pointers(event.masked, event.erased),
    batch: batchOf(event.batch_decision_id, decision_id),
  };
}

function verdictOf(result: JsonValue | undefined, error: JsonValue | undefined): Compared | null {
  if (result === undefined || !isJsonObject(result) || typeof result.allow !== 'boolean') return null;
  const { deny = NONE, obligations = NONE } = result;
  if (!Array.isArray(deny) || !Array.isArray(obligations)) return null;
  if (!deny.every((one) => isJsonObject(one) && typeof one.code === 'string')) return null;
  if (!obligations.every((one) => isJsonObject(one) && typeof one.type === 'string')) return null;
  const failed = error !== undefined && isJsonObject(error) && error.code !== undefined;
  return {
    allow: result.allow,
    deny: deny as unknown as readonly Violation[],
    obligations: obligations as unknown as readonly Obligation[],
    // Which failure it was does not matter here, only that there was one.
    failure: failed ? 'abort' : null,
  };
}

function revisionOf(bundles: JsonValue | undefined): string {
  if (bundles === undefined || !isJsonObject(bundles)) return '';
  for (const name in bundles) {
    const bundle = bundles[name];
    if (bundle !== undefined && isJsonObject(bundle) && typeof bundle.revision === 'string') return bundle.revision;
  }
  return '';
}

/** Null: no time is known. False: it depended on more than the time. */
function timeOf({ nd_builtin_cache: cache, timestamp }: JsonObject): number | null | false {
  if (cache !== undefined && isJsonObject(cache)) {
    for (const name in cache) if (name !== 'time.now_ns' && !BY_CHANCE.has(name)) return false;
    const calls = cache['time.now_ns'];
    const ns = calls !== undefined && isJsonObject(calls) ? calls['[]'] : undefined;
    if (typeof ns === 'number') return Math.round(ns / 1e6);
  }
  const time = typeof timestamp === 'string' ? Date.parse(timestamp) : Number.NaN;
  return Number.isNaN(time) ? null : time;
}

/** Null: it is written down in a way that nobody could give again. */
function drawnOf(cache: JsonValue | undefined): Drawn | null {
  if (cache === undefined || !isJsonObject(cache)) return NOTHING;
  let drawn: Map<string, Rego> | null = null;
  for (const builtin of BY_CHANCE) {
    const calls = cache[builtin];
    if (calls === undefined) continue;
    if (!isJsonObject(calls)) return null;
    for (const text in calls) {
      const args = argumentsOf(text);
      const value = calls[text];
      if (args === null || (typeof value !== 'string' && typeof value !== 'number')) return null;
      drawn ??= new Map();
      drawn.set(drawnBy(builtin, args), value);
    }
  }
  return drawn ?? NOTHING;
}

/** Numbers are the bounds of `rand.intn`, whose sign does not count. */
function argumentsOf(text: string): readonly (string | number)[] | null {
  try {
    const args: unknown = JSON.parse(text);
    if (!Array.isArray(args) || !args.every((one) => typeof one === 'string' || typeof one === 'number')) return null;
    return args.map((one: string | number) => (typeof one === 'number' ? Math.abs(one) : one));
  } catch {
    return null;
  }
}

function pointers(...lists: readonly (JsonValue | undefined)[]): readonly string[] {
  if (lists.every((list) => list === undefined)) return NONE;
  return lists.flatMap((list) => (Array.isArray(list) ? list.filter((one) => typeof one === 'string') : []));
}

/** Calls of a list are named `<evaluation>-<index>`. */
function batchOf(id: JsonValue | undefined, decisionId: string): LoggedEvent['batch'] {
  const dash = decisionId.lastIndexOf('-');
  if (typeof id !== 'string' && dash === -1) return null;
  const index = Number(decisionId.slice(dash + 1));
  const name = typeof id === 'string' ? id : decisionId.slice(0, dash);
  if (dash === -1 || !Number.isSafeInteger(index) || index < 0 || index > 100_000) return null;
  return { id: name, index };
}
