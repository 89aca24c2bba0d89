/** What the gateway and the thread of a candidate policy tell each other. Everything here can be copied between threads. */
import type { AskedRoute } from '../core/exchange.ts';
import type { BindableRoute } from './bindings.ts';
import type { Compared, Comparison } from './shadow-compare.ts';
import type { HostLimits } from './wasm/program.ts';

export interface ShadowStart {
  readonly bundleDir: string;
  readonly dataFile: string | null;
  readonly entrypoint: string;
  readonly listEntrypoint: string;
  /** Routes that the candidate may bind to entrypoints of its own, at their places. */
  readonly routes: readonly BindableRoute[];
  readonly limits: HostLimits;
}

/** One evaluation; `live` holds what the policy in force said, one per call. */
export interface ShadowQuestion {
  readonly id: number;
  /** True when the document holds the calls of a list. */
  readonly isList: boolean;
  /** The route of each call: those of a list may be made on several. */
  readonly asked: readonly AskedRoute[];
  readonly input: unknown;
  /** Epoch milliseconds: the time of the decision. */
  readonly now: number;
  readonly live: readonly Compared[];
}

export interface ShadowBatch {
  readonly kind: 'batch';
  readonly questions: readonly ShadowQuestion[];
}

export type ShadowTask = ShadowBatch | { readonly kind: 'reload' };

export interface ShadowFinding extends Comparison {
  /** Null where nothing differs. */
  readonly candidate: (Compared & { readonly detail: string | null }) | null;
}

export interface ShadowResult {
  readonly id: number;
  /** Microseconds. */
  readonly us: number;
  /** One per call; none when there is no candidate that could be asked. */
  readonly findings: readonly ShadowFinding[];
}

export type ShadowAnswer =
  | { readonly kind: 'loaded'; readonly revision: string | null; readonly error: string | null }
  | { readonly kind: 'results'; readonly results: readonly ShadowResult[] };
