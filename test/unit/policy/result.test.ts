import { describe, expect, test } from 'vitest';
import type { JsonValue } from '../../../src/core/json.ts';
import { failedVerdict, readVerdict, readVerdicts } from '../../../src/policy/result.ts';

const read = (value: JsonValue) => readVerdict({ kind: 'value', value, volatile: false });
const answer = (parts: Record<string, JsonValue> = {}) => ({ allow: true, deny: [], obligations: [], ...parts });
const deny = (code: string, from = 'p', message = 'm') => ({ package: from, code, message, severity: 'high' });

describe('the answer of the policy', () => {
  test('allows when it says so and nothing speaks against it', () => {
    expect(read(answer())).toMatchObject({ allow: true, deny: [], obligations: [], failure: null });
  });

  test('denies when a violation stands beside an allow', () => {
    expect(read(answer({ deny: [deny('MFA_REQUIRED')] }))).toMatchObject({ allow: false, failure: null });
  });

  test('gives every deny a reason', () => {
    expect(read(answer({ allow: false })).deny).toMatchObject([{ code: 'POLICY_DENIED' }]);
  });

  test('puts reasons and obligations in one order', () => {
    const reasons = [deny('REGION_DENIED', 'b'), deny('MFA_REQUIRED', 'b'), deny('REGION_DENIED', 'a')];
    const order = read(answer({ deny: reasons })).deny.map((one) => one.package + one.code);
    expect(order).toEqual(['aREGION_DENIED', 'bMFA_REQUIRED', 'bREGION_DENIED']);
    const obligations = [
      { type: 'redact_result', names: ['b'] },
      { type: 'audit', level: 'full' },
    ];
    const forth = JSON.stringify(read(answer({ obligations })).obligations);
    expect(JSON.stringify(read(answer({ obligations: [...obligations].reverse() })).obligations)).toBe(forth);
  });

  test.each([
    ['no object', 'yes'],
    ['null', null],
    ['a list', []],
    ['allow as text', answer({ allow: 'true' })],
    ['allow as number', answer({ allow: 1 })],
    ['no allow', { deny: [], obligations: [] }],
    ['no deny list', { allow: true, obligations: [] }],
    ['deny as object', answer({ deny: {} })],
    ['a deny without code', answer({ deny: [{ package: 'p', message: 'm', severity: 'high' }] })],
    ['a deny with an unknown code', answer({ deny: [deny('NO_SUCH_CODE')] })],
    ['a deny with a code every object has', answer({ deny: [deny('toString')] })],
    ['a deny of unknown severity', answer({ deny: [{ ...deny('MFA_REQUIRED'), severity: 'huge' }] })],
    ['a time that is none', answer({ valid_until: 'tomorrow' })],
    ['a negative time', answer({ valid_until: -1 })],
  ])('denies on %s', (_, value) => {
    expect(read(value as JsonValue)).toMatchObject({
      allow: false,
      failure: 'bad_result',
      deny: [{ code: 'POLICY_EVALUATION_ERROR' }],
    });
  });

  test.each([
    [{ type: 'launch_rocket' }],
    [{ type: 'constructor' }],
    [{}],
    ['redact_parameters'],
    [{ type: 'redact_parameters', names: 'password' }],
    [{ type: 'redact_result', names: [''] }],
    [{ type: 'rate_limit', limit: -1, window_seconds: 60 }],
    [{ type: 'clamp', name: 'max_tokens', maximum: '9' }],
    [{ type: 'set_header', name: 'x', value: 'a\r\nb: c' }],
    [{ type: 'audit', level: 'none' }],
  ])('denies on the obligation %j, which it does not know', (obligation) => {
    expect(read(answer({ obligations: [obligation as JsonValue] }))).toMatchObject({
      allow: false,
      failure: 'unknown_obligation',
    });
  });

  test('denies on obligations that are no list', () => {
    expect(read({ allow: true, deny: [] })).toMatchObject({ allow: false, failure: 'unknown_obligation' });
  });

  test('takes an approval or second factor still to be had as a deny', () => {
    expect(read(answer({ obligations: [{ type: 'require_approval' }] }))).toMatchObject({
      allow: false,
      deny: [{ code: 'APPROVAL_REQUIRED' }],
      obligations: [{ type: 'require_approval' }],
    });
    expect(read(answer({ obligations: [{ type: 'require_mfa' }] })).deny).toMatchObject([{ code: 'MFA_REQUIRED' }]);
  });

  test('reads its end of validity in both spellings', () => {
    expect(read(answer({ valid_until: '2025-01-15T17:00:00Z' })).validUntil).toBe(Date.UTC(2025, 0, 15, 17));
    expect(read(answer({ valid_until: 1_736_960_400_000_000_000 })).validUntil).toBe(1_736_960_400_000);
    expect(read(answer({ valid_until: null })).validUntil).toBeNull();
  });

  test('has a name for each way not to exist', () => {
    expect(readVerdict({ kind: 'undefined', volatile: false }).failure).toBe('undefined');
    expect(readVerdict({ kind: 'failed', failure: 'timeout', detail: 'x' }).failure).toBe('timeout');
    expect(failedVerdict('no_bundle', null).deny[0]?.code).toBe('POLICY_UNAVAILABLE');
  });
});

describe('the answers for a list', () => {
  const list = (value: JsonValue) => readVerdicts({ kind: 'value', value, volatile: false }, 2);

  test('are read one by one: a bad one spoils no other', () => {
    expect(list([answer(), 'x']).map((one) => one.allow)).toEqual([true, false]);
  });

  test.each([[[]], [[answer()]], [[answer(), answer(), answer()]], [{}], [null]])('all deny on %j', (value) => {
    expect(list(value as JsonValue)).toMatchObject([{ failure: 'bad_result' }, { failure: 'bad_result' }]);
  });

  test('all deny when the evaluation failed', () => {
    const all = readVerdicts({ kind: 'failed', failure: 'memory', detail: '' }, 3);
    expect(all.map((one) => [one.allow, one.failure])).toEqual(Array.from({ length: 3 }, () => [false, 'memory']));
  });
});
