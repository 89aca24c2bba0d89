/** One approved request, for tests. */
import type { ApprovalRecord } from '../../../src/stores/approvals.ts';

export const NOW = 2_000_000_000_000;

export function approvalRecord(changes: Partial<ApprovalRecord> = {}): ApprovalRecord {
  return {
    id: 'apr_1',
    tenant_id: 'default',
    state: 'approved',
    open_key: 'open-1',
    requester: {
      id: 'user-admin',
      type: 'user',
      username: 'alice',
      email: 'alice@example.com',
      roles: ['admin'],
      key_id: 'key-1',
      actors: [],
    },
    call: {
      action: 'gateway:tool:invoke',
      server: 'orders',
      tool: 'execute_query',
      resource: 'tool:orders:execute_query',
      arguments_digest: 'sha256:00',
      schema_hash: null,
      tool_type: 'admin',
      sensitivity_level: 'critical',
      policy_revision: 'sha256:aa',
    },
    context: {
      parameters: { query: 'DROP TABLE x' },
      classification_reasons: ['sql:drop'],
      resources: ['x'],
      reasons: [],
      request_id: 'req_1',
      source_ip: '127.0.0.1',
    },
    created_at: NOW,
    expires_at: NOW + 900_000,
    decided_at: NOW + 1000,
    decided_by: { id: 'user-approver', type: 'user', username: null, key_id: 'key-2' },
    decision_reason: null,
    token_id: 'token-1',
    used_at: null,
    ...changes,
  };
}
