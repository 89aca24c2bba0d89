/** Why a policy decides what it decides: rules that fired, and how far those came that did not. Source: policy-engine 7. */
import { isJsonObject, type JsonObject, type JsonValue } from '../../core/json.ts';
import { isSensitiveName, REDACTED } from '../../core/redaction.ts';
import type { Bundle } from '../bundle.ts';
import { asPlanFault, interpret } from '../plan/interpreter.ts';
import { type Place, type Plan, readPlan } from '../plan/plan.ts';
import { readVerdict } from '../result.ts';
import type { Drawn } from '../wasm/imports.ts';
import { PolicyLoadError } from '../wasm/program.ts';
import { fromJson, type Rego, toJson } from '../wasm/values.ts';
import type { LineCoverage } from './line-coverage.ts';
import { type Profile, Profiler } from './profile.ts';
import { type SourceTexts, shortText, sourceTexts } from './sources.ts';
import { TraceCollector, type TracedBody, type TracedCall } from './trace.ts';

/** A rule that came to a value. */
export interface FiredRule {
  readonly rule: string;
  /** `file:line` of its head. */
  readonly at: string;
  /** The line there; null where the source is not at hand. */
  readonly text: string | null;
  readonly value: JsonValue;
}

export interface ShownValue {
  /** The expression, or its `file:line:column`. */
  readonly expression: string;
  /** Null: it has none (undefined). */
  readonly value: JsonValue;
  readonly defined: boolean;
}

/** A definition of a rule that did not come to its end. */
export interface MissedRule {
  readonly rule: string;
  readonly at: string;
  readonly text: string | null;
  /** `file:line:column` of the expression that did not hold. */
  readonly stopped_at: string;
  readonly expression: string | null;
  /** Part of its lines that held, 0 to 1. */
  readonly progress: number;
  readonly values: readonly ShownValue[];
  /** The rules below that expression which are to blame. */
  readonly because: readonly MissedRule[];
}

export interface Explanation {
  readonly revision: string;
  readonly entrypoint: string;
  /** RFC 3339: the instant the policy saw. */
  readonly clock: string;
  readonly allow: boolean | null;
  /** What the entrypoint answers, secrets hidden; null: undefined. */
  readonly result: JsonValue;
  readonly fired: readonly FiredRule[];
  /** Of a deny: the rules that could have allowed it, the closest first. */
  readonly missed: readonly MissedRule[];
  /** JSON pointers of what the record of the decision does not hold. */
  readonly masked: readonly string[];
  /** Sources are at hand. */
  readonly sources: boolean;
  /** Where it was asked for: what each rule costs. */
  readonly profile?: Profile;
  /** Where it was asked for: the lines this decision reached, file by file. */
  readonly coverage?: LineCoverage;
}

export interface ExplainRequest {
  readonly entrypoint: string;
  readonly input: JsonObject;
  /** Epoch milliseconds. */
  readonly now: number;
  readonly masked?: readonly string[];
  /** What chance gave when it was decided. */
  readonly drawn?: Drawn;
  /** Milliseconds all of it may take; no limit where nobody waits for anything else. */
  readonly timeMs?: number;
  /** Count and time rules: how often the clock is to run over them, at most (from 1). */
  readonly repeat?: number;
  readonly coverage?: boolean;
}

const MAX_FIRED = 60;
const MAX_CHAIN = 10;
const MAX_BECAUSE = 3;
const MAX_ITEMS = 20;
const MAX_DEPTH = 6;

/** Rules by whose names one sees that they let something pass. */
export const LETS_PASS = /(?:^|[._])(?:allow|allowed|permit|permitted|grant|granted)(?:$|_)/;

/** Evaluates and explains. Throws PolicyLoadError without a plan, PlanFault where the plan cannot be evaluated. */
export function explain(bundle: Bundle, dir: string, request: ExplainRequest): Explanation {
  try {
    return explained(bundle, dir, request);
  } catch (thrown) {
    throw thrown instanceof PolicyLoadError ? thrown : asPlanFault(thrown);
  }
}

function explained(bundle: Bundle, dir: string, request: ExplainRequest): Explanation {
  if (bundle.plan === null) {
    throw new PolicyLoadError('the bundle holds no plan, so its decisions cannot be explained: build it again');
  }
  const plan = readPlan(bundle.plan);
  const trace = new TraceCollector();
  const { entrypoint, now, timeMs = Number.POSITIVE_INFINITY } = request;
  const until = performance.now() + timeMs;
  const [input, data] = [fromJson(request.input), fromJson(bundle.data)];
  const { value } = interpret(plan, entrypoint, input, data, now, trace, timeMs, request.drawn ?? null);
  const view = new View(plan, sourceTexts(plan, dir, bundle));
  const result = value === undefined ? null : ofOneCall(toJson(value), request.input);
  const allow = verdictOf(result);
  return {
    revision: bundle.revision,
    entrypoint,
    clock: new Date(now).toISOString(),
    allow,
    result: shown(result, ''),
    fired: view.fired(trace.root),
    missed: allow === true ? [] : view.missed(trace.root),
    masked: request.masked ?? [],
    sources: trace.root.calls.some((call) => call.bodies.some(({ head }) => view.texts.line(head) !== null)),
    ...measured(new Profiler(plan, data, until), input, request, view.texts),
  };
}

/** A call of a list is decided in a list of one. */
function ofOneCall(result: JsonValue, { calls }: JsonObject): JsonValue {
  const [only, ...others] = Array.isArray(result) && Array.isArray(calls) && calls.length === 1 ? result : [];
  return only === undefined || others.length > 0 ? result : (only as JsonValue);
}

/** Evaluates again, where counts are wanted. */
function measured(
  profiler: Profiler,
  input: Rego,
  { entrypoint, now, repeat = 0, coverage = false, drawn }: ExplainRequest,
  texts: SourceTexts,
): Pick<Explanation, 'profile' | 'coverage'> {
  if (repeat === 0 && !coverage) return {};
  profiler.add(entrypoint, input, now, repeat, drawn);
  return {
    ...(repeat === 0 ? {} : { profile: profiler.profile(texts) }),
    ...(coverage ? { coverage: profiler.coverage() } : {}),
  };
}

function verdictOf(result: JsonValue): boolean | null {
  if (typeof result === 'boolean') return result;
  if (!isJsonObject(result) || typeof result.allow !== 'boolean') return null;
  // The host turns some answers into a deny: what must be approved first, what no gateway can do.
  return readVerdict({ kind: 'value', value: structuredClone(result), volatile: false }).allow;
}

class View {
  readonly texts: SourceTexts;
  readonly #plan: Plan;

  constructor(plan: Plan, texts: SourceTexts) {
    this.#plan = plan;
    this.texts = texts;
  }

  /** Every rule with a value that says something, once, in the order they came to it. */
  fired(root: TracedCall): readonly FiredRule[] {
    const found = new Map<string, FiredRule>();
    const visit = (call: TracedCall): void => {
      for (const below of call.calls) visit(below);
      if (found.size >= MAX_FIRED || isNothing(call.result)) return;
      for (const body of call.bodies) {
        if (!body.fired) continue;
        const at = this.#at(body.head);
        const value = shown(toJson(call.result ?? null), call.rule);
        const key = `${call.rule} ${at} ${JSON.stringify(value)}`;
        if (!found.has(key)) found.set(key, { rule: call.rule, at, text: this.#line(body.head), value });
      }
    };
    visit(root);
    return [...found.values()];
  }

  /** The topmost rules that could have let it pass and did not. */
  missed(root: TracedCall): readonly MissedRule[] {
    const out: MissedRule[] = [];
    const seen = new Set<string>();
    const visit = (call: TracedCall): void => {
      if (LETS_PASS.test(call.rule) && isNothing(call.result) && call.bodies.length > 0) {
        for (const one of this.#missedIn(call, 0)) {
          const key = `${one.at} ${one.stopped_at}`;
          if (!seen.has(key)) out.push(one);
          seen.add(key);
        }
        return;
      }
      for (const below of call.calls) visit(below);
    };
    visit(root);
    return closest(out).slice(0, MAX_CHAIN);
  }

  #missedIn(call: TracedCall, depth: number): readonly MissedRule[] {
    const missed = call.bodies.flatMap((body) =>
      body.fired || body.stopped === null ? [] : [this.#missedRule(call, body, body.stopped, depth)],
    );
    return closest(missed);
  }

  #missedRule(call: TracedCall, body: TracedBody, stopped: Place, depth: number): MissedRule {
    const below = call.calls.filter(
      ({ from, result, bodies }) => from !== null && isNothing(result) && bodies.length > 0 && overlaps(from, stopped),
    );
    const because =
      depth >= MAX_CHAIN ? [] : closest(below.flatMap((one) => this.#missedIn(one, depth + 1))).slice(0, MAX_BECAUSE);
    const expression = this.texts.slice(stopped);
    return {
      rule: call.rule,
      at: this.#at(body.head),
      text: this.#line(body.head),
      stopped_at: `${this.#at(stopped)}:${stopped.col}`,
      expression: expression === null ? null : shortText(expression),
      progress: body.rows === 0 ? 0 : Math.round((100 * body.passed) / body.rows) / 100,
      values: body.seen.flatMap(({ place, value }) => this.#shownValue(place, value)),
      because,
    };
  }

  #shownValue(place: Place, value: Rego | undefined): readonly ShownValue[] {
    const expression = this.texts.slice(place) ?? `${this.#at(place)}:${place.col}`;
    const last = /[\w-]+(?=[^\w-]*$)/.exec(expression)?.[0] ?? '';
    const defined = value !== undefined;
    const what = { expression: shortText(expression), defined };
    return [{ ...what, value: value === undefined ? null : shown(toJson(value), last) }];
  }

  #line(place: Place): string | null {
    const text = this.texts.line(place);
    return text === null ? null : shortText(text);
  }

  #at({ file, row }: Place): string {
    return `${this.#plan.files[file] ?? '?'}:${row}`;
  }
}

const closest = (list: readonly MissedRule[]): readonly MissedRule[] =>
  [...list].sort((a, b) => b.progress - a.progress);

/** Whether one stands within the other: a call and the expression it is part of. */
function overlaps(a: Place, b: Place): boolean {
  return a.file === b.file && a.row >= b.row && a.row <= (b.end_row ?? b.row);
}

/** A rule without a value, or with one that says no. */
function isNothing(value: Rego | undefined): boolean {
  if (value === undefined || value === false) return true;
  if (Array.isArray(value)) return value.length === 0;
  return (value instanceof Set || value instanceof Map) && value.size === 0;
}

/** A value for people: secrets hidden by name and by look, long ones cut. */
function shown(value: JsonValue, name: string, depth = 0): JsonValue {
  if (isSensitiveName(name) && value !== null && typeof value !== 'boolean') return REDACTED;
  if (typeof value === 'string') return shortText(value);
  if (typeof value !== 'object' || value === null) return value;
  if (depth > MAX_DEPTH) return '…';
  if (Array.isArray(value)) {
    const items = (value as readonly JsonValue[]).slice(0, MAX_ITEMS).map((item) => shown(item, '', depth + 1));
    return value.length > MAX_ITEMS ? [...items, `… ${value.length - MAX_ITEMS} more`] : items;
  }
  const out: Record<string, JsonValue> = {};
  for (const [key, item] of Object.entries(value).slice(0, MAX_ITEMS * 2))
    out[shortText(key)] = shown(item as JsonValue, key, depth + 1);
  return out;
}
