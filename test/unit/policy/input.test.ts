import { describe, expect, test } from 'vitest';
import { makePrincipal } from '../../../src/core/principal.ts';
import { buildBatchInput, buildInput, isoTime } from '../../../src/policy/input.ts';
import { shapeFor } from '../../../src/policy/input-shape.ts';
import { verifies } from '../../helpers/verifies.ts';
import { DEVELOPER, makeRequest, makeServer, NOW } from './requests.ts';

describe('the policy input', () => {
  test('has every field, known or not', () => {
    const input = buildInput(makeRequest({ call: { server: null, tool: null, parameters: null } }), null);
    const missing = (value: unknown, path: string): string[] =>
      value === undefined
        ? [path]
        : typeof value === 'object' && value !== null
          ? Object.entries(value).flatMap(([key, item]) => missing(item, `${path}.${key}`))
          : [];
    expect(missing(input, 'input')).toEqual([]);
    expect(Object.keys(input).sort()).toEqual([...shapeFor(null, false).keys].sort());
    expect(Object.keys(input.gateway_metadata).sort()).toEqual(
      [...(shapeFor(null, false).children?.gateway_metadata?.keys ?? [])].sort(),
    );
    expect(input).toMatchObject({ server: null, tool: null, llm: null, source_user: null, delegation_depth: 0 });
  });

  test('takes environment and data region from the server, whatever the caller says', () => {
    const call = { parameters: { environment: 'dev', data_region: 'us' } };
    const server = makeServer({ environment: 'production', data_region: 'eu' });
    const input = buildInput(makeRequest({ call }), server);
    expect(input.gateway_metadata.environment).toBe('production');
    expect(input.data_region).toBe('eu');
    expect(input.server).toMatchObject({ environment: 'production', data_region: 'eu' });
    expect(input.parameters).toEqual(call.parameters);
  });

  test('describes a tool by itself, whatever name a caller made up before', () => {
    const server = makeServer({ tools: { wire: { requires_hitl: true } } });
    const schema_hash = `sha256:${'a'.repeat(64)}`;
    buildInput(makeRequest({ call: { tool: `${schema_hash} wire` } }), server);
    buildInput(makeRequest({ call: { tool: `71:${schema_hash}wire` } }), server);
    const { tool } = buildInput(makeRequest({ call: { tool: 'wire', schema_hash } }), server);
    expect(tool).toMatchObject({ name: 'wire', requires_hitl: true, schema_hash });
  });

  test('lets the caller speak only where the server is silent', () => {
    const call = { parameters: { environment: 'production', data_region: ['eu'] } };
    const input = buildInput(makeRequest({ call }), makeServer({ environment: null }));
    expect(input.gateway_metadata.environment).toBe('production');
    expect(input.data_region).toBeNull();
  });

  test('is not fooled by inherited members of the parameters', () => {
    const parameters = Object.create({ environment: 'production' }) as Record<string, never>;
    const input = buildInput(makeRequest({ call: { parameters } }), makeServer({ environment: null }));
    expect(input.gateway_metadata.environment).toBeNull();
  });

  test('counts seconds since the second factor anew for each request', () => {
    const auth = { mfa_verified: true, mfa_at: NOW / 1000 - 10 };
    const principal = makePrincipal({ id: 'bob', auth }, 'idp', 'bearer');
    const age = (now: number) => buildInput(makeRequest({ principal, facts: { now } }), null).user.mfa_age_seconds;
    expect([age(NOW), age(NOW + 999), age(NOW + 5000), age(NOW - 60_000)]).toEqual([10, 10, 15, 0]);
  });

  test('shares what does not change between requests', () => {
    const server = makeServer();
    const [a, b] = [buildInput(makeRequest(), server), buildInput(makeRequest({ facts: { now: NOW + 1 } }), server)];
    expect(a.user).toBe(b.user);
    expect(a.server).toBe(b.server);
    expect(a.tool).toBe(b.tool);
  });

  test('says what the operator declared of the tool', () => {
    verifies('TW-05');
    const governance = { requires_hitl: true, cost: 'medium', data_sensitivity: 'confidential' } as const;
    const tools = { run: { sensitivity: 'high', ...governance, sensitive_params: ['password'] } } as const;
    const input = buildInput(makeRequest(), makeServer({ tools }));
    expect(input.tool).toMatchObject({
      ...governance,
      sensitivity_level: 'high',
      sensitive_params: ['password'],
    });
    const capitals = buildInput(makeRequest({ call: { tool: 'RUN' } }), makeServer({ tools }));
    expect(capitals.tool).toMatchObject({
      ...{ name: 'RUN', requires_hitl: true, sensitive_params: ['password'] },
      ...{ sensitivity_level: null, cost: null, data_sensitivity: null },
    });
    const other = buildInput(makeRequest({ call: { tool: 'toString' } }), makeServer({ tools }));
    expect(other.tool).toMatchObject({
      ...{ name: 'toString', requires_hitl: false, cost: null, data_sensitivity: null, sensitive_params: [] },
    });
  });

  test('writes times as RFC 3339 with milliseconds', () => {
    for (const now of [0, 5, 50, 999, 1000, NOW, NOW + 1, -1]) expect(isoTime(now)).toBe(new Date(now).toISOString());
  });
});

describe('the input for a list', () => {
  const server = makeServer();
  const listed = (tool: string) =>
    makeRequest({ call: { action: 'gateway:tool:discover', tool, parameters: null }, principal: DEVELOPER });

  test('holds of each call only what differs from the document', () => {
    const batch = buildBatchInput([listed('a'), listed('b')], () => server);
    expect(batch.calls.map((call) => Object.keys(call).sort())).toEqual(
      Array.from({ length: 2 }, () => ['action', 'gateway_metadata', 'resource', 'tool', 'tool_name']),
    );
    expect(batch.calls.map((call) => call.tool_name)).toEqual(['a', 'b']);
    expect(batch.parameters).toBeNull();
  });

  test('says of each call alone what arguments could make of it', () => {
    const runner = makeRequest({
      call: { action: 'gateway:tool:discover', tool: 'run', parameters: null },
      classification: { possible: { analytics: 'low' } },
    });
    const batch = buildBatchInput([runner, listed('b')], () => server);
    expect(batch.gateway_metadata.possible_classes).toEqual({});
    const [first, second] = batch.calls.map((one) => one.gateway_metadata as Record<string, unknown>);
    expect(first?.possible_classes).toEqual({ analytics: 'low' });
    expect(Object.keys(second ?? {})).not.toContain('possible_classes');
    expect(buildInput(runner, server).gateway_metadata.possible_classes).toEqual({ analytics: 'low' });
  });

  test('names the server of a call where it is another one', () => {
    const other = makeServer({ name: 'billing', environment: 'production', data_region: 'eu' });
    const second = makeRequest({ call: { server: 'billing', parameters: { a: 1 } } });
    const batch = buildBatchInput([listed('a'), second], (name) => (name === 'billing' ? other : server));
    expect(batch.calls[1]).toMatchObject({
      server_name: 'billing',
      server: { name: 'billing' },
      data_region: 'eu',
      parameters: { a: 1 },
      gateway_metadata: { environment: 'production', server_type: 'sql' },
    });
  });

  test('never gives one call the class of another with the same name', () => {
    const level = (sensitivity_level: 'low' | 'high') =>
      makeRequest({ call: { parameters: null }, classification: { sensitivity_level } });
    const batch = buildBatchInput([level('low'), level('high'), level('low')], () => server);
    const levels = batch.calls.map(
      (call) => (call.gateway_metadata as { sensitivity_level: string }).sensitivity_level,
    );
    expect(levels).toEqual(['low', 'high', 'low']);
  });
});
