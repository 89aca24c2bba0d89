/** State that several gateways share: counters, revocations, messages. Memory by default. Source: architecture 7. */

export interface WindowCount {
  /** Hits in the current window, this one included. */
  readonly count: number;
  /** Epoch milliseconds at which the window ends. */
  readonly resetAt: number;
}

/** A token bucket: holds `limit` tokens and is full again `windowMs` after it was emptied. */
export interface Bucket {
  readonly limit: number;
  readonly windowMs: number;
}

/** What taking one token came to. Times are milliseconds from now. */
export interface Taken {
  readonly isAllowed: boolean;
  /** Whole tokens left. */
  readonly remaining: number;
  /** Until the bucket is full. */
  readonly fullInMs: number;
  /** Until there is a token; 0 when one was taken. */
  readonly retryInMs: number;
}

export interface Shared extends AsyncDisposable {
  /** Counts one hit in a fixed window aligned to the epoch. Atomic over all processes. */
  hit(key: string, windowMs: number): WindowCount | Promise<WindowCount>;
  /**
   * Takes one token of a bucket; a refusal takes none. Atomic over all processes. Buckets of one key but another limit or
   * window are others.
   */
  take(key: string, bucket: Bucket): Taken | Promise<Taken>;
  get(key: string): Promise<string | null>;
  set(key: string, value: string, ttlMs: number): Promise<void>;
  /** Sets only if absent; true for the one caller that wins. */
  claim(key: string, value: string, ttlMs: number): Promise<boolean>;
  delete(key: string): Promise<void>;
  publish(channel: string, message: string): Promise<void>;
  /** Returns the way to stop listening. */
  subscribe(channel: string, listener: (message: string) => void): () => void;
}
