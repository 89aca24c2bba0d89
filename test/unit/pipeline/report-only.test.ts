/** What a report-only route waives, and what it never does. */
import { describe, expect, test } from 'vitest';
import type { Decision } from '../../../src/core/decision.ts';
import { isReportOnly, waived } from '../../../src/pipeline/report-only.ts';
import { verifies } from '../../helpers/verifies.ts';

const denied: Decision = {
  ...{ decision_id: 'dec_1', allow: false, revision: 'r', cached: false, eval_us: 1, failure: null },
  deny: [{ package: 'p', code: 'POLICY_DENIED', message: 'No', severity: 'high' }],
  obligations: [{ type: 'audit', level: 'metadata' }, { type: 'require_approval' }],
};

describe('a decision on a report-only route', () => {
  test('becomes a permission that says what was refused and keeps only the demand on records', () => {
    verifies('X-10');
    expect(waived(denied, 'POLICY_DENIED')).toEqual({
      ...denied,
      ...{ allow: true, deny: [], obligations: [{ type: 'audit', level: 'metadata' }] },
      would_deny: { code: 'POLICY_DENIED', deny: denied.deny, failure: null },
    });
  });

  test('is waived also when it could not be made', () => {
    const failed: Decision = { ...denied, failure: 'timeout' };
    expect(waived(failed, 'POLICY_EVALUATION_ERROR')).toMatchObject({ allow: true, failure: null });
  });

  test('stays where it does not speak of what a caller may do', () => {
    expect(waived(denied, 'SERVER_DISABLED')).toBe(denied);
    expect(waived(denied, 'INVALID_CREDENTIALS')).toBe(denied);
    expect(waived(denied, 'MISSING_CREDENTIALS')).toBe(denied);
    const unreadable: Decision = { ...denied, failure: 'bad_input' };
    expect(waived(unreadable, 'POLICY_EVALUATION_ERROR')).toBe(unreadable);
  });

  test('that allows is taken as it is, without what it demands of the call', () => {
    const allowed: Decision = { ...denied, allow: true, deny: [], obligations: [] };
    expect(waived(allowed, null)).toBe(allowed);
    const limited: Decision = { ...allowed, obligations: [{ type: 'clamp', name: 'n', maximum: 1 }] };
    expect(waived(limited, null)).toEqual(allowed);
  });

  test('is one only where the route says so', () => {
    expect([isReportOnly({}), isReportOnly({ mode: 'enforce' }), isReportOnly({ mode: 'report' })]).toEqual([
      false,
      false,
      true,
    ]);
  });
});
