/** Makes decision requests for tests. */
import type { ServerFacts } from '../../../src/classification/classifier.ts';
import type { ClassifiedCall } from '../../../src/core/call.ts';
import { type DecisionRequest, NO_APPROVAL, type RequestFacts } from '../../../src/core/decision.ts';
import { makePrincipal, type PrincipalFacts } from '../../../src/core/principal.ts';

/** Wednesday, 2025-01-15T10:30:00.123Z */
export const NOW = 1_736_937_000_123;

export function makeServer(facts: Partial<ServerFacts> = {}): ServerFacts {
  return {
    ...{ name: 'orders', type: 'sql', dialect: 'postgres', environment: 'staging', region: 'eu-west-1' },
    ...{ data_region: null, tags: [], owner_team: null, enabled: true, description: null },
    ...{ sensitivity_level: null, sensitivity_floor: null, tools: {}, allow: [] },
    ...facts,
  };
}

export const PRINCIPAL_FACTS: PrincipalFacts = {
  id: 'alice',
  tenant_id: 'default',
  roles: ['developer'],
  auth: { mfa_verified: true },
};

export const DEVELOPER = makePrincipal(PRINCIPAL_FACTS, 'keys', 'api-key');

type Classified = Partial<ClassifiedCall['classification']>;

export interface RequestParts {
  readonly facts?: Partial<RequestFacts>;
  readonly principal?: DecisionRequest['principal'];
  readonly call?: Partial<Omit<ClassifiedCall, 'classification'>>;
  readonly classification?: Classified;
  readonly entrypoint?: string | null;
}

export function makeRequest(parts: RequestParts = {}): DecisionRequest {
  return {
    facts: {
      ...{ request_id: 'req_1', now: NOW, endpoint: '/mcp/orders', source_ip: '203.0.113.7' },
      ...{ source_region: 'eu-west-1', user_agent: 'test/1', encryption_enabled: true },
      rate: { window_seconds: 60, count: 1 },
      approval: NO_APPROVAL,
      ...parts.facts,
    },
    principal: parts.principal ?? DEVELOPER,
    call: {
      ...{ action: 'gateway:tool:invoke', server: 'orders', tool: 'run', parameters: { query: 'SELECT 1' } },
      ...{ annotations: null, schema_hash: null, llm: null },
      resource: { type: 'tool', id: 'orders:run', tenant_id: null, owner_id: null, permissions: null },
      ...parts.call,
      classification: {
        ...{ tool_type: 'query', sensitivity_level: 'low', reasons: ['sql:select'], resources: ['orders'] },
        ...parts.classification,
      },
    },
    entrypoint: parts.entrypoint ?? null,
  };
}
