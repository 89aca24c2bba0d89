/** State that several gateways share: counters, revocations, messages. Memory by default. Source: architecture 7. */

export interface WindowCount {
  /** Hits in the current window, this one included. */
  readonly count: number;
  /** Epoch milliseconds at which the window ends. */
  readonly resetAt: number;
}

export interface Shared extends AsyncDisposable {
  /** Counts one hit in a fixed window aligned to the epoch. Atomic over all processes. */
  hit(key: string, windowMs: number): WindowCount | Promise<WindowCount>;
  get(key: string): Promise<string | null>;
  set(key: string, value: string, ttlMs: number): Promise<void>;
  /** Sets only if absent; true for the one caller that wins. */
  claim(key: string, value: string, ttlMs: number): Promise<boolean>;
  delete(key: string): Promise<void>;
  publish(channel: string, message: string): Promise<void>;
  /** Returns the way to stop listening. */
  subscribe(channel: string, listener: (message: string) => void): () => void;
}
