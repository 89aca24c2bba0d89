/** How the answers for several parties become one, whatever the policy says to each. */
import { describe, expect, test } from 'vitest';
import type { Decision, DecisionRequest } from '../../../src/core/decision.ts';
import { makePrincipal, type Principal } from '../../../src/core/principal.ts';
import { decideJointly, decideManyJointly } from '../../../src/policy/joint.ts';
import { verifies } from '../../helpers/verifies.ts';
import { makeRequest } from './requests.ts';

const ALLOW: Decision = {
  ...{ decision_id: 'dec_0', allow: true, deny: [], obligations: [], revision: 'sha256:0', cached: true, eval_us: 2 },
  failure: null,
};
const reason = (code: string): Decision['deny'][number] => ({ package: 'p', code, message: code, severity: 'low' });

const person = (id: string): Principal => makePrincipal({ id, roles: [id] }, 'keys', 'api-key');
const PARTIES = [person('boss'), person('bot')];
const lent: Principal = {
  ...person('boss'),
  roles: [],
  actor: { id: 'bot', type: 'user', actor: null },
  parties: PARTIES,
};

/** Says to each party what stands under its id, and keeps what it was asked. */
function engineSaying(answers: Record<string, Partial<Decision>>) {
  const asked: DecisionRequest[] = [];
  const decide = (request: DecisionRequest): Decision => {
    asked.push(request);
    return { ...ALLOW, decision_id: `dec_${request.principal.id}`, ...answers[request.principal.id] };
  };
  const decideMany = (requests: readonly DecisionRequest[]) => requests.map(decide);
  return { asked, decide, decideMany };
}

describe('the decision for several parties', () => {
  test('is an allow only when each is allowed, with the obligations of all, each once', () => {
    verifies('SF-42');
    const audit = { type: 'audit', level: 'full' } as const;
    const clamp = { type: 'clamp', name: 'limit', maximum: 5 } as const;
    const engine = engineSaying({
      boss: { obligations: [audit] },
      bot: { obligations: [clamp, audit], cached: false },
    });
    expect(decideJointly(engine, makeRequest({ principal: lent }), PARTIES)).toEqual({
      ...{ ...ALLOW, decision_id: 'dec_boss', obligations: [audit, clamp], cached: false, eval_us: 4 },
    });
  });

  test.each([
    [{ boss: { allow: false, deny: [reason('FORBIDDEN')] } }, 'dec_boss', ['FORBIDDEN']],
    [{ bot: { allow: false, deny: [reason('MFA_REQUIRED')] } }, 'dec_bot', ['MFA_REQUIRED']],
    [
      {
        boss: { allow: false, deny: [reason('REGION_DENIED'), reason('FORBIDDEN')] },
        bot: { allow: false, deny: [reason('FORBIDDEN')] },
      },
      'dec_boss',
      ['FORBIDDEN', 'REGION_DENIED'],
    ],
  ] as const)('is a refusal when one is refused, with the reasons of all: %j', (answers, id, codes) => {
    const decision = decideJointly(engineSaying(answers), makeRequest({ principal: lent }), PARTIES);
    expect(decision).toMatchObject({ allow: false, decision_id: id });
    expect(decision.deny.map(({ code }) => code)).toEqual(codes);
  });

  test('is a refusal where one header would need two values', () => {
    const header = (name: string, value: string) => ({ obligations: [{ type: 'set_header', name, value } as const] });
    const ask = (boss: Partial<Decision>, bot: Partial<Decision>) =>
      decideJointly(engineSaying({ boss, bot }), makeRequest({ principal: lent }), PARTIES);
    expect(ask(header('x-tier', 'gold'), header('X-Tier', 'silver'))).toMatchObject({ allow: false, failure: null });
    expect(ask(header('x-tier', 'gold'), header('X-Tier', 'gold')).allow).toBe(true);
    expect(ask(header('x-tier', 'gold'), header('x-other', 'silver')).allow).toBe(true);
  });

  test('is none when it could not be made for one', () => {
    const engine = engineSaying({ bot: { allow: false, failure: 'abort' } });
    expect(decideJointly(engine, makeRequest({ principal: lent }), PARTIES)).toMatchObject({
      failure: 'abort',
      allow: false,
    });
  });

  test('asks about each with its own facts, the chain in sight and the delegator’s objects as lent', () => {
    const engine = engineSaying({});
    const resource = { type: 'response', id: 'r', tenant_id: 'default', owner_id: 'boss', permissions: null } as const;
    decideJointly(engine, makeRequest({ principal: lent, call: { resource } }), PARTIES);
    expect(engine.asked.map(({ principal, call }) => [principal.id, principal.roles, call.resource.owner_id])).toEqual([
      ['boss', ['boss'], 'boss'],
      ['bot', ['bot'], 'bot'],
    ]);
    for (const { principal } of engine.asked) {
      expect(principal.actor).toEqual(lent.actor);
      expect(principal).not.toHaveProperty('parties');
    }
  });

  test('does not make what belongs to somebody else the actor’s own', () => {
    const engine = engineSaying({});
    const resource = { type: 'response', id: 'r', tenant_id: 'default', owner_id: 'carol', permissions: null } as const;
    decideJointly(engine, makeRequest({ principal: lent, call: { resource } }), PARTIES);
    expect(engine.asked.map(({ call }) => call.resource.owner_id)).toEqual(['carol', 'carol']);
  });

  test('keeps the order of a list, and asks once per party', () => {
    const engine = engineSaying({ bot: {} });
    const requests = ['a', 'b', 'c'].map((tool) => makeRequest({ principal: lent, call: { tool } }));
    const answers = decideManyJointly(
      {
        ...engine,
        decideMany: (many) =>
          many.map((one) => ({ ...ALLOW, allow: !(one.principal.id === 'bot' && one.call.tool === 'b') })),
      },
      requests,
      PARTIES,
    );
    expect(answers.map(({ allow }) => allow)).toEqual([true, false, true]);
  });

  test('refuses to be made for nobody', () => {
    expect(() => decideJointly(engineSaying({}), makeRequest({ principal: lent }), [])).toThrow(TypeError);
  });
});
