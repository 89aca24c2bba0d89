/** The policies through the gateway's own host: the golden matrix, and documents from which one field is missing. */
import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import type { JsonObject, JsonValue } from '../../../src/core/json.ts';
import { BUILTINS } from '../../../src/policy/wasm/builtins.ts';
import { PolicyHost } from '../../../src/policy/wasm/host.ts';
import { DEFAULT_LIMITS, PolicyProgram } from '../../../src/policy/wasm/program.ts';
import { policyInput } from '../../helpers/policy-input.ts';
import { verifies } from '../../helpers/verifies.ts';

const ROOT = new URL('../../../', import.meta.url);
const NOW = Date.parse('2025-01-15T10:30:00Z');
const PROFILES = { default: 'policies/data.json', strict: 'policies/profiles/strict.json' } as const;

interface Row {
  readonly role: string;
  readonly tool_type: string;
  readonly sensitivity_level: string;
  readonly production: boolean;
  readonly approved: boolean;
  readonly allow: boolean;
}

interface Decision extends JsonObject {
  readonly allow: boolean;
  readonly deny: readonly JsonValue[];
  readonly obligations: readonly JsonValue[];
}

const hosts: Record<string, PolicyHost> = {};
let rows: readonly Row[] = [];

beforeAll(async () => {
  const program = await PolicyProgram.load(
    await readFile(new URL('policies/bundle/policy.wasm', ROOT)),
    BUILTINS,
    DEFAULT_LIMITS,
  );
  for (const [name, path] of Object.entries(PROFILES)) {
    hosts[name] = new PolicyHost(program, await readFile(new URL(path, ROOT), 'utf8'));
  }
  rows = JSON.parse(await readFile(new URL('test/corpus/policy/matrix.json', ROOT), 'utf8')) as Row[];
});

function ask(profile: string, entrypoint: string, input: unknown): JsonValue | undefined {
  const outcome = hosts[profile]?.evaluate(entrypoint, input, NOW);
  if (outcome?.kind === 'failed') throw new Error(`${outcome.failure}: ${outcome.detail}`);
  return outcome?.kind === 'value' ? outcome.value : undefined;
}

const decide = (profile: string, input: unknown) => ask(profile, 'portcullis/main/decision', input) as Decision;

test('all 480 cases of the golden matrix come out right through the host', () => {
  verifies('S-30', 'S-31', 'S-32', 'S-33', 'S-34', 'S-35', 'S-36', 'SF-30', 'SF-32');
  expect(rows).toHaveLength(480);
  for (const row of rows) {
    const input = policyInput(row);
    expect(ask('strict', 'mcp/gateway/allow', input), JSON.stringify(row)).toBe(row.allow);
    expect(decide('strict', input).allow, JSON.stringify(row)).toBe(row.allow);
  }
});

/** Every way to take one member away, with its path; lists lose one element at a time. */
function* without(value: JsonValue, path = ''): Generator<readonly [string, JsonValue]> {
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) yield [`${path}[${i}]`, value.toSpliced(i, 1)];
    return;
  }
  if (typeof value !== 'object' || value === null) return;
  const object = value as JsonObject;
  for (const [name, item] of Object.entries(object)) {
    const { [name]: _, ...rest } = object;
    yield [`${path}.${name}`, rest];
    for (const [below, changed] of without(item as JsonValue, `${path}.${name}`)) {
      yield [below, { ...object, [name]: changed }];
    }
  }
}

/** Documents one step away from an ordinary one, towards everything that policies object to. */
function* documents(): Generator<JsonObject> {
  for (const role of ['admin', 'developer', 'analyst', 'data_engineer', 'user', 'viewer', 'none']) {
    for (const tool_type of ['query', 'mutation', 'admin']) {
      for (const sensitivity_level of ['low', 'high', 'critical']) {
        const plain = policyInput({ role, tool_type, sensitivity_level }) as unknown as JsonObject;
        const metadata = plain.gateway_metadata as JsonObject;
        const user = plain.user as JsonObject;
        const server = plain.server as JsonObject;
        const tool = plain.tool as JsonObject;
        yield plain;
        yield { ...plain, gateway_metadata: { ...metadata, source_region: 'cn-north-1' } };
        yield { ...plain, gateway_metadata: { ...metadata, encryption_enabled: false, device_compliant: false } };
        yield {
          ...plain,
          gateway_metadata: { ...metadata, environment: 'production' },
          server: { ...server, environment: 'production' },
        };
        yield { ...plain, user: { ...user, mfa_verified: false, tenure_months: 1 } };
        yield { ...plain, server: { ...server, enabled: false } };
        yield { ...plain, server: { ...server, tags: ['phi'], data_region: 'eu' }, data_region: 'eu' };
        yield { ...plain, rate_limit: { window_seconds: 60, count: 100_000 } };
        yield { ...plain, tool: { ...tool, requires_hitl: true } };
        yield { ...plain, resource: { ...(plain.resource as JsonObject), tenant_id: 'globex' } };
      }
    }
  }
  for (const action of [
    'llm:chat:create',
    'http:get',
    'gateway:task:access',
    'gateway:sampling:create',
    'mcp:protocol',
  ]) {
    for (const role of ['user', 'guest']) {
      const plain = policyInput({ role }) as unknown as JsonObject;
      yield { ...plain, action };
      yield { ...plain, action, llm: { model: 'gpt-x', max_tokens: 1_000_000, stream: false } };
      yield {
        ...plain,
        action,
        resource: { ...(plain.resource as JsonObject), permissions: { allOf: ['orders:read'] } },
      };
      yield { ...plain, action, server: { ...(plain.server as JsonObject), enabled: false } };
      yield { ...plain, action, resource: { ...(plain.resource as JsonObject), tenant_id: 'globex' } };
    }
  }
  yield* approvals();
  yield* betweenAgents();
}

/** Decisions on approvals, each of which something speaks against but the first. */
function* approvals(): Generator<JsonObject> {
  for (const role of ['admin', 'user']) {
    const plain = policyInput({ role }) as unknown as JsonObject;
    const user = plain.user as JsonObject;
    const resource = { ...(plain.resource as JsonObject), type: 'approval', id: 'apr_1', owner_id: 'u2' };
    const asked = { ...plain, action: 'approvals:decide', server: null, tool: null, resource };
    yield asked;
    yield { ...asked, user: { ...user, mfa_verified: false } };
    yield { ...asked, resource: { ...resource, owner_id: 'u1' } };
    yield { ...asked, resource: { ...resource, tenant_id: 'globex' } };
    yield { ...asked, resource: { ...resource, type: 'key' } };
  }
}

/** Calls between agents and delegations, likewise. */
function* betweenAgents(): Generator<JsonObject> {
  const plain = policyInput() as unknown as JsonObject;
  const person = { id: 'u1', type: 'user', tenant_id: 'acme', roles: ['developer'], tenure_months: 6 };
  const chain = [{ id: 'x', type: 'user' }];
  for (const sensitivity_level of ['medium', 'high', 'critical']) {
    const call: JsonObject = {
      ...plain,
      ...{ server: null, tool: null, capability: 'report', delegation_depth: 1, delegation_chain: chain },
      gateway_metadata: { ...(plain.gateway_metadata as JsonObject), sensitivity_level },
      user: { ...(plain.user as JsonObject), mfa_verified: sensitivity_level !== 'high' },
      context: { workflow_id: null, user_id: null, delegation_depth: 1 },
    };
    for (const trust_level of ['trusted', 'untrusted']) {
      const asked: JsonObject = {
        ...{ ...call, action: 'a2a:invoke', source_user: person },
        source_agent: { id: 'a', name: null, trust_level, capabilities: [] },
        target_agent: { id: 'b', name: null, trust_level: 'limited', capabilities: ['report'] },
      };
      yield asked;
      yield { ...asked, capability: 'delete' };
      yield { ...asked, source_agent: null };
      yield { ...asked, target_agent: null };
      yield { ...asked, delegation_depth: 3, delegation_chain: [...chain, ...chain, ...chain] };
      yield { ...asked, context: { workflow_id: null, user_id: null, delegation_depth: 9 } };
    }
    const given: JsonObject = { ...call, action: 'a2a:delegate', source_user: person, target_user: person };
    yield given;
    yield { ...given, target_user: { ...person, roles: ['admin'], tenure_months: 12 } };
    yield { ...given, source_user: { ...person, type: 'anonymous' } };
    yield { ...given, source_user: { ...person, roles: ['guest'] } };
    yield { ...given, delegation_depth: 2 };
    yield { ...given, target_user: null };
  }
}

/** What the caller wrote: without it, it is another call. */
const CALLERS = /^\.(parameters|llm)\b/;

/**
 * An element of a list that asks for something or speaks of another party: the list is there, so nothing is unknown. One
 * permission fewer is a route that asks for less, one role fewer a target that is trusted less, one tag or capability
 * fewer another configuration.
 */
const ANOTHER_CONFIGURATION = new Set(['.resource.permissions.allOf[0]', '.target_user.roles[0]']);

describe.each(Object.keys(PROFILES))('with the %s profile', (profile) => {
  test('no field that is missing makes anything more permissive', () => {
    const looser: string[] = [];
    let count = 0;
    for (const whole of documents()) {
      const before = decide(profile, whole);
      for (const [path, less] of without(whole)) {
        if (CALLERS.test(path) || ANOTHER_CONFIGURATION.has(path)) continue;
        count++;
        const after = decide(profile, less);
        const lost = before.obligations.filter(
          (one) => !JSON.stringify(after.obligations).includes(JSON.stringify(one)),
        );
        if (after.allow && (!before.allow || lost.length > 0)) {
          looser.push(`${path}: ${JSON.stringify(whole.action)} ${JSON.stringify(before)} -> ${JSON.stringify(after)}`);
        }
      }
    }
    expect([...new Set(looser.map((line) => line.split(':')[0]))]).toEqual([]);
    expect(count).toBeGreaterThan(30_000);
  });
});
