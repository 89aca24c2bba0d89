import { describe, expect, test } from 'vitest';
import { isSamePerson, mismatch, requesterOf, requireFit } from '../../../src/approvals/rules.ts';
import type { GatewayError } from '../../../src/core/errors.ts';
import type { Principal, PrincipalFacts } from '../../../src/core/principal.ts';
import { makePrincipal } from '../../../src/core/principal.ts';
import { joinParties } from '../../../src/identity/delegation-rights.ts';
import { verifies } from '../../helpers/verifies.ts';
import { approvalRecord } from './records.ts';

const who = (facts: PrincipalFacts): Principal => makePrincipal(facts, 'keys', 'api-key');
const { requester, call } = approvalRecord();
const asked = who({ id: requester.id, type: 'user' });

describe('two pairs of eyes', () => {
  test.each<[string, PrincipalFacts]>([
    ['the requester', { id: 'user-admin' }],
    ['the requester by another way of signing in, with the same name', { id: 'ldap:alice', username: 'ALICE' }],
    ['the same with the same address', { id: 'idp|77', email: 'Alice@Example.com' }],
    ['somebody acting for the requester', { id: 'agent-1', actor: { id: 'user-admin', type: 'user', actor: null } }],
  ])('%s is the same person', (_what, facts) => {
    expect(isSamePerson(requester, who(facts))).toBe(true);
  });

  test('who acted for the requester is the same person too', () => {
    expect(isSamePerson({ ...requester, actors: ['agent-1', 'bob'] }, who({ id: 'bob' }))).toBe(true);
  });

  test('who acted for the requester is so by another way of signing in as well', () => {
    const [boss, bob] = [who({ id: 'boss', email: 'boss@example.com' }), who({ id: 'bob', email: 'bob@example.com' })];
    const actor = { id: 'bob', type: 'user', actor: null } as const;
    const kept = requesterOf(joinParties([boss, bob], { token_id: 'dlg_1', expires_at: 2_000_000_000, actor }));
    expect(isSamePerson(kept, who({ id: 'idp|bob', email: 'Bob@Example.com' }))).toBe(true);
    expect(isSamePerson(kept, who({ id: 'idp|boss', email: 'boss@example.com' }))).toBe(true);
    expect(isSamePerson(kept, who({ id: 'carol', email: 'carol@example.com', username: 'carol' }))).toBe(false);
    expect(requesterOf(boss)).not.toHaveProperty('actor_names');
  });

  test('another person is not, also where names are not known', () => {
    expect(isSamePerson(requester, who({ id: 'bob', username: 'bob', email: 'bob@example.com' }))).toBe(false);
    expect(isSamePerson({ ...requester, username: null, email: '' }, who({ id: 'bob', email: '' }))).toBe(false);
  });

  test('another spelling of a name, and another id of an account, is the same person', () => {
    expect(isSamePerson(requester, who({ id: 'x', username: 'Alice@Example.COM ' }))).toBe(true);
    expect(isSamePerson(requester, who({ id: 'ALICE' }))).toBe(true);
    expect(isSamePerson({ ...requester, id: 'bob@example.com' }, who({ id: 'x', email: 'Bob@example.com' }))).toBe(
      true,
    );
    expect(isSamePerson(requester, who({ id: 'subject-77' }), ['usr_1', 'user-admin'])).toBe(true);
    expect(isSamePerson(requester, who({ id: 'subject-77' }), ['usr_1'])).toBe(false);
    expect(isSamePerson({ ...requester, username: null, email: null }, who({ id: 'bob', username: ' ' }))).toBe(false);
  });

  const proved = { mfa_verified: true, key_id: null };
  const byPerson = (facts: PrincipalFacts) => makePrincipal({ auth: proved, ...facts }, 'idp', 'bearer');
  const strict = { requireMfa: true, allowPrograms: false };
  const open = { requireMfa: true, allowPrograms: true };
  const outcome = (principal: Principal, rules: typeof strict) => {
    try {
      requireFit(principal, rules);
      return 'fit';
    } catch (error) {
      return (error as GatewayError).code;
    }
  };

  test('who decides is a person that showed a second factor now', () => {
    const actor = { id: 'agent-1', type: 'agent', actor: null } as const;
    const rows: [Principal, string, string][] = [
      [byPerson({ id: 'bob', type: 'user' }), 'fit', 'fit'],
      [byPerson({ id: 'bob', type: 'user', auth: { mfa_verified: false } }), 'MFA_REQUIRED', 'MFA_REQUIRED'],
      [byPerson({ id: 'bob', type: 'user', auth: { ...proved, key_id: 'k' } }), 'MFA_REQUIRED', 'fit'],
      [who({ id: 'bob', type: 'user', auth: proved }), 'MFA_REQUIRED', 'fit'],
      [who({ id: 'bob', type: 'user' }), 'MFA_REQUIRED', 'MFA_REQUIRED'],
      [byPerson({ id: 'bot', type: 'service' }), 'FORBIDDEN', 'fit'],
      [who({ id: 'bot', type: 'service', auth: proved }), 'FORBIDDEN', 'fit'],
      [byPerson({ id: 'bot', type: 'agent' }), 'FORBIDDEN', 'FORBIDDEN'],
      [byPerson({ id: 'x', type: 'anonymous' }), 'FORBIDDEN', 'FORBIDDEN'],
      [byPerson({ id: 'bob', type: 'user', actor }), 'FORBIDDEN', 'FORBIDDEN'],
    ];
    for (const [principal, strictly, openly] of rows) {
      expect([outcome(principal, strict), outcome(principal, open)]).toEqual([strictly, openly]);
    }
    // Without a second factor asked for, a key will do; a service will not.
    expect(outcome(who({ id: 'bob', type: 'user' }), { ...strict, requireMfa: false })).toBe('fit');
    expect(outcome(who({ id: 'bot', type: 'service' }), { ...strict, requireMfa: false })).toBe('FORBIDDEN');
  });
});

describe('an approval is bound', () => {
  test('to what was asked for, and to nothing else', () => {
    verifies('SF-32');
    expect(mismatch(approvalRecord(), asked, call)).toBeNull();
    const others = {
      other_action: { action: 'gateway:prompt:get' },
      other_server: { server: 'everything' },
      other_tool: { tool: 'reset_database' },
      changed_arguments: { arguments_digest: 'sha256:01' },
      changed_definition: { schema_hash: 'sha256:02' },
      changed_class: { sensitivity_level: 'high' },
      changed_policy: { policy_revision: 'sha256:bb' },
    } as const;
    for (const [why, change] of Object.entries(others)) {
      expect(mismatch(approvalRecord(), asked, { ...call, ...change })).toMatchObject({ why });
    }
    expect(mismatch(approvalRecord(), asked, { ...call, resource: 'tool:orders:other' })).toMatchObject({
      why: 'other_tool',
    });
    expect(mismatch(approvalRecord(), asked, { ...call, tool_type: 'query' })).toMatchObject({ why: 'changed_class' });
    const bound = approvalRecord({ call: { ...call, target: 'sha256:03' } });
    expect(mismatch(bound, asked, { ...call, target: 'sha256:03' })).toBeNull();
    for (const moved of [call, { ...call, target: 'sha256:04' }])
      expect(mismatch(bound, asked, moved)).toMatchObject({ why: 'changed_definition' });
    // What was approved before an update has none.
    expect(mismatch(approvalRecord(), asked, { ...call, target: 'sha256:03' })).toBeNull();
  });

  test('to the caller, its tenant, and who acts for it', () => {
    const strangers: PrincipalFacts[] = [
      { id: 'bob', type: 'user' },
      { id: requester.id, type: 'user', tenant_id: 'other' },
      { id: requester.id, type: 'service' },
      { id: requester.id, type: 'user', actor: { id: 'agent-1', type: 'agent', actor: null } },
    ];
    for (const facts of strangers) {
      expect(mismatch(approvalRecord(), who(facts), call)).toMatchObject({ why: 'other_principal' });
    }
  });
});
