/** A remembered decision is the one that would be made: pairs of requests that differ in little, through the whole engine. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ClassifiedCall, Sensitivity } from '../../../src/core/call.ts';
import type { Decision, DecisionRequest } from '../../../src/core/decision.ts';
import { makePrincipal } from '../../../src/core/principal.ts';
import { createPolicyEngine, type OpaEngine } from '../../../src/policy/opa-engine.ts';
import { silent } from '../../helpers/mcp-exchange.ts';
import { verifies } from '../../helpers/verifies.ts';
import { makeRequest, makeServer, NOW } from './requests.ts';

const POLICIES = fileURLToPath(new URL('../../../policies/', import.meta.url));
const PAIRS = 10_000;

const SERVERS = new Map([
  ['orders', makeServer()],
  ['live', makeServer({ name: 'live', environment: 'production' })],
  ['clinic', makeServer({ name: 'clinic', data_region: 'eu', tags: ['phi'] })],
  ['off', makeServer({ name: 'off', enabled: false })],
]);

/** Tenants that forbid something, so that more of the request matters. */
const TENANTS = {
  acme: {
    deny: [
      { tools: ['run*'], tool_types: ['mutation'] },
      { models: ['gpt-*'], roles: ['analyst'] },
    ],
  },
  rival: { deny: [{ levels: ['high'], servers: ['live'] }] },
};

interface Facts {
  readonly id: string;
  readonly tenant: string;
  readonly roles: string[];
  readonly permissions: string[];
  readonly mfa: boolean;
  readonly compliant: boolean;
  readonly anonymous: boolean;
  readonly level: Sensitivity;
  readonly type: string;
  readonly action: ClassifiedCall['action'];
  readonly server: string | null;
  readonly tool: string | null;
  readonly parameters: Record<string, string>;
  readonly owner: string | null;
  readonly ownerTenant: string | null;
  readonly model: string | null;
  readonly tokens: number | null;
  readonly region: string;
  readonly encrypted: boolean;
  readonly count: number;
  readonly agent: string;
}

const pick = fc.constantFrom;
const facts: { [K in keyof Facts]: fc.Arbitrary<Facts[K]> } = {
  id: pick('u1', 'u2'),
  tenant: pick('acme', 'rival', 'other'),
  roles: fc.subarray(['admin', 'developer', 'analyst', 'data_engineer', 'viewer', 'guest']),
  permissions: fc.subarray(['tasks.read', 'tasks.*']),
  mfa: fc.boolean(),
  compliant: fc.boolean(),
  anonymous: pick(false, false, false, true),
  level: pick('low', 'medium', 'high', 'critical'),
  type: pick('query', 'analytics', 'mutation', 'admin', 'custom'),
  action: pick(
    ...(['gateway:tool:invoke', 'gateway:tool:discover', 'mcp:protocol', 'gateway:resource:read'] as const),
    ...(['llm:chat:create', 'http:get', 'responses:read', 'conversations:delete', 'gateway:task:access'] as const),
  ),
  server: pick<(string | null)[]>('orders', 'live', 'clinic', 'off', null),
  tool: pick<(string | null)[]>('run', 'running', 'list', null),
  parameters: pick<Record<string, string>[]>({}, { data_region: 'eu' }, { environment: 'production' }, { q: 'x' }),
  owner: pick<(string | null)[]>('u1', 'u2', null),
  ownerTenant: pick<(string | null)[]>('acme', 'rival', null),
  model: pick<(string | null)[]>('gpt-4', 'small', null),
  tokens: pick<(number | null)[]>(100, 100_000, null),
  region: pick('eu-west-1', 'us-east-1', 'cn-north-1'),
  encrypted: fc.boolean(),
  count: pick(0, 98, 99, 100, 101, 499, 500, 1000),
  agent: pick('a', 'b'),
};

/** A request, another one that differs in at most two facts, and what time passes between them. */
const pairs = fc
  .tuple(
    fc.record(facts),
    fc.record(facts),
    fc.subarray(Object.keys(facts) as (keyof Facts)[], { maxLength: 2 }),
    pick(0, 1, 3000, 31_000, 119_000, 1_800_000, 7_200_000),
    fc.integer({ min: 0, max: 6 * 24 }),
  )
  .map(([one, other, changed, later, hour]) => {
    const now = NOW + hour * 3_600_000;
    const second = { ...one, ...Object.fromEntries(changed.map((name) => [name, other[name]])) };
    return [requestOf(one, now), requestOf(second, now + later)] as const;
  });

function requestOf(f: Facts, now: number): DecisionRequest {
  const permissions = f.action === 'http:get' ? { anyOf: ['tasks.read', 'tasks.create'] } : null;
  const type = f.action === 'responses:read' ? 'response' : 'tool';
  return makeRequest({
    facts: {
      ...{ request_id: `${Math.random()}`, now, source_region: f.region, encryption_enabled: f.encrypted },
      ...{ user_agent: f.agent, rate: { window_seconds: 60, count: f.count } },
    },
    principal: makePrincipal(
      {
        ...{ id: f.id, tenant_id: f.tenant, roles: f.roles, permissions: f.permissions },
        ...{ device_compliant: f.compliant, type: f.anonymous ? 'anonymous' : 'user', auth: { mfa_verified: f.mfa } },
      },
      'keys',
      'api-key',
    ),
    call: {
      ...{ action: f.action, server: f.server, tool: f.tool, parameters: f.parameters },
      resource: { type, id: 'r', tenant_id: f.ownerTenant, owner_id: f.owner, permissions },
      llm: f.action.startsWith('llm:')
        ? { model: f.model, resolved_model: null, stream: false, max_tokens: f.tokens, message_count: 1, tools: [] }
        : null,
    },
    classification: { sensitivity_level: f.level, tool_type: f.type },
  });
}

const said = ({ allow, deny, obligations, failure }: Decision) => ({ allow, deny, obligations, failure });

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'portcullis-cache-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe('a remembered decision', () => {
  test.each(['data.json', 'profiles/strict.json'])(
    `is the one that would be made, in ${PAIRS} random pairs (%s)`,
    { timeout: 120_000 },
    async (profile) => {
      verifies('S-82', 'SF-61');
      const data = JSON.parse(await readFile(join(POLICIES, profile), 'utf8')) as object;
      const dataFile = join(dir, profile.replace('/', '-'));
      await writeFile(dataFile, JSON.stringify({ ...data, tenants: TENANTS }));
      const engine = (entries: number): Promise<OpaEngine> =>
        createPolicyEngine({
          ...{ bundleDir: POLICIES, dataFile, entrypoint: 'portcullis/main/decision', servers: SERVERS },
          ...{ clock: { now: () => NOW }, cache: { entries, base_ttl_ms: 60_000 }, decisionLog: null, logger: silent },
        });
      await using stack = new AsyncDisposableStack();
      const [cached, plain] = [await engine(100_000), await engine(0)];
      stack.defer(() => cached.close());
      stack.defer(() => plain.close());
      expect(cached.status().last_error).toBeNull();
      let hits = 0;
      let allowed = 0;
      fc.assert(
        fc.property(pairs, (pair) => {
          for (const request of pair) {
            const decision = cached.decide(request);
            expect(said(decision)).toEqual(said(plain.decide(request)));
            if (decision.cached) hits++;
            if (decision.allow) allowed++;
          }
        }),
        { numRuns: PAIRS },
      );
      // The property is worth nothing if the cache never answers, or if there is but one answer.
      expect(hits).toBeGreaterThan(PAIRS / 50);
      expect(allowed).toBeGreaterThan(PAIRS / 50);
    },
  );
});
