/**
 * Which bundles of a service are older than what was in force before: a good signature says who made a bundle, not when,
 * so a service (or whoever answers in its place) could send one again that was replaced for a reason. Bundles say their
 * place in the order themselves, where a signature covers it: `metadata.sequence` of `.manifest`.
 */
import { isJsonObject, type JsonValue } from '../core/json.ts';
import { PolicyLoadError } from './wasm/program.ts';

/** What is remembered over restarts. Null: nothing in force has said its place. */
export interface OrderMark {
  /** The highest place that was in force since the last rollback. */
  readonly newest: number | null;
  /** The place of the whole bundle on disk; less than `newest` where changes of data came after it. */
  readonly kept: number | null;
}

/** A larger number is newer; `portcullis policy build` takes the milliseconds of the epoch. Throws PolicyLoadError. */
export function sequenceOf(metadata: JsonValue | undefined): number | null {
  const value = metadata !== undefined && isJsonObject(metadata) ? metadata.sequence : undefined;
  if (value === undefined) return null;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new PolicyLoadError('the bundle has a metadata.sequence that is no whole number');
}

export class BundleOrder {
  readonly #requireNewer: boolean;
  #mark: OrderMark;

  /** @param requireNewer bundles that do not say their place are refused too */
  constructor(mark: OrderMark | null, requireNewer: boolean) {
    this.#mark = mark ?? { newest: null, kept: null };
    this.#requireNewer = requireNewer;
  }

  get mark(): OrderMark {
    return this.#mark;
  }

  /** Throws PolicyLoadError for what is older than what was in force. @param from what is on disk is held to itself */
  check(sequence: number | null, from: 'service' | 'disk'): void {
    if (sequence === null) {
      if (!this.#requireNewer) return;
      throw new PolicyLoadError(
        'the bundle does not say whether it is newer (metadata.sequence of .manifest), and policy.bundle.require_newer asks for it',
      );
    }
    const least = from === 'service' ? this.#mark.newest : this.#mark.kept;
    if (least === null || sequence >= least) return;
    throw new OlderBundleError(
      `the bundle is older (sequence ${sequence}) than what was in force before (${least}): it is not taken; to go back use "portcullis policy rollback"`,
    );
  }

  /**
   * A bundle, or a change of its data, is in force. True when there is something new to remember.
   * @param isKept it is a whole one that is on disk from now on
   */
  took(sequence: number | null, isKept: boolean): boolean {
    const before = this.#mark;
    const newest = sequence === null ? before.newest : Math.max(before.newest ?? 0, sequence);
    this.#mark = { newest, kept: isKept ? sequence : before.kept };
    return newest !== before.newest || this.#mark.kept !== before.kept;
  }

  /** A person took back what was in force: from what is there now, things go on. */
  wentBack(sequence: number | null, kept: number | null): void {
    this.#mark = { newest: sequence, kept };
  }
}

/** Somebody sends what was replaced: worth an alarm, and not only a line that something was not taken. */
export class OlderBundleError extends PolicyLoadError {}
