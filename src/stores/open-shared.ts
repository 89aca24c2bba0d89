/** Opens the shared state that a configuration names, and keeps counting possible while it is away. */
import type { Clock } from '../core/clock.ts';
import { createMemoryShared } from './memory-shared.ts';
import type { Shared, WindowCount } from './shared.ts';

export interface SharedOptions {
  readonly clock: Clock;
  readonly onError: (error: Error) => void;
}

/** `memory`, or a Redis URL. Rejects when Redis cannot be reached. */
export async function openShared(url: string, { clock, onError }: SharedOptions): Promise<Shared> {
  if (url === 'memory') return createMemoryShared({ clock });
  // The driver is loaded only where it is used.
  const { openRedisShared } = await import('./redis-shared.ts');
  return openRedisShared({ url, onError, onListenerError: (error) => onError(error as Error) });
}

/** The counting half of shared state. */
export type Counters = Pick<Shared, 'hit'>;

/**
 * Counters that go on in this process while the shared ones are away: a limit is then each process's own, instead of
 * everybody's or nobody's. Not for guarding passwords: there an outage has to refuse.
 */
export function insuredCounters(shared: Shared, clock: Clock, onOutage: (error: unknown) => void): Counters {
  const own = createMemoryShared({ clock });
  const fallBack = (error: unknown, key: string, windowMs: number): WindowCount | Promise<WindowCount> => {
    onOutage(error);
    return own.hit(key, windowMs);
  };
  return {
    hit(key, windowMs) {
      const hit = shared.hit(key, windowMs);
      return hit instanceof Promise ? hit.catch((error: unknown) => fallBack(error, key, windowMs)) : hit;
    },
  };
}
