/** Complete policy input documents (design 2.3) for tests that evaluate policies without the gateway around them. */

export interface InputFacts {
  readonly role?: string;
  readonly tool_type?: string;
  readonly sensitivity_level?: string;
  readonly production?: boolean;
  readonly approved?: boolean;
}

/** A tool call of a known user that nothing speaks against under the strict data, on a Wednesday at 10:30 UTC. */
export function policyInput(facts: InputFacts = {}) {
  const environment = facts.production ? 'production' : 'staging';
  const approved = facts.approved ?? false;
  return {
    version: '1',
    request_id: 'req_1',
    timestamp: '2025-01-15T10:30:00.000Z',
    action: 'gateway:tool:invoke',
    server_name: 'orders' as string | null,
    tool_name: 'execute_query' as string | null,
    parameters: { query: 'SELECT 1' } as Record<string, unknown> | null,
    user: {
      id: 'u1',
      type: 'user',
      tenant_id: 'acme',
      email: null,
      username: 'alice',
      roles: [facts.role ?? 'developer'],
      teams: [],
      groups: [],
      permissions: [] as string[],
      scopes: [],
      tenure_months: 7 as number | null,
      mfa_verified: true,
      mfa_age_seconds: null,
      auth_provider: 'keys',
      auth_method: 'api-key',
      key_id: null,
      session_id: null,
    },
    gateway_metadata: {
      tool_type: facts.tool_type ?? 'query',
      sensitivity_level: facts.sensitivity_level ?? 'low',
      classification_reasons: ['sql:select'],
      server_type: 'sql',
      environment,
      endpoint: '/mcp/orders',
      source_ip: '203.0.113.7',
      source_region: 'us-east-1',
      user_agent: null,
      encryption_enabled: true,
      device_compliant: true,
      approval_token: null,
      approval: { present: approved, verified: approved, id: null, approver_id: null, expires_at: null, reason: null },
    },
    server: {
      name: 'orders',
      type: 'sql',
      environment,
      region: null,
      data_region: null as string | null,
      sensitivity_level: null,
      tags: [] as string[],
      owner_team: null,
      enabled: true,
      allow: [],
    },
    tool: { name: 'execute_query', requires_hitl: false, sensitive_params: [], schema_hash: null },
    resource: { type: 'tool', id: 'orders:execute_query', tenant_id: 'acme', owner_id: null, permissions: null },
    rate_limit: { window_seconds: 60, count: 0 },
    source_user: null as unknown,
    target_user: null as unknown,
    delegation_depth: 0,
    delegation_chain: [],
    source_agent: null as unknown,
    target_agent: null as unknown,
    capability: null as string | null,
    context: { workflow_id: null, user_id: null, delegation_depth: 0 },
    llm: null,
    data_region: null,
  };
}
