import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Breaker, type BreakerState, type Trial, type Verdict } from '../../../src/upstreams/breaker.ts';
import { verifies } from '../../helpers/verifies.ts';

const OPTIONS = { volume: 3, error_percentage: 50, window_ms: 1000, reset_ms: 5000, timeout_ms: 200 };

/** A call whose verdict the test gives. */
class Call implements Trial {
  report: (verdict: Verdict) => void = () => {};
  late: Verdict = 'fault';
  overdues = 0;

  begin(report: (verdict: Verdict) => void): void {
    this.report = report;
  }

  overdue(): Verdict {
    this.overdues++;
    return this.late;
  }
}

let breaker: Breaker;
let states: BreakerState[];

function start(): Call {
  const call = new Call();
  expect(breaker.refusal()).toBeNull();
  breaker.run(call);
  return call;
}

/** Runs calls to their end, one after the other. */
async function run(...verdicts: Verdict[]): Promise<void> {
  for (const verdict of verdicts) {
    start().report(verdict);
    await settled();
  }
}

/** Lets the promises inside the breaker come to rest; time stands still. */
const settled = (): Promise<unknown> => vi.advanceTimersByTimeAsync(0);

describe('the circuit breaker', () => {
  verifies('S-85', 'SF-63');

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] });
    states = [];
    breaker = new Breaker({ ...OPTIONS, onStateChange: (state) => states.push(state) });
  });
  afterEach(() => {
    breaker.close();
    vi.useRealTimers();
  });

  test('opens at the volume of faults and says how long to wait', async () => {
    await run('fault', 'fault');
    expect(breaker.state).toBe('closed');
    await run('fault');
    expect(breaker.state).toBe('open');
    expect(breaker.refusal()).toBe(5);
    await vi.advanceTimersByTimeAsync(4200);
    expect(breaker.refusal()).toBe(1);
  });

  test('stays closed while the share of faults is below the percentage', async () => {
    await run('answered', 'answered', 'answered', 'answered', 'fault', 'fault', 'fault');
    expect(breaker.state).toBe('closed');
    await run('fault');
    expect(breaker.state).toBe('open');
  });

  test('forgets faults that are older than the window', async () => {
    await run('fault', 'fault');
    await vi.advanceTimersByTimeAsync(1100);
    await run('fault', 'fault');
    expect(breaker.state).toBe('closed');
  });

  test('counts neither for nor against when nobody can tell', async () => {
    await run(...Array<Verdict>(50).fill('neutral'), 'fault', 'fault', 'fault');
    expect(breaker.state).toBe('open');
  });

  test('lets one probe of a stampede pass when half-open, and closes when it is answered', async () => {
    await run('fault', 'fault', 'fault');
    await vi.advanceTimersByTimeAsync(5000);
    expect(breaker.state).toBe('half_open');
    const probe = start();
    for (let i = 0; i < 100; i++) expect(breaker.refusal()).toBe(1);
    probe.report('answered');
    await settled();
    expect(breaker.state).toBe('closed');
    expect(states).toEqual(['open', 'half_open', 'closed']);
  });

  test('opens again at once when the probe fails, for a whole period', async () => {
    await run('fault', 'fault', 'fault');
    await vi.advanceTimersByTimeAsync(5000);
    await run('fault');
    expect(breaker.state).toBe('open');
    expect(breaker.refusal()).toBe(5);
    await vi.advanceTimersByTimeAsync(5000);
    expect(breaker.state).toBe('half_open');
  });

  test('probes again when the probe proved nothing', async () => {
    await run('fault', 'fault', 'fault');
    await vi.advanceTimersByTimeAsync(5000);
    await run('neutral');
    expect(breaker.state).toBe('half_open');
    await run('answered');
    expect(breaker.state).toBe('closed');
  });

  test('opens again when the probe hangs', async () => {
    await run('fault', 'fault', 'fault');
    await vi.advanceTimersByTimeAsync(5000);
    const probe = start();
    await vi.advanceTimersByTimeAsync(OPTIONS.timeout_ms);
    expect(probe.overdues).toBe(1);
    expect(breaker.state).toBe('open');
    probe.report('answered');
    await settled();
    expect(breaker.state).toBe('open');
  });

  test('is not stuck when a hung probe was nobody’s fault', async () => {
    await run('fault', 'fault', 'fault');
    await vi.advanceTimersByTimeAsync(5000);
    start().late = 'neutral';
    await vi.advanceTimersByTimeAsync(OPTIONS.timeout_ms);
    expect(breaker.state).toBe('half_open');
    await run('answered');
    expect(breaker.state).toBe('closed');
  });

  test('a late success of an earlier period neither closes it nor resets anything', async () => {
    const slow = [start(), start(), start(), start()];
    await run('fault', 'fault', 'fault');
    slow[0]?.report('answered');
    await settled();
    expect(breaker.state).toBe('open');
    await vi.advanceTimersByTimeAsync(100);
    await vi.advanceTimersByTimeAsync(4900);
    expect(breaker.state).toBe('half_open');
    const probe = start();
    slow[1]?.report('answered');
    await settled();
    expect(breaker.state).toBe('half_open');
    probe.report('fault');
    await settled();
    expect(breaker.state).toBe('open');
  });

  test('late faults of an earlier period do not count against the new one', async () => {
    const slow = [start(), start(), start()];
    await run('fault', 'fault', 'fault');
    await vi.advanceTimersByTimeAsync(0);
    breaker.reset();
    for (const call of slow) call.report('fault');
    await settled();
    expect(breaker.state).toBe('closed');
  });

  test('a call of an earlier period is still told that its time is over', async () => {
    const slow = start();
    await run('fault', 'fault', 'fault');
    await vi.advanceTimersByTimeAsync(OPTIONS.timeout_ms);
    expect(slow.overdues).toBe(1);
    expect(breaker.state).toBe('open');
  });

  test('time-outs count as faults', async () => {
    start();
    start();
    start();
    await vi.advanceTimersByTimeAsync(OPTIONS.timeout_ms);
    expect(breaker.state).toBe('open');
  });

  test('can be closed by hand', async () => {
    await run('fault', 'fault', 'fault');
    breaker.reset();
    expect(breaker.state).toBe('closed');
    await run('fault', 'fault');
    expect(breaker.state).toBe('closed');
    await vi.advanceTimersByTimeAsync(10_000);
    expect(breaker.state).toBe('closed');
  });

  test('keeps working over many periods without piling up listeners', async () => {
    for (let i = 0; i < 30; i++) {
      await run('fault', 'fault', 'fault');
      await vi.advanceTimersByTimeAsync(5000);
      await run('answered');
      expect(breaker.state).toBe('closed');
      await vi.advanceTimersByTimeAsync(1100);
    }
  });
});
