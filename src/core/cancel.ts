/**
 * The part of `AbortSignal` that the data plane needs: a real one costs a microsecond or more per request, so the door's
 * exchanges are their own. Every `AbortSignal` is one of these.
 */
export interface CancelSignal {
  readonly aborted: boolean;
  /** Why, once aborted. */
  readonly reason: unknown;
  addEventListener(type: 'abort', listener: CancelListener): void;
  removeEventListener(type: 'abort', listener: CancelListener): void;
}

/** An object, so that no closure is made per request. */
export interface CancelListener {
  handleEvent(): void;
}
