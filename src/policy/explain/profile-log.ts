/** What the rules of a policy cost over the events of a decision log, each at its own time. Source: policy-engine 7. */
import type { Bundle } from '../bundle.ts';
import { asPlanFault } from '../plan/interpreter.ts';
import { readPlan } from '../plan/plan.ts';
import { readEvent, type Unreplayable } from '../replay/event.ts';
import { type LogForm, type RecordSink, readRecords } from '../replay/records.ts';
import { hides, isList, isSampled } from '../replay/replay.ts';
import { PolicyLoadError } from '../wasm/program.ts';
import { fromJson } from '../wasm/values.ts';
import type { LineCoverage } from './line-coverage.ts';
import { type Profile, Profiler } from './profile.ts';
import { sourceTexts } from './sources.ts';

export interface LogProfile {
  readonly revision: string;
  readonly events: number;
  /** By the sample. */
  readonly left_out: number;
  /** Events that could not be evaluated, by why; `fault`: the rules contradict one another, or take too long. */
  readonly not_profiled: Readonly<Partial<Record<Unreplayable | 'fault', number>>>;
  readonly profile: Profile;
  /** Lines reached by any of the events. */
  readonly coverage: LineCoverage;
}

export interface LogProfileOptions {
  /** Runs of each event against the clock, from 1. */
  readonly repeat: number;
  /** One event in so many. */
  readonly sample: number;
  readonly signal?: AbortSignal | undefined;
  /** Told after every piece of the file. */
  readonly onProgress?: (bytes: number, events: number) => void;
}

/**
 * Calls of a list are evaluated once, together, as they were decided; `dir` has the sources. Rejects where the log cannot
 * be read; throws PolicyLoadError without a plan.
 */
export async function profileLog(
  bundle: Bundle,
  dir: string,
  log: { readonly file: string; readonly form: LogForm },
  options: LogProfileOptions,
): Promise<LogProfile> {
  if (bundle.plan === null)
    throw new PolicyLoadError('the bundle holds no plan, so it cannot be profiled: build it again');
  const plan = readPlan(bundle.plan);
  const profiler = new Profiler(plan, fromJson(bundle.data));
  const missing: Partial<Record<Unreplayable | 'fault', number>> = {};
  const tally = { events: 0, left_out: 0 };
  const miss = (why: Unreplayable | 'fault'): void => {
    missing[why] = (missing[why] ?? 0) + 1;
  };
  const sink: RecordSink = {
    event(text) {
      tally.events++;
      const event = readEvent(text);
      if (typeof event === 'string') return miss(event);
      if (!isSampled(event, options.sample)) {
        tally.left_out++;
        return;
      }
      if (event.batch !== null && !isList(event)) return;
      if (!plan.entrypoints.has(event.entrypoint)) return miss('other_entrypoint');
      if (hides(bundle.readSet, event.hidden)) return miss('masked');
      try {
        profiler.add(event.entrypoint, fromJson(event.input), event.now, options.repeat, event.drawn);
      } catch (fault) {
        asPlanFault(fault);
        miss('fault');
      }
    },
    tooLong() {
      tally.events++;
      miss('too_long');
    },
    progress(bytes) {
      options.signal?.throwIfAborted();
      options.onProgress?.(bytes, tally.events);
    },
  };
  await readRecords(log.file, log.form, sink);
  const profile = profiler.profile(sourceTexts(plan, dir, bundle));
  return { revision: bundle.revision, ...tally, not_profiled: missing, profile, coverage: profiler.coverage() };
}
