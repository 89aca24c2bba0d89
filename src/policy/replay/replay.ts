/**
 * Decides the events of a decision log again, with a candidate policy in the host the gateway uses, each at the time it
 * was decided at. Source: policy-engine 5.
 */
import type { Bundle } from '../bundle.ts';
import { type ReadSet, reads, shapeFor } from '../input-shape.ts';
import { readVerdict, readVerdicts, type Verdict } from '../result.ts';
import { type Compared, type Comparison, compare } from '../shadow-compare.ts';
import { BUILTINS } from '../wasm/builtins.ts';
import { type Outcome, PolicyHost } from '../wasm/host.ts';
import type { ShapeSpec } from '../wasm/input-writer.ts';
import { DEFAULT_LIMITS, PolicyProgram } from '../wasm/program.ts';
import { type DecidingRule, DecidingRules } from './deciding-rules.ts';
import { type LoggedEvent, readEvent, type Unreplayable } from './event.ts';
import { type LogForm, type RecordSink, readRecords } from './records.ts';
import { countComparison, countRevision, countUnreplayable, emptyTally, type ReplayTally } from './tally.ts';

export interface ReplayOptions {
  /** One event in so many is replayed; the events of one list stay together. Default 1. */
  readonly sample?: number;
  /** Bytes of a log of lines to replay. */
  readonly from?: number;
  readonly to?: number;
  /** Told after every piece of the file. A rejection ends the replay. */
  readonly onProgress?: (bytes: number, tally: ReplayTally) => void;
  readonly signal?: AbortSignal;
}

/** Lists whose answers are kept until their calls have come by. */
const MAX_LISTS = 64;

/** Documents of this gateway have a fixed layout, by which they are written faster. */
const OWN_VERSION = '1';

/** Replays a log (or a part of it). Rejects where the file cannot be read. */
export async function replay(
  bundle: Bundle,
  file: string,
  form: LogForm,
  options: ReplayOptions = {},
): Promise<ReplayTally> {
  const program = await PolicyProgram.load(bundle.wasm, BUILTINS, DEFAULT_LIMITS);
  const replayer = new Replayer(new PolicyHost(program, bundle.dataText), bundle, options);
  await readRecords(file, form, replayer, options.from, options.to);
  return replayer.tally;
}

/** The log does not hold what the decision depends on. */
type Hidden = 'masked' | 'nondeterministic';

class Replayer implements RecordSink {
  readonly tally = emptyTally();
  readonly #host: PolicyHost;
  readonly #readSet: ReadSet;
  readonly #bundle: Bundle;
  #rules: DecidingRules | null | undefined;
  readonly #shape: ShapeSpec;
  readonly #listShape: ShapeSpec;
  readonly #options: ReplayOptions;
  readonly #sample: number;
  /** Answers by list, or why the list cannot be replayed. */
  readonly #lists = new Map<string, readonly Verdict[] | Hidden>();

  constructor(host: PolicyHost, bundle: Bundle, options: ReplayOptions) {
    this.#host = host;
    this.#bundle = bundle;
    this.#readSet = bundle.readSet;
    this.#shape = shapeFor(bundle.readSet, false);
    this.#listShape = shapeFor(bundle.readSet, true);
    this.#options = options;
    this.#sample = Math.max(1, options.sample ?? 1);
  }

  progress(bytes: number): void {
    this.#options.signal?.throwIfAborted();
    this.#options.onProgress?.(bytes, this.tally);
  }

  tooLong(at: number): void {
    this.tally.lines = at;
    this.tally.events++;
    countUnreplayable(this.tally, 'too_long', at);
  }

  event(text: string, at: number): void {
    const { tally } = this;
    tally.lines = at;
    tally.events++;
    const event = readEvent(text);
    const why = typeof event === 'string' ? event : this.#take(event);
    if (why !== null) countUnreplayable(tally, why, at);
  }

  /** Null, or why it cannot be decided again. */
  #take(event: LoggedEvent): Unreplayable | null {
    const { tally } = this;
    if (!isSampled(event, this.#sample)) {
      tally.left_out++;
      return null;
    }
    countRevision(tally, event.revision);
    if (!this.#host.entrypoints.has(event.entrypoint)) return 'other_entrypoint';
    const verdict = event.batch === null && !isList(event) ? this.#single(event) : this.#ofList(event);
    if (typeof verdict === 'string') return verdict;
    this.#compare(event, verdict);
    return null;
  }

  #single(event: LoggedEvent): Verdict | Hidden {
    const outcome = this.#evaluate(event, this.#shape);
    return typeof outcome === 'string' ? outcome : readVerdict(outcome);
  }

  #evaluate({ entrypoint, input, now, drawn, hidden }: LoggedEvent, own: ShapeSpec): Outcome | Hidden {
    if (hides(this.#readSet, hidden)) return 'masked';
    const shape = input.version === OWN_VERSION ? own : null;
    const outcome = this.#host.evaluate(entrypoint, input, now, shape, drawn);
    // It has asked chance for something that the log does not hold.
    return (this.#host.drawn?.size ?? 0) > drawn.size ? 'nondeterministic' : outcome;
  }

  /** The first event of a list holds the document for all of its calls. */
  #ofList(event: LoggedEvent): Verdict | Hidden | 'list_without_document' | 'no_result' {
    const { id, index } = event.batch ?? { id: event.decision_id, index: 0 };
    if (isList(event)) this.#decideList(event, id);
    const answers = this.#lists.get(id);
    if (answers === undefined) return 'list_without_document';
    return typeof answers === 'string' ? answers : (answers[index] ?? 'no_result');
  }

  #decideList(event: LoggedEvent, id: string): void {
    if (this.#lists.size >= MAX_LISTS) {
      const [oldest] = this.#lists.keys();
      if (oldest !== undefined) this.#lists.delete(oldest);
    }
    const calls = event.input.calls as readonly unknown[];
    const outcome = this.#evaluate(event, this.#listShape);
    this.#lists.set(id, typeof outcome === 'string' ? outcome : readVerdicts(outcome, calls.length));
  }

  #compare(event: LoggedEvent, verdict: Verdict): void {
    const { logged, decision_id } = event;
    const comparison = compare(logged, verdict);
    if (logged.failure !== null && verdict.failure === null) this.tally.cured++;
    const same = comparison.kind === 'same';
    // The rules of a list are those of all its calls.
    const look = same || event.batch !== null || isList(event) ? null : () => this.#rulesOf(event, verdict, comparison);
    countComparison(this.tally, comparison, same ? [] : extra(logged, verdict), decision_id, look);
  }

  /** Null: the bundle holds no plan that could say. It is read only where something changes. */
  #rulesOf(event: LoggedEvent, verdict: Verdict, comparison: Comparison): readonly DecidingRule[] | null {
    if (this.#rules === undefined) this.#rules = DecidingRules.of(this.#bundle);
    return this.#rules?.find(event, verdict, comparison) ?? null;
  }
}

/** Whether a policy reads something that the log does not hold: `pointers` are those of the event. */
export function hides(readSet: ReadSet, pointers: readonly string[]): boolean {
  return pointers.some((pointer) => {
    const segments = pointer.split('/').slice(1);
    if (segments[0] !== 'input') return false;
    const path = segments.slice(1).map((one) => one.replaceAll('~1', '/').replaceAll('~0', '~'));
    return reads(readSet, ...(path[0] === 'calls' ? path.slice(2) : path));
  });
}

/** Whether an event is the one in `sample` that is taken; the events of one list stay together. */
export function isSampled({ batch, decision_id }: LoggedEvent, sample: number): boolean {
  return sample <= 1 || hash(batch?.id ?? decision_id) % sample === 0;
}

/** The event that holds the document of a list of calls. */
export function isList({ input }: LoggedEvent): boolean {
  return Array.isArray(input.calls);
}

/** Obligations and failures as causes beside the codes. */
function extra(logged: Compared, verdict: Verdict): readonly string[] {
  if (verdict.failure !== null) return [`+failure:${verdict.failure}`];
  const before = new Set(logged.obligations.map((one) => JSON.stringify(one, Object.keys(one).sort())));
  const after = new Set(verdict.obligations.map((one) => JSON.stringify(one, Object.keys(one).sort())));
  const changed = (from: Set<string>, to: Set<string>, sign: string): string[] =>
    [...from]
      .filter((one) => !to.has(one))
      .map((one) => `${sign}obligation:${(JSON.parse(one) as { type: string }).type}`);
  return [...changed(after, before, '+'), ...changed(before, after, '-')];
}

/** FNV-1a over the characters: the same events are taken in every run. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return value >>> 0;
}
