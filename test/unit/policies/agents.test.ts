/** Calls between agents and decisions on approvals, as the compiled module answers under both data profiles. */
import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { policyInput } from '../../helpers/policy-input.ts';
import type { SdkPolicy } from '../../helpers/policy-sdk.ts';
import { sdkPolicy } from '../../helpers/policy-sdk.ts';
import { verifies } from '../../helpers/verifies.ts';

const ROOT = new URL('../../../', import.meta.url);
const PROFILES = { default: 'policies/data.json', strict: 'policies/profiles/strict.json' } as const;
const CHAIN = { id: 'x', type: 'user' };

interface Decision {
  readonly allow: boolean;
  readonly deny: readonly { readonly code: string; readonly message: string }[];
}

describe.each(Object.entries(PROFILES))('with the %s profile', (_, path) => {
  let policy: SdkPolicy;
  beforeAll(async () => {
    const data = JSON.parse(readFileSync(new URL(path, ROOT), 'utf8')) as object;
    policy = await sdkPolicy(readFileSync(new URL('policies/bundle/policy.wasm', ROOT)), data);
  });
  const decide = (input: unknown) => policy.evaluate(input, 'portcullis/main/decision') as Decision;

  function invocation(trust_level: string, depth = 0) {
    const plain = policyInput({ sensitivity_level: 'medium' });
    return {
      ...plain,
      ...{ action: 'a2a:invoke', server: null, tool: null, capability: 'report' },
      user: { ...plain.user, type: 'agent', roles: [] },
      source_agent: { id: 'a', name: null, trust_level, capabilities: [] },
      target_agent: { id: 'b', name: null, trust_level: 'limited', capabilities: ['report'] },
      context: { workflow_id: null, user_id: null, delegation_depth: depth },
    };
  }

  test('an agent of any trust level gets an answer, and the trusted alone an allow', () => {
    verifies('S-40', 'SW-13');
    const levels = ['critical', 'high', 'trusted', 'medium', 'low', 'limited', 'untrusted', 'supreme'];
    const answers = levels.map((level) => decide(invocation(level)));
    expect(answers.map(({ allow }) => allow)).toEqual([true, true, true, true, false, false, false, false]);
    for (const { allow, deny } of answers) {
      expect(deny.map(({ code }) => code)).toEqual(allow ? [] : ['POLICY_DENIED']);
    }
  });

  test('an agent may stand as deep in a chain as its trust allows', () => {
    verifies('S-43');
    const limits = { critical: 5, high: 3, trusted: 3, medium: 2 };
    for (const [level, limit] of Object.entries(limits)) {
      expect(decide(invocation(level, limit - 1)).allow, level).toBe(true);
      expect(decide(invocation(level, limit)).allow, level).toBe(false);
      const delegation_chain = Array.from({ length: limit }, () => CHAIN);
      expect(decide({ ...invocation(level), delegation_depth: limit, delegation_chain }).allow, level).toBe(false);
    }
    for (const depth of [-1, -7, 0.5]) expect(decide(invocation('critical', depth)).allow).toBe(false);
  });

  test('a capability that the target does not offer is not to be had', () => {
    for (const capability of ['delete', '', null]) {
      expect(decide({ ...invocation('critical'), capability }).allow).toBe(false);
    }
  });

  test('an approval is decided by another person of the tenant with a second factor', () => {
    const plain = policyInput({ role: 'admin', sensitivity_level: 'high' });
    const resource = { type: 'approval', id: 'apr_1', tenant_id: 'acme', owner_id: 'u2', permissions: null };
    const asked = { ...plain, action: 'approvals:decide', server: null, tool: null, resource };
    const codes = (input: unknown) => decide(input).deny.map(({ code }) => code);
    expect(decide(asked).allow).toBe(true);
    expect(codes({ ...asked, resource: { ...resource, owner_id: 'u1' } })).toEqual(['FORBIDDEN']);
    expect(codes({ ...asked, resource: { ...resource, tenant_id: 'globex' } })).toEqual(['NOT_FOUND']);
    expect(codes({ ...asked, user: { ...plain.user, mfa_verified: false } })).toEqual(['MFA_REQUIRED']);
    expect(codes({ ...asked, user: { ...plain.user, roles: ['developer'] } })).toEqual(['FORBIDDEN']);
  });
});
