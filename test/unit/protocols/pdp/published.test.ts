/** What is published about decisions is what the code says: OpenAPI, the schema of policy answers, and the types. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { DecisionDocument, PolicyDecision, PolicyInput } from '../../../../src/gateway.ts';
import { policyDecision, policyDecisionSchema } from '../../../../src/policy/decision-schema.ts';
import { buildInput } from '../../../../src/policy/input.ts';
import { readVerdict } from '../../../../src/policy/result.ts';
import { openApiDocument } from '../../../../src/protocols/pdp/openapi.ts';
import { decisionDocument } from '../../../../src/protocols/pdp/schemas.ts';
import { policyInput } from '../../../helpers/policy-input.ts';
import { sdkPolicy } from '../../../helpers/policy-sdk.ts';
import { makeRequest, makeServer } from '../../policy/requests.ts';

const root = new URL('../../../../', import.meta.url);
const text = (path: string): string => readFileSync(new URL(path, root), 'utf8');
const json = (path: string) => JSON.parse(text(path));
const HINT = 'refresh it with: node tools/api-schemas.ts';

interface Described {
  readonly paths: Readonly<Record<string, object>>;
  readonly components: { readonly schemas: Readonly<Record<string, object>> };
}

describe('docs/openapi.json', () => {
  const stored = json('docs/openapi.json') as Described;

  test('is made from the schemas that check the requests', () => {
    const { version } = json('package.json') as { version: string };
    expect(stored, HINT).toEqual(JSON.parse(JSON.stringify(openApiDocument(version))));
  });

  test('refers only to what it holds, and nothing refers to itself alone', () => {
    const refs = [...JSON.stringify(stored).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)].map(([, to]) => to);
    expect(refs.filter((to) => to === undefined || !Object.hasOwn(stored.components.schemas, to))).toEqual([]);
    for (const [name, schema] of Object.entries(stored.components.schemas)) {
      expect(Object.keys(schema), name).not.toEqual(['$ref']);
    }
    expect(new Set(refs)).toEqual(new Set(Object.keys(stored.components.schemas)));
  });
});

const RESULTS: readonly [string, unknown, boolean][] = [
  ['an allow', { allow: true, deny: [], obligations: [] }, true],
  ['an allow until then', { allow: true, deny: [], obligations: [], valid_until: 1e18 }, true],
  ['an allow until a date', { allow: true, deny: [], obligations: [], valid_until: '2026-01-01T00:00:00Z' }, true],
  [
    'a deny',
    {
      allow: false,
      deny: [{ package: 'a', code: 'POLICY_DENIED', message: 'No', severity: 'low' }],
      obligations: [{ type: 'audit', level: 'full' }],
    },
    true,
  ],
  ['more members', { allow: true, deny: [], obligations: [], note: 1 }, true],
  ['no allow', { deny: [], obligations: [] }, false],
  ['allow as text', { allow: 'true', deny: [], obligations: [] }, false],
  ['no deny', { allow: true, obligations: [] }, false],
  ['no obligations', { allow: true, deny: [] }, false],
  [
    'an unknown code',
    { allow: false, deny: [{ package: 'a', code: 'X', message: 'm', severity: 'low' }], obligations: [] },
    false,
  ],
  [
    'an unknown severity',
    { allow: false, deny: [{ package: 'a', code: 'POLICY_DENIED', message: 'm', severity: 'x' }], obligations: [] },
    false,
  ],
  ['a deny of sentences', { allow: false, deny: ['no'], obligations: [] }, false],
  ['an unknown obligation', { allow: true, deny: [], obligations: [{ type: 'sing' }] }, false],
  ['names that are none', { allow: true, deny: [], obligations: [{ type: 'redact_result', names: [] }] }, false],
  [
    'a limit over years',
    { allow: true, deny: [], obligations: [{ type: 'rate_limit', limit: 1, window_seconds: 1e8 }] },
    false,
  ],
  ['a limit', { allow: true, deny: [], obligations: [{ type: 'rate_limit', limit: 1, window_seconds: 60 }] }, true],
  [
    'a header of two lines',
    { allow: true, deny: [], obligations: [{ type: 'set_header', name: 'x-a', value: 'a\nb' }] },
    false,
  ],
  ['a time of the past era', { allow: true, deny: [], obligations: [], valid_until: -1 }, false],
  ['a time in words', { allow: true, deny: [], obligations: [], valid_until: 'soon' }, false],
  ['a list', [], false],
  ['null', null, false],
];

describe('policies/decision.schema.json', () => {
  const stored = json('policies/decision.schema.json');
  const published = z.fromJSONSchema(stored);

  test('is made from the schema in the source', () => {
    expect(stored, HINT).toEqual(JSON.parse(JSON.stringify(policyDecisionSchema())));
  });

  test.each(RESULTS)('%s is taken or refused as the engine does', (_, value, isGood) => {
    expect(policyDecision.safeParse(value).success).toBe(isGood);
    expect(published.safeParse(value).success).toBe(isGood);
    const verdict = readVerdict({ kind: 'value', value: value as never, volatile: false });
    expect(verdict.failure === null).toBe(isGood);
  });

  test('describes every answer of the default policy, under both data profiles', async () => {
    const wasm = readFileSync(new URL('policies/bundle/policy.wasm', root));
    const profiles = [json('policies/data.json'), json('policies/profiles/strict.json')] as object[];
    const roles = ['admin', 'developer', 'analyst', 'data_engineer', 'viewer', 'nobody'];
    const seen = { allow: 0, deny: 0 };
    for (const data of profiles) {
      const policy = await sdkPolicy(wasm, data);
      const answers: unknown[] = [{}, { action: 7 }].map((input) => policy.evaluate(input, 'portcullis/main/decision'));
      for (const role of roles) {
        for (const tool_type of ['query', 'analytics', 'mutation', 'integration', 'admin', 'custom']) {
          for (const sensitivity_level of ['low', 'medium', 'high', 'critical']) {
            for (const approved of [false, true]) {
              const input = policyInput({ role, tool_type, sensitivity_level, approved });
              answers.push(policy.evaluate(input, 'portcullis/main/decision'));
            }
          }
        }
      }
      for (const answer of answers) {
        const decision: PolicyDecision = policyDecision.parse(answer);
        expect(published.safeParse(answer).success).toBe(true);
        seen[decision.allow ? 'allow' : 'deny'] += 1;
      }
    }
    expect(seen.allow).toBeGreaterThan(50);
    expect(seen.deny).toBeGreaterThan(50);
  });
});

test('the package exports the types of what a policy is given, what it answers, and what callers read', () => {
  const input: PolicyInput = buildInput(makeRequest(), makeServer());
  const answer: PolicyDecision = { allow: true, deny: [], obligations: [], valid_until: null };
  const keys: (keyof DecisionDocument)[] = ['allow', 'decision_id', 'filtered_parameters'];
  expect(input.version).toBe('1');
  expect(answer.allow).toBe(true);
  expect(keys.every((key) => key in decisionDocument.shape)).toBe(true);
});
