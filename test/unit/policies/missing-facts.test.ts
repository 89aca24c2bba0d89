/** Whatever a rule looks at and does not find, or finds as something else, must not turn a denial into a permission. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { policyInput } from '../../helpers/policy-input.ts';
import type { SdkPolicy } from '../../helpers/policy-sdk.ts';
import { sdkPolicy } from '../../helpers/policy-sdk.ts';

type Json = Record<string, unknown>;

const root = new URL('../../../policies/', import.meta.url);
const strict = JSON.parse(readFileSync(new URL('profiles/strict.json', root), 'utf8')) as { config: Json };
const TAGS = { ...strict, config: { ...strict.config, tag_roles: { secret: ['admin'] } } };
const FROZEN = {
  ...strict,
  tenants: { acme: { deny: [{ servers: ['orders'], tools: ['execute_*'] }, { models: ['gpt*'] }] } },
};

/** Documents that are denied, each for one reason, by the changes to a good one. */
const DENIED: readonly (readonly [object, Json])[] = [
  [strict, { '/gateway_metadata/sensitivity_level': 'critical' }],
  [strict, { '/server/enabled': false }],
  [strict, { '/resource/tenant_id': 'globex' }],
  [strict, { '/server/data_region': 'eu' }],
  [strict, { '/server_name': 'healthcare-mcp', '/gateway_metadata/encryption_enabled': false }],
  [strict, { '/delegation_depth': 7 }],
  [strict, { '/user/type': 'anonymous', '/action': 'gateway:prompt:get' }],
  [strict, { '/user/type': 'anonymous', '/action': 'mcp:protocol' }],
  [strict, { '/action': 'http:get', '/resource/permissions': { allOf: ['x.read'] } }],
  [strict, { '/action': 'responses:read', '/resource/owner_id': 'other' }],
  [strict, { '/action': 'gateway:task:access', '/resource/owner_id': 'other' }],
  [TAGS, { '/action': 'gateway:resource:read', '/server/tags': ['secret'] }],
  [FROZEN, {}],
  [FROZEN, { '/action': 'llm:chat:create', '/llm': { model: 'gpt', resolved_model: 'gpt-5', max_tokens: 5 } }],
];

const GONE = Symbol('gone');
const WRONG: readonly unknown[] = [GONE, 3, true, {}, { x: 'y' }, [7]];
/** These say something else then, and that is allowed. */
const MEANT = new Set([
  '/server/enabled=true',
  '/gateway_metadata/encryption_enabled=true',
  '/delegation_depth=3',
  '/server/tags=[7]',
]);

function changed(document: Json, path: string, value: unknown): Json {
  const copy = structuredClone(document);
  const names = path.split('/').slice(1);
  const last = names.pop() ?? '';
  const at = names.reduce((place, name) => place[name] as Json, copy);
  if (value === GONE) delete at[last];
  else at[last] = value;
  return copy;
}

function* membersOf(value: unknown, path = ''): Generator<string> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return;
  for (const [name, inner] of Object.entries(value)) {
    yield `${path}/${name}`;
    yield* membersOf(inner, `${path}/${name}`);
  }
}

test('a fact that is missing or of another kind never turns a denial into a permission', async () => {
  const wasm = readFileSync(new URL('bundle/policy.wasm', root));
  const allowed: string[] = [];
  const policies = new Map<object, SdkPolicy>();
  for (const [data, changes] of DENIED) {
    const policy = policies.get(data) ?? (await sdkPolicy(wasm, data));
    policies.set(data, policy);
    const decide = (input: object) => policy.evaluate(input, 'portcullis/main/decision') as { allow: boolean };
    let document = policyInput() as unknown as Json;
    for (const [path, value] of Object.entries(changes)) document = changed(document, path, value);
    expect(decide(document), JSON.stringify(changes)).toMatchObject({ allow: false });
    for (const path of membersOf(document)) {
      for (const value of WRONG) {
        if (!decide(changed(document, path, value)).allow) continue;
        const what = `${path}=${value === GONE ? 'gone' : JSON.stringify(value)}`;
        if (!MEANT.has(what)) allowed.push(`${JSON.stringify(changes)} with ${what}`);
      }
    }
  }
  expect(allowed).toEqual([]);
});
