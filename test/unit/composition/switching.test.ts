import { expect, test, vi } from 'vitest';
import { openSwitching } from '../../../src/composition/switching.ts';
import { RunningExchanges } from '../../../src/pipeline/running.ts';
import { createMemoryShared } from '../../../src/stores/memory-shared.ts';
import type { SwitchedOff, SwitchStore } from '../../../src/stores/switches.ts';

const record: SwitchedOff = {
  id: 'swi_1',
  kind: 'tenant',
  name: 'acme',
  within: '',
  reason: '',
  is_public: false,
  created_at: 0,
  created_by: 'test',
  until: null,
};

test('while the database cannot be read the last known switches hold, and after three seconds it is alarmed', async () => {
  vi.useFakeTimers();
  try {
    let broken = false;
    let version = 1;
    const answer = async <T>(value: T): Promise<T> => {
      if (broken) throw new Error('disk I/O error');
      return value;
    };
    let rows: SwitchedOff[] = [record];
    const store: SwitchStore = {
      version: () => answer(version),
      list: () => answer(rows),
      off: () => Promise.reject(new Error('not used')),
      on: () => Promise.reject(new Error('not used')),
      externalVersion: () => null,
    };
    const stale: boolean[] = [];
    const noticed: string[] = [];
    using switching = await openSwitching({
      store,
      keys: { standing: () => answer([]) },
      shared: createMemoryShared(),
      clock: { now: () => Date.now() },
      logger: { debug() {}, info() {}, warn() {}, error() {} },
      running: new RunningExchanges({ graceMs: () => 0, onCut: () => {}, onTunnelCut: () => {} }),
      metrics: { switchedOff: () => {}, switchesStale: (is) => void stale.push(is) },
      issuerOf: () => null,
      onNoticed: ({ operation }) => void noticed.push(operation),
    });
    expect(switching.board.isEmpty).toBe(false);
    broken = true;
    await vi.advanceTimersByTimeAsync(2500);
    expect(switching.isStale).toBe(false);
    await vi.advanceTimersByTimeAsync(1500);
    expect([switching.isStale, switching.board.isEmpty, stale]).toEqual([true, false, [true]]);
    broken = false;
    rows = [];
    version = 2;
    await vi.advanceTimersByTimeAsync(500);
    expect([switching.isStale, switching.board.isEmpty, stale]).toEqual([false, true, [true, false]]);
    expect(noticed).toEqual(['switch:on']);
  } finally {
    vi.useRealTimers();
  }
});
