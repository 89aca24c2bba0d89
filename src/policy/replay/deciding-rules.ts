/**
 * Which rules of the candidate stand behind a changed decision: those that refused it, those that let it pass, and those
 * whose conditions did not hold where nothing lets it pass any more. Source: policy-engine 5.
 */
import type { Bundle } from '../bundle.ts';
import { LETS_PASS } from '../explain/explain.ts';
import { TraceCollector, type TracedBody, type TracedCall } from '../explain/trace.ts';
import { interpret, PlanFault } from '../plan/interpreter.ts';
import { type Place, type Plan, readPlan } from '../plan/plan.ts';
import type { Verdict } from '../result.ts';
import type { Comparison } from '../shadow-compare.ts';
import { PolicyLoadError } from '../wasm/program.ts';
import { fromJson, type Rego } from '../wasm/values.ts';
import type { LoggedEvent } from './event.ts';

export interface DecidingRule {
  readonly rule: string;
  /** `file:line` of its head. */
  readonly at: string;
  /** `file:line:column` of the condition that did not hold; null: the rule came to a value. */
  readonly stopped_at: string | null;
}

/** Longer than this no rule is looked for; milliseconds. */
const TIME_MS = 250;
const MAX_RULES = 3;
const NONE: readonly DecidingRule[] = [];

/** Looks the rules up in the plan of the candidate, one decision after the other. */
export class DecidingRules {
  readonly #plan: Plan;
  readonly #data: Rego;

  private constructor(plan: Plan, data: Rego) {
    this.#plan = plan;
    this.#data = data;
  }

  /** Null: the bundle holds no plan, or none that can be read. What is decided does not depend on it. */
  static of(bundle: Bundle): DecidingRules | null {
    if (bundle.plan === null) return null;
    try {
      return new DecidingRules(readPlan(bundle.plan), fromJson(bundle.data));
    } catch (fault) {
      if (fault instanceof PolicyLoadError) return null;
      throw fault;
    }
  }

  /** None where the plan cannot say: a builtin it does not know, no time left, or no rule to name. */
  find(event: LoggedEvent, verdict: Verdict, { kind, added }: Comparison): readonly DecidingRule[] {
    if (verdict.failure !== null) return NONE;
    const trace = new TraceCollector();
    try {
      const { entrypoint, input, now, drawn } = event;
      interpret(this.#plan, entrypoint, fromJson(input), this.#data, now, trace, TIME_MS, drawn);
    } catch (fault) {
      if (fault instanceof PlanFault) return NONE;
      throw fault;
    }
    const { root } = trace;
    if (kind === 'obligations') return this.#named(obliging(root, event, verdict));
    return this.#named(verdict.allow ? passing(root) : refusing(root, event, verdict, added));
  }

  #named(found: readonly Found[]): readonly DecidingRule[] {
    const named = new Map<string, DecidingRule>();
    for (const { rule, head, stopped } of found) {
      const at = this.#at(head);
      const stopped_at = stopped === null ? null : `${this.#at(stopped)}:${stopped.col}`;
      if (named.size < MAX_RULES) named.set(`${rule} ${at} ${stopped_at}`, { rule, at, stopped_at });
    }
    return [...named.values()];
  }

  #at({ file, row }: Place): string {
    return `${this.#plan.files[file] ?? '?'}:${row}`;
  }
}

interface Found {
  readonly rule: string;
  readonly head: Place;
  readonly stopped: Place | null;
}

/** Of obligations that came, or else of all there are. */
function obliging(root: TracedCall, { logged }: LoggedEvent, { obligations }: Verdict): Found[] {
  const before = new Set(logged.obligations.map(({ type }) => type));
  const came = obligations.filter(({ type }) => !before.has(type));
  return (came.length > 0 ? came : obligations).flatMap(({ type }) => saying(root, type));
}

/** The rule that does not let it pass any more, and those of the codes that came. */
function refusing(root: TracedCall, { entrypoint }: LoggedEvent, { deny }: Verdict, added: readonly string[]): Found[] {
  const missed = missing(root);
  // Where nothing lets it pass, the package of the entrypoint only says so.
  const summing = missed === null ? null : entrypoint.slice(0, entrypoint.lastIndexOf('/')).replaceAll('/', '.');
  const said = deny
    .filter((one) => one.package !== summing && (added.length === 0 || added.includes(one.code)))
    .flatMap((one) => {
      const all = saying(root, one.message);
      // Rules of other packages are only handed the reason.
      const own = all.filter(({ rule }) => rule.startsWith(`${one.package}.`));
      return own.length > 0 ? own : all;
    });
  return missed === null ? said : [missed, ...said];
}

const fired = ({ rule, bodies }: TracedCall): Found[] =>
  bodies.filter((body) => body.fired).map(({ head }) => ({ rule, head, stopped: null }));

/** The innermost rules whose value has this text in it: where it comes from. */
function saying(call: TracedCall, text: string): Found[] {
  const below = call.calls.flatMap((one) => saying(one, text));
  return below.length === 0 && holds(call.result, text) ? fired(call) : below;
}

function holds(value: Rego | undefined, text: string): boolean {
  if (typeof value === 'string') return value === text;
  if (Array.isArray(value) || value instanceof Set) {
    for (const one of value) if (holds(one as Rego, text)) return true;
  } else if (value instanceof Map) {
    for (const one of value.values()) if (holds(one as Rego, text)) return true;
  }
  return false;
}

/** The innermost rules by whose names one sees that they let it pass. */
function passing(call: TracedCall): Found[] {
  const below = call.calls.flatMap(passing);
  return below.length === 0 && LETS_PASS.test(call.rule) && !isNo(call.result) ? fired(call) : below;
}

/** Where the rule stopped that came closest to letting it pass; null: one did let it pass, and others refused it. */
function missing(root: TracedCall): Found | null {
  const outer: TracedCall[] = [];
  const visit = (call: TracedCall): void => {
    if (LETS_PASS.test(call.rule) && call.bodies.length > 0) outer.push(call);
    else for (const below of call.calls) visit(below);
  };
  visit(root);
  if (outer.some(({ result }) => !isNo(result))) return null;
  return closest(outer.flatMap(stopsOf));
}

interface Stop extends Found {
  /** Rules below the one that was asked. */
  readonly depth: number;
  readonly progress: number;
}

function stopsOf(call: TracedCall): Stop[] {
  return call.bodies.flatMap((body) => (body.fired || body.stopped === null ? [] : [stopOf(call, body, body.stopped)]));
}

/** A condition that is another rule says less than the condition of that rule which did not hold. */
function stopOf(call: TracedCall, body: TracedBody, stopped: Place): Stop {
  const within = call.calls.filter(
    ({ from, result, bodies }) =>
      from !== null && isNo(result) && bodies.length > 0 && from.file === stopped.file && from.row === stopped.row,
  );
  const inner = closest(within.flatMap(stopsOf));
  const progress = body.rows === 0 ? 0 : body.passed / body.rows;
  return inner === null
    ? { rule: call.rule, head: body.head, stopped, depth: 0, progress }
    : { ...inner, depth: inner.depth + 1, progress };
}

/** The condition that is furthest down is the one that is about the call; the first ones are about which rule is for it. */
function closest(stops: readonly Stop[]): Stop | null {
  const [first = null] = [...stops].sort((a, b) => b.depth - a.depth || b.progress - a.progress);
  return first;
}

/** No value, or one that says no. */
function isNo(value: Rego | undefined): boolean {
  if (value === undefined || value === false) return true;
  if (Array.isArray(value)) return value.length === 0;
  return (value instanceof Set || value instanceof Map) && value.size === 0;
}
