/** Opens the shared state that a configuration names, and keeps counting possible while it is away. */
import type { Clock } from '../core/clock.ts';
import type { Database } from './database.ts';
import { createDurableShared } from './durable-shared.ts';
import { createMemoryShared } from './memory-shared.ts';
import type { Shared } from './shared.ts';

export interface SharedOptions {
  readonly clock: Clock;
  /** Where `memory` keeps what must not be lost. */
  readonly database: Database;
  /** Keys that begin with one of these must not be lost. */
  readonly kept: readonly string[];
  readonly onError: (error: Error) => void;
  /** PEM text of the authority of a `rediss://` server; null: one of the system's. */
  readonly ca?: string | null;
}

/** `memory`, or a Redis URL. Rejects when Redis cannot be reached. */
export async function openShared(url: string, options: SharedOptions): Promise<Shared> {
  const { clock, onError, ca = null } = options;
  if (url === 'memory') return createDurableShared({ ...options, memory: createMemoryShared({ clock }) });
  // The driver is loaded only where it is used.
  const { openRedisShared } = await import('./redis-shared.ts');
  const trust = ca === null ? null : { ca };
  return openRedisShared({ url, onError, onListenerError: (error) => onError(error as Error), ...trust });
}

/** The counting half of shared state. */
export type Counters = Pick<Shared, 'hit' | 'take'>;

/**
 * Counters that go on in this process while the shared ones are away: a limit is then each process's own, instead of
 * everybody's or nobody's. Not for guarding passwords: there an outage has to refuse.
 */
export function insuredCounters(shared: Shared, clock: Clock, onOutage: (error: unknown) => void): Counters {
  const own = createMemoryShared({ clock });
  return {
    hit(key, windowMs) {
      return insured(shared.hit(key, windowMs), onOutage, () => own.hit(key, windowMs));
    },
    take(key, bucket) {
      return insured(shared.take(key, bucket), onOutage, () => own.take(key, bucket));
    },
  };
}

function insured<T>(
  asked: T | Promise<T>,
  onOutage: (error: unknown) => void,
  own: () => T | Promise<T>,
): T | Promise<T> {
  if (!(asked instanceof Promise)) return asked;
  return asked.catch((error: unknown) => {
    onOutage(error);
    return own();
  });
}
