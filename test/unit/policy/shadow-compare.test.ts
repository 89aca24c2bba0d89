/** What counts as a difference between two policies. */
import { describe, expect, test } from 'vitest';
import type { Violation } from '../../../src/core/decision.ts';
import { Latency } from '../../../src/policy/latency.ts';
import { type Compared, compare } from '../../../src/policy/shadow-compare.ts';

const deny = (...codes: string[]): Compared => ({
  allow: false,
  deny: codes.map((code) => ({ code, message: code, package: 'p', severity: 'high' }) as Violation),
  obligations: [],
  failure: null,
});
const allow = (...obligations: Compared['obligations']): Compared => ({
  allow: true,
  deny: [],
  obligations,
  failure: null,
});
const failed: Compared = { ...deny('POLICY_EVALUATION_ERROR'), failure: 'timeout' };

describe('two decisions', () => {
  test.each([
    ['same', allow(), allow()],
    ['same', deny('A'), deny('A')],
    ['allow_to_deny', allow(), deny('A')],
    ['deny_to_allow', deny('A'), allow()],
    ['reasons', deny('A'), deny('B')],
    ['obligations', allow(), allow({ type: 'require_mfa' })],
    ['failure', allow(), failed],
    ['failure', deny('A'), failed],
    ['same', failed, failed],
    ['deny_to_allow', failed, allow()],
  ] as [string, Compared, Compared][])('are %s', (kind, live, candidate) => {
    expect(compare(live, candidate).kind).toBe(kind);
  });

  test('differ by the codes that only one of them has', () => {
    expect(compare(deny('A', 'B', 'B'), deny('B', 'C'))).toEqual({ kind: 'reasons', added: ['C'], removed: ['A'] });
  });

  test('are the same in whatever order obligations and their members come', () => {
    const header = { type: 'set_header', name: 'x-a', value: '1' } as const;
    const turned = { value: '1', name: 'x-a', type: 'set_header' } as const;
    expect(compare(allow(header, { type: 'require_mfa' }), allow({ type: 'require_mfa' }, turned)).kind).toBe('same');
  });
});

describe('latencies', () => {
  test('have quantiles that are at most a fifth too high', () => {
    const latency = new Latency();
    expect(latency.figures()).toEqual({ evaluations: 0, p50_us: null, p99_us: null });
    for (let us = 1; us <= 1000; us++) latency.record(us);
    const { evaluations, p50_us, p99_us } = latency.figures();
    expect(evaluations).toBe(1000);
    for (const [shown, real] of [
      [p50_us, 500],
      [p99_us, 990],
    ] as const) {
      expect(shown).toBeGreaterThanOrEqual(real);
      expect(shown).toBeLessThan(real * 1.2);
    }
    latency.record(1e12);
    expect(latency.figures().evaluations).toBe(1001);
  });
});
