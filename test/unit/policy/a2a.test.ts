/** What the policy is told of delegation and of calls between agents, and that no remembered decision forgets it. */
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type A2aFacts, a2aUser } from '../../../src/core/call.ts';
import type { Decision, DecisionRequest } from '../../../src/core/decision.ts';
import { type Actor, makePrincipal } from '../../../src/core/principal.ts';
import { createClassify } from '../../../src/pipeline/stages/classify.ts';
import { KeyMaker } from '../../../src/policy/decision-key.ts';
import { buildBatchInput, buildInput } from '../../../src/policy/input.ts';
import { createPolicyEngine, type OpaEngine } from '../../../src/policy/opa-engine.ts';
import { silent } from '../../helpers/mcp-exchange.ts';
import { verifies } from '../../helpers/verifies.ts';
import { makeRequest, makeServer, NOW } from './requests.ts';

const someone = (roles: string[], tenure_months: number | null, actor: Actor | null = null, id = 'alice') =>
  makePrincipal({ id, roles, tenure_months, actor }, 'keys', 'api-key');
const ACTOR: Actor = { id: 'bot', type: 'agent', actor: { id: 'helper', type: 'service', actor: null } };

function facts(over: Partial<A2aFacts> = {}): A2aFacts {
  return {
    source_user: a2aUser(someone(['admin'], 24)),
    target_user: a2aUser(someone(['developer'], 6, null, 'bob')),
    source_agent: null,
    target_agent: null,
    capability: null,
    context: { workflow_id: 'w1', user_id: null, delegation_depth: 0 },
    ...over,
  };
}

function delegation(a2a: A2aFacts, actor: Actor | null = null): DecisionRequest {
  return makeRequest({
    principal: someone(['admin'], 24, actor),
    call: {
      ...{ action: 'a2a:delegate', server: null, tool: null, parameters: null, a2a },
      resource: { type: 'principal', id: 'bob', tenant_id: 'default', owner_id: null, permissions: null },
    },
  });
}

describe('the policy input of a call between parties', () => {
  test('names both sides and the context', () => {
    verifies('SW-04');
    const agent = { id: 'a1', name: 'planner', trust_level: 'high', capabilities: ['plan'] };
    const given = facts({ source_agent: agent, target_agent: { ...agent, id: 'a2' }, capability: 'plan' });
    const { a2a: _, ...input } = { ...buildInput(delegation(given), null), a2a: null };
    expect(input).toMatchObject({ ...given, delegation_depth: 0, delegation_chain: [] });
  });

  test('tells depth and chain of the caller, current actor first, in every call', () => {
    verifies('S-49');
    const chain = [
      { id: 'bot', type: 'agent' },
      { id: 'helper', type: 'service' },
    ];
    const request = makeRequest({ principal: someone(['admin'], 24, ACTOR) });
    expect(buildInput(request, makeServer())).toMatchObject({ delegation_depth: 2, delegation_chain: chain });
    expect(buildInput(delegation(facts(), ACTOR), null)).toMatchObject({
      delegation_depth: 2,
      delegation_chain: chain,
    });
    expect(buildInput(request, null).context).toMatchObject({ delegation_depth: 2 });
  });

  test('keeps the facts of one element of a list out of the others', () => {
    const plain = makeRequest({ principal: someone(['admin'], 24) });
    const input = buildBatchInput([delegation(facts()), plain], () => null);
    expect(input.source_user).toBeNull();
    expect(input.calls[0]).toMatchObject({ source_user: { id: 'alice' }, target_user: { id: 'bob' } });
    expect(input.calls[1]).not.toHaveProperty('source_user');
  });

  test('still has the facts when the call has been classified', () => {
    const classification = { tool_type: 'custom', sensitivity_level: 'low', reasons: [], resources: [] } as const;
    const run = createClassify({ classify: () => classification } as never, new Map());
    const { call } = delegation(facts());
    expect(run(call).a2a).toBe(call.a2a);
    expect(run(makeRequest().call)).not.toHaveProperty('a2a');
  });
});

describe('a remembered decision', () => {
  test.each([
    ['source', ['source_user'], { source_user: a2aUser(someone(['guest'], null)) }],
    ['target', ['target_user'], { target_user: a2aUser(someone(['admin'], 24)) }],
    ['capability', ['capability'], { capability: 'other' }],
    ['context', ['context'], { context: { workflow_id: 'w2', user_id: null, delegation_depth: 0 } }],
  ] as const)('is never that of another %s', (_, path, over) => {
    const keys = new KeyMaker([path], {});
    const key = (request: DecisionRequest) => keys.key('e', request, null);
    expect(key(delegation(facts()))).toBe(key(delegation(facts())));
    expect(key(delegation(facts()))).not.toBe(key(delegation(facts(over))));
    expect(key(delegation(facts()))).not.toBe(key(makeRequest()));
  });

  test.each(['delegation_depth', 'delegation_chain', 'context', 'user'])(
    'is never that of another chain (%s)',
    (name) => {
      const keys = new KeyMaker([[name]], {});
      expect(keys.key('e', delegation(facts()), null)).not.toBe(keys.key('e', delegation(facts(), ACTOR), null));
    },
  );
});

describe('the default policy on delegations', () => {
  const engines: OpaEngine[] = [];
  beforeAll(async () => {
    for (const entries of [10_000, 0]) {
      engines.push(
        await createPolicyEngine({
          bundleDir: fileURLToPath(new URL('../../../policies/', import.meta.url)),
          ...{ dataFile: fileURLToPath(new URL('../../../policies/data.json', import.meta.url)), servers: new Map() },
          ...{ entrypoint: 'portcullis/main/decision', clock: { now: () => NOW }, decisionLog: null, logger: silent },
          cache: { entries, base_ttl_ms: 60_000 },
        }),
      );
    }
  });
  afterAll(async () => {
    for (const engine of engines) await engine.close();
  });

  test('are the same from memory, whoever asks for whom at what depth', () => {
    verifies('S-42', 'SF-35');
    const [cached, plain] = engines as [OpaEngine, OpaEngine];
    const said = ({ allow, deny }: Decision) => ({ allow, deny });
    const party = fc.record({
      roles: fc.subarray(['admin', 'developer', 'analyst', 'guest']),
      tenure: fc.constantFrom(null, 0, 5, 6, 11, 12, 24),
    });
    let hits = 0;
    let allowed = 0;
    fc.assert(
      fc.property(party, party, fc.integer({ min: 0, max: 6 }), (from, to, depth) => {
        let actor: Actor | null = null;
        for (let i = 0; i < depth; i++) actor = { id: `a${i}`, type: 'agent', actor };
        const request = delegation(
          facts({
            source_user: a2aUser(someone(from.roles, from.tenure)),
            target_user: a2aUser(someone(to.roles, to.tenure, null, 'bob')),
          }),
          actor,
        );
        const decision = cached.decide(request);
        expect(said(decision)).toEqual(said(plain.decide(request)));
        if (decision.cached) hits++;
        if (decision.allow) allowed++;
      }),
      { numRuns: 3000 },
    );
    expect(hits).toBeGreaterThan(20);
    expect(allowed).toBeGreaterThan(100);
  });
});
