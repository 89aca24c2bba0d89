import { describe, expect, test } from 'vitest';
import { auditEnd, type EndOfRequest } from '../../../src/audit/build.ts';
import type { AuditDraft } from '../../../src/audit/event.ts';
import type { Action, ClassifiedCall } from '../../../src/core/call.ts';
import type { Decision } from '../../../src/core/decision.ts';
import { GatewayError } from '../../../src/core/errors.ts';
import { makePrincipal } from '../../../src/core/principal.ts';
import { verifies } from '../../helpers/verifies.ts';

const call = (action: Action, more: Partial<ClassifiedCall> = {}): ClassifiedCall => ({
  action,
  server: 'orders',
  tool: 'execute_query',
  parameters: { query: 'SELECT 1' },
  annotations: null,
  schema_hash: null,
  resource: { type: 'tool', id: 'orders/execute_query', tenant_id: null, owner_id: null, permissions: null },
  llm: null,
  classification: { tool_type: 'query', sensitivity_level: 'low', reasons: ['sql:select'], resources: ['orders'] },
  ...more,
});

const ALLOW: Decision = {
  decision_id: 'dec_1',
  allow: true,
  deny: [],
  obligations: [],
  revision: 'sha256:1',
  cached: true,
  eval_us: 0,
  failure: null,
};
const violation = (message: string) => ({
  code: 'POLICY_DENIED',
  message,
  package: 'mcp.gateway.context',
  severity: 'high' as const,
});
const DENY: Decision = { ...ALLOW, allow: false, cached: false, deny: [violation('no'), violation('never')] };

const END: EndOfRequest = {
  received: {
    id: 'req_1',
    method: 'POST',
    path: '/mcp/orders',
    headers: { 'user-agent': 'agent' },
    peer: { address: '10.0.0.1', encrypted: false, host: 'localhost' },
  },
  route: { id: '/mcp/orders' },
  principal: makePrincipal(
    { id: 'alice', tenant_id: 'acme', auth: { key_id: 'k1', session_id: 's1' } },
    'keys',
    'api-key',
  ),
  message: { mode: 'all' },
  status: 200,
  durationMs: 1.23456,
};

function record(end: Partial<EndOfRequest>): AuditDraft[] {
  const events: AuditDraft[] = [];
  auditEnd(
    { record: (event) => events.push(event), flush: async () => {}, [Symbol.asyncDispose]: async () => {} },
    { ...END, ...end },
  );
  return events;
}

const types = (end: Partial<EndOfRequest>) => record(end).map(({ event_type }) => event_type);
const allowed = (action: Action) => types({ calls: [call(action)], decisions: [ALLOW] });

describe('the record of a request', () => {
  test('an allowed tool call is one tool_invocation with who, what, how and why', () => {
    verifies('S-92');
    expect(record({ calls: [call('gateway:tool:invoke')], decisions: [ALLOW] })).toEqual([
      expect.objectContaining({
        event_type: 'tool_invocation',
        request_id: 'req_1',
        tenant_id: 'acme',
        user_id: 'alice',
        auth_provider: 'keys',
        key_id: 'k1',
        session_id: 's1',
        source_ip: '10.0.0.1',
        user_agent: 'agent',
        server_name: 'orders',
        tool_name: 'execute_query',
        tool_type: 'query',
        sensitivity_level: 'low',
        classification_reasons: ['sql:select'],
        resources: ['orders'],
        parameters: { query: 'SELECT 1' },
        outcome: 'allowed',
        status: 200,
        code: null,
        flag: 'OK',
        duration_ms: 1.235,
        decision_id: 'dec_1',
        policy_revision: 'sha256:1',
        decision_cached: true,
        reasons: [],
      }),
    ]);
  });

  test('a denial adds one policy_violation per deny message', () => {
    verifies('S-93');
    const events = record({
      calls: [call('gateway:tool:invoke')],
      decisions: [DENY],
      status: 200,
      error: new GatewayError('POLICY_DENIED'),
    });
    expect(events.map(({ event_type }) => event_type)).toEqual([
      'tool_invocation',
      'policy_violation',
      'policy_violation',
    ]);
    expect(events[0]).toMatchObject({
      outcome: 'denied',
      code: 'POLICY_DENIED',
      flag: 'PD',
      reasons: [
        { code: 'POLICY_DENIED', message: 'no' },
        { code: 'POLICY_DENIED', message: 'never' },
      ],
    });
    expect(events[1]).toMatchObject({
      policy_name: 'mcp.gateway.context',
      violation_reason: 'no',
      attempted_action: 'gateway:tool:invoke',
      resource: 'tool:orders/execute_query',
      severity: 'high',
    });
    expect(JSON.stringify(events[0])).not.toContain('mcp.gateway.context');
  });

  test('each kind of traffic has its kind of event', () => {
    expect(allowed('llm:chat:create')).toEqual(['data_access']);
    expect(allowed('http:get')).toEqual(['data_access']);
    expect(allowed('gateway:resource:read')).toEqual(['data_access']);
    expect(allowed('a2a:delegate')).toEqual(['delegation_request']);
    expect(allowed('mcp:protocol')).toEqual(['authorization_decision']);
    expect(allowed('gateway:prompt:discover')).toEqual(['authorization_decision']);
  });

  test('a model call names the model that answered', () => {
    const llm = { model: 'gpt', resolved_model: 'local', stream: true, max_tokens: null, message_count: 1, tools: [] };
    expect(record({ calls: [call('llm:chat:create', { llm })], decisions: [ALLOW] })[0]).toMatchObject({
      model: 'local',
    });
  });

  test('a list of a hundred tools is one event, and what it left out is no violation', () => {
    const calls = Array.from({ length: 100 }, () => call('gateway:tool:discover'));
    const decisions = calls.map((_, i) => (i % 2 === 0 ? DENY : ALLOW));
    const events = record({ calls, decisions, message: { mode: 'filter' } });
    expect(events).toMatchObject([
      {
        event_type: 'authorization_decision',
        outcome: 'allowed',
        server_name: 'orders',
        tool_name: null,
        offered: 100,
        shown: 50,
      },
    ]);
  });

  test('an empty list is an end like any other', () => {
    expect(record({ calls: [], decisions: [], message: { mode: 'filter' } })).toMatchObject([
      { event_type: 'authorization_decision', outcome: 'allowed' },
    ]);
  });

  test('what ended before a decision is a refusal, with what was known by then', () => {
    expect(record({ principal: null, error: new GatewayError('MISSING_CREDENTIALS'), status: 401 })).toMatchObject([
      {
        event_type: 'request_refused',
        user_id: null,
        outcome: 'denied',
        code: 'MISSING_CREDENTIALS',
        flag: 'NC',
        route: '/mcp/orders',
      },
    ]);
    expect(
      record({ route: null, principal: null, error: new GatewayError('AMBIGUOUS_PATH'), status: 400 }),
    ).toMatchObject([{ event_type: 'request_refused', route: null, outcome: 'failed' }]);
  });

  test('a limit has its own event, alone at admission and besides the decision when policy said so', () => {
    const error = new GatewayError('RATE_LIMIT_EXCEEDED', { details: { limit: 100 } });
    expect(record({ error, status: 429 })).toMatchObject([
      { event_type: 'rate_limit_exceeded', limit: 100, outcome: 'denied' },
    ]);
    expect(types({ calls: [call('gateway:tool:invoke')], decisions: [DENY], error, status: 429 })).toEqual([
      'tool_invocation',
      'policy_violation',
      'policy_violation',
      'rate_limit_exceeded',
    ]);
  });

  test('a decision that does not exist, an upstream that fails and a client that leaves are failures, not denials', () => {
    const calls = [call('gateway:tool:invoke')];
    const broken: Decision = { ...DENY, failure: 'timeout', deny: [] };
    expect(
      record({ calls, decisions: [broken], error: new GatewayError('POLICY_EVALUATION_ERROR'), status: 500 })[0],
    ).toMatchObject({ outcome: 'failed', flag: 'PE' });
    expect(
      record({ calls, decisions: [ALLOW], error: new GatewayError('UPSTREAM_ERROR'), status: 502 })[0],
    ).toMatchObject({ outcome: 'failed', flag: 'UF' });
    expect(record({ calls, decisions: [ALLOW], status: 0 })[0]).toMatchObject({ outcome: 'failed' });
  });

  test('what the client sends is cut to a bounded length', () => {
    const received = { ...END.received, path: `/${'p'.repeat(10_000)}`, headers: { 'user-agent': 'u'.repeat(10_000) } };
    expect(JSON.stringify(record({ received, error: new GatewayError('NOT_FOUND'), status: 404 })).length).toBeLessThan(
      4000,
    );
  });
});
